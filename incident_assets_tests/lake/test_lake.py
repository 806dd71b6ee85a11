"""A lake holds what a file does: raw tables, models, log; by every kind of sync."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from incident_assets.demo.account import Account
from incident_assets.settings import Settings
from incident_assets.warehouse.lake import Lake
from incident_assets_tests.killing import read_database, read_tables


def read_lake(lake: Lake, schema: str = "%") -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, as `read_database` does of a file."""
    with lake.open(0, "a test", read_only=True) as connection:
        return read_tables(connection, schema)


def change(account: Account) -> None:
    """Change two incidents and drop a follow-up."""
    for row in account.rows["incidents"][:2]:
        row["name"] = "changed " + row["name"]
        row["updated_at"] = "2026-11-20T10:00:00Z"
    del account.rows["follow_ups"][0]


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
