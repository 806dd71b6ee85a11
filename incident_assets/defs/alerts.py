"""Telling people: a sensor that posts failures, failed checks and recoveries to a webhook.

A message per finished run, in the order in which runs finished, each posted until the receiver has
taken it. What is failing is remembered in the sensor's cursor, so that it is told once, and again
when it is over.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import requests

from incident_assets.api.failures import clean_text
from incident_assets.settings import SettingError, read_settings

FIRST_LOOK = timedelta(days=1)  # back, when the sensor runs for the first time
OVERLAP = timedelta(minutes=2)  # runs may be recorded a little out of order
TIMEOUT = 10  # seconds
FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)
WORST = {"WARN": 0, "ERROR": 1}


@dataclass
class State:
    """What has been told: runs by the time they ended, and what is failing now, checks and jobs."""

    until: float = 0.0
    told: dict[str, float] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)

    def note(self, run_id: str, ended: float) -> None:
        """Remember that a run has been dealt with; forget those that cannot come again."""
        self.until = max(self.until, ended)
        self.told[run_id] = ended
        oldest = self.until - 2 * OVERLAP.total_seconds()
        self.told = {run: at for run, at in self.told.items() if at >= oldest}


def build_alerts() -> dg.SensorDefinition:
    """Return the sensor; it always runs, and is idle until INCIDENT_ALERT_WEBHOOK is set."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Posts failed runs, failed checks and recoveries to INCIDENT_ALERT_WEBHOOK.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        try:
            webhook = read_settings().find_webhook()
        except SettingError as error:
            return dg.SkipReason(str(error))
        if not webhook:
            return dg.SkipReason("INCIDENT_ALERT_WEBHOOK is not set")
        since = (datetime.now(UTC) - FIRST_LOOK).timestamp()
        state = State(**json.loads(context.cursor)) if context.cursor else State(until=since)
        posted = 0
        for record in _find_finished(context.instance, state):
            run = record.dagster_run
            lines = list(_describe(context.instance, run, state))
            if lines and (refused := _post(webhook, run.run_id, lines)):
                # The cursor stays before this run, so that it is told when the receiver is back.
                return dg.SkipReason(f"the webhook did not take a message: {refused}")
            posted += bool(lines)
            state.note(run.run_id, record.update_timestamp.timestamp())
            context.update_cursor(json.dumps(asdict(state)))
        return dg.SkipReason(f"{posted} messages posted")

    return alerts


def _find_finished(instance: dg.DagsterInstance, state: State) -> Iterator[dg.RunRecord]:
    after = datetime.fromtimestamp(state.until, UTC) - OVERLAP
    for record in instance.get_run_records(
        dg.RunsFilter(statuses=list(FINISHED), updated_after=after),
        order_by="update_timestamp",
        ascending=True,
    ):
        if record.dagster_run.run_id not in state.told:
            yield record


def _describe(instance: dg.DagsterInstance, run: dg.DagsterRun, state: State) -> Iterator[str]:
    """Yield what is new about a finished run, and note in the state what is failing now."""
    job = "A run from the UI" if run.job_name.startswith("__") else run.job_name
    if run.status == dg.DagsterRunStatus.FAILURE:
        yield f":x: {job} failed: {_find_reason(instance, run)}"
        if job not in state.jobs:
            state.jobs.append(job)
    elif job in state.jobs:
        state.jobs.remove(job)
        yield f":white_check_mark: {job} works again"
    evaluations = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    for entry in evaluations:
        event = entry.dagster_event
        if event is None:
            continue
        check: Any = event.event_specific_data
        name = f"{check.asset_key.to_user_string()} {check.check_name}"
        before, now = state.checks.get(name), check.severity.value
        if check.passed and before:
            del state.checks[name]
            yield f":white_check_mark: {name} is good again: {check.description}"
        elif not check.passed and (before is None or WORST[now] > WORST[before]):
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


def _post(webhook: str, run_id: str, lines: list[str]) -> str | None:
    """Post one message; return why the receiver did not take it, or None if it did.

    The id of the run is the id of the message, so that a receiver can tell a repetition.
    """
    text = "\n".join(_escape(line) for message in lines for line in message.splitlines())
    body = {
        "text": f"{text}\n(run {run_id})",
        "metadata": {"event_type": "incident_assets_alert", "event_payload": {"id": run_id}},
    }
    try:
        answer = requests.post(
            webhook,
            json=body,
            headers={"Idempotency-Key": run_id},
            timeout=TIMEOUT,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        return type(error).__name__  # its text holds the address, which is a secret
    return None if answer.status_code // 100 == 2 else f"status {answer.status_code}"


def _escape(line: str) -> str:
    """Return a line in which nobody is mentioned and nothing is linked."""
    line = clean_text(line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
