"""Telling people: a sensor that posts failures, failed checks and recoveries to a webhook.

What finished runs have to tell goes, in the order in which they ended, into lines that the cursor
keeps until the receiver has taken them; a message holds as many as fit, of as many runs as there
are. What is failing is remembered too, so that a check is told once, again when it gets worse or
better, and when it is over. A run that somebody canceled is no failure and no recovery, but what
its checks found counts.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any

import dagster as dg
import requests

from incident_assets.api.failures import clean_text
from incident_assets.settings import read_settings
from incident_assets.values import SettingError

FIRST_LOOK = timedelta(days=1)  # back, when the sensor runs for the first time
OVERLAP = timedelta(minutes=4).total_seconds()  # runs may be recorded a little out of order
CONNECT = 5  # seconds
LONGEST_POST = 20  # seconds, whatever the receiver does
# Dagster gives a tick up after 60 s and forgets its cursor; what was posted would be posted again.
LAST_START = 60 - LONGEST_POST - 10  # seconds into a tick
SIZE = 8_000  # characters of a message
MOST_LINES = 200  # of one run
WAITING = (408, 429)  # of 4xx, those that may pass
FINISHED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)


@dataclass
class State:
    """What has been read and told, as the cursor keeps it.

    `told` are the runs that ended shortly before `until`, with the time; `checks` and `jobs` are
    what is failing now. `lines` wait to be posted, each with its run. `refused` messages have been
    passed over since the last one that was taken, the last of them for the reason `refusal`.
    """

    until: float = 0.0
    told: dict[str, float] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    refused: int = 0
    refusal: str = ""

    def note(self, run_id: str, ended: float) -> None:
        """Remember that a run has been dealt with; forget those that cannot come again."""
        # A clock ahead of ours must not hide what ends until then.
        self.until = max(self.until, min(ended, _now()))
        self.told[run_id] = ended
        oldest = self.until - OVERLAP
        self.told = {run: at for run, at in self.told.items() if at >= oldest}

    def count_fitting(self) -> int:
        """Return how many of the waiting lines go into the next message, at least one."""
        size = 0
        for count, (_, line) in enumerate(self.lines):
            size += len(line) + 1
            if count and size > SIZE:
                return count
        return len(self.lines)


def build_alerts(clock: Callable[[], float] = time.monotonic) -> dg.SensorDefinition:
    """Return the sensor, which is for where INCIDENT_ALERT_WEBHOOK is set, and on from the start.

    `clock` gives the seconds by which a tick ends in time.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Posts failed runs, failed checks and recoveries to INCIDENT_ALERT_WEBHOOK.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        last_start = clock() + LAST_START
        try:
            webhook = read_settings().find_webhook()
        except SettingError as error:
            return dg.SkipReason(str(error))
        since = _now() - FIRST_LOOK.total_seconds()
        state = State(**json.loads(context.cursor)) if context.cursor else State(until=since)
        said = _tell(context.instance, state, webhook, lambda: clock() < last_start)
        context.update_cursor(json.dumps(asdict(state)))
        return dg.SkipReason(said)

    return alerts


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _tell(
    instance: dg.DagsterInstance, state: State, webhook: str, has_time: Callable[[], bool]
) -> str:
    """Post what there is to tell, as long as there is time; return what was done, in words."""
    records = iter(_find_finished(instance, state))
    posted = refused = 0
    may_grow = not state.lines  # what may have reached the receiver keeps its text, and so its id
    while has_time():
        if may_grow:
            _read_runs(instance, records, state, has_time)
        if not state.lines or not has_time():
            break
        count = state.count_fitting()
        answer = _post(webhook, _write_message(state, count))
        if answer in WAITING or isinstance(answer, str) or answer // 100 not in (2, 4):
            # The lines stay, so that they are told when the receiver is back.
            answer = answer if isinstance(answer, str) else f"status {answer}"
            return f"the webhook did not take a message: {answer}"
        del state.lines[:count]
        may_grow = True
        if answer // 100 == 2:
            posted, state.refused = posted + 1, 0
        else:
            refused, state.refused, state.refusal = refused + 1, state.refused + 1, f"{answer}"
    passed_over = f", {refused} refused for good (status {state.refusal})" if refused else ""
    return f"{posted} messages posted{passed_over}"


def _find_finished(instance: dg.DagsterInstance, state: State) -> list[dg.RunRecord]:
    """Return the runs that have ended and are not dealt with yet, in the order of their ends."""
    after = min(state.until, _now()) - OVERLAP
    records = instance.get_run_records(
        dg.RunsFilter(statuses=list(FINISHED), updated_after=datetime.fromtimestamp(after, UTC))
    )
    # A run that is tagged later is updated anew, but has not ended anew.
    new = [x for x in records if x.dagster_run.run_id not in state.told and _find_end(x) >= after]
    return sorted(new, key=_find_end)


def _find_end(record: dg.RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def _read_runs(
    instance: dg.DagsterInstance,
    records: Iterator[dg.RunRecord],
    state: State,
    has_time: Callable[[], bool],
) -> None:
    """Let the lines of the next runs wait in the state: of as many as make a message."""
    while state.count_fitting() == len(state.lines) and has_time():
        if (record := next(records, None)) is None:
            return
        run = record.dagster_run
        told = (x for text in _describe(instance, run, state) for x in text.splitlines())
        lines = [_escape(line) for line in told]
        if len(lines) > MOST_LINES:
            lines[MOST_LINES:] = [f"… and {len(lines) - MOST_LINES} lines more: see the run"]
        state.lines += [(run.run_id, line) for line in lines]
        state.note(run.run_id, _find_end(record))


def _describe(instance: dg.DagsterInstance, run: dg.DagsterRun, state: State) -> Iterator[str]:
    """Yield what is new about a finished run, and note in the state what is failing now."""
    # Runs from the UI differ in what they select: one that works says nothing of one that failed.
    is_job = not run.job_name.startswith("__")
    job = run.job_name if is_job else "A run from the UI"
    if run.status == dg.DagsterRunStatus.FAILURE:
        yield f":x: {job} failed: {_find_reason(instance, run)}"
        if is_job and job not in state.jobs:
            state.jobs.append(job)
    elif run.status == dg.DagsterRunStatus.SUCCESS and job in state.jobs:
        state.jobs.remove(job)
        yield f":white_check_mark: {job} works again"
    evaluations = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    for entry in evaluations:
        event = entry.dagster_event
        if event is None:
            continue
        check: Any = event.event_specific_data
        name = f"{check.asset_key.to_user_string()} {check.check_name}"
        before, now = state.checks.get(name), None if check.passed else check.severity.value
        if now == before:
            continue
        if now is None:
            del state.checks[name]
            yield f":white_check_mark: {name} is good again: {check.description}"
        else:
            state.checks[name] = now
            sign = ":x:" if now == "ERROR" else ":warning:"
            yield f"{sign} {name}: {check.description}"


def _find_reason(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        failure: Any = entry.dagster_event and entry.dagster_event.event_specific_data
        if failure and failure.user_failure_data and failure.user_failure_data.description:
            return str(failure.user_failure_data.description)
        if failure and failure.error:
            return str(failure.error.message)
    return "see its log"


def _escape(line: str) -> str:
    """Return a line in which nobody is mentioned and nothing is linked."""
    line = clean_text(line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _write_message(state: State, count: int) -> str:
    """Return the first waiting lines as one text, each run's followed by its id."""
    lines = []
    if state.refused:
        lines.append(
            f":warning: messages refused by the receiver before this one: {state.refused} (status "
            f"{state.refusal}). They are not repeated; look at the runs in the Dagster UI"
        )
    for run_id, group in groupby(state.lines[:count], key=itemgetter(0)):
        lines += [*(line for _, line in group), f"(run {run_id})"]
    return "\n".join(lines)


def _post(webhook: str, text: str) -> int | str:
    """Post a message; return the receiver's status, or in a word why there is none.

    The id of a message is made of its text, so that a receiver can tell a repetition.
    """
    identifier = sha256(text.encode()).hexdigest()[:32]
    body = {
        "text": text,
        "metadata": {"event_type": "incident_assets_alert", "event_payload": {"id": identifier}},
    }
    answers: list[int | str] = []

    def post() -> None:
        try:
            with requests.post(
                webhook,
                json=body,
                headers={"Idempotency-Key": identifier},
                timeout=(CONNECT, LONGEST_POST),
                allow_redirects=False,
                stream=True,  # the status is all that counts
            ) as response:
                answers.append(response.status_code)
        except (requests.RequestException, OSError, ValueError) as error:
            answers.append(type(error).__name__)  # its text holds the address, which is a secret

    # A thread, since neither looking a name up nor headers that drip in heed a timeout.
    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    thread.join(LONGEST_POST)
    return answers[0] if answers else "Timeout"
