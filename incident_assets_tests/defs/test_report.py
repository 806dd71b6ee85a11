"""The report's asset: run for real on a database that holds the marts."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from incident_assets.build import build_definitions
from incident_assets.defs.duckdb import DuckDBResource
from incident_assets.defs.io_manager import DuckDBIOManager
from incident_assets.defs.report import build_report_asset
from incident_assets.models.catalog import MODEL_SCHEMA
from incident_assets.report.marts import MARTS, Marts
from incident_assets_tests.report.marts import make_busy_marts, make_marts
from incident_assets_tests.report.reading import Page

KEY = dg.AssetKey([MODEL_SCHEMA, "reliability_report"])
MART_KEYS = [dg.AssetKey([MODEL_SCHEMA, mart]) for mart in MARTS.values()]
MOST = 200_000  # bytes of metadata


def store(marts: Marts) -> None:
    """Create the marts in the database of the settings."""
    Path("data").mkdir(mode=0o700, exist_ok=True)
    with duckdb.connect("data/incidents.duckdb") as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {MODEL_SCHEMA}")
        for name, mart in MARTS.items():
            connection.register("incoming", getattr(marts, name))
            table = f"{MODEL_SCHEMA}.{mart}"
            connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM incoming")


def run(instance: dg.DagsterInstance, marts: Any = None) -> dg.ExecuteInProcessResult:
    """Materialize the report on marts of this run, or on those that are there."""
    duckdb = DuckDBResource()
    return dg.materialize(
        [build_report_asset(), *([marts] if marts else map(dg.AssetSpec, MART_KEYS))],
        instance=instance,
        resources={"duckdb": duckdb, "io_manager": DuckDBIOManager(warehouse=duckdb)},
        raise_on_error=False,
    )


def read_metadata(instance: dg.DagsterInstance) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(KEY)
    assert event and event.asset_materialization
    assert len(dg.serialize_value(event.asset_materialization)) < MOST
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.mark.slow
def test_it_writes_one_private_page_and_shows_its_plots(instance: dg.DagsterInstance) -> None:
    store(make_busy_marts())
    assert run(instance).success
    metadata = read_metadata(instance)
    page = Path("data/incidents.report.html")
    assert metadata["path"] == str(page.absolute())
    assert metadata["bytes"] == page.stat().st_size
    assert page.stat().st_mode & 0o777 == 0o600
    assert metadata["incidents"] == 1079
    assert metadata["plots"].count("](data:image/png;base64,") == 7
    assert "svg" in Page(page.read_text()).tags


def test_empty_marts_make_a_page(instance: dg.DagsterInstance) -> None:
    store(make_marts())
    assert run(instance).success
    assert "There are no open follow-ups." in read_metadata(instance)["plots"]


def test_marts_that_write_themselves_are_read_in_the_same_run(
    instance: dg.DagsterInstance,
) -> None:
    @dg.multi_asset(specs=[dg.AssetSpec(key) for key in MART_KEYS])
    def models() -> Iterator[dg.MaterializeResult[Any]]:
        store(replace(make_marts(), ageing=make_busy_marts().ageing))
        yield from (dg.MaterializeResult(key) for key in MART_KEYS)

    assert run(instance, models).success
    assert read_metadata(instance)["open_follow_ups"] > 100


def test_a_page_that_cannot_be_written_says_so_and_keeps_the_old_one(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(make_marts())
    monkeypatch.setenv("INCIDENT_REPORT_PATH", "data/mine.html")
    assert run(instance).success
    before = Path("data/mine.html").read_text()

    def fail(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    result = run(instance)
    assert not result.success
    failure = result.filter_events(lambda event: event.is_step_failure)[0]
    error = failure.step_failure_data.user_failure_data
    assert error and "cannot write data/mine.html (INCIDENT_REPORT_PATH)" in str(error.description)
    assert Path("data/mine.html").read_text() == before


@pytest.mark.fault(
    "the report's path leads to a file that is no report",
    "the run fails with one message that names INCIDENT_REPORT_PATH",
    "the file; reports of before are replaced, also where a link leads to them",
)
def test_only_a_report_of_ours_is_replaced(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(make_marts())
    monkeypatch.setenv("INCIDENT_REPORT_PATH", "data/mine.html")
    Path("data/mine.html").write_text("<!DOCTYPE html>\n<title>My page</title>")
    result = run(instance)
    assert not result.success
    failure = result.filter_events(lambda event: event.is_step_failure)[0]
    error = failure.step_failure_data.user_failure_data
    assert error and "data/mine.html (INCIDENT_REPORT_PATH) is no report" in str(error.description)
    assert "My page" in Path("data/mine.html").read_text()
    # As the first version of the page began.
    old = '<!DOCTYPE html>\n<html lang="en">\n<head>\n<title>Incident reliability report</title>'
    Path("data/real.html").write_text(old)
    Path("data/mine.html").unlink()
    Path("data/mine.html").symlink_to("real.html")
    for _ in range(2):
        assert run(instance).success
    assert Path("data/mine.html").is_symlink()
    assert "There are no open follow-ups." in Path("data/real.html").read_text()


def test_only_the_nightly_job_builds_it() -> None:
    definitions = build_definitions()
    for job, built in {"sync_live": False, "sync_reference": False, "sync_all": True}.items():
        selected = definitions.resolve_job_def(job).asset_layer.executable_asset_keys
        assert (KEY in selected) == built
        assert {key for key in MART_KEYS if built or "mart_" in key.path[-1]} <= selected
