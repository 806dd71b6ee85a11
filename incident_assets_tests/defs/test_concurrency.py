"""One writer at a time: runs that overlap wait for each other, and a busy database is tried again.

Only a busy database is: what failed at the API has been retried, request by request.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from filelock import FileLock

from incident_assets.build import build_definitions
from incident_assets.defs.duckdb import DuckDBResource
from incident_assets.defs.outcome import read_last_errors
from incident_assets.demo.faults import Fault, hang, status
from incident_assets.demo.server import DemoApi
from incident_assets.warehouse.file import DatabaseBusy, open_database
from incident_assets_tests.conftest import hold_database, read_rows, read_table
from incident_assets_tests.killing import start_run

LIVE = ("incidents", "incident_updates", "actions", "follow_ups")
NEEDED = ("incident_statuses", "incident_timestamps", "severities", "users")  # by its models
Execute = Callable[..., dg.ExecuteInProcessResult]


@pytest.mark.slow
@pytest.mark.fault(
    "two runs overlap, by schedule and by hand",
    "the second waits for the file lock of the first",
    "every row; both runs succeed",
)
def test_two_runs_at_once_both_succeed(
    api: DemoApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_LOCK_TIMEOUT", "100")
    # Dagster itself cannot make its own storage twice at once.
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get():
        api.inject(Fault(hang(1), resource="actions"))
    runs = [start_run(tmp_path, "sync_live"), start_run(tmp_path, "sync_live")]
    for run in runs:
        run.join(120)
    assert [run.exitcode for run in runs] == [0, 0]
    for name in LIVE:
        assert len(read_table(name)) == len(api.rows(name))
    log = read_rows(
        "SELECT run_id, min(started_at) AS began, max(finished_at) AS ended, count(*) AS n "
        "FROM incident_sync.log GROUP BY run_id ORDER BY began"
    )
    assert [row["n"] for row in log] == [len(LIVE + NEEDED), len(LIVE)]
    assert log[0]["ended"] <= log[1]["began"]
    # Nor do the steps after the sync, such as models, of one run lie between those of the other.
    with dg.DagsterInstance.get() as instance:
        written = [
            (entry.timestamp, entry.run_id)
            for run in instance.get_runs()
            for entry in instance.all_logs(
                run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
            )
        ]
    order = [run for _, run in sorted(written)]
    assert len(set(order)) == 2 and order == sorted(order, key=order.index)


@pytest.mark.slow
@pytest.mark.fault(
    "another run's resource fails at the same time, or a clock had jumped ahead",
    "each run is judged by its own rows of the log alone",
    "every row; the run that failed, failed",
)
def test_each_of_two_runs_at_once_is_judged_by_its_own(
    api: DemoApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_LOCK_TIMEOUT", "100")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get():
        api.inject(Fault(status(500), resource="users"))
    failing, healthy = start_run(tmp_path, "sync_reference"), start_run(tmp_path, "load_live")
    for run in (failing, healthy):
        run.join(120)
    assert (failing.exitcode, healthy.exitcode) == (1, 0)
    api.heal()
    # As if the failing run had been written by a clock that was a day ahead.
    with duckdb.connect("data/incidents.duckdb") as connection:
        moved = "finished_at = finished_at + INTERVAL 1 DAY"
        connection.execute(f"UPDATE incident_sync.log SET {moved}")
    run = start_run(tmp_path, "sync_reference")
    run.join(120)
    assert run.exitcode == 0
    with duckdb.connect("data/incidents.duckdb", read_only=True) as connection:
        assert read_last_errors(connection)["users"] is None


@pytest.mark.slow
@pytest.mark.fault(
    "another process keeps the database",
    "waited for up to INCIDENT_LOCK_TIMEOUT, then tried again twice, then one message names it",
    "everything; nothing was requested",
)
def test_a_busy_database_alone_is_tried_again(
    api: DemoApi, execute: Execute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INCIDENT_LOCK_TIMEOUT", "0.2")
    assert execute().success
    requests = api.count()
    with hold_database(tmp_path / "data" / "incidents.duckdb") as pid:
        result = execute()
    assert not result.success
    steps = [event for event in result.all_events if event.step_key == "sync"]
    assert sum(event.is_step_restarted for event in steps) == 2
    failure = next(event for event in steps if event.is_step_failure)
    assert f"process {pid} (nightly sync" in str(failure.event_specific_data.error)
    assert api.count() == requests
    assert execute().success


@pytest.mark.slow
def test_what_the_api_refused_is_not_tried_again(api: DemoApi, execute: Execute) -> None:
    api.inject(Fault(status(500), resource="users"))
    result = execute()
    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert api.count("users") == 4


@pytest.mark.slow
def test_a_run_takes_the_lock_once_and_opens_the_database_few_times(
    api: DemoApi, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, locked = [], []
    connect, acquire = duckdb.connect, FileLock.acquire

    def count_opening(path: str, *arguments: Any) -> duckdb.DuckDBPyConnection:
        opened.append(path)
        return connect(path, *arguments)

    def count_locking(lock: FileLock, *arguments: Any, **options: Any) -> Any:
        locked.append(lock.lock_file)
        return acquire(lock, *arguments, **options)

    monkeypatch.setattr(duckdb, "connect", count_opening)
    monkeypatch.setattr(FileLock, "acquire", count_locking)
    assert execute("sync_all").success
    assert len([path for path in locked if path.endswith("incidents.duckdb.lock")]) == 1
    assert 1 <= len(opened) <= 3


@pytest.mark.slow
def test_a_step_that_fails_in_a_transaction_leaves_nothing_to_the_next(
    api: DemoApi, execute: Execute
) -> None:
    tries = []

    @dg.asset(deps=[["incident_api", "users"]], retry_policy=dg.RetryPolicy(max_retries=1))
    def fails_once(duckdb: DuckDBResource) -> None:
        with duckdb.get_connection() as connection:
            connection.begin()
            connection.execute("CREATE TABLE half AS SELECT 1 AS i")
            connection.execute("SET threads = 1")
            tries.append(1)
            if len(tries) == 1:
                raise ZeroDivisionError
            connection.commit()

    @dg.asset(deps=[fails_once])
    def comes_next(duckdb: DuckDBResource) -> dg.MaterializeResult[Any]:
        with duckdb.get_connection() as connection:
            (rows,) = connection.execute("SELECT count(*) FROM half").fetchone() or (0,)
            connection.begin()  # refused inside another transaction
            (threads,) = connection.execute("SELECT current_setting('threads')").fetchone() or (0,)
        return dg.MaterializeResult(metadata={"rows": rows, "threads": threads})

    result = execute(assets=[fails_once, comes_next])
    assert result.success and len(tries) == 2
    (event,) = result.asset_materializations_for_node("comes_next")
    found = {name: value.value for name, value in event.metadata.items()}
    assert found["rows"] == 1
    with duckdb.connect() as fresh:
        assert fresh.execute("SELECT current_setting('threads')").fetchone() == (found["threads"],)


@pytest.mark.slow
def test_an_asset_that_needs_the_file_gets_it_while_the_lock_is_kept(
    api: DemoApi, execute: Execute
) -> None:
    look = "import duckdb, sys; print(duckdb.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"

    @dg.asset(deps=[["incident_api", "users"]])
    def looks_inside(duckdb: DuckDBResource) -> None:
        with duckdb.released() as path:
            with pytest.raises(DatabaseBusy), open_database(path, 0, "another"):
                raise AssertionError("the lock is not kept")
            count = "SELECT count(*) FROM incident_api.users"
            found = subprocess.check_output([sys.executable, "-c", look, str(path), count])
        assert found.decode().strip() == f"({len(api.rows('users'))},)"
        with duckdb.get_connection() as connection:
            connection.execute("CREATE TABLE seen AS SELECT 1 AS i")

    assert execute(assets=[looks_inside]).success
    assert read_rows("SELECT i FROM seen") == [{"i": 1}]


@pytest.mark.slow
def test_a_re_execution_that_asks_for_nothing_fails_again_and_says_what_to_start(
    api: DemoApi, instance: dg.DagsterInstance
) -> None:
    api.forbid("users")
    job = dg.reconstructable(build_raw_job)
    with dg.execute_job(job, instance=instance) as first:
        assert not first.success
    api.permit("users")
    api.reset_log()
    again = dg.ReexecutionOptions.from_failure(first.run_id, instance)
    with dg.execute_job(job, instance=instance, reexecution_options=again) as second:
        assert not second.success
        failure = next(event for event in second.all_node_events if event.is_step_failure)
    assert "materialise users again" in str(failure.event_specific_data)
    with dg.execute_job(job, instance=instance) as third:
        assert third.success


def build_raw_job() -> dg.JobDefinition:
    """Return a job of the raw assets, the log and its check."""
    raw = dg.AssetSelection.groups("reference") | dg.AssetSelection.assets("incident_sync/log")
    job = dg.define_asset_job("raw", raw)
    built = dg.Definitions.merge(build_definitions(), dg.Definitions(jobs=[job]))
    return built.resolve_job_def("raw")
