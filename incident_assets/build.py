"""`build_definitions`: everything together, with fresh objects at each call.

A test, or a deployment with its own assets, replaces or adds what it wants here; nothing else in
the package builds `Definitions`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource

from incident_assets.api.endpoints import Endpoint
from incident_assets.api.outside import extend_table
from incident_assets.defs.alerts import build_alerts
from incident_assets.defs.api import ApiResource
from incident_assets.defs.checks import build_resource_checks
from incident_assets.defs.duckdb import DuckDBResource
from incident_assets.defs.history import build_prune_job
from incident_assets.defs.ingestion import build_ingestion
from incident_assets.defs.io_manager import DuckDBIOManager
from incident_assets.defs.jobs import build_jobs, pace
from incident_assets.defs.models import build_models
from incident_assets.defs.outcome import build_outcome_check
from incident_assets.defs.publish import build_published_copy
from incident_assets.defs.report import build_report_asset
from incident_assets.defs.schedules import build_schedules
from incident_assets.defs.translator import API_KEY
from incident_assets.defs.upkeep import build_upkeep_job
from incident_assets.settings import read_shown
from incident_assets.sync.telemetry import opt_out


def build_definitions(
    *,
    assets: Iterable[Any] = (),
    resources: Mapping[str, Any] | None = None,
    endpoints: Iterable[Endpoint] = (),
) -> dg.Definitions:
    """Return the project's definitions.

    `assets` are added to the project's own (also asset checks); `resources` replace those of the
    same key: `api`, `dlt`, `duckdb`, `io_manager`. The io_manager follows a replaced `duckdb`.
    `endpoints` are added to the table of resources: each becomes a raw asset with its checks, in
    the jobs of its group. Raises BadEndpoint naming a row that cannot be added.
    """
    opt_out()
    shown = read_shown()
    minutes = shown.find_schedules()
    table = pace(extend_table(endpoints), minutes)
    given = dict(resources or {})
    duckdb = given.get("duckdb") or DuckDBResource()
    upkeep = [build_upkeep_job()] if shown.lake_catalog else []
    checks = [a for a in assets if isinstance(a, dg.AssetChecksDefinition)]
    own = [build_ingestion(table), *build_models(table), build_report_asset()]
    own.append(build_published_copy(table))
    if owners := shown.list_owners():
        own = [*dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=owners), own)]
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                API_KEY,
                group_name="api",
                kinds={"api"},
                description="The incident-management API that everything is read from.",
            ),
            *own,
            *(a for a in assets if not isinstance(a, dg.AssetChecksDefinition)),
        ],
        asset_checks=[build_outcome_check(), *build_resource_checks(table), *checks],
        jobs=[*build_jobs(table), build_prune_job(), *upkeep],
        schedules=build_schedules(duckdb, minutes, {job.name for job in upkeep}),
        sensors=[build_alerts()] if shown.alert_webhook else [],
        resources={
            "api": ApiResource(),
            "dlt": DagsterDltResource(),
            "duckdb": duckdb,
            "io_manager": DuckDBIOManager(warehouse=duckdb),
            **given,
        },
        executor=dg.in_process_executor,
    )
