"""An account that is exported and imported is the same one, and half of one is none."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.account import AccountMismatch
from incident_assets.sync.run import run_sync
from incident_assets.warehouse import moving
from incident_assets.warehouse.file import DatabaseBusy, DatabaseError, find_last_use
from incident_assets.warehouse.moving import export_account, import_account
from incident_assets_tests.conftest import NAMES, hold_database, read_rows, run_command
from incident_assets_tests.moved import ask_for_changes, count_changes, kill_move, read_all
from incident_assets_tests.warehouse.test_storage import limit_files

FOLDER = Path("moved")
OF_ONES_OWN = """
    CREATE SCHEMA "my schema";
    CREATE TABLE "my schema"."a/b" (
        "an ""n""_" HUGEINT NOT NULL, later INTERVAL, moment TIMESTAMP_NS, clock TIMETZ, said JSON,
        kind ENUM ('a', 'b'), nested STRUCT(many HUGEINT[]), instant TIMESTAMPTZ, nothing UUID);
    INSERT INTO "my schema"."a/b" VALUES (
        170141183460469231731687303715884105727, '1 month 2 days 3.000001 seconds',
        '2026-01-01 00:00:00.123456789', '10:00:00+02', '{"a": 1.0}', 'b',
        {'many': [170141183460469231731687303715884105727]},
        '2026-01-01 00:00:00.123456+00', NULL);
    COMMENT ON TABLE "my schema"."a/b" IS 'It''s; mine';
    COMMENT ON COLUMN "my schema"."a/b".moment IS 'When';
    CREATE TABLE "my schema".empty (i INTEGER);
    CREATE SCHEMA incident_analytics;
    CREATE TABLE incident_analytics.dim_user AS SELECT 1 AS id;
"""


@pytest.fixture
def target(loaded: Settings) -> Settings:
    """The settings of a database that is not there yet."""
    return replace(loaded, duckdb_path="other/incidents.duckdb")


def has_tables(settings: Settings) -> bool:
    return settings.database.exists() and bool(read_all(settings))


@pytest.mark.slow
def test_an_account_that_was_moved_goes_on_as_if_it_had_not(
    api: DemoApi, loaded: Settings, target: Settings
) -> None:
    api.change("severities", api.rows("severities")[0]["id"], name="Renamed")
    run_sync(loaded, ["severities"])
    with duckdb.connect(str(loaded.database)) as connection:
        connection.execute(OF_ONES_OWN)
    FOLDER.mkdir()  # an empty one is taken
    made = export_account(loaded, FOLDER)
    assert import_account(target, FOLDER) == made
    for place in (loaded, target):
        at = "SELECT max(since) AS at FROM incident_history._period WHERE resource = 'severities'"
        (begun,) = read_rows(at, str(place.database))
        as_of = f"FROM incident_history.severities_as_of('{begun['at']}')"
        assert "Renamed" not in {row["name"] for row in read_rows(as_of, str(place.database))}
    before = read_all(loaded)
    assert read_all(target) == before
    assert len(before) > 20 and {"my schema.a/b", "incident_api._dlt_pipeline_state"} < {*before}
    assert "incident_analytics.dim_user" not in before
    files = [FOLDER, target.database, *FOLDER.iterdir()]
    assert [oct(file.stat().st_mode & 0o077) for file in files] == ["0o0"] * len(files)
    asked = ask_for_changes(target)
    assert asked == ask_for_changes(loaded)
    assert {"changes", "full"} == {listing for listing, *_ in asked.values()}
    assert count_changes(target) == 0


def test_the_manifest_says_what_is_there_and_whose(loaded: Settings) -> None:
    export_account(loaded, FOLDER)
    said = json.loads((FOLDER / "manifest.json").read_text())
    assert said["account"]["host"] == "127.0.0.1" and said["exported_at"].endswith("+00:00")
    assert said["duckdb"] == duckdb.__version__ and said["format"] == 1
    (incidents,) = (
        table
        for table in said["tables"]
        if (table["schema"], table["name"]) == ("incident_api", "incidents")
    )
    assert incidents["rows"] == 60
    types = {column["name"]: column["type"] for column in incidents["columns"]}
    assert types["_rescued"] == "JSON" and types["created_at"] == "TIMESTAMP WITH TIME ZONE"
    assert len(list(FOLDER.glob("*.parquet"))) == len(said["tables"])


def test_another_accounts_key_is_refused_after_a_move_too(
    loaded: Settings, target: Settings
) -> None:
    with duckdb.connect(str(loaded.database)) as connection:
        connection.execute("UPDATE incident_sync.account SET dashboard_url = 'https://another'")
    export_account(loaded, FOLDER)
    import_account(target, FOLDER)
    with pytest.raises(AccountMismatch, match="another"):
        run_sync(target, NAMES)


def test_neither_takes_the_place_of_anything(loaded: Settings, target: Settings) -> None:
    export_account(loaded, FOLDER)
    with pytest.raises(DatabaseError, match="moved is there, and not an empty folder"):
        export_account(loaded, FOLDER)
    before = read_all(loaded)
    with pytest.raises(DatabaseError, match=r"INCIDENT_DUCKDB_PATH\) holds incident_api\."):
        import_account(loaded, FOLDER)
    assert read_all(loaded) == before
    target.database.parent.mkdir()
    with duckdb.connect(str(target.database)) as connection:
        connection.execute("CREATE SCHEMA incident_analytics")
        connection.execute("CREATE VIEW incident_analytics.dim_user AS SELECT 1 AS id")
    with pytest.raises(DatabaseError, match=r"holds incident_analytics\.dim_user already"):
        import_account(target, FOLDER)
    assert not has_tables(target)


def test_without_an_account_there_is_nothing_to_export(loaded: Settings, target: Settings) -> None:
    with pytest.raises(DatabaseError, match="holds no account yet: sync first"):
        export_account(target, FOLDER)
    assert not target.database.parent.exists()
    with duckdb.connect(str(loaded.database)) as connection:
        connection.execute("DELETE FROM incident_sync.account")
    with pytest.raises(DatabaseError, match="holds no account yet: sync first"):
        export_account(loaded, FOLDER)
    assert not FOLDER.exists()


def test_a_database_in_use_is_waited_for_as_by_a_sync(
    loaded: Settings, target: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_locked = []

    def write(*args: Any) -> Any:
        is_locked.append(find_last_use(loaded.database) is None)
        return original(*args)

    original = moving._write_table
    monkeypatch.setattr(moving, "_write_table", write)
    export_account(loaded, FOLDER)
    assert is_locked and all(is_locked)
    with hold_database(loaded.database), pytest.raises(DatabaseBusy, match="nightly sync"):
        export_account(replace(loaded, lock_timeout=0), Path("again"))
    assert not Path("again").exists()
    with hold_database(target.database), pytest.raises(DatabaseBusy, match="nightly sync"):
        import_account(replace(target, lock_timeout=0), FOLDER)


@pytest.mark.parametrize("kind", ["missing", "cut short", "another's", "no manifest", "newer"])
def test_what_is_no_whole_export_is_not_imported(
    kind: str, loaded: Settings, target: Settings
) -> None:
    export_account(loaded, FOLDER)
    file, manifest = FOLDER / "incident_api.users.parquet", FOLDER / "manifest.json"
    match kind:
        case "missing":
            file.unlink()
        case "cut short":
            os.truncate(file, file.stat().st_size - 100)
        case "another's":
            shutil.copy(FOLDER / "incident_api.incidents.parquet", file)
        case "no manifest":
            manifest.unlink()
        case "newer":
            manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    whole = "users.parquet of moved is not there or not whole"
    said = {"no manifest": "moved holds no export", "newer": "newer incident-assets, 0"}
    with pytest.raises(DatabaseError, match=said.get(kind, whole)):
        import_account(target, FOLDER)
    assert not target.database.exists()


@pytest.mark.slow
@pytest.mark.fault(
    "an export or import is killed",
    "half an export is in a hidden folder of its own, half an import is undone",
    "the warehouse, and what was in place",
)
def test_a_kill_leaves_nothing_that_looks_whole(
    loaded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_all(loaded)
    for point, nth in (("_write_table", 9), ("write_manifest", 1)):
        assert kill_move("export_account", "moved", point, nth) == -9
        assert not FOLDER.exists()
    export_account(loaded, FOLDER)
    monkeypatch.setenv("INCIDENT_DUCKDB_PATH", "other/incidents.duckdb")
    assert kill_move("import_account", "moved", "_list_statements", 9) == -9
    target = read_settings()
    assert not has_tables(target)
    import_account(target, FOLDER)
    assert read_all(target) == before == read_all(loaded)


@pytest.mark.fault(
    "the disk fills during an export or import",
    "one message that names what could not be written",
    "the warehouse; nothing is left of the export",
)
def test_a_full_disk_is_said_and_leaves_nothing(loaded: Settings, target: Settings) -> None:
    with limit_files(4000), pytest.raises(DatabaseError, match=r"moved cannot be written: .*large"):
        export_account(loaded, FOLDER)
    assert not FOLDER.exists() and not list(Path().glob(".moved*"))
    export_account(loaded, FOLDER)
    with limit_files(100_000), pytest.raises(DatabaseError, match="INCIDENT_DUCKDB_PATH"):
        import_account(target, FOLDER)
    assert not has_tables(target)


def test_the_commands_say_what_they_moved_or_why_not(loaded: Settings) -> None:
    done = run_command("incident_assets", "export", "moved")
    assert done.returncode == 0 and " rows of " in done.stdout, done.stderr
    refused = run_command("incident_assets", "import", "moved")
    assert refused.returncode == 2 and "INCIDENT_DUCKDB_PATH" in refused.stderr
    assert "Traceback" not in refused.stderr
