"""Runs that write the database: which ones are in line, which of them are lost, the queue's mark.

Only one can write at a time, so the others wait for it. When a schedule skips its tick is in
`schedules`; the lock that keeps them apart, whatever Dagster believes, is the warehouse's.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from incident_assets.defs.duckdb import DuckDBResource
from incident_assets.values import SettingError
from incident_assets.warehouse.file import DatabaseError

WRITER = "incident_assets/writer"  # tag of runs: dagster.yaml lets one that is `queued` run
QUEUED = {WRITER: "queued"}
LOST = {WRITER: "lost"}
# A run that Dagster itself starts again is a whole one: from the step that failed on, it would not
# have asked the API for anything, and says so by failing.
WHOLE = {"dagster/retry_strategy": "ALL_STEPS"}
NEVER_WRITE = ("check_freshness", "prune_history")  # jobs
ASSETS_PAGE = "__ASSET_JOB"  # the job of runs from there; Dagster names it nowhere in public
GRACE = 120.0  # seconds
RUNNING = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dataclass(frozen=True)
class Writers:
    """Runs that are not over and write the database: `in_line` or running, and `lost` ones."""

    in_line: Sequence[dg.RunRecord]
    lost: Sequence[dg.RunRecord]


class QueuedWriters(dg.QueuedRunCoordinator):
    """Dagster's queue, which marks what writes the database, so that a limit can count it.

    Jobs carry the mark themselves; runs from the assets page get no tags from anywhere.
    """

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Mark a run and put it into the queue; one that is a lost one's copy is no longer lost."""
        run = context.dagster_run
        if WRITER in run.tags or (run.job_name.startswith(ASSETS_PAGE) and writes_database(run)):
            self._instance.add_run_tags(run.run_id, QUEUED | WHOLE)
        return super().submit_run(context)


def writes_database(run: dg.DagsterRun, repository: dg.RepositoryDefinition | None = None) -> bool:
    """Whether a run may write the database.

    It does unless it is of a job that never does, or selects checks alone on the assets page. Given
    the definitions, runs of what is not in them, as of other projects on the same Dagster, do not.
    """
    if run.asset_check_selection and not run.asset_selection:
        return False
    if repository is not None and run.asset_selection:
        return any(key in repository.assets_defs_by_key for key in run.asset_selection)
    known = repository is None or repository.has_job(run.job_name)
    return known and run.job_name not in NEVER_WRITE


def find_writers(context: dg.ScheduleEvaluationContext, warehouse: DuckDBResource) -> Writers:
    """Return the runs that write the database and are not over.

    One that says it is running is lost when for two minutes it has reported nothing and nobody has
    taken or given back the database's lock, which is free: it died together with its code server,
    so that nobody told Dagster. Later runs that take the lock do not bring it back. Where the lock
    cannot be looked at, as by a wrong setting, none is lost.
    """
    try:
        repository = context.repository_def
    except dg.DagsterInvariantViolationError:  # none is given in a test
        repository = None
    statuses = [dg.DagsterRunStatus.QUEUED, *RUNNING]
    records = context.instance.get_run_records(dg.RunsFilter(statuses=statuses))
    writers = [x for x in records if writes_database(x.dagster_run, repository)]
    silent = [
        x
        for x in writers
        if x.dagster_run.status in RUNNING
        and time.time() - _find_last_sign(context.instance, x) > GRACE
    ]
    unused = _find_unused(context.instance, warehouse) if silent else 0.0
    lost = [x for x in silent if unused > (0 if _is_marked_lost(x) else GRACE)]
    gone = {x.dagster_run.run_id for x in lost}
    return Writers([x for x in writers if x.dagster_run.run_id not in gone], lost)


def let_pass(instance: dg.DagsterInstance, lost: Sequence[dg.RunRecord]) -> None:
    """Let the queue no longer count lost runs. What ends them is `run_monitoring`."""
    for record in lost:
        if not _is_marked_lost(record):
            instance.add_run_tags(record.dagster_run.run_id, LOST)


def describe_run(record: dg.RunRecord) -> str:
    """Return which run it is and what it says it does, in words."""
    run = record.dagster_run
    job = "the assets page" if run.job_name.startswith(ASSETS_PAGE) else run.job_name
    since = datetime.fromtimestamp(_find_start(record), UTC)
    lost = ", once taken for lost" if _is_marked_lost(record) else ""
    return f"run {run.run_id} of {job} ({run.status.value}, since {since:%Y-%m-%d %H:%M} UTC{lost})"


def _is_marked_lost(record: dg.RunRecord) -> bool:
    return record.dagster_run.tags.get(WRITER) == LOST[WRITER]


def _find_start(record: dg.RunRecord) -> float:
    return record.start_time or record.create_timestamp.replace(tzinfo=UTC).timestamp()


def _find_last_sign(instance: dg.DagsterInstance, record: dg.RunRecord) -> float:
    newest = instance.get_records_for_run(record.dagster_run.run_id, limit=1, ascending=False)
    return max([_find_start(record), *(x.timestamp for x in newest.records)])


def _find_unused(instance: dg.DagsterInstance, warehouse: DuckDBResource) -> float:
    """Return for how many seconds nobody has had the database's lock; 0 where it cannot be told."""
    try:
        # Dagster alone can look up a variable that the resource was given for its path.
        with dg.build_resources({"duckdb": warehouse}, instance) as resources:
            used = resources.duckdb.find().find_last_use()
    except (SettingError, DatabaseError, dg.DagsterError, OSError):
        return 0.0
    return max(0.0, time.time() - used) if used is not None else 0.0
