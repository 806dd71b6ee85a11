"""Values of the API in their columns, or rescued, and nothing lost (rule 1 of the data)."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from incident_assets.api.endpoints import find_endpoint
from incident_assets.api.exact_json import dump_json, parse_json
from incident_assets.api.rows import MOST_UNKNOWN, UnknownFields, build_row_type, build_table
from incident_assets_tests.rebuilding import load_exact, normalise, rebuild

INCIDENTS = find_endpoint("incidents")


def make_row(**fields: Any) -> dict[str, Any]:
    """Return the one row that an incident with these fields becomes."""
    body = json.dumps({"id": "I1", **fields}).encode()
    return build_table(INCIDENTS, [parse_json(body)]).to_pylist()[0]


def test_values_of_the_contracts_types_stand_in_their_columns() -> None:
    row = make_row(
        name="Database down",
        has_debrief=True,
        workload_minutes_total=12.5,
        created_at="2026-11-01T10:20:30.123456Z",
        severity={"id": "S1", "rank": 3},
        postmortem_document_ids=["P1"],
    )
    assert row["name"] == "Database down"
    assert row["has_debrief"] is True
    assert row["workload_minutes_total"] == 12.5
    assert row["created_at"] == datetime(2026, 11, 1, 10, 20, 30, 123456, UTC)
    assert json.loads(row["severity"]) == {"id": "S1", "rank": 3}
    assert json.loads(row["postmortem_document_ids"]) == ["P1"]
    assert row["_rescued"] is None and row["_deleted_at"] is None
    assert row["_dlt_load_id"] == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 7),
        ("name", {"text": "x"}),
        ("has_debrief", 1),
        ("has_debrief", "true"),
        ("workload_minutes_total", "12"),
        ("workload_minutes_total", True),
        ("workload_minutes_total", 2**53 + 1),
        ("created_at", "yesterday"),
        ("created_at", "2026-11-01"),
        ("created_at", "2026-11-01T10:00:00"),
        ("created_at", 1761991230),
        ("created_at", "2026-02-30T00:00:00Z"),
        ("created_at", "2016-12-31T23:59:60Z"),
        ("created_at", "0000-12-31T23:59:59Z"),
        ("created_at", "0001-01-01T00:00:00+00:01"),
        ("created_at", "9999-12-31T23:59:59-00:01"),
        ("created_at", "12026-11-01T00:00:00Z"),
    ],
)
def test_a_value_of_another_type_is_rescued_under_its_name(field: str, value: Any) -> None:
    row = make_row(**{field: value})
    assert row[field] is None
    assert json.loads(row["_rescued"]) == {field: value}


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_the_first_and_the_last_instant_that_python_holds_stand_in_their_column(text: str) -> None:
    assert make_row(created_at=text)["created_at"] == datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-11-01T10:00:00Z", 0),
        ("2026-11-01T10:00:00.1Z", 100000),
        ("2026-11-01T10:00:00.12+00:00", 120000),
        ("2026-11-01t10:00:00.123456z", 123456),
        ("2026-11-01T12:00:00.123456000+02:00", 123456),
    ],
)
def test_every_spelling_of_an_instant_is_the_same_instant(text: str, microseconds: int) -> None:
    row = make_row(created_at=text)
    assert row["created_at"] == datetime(2026, 11, 1, 10, 0, 0, microseconds, UTC)
    assert row["_rescued"] is None


def test_digits_beyond_microseconds_are_cut_in_the_column_and_kept_whole_beside_it() -> None:
    row = make_row(created_at="2026-11-01T10:00:00.123456789Z")
    assert row["created_at"] == datetime(2026, 11, 1, 10, 0, 0, 123456, UTC)
    assert json.loads(row["_rescued"]) == {"created_at": "2026-11-01T10:00:00.123456789Z"}


def test_numbers_beyond_64_bits_keep_every_digit() -> None:
    big = 123456789012345678901234567890
    fraction = "0.12345678901234567890123"
    body = (
        f'{{"id": "I1", "workload_minutes_total": {big}, "severity": {{"rank": {big}, '
        f'"x": {fraction}}}}}'
    ).encode()
    row = build_table(INCIDENTS, [parse_json(body)]).to_pylist()[0]
    assert load_exact(row["_rescued"]) == {"workload_minutes_total": big}
    assert row["severity"] == f'{{"rank":{big},"x":{fraction}}}'


@pytest.mark.parametrize(
    ("digits", "fits"),
    [
        ("12.333333333333334", True),
        ("999999999999999", True),
        ("9007199254740993", False),
        ("9999999999999999", False),
        ("0.12345678901234567890123", False),
        ("1e400", False),
        ("1e-400", False),
        ("1e99999999999999999999", False),
    ],
)
def test_a_double_that_would_be_rounded_is_rescued_on_both_ways(digits: str, fits: bool) -> None:
    body = f'[{{"id": "I1", "workload_minutes_total": {digits}}}]'.encode()
    for items in (
        parse_json(body),
        msgspec.json.decode(body, type=list[build_row_type(INCIDENTS)]),
    ):
        row = build_table(INCIDENTS, items).to_pylist()[0]
        assert row["workload_minutes_total"] == (float(digits) if fits else None)
        rescued = f'{{"workload_minutes_total":{digits}}}'
        assert row["_rescued"] == (None if fits else rescued)


@pytest.mark.parametrize(
    "text", ["9223372036854775807", "-9223372036854775808", "12.333333333333334"]
)
def test_numbers_that_64_bits_hold_are_plain_numbers(text: str) -> None:
    assert parse_json(text.encode()) == json.loads(text)
    assert dump_json(parse_json(text.encode())) == text


def test_a_rank_beyond_64_bits_is_rescued() -> None:
    severities = find_endpoint("severities")
    row = build_table(severities, [{"id": "S", "rank": 2**63}]).to_pylist()[0]
    assert row["rank"] is None
    assert json.loads(row["_rescued"]) == {"rank": 2**63}


def test_a_fraction_is_no_whole_number() -> None:
    severities = find_endpoint("severities")
    row = build_table(severities, [{"id": "S", "rank": 1.5}]).to_pylist()[0]
    assert row["rank"] is None
    assert json.loads(row["_rescued"]) == {"rank": 1.5}


def test_an_unknown_field_becomes_a_json_column() -> None:
    row = make_row(zeppelin={"a": [1]}, airship="x")
    assert row["airship"] == '"x"'
    assert json.loads(row["zeppelin"]) == {"a": [1]}


@pytest.mark.parametrize(
    "name", ["newField", "new field", "_own", "__", "", "new__field", "x" * 64, "é"]
)
def test_an_unknown_field_that_cannot_be_a_column_is_rescued(name: str) -> None:
    row = make_row(**{name: {"a": 1}})
    assert json.loads(row["_rescued"]) == {name: {"a": 1}}
    assert name not in row


def test_the_first_unknown_fields_are_columns_and_the_others_are_rescued() -> None:
    unknown = UnknownFields(INCIDENTS, ["id", "name", "_rescued", "of_before"])
    pages = [{"id": "I1", f"field_{n}": n} for n in range(MOST_UNKNOWN + 1)]
    rows = [build_table(INCIDENTS, [page], unknown).to_pylist()[0] for page in pages]
    assert rows[MOST_UNKNOWN - 2][f"field_{MOST_UNKNOWN - 2}"] == str(MOST_UNKNOWN - 2)
    for number, row in enumerate(rows[MOST_UNKNOWN - 1 :], MOST_UNKNOWN - 1):
        assert json.loads(row["_rescued"]) == {f"field_{number}": number}
    again = build_table(INCIDENTS, [{"id": "I1", "of_before": 1, "field_0": 2}], unknown)
    assert {"of_before", "field_0"} <= set(again.column_names)


def test_a_field_named_like_a_loader_column_does_not_overwrite_it() -> None:
    row = make_row(_deleted_at="2026-01-01T00:00:00Z", _dlt_load_id="forged")
    assert row["_deleted_at"] is None and row["_dlt_load_id"] == ""
    assert json.loads(row["_rescued"]) == {
        "_deleted_at": "2026-01-01T00:00:00Z",
        "_dlt_load_id": "forged",
    }


def test_absent_equals_null() -> None:
    assert make_row(severity=None, newcomer=None) == make_row() | {"newcomer": None}


def test_half_a_character_is_kept_as_escaped_text() -> None:
    row = make_row(name="broken \ud800", severity={"name": "\udfff"})
    assert row["name"] is None and row["severity"] is None
    assert json.loads(row["_rescued"]) == {
        "name": '"broken \\ud800"',
        "severity": '{"name": "\\udfff"}',
    }
    row["_rescued"].encode()


def test_half_a_character_beside_a_long_number_is_kept_too() -> None:
    body = b'{"id": "I1", "severity": ["\\ud800", 0.12345678901234567890123]}'
    row = build_table(INCIDENTS, [parse_json(body)]).to_pylist()[0]
    kept = '["\\ud800", "0.12345678901234567890123"]'
    assert json.loads(row["_rescued"]) == {"severity": kept}


def test_text_of_any_kind_stands_as_it_is() -> None:
    texts = ["", "\0", "a\0b", "𝔘𝔫𝔦", "😀" * 1000, "\u202e", "x" * 1_000_000, '"\\\n']
    assert [make_row(name=text)["name"] for text in texts] == texts


def test_deep_nesting_is_kept() -> None:
    value: Any = []
    for _ in range(500):
        value = [value]
    assert json.loads(make_row(severity=value)["severity"]) == value


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"NaN", b'{"a": Infinity}', b"\xff"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(body)


def test_an_empty_page_has_the_whole_schema() -> None:
    table = build_table(INCIDENTS, [])
    assert table.num_rows == 0
    assert table.schema.field("created_at").type == pa.timestamp("us", "UTC")
    assert not table.schema.field("id").nullable


def test_objects_are_rebuilt_from_their_rows() -> None:
    item = {
        "id": "I1",
        "name": 5,
        "reference": "INC-1",
        "workload_minutes_total": 3,
        "created_at": "2026-11-01T10:00:00.123456789Z",
        "updated_at": "2026-11-01T12:00:00+02:00",
        "incident_status": {"id": "S", "rank": -1},
        "camelCase": [None, 1],
        "brand_new": {"x": 1.25},
    }
    row = build_table(INCIDENTS, [item]).to_pylist()[0]
    assert rebuild(INCIDENTS, row) == normalise(INCIDENTS, item)
