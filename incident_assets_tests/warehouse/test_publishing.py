"""The published copy: always whole, never in the way of a sync, and for reading only."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.log import Outcome
from incident_assets.warehouse.file import DatabaseError
from incident_assets_tests.conftest import publish
from incident_assets_tests.killing import read_database, run_to_end

Sync = Callable[..., dict[str, Outcome]]
COPY = "data/incidents.published.duckdb"
HOLD = """\
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
for line in sys.stdin:
    print(connection.execute("SELECT count(*) FROM incident_api.follow_ups").fetchone()[0])
    sys.stdout.flush()
"""
READ = """\
import sys, duckdb
seen, path = set(), sys.argv[1]
while "stop" not in seen:
    with duckdb.connect(path, read_only=True) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM incident_api.{name}").fetchone()[0]
            for name in ("first", "second")
        ]
    assert counts[0] == counts[1], counts
    if counts[0] not in seen:
        seen.add(counts[0])
        print(counts[0], flush=True)
"""


@contextmanager
def run_python(script: str, path: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a script beside the test until the block ends."""
    command = [sys.executable, "-c", script, path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


def ask(holder: "subprocess.Popen[str]") -> int:
    """Let the reader count the follow-ups on the connection that it holds."""
    assert holder.stdin and holder.stdout
    holder.stdin.write("\n")
    holder.stdin.flush()
    return int(holder.stdout.readline())


@pytest.mark.fault(
    "an analyst keeps the published copy open for days",
    "syncs go on; who reconnects sees the new copy",
    "the open connection keeps what it opened",
)
def test_a_reader_of_the_copy_blocks_nobody(api: DemoApi, tmp_path: Path) -> None:
    run_to_end(tmp_path, "load_live")
    before = len(api.rows("follow_ups"))
    with run_python(HOLD, COPY) as holder:
        assert ask(holder) == before
        for number in range(1, 4):
            api.add("follow_ups")
            run_to_end(tmp_path, "load_live")
            assert ask(holder) == before
            assert len(read_database(COPY)["incident_api.follow_ups"]) == before + number
    assert read_database(COPY) == read_database()


@pytest.mark.fault(
    "a reader opens the copy while it is published",
    "the new copy takes the old one's place at once",
    "a whole database, old or new",
)
def test_a_reader_never_sees_half_a_copy(settings: Settings) -> None:
    settings.database.parent.mkdir()
    with duckdb.connect(str(settings.database)) as connection:
        connection.execute("CREATE SCHEMA incident_api")
        for name in ("first", "second"):
            connection.execute(f"CREATE TABLE incident_api.{name} (i INT)")
    publish(settings)
    with run_python(READ, COPY) as reader:
        assert reader.stdout
        for number in range(1, 8):
            with duckdb.connect(str(settings.database)) as connection:
                for name in ("first", "second"):
                    connection.execute(f"INSERT INTO incident_api.{name} FROM range(100_000)")
            publish(settings)
            while (line := reader.stdout.readline()) != f"{number * 100_000}\n":
                assert line.strip().isdigit(), line + reader.stdout.read()


def test_the_copy_is_for_reading_by_its_owner_and_has_no_log(
    sync: Sync, settings: Settings
) -> None:
    sync("severities")
    Path(f"{COPY}.wal").write_bytes(b"left by a writer of an older copy")
    size = publish(settings)
    assert size == Path(COPY).stat().st_size
    assert Path(COPY).stat().st_mode & 0o777 == 0o400
    assert {path.name for path in Path("data").iterdir()} == {
        "incidents.duckdb",
        "incidents.duckdb.lock",
        "incidents.published.duckdb",
    }
    assert read_database(COPY) == read_database()


def test_the_copy_goes_where_the_setting_says(
    sync: Sync, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sync("severities")
    target = tmp_path / "shared" / "copy.duckdb"
    monkeypatch.setenv("INCIDENT_PUBLISHED_PATH", str(target))
    publish(read_settings())
    assert read_database(str(target)) == read_database()
    assert not Path(COPY).exists()


@pytest.mark.fault(
    "the copy cannot be written",
    "the run fails with one message that names INCIDENT_PUBLISHED_PATH",
    "the copy of before, and all rows in the database",
)
def test_a_copy_that_fails_leaves_the_old_one(
    sync: Sync, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync("severities")
    publish(settings)
    before = read_database(COPY)
    sync("users")

    def fill_the_disk(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", fill_the_disk)
        with pytest.raises(DatabaseError, match=r"INCIDENT_PUBLISHED_PATH.*No space left"):
            publish(settings)
    assert read_database(COPY) == before
    assert not [path for path in Path("data").iterdir() if path.name.startswith(".")]
    publish(settings)
    assert read_database(COPY) == read_database()
