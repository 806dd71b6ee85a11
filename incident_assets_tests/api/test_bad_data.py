"""Whatever a page holds is in the table afterwards: values of any kind, through DuckDB and back.

Single values and their outcomes are in `test_tables`; broken pages in `test_failures`.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests import Response

from incident_assets.api import pages
from incident_assets.api.endpoints import ENDPOINTS, Column, Endpoint, find_endpoint
from incident_assets.api.pages import PageReader
from incident_assets.demo.faults import Fault, status
from incident_assets.demo.server import DemoApi
from incident_assets.sync.log import Outcome
from incident_assets.warehouse.spool import Spool
from incident_assets_tests.conftest import read_table
from incident_assets_tests.rebuilding import normalise, rebuild

Sync = Callable[..., dict[str, Outcome]]

# Half a character is no text that a database holds; what becomes of it is in `test_tables`.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OFFSETS = st.sampled_from(["Z", "z", "+00:00", "-07:30", "+14:00"])
INSTANTS = st.builds(
    lambda at, digits, offset: at.isoformat(timespec="seconds") + digits + offset,
    st.datetimes() | st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)),
    st.just("") | st.from_regex(r"\.[0-9]{1,9}", fullmatch=True),
    OFFSETS,
)
TYPED: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000),
    "bool": st.booleans(),
    "timestamp": INSTANTS,
    "json": JSON,
}
# As the API writes them, but for whole numbers of which every other has no double of its own.
AGREED = TYPED | {
    "timestamp": st.datetimes().map(lambda at: at.isoformat() + "Z"),
    "double": st.integers(-1000, 1000) | st.integers(2**53 - 9, 2**53 + 9),
}


def draw_value(column: Column) -> st.SearchStrategy[Any]:
    """Return mostly values of the column's type, and now and then anything."""
    typed = TYPED[column.type]
    return st.one_of(typed, typed, typed, st.none(), JSON)


def draw_items(
    endpoint: Endpoint, as_agreed: bool = False
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return pages of the resource: fields of the contract, some absent, and unknown ones.

    With `as_agreed`, of the contract's fields and types alone.
    """
    columns = [column for column in endpoint.columns if column.name != "id"]
    known = {c.name: AGREED[c.type] if as_agreed else draw_value(c) for c in columns}
    taken = {column.name for column in endpoint.columns}
    unknown = st.dictionaries(
        st.sampled_from(["brand_new", "camelCase", "_dlt_load_id", "Brand_New"])
        | TEXT.filter(lambda name: name not in taken),
        JSON,
        max_size=0 if as_agreed else 3,
    )
    item = st.builds(
        lambda fields, others: others | fields,
        st.fixed_dictionaries({}, optional=known),
        unknown,
    )
    return st.lists(item, max_size=6).map(
        lambda items: [{"id": f"I{n}", **fields} for n, fields in enumerate(items)]
    )


@pytest.mark.fault(
    "any value in any field: other types, nulls, unknown fields, numbers and digits of any length",
    "stands in its column, in a new JSON column, or under its name in `_rescued`",
    "every value: the objects can be rebuilt from the table",
)
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_pages_can_be_rebuilt(endpoint: Endpoint, data: st.DataObject) -> None:
    # Pages of nothing but the contract's types take another way than those with anything else.
    items = data.draw(draw_items(endpoint, as_agreed=data.draw(st.booleans())))
    cut = data.draw(st.integers(0, len(items)))
    ascii_only = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):  # a body of megabytes is decoded part by part
            patch.setattr(pages, "LONG_BODY", 1)
            patch.setattr(pages, "PART_ROWS", 2)
        rows = take_pages(endpoint, [items[:cut], items[cut:]], ascii_only)
    assert [rebuild(endpoint, row) for row in rows] == [normalise(endpoint, item) for item in items]


def take_pages(
    endpoint: Endpoint, listed: Sequence[Sequence[Any]], ascii_only: bool = True
) -> list[dict[str, Any]]:
    """Return the rows that pages become, on the way that a sync takes: read, spooled, as files."""
    with TemporaryDirectory() as folder:
        spool = Spool(endpoint, Path(folder), duckdb.connect())
        reader = PageReader(endpoint, endpoint.newest, spool.unknown)
        for items in listed:
            response = Response()
            response.status_code = 200
            body = {endpoint.name: items, "pagination_meta": {}}
            response._content = json.dumps(body, ensure_ascii=ascii_only).encode()
            for part in reader.read(response).parts:
                spool.add(part.items, part.size)
        spool.end()
        return [row for file in spool.files for row in pq.read_table(file.path).to_pylist()]


@pytest.mark.parametrize("number", [2**53 - 1, 2**53 + 1, 10**15 - 1, 10**16 - 1])
def test_a_whole_number_in_a_double_keeps_every_digit(number: int) -> None:
    item = {"id": "I1", "workload_minutes_total": number}
    (row,) = take_pages(find_endpoint("incidents"), [[item]])
    assert rebuild(find_endpoint("incidents"), row) == item


@pytest.mark.parametrize("half", ["\ud800", "\udc00", "\ud800\ud800", "\udc00\ud800"])
def test_half_a_character_anywhere_is_kept_as_escaped_text(half: str) -> None:
    for value in (half, {half: 1}, [{"name": f"broken {half} text", "rank": 1}]):
        item = {"id": "I1", "severity": value, "name": "whole", "cut": {"a": value}, half: 1}
        (row,) = take_pages(find_endpoint("incidents"), [[item]])
        assert (row["severity"], row["cut"], row["name"]) == (None, None, "whole")
        assert json.loads(row["_rescued"]) == {
            "severity": json.dumps(value),
            "cut": json.dumps({"a": value}),
            json.dumps(half)[1:-1]: 1,
        }
        row["_rescued"].encode()


@pytest.mark.slow
@given(items=draw_items(find_endpoint("severities")).filter(bool))
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_page_can_be_rebuilt_from_the_database(
    api: DemoApi, sync: Sync, items: list[dict[str, Any]]
) -> None:
    load_and_compare("severities", items, api, sync)


def nest(depth: int) -> Any:
    """Return a list in a list, so many deep."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


NASTY: dict[str, dict[str, Any]] = {
    "NUL characters": {"name": "a\0b\0", "incident_status": {"name": "\0", "\0": 1}},
    "every plane": {"name": "Aé字😀\U0002f800\U000e0001\U0010ffff\u202e\ufeff", "severity": "𝔘"},
    "very long text": {"summary": "x" * 3_000_000, "severity": {"name": "y" * 1_000_000}},
    "deep nesting": {"severity": nest(400), "brand_new": nest(400)},
    "numbers beyond 64 bits": {"workload_minutes_total": 10**40, "severity": {"rank": -(10**40)}},
    "nulls where the contract says required": {"name": None, "created_at": None, "mode": None},
    "unknown enum values": {"mode": "rehearsal", "visibility": "secret"},
    "other types": {"name": {"text": "x"}, "created_at": 5, "has_debrief": "no", "severity": 3},
    "unknown fields": {"airship": [1, {"a": None}], "New Field": True, "_own": "x", "": 1},
    "control characters": {"name": "\x1b[31mred\x1b[0m\x07\r\n"},
    "digits and offsets": {
        "created_at": "2026-11-01T10:00:00.123456789+05:30",
        "updated_at": "0001-01-01T00:00:00Z",
    },
    "markup and quotes": {"name": "'; DROP TABLE incidents; --", "summary": '<b>"\\'},
}


@pytest.mark.fault(
    "NUL and control characters, every Unicode plane, megabytes of text, deep nesting",
    "stored as they came",
    "every value",
)
@pytest.mark.parametrize("fields", NASTY.values(), ids=NASTY.keys())
def test_nasty_values_survive_the_database(
    fields: dict[str, Any], api: DemoApi, sync: Sync
) -> None:
    load_and_compare(
        "incidents", [{"id": "I0", **fields}, {"id": "I1", "name": "plain"}], api, sync
    )


def load_and_compare(resource: str, items: list[dict[str, Any]], api: DemoApi, sync: Sync) -> None:
    api.heal()
    body: dict[str, Any] = {resource: items}
    if find_endpoint(resource).newest.page_size:
        body["pagination_meta"] = {"page_size": 250}
    api.inject(Fault(status(200, json.dumps(body).encode()), resource=resource))
    # Held where the pages before had more rows, which takes nothing away from what came.
    assert sync(resource)[resource].outcome in ("loaded", "held")
    endpoint = find_endpoint(resource)
    rows = read_table(resource)
    for item in items:
        assert rebuild(endpoint, rows[item["id"]]) == normalise(endpoint, item)


def test_a_walk_that_goes_on_overwrites_no_file_that_is_kept(tmp_path: Path) -> None:
    endpoint = find_endpoint("severities")
    spool = Spool(endpoint, tmp_path, duckdb.connect())
    for number, field in enumerate(("one", "two", "three")):  # a file each
        identifier = "a" if number < 2 else "c"  # which supersedes the first
        spool.add([{"id": identifier, field: number}], 10)
        spool._flush()
    spool.end()
    spool.reopen()
    spool.add([{"id": "d", "four": 4}], 10)
    spool.end()
    assert {row[0] for row in spool.read("SELECT id FROM {}")} == {"a", "c", "d"}
