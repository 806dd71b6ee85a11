"""Personal data in cells, and what stands in its place.

A `Mask` works cell by cell, before anything is written: names, addresses and chat ids of people
become a hash with a key, or nothing; ids stay. Which pinned columns are a person's is said in THE
table; within JSON it is told by `people`, so that fields nobody knows yet are masked too. Free text
is out of reach. What is done with a database whose setting has changed is the sync's.
"""

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from operator import is_
from typing import Any, cast

from incident_assets.api.endpoints import ENDPOINTS, LOADER_COLUMNS, Column, Endpoint
from incident_assets.api.exact_json import dump_ascii, dump_json, parse_json, split_list
from incident_assets.api.left_out import find_dropped
from incident_assets.api.people import (
    ADDRESS,
    CHAT_ID,
    TELLING,
    Kind,
    find_kind,
    find_shape,
    is_catalogued_user,
    is_named,
    is_reference,
    looks_like_user,
    names_anyone,
    names_nobody,
    names_people,
)
from incident_assets.settings import Settings

PREFIX = "p_"  # of a hash, which is 64 bits of it
DROPPED = "(dropped)"  # in place of an address in the middle of a text
MOST_KNOWN = 5000  # cells and parts of cells whose masks are remembered, of a column
LONGEST_KNOWN = 1000  # bytes of those
MOST_SHAPES = 100_000  # of texts that hold nobody

_HASH = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
_Known = dict[bytes | str, bytes | str | None]


class Mask:
    """What stands in the place of personal data, and of columns that are left out.

    The same value has the same mask for as long as the key is the same. Used by many threads.
    """

    def __init__(self, mode: str, key: str = "", dropped: Iterable[tuple[str, str]] = ()):
        self.mode = mode
        self.dropped = frozenset(dropped)
        self._key = key.encode()
        self._known: dict[tuple[str, str], _Known] = {}
        self._harmless: set[int] = set()

    def touches(self, endpoint: Endpoint, column: Column) -> bool:
        """Whether any cell of a column may become another one."""
        if (endpoint.name, column.name) in self.dropped:
            return True
        if self.mode == "keep":
            return column.name == "_rescued" and any(e == endpoint.name for e, _ in self.dropped)
        if column.type == "text":
            kind = find_kind(column.name)
            return column.name in endpoint.personal or (
                column not in LOADER_COLUMNS and kind in (Kind.CONTACT, Kind.PERSON)
            )
        return column.type == "json"

    def mask_cells(
        self, endpoint: Endpoint, column: Column, cells: Sequence[bytes | str | None]
    ) -> list[bytes | str | None]:
        """Return the cells of a column that the mask `touches`: texts, or JSON as texts or bytes.

        They are of the types that they came as.
        """
        if (endpoint.name, column.name) in self.dropped:
            return [None] * len(cells)
        if column.type == "text":
            return [None if cell is None else self.veil(_read_text(cell)) for cell in cells]
        known = self._known.setdefault((endpoint.name, column.name), {})
        masked: list[bytes | str | None] = []
        for cell in cells:
            found = known.get(cell, _UNKNOWN) if cell is not None else None
            if cell is not None and found is _UNKNOWN:
                found = self._mask_cell(endpoint, column, cell, known)
            masked.append(cast("bytes | str | None", found))
        return masked

    def veil(self, text: str) -> str | None:
        """Return what stands in the place of a text that is a person's."""
        if self.mode == "drop":
            return None
        if not text or _HASH.fullmatch(text):
            return text
        return PREFIX + self._digest(text.encode("utf-8", "surrogatepass"))[:16]

    @property
    def fingerprint(self) -> str | None:
        """What tells one key from another, and nothing of the key; None without one."""
        return self._digest(b"\0fingerprint of the key")[:16] if self.mode == "hash" else None

    def _digest(self, message: bytes) -> str:
        return hmac.digest(self._key, message, "sha256").hex()

    def _mask_cell(
        self, endpoint: Endpoint, column: Column, cell: bytes | str, known: _Known
    ) -> bytes | str | None:
        raw = cell.encode() if isinstance(cell, str) else cell
        try:
            masked = self._mask_json(endpoint, column, raw, known)
        except (ValueError, RecursionError):  # nested too deep to be looked into
            masked = _dump(self.veil(raw.decode("utf-8", "replace")))
        same = masked if masked is None or isinstance(cell, bytes) else masked.decode()
        if raw[:1] != b"[" and len(raw) <= LONGEST_KNOWN:  # of lists, the parts are
            _remember(known, cell, same)
        return same

    def _mask_json(
        self, endpoint: Endpoint, column: Column, raw: bytes, known: _Known
    ) -> bytes | None:
        if column.name == "_rescued":
            return self._mask_rescued(endpoint, raw)
        # Of a resource that is people, what the table does not know is theirs.
        inside = bool(endpoint.personal) and column not in endpoint.columns
        is_told = inside or find_kind(column.name) in TELLING
        shape = 0 if is_told else find_shape(raw)
        if shape in self._harmless:
            return raw
        if raw[:1] == b"[":
            # Most lists are made of few parts, over and over again.
            parts = split_list(raw)
            masked = [self._mask_part(x, column.name, inside, is_told, known) for x in parts]
            if shape and all(map(is_, masked, parts)):
                self._note_harmless(shape)
                return raw
            return b"[" + b",".join(masked) + b"]"
        if not is_told and not self._may_hold_person(raw, shape):
            return raw
        return _dump(self._walk(parse_json(raw), column.name, inside, inside))

    def _mask_part(
        self, part: bytes, name: str, inside: bool, is_told: bool, known: _Known
    ) -> bytes:
        """Return the part itself where nobody is in it, nor in another one of its shape."""
        key = b"," + part  # no cell begins so
        masked = known.get(key)
        if masked is None:
            if not is_told and not self._may_hold_person(part, find_shape(part)):
                return part
            masked = _dump(self._walk(parse_json(part), name, inside, inside)) or b"null"
            if len(part) <= LONGEST_KNOWN:
                _remember(known, key, masked)
        return cast(bytes, masked)

    def _mask_rescued(self, endpoint: Endpoint, raw: bytes) -> bytes | None:
        """Mask what could not stand in its own column, by the names of those."""
        pinned = {column.name for column in endpoint.columns}
        spare = parse_json(raw)
        if not isinstance(spare, dict):
            return raw
        kept: dict[str, Any] = {}
        for name, value in spare.items():
            if (endpoint.name, name) in self.dropped:
                continue
            if self.mode == "keep":
                kept[name] = value
                continue
            inside = bool(endpoint.personal) and (name in endpoint.personal or name not in pinned)
            if isinstance(value, str) and value[:1] in ('"', "{", "["):
                # What UTF-8 cannot hold, as JSON of its own.
                try:
                    value = self._walk(parse_json(value.encode()), name, inside, inside)
                    kept[self._name(name)] = dump_ascii(value)
                    continue
                except (ValueError, RecursionError):
                    pass
            kept[self._name(name)] = self._walk(value, name, inside, inside)
        return _dump(kept) if kept else None

    def _may_hold_person(self, raw: bytes, shape: int) -> bool:
        """Whether a JSON text of that shape has anything by which a person would be found in it."""
        if shape in self._harmless:
            return False
        if not shape or names_anyone(raw):
            return True
        self._note_harmless(shape)
        return False

    def _note_harmless(self, shape: int) -> None:
        if len(self._harmless) >= MOST_SHAPES:
            self._harmless.clear()
        self._harmless.add(shape)

    def _walk(self, value: Any, name: str, inside: bool, is_user: bool = False) -> Any:
        """Return a parsed value of a field, with what is a person's masked.

        `inside` where it is a part of a person; `is_user` where it looks like one.
        """
        kind = find_kind(name)
        if isinstance(value, list):
            inside = inside or kind is Kind.DUTY
            return [self._walk(x, name, inside, is_user) for x in value]
        if kind in (Kind.THING, Kind.SAFE) and not is_user:
            inside = False
        if isinstance(value, dict):
            return self._walk_object(value, inside or is_user or kind in (Kind.PERSON, Kind.DUTY))
        if isinstance(value, str):
            return self._mask_text(value, inside or kind is Kind.PERSON, kind)
        if kind is Kind.CONTACT and not isinstance(value, bool) and value is not None:
            return self.veil(dump_ascii(value))
        return value

    def _walk_object(self, value: Mapping[str, Any], inside: bool) -> dict[str, Any]:
        inside = inside or looks_like_user(value)
        beside_role = any(find_kind(x) is Kind.THING and x.lower().endswith("role") for x in value)
        field = value.get("custom_field")
        theirs = (
            isinstance(field, dict)
            and names_people(field.get("name"))
            and field.get("field_type") != "numeric"  # how many customers were hit
        )
        labels = is_reference(value.get("literal"))
        masked = {}
        for name, cell in value.items():
            part = inside
            if theirs and name == "values":
                part = True
            if name == "value_catalog_entry" and isinstance(cell, dict):
                part = part or is_catalogued_user(cell)
            is_user = (
                looks_like_user(cell)
                or (part and name == "value_option")
                or (
                    beside_role
                    and isinstance(cell, dict)
                    and is_named(cell)
                    and find_kind(name) is not Kind.THING
                )
            )
            if theirs and name == "custom_field":
                cell = {**cell, "options": self._walk(cell.get("options"), "people", True)}
                if "options" not in value["custom_field"]:
                    del cell["options"]
            if labels and name == "label" and isinstance(cell, str):
                masked[name] = self.veil(cell)
                continue
            masked[self._name(name)] = self._walk(cell, name, part, is_user)
        return masked

    def _mask_text(self, text: str, inside: bool, kind: Kind) -> str | None:
        if kind is Kind.CONTACT or CHAT_ID.fullmatch(text):
            return self.veil(text)
        if inside and kind is not Kind.SAFE and not names_nobody(text):
            return self.veil(text)
        if "@" not in text:
            return text
        if ADDRESS.fullmatch(text.removeprefix("mailto:")) or text.rstrip().endswith(">"):
            return self.veil(text)  # also as `Ada Abel <ada@example.com>`
        return ADDRESS.sub(lambda found: self.veil(found[0]) or DROPPED, text)

    def _name(self, name: str) -> str:
        """Return the name of a field, which may be whom it is about."""
        if CHAT_ID.fullmatch(name):
            return self.veil(name) or DROPPED
        return ADDRESS.sub(lambda found: self.veil(found[0]) or DROPPED, name)


_UNKNOWN = object()


def _dump(value: Any) -> bytes | None:
    return None if value is None else dump_json(value).encode()


def _remember(known: _Known, cell: bytes | str, masked: bytes | str | None) -> None:
    if len(known) >= MOST_KNOWN:
        known.clear()
    known[cell] = masked


def _read_text(cell: bytes | str) -> str:
    return cell.decode() if isinstance(cell, bytes) else cell


def build_mask(settings: Settings, endpoints: Iterable[Endpoint] = ENDPOINTS) -> Mask | None:
    """Return the mask that the settings mean, None where everything is kept.

    Raises SettingError where INCIDENT_DROP_FIELDS names what is no column, or cannot be missed.
    """
    dropped = find_dropped(settings, endpoints)
    if not settings.masks_people and not dropped:
        return None
    return Mask(settings.personal_data, settings.personal_data_key, dropped)
