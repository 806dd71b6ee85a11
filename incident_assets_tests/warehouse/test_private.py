"""Files and folders of ours are for their owner alone, and no link leads them astray."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from incident_assets.demo.place import prepare_folder
from incident_assets.settings import Settings
from incident_assets.sync.log import Outcome
from incident_assets.warehouse.file import DatabaseError, open_database
from incident_assets.warehouse.private import close_folder, keep_file, make_private
from incident_assets_tests.conftest import publish, run_command

Sync = Callable[..., dict[str, Outcome]]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def open_handed() -> Iterator[None]:
    """Let everybody read what is made, as a careless shell does."""
    before = os.umask(0)
    yield
    assert os.umask(before) == 0, "the umask was not set back"


def find_open(folder: Path) -> dict[str, str]:
    """Return what in a folder others may look at, with its mode."""
    found = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return {str(x): oct(x.stat().st_mode & 0o777) for x in found if x.stat().st_mode & 0o077}


@pytest.mark.fault(
    "somebody else made the data folder, open to all",
    "it is closed to others before anything is written into it, if nothing else is in it",
    "rows, logs and working files are for their owner alone",
)
def test_all_that_is_written_is_for_its_owner_alone(sync: Sync, settings: Settings) -> None:
    Path("data").mkdir(mode=0o755)
    sync("users")
    publish(settings)
    assert not find_open(Path("data"))
    # Its log and temporary files are DuckDB's own.
    with open_database(settings.database, 0, "a test") as connection:
        connection.execute("SET memory_limit = '20MB'")
        connection.execute("CREATE TABLE log AS SELECT 1 AS i")
        connection.execute(
            "CREATE TEMP TABLE big AS SELECT i, repeat('x', 200) || i AS s FROM range(300_000) t(i)"
        )
        names = {path.name for path in Path("data").iterdir()}
        assert {"incidents.duckdb.wal", "incidents.duckdb.tmp"} <= names
        assert not find_open(Path("data"))


def test_in_a_folder_with_other_things_our_files_are_closed_alone(
    sync: Sync, settings: Settings
) -> None:
    Path("data").mkdir(mode=0o755)
    Path("data/notes.txt").write_text("of somebody else")
    with open_database(settings.database, 0, "a test") as connection:
        connection.execute("CREATE TABLE log AS SELECT 1 AS i")
        assert Path("data/incidents.duckdb.wal").exists()
        assert find_open(Path("data")).keys() == {"data", "data/notes.txt"}


@pytest.mark.parametrize("place", [".", "..", "~", "/var", "linked"])
def test_a_folder_that_is_not_ours_is_left_alone(place: str) -> None:
    Path.home().mkdir(mode=0o755)
    Path("target").mkdir(mode=0o755)
    Path("linked").symlink_to("target")
    folder = Path(place).expanduser()
    before = folder.stat().st_mode
    try:
        close_folder(folder)
        close_folder(folder, "incidents")
        assert folder.stat().st_mode == before
    finally:
        if folder.stat().st_mode != before:
            folder.chmod(before)


def test_dagsters_own_files_are_closed_by_the_first_run(
    api: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its daemon and web server have made their files before, wherever the database is.
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("INCIDENT_DUCKDB_PATH", "elsewhere/incidents.duckdb")
    Path("dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    job = ["job", "execute", "-m", "incident_assets.definitions", "-j", "check_freshness"]
    assert run_command("dagster", *job).returncode == 0
    assert Path("data/dagster").stat().st_mode & 0o777 == 0o700
    assert list(Path("data/dagster").rglob("*.db"))


def test_the_demos_folder_is_closed(tmp_path: Path) -> None:
    Path("data/demo/dagster_home").mkdir(parents=True)
    prepare_folder()
    assert not [x for x in find_open(Path("data")) if Path(x).is_dir()]


def test_two_databases_at_once_leave_the_umask_as_it_was() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with make_private():
            entered.set()
            leave.wait(30)

    other = threading.Thread(target=hold)
    with make_private():
        other.start()
        assert entered.wait(30)
    Path("still").touch()
    assert Path("still").stat().st_mode & 0o777 == 0o600
    leave.set()
    other.join()


@pytest.mark.fault(
    "a link stands where a lock's holder or a working folder is written",
    "the link goes, and what it leads to stays; a lock that is a link is refused",
    "what the links lead to",
)
def test_no_link_is_followed(sync: Sync, settings: Settings, tmp_path: Path) -> None:
    Path("data").mkdir()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    Path("data/incidents.duckdb.holder").symlink_to(precious / "file")
    Path("data/incidents.duckdb.work").symlink_to(precious)
    with open_database(settings.database, 0, "a test"):
        holder = Path("data/incidents.duckdb.holder")
        assert not holder.is_symlink() and "a test" in holder.read_text()
    assert sync("users")["users"].failure is None
    assert (precious / "file").read_text() == "kept"
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert not Path("data/incidents.duckdb.work").is_symlink()
    Path("data/incidents.duckdb.lock").unlink()
    Path("data/incidents.duckdb.lock").symlink_to(precious / "file")
    with pytest.raises(DatabaseError, match="INCIDENT_DUCKDB_PATH"):
        sync("users")
    assert (precious / "file").read_text() == "kept"


@pytest.mark.fault(
    "DuckDB is newer than the tools that read the copy",
    "new databases are made in a format that DuckDB 1.4 reads, and keep it",
    "databases of before stay as they are",
)
def test_a_new_database_has_a_format_that_older_tools_read(sync: Sync, settings: Settings) -> None:
    sync("users")
    publish(settings)
    assert read_format("data/incidents.duckdb") == "v1.2.0+"
    assert read_format("data/incidents.published.duckdb") == "v1.2.0+"


def test_a_database_that_is_there_keeps_its_format(sync: Sync, settings: Settings) -> None:
    Path("data").mkdir()
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'data/incidents.duckdb' AS old (STORAGE_VERSION 'v1.0.0')")
    sync("users")
    assert read_format("data/incidents.duckdb") == "v1.0.0+"


def test_a_second_name_of_a_file_may_be_its_name_already() -> None:
    Path("copy").write_text("rows")
    for _ in range(2):  # as where publishing failed after that, and is tried again
        keep_file(Path("copy"), Path("previous"))
    assert Path("previous").samefile("copy") and not Path(".previous.fresh").exists()


def read_format(path: str) -> Any:
    with duckdb.connect(path, read_only=True) as connection:
        query = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal"
        return (connection.execute(query).fetchone() or (None,))[0]
