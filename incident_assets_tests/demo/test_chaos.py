"""Chaos: each trouble on a running API, what a sync makes of it, and that nothing of it remains."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incident_assets.demo.chaos import KILL, TROUBLES, Chaos, ask_for
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import read_rows, run_command
from incident_assets_tests.sync.test_changes import assert_same_as_upstream

QUICK = ("403", "drift")  # the others wait for seconds
SOME = ["incidents", "follow_ups", "users", "severities"]
Break = Callable[..., None]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def break_by(api: DemoApi, loaded: Settings, said: list[str]) -> Iterator[Break]:
    """Ask for a trouble as the command does, of a process that looks after it."""
    folder, over = loaded.database.parent, threading.Event()
    chaos = Chaos(api, folder, said.append)

    def look_after() -> None:
        while not over.wait(0.02):
            chaos.tick()

    def ask(kind: str, seconds: float) -> None:
        told = ask_for(folder, kind, seconds)
        assert told is not None and TROUBLES[kind].breaks in told

    thread = threading.Thread(target=look_after)
    thread.start()
    yield ask
    over.set()
    thread.join()


def sync_all(settings: Settings) -> dict[str, Outcome]:
    return {outcome.resource: outcome for outcome in run_sync(settings, SOME)}


def wait_until_healed(api: DemoApi) -> None:
    while api.faults:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.long)
        for kind in sorted(TROUBLES.keys() - {KILL})
    ],
)
def test_trouble_is_seen_and_heals(
    kind: str, api: DemoApi, loaded: Settings, break_by: Break, said: list[str]
) -> None:
    break_by(kind, 3600)
    outcomes = sync_all(loaded)
    failed = {name for name, outcome in outcomes.items() if outcome.failure}
    assert failed == {"403": {"follow_ups"}, "mass-delete": {"users"}}.get(kind, set())
    if kind in ("429", "drop"):
        assert {request.status for request in api.requests} & {429, 0}
    if kind == "drift":
        bent = "_rescued->>'workload_minutes_total' = 'many' AND impact->>'level' = '3'"
        (found,) = read_rows(f"SELECT count(*) AS n FROM incident_api.incidents WHERE {bent}")
        assert found["n"] == len(api.rows("incidents"))
    assert not read_rows("SELECT 1 FROM incident_api.users WHERE _deleted_at IS NOT NULL")
    break_by(kind, 0)
    wait_until_healed(api)
    assert said[-1] == f"{kind}: healed"
    assert not [x.failure for x in sync_all(loaded).values() if x.failure]
    assert_same_as_upstream(api, *SOME)


def test_a_sync_is_killed_in_its_middle_and_nothing_remains(
    api: DemoApi, loaded: Settings, break_by: Break, said: list[str]
) -> None:
    user = api.rows("users")[0]
    api.change("users", user["id"], name="Somebody Else")
    break_by(KILL, 3600)
    command = [sys.executable, "-m", "incident_assets", "sync"]
    killed = subprocess.run(command, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    wait_until_healed(api)
    assert said[-1].startswith("kill: killed the sync that was process ")
    assert not [x.failure for x in sync_all(loaded).values() if x.failure]
    assert_same_as_upstream(api, *SOME)


def test_without_a_demo_nothing_is_broken_and_a_wrong_kind_is_told_the_right_ones() -> None:
    Path("empty").mkdir()
    for folder in (Path("nowhere"), Path("empty")):
        assert ask_for(folder, "slow", 1) is None
        assert not list(Path("empty").iterdir())
    unknown = run_command("incident_assets", "demo", "chaos", "flood")
    assert unknown.returncode == 2 and all(kind in unknown.stderr for kind in TROUBLES)
