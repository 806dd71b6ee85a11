"""The sensor tells of failures and recoveries once each, to a real receiver that may be away."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import duckdb
import pytest

from incident_assets.build import build_definitions
from incident_assets.defs.alerts import build_alerts
from incident_assets.demo.faults import Fault, status
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets_tests.conftest import KEY, NAMES

Tick = Callable[[], str]


class Receiver:
    """A webhook on loopback; while it is down it answers 503."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.down = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """Messages are kept in a list instead."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.down:
                    receiver.messages.append(json.loads(body))
                    receiver.keys.append(self.headers["Idempotency-Key"])
                self.send_response(503 if receiver.down else 200)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-path"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    monkeypatch.setenv("INCIDENT_ALERT_WEBHOOK", receiver.url)
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def tick(instance: dg.DagsterInstance) -> Tick:
    """Evaluate the sensor with the cursor that it left; what it says."""
    cursor: str | None = None

    def evaluate() -> str:
        nonlocal cursor
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        data = build_alerts().evaluate_tick(context)
        cursor = data.cursor
        return str(data.skip_message)

    return evaluate


@pytest.fixture
def run_job(api: DemoApi, instance: dg.DagsterInstance) -> Callable[[str], bool]:
    def run(name: str) -> bool:
        job = build_definitions().resolve_job_def(name)
        return job.execute_in_process(instance=instance, raise_on_error=False).success

    return run


def test_without_its_setting_the_sensor_is_idle(tick: Tick) -> None:
    assert tick() == "INCIDENT_ALERT_WEBHOOK is not set"
    assert build_alerts().default_status == dg.DefaultSensorStatus.RUNNING


def test_stale_tables_are_one_message_and_their_recovery_another(
    loaded: Settings, receiver: Receiver, tick: Tick, run_job: Callable[[str], bool]
) -> None:
    assert run_job("check_freshness")
    assert tick() == "0 messages posted"
    with duckdb.connect(loaded.duckdb_path) as connection:
        connection.execute("UPDATE incident_sync.log SET finished_at = now() - INTERVAL 2 DAY")
    for _ in range(2):
        run_job("check_freshness")
        tick()
    assert len(receiver.messages) == 1
    text = receiver.messages[0]["text"]
    assert all(
        f":x: incident_api/{name} freshness: last loaded 48 h 0 min ago" in text for name in NAMES
    )
    assert run_job("sync_all") and run_job("check_freshness")
    tick()
    assert len(receiver.messages) == 2
    text = receiver.messages[1]["text"]
    for name in NAMES:
        assert f":white_check_mark: incident_api/{name} freshness is good again" in text
    assert len(set(receiver.keys)) == 2
    payload = receiver.messages[1]["metadata"]["event_payload"]
    assert payload == {"id": receiver.keys[1]}


def test_a_failed_run_is_told_with_its_reason_also_when_the_receiver_was_down(
    api: DemoApi, receiver: Receiver, tick: Tick, run_job: Callable[[str], bool]
) -> None:
    evil = b"<!channel> & <https://evil.example|click> \\u001b[2J"
    body = b'{"type": "t", "errors": [{"message": "%s"}]}' % evil
    api.inject(Fault(status(422, body), resource="users"))
    receiver.down = True
    assert not run_job("sync_reference")
    assert tick() == tick() == "the webhook did not take a message: status 503"
    receiver.down = False
    assert tick() == "1 messages posted"
    assert tick() == "0 messages posted"
    text = receiver.messages[0]["text"]
    assert ":x: sync_reference failed: 1 of the resources could not be read" in text
    assert "users: 422" in text
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;" in text
    assert "<" not in text and "\x1b" not in text and KEY not in text
    api.heal()
    assert run_job("sync_reference")
    tick()
    assert ":white_check_mark: sync_reference works again" in receiver.messages[1]["text"]
    assert [len(receiver.messages), len(set(receiver.keys))] == [2, 2]


def test_a_receiver_that_cannot_be_reached_is_not_named(
    api: DemoApi,
    receiver: Receiver,
    tick: Tick,
    run_job: Callable[[str], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INCIDENT_ALERT_WEBHOOK", "http://127.0.0.1:9/secret-path")
    api.forbid("users")
    run_job("sync_reference")
    said = tick()
    assert said == "the webhook did not take a message: ConnectionError"
    monkeypatch.setenv("INCIDENT_ALERT_WEBHOOK", receiver.url)
    assert tick() == "1 messages posted"
