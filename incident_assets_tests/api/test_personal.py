"""What a mask makes of cells: who is found in them, and what stays."""

import json
from typing import Any

import pytest

from incident_assets.api.endpoints import ENDPOINTS, Column, find_endpoint
from incident_assets.api.people import Kind, find_kind
from incident_assets.api.personal import Mask
from incident_assets.api.rows import build_table

INCIDENTS, USERS = find_endpoint("incidents"), find_endpoint("users")
KEY = "a key of the tests"
ID = "01H0900000000000000000003M"
ADA = {"id": ID, "name": "Ada Abel"}


def mask(value: Any, column: str = "unheard_of", mode: str = "hash") -> Any:
    """Return a JSON cell of an incident, masked."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    known = {x.name: x for x in INCIDENTS.columns}
    cell = Column(column, "json", "")
    (masked,) = Mask(mode, KEY).mask_cells(INCIDENTS, known.get(column, cell), [text])
    return None if masked is None else json.loads(masked)


@pytest.mark.parametrize(
    "hidden",
    [
        {"assignee": ADA},
        {"assignee": {"name": "Ada Abel"}},
        {"approvedBy": {"displayName": "Ada Abel"}},
        {"escalated_to": ["Ada Abel"]},
        {"user2": "Ada Abel"},
        [{"role": {"id": "r", "name": "Lead"}, "holder": ADA}],
        {"x": {"id": 1, "name": "Ada Abel", "role": "viewer"}},
        {"x": {"id": 1, "name": "Ada Abel", "email": "a@example.com"}},
        {"creator": {"user": {"id": ID, "profile": [{"title": "Ada Abel"}]}}},
        {"on_call": [ADA]},
        {"mail": "Ada Abel"},
        {"x": "Ada Abel <ada@example.com>"},
        {"team": {"lead": ADA}},
        '{"assi\\u0067nee":{"id":1,"name":"Ada Abel"}}',
        '{ "assignee" : { "name" : "Ada Abel" } }',
        '{"assignee":{"name":"Ada Abel"},"assignee":null}',
        '{"x":{"name":"Ada Abel","name":"b","user":1}}',
    ],
)
def test_who_is_found(hidden: Any) -> None:
    for mode in ("hash", "drop"):
        # Twice in one mask, since it remembers.
        text = hidden if isinstance(hidden, str) else json.dumps(hidden)
        found = json.dumps([mask(text, mode=mode), mask(f"[{text},{text}]", mode=mode)])
        assert "Abel" not in found and "ada@" not in found


@pytest.mark.parametrize(
    "kept",
    [
        {"creator": {"api_key": {"id": ID, "name": "Automation"}}},
        {"creator": {"workflow": {"id": ID, "name": "Nightly"}}},
        {"assignee_team": {"id": ID, "name": "Platform"}},
        {"assignee": ID, "assigned_at": "2026-01-01T00:00:00Z", "user_ids": [ID], "user": 7},
        {"assignee": {"id": ID, "role": "viewer", "team_ids": [ID], "name": None}},
        {"severity": {"id": ID, "name": "Major"}, "status": "UNKNOWN", "n": 1.50},
        {"filter_by": {"id": ID, "name": "x"}, "on_call": "full_access"},
        {"custom_field": {"name": "Customers hit", "field_type": "numeric"}, "values": ["12 a"]},
    ],
)
def test_what_is_no_person_stays_as_it_came(kept: Any) -> None:
    assert mask(kept) == kept


def test_no_field_of_the_contract_is_a_person_by_mistake() -> None:
    plain = (*INCIDENTS.columns, *(c for e in ENDPOINTS for c in e.columns if e is not USERS))
    texts = [c.name for c in plain if c.type == "text"]
    assert not [x for x in texts if find_kind(x) in (Kind.PERSON, Kind.CONTACT)]
    roles = ("base_role", "custom_roles", "seats", "role", "current_shifts", "rotation_id")
    assert not [x for x in roles if find_kind(x) in (Kind.PERSON, Kind.CONTACT)]


def test_a_shape_in_which_nobody_was_found_hides_nobody_later() -> None:
    one = Mask("hash", KEY)
    column = Column("unheard_of", "json", "")

    def show(value: Any) -> str:
        return str(one.mask_cells(INCIDENTS, column, [json.dumps(value)]))

    assert "11" in show([{"x": ["11"]}])
    assert "U012345678" in show([{"x": ["U0123"], "y": "U012345678 "}])
    assert "U012345678" not in show([{"x": ["U012345678"]}])
    assert "Ada" in show({"x3": "Ada"}) and "Ada" not in show({"user3": "Ada"})


def test_hashes_are_stable_differ_by_key_and_are_not_hashed_again() -> None:
    one, other = Mask("hash", KEY), Mask("hash", KEY + "!")
    veiled = one.veil("Ada Abel")
    assert veiled == Mask("hash", KEY).veil("Ada Abel") != other.veil("Ada Abel")
    assert veiled and one.veil(veiled) == veiled and len(veiled) == 18
    assert one.fingerprint != other.fingerprint and one.fingerprint != one.veil("")
    assert KEY not in repr(vars(one)["mode"])


@pytest.mark.parametrize("mode", ["hash", "drop"])
def test_what_cannot_stand_in_its_column_is_masked_too(mode: str) -> None:
    half = "Ada \ud800 Abel"
    rows = [
        {"id": ID, "name": {"first": "Ada Abel"}, "email": 4711, "slack_user_id": half},
        {"id": "x", "Other-Field": "Ada Abel", "nick": "Ada Abel", "role": ["Abel's"]},
        {"id": "y", "seats": {"on_call": "full_access"}, "custom_roles": [{"owner": half}]},
    ]
    table = build_table(USERS, rows, mask=Mask(mode, KEY))
    text = str(table.to_pylist())
    assert "Ada" not in text and "4711" not in text and "full_access" in text
    assert [row["id"] for row in table.to_pylist()] == [ID, "x", "y"]


def test_what_is_nested_too_deep_to_look_into_is_masked_whole() -> None:
    deep = '{"user":' * 5000 + '"Ada Abel"' + "}" * 5000
    assert "Abel" not in str(mask(deep))


def test_a_dropped_column_is_empty_also_where_it_was_rescued() -> None:
    without = Mask("keep", dropped=[("incidents", "summary"), ("incidents", "debriefs")])
    rows = [{"id": "a", "summary": "Ada Abel"}, {"id": "b", "summary": 1, "debriefs": ["Ada"]}]
    table = build_table(INCIDENTS, rows, mask=without)
    assert "Ada" not in str(table.to_pylist())
    assert table["_rescued"].to_pylist() == [None, None]
