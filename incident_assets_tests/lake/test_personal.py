"""Personal data and a lake: after the change nobody is in any file of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from incident_assets.settings import read_settings
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.lake import Lake
from incident_assets_tests.conftest import NAMES
from incident_assets_tests.hostile import find_in_files


@pytest.mark.slow
def test_a_full_refresh_leaves_nobody_in_the_files_of_a_lake(lake: Lake) -> None:
    settings = read_settings()
    run_sync(settings, NAMES)
    with lake.open(20, "a test") as connection:
        rows = connection.execute("SELECT email FROM incident_api.users").fetchall()
    secrets = [row[0] for row in rows if row[0]]
    assert secrets
    masked = replace(settings, personal_data="hash", personal_data_key="a key of the tests")
    run_sync(masked, NAMES, full_refresh=True)
    assert find_in_files(secrets, Path(settings.lake_data)) == {}
    with lake.open(20, "a test") as connection:
        hashes = connection.execute("SELECT email FROM incident_api.users").fetchall()
    assert len(hashes) == len(rows) and all(row[0].startswith("p_") for row in hashes if row[0])
    assert {x.changed for x in run_sync(masked, NAMES)} == {0}
