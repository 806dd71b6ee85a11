"""Databases for the models: one that a test may break, and one whose figures are known."""

import shutil
from pathlib import Path

import duckdb
import pytest

from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import KEY, NAMES
from incident_assets_tests.golden import NOW, make_account
from incident_assets_tests.modelling import build_all


@pytest.fixture
def raw(synced_database: Path, tmp_path: Path) -> Path:
    """A copy of the small account's database, without models."""
    path = tmp_path / "data" / "incidents.duckdb"
    path.parent.mkdir(mode=0o700)
    shutil.copy(synced_database, path)
    return path


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small account, synced, one incident deleted, and every model built at NOW."""
    path = tmp_path_factory.mktemp("golden") / "incidents.duckdb"
    with DemoApi(make_account(), key=KEY) as api, pytest.MonkeyPatch.context() as patched:
        patched.setenv("INCIDENT_API_KEY", KEY)
        assert not any(x.failure for x in run_sync(Settings(api.url, str(path)), NAMES))
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE incident_api.incidents SET _deleted_at = now() WHERE id = 'J'")
    build_all(path, NOW, follow_up_sla="urgent=7")
    return path
