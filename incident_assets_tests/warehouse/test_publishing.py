"""The published copy: always whole, never in the way of a sync, and for reading only."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.file import DatabaseError
from incident_assets_tests.conftest import publish, read_rows
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
def open_copy():
    try:
        return duckdb.connect(path, read_only=True)
    except duckdb.IOException:  # replaced while DuckDB opened it, which opens again for the blocks
        return duckdb.connect(path, read_only=True)
while "stop" not in seen:
    with open_copy() as connection:
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


HEADERS = 3 * 4096  # bytes that DuckDB 2 reads from a handle of their own, before the blocks


@pytest.mark.slow
@pytest.mark.fault(
    "a reader opens the copy in the moment in which it is replaced",
    "DuckDB may refuse it, since it reads header and blocks from two handles; the next try opens",
    "a whole database, old or new, or an error: never half of each",
)
def test_the_header_of_one_copy_never_opens_the_blocks_of_another(
    sync: Sync, api: DemoApi, settings: Settings, tmp_path: Path
) -> None:
    mixed, opened = tmp_path / "mixed.duckdb", 0
    header = b""
    for _ in range(10):
        sync("follow_ups", "severities")
        publish(settings)
        copy = Path(COPY).read_bytes()
        mixed.write_bytes((header or copy[:HEADERS]) + copy[HEADERS:])
        header = copy[:HEADERS]
        with suppress(duckdb.Error):
            assert read_database(str(mixed)) == read_database(COPY)
            opened += 1
        api.add("follow_ups")
    assert opened  # the first, whose header is its own


@pytest.mark.slow
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
        "incidents.duckdb.newest.json",
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


@pytest.mark.fault(
    "the published path leads to something that is no copy of this database",
    "the run fails with one message that names INCIDENT_PUBLISHED_PATH",
    "what is there, byte for byte, another account's database included",
)
@pytest.mark.parametrize(
    "kind", ["text", "database", "own sister", "another's copy", "another's old copy"]
)
def test_only_a_copy_of_this_database_is_replaced(
    kind: str, sync: Sync, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    another = replace(settings, duckdb_path="data/another.duckdb", published=COPY)
    unused = {"published": "data/unused.duckdb", "report": "data/unused.html"}
    if kind == "text":
        Path("data").mkdir()
        Path(COPY).write_text("not a database" * 500)
    elif kind == "database":
        run_sync(replace(settings, duckdb_path=COPY, **unused), ["users"])
    elif kind == "own sister":  # made of a copy, and written since
        sync("users")
        publish(settings)
        Path(COPY).chmod(0o600)
        run_sync(replace(settings, duckdb_path=COPY, **unused), ["users"])
    else:
        run_sync(another, ["users"])
        publish(another)
        if kind == "another's old copy":
            forget_id(COPY)
    before = Path(COPY).read_bytes()
    sync("severities")
    with pytest.raises(
        DatabaseError, match=r"INCIDENT_PUBLISHED_PATH.* is no copy of this database"
    ):
        publish(settings)
    assert Path(COPY).read_bytes() == before
    folder = tmp_path_factory.mktemp("folder")
    with pytest.raises(DatabaseError, match="no copy of this database"):
        publish(replace(settings, published=str(folder)))


def forget_id(path: str) -> None:
    """Make of a copy what the program before, which gave no ids, would have published."""
    Path(path).chmod(0o600)
    with duckdb.connect(path) as connection:
        connection.execute("DROP TABLE incident_sync.database_id")
    Path(path).chmod(0o400)


def test_a_copy_of_the_program_before_is_replaced_by_the_database_it_is_of(
    sync: Sync, settings: Settings
) -> None:
    sync("severities")
    publish(settings)
    forget_id(COPY)
    sync("users")
    publish(settings)
    assert read_database(COPY) == read_database()


def test_a_database_keeps_its_id_and_its_copy_carries_it(sync: Sync, settings: Settings) -> None:
    sync("severities")
    publish(settings)
    query = "SELECT id FROM incident_sync.database_id"
    ids = read_rows(query, COPY)
    sync("severities")
    publish(settings)
    assert read_rows(query) == read_rows(query, COPY) == ids


def test_a_database_put_back_from_its_copy_replaces_a_newer_copy(
    sync: Sync, settings: Settings
) -> None:
    sync("severities")
    publish(settings)
    backup = Path(COPY).read_bytes()
    sync("users")
    publish(settings)
    settings.database.write_bytes(backup)
    publish(settings)
    assert read_database(COPY) == read_database()


def test_an_empty_file_is_replaced(sync: Sync, settings: Settings) -> None:
    sync("severities")
    Path(COPY).touch()
    publish(settings, keep_previous=True)
    assert read_database(COPY) == read_database()
    assert not settings.previous_copy.exists()


@pytest.mark.parametrize("exists", [True, False])
def test_what_a_link_leads_to_is_replaced_and_not_the_link(
    exists: bool, sync: Sync, settings: Settings, tmp_path: Path
) -> None:
    sync("severities")
    if exists:
        publish(settings)
        Path(COPY).rename(tmp_path / "real.duckdb")
    Path(COPY).symlink_to(tmp_path / "real.duckdb")
    sync("users")
    publish(settings)
    assert Path(COPY).is_symlink() and not (tmp_path / "real.duckdb").is_symlink()
    assert read_database(str(tmp_path / "real.duckdb")) == read_database()


@pytest.mark.fault(
    "rows were dropped or a loss was accepted, and it was a mistake",
    "the copy of before is kept beside the new one, as `….previous.duckdb`",
    "every row that was published before",
)
def test_the_copy_of_before_is_kept_where_it_is_asked_for(
    sync: Sync, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync("severities")
    publish(settings, keep_previous=True)
    assert not settings.previous_copy.exists()
    states = [read_database(COPY)]
    for name in ("users", "workflows"):
        sync(name)
        publish(settings, keep_previous=True)
        assert read_database(str(settings.previous_copy)) == states[-1]
        states.append(read_database(COPY))
        assert states[-1] == read_database()
    assert settings.previous_copy == Path("data/incidents.published.previous.duckdb")
    assert settings.previous_copy.stat().st_mode & 0o777 == 0o400
    # Once it is there, it stays until the next time; and where the file system knows no links too.
    publish(settings)
    assert read_database(str(settings.previous_copy)) == states[-2]

    def refuse(*_: object) -> None:
        raise OSError(1, os.strerror(1))

    monkeypatch.setattr(os, "link", refuse)
    publish(settings, keep_previous=True)
    assert read_database(str(settings.previous_copy)) == states[-1]
    assert not [path for path in Path("data").iterdir() if path.name.startswith(".")]


def test_the_copy_of_before_takes_the_place_of_nothing_else(sync: Sync, settings: Settings) -> None:
    sync("severities")
    publish(settings)
    before = Path(COPY).read_bytes()
    settings.previous_copy.write_text("mine")
    with pytest.raises(DatabaseError, match="no copy of this database"):
        publish(settings, keep_previous=True)
    assert settings.previous_copy.read_text() == "mine" and Path(COPY).read_bytes() == before


def test_there_is_a_copy_at_every_moment(
    sync: Sync, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync("severities")
    publish(settings)
    before, seen = read_database(COPY), []
    rename = Path.replace

    def look(path: Path, target: Path) -> Path:
        seen.append(read_database(COPY))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", look)
    sync("users")
    publish(settings, keep_previous=True)
    assert seen[-2:] == [before] * 2  # one rename keeps it, one puts the new one in its place
