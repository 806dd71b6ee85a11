"""An account goes from a file into a lake and back, and nobody waits for it longer than needed."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from incident_assets.settings import Settings, read_settings
from incident_assets.sync.run import run_sync
from incident_assets.warehouse import moving
from incident_assets.warehouse.file import DatabaseBusy, DatabaseError
from incident_assets.warehouse.lake import Lake
from incident_assets.warehouse.moving import export_account, import_account
from incident_assets_tests.moved import ask_for_changes, count_changes, kill_move, read_all
from incident_assets_tests.test_examples import find_blocks, name_command

OF_ONES_OWN = """
    CREATE SCHEMA mine;
    CREATE TABLE mine.sums (n HUGEINT NOT NULL, "when" TIMESTAMP_NS, said JSON);
    INSERT INTO mine.sums VALUES (1234567890, '2026-01-01 00:00:00.123456789', '[1]');
"""


@pytest.fixture
def filled(file_settings: Settings, synced_database: Path) -> Settings:
    """The settings of a file that has been synced with the bundled API."""
    file_settings.database.parent.mkdir(mode=0o700)
    shutil.copy(synced_database, file_settings.database)
    return file_settings


def test_an_account_goes_into_a_lake_and_back(
    lake: Lake, filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with duckdb.connect(str(filled.database)) as connection:
        connection.execute(OF_ONES_OWN)
    export_account(filled, Path("out"))
    import_account(read_settings(), Path("out"))
    before = read_all(filled)
    assert read_all(read_settings()) == before
    with pytest.raises(DatabaseError, match=r"INCIDENT_LAKE_CATALOG\) holds incident_api"):
        import_account(read_settings(), Path("out"))
    is_free = []

    def write(*args: Any) -> Any:
        is_free.append(lake.find_last_use() is not None)
        return original(*args)

    original = moving._write_table
    monkeypatch.setattr(moving, "_write_table", write)
    export_account(read_settings(), Path("back"))
    assert all(is_free) and is_free  # writers wait for nothing but its beginning
    back = replace(filled, duckdb_path="back.duckdb")
    import_account(back, Path("back"))
    assert read_all(back) == before
    assert ask_for_changes(read_settings()) == ask_for_changes(back)
    assert count_changes(read_settings()) == 0


def test_the_docs_lead_from_a_file_into_a_lake(
    lake: Lake, file_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = (block for block in find_blocks("sh") if "export moved" in block)
    address = "postgres:dbname=incidents host=db.example.com user=incidents"
    assert address in example and "=/srv/incidents " in example
    example = example.replace(address, lake.catalog).replace("/srv/incidents", lake.data)
    settings = read_settings()
    for name in ("INCIDENT_LAKE_CATALOG", "INCIDENT_LAKE_DATA"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("INCIDENT_DUCKDB_PATH", file_settings.duckdb_path)
    run_sync(file_settings, ["severities"])
    subprocess.run(["sh", "-ec", name_command(example)], check=True)
    assert read_all(settings) == read_all(file_settings)


def test_a_killed_import_leaves_the_lake_empty(lake: Lake, filled: Settings) -> None:
    export_account(filled, Path("out"))
    with lake.open(0, "nightly sync"), pytest.raises(DatabaseBusy, match="nightly sync"):
        import_account(replace(read_settings(), lock_timeout=0), Path("out"))
    assert kill_move("import_account", "out", "_list_statements", 9) == -9
    assert not read_all(read_settings())
    import_account(read_settings(), Path("out"))
    assert read_all(read_settings()) == read_all(filled)


def test_what_a_lake_cannot_hold_is_refused(lake: Lake, file_settings: Settings) -> None:
    run_sync(file_settings, ["severities"])
    with duckdb.connect(str(file_settings.database)) as connection:
        connection.execute("CREATE TABLE sums AS SELECT 12345678901234567890::HUGEINT AS n")
    export_account(file_settings, Path("out"))
    with pytest.raises(DatabaseError, match=r"main\.sums.*would hold other values.*\(n\)"):
        import_account(read_settings(), Path("out"))
    assert not read_all(read_settings())


def test_a_lake_in_use_is_waited_for(lake: Lake) -> None:
    impatient = replace(read_settings(), lock_timeout=0)
    with pytest.raises(DatabaseError, match="holds no account yet"):
        export_account(impatient, Path("out"))
    with lake.open(0, "nightly sync"), pytest.raises(DatabaseBusy, match="nightly sync"):
        export_account(impatient, Path("out"))
    assert not Path("out").exists()
