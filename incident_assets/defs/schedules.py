"""The schedules: one per job, UTC. Syncs are off until somebody switches them on.

No two share a minute, nor do syncs that a setting has more or less often, where that can be. Which
runs are in each other's way is in `writers`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import dagster as dg

from incident_assets.defs.duckdb import DuckDBResource
from incident_assets.defs.writers import GRACE, describe_run, find_writers, let_pass
from incident_assets.values import SCHEDULES, SettingError

CRONS = {
    "sync_live": "*/15 * * * *",
    "sync_reference": "7 * * * *",  # where no `sync_live` is that runs every so many minutes
    "sync_all": "37 2 * * *",
    "check_freshness": "10-59/15 * * * *",
    "prune_history": "20 4 * * *",
    "keep_lake": "50 4 * * *",
}
ALWAYS_ON = ("check_freshness", "prune_history", "keep_lake")
FRESHNESS = "check_freshness"
LAKE_ONLY = ("keep_lake",)
MAY_SKIP = ("sync_live", "sync_reference")
Tick = Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason]


def build_schedules(
    warehouse: DuckDBResource, minutes: Mapping[str, int], upkeep: Collection[str] = ()
) -> Sequence[dg.ScheduleDefinition]:
    """Return a stopped schedule for each sync job, and running ones for what needs no API.

    Of the jobs in `minutes` they run from the start, every so many. Raises SettingError where one
    is no job.

    The frequent syncs skip their tick while a run that writes the database is queued or running, so
    that none piles up; the nightly one queues. `warehouse` says where the database is, and `upkeep`
    names the jobs that only a lake has.
    """
    if unknown := sorted(minutes.keys() - CRONS):
        raise SettingError(f"{SCHEDULES} has {unknown[0]!r}; the jobs are {', '.join(CRONS)}")
    if minutes.get(FRESHNESS, 60) * 60 <= 2 * GRACE:
        raise SettingError(
            f"{SCHEDULES} has {FRESHNESS} every {minutes[FRESHNESS]} minutes: give it 5 or more, "
            "since a run that was killed is known by a lock that nobody takes for two minutes"
        )
    own = {job: _repeat(CRONS[job], every) for job, every in minutes.items()}
    return [
        dg.ScheduleDefinition(
            name=f"{job}_schedule",
            job_name=job,
            cron_schedule=own.get(job, cron),
            execution_timezone="UTC",
            execution_fn=_build_tick(warehouse, job in MAY_SKIP),
            default_status=(
                dg.DefaultScheduleStatus.RUNNING
                if job in (*ALWAYS_ON, *minutes)
                else dg.DefaultScheduleStatus.STOPPED
            ),
        )
        for job, cron in CRONS.items()
        if job not in LAKE_ONLY or job in upkeep
    ]


def _repeat(cron: str, every: int) -> str:
    """Return when a schedule runs every so many minutes, the usual first one among them."""
    usual = int(cron[: len(cron) - len(cron.lstrip("0123456789"))] or 0)
    if every == 60:
        return f"{usual} * * * *"
    return f"{usual % every}-59/{every} * * * *" if usual % every else f"*/{every} * * * *"


def _build_tick(warehouse: DuckDBResource, may_skip: bool) -> Tick:
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        writers = find_writers(context, warehouse)
        let_pass(context.instance, writers.lost)
        lost = [
            f"Lost, and not waited for: {describe_run(record)}, silent for more than two minutes "
            "without the database's lock"
            for record in writers.lost
        ]
        for line in lost:
            context.log.warning(line)
        if not (may_skip and writers.in_line):
            return dg.RunRequest()
        names = ", ".join(map(describe_run, writers.in_line))
        return dg.SkipReason(". ".join([f"The database is being written, by {names}", *lost]))

    return tick
