"""A PostgreSQL cluster for the session, and a lake in it for each test."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.warehouse.lake import Lake
from incident_assets.warehouse.place import find_warehouse
from incident_assets_tests.cluster import Cluster, start_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster on loopback, stopped when the session ends."""
    with start_cluster() as cluster:
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> str:
    """An empty database of the cluster, gone after the test."""
    name = f"lake_{uuid4().hex[:8]}"
    cluster.run(f"CREATE DATABASE {name}")
    with ExitStack() as dropped:
        dropped.callback(cluster.run, f"DROP DATABASE {name} WITH (FORCE)")
        yield name


@pytest.fixture
def lake(
    cluster: Cluster, database: str, api: DemoApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Lake:
    """An empty lake that the settings lead to, with the bundled API."""
    monkeypatch.setenv("INCIDENT_LAKE_CATALOG", f"postgres:{cluster.address(database)}")
    monkeypatch.setenv("INCIDENT_LAKE_DATA", str(tmp_path / "lake"))
    found = find_warehouse(read_settings())
    assert isinstance(found, Lake)
    return found


@pytest.fixture
def file_settings(api: DemoApi) -> Settings:
    """The settings of a file that the same API is loaded into."""
    names = ("INCIDENT_LAKE_CATALOG", "INCIDENT_LAKE_DATA")
    left = {name: value for name, value in os.environ.items() if name not in names}
    return read_settings(left | {"INCIDENT_DUCKDB_PATH": "file/incidents.duckdb"})
