"""Building all models on a database without Dagster, and reading what came out; other SQL for them.

Accounts and expected figures belong to the tests.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from incident_assets.models import catalog
from incident_assets.models.building import Built, build_model
from incident_assets.models.catalog import find_origins, read_models
from incident_assets.models.lineage import parse_models
from incident_assets.settings import Settings
from incident_assets.warehouse.file import open_database
from incident_assets.warehouse.versions import VERSION_TABLE
from incident_assets_tests.conftest import read_rows


def build_all(path: Path, today: date | None = None, **settings: str) -> dict[str, Built]:
    """Build every model, in order, whatever has changed; keyword arguments are settings."""
    with open_database(path, 20, "a test") as connection:
        # Tests write into tables in ways that no version shows.
        connection.execute(f"DROP TABLE IF EXISTS {VERSION_TABLE}")
        return {
            name: build_model(connection, model, Settings(**settings), today)
            for name, model in read_models().items()
        }


def read_model(name: str, path: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the rows of a model by the values of its key."""
    grain = read_models()[name].grain
    rows = read_rows(f"SELECT * FROM incident_analytics.{name}", str(path))
    return {tuple(row[column] for column in grain): row for row in rows}


def make_near(value: Any) -> Any:
    """Return what equals a value but for the last digits of a float."""
    return pytest.approx(value, rel=1e-9) if isinstance(value, float) else value


@contextmanager
def other_models(folder: Path) -> Iterator[Path]:
    """Give a copy of the folder of models, in the place of the package's own while the block runs.

    What is changed in it before the models are first read is what they are.
    """
    shutil.copytree(Path(catalog.__file__).parent, folder)
    caches = (read_models, find_origins, parse_models)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(catalog, "files", lambda _: folder)
            for function in caches:
                function.cache_clear()
            yield folder
    finally:
        for function in caches:
            function.cache_clear()
