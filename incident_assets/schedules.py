"""The schedules: one per sync job, off until somebody switches them on. Times are UTC."""

from collections.abc import Sequence

import dagster as dg

CRONS = {"sync_live": "*/15 * * * *", "sync_reference": "5 * * * *", "sync_all": "30 2 * * *"}


def build_schedules() -> Sequence[dg.ScheduleDefinition]:
    """Return a stopped schedule for each sync job."""
    return [
        dg.ScheduleDefinition(
            name=f"{job}_schedule",
            job_name=job,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
        )
        for job, cron in CRONS.items()
    ]
