"""An interrupt ends a sync soon, whatever it waits for, and never as a success or a second try."""

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from incident_assets.demo.faults import Effect, Fault, hang, rate_limited
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.warehouse.file import open_database
from incident_assets_tests.conftest import hold_database
from incident_assets_tests.killing import start_run

SOON = 60  # seconds; what is waited for takes minutes
WAITS: dict[str, Effect] = {"a request": hang(200), "Retry-After": rate_limited(200)}
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@contextmanager
def start_command(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "incident_assets", "sync", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Asked:
    """How often users were asked for, whatever the answer waits for."""

    def __init__(self, api: DemoApi, effect: Effect):
        self.requests: queue.Queue[None] = queue.Queue()
        self.effect = effect
        api.inject(Fault(self.note, resource="users"))

    def note(self, connection: Any, answer: Any) -> Any:
        self.requests.put(None)
        return self.effect(connection, answer)

    def wait(self) -> None:
        self.requests.get(timeout=60)

    def assert_once(self) -> None:
        assert self.requests.empty()


def assert_nothing_is_held(settings: Settings) -> None:
    with open_database(settings.database, 0, "the test"):
        pass
    names = {path.name for path in settings.database.parent.iterdir()}
    assert not [name for name in names if name.endswith((".work", ".holder", ".wal"))]


@pytest.mark.fault(
    "Ctrl-C, SIGTERM or Terminate while a sync waits for an answer, Retry-After or the lock",
    "it ends within seconds, as interrupted, and is not tried again",
    "what the tables had; lock and working folder are free",
)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("wait", WAITS)
def test_a_command_that_waits_for_the_api_ends(
    wait: str, number: signal.Signals, api: DemoApi, settings: Settings
) -> None:
    asked = Asked(api, WAITS[wait])
    with start_command("--select", "users,severities") as process:
        asked.wait()
        process.send_signal(number)
        _, errors = process.communicate(timeout=SOON)
    assert process.returncode == 128 + number
    assert "interrupted" in errors and "Traceback" not in errors
    asked.assert_once()
    assert_nothing_is_held(settings)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_waits_for_the_lock_ends(
    number: signal.Signals, api: DemoApi, loaded: Settings
) -> None:
    with hold_database(loaded.database), start_command() as process:
        assert process.stderr and "waiting up to" in process.stderr.readline()
        process.send_signal(number)
        process.communicate(timeout=SOON)
        assert process.returncode == 128 + number
    assert_nothing_is_held(loaded)


@pytest.mark.slow
@pytest.mark.parametrize("wait", WAITS)
def test_a_run_that_waits_for_the_api_ends_and_is_not_tried_again(
    wait: str, api: DemoApi, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(api, WAITS[wait])
    process = start_run(tmp_path, "sync_reference")
    asked.wait()
    assert process.pid
    os.kill(process.pid, signal.SIGINT)
    process.join(SOON)
    assert process.exitcode
    asked.assert_once()
    assert_nothing_is_held(settings)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
        assert run.is_failure_or_canceled
        events = {entry.dagster_event_type for entry in instance.all_logs(run.run_id)}
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in events
    assert dg.DagsterEventType.ASSET_MATERIALIZATION not in events
    api.heal()
    process = start_run(tmp_path, "sync_reference")
    process.join(120)
    assert process.exitcode == 0


def test_what_duckdb_makes_of_an_interrupt_is_one() -> None:
    code = (
        "import os, signal, threading, duckdb\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored\n"
        "from incident_assets.warehouse.interrupts import raise_interrupts\n"
        "duckdb.execute('SET threads = 1')  # what another thread has begun, it ends first\n"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    with raise_interrupts():\n"
        "        duckdb.execute('SELECT sum(hash(range)) FROM range(100000000000)').fetchall()\n"
        "except KeyboardInterrupt:\n"
        "    print('an interrupt')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON
    )
    assert ended.stdout == "an interrupt\n", ended.stderr
