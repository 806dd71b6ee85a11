"""A database with raw tables and no models, which a test may break."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def raw(synced_database: Path, tmp_path: Path) -> Path:
    """A copy of the small account's database."""
    path = tmp_path / "data" / "incidents.duckdb"
    path.parent.mkdir(mode=0o700)
    shutil.copy(synced_database, path)
    return path
