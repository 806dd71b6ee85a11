"""What `prune_history` deletes and what stays, on real instances of both SQLite storages."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import sqlalchemy as sql
import yaml

# Private: nothing public makes a run of a given status.
from dagster._core.test_utils import create_run_for_test

from incident_assets.build import build_definitions
from incident_assets_tests.pages import ROOT

SEPARATE = ("run_storage", "event_log_storage", "schedule_storage", "compute_logs")
DAILY = dg.DailyPartitionsDefinition("2026-01-01")
TABLES = ("event_logs", "asset_check_executions")


@dg.asset(check_specs=[dg.AssetCheckSpec("looked_at", asset="counted")])
def counted() -> Iterator[Any]:
    print("counting")
    yield dg.AssetCheckResult(passed=True, check_name="looked_at", metadata={"why": "x" * 200_000})
    yield dg.MaterializeResult(metadata={"what": "x" * 200_000})


@dg.asset(partitions_def=DAILY)
def by_day() -> None:
    print("a day")


@dg.asset_check(asset=counted)
def counted_right() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset
def fails() -> None:
    raise ZeroDivisionError


@dg.op
def hops() -> None:
    print("hop")


@dg.job(executor_def=dg.in_process_executor)
def plain() -> None:
    hops()


@contextmanager
def open_instance(kind: str) -> Iterator[dg.DagsterInstance]:
    """Give an instance on disk: `one file` as in the project's dagster.yaml, or `a file a run`."""
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    chosen = {name: settings[name] for name in SEPARATE} if kind == "one file" else {}
    home = Path("home")
    home.mkdir(exist_ok=True)
    with dg.instance_for_test(chosen, temp_dir=str(home)) as instance:
        yield instance


@pytest.fixture(params=["one file", "a file a run"])
def history(request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    """An instance that has no run yet."""
    with open_instance(request.param) as instance:
        yield instance


def run(instance: dg.DagsterInstance, days: float, *assets: Any, **options: Any) -> str:
    """Materialise assets, or run the plain job, so many days ago; return the run's id."""
    if assets:
        result = dg.materialize(assets, instance=instance, raise_on_error=False, **options)
    else:
        result = plain.execute_in_process(instance=instance)
    age(instance, result.run_id, days)
    return result.run_id


def age(instance: dg.DagsterInstance, run_id: str, days: float) -> None:
    storage: Any = instance.run_storage
    began = datetime.now(UTC) - timedelta(days=days)
    with storage.connect() as connection:
        text = sql.text("UPDATE runs SET create_timestamp = :began WHERE run_id = :run")
        connection.execute(text, {"began": f"{began:%Y-%m-%d %H:%M:%S.%f}", "run": run_id})


@cache
def build_job() -> dg.JobDefinition:
    return build_definitions().resolve_job_def("prune_history")


def prune(instance: dg.DagsterInstance) -> set[str]:
    """Run the job; return the ids of the runs that are there afterwards, but its own."""
    result = build_job().execute_in_process(instance=instance)
    assert result.success
    return set(instance.get_run_ids()) - {result.run_id}


def count(instance: dg.DagsterInstance, table: str, run_id: str) -> int:
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        text = sql.text(f"SELECT count(*) FROM {table} WHERE run_id = :run")
        return int(connection.execute(text, {"run": run_id}).scalar_one())


def find_files(run_id: str) -> list[Path]:
    return [path for path in Path.cwd().rglob("*") if run_id in path.name]


def measure() -> int:
    return sum(path.stat().st_size for path in Path.cwd().rglob("*.db*"))


def test_what_is_old_goes_with_all_that_is_its_and_the_room_comes_back(
    history: dg.DagsterInstance,
) -> None:
    old = [run(history, 31 + n, counted) for n in range(2)]
    plain_old, young = run(history, 40), run(history, 29)
    latest = run(history, 35, counted)
    before = measure()
    assert prune(history) == {young, latest}
    for gone in (*old, plain_old):
        assert not find_files(gone)
        assert not any(count(history, table, gone) for table in TABLES)
    assert measure() < before / 2
    assert find_files(young)  # what its step has printed


@pytest.mark.slow
def test_the_latest_of_each_asset_partition_and_check_stays_readable(
    history: dg.DagsterInstance,
) -> None:
    run(history, 60, counted)
    days = {
        day: run(history, 50, by_day, partition_key=day) for day in ("2026-01-01", "2026-01-02")
    }
    again = run(history, 45, by_day, partition_key="2026-01-02")
    latest = run(history, 40, counted)
    run(history, 40, fails)
    last_try = run(history, 39, fails)
    alone = dg.AssetSelection.checks(counted_right)
    run(history, 38, counted, counted_right, selection=alone)
    checked = run(history, 37, counted, counted_right, selection=alone)
    kept = {latest, again, days["2026-01-01"], last_try, checked}
    logs = {x: len(history.all_logs(x)) for x in kept}
    assert prune(history) == kept
    assert {x: len(history.all_logs(x)) for x in kept} == logs
    event = history.get_latest_materialization_event(counted.key)
    assert event and event.run_id == latest
    partitions = history.get_materialized_partitions(by_day.key)
    assert partitions == {"2026-01-01", "2026-01-02"}
    key = dg.AssetCheckKey(counted.key, "looked_at")
    checks = history.event_log_storage.get_latest_asset_check_execution_by_key([key])
    assert checks[key].run_id == latest and checks[key].event


def test_what_is_not_over_stays_and_what_was_reported_without_a_run_ends_too(
    history: dg.DagsterInstance,
) -> None:
    open_runs = {
        create_run_for_test(history, job_name="sync_all", status=status).run_id
        for status in (
            dg.DagsterRunStatus.STARTED,
            dg.DagsterRunStatus.CANCELING,
            dg.DagsterRunStatus.NOT_STARTED,
        )
    }
    for run_id in open_runs:
        age(history, run_id, 400)
    for moment in range(3):
        history.report_runless_asset_event(dg.AssetMaterialization("told", description=str(moment)))
    storage: Any = history.event_log_storage
    with storage.index_connection() as connection:
        connection.execute(sql.text("UPDATE event_logs SET timestamp = '2025-01-01 00:00:00'"))
    assert prune(history) == open_runs
    assert count(history, "event_logs", "") == 1
    event = history.get_latest_materialization_event(dg.AssetKey("told"))
    assert event and event.asset_materialization
    assert event.asset_materialization.description == "2"


def test_what_is_left_of_runs_deleted_in_the_ui_goes(history: dg.DagsterInstance) -> None:
    gone, latest = run(history, 2, counted), run(history, 1, counted)
    history.delete_run(gone)
    assert count(history, "asset_check_executions", gone)
    assert prune(history) == {latest}
    assert not count(history, "asset_check_executions", gone)
    assert not [path for path in find_files(gone) if path.suffix == ".db"]


def test_days_are_a_setting_and_the_database_is_not_opened(
    history: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(duckdb, "connect", lambda *given, **options: opened.append(given))
    monkeypatch.setenv("INCIDENT_KEEP_RUNS_DAYS", "2.5")
    run(history, 3)
    young = run(history, 2)
    assert prune(history) == {young}
    assert not opened and not list(Path.cwd().rglob("*.duckdb*"))
