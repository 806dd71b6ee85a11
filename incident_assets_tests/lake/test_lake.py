"""A lake holds what a file does: raw tables, models, log; by every kind of sync."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.file import DatabaseError
from incident_assets.warehouse.lake import Lake
from incident_assets_tests.cluster import Cluster, count_statements
from incident_assets_tests.conftest import NAMES, run_command
from incident_assets_tests.killing import read_database, read_tables

MOST_STATEMENTS = 300  # of ours, beside those of dlt's run


def read_lake(lake: Lake, schema: str = "%") -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, as `read_database` does of a file."""
    with lake.open(0, "a test", read_only=True) as connection:
        return read_tables(connection, schema)


def change(api: DemoApi) -> None:
    """Rename two incidents and remove a follow-up."""
    for row in api.rows("incidents")[:2]:
        api.change("incidents", row["id"], name="Renamed")
    api.remove("follow_ups", api.rows("follow_ups")[0]["id"])


def test_sync_all_into_a_lake_ends_as_into_a_file(
    lake: Lake, execute: Callable[..., Any], file_settings: Settings, monkeypatch: Any
) -> None:
    into_lake = execute("sync_all")
    assert into_lake.success
    copy = into_lake.asset_materializations_for_node("incident_sync__published_copy")[0]
    assert "none" in str(copy.metadata["copy"].value)
    assert not Path("data/incidents.duckdb").exists()
    for name in ("INCIDENT_LAKE_CATALOG", "INCIDENT_LAKE_DATA"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("INCIDENT_DUCKDB_PATH", file_settings.duckdb_path)
    assert execute("sync_all").success
    in_file, in_lake = read_database(file_settings.duckdb_path), read_lake(lake)
    assert len(in_file) > 30
    assert in_lake == in_file


def test_further_syncs_change_what_changed_and_a_refresh_drops_what_is_gone(
    lake: Lake, api: DemoApi, file_settings: Settings
) -> None:
    settings = read_settings()
    first = run_sync(settings, NAMES)
    assert not any(outcome.failure for outcome in first)
    again = run_sync(settings, NAMES, changes=True)
    assert sum(outcome.changed + outcome.deleted for outcome in again) == 0
    change(api)
    changed = {x.resource: x for x in run_sync(settings, NAMES, changes=True)}
    assert changed["incidents"].changed == 2
    marked = {x.resource: x.deleted for x in run_sync(settings, NAMES)}
    assert marked["follow_ups"] == 1
    refreshed = {x.resource: x for x in run_sync(settings, NAMES, full_refresh=True)}
    assert not any(outcome.failure for outcome in refreshed.values())
    run_sync(file_settings, NAMES)
    assert read_lake(lake, "incident_api") == read_database(
        file_settings.duckdb_path, "incident_api"
    )


def test_yesterdays_table_can_be_read_as_it_was(lake: Lake, api: DemoApi) -> None:
    run_sync(read_settings(), ["follow_ups"])
    with lake.open(0, "a test", read_only=True) as connection:
        ((then,),) = connection.execute("SELECT now()").fetchall()
    change(api)
    run_sync(read_settings(), ["follow_ups"])
    count = "SELECT count(*) FROM incident_api.follow_ups{} WHERE _deleted_at IS NULL"
    with lake.open(0, "a test", read_only=True) as connection:
        ((now,),) = connection.execute(count.format("")).fetchall()
        at = f" AT (TIMESTAMP => '{then.isoformat()}'::TIMESTAMPTZ)"
        ((before,),) = connection.execute(count.format(at)).fetchall()
    assert (before, now) == (60, 59)


def test_a_lake_gives_rows_as_of_a_moment_too(lake: Lake, api: DemoApi) -> None:
    resources = ["incidents", "follow_ups"]
    names = {row["id"]: row["name"] for row in api.rows("incidents")}
    run_sync(read_settings(), resources)
    change(api)
    run_sync(read_settings(), resources)
    with lake.open(0, "a test", read_only=True) as connection:
        ends = "SELECT DISTINCT finished_at FROM incident_sync.log ORDER BY ALL"
        (first,), (last,) = connection.execute(ends).fetchall()
        incidents = "SELECT id, name FROM incident_history.incidents_as_of(?)"
        assert dict(connection.execute(incidents, [first]).fetchall()) == names
        now = dict(connection.execute(incidents, [last]).fetchall())
        follow_ups = "SELECT count(*) FROM incident_history.follow_ups_as_of(?)"
        counts = [connection.execute(follow_ups, [at]).fetchone() for at in (first, last)]
    assert sum(now[key] != name for key, name in names.items()) == 2
    assert counts == [(60,), (59,)]


@pytest.mark.parametrize("changes", [False, True])
def test_an_unchanged_sync_asks_the_catalog_little(
    changes: bool, lake: Lake, cluster: Cluster
) -> None:
    for _ in range(2):
        run_sync(read_settings(), NAMES, changes)
    with count_statements(cluster) as counted:
        run_sync(read_settings(), NAMES, changes)
    assert 0 < counted.ours <= MOST_STATEMENTS


def test_what_is_wrong_with_a_lake_is_said_in_one_line(
    lake: Lake, cluster: Cluster, tmp_path: Path
) -> None:
    with pytest.raises(DatabaseError, match="there is no lake yet"):
        read_lake(lake)
    with lake.open(0, "a test"):
        pass
    elsewhere = replace(lake, data=str(tmp_path / "elsewhere"))
    with pytest.raises(DatabaseError, match=r"keeps its data in .*INCIDENT_LAKE_DATA leads to"):
        read_lake(elsewhere)
    closed = replace(lake, catalog="postgres:host=127.0.0.1 port=1 dbname=x")
    with pytest.raises(DatabaseError, match=r"cannot be reached: .*PGPASSWORD or ~/.pgpass"):
        read_lake(closed)
    missing = replace(lake, catalog=f"postgres:{cluster.address('nowhere')}")
    with pytest.raises(DatabaseError, match='database "nowhere" does not exist'):
        read_lake(missing)


def test_a_duckdb_without_its_extensions_says_what_to_install(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lake.open(0, "a test"):
        pass
    nothing = {"extension_directory": str(tmp_path), "autoinstall_known_extensions": "false"}
    monkeypatch.setattr(Lake, "_find_extensions", lambda _: nothing)
    with pytest.raises(DatabaseError, match=r"INCIDENT_LAKE_CATALOG.*locks/lake.txt"):
        read_lake(lake)


def test_the_commands_know_a_lake(lake: Lake) -> None:
    before = run_command("incident_assets", "check")
    assert "the lake (INCIDENT_LAKE_CATALOG): will be made by the first sync" in before.stdout
    assert run_command("incident_assets", "sync").returncode == 0
    after = run_command("incident_assets", "check")
    assert (after.returncode, "the lake can be written" in after.stdout) == (0, True)
