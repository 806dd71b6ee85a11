"""The sensor tells of failures and recoveries once each, to a real receiver that may be away."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster._core.test_utils import freeze_time

from incident_assets.build import build_definitions
from incident_assets.defs import alerts
from incident_assets.defs.alerts import LAST_START, SIZE, build_alerts
from incident_assets.demo.faults import Fault, status
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets_tests.conftest import KEY, NAMES


class Receiver:
    """A webhook on loopback: what it took, and what it got; `answer` is its next ones' status.

    A message takes `seconds`, on its own `clock`; `open` is not set while it hangs.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.got: list[tuple[str, str]] = []
        self.answer = 200
        self.clock = self.seconds = 0.0
        self.open = threading.Event()
        self.open.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """Messages are kept in a list instead."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.clock += receiver.seconds
                receiver.got.append((self.headers["Idempotency-Key"], body["text"]))
                receiver.open.wait(20)
                if receiver.answer == 200:
                    receiver.messages.append(body)
                    receiver.keys.append(self.headers["Idempotency-Key"])
                self.send_response(receiver.answer)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-path"


class Ticks:
    """Evaluates the sensor with the cursor that it left, on the receiver's clock."""

    def __init__(self, instance: dg.DagsterInstance, receiver: Receiver | None) -> None:
        self.instance = instance
        self.cursor: str | None = None
        self.clock = (lambda: receiver.clock) if receiver else time.monotonic

    def __call__(self) -> str:
        """Return what the sensor says."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        data = build_alerts(self.clock).evaluate_tick(context)
        self.cursor = data.cursor
        return str(data.skip_message)


@pytest.fixture
def tick(instance: dg.DagsterInstance, request: pytest.FixtureRequest) -> Ticks:
    names = request.fixturenames
    return Ticks(instance, request.getfixturevalue("receiver") if "receiver" in names else None)


@pytest.fixture
def run_job(api: DemoApi, instance: dg.DagsterInstance) -> Callable[[str], bool]:
    def run(name: str) -> bool:
        job = build_definitions().resolve_job_def(name)
        return job.execute_in_process(instance=instance, raise_on_error=False).success

    return run


def test_the_sensor_is_there_where_its_setting_is_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not build_definitions().sensors
    monkeypatch.setenv("INCIDENT_ALERT_WEBHOOK", "https://hooks.example.com/services")
    monkeypatch.setenv("INCIDENT_READ_TIMEOUT", "soon")  # the runs' business
    (sensor,) = build_definitions().sensors or ()
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


@pytest.mark.slow
def test_stale_tables_are_one_message_and_their_recovery_another(
    loaded: Settings, receiver: Receiver, tick: Ticks, run_job: Callable[[str], bool]
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


@pytest.mark.slow
def test_a_failed_run_is_told_with_its_reason_also_when_the_receiver_was_down(
    api: DemoApi, receiver: Receiver, tick: Ticks, run_job: Callable[[str], bool]
) -> None:
    evil = b"<!channel> & <https://evil.example|click> \\u001b[2J"
    body = b'{"type": "t", "errors": [{"message": "%s"}]}' % evil
    api.inject(Fault(status(422, body), resource="users"))
    receiver.answer = 503
    assert not run_job("sync_reference")
    assert tick() == tick() == "the webhook did not take a message: status 503"
    receiver.answer = 200
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


@pytest.mark.slow
def test_a_receiver_that_cannot_be_reached_is_not_named(
    api: DemoApi,
    receiver: Receiver,
    tick: Ticks,
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


@dg.op(config_schema={"reason": str})
def work(context: dg.OpExecutionContext) -> None:
    if context.op_config["reason"] == "canceled":
        context.instance.report_run_canceling(context.run)
        raise dg.DagsterExecutionInterruptedError
    if context.op_config["reason"]:
        raise dg.Failure(context.op_config["reason"])


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec("volume", asset="table")],
    config_schema={"severity": str, "then": dg.Field(str, default_value="")},
)
def look(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    config = context.op_execution_context.op_config
    yield dg.AssetCheckResult(
        passed=config["severity"] == "passed",
        severity=dg.AssetCheckSeverity(config["severity"].replace("passed", "WARN")),
        description=f"found {config['severity']}",
        asset_key="table",
        check_name="volume",
    )
    if config["then"] == "canceled":
        context.instance.report_run_canceling(context.run)
        raise dg.DagsterExecutionInterruptedError


@dg.job
def small() -> None:
    work()


@pytest.fixture
def end(instance: dg.DagsterInstance) -> Callable[..., str]:
    """End a run of a small job, as a failure if there is a reason; its id."""

    def run(reason: str = "") -> str:
        config = {"ops": {"work": {"config": {"reason": reason}}}}
        return small.execute_in_process(config, instance, raise_on_error=False).run_id

    return run


@pytest.fixture
def check(instance: dg.DagsterInstance) -> Callable[..., str]:
    """Run the check `volume` with a result, WARN, ERROR or passed; the id of the run."""
    job = dg.Definitions(
        assets=[dg.AssetSpec("table")],
        asset_checks=[look],
        jobs=[dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())],
    ).resolve_job_def("checks")

    def run(severity: str, then: str = "") -> str:
        config = {"ops": {"look": {"config": {"severity": severity, "then": then}}}}
        return job.execute_in_process(config, instance, raise_on_error=False).run_id

    return run


def test_each_change_of_a_check_is_told_once(
    receiver: Receiver, tick: Ticks, check: Callable[..., str]
) -> None:
    results = "passed WARN WARN ERROR ERROR WARN ERROR passed passed".split()
    for severity in results:
        check(severity)
        tick()
    lines = [message["text"].splitlines()[0] for message in receiver.messages]
    assert lines == [
        ":warning: table volume: found WARN",
        ":x: table volume: found ERROR",
        ":warning: table volume: found WARN",
        ":x: table volume: found ERROR",
        ":white_check_mark: table volume is good again: found passed",
    ]


@pytest.mark.fault(
    "somebody cancels a run",
    "it is told neither as a failure nor as a recovery; what its checks found is told",
    "what is known to be failing",
)
def test_a_canceled_run_is_no_failure_and_no_recovery_but_its_checks_count(
    receiver: Receiver, tick: Ticks, end: Callable[..., str], check: Callable[..., str]
) -> None:
    end("broken")
    tick()
    end("canceled")
    check("ERROR", then="canceled")
    assert tick() == "1 messages posted"
    assert receiver.messages[1]["text"].startswith(":x: table volume: found ERROR\n(run ")
    end()
    tick()
    assert receiver.messages[2]["text"].startswith(":white_check_mark: small works again\n")


@pytest.mark.fault(
    "a hundred runs end while the receiver of alerts is away",
    "as many as fit make one message, in the order in which they ended",
    "every line, once",
)
def test_many_runs_make_one_message(
    receiver: Receiver, tick: Ticks, end: Callable[..., str]
) -> None:
    runs = [end(f"reason {number}") for number in range(12)]
    assert tick() == "1 messages posted"
    assert receiver.messages[0]["text"].splitlines() == [
        line
        for number, run in enumerate(runs)
        for line in (f":x: small failed: reason {number}", f"(run {run})")
    ]
    long = [end(f"{number} " + "\n".join(["x" * 250] * 14)) for number in range(6)]
    tick()
    texts = [message["text"] for message in receiver.messages[1:]]
    assert 3 <= len(texts) <= 4 and max(map(len, texts)) < 1.1 * SIZE
    assert list(dict.fromkeys(re.findall(r"\(run (\S+)\)", "\n".join(texts)))) == long
    assert "\n".join(texts).count("x" * 250) == 6 * 14
    assert len(set(receiver.keys)) == len(receiver.keys)


def test_a_reason_without_end_is_cut(
    receiver: Receiver, tick: Ticks, end: Callable[..., str]
) -> None:
    run = end("reason\n" * 5_000)
    assert tick() == "1 messages posted"
    lines = receiver.messages[0]["text"].splitlines()
    assert len(lines) < 300
    assert lines[-2:] == ["… and 4800 lines more: see the run", f"(run {run})"]


@pytest.mark.fault(
    "a receiver of alerts that needs 7 s for each message",
    "a tick stops posting in time for its cursor to be kept; the next one goes on",
    "every message, once, in order",
)
def test_a_tick_stops_in_time_and_the_next_one_goes_on(
    receiver: Receiver, tick: Ticks, end: Callable[..., str]
) -> None:
    runs = [end("\n".join(["x" * 280] * 28)) for _ in range(12)]
    receiver.seconds = 7
    begun, ticks = 0.0, 0
    while tick() != "0 messages posted":
        ticks += 1
        assert receiver.clock - begun < LAST_START + receiver.seconds < 60 - receiver.seconds
        begun = receiver.clock
    assert ticks > 2
    assert re.findall(r"\(run (\S+)\)", "".join(m["text"] for m in receiver.messages)) == runs
    assert set(Counter(receiver.keys).values()) == {1}


@pytest.mark.fault(
    "a receiver of alerts that never answers, or lets its answer drip in",
    "the tick gives the message up in time, and the next one posts it again under the same id",
    "every message, until the receiver takes it",
)
def test_a_message_that_is_posted_again_has_the_same_id_and_text(
    receiver: Receiver, tick: Ticks, end: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    end("one")
    receiver.open.clear()
    monkeypatch.setattr(alerts, "LONGEST_POST", 0.3)
    # Of the post's time and that of one read, either may end first.
    assert tick() in (
        "the webhook did not take a message: Timeout",
        "the webhook did not take a message: ReadTimeout",
    )
    monkeypatch.undo()
    monkeypatch.setenv("INCIDENT_ALERT_WEBHOOK", receiver.url)
    receiver.open.set()
    end("two")
    assert tick() == "2 messages posted"
    again, twice, other = receiver.got
    assert again == twice and "one" in twice[1] and "two" in other[1] and "one" not in other[1]


@pytest.mark.fault(
    "a receiver of alerts that refuses a message for good (4xx but 408 and 429)",
    "the message is passed over, and the next one that is taken says so",
    "every other message",
)
def test_a_message_refused_for_good_is_passed_over_and_that_is_told(
    receiver: Receiver, tick: Ticks, end: Callable[..., str]
) -> None:
    for receiver.answer in (400, 404):
        end("too much")
        assert tick() == f"0 messages posted, 1 refused for good (status {receiver.answer})"
    receiver.answer = 503
    end("fine")
    for receiver.answer in (503, 408, 429, 302):
        said = f"the webhook did not take a message: status {receiver.answer}"
        assert tick() == said
    receiver.answer = 200
    assert tick() == "1 messages posted"
    text = receiver.messages[0]["text"]
    assert text.startswith(":warning: messages refused by the receiver before this one: 2 (")
    assert "status 404" in text and "fine" in text and "too much" not in text
    end("fine too")
    tick()
    assert "refused" not in receiver.messages[1]["text"]


def test_a_run_that_is_tagged_later_is_not_told_again(
    receiver: Receiver, tick: Ticks, end: Callable[..., str], instance: dg.DagsterInstance
) -> None:
    with freeze_time(datetime.now(UTC) - timedelta(hours=1)):
        run = end("once")
    end("again")
    assert tick() == "1 messages posted"
    assert run not in json.loads(tick.cursor or "")["told"]
    instance.add_run_tags(run, {"seen": "by ada"})
    assert tick() == "0 messages posted"


def test_a_cursor_of_the_program_before_is_read(
    receiver: Receiver, tick: Ticks, end: Callable[..., str], check: Callable[..., str]
) -> None:
    run = end("told before")
    state = {"until": time.time(), "told": {run: time.time()}}
    tick.cursor = json.dumps(state | {"checks": {"table volume": "WARN"}, "jobs": ["small"]})
    assert tick() == "0 messages posted"
    check("WARN")
    end()
    assert tick() == "1 messages posted"
    assert receiver.messages[0]["text"].startswith(":white_check_mark: small works again")


def test_a_clock_that_was_ahead_hides_nothing(
    receiver: Receiver, tick: Ticks, end: Callable[..., str]
) -> None:
    with freeze_time(datetime.now(UTC) + timedelta(hours=3)):
        end("ahead")
    assert tick() == "1 messages posted"
    end("now")
    assert (tick(), tick()) == ("1 messages posted", "0 messages posted")
    tick.cursor = json.dumps({"until": time.time() + 7200})
    end("later")
    tick()
    assert "later" in receiver.messages[-1]["text"]
