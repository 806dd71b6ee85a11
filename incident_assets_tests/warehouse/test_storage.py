"""A full disk and a read-only file system: the old data stays whole, and one error says why.

Small file systems of the test's own need root; a machine without skips those, CI may not.
"""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.io_manager import DuckDBIOManager
from incident_assets.demo.server import DemoApi
from incident_assets.settings import read_settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.file import DatabaseError, open_database
from incident_assets_tests.conftest import NAMES, publish
from incident_assets_tests.killing import read_database

Sync = Callable[..., dict[str, Outcome]]
SMALL = 32  # megabytes: room for the database, not for much more
GROWTH = 4000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system as the test's data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        reason = f"mounting a small file system needs root: {mounted.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def read_raw() -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of the raw tables; a load that failed may leave some in the staging area."""
    return read_database(schema="incident_api")


def grow(api: DemoApi) -> None:
    """Add more rows than the small disk has room for."""
    newest = api.rows("incidents")[-1]
    for number in range(GROWTH):
        api.add("incidents", {**newest, "id": f"I{number:08d}", "summary": os.urandom(4000).hex()})


def expect_failure(reason: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        run_sync(read_settings(), NAMES)
    text = str(caught.value)
    assert reason in text and "INCIDENT_DUCKDB_PATH" in text and "\n" not in text
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None


@pytest.mark.slow
@pytest.mark.fault(
    "the disk is full",
    "the sync fails with one message that names INCIDENT_DUCKDB_PATH",
    "everything that the database held",
)
def test_a_full_disk_leaves_the_old_data_whole(small_disk: Path, api: DemoApi, sync: Sync) -> None:
    sync()
    before = read_raw()
    grow(api)
    expect_failure("No space left on device")
    assert read_raw() == before
    for number in range(GROWTH):
        api.remove("incidents", f"I{number:08d}")
    assert not [outcome for outcome in sync().values() if outcome.failure]
    assert read_raw() == before


@contextmanager
def fill_disk(folder: Path, room: int) -> Iterator[None]:
    """Leave so many bytes free during the block."""
    ballast = folder / "ballast"
    ballast.write_bytes(b"\0" * max(0, _free(folder) - room))
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.slow
def test_a_disk_that_fills_while_loading_leaves_the_old_data_whole(
    small_disk: Path, api: DemoApi, sync: Sync
) -> None:
    sync()
    before = read_raw()
    for size in (2, 3, 4, 5, 6):
        # Wherever the room ends, in the spool, the staging copy, the log or the merge.
        with fill_disk(small_disk, size * 400_000):
            try:
                run_sync(read_settings(), NAMES)
            except DatabaseError as error:
                assert "No space left on device" in str(error)
        assert read_raw() == before
    publish(read_settings())


def _free(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


@pytest.mark.fault(
    "the file system is read-only",
    "the sync fails before any request, with one message that names INCIDENT_DUCKDB_PATH",
    "everything that the database held",
)
def test_a_read_only_file_system_is_named_before_any_row(
    small_disk: Path, api: DemoApi, sync: Sync
) -> None:
    sync("severities")
    before = read_raw()
    api.reset_log()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    expect_failure("Read-only file system")
    assert not api.requests
    assert read_raw() == before


@pytest.mark.slow
def test_a_limit_on_file_sizes_leaves_the_old_data_whole(api: DemoApi, sync: Sync) -> None:
    sync()
    before = read_raw()
    grow(api)
    with limit_files(6_000_000):
        expect_failure("")
    assert read_raw() == before


@contextmanager
def limit_files(size: int) -> Iterator[None]:
    """Let no file of this process be longer during the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.fault(
    "the disk fills while a model is built, a check runs or a frame is stored",
    "the step fails once with one message that names INCIDENT_DUCKDB_PATH; the next one goes on",
    "the tables of before",
)
@pytest.mark.parametrize("kind", ["rows", "temporary files", "checkpoint"])
def test_a_full_disk_is_said_wherever_it_is_met(
    kind: str, small_disk: Path, instance: dg.DagsterInstance
) -> None:
    warehouse = DuckDBResource()
    resources = {"duckdb": warehouse, "io_manager": DuckDBIOManager(warehouse=warehouse)}
    rows = pa.table({"i": range(200_000), "text": [os.urandom(100).hex() for _ in range(200_000)]})
    filling = {
        "rows": "INSERT INTO source SELECT i, sha256(text || r) FROM source, range(90) AS t(r)",
        "temporary files": "CREATE TABLE big AS SELECT t.* FROM source t, range(40) ORDER BY text",
        "checkpoint": "CHECKPOINT",  # after which the connection can do nothing more
    }

    @dg.asset
    def source() -> pa.Table:
        return rows.slice(0, 20_000)

    def fill(connection: duckdb.DuckDBPyConnection) -> None:
        memory = "50MB" if kind == "temporary files" else "1GB"
        connection.execute(f"SET memory_limit = '{memory}'; SET checkpoint_threshold = '1GB'")
        connection.execute("CREATE TABLE more AS FROM source")
        with fill_disk(small_disk, 20_000 if kind == "checkpoint" else SMALL << 20):
            connection.execute(filling[kind])

    retry = {"deps": [source], "retry_policy": dg.RetryPolicy(max_retries=3)}

    @dg.asset(**retry, op_tags={"dagster/priority": "2"})
    def ours(duckdb: DuckDBResource) -> None:  # as models and checks do
        with explain_errors(), duckdb.open_cursor() as connection:
            fill(connection)

    @dg.asset(**retry, op_tags={"dagster/priority": "1"})
    def frame() -> pa.Table:
        return pa.concat_tables([rows] * 4)

    @dg.asset(deps=[source])
    def after(duckdb: DuckDBResource) -> None:
        with duckdb.get_connection() as connection:
            assert connection.execute("SELECT count(*) FROM source").fetchone() == (20_000,)
            connection.execute("CREATE OR REPLACE TABLE seen AS SELECT 1 AS i")

    result = dg.materialize(
        [source, ours, frame, after], instance=instance, resources=resources, raise_on_error=False
    )
    assert not result.success
    failures = {
        event.step_key: event.step_failure_data.user_failure_data
        for event in result.filter_events(lambda event: event.is_step_failure)
    }
    assert failures.keys() == {"ours", "frame"}
    for failure in failures.values():
        assert failure and "INCIDENT_DUCKDB_PATH" in str(failure.description)
        assert "\n" not in str(failure.description)
    assert not result.filter_events(lambda event: event.is_step_restarted)
    with open_database(Path("data/incidents.duckdb"), 0, "a test") as connection:
        assert connection.execute("SELECT count(*) FROM source").fetchone() == (20_000,)
        assert connection.execute("FROM seen").fetchone() == (1,)


def test_what_else_fails_in_a_block_is_not_called_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "incidents.duckdb"
    with (
        pytest.raises(duckdb.IOException, match="No files found"),
        open_database(path, 0, "a test") as connection,
    ):
        connection.execute("FROM read_csv('nowhere.csv')")
