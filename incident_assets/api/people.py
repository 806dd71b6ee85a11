"""How a person is told in the API's data: by the name of a field, and by what a value looks like.

When in doubt, it is one. What stands in a person's place is `personal`'s.
"""

import re
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

ADDRESS = re.compile(r"[^\s@<>()\[\]\"',;:]+@[^\s@<>()\[\]\"',;:]+\.[^\W\d_]{2,}")
CHAT_ID = re.compile(r"(?=[A-Z]*[0-9])[UW][A-Z0-9]{7,12}")  # of a person in Slack
_ID = re.compile(r"01[0-9A-HJKMNP-TV-Z]{24}")  # as the API makes them
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[+-]\d\d:?\d\d)?)?")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")

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


TELLING = (Kind.PERSON, Kind.DUTY, Kind.CONTACT)


def _tells(name: str) -> bool:
    """Whether a field of this name decides whether it, or one beside it, is a person's."""
    return name.lower().endswith("role") or name == "literal" or find_kind(name) in TELLING


def is_named(value: Mapping[str, Any]) -> bool:
    """Whether an object has an id and a name or an address."""
    return "id" in value and any(isinstance(value.get(x), str) for x in ("name", "email"))


def looks_like_user(value: Any) -> bool:
    """Whether an object looks like a user, whatever it is called."""
    if not isinstance(value, dict):
        return False
    reached = any(find_kind(x) is Kind.CONTACT for x in value)
    return (reached and ("id" in value or "name" in value)) or (
        is_named(value) and isinstance(value.get("role"), str)
    )


def is_catalogued_user(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of the catalog goes by a person's address or chat id."""
    aliases = entry.get("aliases")
    texts = [entry.get("external_id"), entry.get("name")]
    texts += aliases if isinstance(aliases, list) else [aliases]
    return any(isinstance(x, str) and (ADDRESS.search(x) or CHAT_ID.fullmatch(x)) for x in texts)


def is_reference(literal: Any) -> bool:
    """Whether a value of a workflow stands for something whose label may be a person's name."""
    return isinstance(literal, str) and bool(
        _ID.fullmatch(literal) or CHAT_ID.fullmatch(literal) or ADDRESS.search(literal)
    )


def names_people(name: Any) -> bool:
    """Whether what a custom field is called has a word for people in it."""
    return isinstance(name, str) and any(
        x.lower() in _PEOPLE or x.lower().removesuffix("s") in _PEOPLE for x in _WORDS.findall(name)
    )


def names_nobody(text: str) -> bool:
    """Whether a text is empty, an id of the API, or a time."""
    return not text or bool(_ID.fullmatch(text) or _INSTANT.fullmatch(text))


def find_shape(raw: bytes) -> int:
    """Return what stands for a JSON text but for its digits; 0 where those may be a person's.

    Names of fields mean the same with other digits, so nobody is in any text of a shape in
    which nobody was found. An escaped text cannot be told from here.
    """
    if b"@" in raw or b"\\" in raw:
        return 0
    if (b'"U' in raw or b'"W' in raw) and _QUOTED_CHAT_ID.search(raw):
        return 0
    return hash(raw.translate(None, b"0123456789"))


def names_anyone(raw: bytes) -> bool:
    """Whether a JSON text has a field by whose name a person would be found in it."""
    names = {x.decode("utf-8", "replace") for x in _KEYS.findall(raw)}
    # A custom field is a person's by what it is called.
    is_custom = "custom_field" in names and not _is_number(raw)
    return (is_custom and any(map(names_people, _read_names(raw)))) or any(map(_tells, names))


def _is_number(raw: bytes) -> bool:
    """Whether a text is of one custom field, which is a number."""
    return raw.count(b'"custom_field"') == 1 and b'"field_type":"numeric"' in raw


def _read_names(raw: bytes) -> list[str]:
    return [x.decode("utf-8", "replace") for x in _NAMED.findall(raw)]
