"""What a listing may take away: rule 3a of the data, through whole syncs and Dagster runs.

Time passes by moving what the database knows of the past.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import duckdb
import pytest

from incident_assets.api.endpoints import find_endpoint
from incident_assets.checks.finding import Finding
from incident_assets.checks.freshness import check_freshness
from incident_assets.checks.volume import check_volume
from incident_assets.demo.faults import Fault, edit
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.values import SettingError
from incident_assets_tests.conftest import NAMES, read_rows, read_table, run_command

DATABASE = "data/incidents.duckdb"
Load = Callable[..., Outcome]


@pytest.fixture
def load(loaded: Settings) -> Load:
    """Sync one resource of a database that was synced before; options go to `run_sync`."""

    def run(name: str, **options: Any) -> Outcome:
        return run_sync(loaded, [name], **options)[0]

    return run


def let_pass(span: str) -> None:
    with duckdb.connect(DATABASE) as connection:
        for table, columns in (
            ("incident_sync.log", ("started_at", "finished_at")),
            *((f"incident_api.{name}", ("_deleted_at",)) for name in NAMES),
        ):
            moved = ", ".join(f"{column} = {column} - INTERVAL {span}" for column in columns)
            connection.execute(f"UPDATE {table} SET {moved}")


def find_volume(name: str) -> Finding:
    with duckdb.connect(DATABASE, read_only=True) as connection:
        return check_volume(connection, find_endpoint(name))


def count_live(name: str) -> int:
    return sum(row["_deleted_at"] is None for row in read_table(name).values())


def leave(api: DemoApi, name: str, rows: int) -> None:
    """Remove rows upstream until so many are left."""
    for row in api.rows(name)[rows:]:
        api.remove(name, row["id"])


@pytest.mark.slow
@pytest.mark.fault(
    "a listing that lost most of its rows, or all of them",
    "what came is loaded and nothing is marked; volume is an error, the run fails, until somebody "
    "accepts the loss",
    "every row",
)
@pytest.mark.parametrize("left", [0, 20])
def test_a_listing_that_takes_most_of_a_table_away_is_held(
    left: int, api: DemoApi, load: Load
) -> None:
    usual = len(api.rows("actions"))
    leave(api, "actions", left)
    if left:
        api.change("actions", api.rows("actions")[0]["id"], description="Changed meanwhile")
    watermark = read_state()["actions"]
    for _ in range(3):
        outcome = load("actions")
        assert (outcome.outcome, outcome.deleted, outcome.missing) == ("held", 0, usual - left)
        assert f"{usual - left} of {usual} live rows were not listed" in str(outcome.failure)
        assert "accept_loss: [actions]" in str(outcome.failure)
    assert count_live("actions") == usual
    descriptions = {row["description"] for row in read_table("actions").values()}
    assert ("Changed meanwhile" in descriptions) == bool(left)
    assert read_state()["actions"] == watermark
    volume = find_volume("actions")
    assert not volume.passed and volume.severity == "error"
    assert str(outcome.failure) in volume.description
    with duckdb.connect(DATABASE, read_only=True) as connection:
        assert check_freshness(connection, find_endpoint("actions")).passed
    let_pass("2 HOUR")
    assert load("actions").outcome == "held"  # the table is not small
    outcome = load("actions", accept_loss=["actions"])
    assert (outcome.outcome, outcome.deleted) == ("loaded", usual - left)
    assert outcome.accepted and count_live("actions") == left
    # What was accepted counts no more.
    if left:
        leave(api, "actions", left - 1)
        assert load("actions").deleted == 1
    assert find_volume("actions").passed


def read_state() -> Any:
    """Return dlt's newest state of each resource."""
    import base64
    import json
    import zlib

    rows = read_rows(
        "SELECT state FROM incident_api._dlt_pipeline_state ORDER BY version DESC LIMIT 1"
    )
    state = json.loads(zlib.decompress(base64.b64decode(rows[0]["state"])))
    return state["sources"]["incident_api"]["resources"]


def test_losses_of_seven_days_count_together(api: DemoApi, load: Load) -> None:
    usual = len(api.rows("actions"))
    leave(api, "actions", usual - usual * 2 // 5)
    outcome = load("actions")
    assert (outcome.outcome, outcome.deleted) == ("loaded", usual * 2 // 5)
    assert find_volume("actions").severity == "warning" and not find_volume("actions").passed
    live = count_live("actions")
    leave(api, "actions", live - live * 2 // 5)
    let_pass("6 DAY")
    assert load("actions").outcome == "held"
    assert count_live("actions") == live
    let_pass("2 DAY")
    assert load("actions").outcome == "loaded"
    assert count_live("actions") == live - live * 2 // 5


def test_a_row_that_comes_back_is_no_loss(api: DemoApi, load: Load) -> None:
    rows = api.rows("actions")
    leave(api, "actions", len(rows) * 3 // 5)
    load("actions")
    for row in rows[len(rows) * 3 // 5 :]:
        api.add("actions", row)
    assert load("actions").outcome == "loaded"
    assert find_volume("actions").passed
    leave(api, "actions", len(rows) * 3 // 5)
    assert load("actions").outcome == "loaded"


def test_a_small_table_is_held_once(api: DemoApi, load: Load) -> None:
    assert len(api.rows("severities")) <= 10
    removed = api.rows("severities")
    api.empty("severities")
    assert load("severities").outcome == "held"
    let_pass("30 MINUTE")
    assert load("severities").outcome == "held"
    let_pass("40 MINUTE")
    api.add("severities", removed[0])  # not the same any more
    assert load("severities").outcome == "held"
    let_pass("61 MINUTE")
    outcome = load("severities")
    assert (outcome.outcome, outcome.deleted) == ("loaded", len(removed) - 1)
    assert count_live("severities") == 1 and find_volume("severities").passed


@pytest.mark.fault(
    "a full refresh of a listing that lost most of its rows",
    "the table is built anew with the rows that were not listed; the run fails as held",
    "every row",
)
def test_a_full_refresh_drops_no_more_than_a_sync_may_mark(api: DemoApi, load: Load) -> None:
    before = read_table("users")
    leave(api, "users", 3)
    api.change("users", api.rows("users")[0]["id"], name="Renamed")
    outcome = load("users", full_refresh=True)
    assert (outcome.outcome, outcome.deleted, outcome.dropped) == ("held", 0, 0)
    after = read_table("users")
    assert after.keys() == before.keys()
    assert sum(row["name"] == "Renamed" for row in after.values()) == 1
    outcome = load("users", full_refresh=True, accept_loss=["users"])
    assert outcome.outcome == "loaded" and outcome.accepted
    assert outcome.deleted == outcome.dropped == len(before) - 3
    assert len(read_table("users")) == 3


def test_what_refreshes_dropped_counts_for_seven_days(api: DemoApi, load: Load) -> None:
    usual = len(api.rows("actions"))
    leave(api, "actions", usual - usual * 2 // 5)
    assert load("actions", full_refresh=True).dropped == usual * 2 // 5
    assert not find_volume("actions").passed
    live = len(api.rows("actions"))
    leave(api, "actions", live - live * 2 // 5)
    assert load("actions", full_refresh=True).outcome == "held"
    assert len(read_table("actions")) == live
    let_pass("8 DAY")
    assert load("actions", full_refresh=True).outcome == "loaded"


def announce(api: DemoApi, more: int) -> None:
    """Let the API announce so many incidents more than the key sees."""

    def change(body: dict[str, Any]) -> None:
        body["pagination_meta"]["total_record_count"] += more

    api.heal()
    api.inject(Fault(edit(change), resource="incidents"))


@pytest.mark.slow
@pytest.mark.fault(
    "the API announces rows that the key may not see",
    "nothing is marked at first; after an hour of the same shortfall deletions are, and volume "
    "warns how many rows are not seen",
    "every row",
)
def test_a_shortfall_that_stays_is_the_keys_view(api: DemoApi, load: Load) -> None:
    announce(api, 5)
    api.remove("incidents", api.rows("incidents")[0]["id"])
    outcome = load("incidents")
    assert (outcome.outcome, outcome.deleted) == ("loaded", 0)
    assert (
        "none is marked before a full listing an hour later" in find_volume("incidents").description
    )
    assert load("incidents").deleted == 0
    let_pass("61 MINUTE")
    announce(api, 6)
    assert load("incidents").deleted == 0
    announce(api, 5)
    assert load("incidents").deleted == 1
    volume = find_volume("incidents")
    assert not volume.passed and volume.severity == "warning"
    assert "does not see" in volume.description
    api.heal()
    load("incidents")
    assert find_volume("incidents").passed


def test_a_shorter_listing_than_announced_fails_its_refresh(api: DemoApi, load: Load) -> None:
    before = read_table("incidents")
    announce(api, 5)
    outcome = load("incidents", full_refresh=True)
    assert outcome.outcome == "failed" and "a refresh could throw rows away" in str(outcome.failure)
    assert read_table("incidents") == before
    load("incidents")
    let_pass("61 MINUTE")
    assert load("incidents", full_refresh=True).outcome == "loaded"


def test_only_what_is_synced_can_be_accepted(load: Load) -> None:
    with pytest.raises(SettingError, match="accept_loss names users, which this sync does not"):
        load("severities", accept_loss=["users"])


@pytest.mark.slow
def test_a_held_listing_shows_in_dagster_and_ends_the_run(
    api: DemoApi, loaded: Settings, execute: Callable[..., dg.ExecuteInProcessResult]
) -> None:
    api.empty("actions")
    result = execute()
    assert not result.success
    keys = {
        event.asset_key.path[-1]
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert "actions" in keys
    checks = {
        f"{x.asset_key.path[-1]} {x.check_name}": x for x in result.get_asset_check_evaluations()
    }
    assert not checks["actions volume"].passed
    assert checks["actions volume"].severity is dg.AssetCheckSeverity.ERROR
    assert "held: " in str(checks["actions loaded"].description)
    assert "actions: held: " in str(checks["log every_resource_loaded"].description)
    assert checks["users loaded"].passed


@pytest.mark.slow
def test_the_command_accepts_a_loss_by_name(api: DemoApi, loaded: Settings) -> None:
    api.empty("workflows")
    held = run_command("incident_assets", "sync", "--select", "workflows")
    assert held.returncode == 1 and "--accept-loss workflows" in held.stdout
    taken = run_command(
        "incident_assets", "sync", "--select", "workflows", "--accept-loss", "workflows"
    )
    assert taken.returncode == 0, taken.stderr
    assert count_live("workflows") == 0


@pytest.mark.slow
@pytest.mark.parametrize("refresh", [True, False])
def test_a_loss_that_was_taken_can_be_taken_back(
    refresh: bool, api: DemoApi, settings: Settings, execute: Callable[..., Any]
) -> None:
    actions = dg.AssetSelection.assets("incident_api/actions", "incident_sync/published_copy")
    accept = {"full_refresh": refresh, "accept_loss": ["actions"]}
    assert execute(select=actions).success
    usual = len(api.rows("actions"))
    leave(api, "actions", 1)
    assert not execute(select=actions).success
    assert not settings.previous_copy.exists()
    assert execute(config=accept, select=actions).success
    count = "SELECT count(*) AS n FROM incident_api.actions WHERE _deleted_at IS NULL"
    assert read_rows(count, str(settings.published_copy))[0]["n"] == 1
    assert read_rows(count, str(settings.previous_copy))[0]["n"] == usual
    for age in (0, 86400):  # which keeps what may have to be taken back, whatever clocks say
        made = time.time() - age
        os.utime(settings.published_copy, (made, made))
        assert execute(select=actions).success
        assert read_rows(count, str(settings.previous_copy))[0]["n"] == usual
