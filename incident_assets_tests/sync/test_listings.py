"""What a listing asks for, and when it is whole: categories, variants, nothing to ask for."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import duckdb
import pytest

from incident_assets.api.endpoints import find_endpoint
from incident_assets.checks.freshness import check_freshness
from incident_assets.demo.faults import Fault, edit, status
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import NAMES, read_table

Load = Callable[..., Any]


@pytest.fixture
def load(loaded: Settings) -> Load:
    """Sync these resources of a database that was synced before; outcomes by resource."""

    def run(*names: str, **options: Any) -> Any:
        return {outcome.resource: outcome for outcome in run_sync(loaded, names, **options)}

    return run


def move_to_unknown_category(api: DemoApi) -> str:
    """Give the account a status of a new category, and an incident of it; return the incident."""
    new = api.rows("incident_statuses")[0] | {"id": "01SIMMERING", "category": "simmering"}
    api.add("incident_statuses", new)
    incident = str(api.rows("incidents")[5]["id"])
    api.change("incidents", incident, incident_status=new)
    return incident


@pytest.mark.fault(
    "an incident in a status of a category that nobody has seen before",
    "incidents are asked for in the categories of the account's own statuses too",
    "the incident, live",
)
@pytest.mark.parametrize("names", [("incidents",), ("incidents", "incident_statuses")])
def test_incidents_of_an_unknown_category_are_listed(
    names: tuple[str, ...], api: DemoApi, load: Load
) -> None:
    incident = move_to_unknown_category(api)
    outcomes = load(*names)
    assert set(outcomes) == set(names)
    assert outcomes["incidents"].deleted == 0
    row = read_table("incidents")[incident]
    assert row["_deleted_at"] is None and "simmering" in row["incident_status"]
    assert ("01SIMMERING" in read_table("incident_statuses")) == ("incident_statuses" in names)
    # It may be posted on without being changed itself.
    post = str(api.add("incident_updates", incident_id=incident)["id"])
    load("incidents", "incident_updates", changes=True)
    assert post in read_table("incident_updates")


def test_statuses_that_cannot_be_read_leave_the_categories_that_are_known(
    api: DemoApi, load: Load
) -> None:
    incident = move_to_unknown_category(api)
    load("incidents", "incident_statuses")
    api.forbid("incident_statuses")
    outcomes = load("incidents")
    assert outcomes["incidents"].outcome == "loaded"
    assert read_table("incidents")[incident]["_deleted_at"] is None


def leave_out(identifier: str) -> Callable[[dict[str, Any]], object]:
    def change(body: dict[str, Any]) -> None:
        body["actions"] = [row for row in body["actions"] if row["id"] != identifier]

    return change


@pytest.mark.fault(
    "a row moves from one filtered list into another while both are walked",
    "where stored rows were not listed, all modes are walked once more before any is marked",
    "the row, live",
)
def test_a_row_that_moves_between_variants_is_not_deleted(api: DemoApi, load: Load) -> None:
    walks = len(find_endpoint("actions").newest.variants)
    moved, gone = (str(row["id"]) for row in api.rows("actions")[:2])
    api.inject(Fault(edit(leave_out(moved)), resource="actions", first=walks))
    api.remove("actions", gone)
    api.change("actions", str(api.rows("actions")[-1]["id"]), description="Changed in between")
    outcome = load("actions")["actions"]
    assert (outcome.outcome, outcome.deleted, outcome.requests) == ("loaded", 1, 2 * walks)
    rows = read_table("actions")
    assert rows[moved]["_deleted_at"] is None and rows[gone]["_deleted_at"]
    assert sum(row["description"] == "Changed in between" for row in rows.values()) == 1
    # Nothing is missing now that it has not marked, so one walk is enough.
    assert load("actions")["actions"].requests == walks


def test_a_walk_that_is_repeated_and_fails_fails_its_listing(api: DemoApi, load: Load) -> None:
    walks = len(find_endpoint("actions").newest.variants)
    api.remove("actions", str(api.rows("actions")[0]["id"]))

    def fail_later(connection: Any, answer: Any) -> Any:
        later = fault.seen > walks
        return status(403)(connection, answer) if later else answer

    fault = Fault(fail_later, resource="actions")
    api.inject(fault)
    before = read_table("actions")
    outcome = load("actions")["actions"]
    assert outcome.outcome == "failed" and "403" in str(outcome.failure)
    assert read_table("actions") == before


def quieten(api: DemoApi) -> None:
    """Close all incidents, long ago."""
    closed = next(x for x in api.rows("incident_statuses") if x["category"] == "closed")
    for row in api.rows("incidents"):
        api.change(
            "incidents", row["id"], incident_status=closed, updated_at="2026-01-02T00:00:00Z"
        )


@pytest.mark.slow
def test_updates_of_which_there_is_nothing_to_ask_for_are_not_asked(
    api: DemoApi, execute: Callable[..., dg.ExecuteInProcessResult]
) -> None:
    quieten(api)
    assert execute().success
    with duckdb.connect("data/incidents.duckdb") as connection:
        passed = "finished_at = finished_at - INTERVAL 9 DAY"
        connection.execute(f"UPDATE incident_sync.log SET {passed}")
    api.reset_log()
    result = execute(config={"listing": "changes"})
    assert result.success
    assert api.count("incident_updates") == 0
    keys = {x.asset_key.path[-1] for x in result.get_asset_materialization_events() if x.asset_key}
    assert set(NAMES) <= keys
    with duckdb.connect("data/incidents.duckdb", read_only=True) as connection:
        found = connection.execute(
            "SELECT outcome, remark FROM incident_sync.log WHERE resource = 'incident_updates' "
            "ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        assert found and found[0] == "not asked" and "nothing to ask for" in found[1]
        # No incident having changed, the table is as recent as this.
        assert check_freshness(connection, find_endpoint("incident_updates")).passed


def test_a_wrong_key_is_said_once(
    api: DemoApi, load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("INCIDENT_API_KEY", "another-key-than-that-of-the-account")
    outcomes = load(*NAMES)
    said = {str(outcome.failure) for outcome in outcomes.values()}
    assert len(said) == 1 and "The key from INCIDENT_API_KEY was refused" in said.pop()
    lines = [x.getMessage() for x in caplog.records if "was refused" in x.getMessage()]
    assert len(lines) == 1
