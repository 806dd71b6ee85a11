"""Personal data: what in a cell is a person's, and what stands in its place.

A `Mask` works cell by cell, before anything is written: names, addresses and chat ids of people
become a hash with a key, or nothing; ids stay. Which pinned columns are a person's is said in THE
table; within JSON it is told by names of fields and by what a value looks like, so that fields
nobody knows yet are masked too. When in doubt, it masks. Free text is out of reach. What is done
with a database whose setting has changed is the sync's.
"""

import hmac
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from operator import is_
from typing import Any, cast

import msgspec

from incident_assets.api.endpoints import ENDPOINTS, LOADER_COLUMNS, Column, Endpoint
from incident_assets.api.exact_json import dump_ascii, dump_json, parse_json
from incident_assets.settings import DROP_FIELDS, SettingError, Settings

PREFIX = "p_"  # of a hash, which is 64 bits of it
DROPPED = "(dropped)"  # in place of an address in the middle of a text
MOST_KNOWN = 5000  # cells and parts of cells whose masks are remembered, of a column
LONGEST_KNOWN = 1000  # bytes of those
MOST_SHAPES = 100_000  # of texts that hold nobody

_HASH = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
_ADDRESS = re.compile(r"[^\s@<>()\[\]\"',;:]+@[^\s@<>()\[\]\"',;:]+\.[^\W\d_]{2,}")
_CHAT_ID = re.compile(r"(?=[A-Z]*[0-9])[UW][A-Z0-9]{7,12}")  # of a person in Slack
_ID = re.compile(r"01[0-9A-HJKMNP-TV-Z]{24}")  # as the API makes them
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[+-]\d\d:?\d\d)?)?")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
_Known = dict[bytes | str, bytes | str | None]

# Over the text of a cell, as it came.
_KEYS = re.compile(rb'"([^"\\]*)"\s*:')
_NAMED = re.compile(rb'"name"\s*:\s*"([^"\\]*)"')
_QUOTED_CHAT_ID = re.compile(rb'"(?=[A-Z]*[0-9])[UW][A-Z0-9]{7,12}"')

# Words of a field's name, without a plural's s. The last one says what the field is.
_PEOPLE = frozenset(
    "actor acknowledger approver assignee assigner attendee author caller colleague commander "
    "commenter contact coordinator creator customer declarer editor employee engineer follower "
    "host human invitee lead leader liaison manager member mentioned merger observer opener "
    "operator organizer organiser owner participant people person poster recipient reporter "
    "requester requestor resolver responder reviewer scribe sender staff stakeholder submitter "
    "subscriber updater user volunteer watcher".split()
)
_CONTACTS = frozenset(
    "address avatar email fax firstname fullname gravatar handle lastname login mail mobile "
    "nickname phone surname telephone tel username".split()
)
_CHATS = frozenset("chat discord hangout msteam skype slack teams telegram whatsapp".split())
_NAMES = frozenset("alias display family first forename full given last maiden middle".split())
_THINGS = frozenset(
    "alert api category channel country delay department field folder group integration issue key "
    "layer metric monitor option permission policy provider role rotation schedule seat service "
    "severity squad status step team timestamp trigger type workflow".split()
)
# What is said of a person and names nobody.
_SAFE = frozenset(
    "active at count date enabled fingerprint kind language locale numeric rank slug state time "
    "timezone version zone".split()
)
# Resources of the API, whose ids are no person's name: `user_id`, `team_ids`.
_RESOURCES = frozenset(
    "action attribute catalog custom document entry escalation follow incident layer owning "
    "postmortem up update".split()
).union(_PEOPLE, _THINGS)
_BY = frozenset("filter group order partition sort".split())  # not whom something was done by


class Kind(Enum):
    """What the name of a field says of its value."""

    PERSON = "a person, or an id of one"
    DUTY = "who has a duty, or a word on it"
    CONTACT = "how a person is called or reached"
    THING = "no person, whatever it is beside"
    SAFE = "an id, a time or a kind"
    OTHER = "nothing"


@cache
def find_kind(name: str) -> Kind:
    """Return what the name of a field says of its value."""
    words = [x.lower() for x in _WORDS.findall(name)]
    words = [x[:-1] if x.endswith("s") and x not in ("status", "teams") else x for x in words]
    if not words:
        return Kind.OTHER
    *before, last = words
    if _CONTACTS.intersection(words) and last not in _SAFE:
        return Kind.CONTACT
    if last == "id":
        if _CHATS.intersection(before) and not {"channel", "team"}.intersection(before):
            return Kind.CONTACT
        return Kind.SAFE if _RESOURCES.issuperset(before) else Kind.OTHER
    if last == "name" and (_NAMES | _PEOPLE).intersection(before):
        return Kind.CONTACT
    if last in ("by", "to") and before and before[-1] not in _BY:
        return Kind.PERSON if last == "by" or before[-1].endswith("ed") else Kind.OTHER
    if last in ("call", "oncall"):
        return Kind.DUTY if last == "oncall" or "on" in before else Kind.OTHER
    if last in _SAFE:
        return Kind.SAFE
    if last in _THINGS or last == "teams":
        return Kind.THING
    return Kind.PERSON if last in _PEOPLE else Kind.OTHER


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
        is_told = inside or find_kind(column.name) in _TELLING
        shape = 0 if is_told else self._find_shape(raw)
        if shape in self._harmless:
            return raw
        if raw[:1] == b"[":
            # Most lists are made of few parts, over and over again.
            parts = _split(raw)
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
            if not is_told and not self._may_hold_person(part, self._find_shape(part)):
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

    def _find_shape(self, raw: bytes) -> int:
        """Return what stands for a JSON text but for its digits; 0 where those may be a person's.

        Names of fields mean the same with other digits, so nobody is in any text of a shape in
        which nobody was found. An escaped text cannot be told from here.
        """
        if b"@" in raw or b"\\" in raw:
            return 0
        if (b'"U' in raw or b'"W' in raw) and _QUOTED_CHAT_ID.search(raw):
            return 0
        return hash(raw.translate(None, b"0123456789"))

    def _may_hold_person(self, raw: bytes, shape: int) -> bool:
        """Whether a JSON text of that shape has anything by which a person would be found in it."""
        if shape in self._harmless:
            return False
        if not shape:
            return True
        names = {x.decode("utf-8", "replace") for x in _KEYS.findall(raw)}
        # A custom field is a person's by what it is called.
        is_named = "custom_field" in names and not _is_number(raw)
        if is_named and any(map(_names_people, _read_names(raw))):
            return True
        if any(map(_tells, names)):
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
        inside = inside or _is_user(value)
        beside_role = any(find_kind(x) is Kind.THING and x.lower().endswith("role") for x in value)
        field = value.get("custom_field")
        theirs = (
            isinstance(field, dict)
            and _names_people(field.get("name"))
            and field.get("field_type") != "numeric"  # how many customers were hit
        )
        labels = _is_reference(value.get("literal"))
        masked = {}
        for name, cell in value.items():
            part = inside
            if theirs and name == "values":
                part = True
            if name == "value_catalog_entry" and isinstance(cell, dict):
                part = part or _is_catalogued_user(cell)
            is_user = (
                _is_user(cell)
                or (part and name == "value_option")
                or (
                    beside_role
                    and isinstance(cell, dict)
                    and _is_named(cell)
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
        if kind is Kind.CONTACT or _CHAT_ID.fullmatch(text):
            return self.veil(text)
        if inside and kind is not Kind.SAFE and not _names_nobody(text):
            return self.veil(text)
        if "@" not in text:
            return text
        if _ADDRESS.fullmatch(text.removeprefix("mailto:")) or text.rstrip().endswith(">"):
            return self.veil(text)  # also as `Ada Abel <ada@example.com>`
        return _ADDRESS.sub(lambda found: self.veil(found[0]) or DROPPED, text)

    def _name(self, name: str) -> str:
        """Return the name of a field, which may be whom it is about."""
        if _CHAT_ID.fullmatch(name):
            return self.veil(name) or DROPPED
        return _ADDRESS.sub(lambda found: self.veil(found[0]) or DROPPED, name)


_UNKNOWN = object()
_TELLING = (Kind.PERSON, Kind.DUTY, Kind.CONTACT)


class Erasure(Mask):
    """What stands in the place of some people, by their ids: the id alone, wherever they are."""

    def __init__(self, ids: Collection[str]):
        super().__init__("keep")
        self._ids = frozenset(ids)

    def touches(self, endpoint: Endpoint, column: Column) -> bool:
        """Whether a column may hold people."""
        return column.type == "json"

    def mask_cells(
        self, endpoint: Endpoint, column: Column, cells: Sequence[bytes | str | None]
    ) -> list[bytes | str | None]:
        """Return the cells of a JSON column, without what they say of these people."""
        return [
            dump_json(self._erase(parse_json(cell.encode())))
            if isinstance(cell, str) and any(x in cell for x in self._ids)
            else cell
            for cell in cells
        ]

    def _erase(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._erase(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("id") in self._ids:
            return {"id": value["id"]}
        return {name: self._erase(item) for name, item in value.items()}


def _tells(name: str) -> bool:
    """Whether a field of this name decides whether it, or one beside it, is a person's."""
    return name.lower().endswith("role") or name == "literal" or find_kind(name) in _TELLING


def _is_number(raw: bytes) -> bool:
    """Whether a text is of one custom field, which is a number."""
    return raw.count(b'"custom_field"') == 1 and b'"field_type":"numeric"' in raw


def _read_names(raw: bytes) -> list[str]:
    return [x.decode("utf-8", "replace") for x in _NAMED.findall(raw)]


def _is_named(value: Mapping[str, Any]) -> bool:
    return "id" in value and any(isinstance(value.get(x), str) for x in ("name", "email"))


def _is_user(value: Any) -> bool:
    """Whether an object looks like a user, whatever it is called."""
    if not isinstance(value, dict):
        return False
    reached = any(find_kind(x) is Kind.CONTACT for x in value)
    return (reached and ("id" in value or "name" in value)) or (
        _is_named(value) and isinstance(value.get("role"), str)
    )


def _is_catalogued_user(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of the catalog goes by a person's address or chat id."""
    aliases = entry.get("aliases")
    texts = [entry.get("external_id"), entry.get("name")]
    texts += aliases if isinstance(aliases, list) else [aliases]
    return any(isinstance(x, str) and (_ADDRESS.search(x) or _CHAT_ID.fullmatch(x)) for x in texts)


def _is_reference(literal: Any) -> bool:
    """Whether a value of a workflow stands for something whose label may be a person's name."""
    return isinstance(literal, str) and bool(
        _ID.fullmatch(literal) or _CHAT_ID.fullmatch(literal) or _ADDRESS.search(literal)
    )


def _names_people(name: Any) -> bool:
    return isinstance(name, str) and any(
        x.lower() in _PEOPLE or x.lower().removesuffix("s") in _PEOPLE for x in _WORDS.findall(name)
    )


def _names_nobody(text: str) -> bool:
    return not text or bool(_ID.fullmatch(text) or _INSTANT.fullmatch(text))


def _split(raw: bytes) -> list[bytes]:
    return [bytes(x) for x in _PARTS.decode(raw)]


_PARTS = msgspec.json.Decoder(list[msgspec.Raw])


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


def find_dropped(
    settings: Settings, endpoints: Iterable[Endpoint] = ENDPOINTS
) -> list[tuple[str, str]]:
    """Return resource and name of the columns that are left out. Raises SettingError."""
    known = {endpoint.name: endpoint for endpoint in endpoints}
    found = []
    for part in filter(None, map(str.strip, settings.drop_fields.split(","))):
        resource, _, name = part.partition(".")
        if resource not in known:
            raise SettingError(
                f"{DROP_FIELDS} has {part!r}: it should be a resource and a column, such as "
                f"incident_updates.message; the resources are {', '.join(known)}"
            )
        columns = {column.name: column for column in known[resource].columns}
        if name not in columns:
            raise SettingError(
                f"{DROP_FIELDS} has {part!r}, and {resource} has no such column; it has "
                f"{', '.join(columns)}"
            )
        if why := _find_need(known[resource], columns[name]):
            raise SettingError(f"{DROP_FIELDS} has {part!r}, which cannot be left out: {why}")
        found.append((resource, name))
    return sorted(set(found))


def _find_need(endpoint: Endpoint, column: Column) -> str:
    if column.name == "id":
        return "rows are told apart and joined by it"
    if column.name in endpoint.needed:
        return "models are built on it"
    if column.type not in ("text", "json"):
        return f"it is no text (a {column.type}), so nobody's name is in it"
    return ""
