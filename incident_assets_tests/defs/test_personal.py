"""Personal data and Dagster: nobody is in its storage, the copy, the report, an alert or a log."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from incident_assets.build import build_definitions
from incident_assets.demo.account import Account
from incident_assets.demo.faults import Fault, status
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets_tests.conftest import read_rows
from incident_assets_tests.defs.test_alerts import Receiver, Ticks
from incident_assets_tests.defs.test_history import open_instance
from incident_assets_tests.hostile import Hostile, find_in_files, find_in_tables

DATABASE = Path("data/incidents.duckdb")


@pytest.fixture
def hostile() -> Hostile:
    return Hostile()


@pytest.fixture
def account(hostile: Hostile) -> Account:
    """That account, in the place of the small one."""
    return hostile.account


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Storage on disk, as in the project's dagster.yaml."""
    with open_instance("one file") as instance:
        yield instance


def run(instance: dg.DagsterInstance, job: str, full_refresh: bool = False) -> bool:
    config = {"ops": {"sync": {"config": {"full_refresh": True}}}} if full_refresh else None
    return (
        build_definitions()
        .resolve_job_def(job)
        .execute_in_process(instance=instance, run_config=config, raise_on_error=False)
        .success
    )


def refuse(hostile: Hostile) -> Fault:
    """Return an answer that names somebody."""
    said = f"{hostile.make_name()} <{hostile.make_address()}> may not read this"
    body = f'{{"type":"forbidden","errors":[{{"message":"{said}"}}]}}'
    return Fault(status(403, body.encode()), resource="workflows")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hash", "drop"])
def test_nobody_leaves(
    mode: str,
    hostile: Hostile,
    api: DemoApi,
    settings: Settings,
    instance: dg.DagsterInstance,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # First with people: what an API says in an error is in events, then.
    api.inject(refuse(hostile))
    assert not run(instance, "sync_all")
    told = find_in_files(hostile.secrets[-2:], Path.cwd())
    assert [path for path in told if DATABASE.stem not in path]
    api.heal()
    capfd.readouterr()
    # Then without.
    monkeypatch.setenv("INCIDENT_PERSONAL_DATA", mode)
    monkeypatch.setenv("INCIDENT_PERSONAL_DATA_KEY", "a key of the tests alone")
    assert not run(instance, "sync_all")  # refused
    assert run(instance, "sync_all", full_refresh=True)
    tick = Ticks(instance, receiver)
    api.inject(refuse(hostile))
    assert not run(instance, "sync_all")
    tick()
    printed = capfd.readouterr()
    monkeypatch.setenv("INCIDENT_KEEP_RUNS_DAYS", "0")
    assert run(instance, "prune_history")
    hostile.secrets.append("a key of the tests alone")
    sent = str(receiver.messages)
    assert receiver.messages and not [x for x in hostile.secrets[-3:] if x in sent]
    assert find_in_files(hostile.secrets, Path.cwd()) == {}
    assert find_in_tables(hostile.secrets, DATABASE) == {}
    assert find_in_tables(hostile.secrets, settings.published_copy) == {}
    assert not [x for x in hostile.secrets if x in printed.out + printed.err]
    page = settings.report_page.read_text()
    assert "Responder 1" in page and "p_" not in page
    (row,) = read_rows("SELECT count(*) AS n FROM incident_analytics.mart_responder_load")
    assert row["n"]
