"""Dagster's settings on a server: loaded by Dagster, and the same as a checkout's but for storage.

What its processes do with them is in `test_topology`.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

# Private: `DagsterInstance.get` would need a PostgreSQL; this reads the settings alone.
from dagster._core.instance.ref import InstanceRef

from incident_assets.settings import Settings
from incident_assets_tests.pages import ROOT

FOLDER = ROOT / "deploy"
STORAGES = {"run_storage", "event_log_storage", "schedule_storage", "storage"}


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def test_dagster_takes_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://dagster@db/dagster")
    storage = InstanceRef.from_dir(str(FOLDER)).storage_data
    assert storage and storage.module_name == "dagster_postgres"


def test_what_a_checkout_says_holds_on_a_server() -> None:
    here, there = read(ROOT / "dagster.yaml"), read(FOLDER / "dagster.yaml")
    for name, value in here.items():
        if name == "run_monitoring":
            assert there[name].items() >= value.items()
        elif name not in STORAGES:
            assert there[name] == value, name
    assert there.keys() - here.keys() == {"storage", "run_retries"}


def test_a_run_may_take_longer_than_the_longest_sync() -> None:
    limit = read(FOLDER / "dagster.yaml")["run_monitoring"]["max_runtime_seconds"]
    assert limit >= Settings().sync_deadline + 1800
