"""Syncs from the bundled API: every row of every page, exactly, and again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from incident_assets.api.endpoints import ENDPOINTS, Endpoint
from incident_assets.demo import listings
from incident_assets.demo.account import Account
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.versions import doubt_versions, read_versions
from incident_assets_tests.conftest import NAMES, count_rows, publish, read_rows, read_table
from incident_assets_tests.rebuilding import read_upstream, rebuild

Sync = Callable[..., dict[str, Outcome]]


def test_a_sync_loads_every_row_of_the_account(api: DemoApi, sync: Sync) -> None:
    outcomes = sync()
    expected = {name: len(api.rows(name)) for name in NAMES}
    assert count_rows() == expected
    assert {name: outcome.rows for name, outcome in outcomes.items()} == expected
    assert not any(outcome.failure for outcome in outcomes.values())


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_objects_can_be_rebuilt_from_the_tables(
    endpoint: Endpoint, api: DemoApi, sync: Sync
) -> None:
    sync(endpoint.name)
    rows = {key: rebuild(endpoint, row) for key, row in read_table(endpoint.name).items()}
    assert rows == read_upstream(api, endpoint)


def test_a_second_sync_leaves_one_row_per_id(api: DemoApi, sync: Sync) -> None:
    sync()
    first = count_rows()
    incident = api.rows("incidents")[0]["id"]
    api.change("incidents", incident, name="Renamed")
    sync()
    assert count_rows() == first
    assert read_table("incidents")[incident]["name"] == "Renamed"
    loads = "SELECT id, _dlt_load_id AS load FROM incident_api.incidents"
    written = {row["id"]: row["load"] for row in read_rows(loads)}
    assert all(written.values()) and len({*written.values()}) == 2
    assert [key for key, load in written.items() if load == written[incident]] == [incident]


@pytest.fixture
def idle(settings: Settings) -> Callable[[], int]:
    """Sync by changes and return the number of load packages; all had been loaded before."""

    def run() -> int:
        outcomes = run_sync(settings, NAMES, changes=True)
        assert not any(outcome.failure for outcome in outcomes)
        return int(read_rows("SELECT count(*) AS n FROM incident_api._dlt_loads")[0]["n"])

    run()
    return run


def test_a_sync_that_finds_nothing_new_has_no_load_package(
    api: DemoApi, idle: Callable[[], int], settings: Settings
) -> None:
    loads = idle()
    assert idle() == loads
    assert {x["load_id"] for x in read_rows("FROM incident_sync.log")[-len(NAMES) :]} == {None}
    row = api.add("severities")
    assert idle() == loads + 1
    assert row["id"] in read_table("severities")
    assert idle() == loads + 1
    run_sync(settings, NAMES)  # in full, which is remembered
    assert idle() == loads + 2


def test_what_a_killed_sync_left_unsure_is_settled_where_nothing_is_new(
    idle: Callable[[], int], settings: Settings
) -> None:
    loads, table = idle(), "incident_api.users"
    with duckdb.connect(str(settings.database)) as connection:
        doubt_versions(connection, [table])
    assert idle() == loads + 1
    with duckdb.connect(str(settings.database)) as connection:
        assert read_versions(connection, [table])[table]


def test_an_empty_account_makes_typed_tables_that_rows_fit_later(api: DemoApi, sync: Sync) -> None:
    kept = {name: api.rows(name) for name in NAMES}
    for name in NAMES:
        api.empty(name)
    sync()
    columns = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'incident_api' AND table_name NOT LIKE '\\_dlt%' ESCAPE '\\' "
        "ORDER BY ALL"
    )
    empty = read_rows(columns)
    assert {row["table_name"] for row in empty} == set(NAMES)
    assert count_rows() == dict.fromkeys(NAMES, 0)
    for name, rows in kept.items():
        for row in rows:
            api.add(name, row)
    sync()
    assert read_rows(columns) == empty
    assert count_rows() == {name: len(rows) for name, rows in kept.items()}


def test_columns_have_the_pinned_types(api: DemoApi, sync: Sync) -> None:
    sync()
    names = {
        "text": "VARCHAR",
        "bigint": "BIGINT",
        "double": "DOUBLE",
        "bool": "BOOLEAN",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "json": "JSON",
    }
    for endpoint in ENDPOINTS:
        query = (
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = 'incident_api' AND table_name = '{endpoint.name}'"
        )
        found = {row["column_name"]: row["data_type"] for row in read_rows(query)}
        pinned = {column.name: names[column.type] for column in endpoint.columns}
        assert found == pinned | {
            "_rescued": "JSON",
            "_deleted_at": "TIMESTAMP WITH TIME ZONE",
            "_valid_from": "TIMESTAMP WITH TIME ZONE",
            "_dlt_load_id": "VARCHAR",
        }


def test_fields_come_and_go_without_losing_a_value(api: DemoApi, sync: Sync) -> None:
    sync("severities")
    first, second = (row["id"] for row in api.rows("severities")[:2])
    api.change("severities", first, colour={"hex": "#f00"})
    sync("severities")
    assert json.loads(read_table("severities")[first]["colour"]) == {"hex": "#f00"}
    api.change("severities", first, colour=...)
    api.change("severities", second, name=42)
    sync("severities")
    rows = read_table("severities")
    assert rows[first]["colour"] is None
    assert rows[second]["name"] is None
    assert json.loads(rows[second]["_rescued"]) == {"name": 42}


def test_fields_that_appear_on_later_pages_are_columns(
    api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "INCIDENTS_SERVED", 20)
    third, second, first = (api.rows("incidents")[n]["id"] for n in (0, 20, 40))  # newest first
    api.change("incidents", second, pager={"n": 1})
    api.change("incidents", third, pager={"n": 2}, airship="x")
    assert sync("incidents")["incidents"].requests == 1 + 3  # the statuses come first
    rows = read_table("incidents")
    assert [rows[x]["pager"] for x in (first, second, third)] == [None, '{"n":1}', '{"n":2}']
    assert (rows[second]["airship"], rows[third]["airship"]) == (None, '"x"')


def test_requests_are_counted_and_cover_modes_and_categories(api: DemoApi, sync: Sync) -> None:
    outcomes = sync()
    assert {name: outcome.requests for name, outcome in outcomes.items()} == {
        name: api.count(name) for name in NAMES
    }
    assert outcomes["actions"].requests == outcomes["follow_ups"].requests == 4
    modes = {incident["mode"] for incident in api.rows("incidents")}
    stored = read_rows("SELECT DISTINCT mode FROM incident_api.incidents")
    assert {row["mode"] for row in stored} == modes
    shifts = read_rows("SELECT count(*) AS n FROM incident_api.schedules WHERE next_shifts IS NULL")
    assert shifts[0]["n"] == 0


def test_selecting_one_resource_requests_it_alone(api: DemoApi, sync: Sync) -> None:
    sync("users")
    assert {request.path for request in api.requests} == {"/v1/identity", "/v2/users"}


def test_the_sync_log_has_a_row_per_resource(api: DemoApi, sync: Sync) -> None:
    api.forbid("workflows")
    sync()
    rows = {row["resource"]: row for row in read_rows("SELECT * FROM incident_sync.log")}
    assert set(rows) == set(NAMES)
    assert rows["workflows"]["outcome"] == "failed"
    assert "workflows.view" in rows["workflows"]["error"]
    assert rows["users"]["outcome"] == "loaded" and rows["users"]["error"] is None
    assert rows["users"]["rows"] == rows["users"]["table_rows"] == len(api.rows("users"))
    assert rows["users"]["load_id"] and rows["users"]["finished_at"] >= rows["users"]["started_at"]


@pytest.mark.fault(
    "the base URL's path is written otherwise than it is asked for (`%7E`, accents, `..`)",
    "it is asked for as the client writes it, and counted and paced as any other",
    "every row",
)
@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("/gateway/incidents/", "/gateway/incidents"),
        ("/%7Eme/caf%c3%a9", "/~me/caf%C3%A9"),
        ("/café", "/caf%C3%A9"),
        ("/a b", "/a%20b"),
        ("/not/../here/./", "/here"),
    ],
)
def test_a_base_url_with_any_prefix_works(
    given: str, asked: str, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DemoApi(account, prefix=asked) as api:
        monkeypatch.setenv("INCIDENT_API_BASE_URL", api.url.removesuffix(asked) + given)
        monkeypatch.setenv("INCIDENT_API_KEY", api.key)
        outcomes = run_sync(read_settings(), ["severities", "users"])
    assert not any(outcome.failure for outcome in outcomes)
    assert all(outcome.requests for outcome in outcomes)


@pytest.mark.fault(
    "a path with an apostrophe, a wildcard, a colon, a tilde",
    "it is that of a file, whatever DuckDB, dlt or Arrow would make of it (`%` and `?`: refused)",
    "every row, and files that a pattern of that name would find",
)
@pytest.mark.parametrize(
    ("folder", "name"),
    [("o'brien", "a b"), ("all*", "all*"), ("[a]", "{a,b}"), ("~me", 'a"b'), ("größe", "ab:c#1")],
)
def test_a_path_may_hold_any_character(
    folder: str, name: str, api: DemoApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for found in ("allall", "a"):  # by a pattern of that name
        Path(f"{found}/{found}.duckdb.work").mkdir(parents=True)
        Path(f"{found}/{found}.duckdb.work/users.0.parquet").write_text("of another database")
    monkeypatch.setenv("INCIDENT_DUCKDB_PATH", f"{folder}/{name}.duckdb")
    monkeypatch.setenv("INCIDENT_PUBLISHED_PATH", f"{folder}/copy of {name}.duckdb")
    for _ in range(2):  # into new tables, then beside them
        outcomes = run_sync(read_settings(), ["incidents", "users"])
        assert not any(outcome.failure for outcome in outcomes)
        publish(read_settings())
        api.change("incidents", api.rows("incidents")[0]["id"], name="Renamed")
    copy = str(Path(f"{folder}/copy of {name}.duckdb").absolute())
    for path in (str(Path(f"{folder}/{name}.duckdb").absolute()), copy):
        rows = read_rows("SELECT count(*) AS n FROM incident_api.incidents", path)
        assert rows == [{"n": len(api.rows("incidents"))}]


def test_the_path_of_the_copy_may_hold_even_more(sync: Sync, settings: Settings) -> None:
    sync("users")
    for _ in range(2):
        publish(replace(settings, published="100% sure?/copy?.duckdb"))
    assert read_rows("FROM incident_api.users", "100% sure?/copy?.duckdb")
