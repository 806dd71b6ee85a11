"""One writer at a time: runs that overlap wait for each other, and a busy database is tried again.

Only a busy database is: what failed at the API has been retried, request by request.
"""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from incident_assets.defs import ingestion
from incident_assets.demo.faults import Fault, hang, status
from incident_assets.demo.server import DemoApi
from incident_assets.warehouse.file import open_database
from incident_assets_tests.conftest import hold_database, read_rows, read_table
from incident_assets_tests.killing import start_run

LIVE = ("incidents", "incident_updates", "actions", "follow_ups")
Execute = Callable[..., dg.ExecuteInProcessResult]


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
    runs = [start_run(tmp_path, "load_live"), start_run(tmp_path, "load_live")]
    for run in runs:
        run.join(120)
    assert [run.exitcode for run in runs] == [0, 0]
    for name in LIVE:
        assert len(read_table(name)) == len(api.rows(name))
    log = read_rows(
        "SELECT run_id, min(started_at) AS began, max(finished_at) AS ended, count(*) AS n "
        "FROM incident_sync.log GROUP BY run_id ORDER BY began"
    )
    assert [row["n"] for row in log] == [len(LIVE)] * 2
    assert log[0]["ended"] <= log[1]["began"]


@pytest.mark.fault(
    "another process keeps the database",
    "waited for up to INCIDENT_LOCK_TIMEOUT, then tried again twice, then one message names it",
    "everything; nothing was requested",
)
def test_a_busy_database_alone_is_tried_again(
    api: DemoApi, execute: Execute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ingestion, "BUSY_POLICY", dg.RetryPolicy(max_retries=2))
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


def test_what_the_api_refused_is_not_tried_again(api: DemoApi, execute: Execute) -> None:
    api.inject(Fault(status(500), resource="users"))
    result = execute()
    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert api.count("users") == 4


def test_the_database_is_closed_between_the_steps(api: DemoApi, execute: Execute) -> None:
    @dg.asset(deps=[["incident_api", "users"]])
    def looks_inside() -> None:
        with open_database(Path("data/incidents.duckdb"), 1, "test") as connection:
            connection.execute("CREATE TABLE seen AS SELECT 1 AS i")
        with duckdb.connect("data/incidents.duckdb", read_only=True) as connection:
            assert connection.execute("SELECT count(*) FROM seen").fetchone() == (1,)

    assert execute(assets=[looks_inside]).success
