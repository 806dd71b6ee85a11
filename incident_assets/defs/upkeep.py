"""The job that keeps a lake small, there where a lake is set. What it does is in the warehouse."""

import dagster as dg

from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.writers import QUEUED
from incident_assets.settings import read_settings
from incident_assets.warehouse.lake import Lake
from incident_assets.warehouse.upkeep import GRACE, keep_lake


def build_upkeep_job() -> dg.JobDefinition:
    """Return the job, which needs neither key nor network but the lake's."""

    @dg.op(description="Expire, merge and delete what is older than INCIDENT_LAKE_KEEP_DAYS.")
    def keep(context: dg.OpExecutionContext, duckdb: DuckDBResource) -> None:
        with explain_errors():
            settings, lake = duckdb.apply_to(read_settings()), duckdb.find()
            if not isinstance(lake, Lake):
                raise dg.Failure("there is no lake any more: reload the definitions")
            done = keep_lake(lake, settings, f"run {context.run.run_id}")
        context.log.info(
            f"{done.expired} snapshots expired that were older than {settings.lake_keep_days:g} "
            f"days (INCIDENT_LAKE_KEEP_DAYS); {done.before} files before, {done.after} after; "
            f"{done.deleted} deleted that nobody has read for {GRACE}"
        )

    @dg.job(
        name="keep_lake",
        tags=QUEUED,
        description="Let a lake's old snapshots expire, merge its small files, and delete what was "
        "replaced. What can be read as it was then goes back INCIDENT_LAKE_KEEP_DAYS.",
    )
    def keep_lake_job() -> None:
        keep()

    return keep_lake_job
