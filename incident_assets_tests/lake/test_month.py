"""A month of syncs and upkeep leaves a lake that is no larger than after its first days."""

from collections.abc import Callable
from pathlib import Path

import pytest

from incident_assets.demo.server import DemoApi
from incident_assets.settings import read_settings
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.lake import Lake
from incident_assets.warehouse.upkeep import keep_lake
from incident_assets_tests.cluster import Cluster
from incident_assets_tests.conftest import NAMES

LIVE = ["incidents", "incident_updates", "actions", "follow_ups"]
KEPT = 2  # days
TIMES = {
    "ducklake_snapshot": "snapshot_time",
    "ducklake_files_scheduled_for_deletion": "schedule_start",
}


@pytest.mark.parametrize(("days", "syncs"), [(6, 4), pytest.param(30, 6, marks=pytest.mark.long)])
def test_a_month_of_syncs_leaves_no_more_than_its_first_days(
    days: int,
    syncs: int,
    lake: Lake,
    cluster: Cluster,
    database: str,
    api: DemoApi,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setenv("INCIDENT_LAKE_KEEP_DAYS", str(KEPT))
    settings = read_settings()
    run_sync(settings, NAMES)
    seen = []
    for _ in range(days):
        for number in range(syncs):
            api.change("incidents", api.rows("incidents")[number]["id"], name="Renamed")
            assert not any(x.failure for x in run_sync(settings, LIVE, changes=True))
        for table, column in TIMES.items():
            cluster.run(f"UPDATE {table} SET {column} = {column} - INTERVAL '1 day'", database)
        keep_lake(lake, settings, "upkeep")
        seen.append(measure(lake, cluster, database))
    told = [f"{x} files, {y} snapshots, {z} rows of the catalog" for x, y, z in seen]
    record_property("told", f"after {KEPT + 2} days {told[KEPT + 1]}; after {days} {told[-1]}")
    for late, early in zip(seen[-1], seen[KEPT + 1], strict=True):
        assert late <= 1.1 * early + days


def measure(lake: Lake, cluster: Cluster, database: str) -> tuple[int, int, int]:
    """Return how many files of data, snapshots and rows of the catalog there are."""
    tables = cluster.run("SELECT tablename FROM pg_tables WHERE tablename ~ '^ducklake_'", database)
    rows = {name: cluster.run(f"SELECT count(*) FROM {name}", database)[0][0] for (name,) in tables}
    files = len([*Path(lake.data).rglob("*.parquet")])
    return files, rows["ducklake_snapshot"], sum(rows.values())
