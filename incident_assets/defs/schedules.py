"""The schedules: one per job, UTC. Syncs are off until somebody switches them on."""

from collections.abc import Sequence

import dagster as dg

CRONS = {
    "sync_live": "*/15 * * * *",
    "sync_reference": "5 * * * *",
    "sync_all": "30 2 * * *",
    "check_freshness": "10-59/15 * * * *",
}
ALWAYS_ON = ("check_freshness",)


def build_schedules() -> Sequence[dg.ScheduleDefinition]:
    """Return a stopped schedule for each sync job, and a running one that checks freshness."""
    return [
        dg.ScheduleDefinition(
            name=f"{job}_schedule",
            job_name=job,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=(
                dg.DefaultScheduleStatus.RUNNING
                if job in ALWAYS_ON
                else dg.DefaultScheduleStatus.STOPPED
            ),
        )
        for job, cron in CRONS.items()
    ]
