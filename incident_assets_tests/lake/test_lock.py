"""Who may write a lake, and who waits for nobody: the lock, readers, users' assets, kills."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from incident_assets.build import build_definitions
from incident_assets.defs.duckdb import DuckDBResource
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.commits import transact
from incident_assets.warehouse.file import DatabaseBusy, DatabaseError
from incident_assets.warehouse.lake import Lake
from incident_assets.warehouse.upkeep import keep_lake
from incident_assets_tests.cluster import Cluster
from incident_assets_tests.conftest import NAMES
from incident_assets_tests.killing import POINTS, read_database, start_run
from incident_assets_tests.lake.test_lake import change, read_lake

FEW = ("merge", "after the merges", "before the log")


@contextmanager
def hold_lake(purpose: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Have another process hold the lake's lock."""
    hold = (
        "import sys\n"
        "from incident_assets.settings import read_settings\n"
        "from incident_assets.warehouse.place import find_warehouse\n"
        f"with find_warehouse(read_settings()).lock(5, {purpose!r}):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        yield holder
        with suppress(BrokenPipeError):
            holder.communicate()


def test_who_has_a_lake_is_named_and_free_once_killed(lake: Lake) -> None:
    assert lake.find_last_use() == 0
    with hold_lake("nightly sync") as holder:
        named = rf"in use by process {holder.pid} on .* \(nightly sync, since 20\d\d-.* UTC\)"
        with pytest.raises(DatabaseBusy, match=named), lake.open(0.3, "a test"):
            pass
        assert lake.find_last_use() is None
        holder.kill()
        holder.wait()
        with lake.lock(5, "a test"):
            pass
    used = lake.find_last_use()
    assert used is not None and abs(used - time.time()) < 60


def test_two_syncs_at_once_go_one_after_the_other(lake: Lake, file_settings: Settings) -> None:
    failures: list[Any] = []

    def sync() -> None:
        try:
            failures.extend(x.failure for x in run_sync(read_settings(), NAMES) if x.failure)
        except Exception as error:
            failures.append(error)

    # A process's settings of dlt are one, so the other sync is a process.
    command = [sys.executable, "-W", "ignore", "-m", "incident_assets", "sync"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as other:
        sync()
        _, said = other.communicate()
    assert (failures, other.returncode) == ([], 0), said
    run_sync(file_settings, NAMES)
    assert read_lake(lake, "incident_api") == read_database(
        file_settings.duckdb_path, "incident_api"
    )


def test_nothing_is_committed_once_the_lock_is_lost(lake: Lake, cluster: Cluster) -> None:
    count = "SELECT count(*) FROM main.kept"
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    with (
        pytest.raises(DatabaseError, match=r"the lock of the lake .* was lost"),
        lake.open(5, "a test") as connection,
    ):
        connection.execute("CREATE TABLE main.kept (id INTEGER)")
        with transact(connection):
            connection.execute("INSERT INTO main.kept VALUES (1)")
            cluster.run(end)
    with lake.open(5, "a test", read_only=True) as connection:
        assert connection.execute(count).fetchall() == [(0,)]


def test_readers_and_a_users_asset_wait_for_no_sync(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    run_sync(read_settings(), NAMES)
    monkeypatch.setenv("INCIDENT_LOCK_TIMEOUT", "0")

    @dg.asset(
        key=["team", "severities"],
        ins={"rows": dg.AssetIn(["incident_api", "severities"])},
    )
    def severities(duckdb: DuckDBResource, rows: pa.Table) -> pa.Table:
        with duckdb.get_connection() as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS own")
            connection.execute("CREATE OR REPLACE TABLE own.one AS SELECT 1 AS id")
        return rows.select(["id"])

    job = dg.define_asset_job("own", dg.AssetSelection.assets(severities))
    definitions = dg.Definitions.merge(
        build_definitions(assets=[severities]), dg.Definitions(jobs=[job])
    )
    with hold_lake("a sync that takes long"):
        result = definitions.resolve_job_def("own").execute_in_process(
            instance=instance, raise_on_error=False
        )
        assert result.success
        tables = read_lake(lake)
    assert len(tables["team.severities"]) == len(tables["incident_api.severities"])
    assert tables["own.one"] == [(1,)]


def test_readers_during_syncs_see_whole_tables(lake: Lake, api: DemoApi) -> None:
    run_sync(read_settings(), NAMES)
    done, seen, errors = threading.Event(), [], []

    def read() -> None:
        try:
            with lake.open(0, "a test", read_only=True) as connection:
                while not done.is_set():
                    sql = "SELECT count(*), count(DISTINCT id) FROM incident_api.incidents"
                    seen.extend(connection.execute(sql).fetchall())
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    change(api)
    command = [sys.executable, "-W", "ignore", "-m", "incident_assets", "sync"]
    for options in ([], ["--full-refresh"]):
        result = subprocess.run([*command, *options], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-500:]
    done.set()
    for reader in readers:
        reader.join(60)
    assert (errors, {*seen}) == ([], {(60, 60)})


def test_upkeep_lets_go_of_the_old_and_takes_nothing_from_a_reader(
    lake: Lake, api: DemoApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_LAKE_KEEP_DAYS", "0.0000001")
    settings = read_settings()
    for _ in range(2):
        run_sync(settings, NAMES)
        change(api)
    sql = "SELECT id, name FROM incident_api.incidents ORDER BY id"
    with lake.open(0, "a test", read_only=True) as connection:
        connection.begin()
        before = connection.execute(sql).fetchall()
        held = keep_lake(lake, settings, "upkeep")
        assert connection.execute(sql).fetchall() == before
        connection.rollback()
        assert connection.execute(sql).fetchall() == before
    assert held.expired > 10 and held.after < held.before and held.deleted == 0
    assert keep_lake(lake, settings, "upkeep", grace="0 seconds").deleted > 10
    files = [*Path(lake.data).rglob("*.parquet")]
    assert len(files) == held.after
    with lake.open(0, "a test", read_only=True) as connection:
        assert connection.execute(sql).fetchall() == before


def test_the_upkeeps_job_is_there_with_a_lake_and_on(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sync(read_settings(), ["severities"])
    definitions = build_definitions()
    schedule = definitions.resolve_schedule_def("keep_lake_schedule")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    job = definitions.resolve_job_def("keep_lake")
    assert job.execute_in_process(instance=instance).success
    monkeypatch.delenv("INCIDENT_LAKE_CATALOG")
    monkeypatch.delenv("INCIDENT_LAKE_DATA")
    names = {job.name for job in build_definitions().resolve_all_job_defs()}
    assert "keep_lake" not in names


def age(lake: Lake) -> None:
    """Make each row another one than the API's, so that a sync merges every table."""
    with lake.open(20, "a test") as connection:
        tables = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'incident_api' "
            "AND NOT starts_with(table_name, '_')"
        ).fetchall()
        for (name,) in tables:
            connection.execute(f"""UPDATE incident_api.{name} SET _rescued = '{{"aged": 1}}'""")


def kill_and_run_again(
    points: Iterable[str], lake: Lake, file_settings: Settings, folder: Path
) -> int:
    """Kill a run at each of these points, run it again, and return the tables that differ."""
    first = start_run(folder, "load_live")
    first.join(300)
    run_sync(file_settings, NAMES)
    expected = read_database(file_settings.duckdb_path, "incident_api")
    differences = 0
    for point in points:
        age(lake)
        for at, code in ((point, -9), (None, 0)):
            run = start_run(folder, "load_live", at)
            run.join(300)
            assert (point, run.exitcode) == (point, code)
        found = read_lake(lake, "incident_api")
        assert len(found) > 3
        differences += sum(rows != expected[name] for name, rows in found.items())
    return differences


def test_a_killed_run_leaves_nothing_to_repair(
    lake: Lake, file_settings: Settings, tmp_path: Path
) -> None:
    assert kill_and_run_again(FEW, lake, file_settings, tmp_path) == 0


@pytest.mark.long
def test_nine_killed_runs_leave_nothing_to_repair(
    lake: Lake, file_settings: Settings, tmp_path: Path
) -> None:
    assert kill_and_run_again([*POINTS][:9], lake, file_settings, tmp_path) == 0
