"""One bad value, one resource: nothing that a listing holds costs more than itself.

What a request answers is in `api/test_failures`, what a single value becomes in `api/test_rows`.
"""

import json
from collections.abc import Callable
from typing import Any

import dlt
import duckdb
import pytest

from incident_assets.api.endpoints import LOADER_COLUMNS
from incident_assets.api.rows import MOST_UNKNOWN
from incident_assets.demo import listings
from incident_assets.demo.faults import (
    Answer,
    Connection,
    Effect,
    Fault,
    edit,
    status,
    text,
    where,
)
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync import plan, run, stages
from incident_assets.sync.listing import BARREN_PAGES, Listing
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.warehouse import spool
from incident_assets.warehouse.file import open_database
from incident_assets_tests.conftest import KEY, read_rows, read_table
from incident_assets_tests.sync.test_changes import (
    SyncChanges,
    asked_incidents,
    assert_same_as_upstream,
    find_active,
    find_settled,
    many_updates,
    post_update,
    run_sync_full,
    sync_changes,
)

__all__ = ["many_updates", "sync_changes"]  # fixtures

Sync = Callable[..., dict[str, Outcome]]
LIVE = ["incidents", "incident_updates", "severities"]


def add_fields(**fields: Any) -> Effect:
    """Give the page's first item these fields."""
    return edit(lambda body: body["incidents"][0].update(fields))


def read_log(column: str) -> dict[str, Any]:
    """Return a column of the last run's rows of the sync log, by resource."""
    rows = read_rows(
        f"SELECT resource, {column} FROM incident_sync.log "
        "WHERE finished_at = (SELECT max(finished_at) FROM incident_sync.log)"
    )
    return {row["resource"]: row[column] for row in rows}


TAKEN = [  # by one incident each
    {"created_at": "9999-12-31T23:59:59-12:00"},
    {"created_at": "0000-06-01T00:00:00Z", "last_activity_at": "0001-01-01T00:00:00Z"},
    {"updated_at": "0001-01-01T00:00:00Z"},
    {"created_at": "2026-02-30T00:00:00Z", "last_activity_at": "2016-12-31T23:59:60Z"},
    {"rowid": "x"},
    {x: {x: 1} for x in ("select", "from", "hash", "rows", "listed", "old", "same")},
    {'a"b': 1, "a'b": 2, "%s": 3, "?": 4, "a\nb": 5, "\0": 6},
    {"x" * 100_000: 1},
]


@pytest.mark.fault(
    "instants that Python cannot hold, fields named like the database's own, thousands of fields",
    "what fits no column is in `_rescued`; a table gets at most a hundred unknown columns",
    "every value, and all that other resources have",
)
@pytest.mark.parametrize("many", [{}, {f"field_{n}": n for n in range(3000)}])
def test_odd_fields_and_instants_are_taken(
    many: dict[str, Any], api: DemoApi, sync_changes: SyncChanges
) -> None:
    before = read_table("incidents")
    fields = [many] if many else TAKEN

    def odd(body: dict[str, Any]) -> None:
        for item, more in zip(body["incidents"], fields, strict=False):
            item.update(more)

    api.inject(Fault(edit(odd), resource="incidents"))
    for changes in (False, True):  # what landed is compared, and asked for by changes
        outcomes = sync_changes(*LIVE, changes=changes)
        assert not any(outcome.failure for outcome in outcomes.values())
    rows = read_table("incidents")
    assert rows.keys() == before.keys()
    for item, more in zip(reversed(api.rows("incidents")), fields, strict=False):
        row = rows[item["id"]]
        kept = json.loads(row["_rescued"] or "{}")
        assert [x for x in more if x not in kept and row[x] is None] == []
    api.heal()
    sync_changes(*LIVE, changes=False)
    assert_same_as_upstream(api, *LIVE)


def test_a_watermark_of_the_first_day_asks_for_everything_since_1970(
    api: DemoApi, settings: Settings
) -> None:
    def begin(body: dict[str, Any]) -> None:
        for item in body["incidents"]:
            item["updated_at"] = "0001-01-01T00:00:00Z"

    api.inject(Fault(edit(begin), resource="incidents"))
    for changes in (False, True):
        with open_database(settings.database, 20, "a test") as connection:
            # Where that moment is in the year before.
            connection.execute("SET TimeZone = 'America/New_York'")
            with run.open_sync(connection, settings, LIVE, "a run", changes) as sync:
                sync.fetch()
                load = sync.pipeline.run
                sync.load(lambda source, load=load: [load(source, loader_file_format="parquet")])
                assert not any(outcome.failure for outcome in sync.conclude())
    asked = [x.query for x in api.requests if x.resource == "incidents"]
    assert [query.get("updated_at[gte]") for query in asked] == [None, ["1969-12-30"]]


def test_an_instant_that_no_column_holds_is_by_changes_a_failure_of_its_own(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    effect = add_fields(updated_at="9999-12-31T23:59:59-12:00")
    api.inject(Fault(effect, resource="incidents"))
    outcomes = sync_changes(*LIVE)
    assert "have no updated_at" in str(outcomes["incidents"].failure)
    assert [name for name, outcome in read_log("outcome").items() if outcome == "loaded"] == [
        "incident_updates",
        "severities",
    ]


def test_a_table_has_at_most_so_many_unknown_columns(api: DemoApi, sync: Sync) -> None:
    first, second = (row["id"] for row in api.rows("severities")[:2])
    columns: list[set[str]] = []
    for before, prefix in ("ba", "ab"):
        for identifier in (first, second):
            ends = [f"{identifier.lower()}_{n}" for n in range(MOST_UNKNOWN)]
            fields = {f"{before}_{end}": ... for end in ends} | {f"{prefix}_{x}": 1 for x in ends}
            api.change("severities", identifier, **fields)
        sync("severities")
        rows = read_table("severities")
        columns.append(set(rows[first]))
        for identifier in (first, second):
            row, item = rows[identifier], api.account.rows["severities"][identifier]
            kept = {name for name, value in row.items() if value is not None}
            assert item.keys() <= kept | set(json.loads(row["_rescued"] or "{}"))
    known = {"id", "name", "description", "rank", "created_at", "updated_at"}
    assert columns[0] == columns[1]
    assert len(columns[0] - known) == MOST_UNKNOWN + len(LOADER_COLUMNS)


@pytest.fixture
def break_first_load(api: DemoApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an incident that is too long for the memory that DuckDB may have at first."""
    monkeypatch.setattr(run, "MEMORY", "64MB")
    fault = Fault(add_fields(severity={"name": "x" * 20_000_000}), resource="incidents")
    api.inject(fault)


@pytest.fixture
def break_load(break_first_load: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an incident that is too long for all the memory that there is."""
    monkeypatch.setattr(stages, "LIFT_LIMIT", "SET memory_limit = '64MB'")


@pytest.fixture
def break_comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have incidents that cannot be compared, once."""
    write, broken = plan.write_changed, []

    def write_changed(connection: Any, table: str, *args: Any, **options: Any) -> Any:
        if table.endswith(".incidents") and not broken:
            broken.append(table)
            raise duckdb.OutOfMemoryException
        return write(connection, table, *args, **options)

    monkeypatch.setattr(plan, "write_changed", write_changed)


@pytest.mark.slow
@pytest.mark.fault(
    "a value that breaks comparing or loading: a text of 20 MB in one field",
    "its resource fails, naming kind and place; the others are loaded without it",
    "what the resource had, its watermark too; the others land",
)
@pytest.mark.parametrize("broken", ["break_load", "break_comparing"])
def test_a_value_that_breaks_its_load_costs_its_own_resource(
    broken: str, api: DemoApi, sync_changes: SyncChanges, request: pytest.FixtureRequest
) -> None:
    before = read_table("incidents")
    incident, severity = api.rows("incidents")[-1]["id"], api.rows("severities")[0]["id"]
    update = post_update(api, incident)
    api.change("severities", severity, name="Renamed")
    request.getfixturevalue(broken)
    outcomes = sync_changes(*LIVE)
    assert "OutOfMemoryException in" in str(outcomes["incidents"].failure)
    assert read_log("outcome") == dict.fromkeys(LIVE, "loaded") | {"incidents": "failed"}
    assert read_log("changed") == {"incidents": 0, "incident_updates": 1, "severities": 1}
    assert read_table("incidents") == before
    assert update in read_table("incident_updates")
    assert read_table("severities")[severity]["name"] == "Renamed"
    api.heal()
    assert sync_changes(*LIVE)["incidents"].changed == 1  # what it had asked for is asked again
    assert_same_as_upstream(api, *LIVE)


def test_what_takes_more_memory_than_usual_is_loaded_all_the_same(
    break_first_load: None, api: DemoApi, settings: Settings
) -> None:
    incident = api.rows("incidents")[-1]["id"]
    assert not any(outcome.failure for outcome in run_sync(settings, LIVE))
    assert len(read_table("incidents")[incident]["severity"]) > 20_000_000


@pytest.mark.slow
def test_a_first_load_that_breaks_leaves_an_empty_table_and_the_others(
    break_load: None, api: DemoApi, settings: Settings
) -> None:
    for full_refresh in (False, True):
        outcomes = run_sync(settings, LIVE, full_refresh=full_refresh)
        assert [x.resource for x in outcomes if x.failure] == ["incidents"]
        assert read_table("incidents") == {}
        assert_same_as_upstream(api, "incident_updates", "severities")
    api.heal()
    run_sync(settings, LIVE, changes=True)
    assert_same_as_upstream(api, *LIVE)


def test_what_nobody_thought_of_fails_its_listing_by_kind_and_place(
    api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build = spool.build_table

    def break_users(endpoint: Any, *args: Any) -> Any:
        if endpoint.name == "users":
            raise ZeroDivisionError("a name of somebody")
        return build(endpoint, *args)

    monkeypatch.setattr(spool, "build_table", break_users)
    outcomes = sync("users", "severities")
    assert "ZeroDivisionError in test_apart.py:" in str(outcomes["users"].failure)
    assert "somebody" not in caplog.text + str(outcomes["users"].failure)
    assert outcomes["severities"].failure is None
    assert read_log("outcome") == {"users": "failed", "severities": "loaded"}


STAGES = {"fetched": (Listing, "take"), "loaded": (dlt.mark, "with_file_import")}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("place", STAGES.values(), ids=STAGES.keys())
def test_an_interrupt_and_a_full_disk_are_no_failure_of_a_listing(
    place: Any, error: BaseException, api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(*place, stop)
    with pytest.raises(BaseException) as caught:
        sync("users", "severities")
    kind = "KeyboardInterrupt" if error is KeyboardInterrupt else "DatabaseError"
    assert type(caught.value).__name__ == kind


def test_texts_of_headers_are_cleaned(api: DemoApi, sync: Sync) -> None:
    api.announce("/v1/severities", Sunset=f"\x1b[31m{KEY}" + "x" * 1000)
    api.inject(Fault(text(b"<html>", kind=f"\x1b[31m{KEY}"), resource="users"))
    outcomes = sync("severities", "users")
    said = outcomes["severities"].notice + str(outcomes["users"].failure)
    assert "Sunset:  [31m***" in said and "no JSON ( [31m***" in said
    assert KEY not in said and "\x1b" not in said and len(said) < 1000


def walk_in_circles(resource: str) -> Effect:
    """Answer twenty times with the same rows and a cursor never seen before."""
    count = 0

    def effect(_: Connection, answer: Answer) -> Answer:
        nonlocal count
        count += 1
        meta = {"after": f"cursor {count}"} if count < 20 else {}
        body = {resource: [{"id": "x"}], "pagination_meta": meta}
        return Answer(200, json.dumps(body).encode())

    return effect


@pytest.mark.fault(
    "cursors that are new on every page, with rows that are not",
    "the resource fails after three pages without a new row",
    "what the resource had; the others land",
)
@pytest.mark.parametrize("resource", ["users", "actions"])
def test_new_cursors_without_a_new_row_end_a_walk(resource: str, api: DemoApi, sync: Sync) -> None:
    api.inject(Fault(walk_in_circles(resource), resource=resource))
    outcomes = sync(resource, "severities")
    assert f"{BARREN_PAGES} pages in a row had no new row" in str(outcomes[resource].failure)
    assert outcomes[resource].requests == 1 + BARREN_PAGES
    assert outcomes["severities"].failure is None


def test_walks_that_show_the_same_rows_each_are_no_circle(
    api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As v2 was seen to: every mode, whichever is asked for.
    monkeypatch.setattr(listings, "_filter_tasks", lambda account, rows, query: rows)
    for _ in range(250 * (BARREN_PAGES + 1)):
        api.add("actions")
    outcome = sync("actions")["actions"]
    assert not outcome.failure and outcome.rows == len(api.rows("actions"))


@pytest.mark.slow
@pytest.mark.fault(
    "an incident that is gone (404 or 422) while its updates are asked for",
    "it costs its own updates alone, and a line in the log",
    "the updates of all other incidents",
)
@pytest.mark.parametrize("code", [404, 422])
def test_a_gone_incident_costs_its_own_updates_alone(
    code: int,
    many_updates: None,
    api: DemoApi,
    sync_changes: SyncChanges,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_sync_full(sync_changes)
    gone, changed = find_active(api)[0], find_settled(api, 1)
    update = post_update(api, changed)
    api.inject(Fault(where(f"incident_id={gone}", status(code)), resource="incident_updates"))
    api.reset_log()
    outcome = sync_changes()["incident_updates"]
    assert (outcome.failure, outcome.listing) == (None, "changes")
    assert gone in asked_incidents(api)
    assert f"no more of 1 incidents, such as {gone}" in caplog.text
    assert update in read_table("incident_updates")
    assert {row["_deleted_at"] for row in read_table("incident_updates").values()} == {None}


@pytest.mark.slow
def test_a_second_page_that_is_not_there_is_a_failure(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    busy = find_active(api)[0]
    for _ in range(251):
        api.add("incident_updates", incident_id=busy)
    fault = where(f"incident_id={busy}", where("after=", status(422)))
    api.inject(Fault(fault, resource="incident_updates"))
    assert "422" in str(sync_changes()["incident_updates"].failure)


@pytest.mark.slow
def test_where_every_incident_is_gone_all_updates_are_asked_for(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges, caplog: pytest.LogCaptureFixture
) -> None:
    run_sync_full(sync_changes)
    update = post_update(api, find_settled(api, 1))
    api.inject(Fault(where("incident_id=", status(404)), resource="incident_updates"))
    outcome = sync_changes()["incident_updates"]
    assert (outcome.failure, outcome.listing) == (None, "full")
    assert "none of these incidents is there: asking for all" in caplog.text
    assert update in read_table("incident_updates")


@pytest.mark.slow
def test_where_the_path_is_gone_the_updates_fail(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    before = read_table("incident_updates")
    post_update(api, find_settled(api, 1))
    api.inject(Fault(status(404), resource="incident_updates"))
    failure = sync_changes()["incident_updates"].failure
    assert failure and failure.status == 404 and "the API has moved on" in str(failure)
    assert read_table("incident_updates") == before


@pytest.mark.slow
@pytest.mark.fault(
    "an API that ignores incident_id",
    "a row of another incident shows it; all updates are asked for, once",
    "every update",
)
def test_an_api_that_ignores_incident_id_is_asked_for_everything_once(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges, caplog: pytest.LogCaptureFixture
) -> None:
    run_sync_full(sync_changes)
    update = post_update(api, find_settled(api, 1))
    others = [row for row in api.rows("incident_updates") if row["id"] != update][:2]

    def ignore(body: dict[str, Any]) -> None:
        body["incident_updates"].extend(others)
        body["pagination_meta"]["after"] = others[0]["id"]

    api.inject(Fault(where("incident_id=", edit(ignore)), resource="incident_updates"))
    api.reset_log()
    outcome = sync_changes()["incident_updates"]
    assert (outcome.failure, outcome.listing) == (None, "full")
    assert "the API ignores incident_id: asking for all" in caplog.text
    assert len(asked_incidents(api)) <= 8  # a page in each thread
    pages = -(-len(api.rows("incident_updates")) // 250)
    assert api.count("incident_updates") == len(asked_incidents(api)) + pages
    assert_same_as_upstream(api, "incident_updates")


def test_a_load_gets_all_memory_only_where_one_at_a_time_does_not_help(
    api: DemoApi, settings: Settings
) -> None:
    tries = []
    with (
        open_database(settings.database, 20, "a test") as connection,
        run.open_sync(connection, settings, LIVE, "a run") as sync,
    ):
        sync.fetch()

        def load(source: Any) -> list[Any]:
            ((limit,),) = connection.execute("SELECT current_setting('memory_limit')").fetchall()
            tries.append((dlt.config["load.workers"], limit == usual))
            if len(tries) < 3:
                raise duckdb.OutOfMemoryException
            return [sync.pipeline.run(source, loader_file_format="parquet")]

        ((usual,),) = connection.execute("SELECT current_setting('memory_limit')").fetchall()
        sync.load(load)
        assert not any(outcome.failure for outcome in sync.conclude())
    assert tries == [(stages.LOAD_WORKERS, True), (1, True), (1, False)]
