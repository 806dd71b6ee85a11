"""What a run costs where little or nothing has changed, and in any order of first runs.

Which models a change concerns is tested in `models.test_unchanged`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from incident_assets.defs.duckdb import DuckDBResource
from incident_assets.demo.server import DemoApi
from incident_assets.models.catalog import read_models
from incident_assets_tests.conftest import read_rows
from incident_assets_tests.defs.test_ingestion import materialised
from incident_assets_tests.models.test_unchanged import find_readers

Execute = Callable[..., dg.ExecuteInProcessResult]
COPY = Path("data/incidents.published.duckdb")
LIVE = {"incidents", "incident_updates", "actions", "follow_ups"}
OF_LIVE = find_readers(*LIVE)
NEEDED = {"incident_statuses", "incident_timestamps", "severities", "users"}


def list_built(result: dg.ExecuteInProcessResult) -> set[str]:
    """Return the models that a run has built, rather than found unchanged."""
    events = materialised(result)
    return {name for name in read_models() if name in events and not events[name]["unchanged"]}


def list_versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    events = [event for event in result.get_asset_materialization_events() if event.asset_key]
    return {
        event.asset_key.path[-1]: event.materialization.tags["dagster/data_version"]
        for event in events
        if event.asset_key and event.asset_key.path[-1] != "log"
    }


def stat_copy() -> tuple[int, int]:
    found = COPY.stat()
    return found.st_ino, found.st_mtime_ns


@pytest.mark.slow
def test_the_live_job_comes_first_and_a_second_run_does_nothing_again(
    api: DemoApi, execute: Execute, instance: dg.DagsterInstance
) -> None:
    first = execute("sync_live")
    assert first.success
    assert list_built(first) == OF_LIVE | {"dim_status", "dim_severity", "dim_user"}
    assert set(materialised(first)) >= LIVE | NEEDED
    for name in NEEDED:
        assert read_rows(f"SELECT count(*) AS n FROM incident_api.{name}")[0]["n"]
        latest = instance.get_latest_materialization_event(dg.AssetKey(["incident_api", name]))
        assert latest and latest.asset_materialization
    copy = stat_copy()
    second = execute("sync_live")
    assert second.success
    assert list_built(second) == set()
    assert set(materialised(second)) == LIVE | OF_LIVE | {"log", "published_copy"}
    assert list_versions(second).items() <= list_versions(first).items()
    assert stat_copy() == copy and materialised(second)["published_copy"]["unchanged"]
    looked = {
        x.check_name: "unchanged" not in x.metadata
        for x in second.get_asset_check_evaluations()
        if x.asset_key.path[0] == "incident_api"
    }
    assert looked == {"integrity": False, "contract": False, "volume": True, "loaded": True}
    grains = [x for x in second.get_asset_check_evaluations() if x.check_name == "grain"]
    assert grains and all(x.passed and "unchanged" in x.metadata for x in grains)
    said = [set(materialised(second)[name]) for name in OF_LIVE]
    assert all(names == {"dagster/row_count", "unchanged"} for names in said)


@pytest.mark.slow
def test_a_change_costs_what_reads_it_and_the_copy(api: DemoApi, execute: Execute) -> None:
    assert execute("sync_all").success
    copy = stat_copy()
    api.change("follow_ups", api.rows("follow_ups")[0]["id"], title="Renamed")
    result = execute("sync_live")
    assert list_built(result) == find_readers("follow_ups")
    assert stat_copy() != copy
    checks = {
        f"{x.asset_key.path[-1]} {x.check_name}": "unchanged" in x.metadata
        for x in result.get_asset_check_evaluations()
    }
    assert not checks["follow_ups integrity"] and checks["actions integrity"]


def test_the_copy_is_replaced_for_own_tables_and_once_an_hour(
    api: DemoApi, execute: Execute
) -> None:
    @dg.asset(deps=[["incident_api", "users"]])
    def own(context: dg.AssetExecutionContext, duckdb: DuckDBResource) -> None:
        with duckdb.get_connection() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS own AS SELECT 0 AS i")
            if "write" in context.run.tags:
                connection.execute("UPDATE own SET i = i + 1")

    select = dg.AssetSelection.assets("incident_sync/published_copy", "own")

    def run(**tags: str) -> bool:
        before = stat_copy() if COPY.exists() else None
        assert execute(select=select, assets=[own], tags=tags).success
        return stat_copy() != before

    assert run()
    assert not run()
    assert run(write="yes")
    assert not run()
    with duckdb.connect(str(COPY), read_only=True) as connection:
        assert connection.execute("FROM own").fetchall() == [(1,)]
    with duckdb.connect("data/incidents.duckdb") as connection:
        connection.execute("CREATE VIEW seen AS FROM own")
    assert run()
    an_hour_ago = time.time() - 3601
    os.utime(COPY, (an_hour_ago, an_hour_ago))
    assert run()


@pytest.mark.slow
@pytest.mark.parametrize(
    "order", [("sync_reference", "sync_live"), ("sync_live", "sync_reference")]
)
def test_any_order_of_first_runs_gives_every_model(
    order: tuple[str, str], api: DemoApi, execute: Execute
) -> None:
    results = [execute(job) for job in order]
    assert all(result.success for result in results)
    models = "SELECT table_name AS n FROM duckdb_tables() WHERE schema_name = 'incident_analytics'"
    assert {row["n"] for row in read_rows(models)} == set(read_models())


@pytest.mark.slow
def test_a_setting_reaches_the_live_models_through_those_that_are_not_live(
    api: DemoApi, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert execute("sync_live").success
    rows = "SELECT category, count(*) AS n FROM incident_analytics.fct_incident GROUP BY 1"
    before = read_rows(f"{rows} ORDER BY 1")
    status = next(x for x in api.rows("incident_statuses") if x["category"] == "learning")
    monkeypatch.setenv("INCIDENT_STATUSES", f"{status['id']}=closed")
    result = execute("sync_live")
    assert result.success and "fct_incident" in list_built(result)
    assert read_rows(f"{rows} ORDER BY 1") != before
    assert list_built(execute("sync_live")) == set()
