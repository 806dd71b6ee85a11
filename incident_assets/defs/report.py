"""The reliability report as an asset: its marts through the IO manager, one HTML file, metadata.

What is plotted and said is in `incident_assets.report`.
"""

from typing import Any

import dagster as dg
import pyarrow as pa

from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.translator import describe_tables
from incident_assets.models.catalog import MODEL_SCHEMA, read_models
from incident_assets.settings import read_settings
from incident_assets.warehouse.file import DatabaseError, read_first_line
from incident_assets.warehouse.private import replace_file

MARTS = {
    "weekly": "mart_incident_weekly",
    "trend": "mart_incident_trend",
    "stays": "mart_time_in_status_recent",
    "load": "mart_responder_load",
    "ageing": "mart_follow_up_ageing",
    "moments": "dim_moment",
}
# Only the job that loads everything builds it, see `jobs`.
NIGHTLY = {"cadence": "nightly"}


def build_report_asset() -> dg.AssetsDefinition:
    """Return the asset that writes the report."""
    shown = {f"{MODEL_SCHEMA}.{mart}": read_models()[mart].notes[0] for mart in MARTS.values()}

    @dg.asset(
        key=[MODEL_SCHEMA, "reliability_report"],
        ins={name: dg.AssetIn([MODEL_SCHEMA, mart]) for name, mart in MARTS.items()},
        group_name="outputs",
        kinds={"matplotlib", "html"},
        tags=NIGHTLY,
        metadata={"dagster/column_schema": describe_tables(shown)},
        description="Incidents per week, how fast they are acknowledged and resolved, time in "
        "status, responder load and ageing follow-ups: plots in the metadata, and one HTML file "
        "that opens offline, prints, and is readable on a phone.",
    )
    def reliability_report(
        duckdb: DuckDBResource,
        weekly: pa.Table,
        trend: pa.Table,
        stays: pa.Table,
        load: pa.Table,
        ageing: pa.Table,
        moments: pa.Table,
    ) -> dg.MaterializeResult[Any]:
        # Late, so that the definitions load without what draws.
        from incident_assets.report.build import Marts, build_report
        from incident_assets.report.page import may_replace

        with explain_errors():
            settings = duckdb.apply_to(read_settings())
            marts = Marts(weekly, trend, stays, load, ageing, moments)
            report = build_report(
                marts,
                settings.find_today(),
                settings.time_zone,
                are_masked=settings.masks_people,
            )
            path = settings.report_page
            try:
                if not may_replace(path):
                    raise DatabaseError(
                        f"{path} (INCIDENT_REPORT_PATH) is no report of ours, so it is left as it "
                        "is: move it away, or choose another path, then run again"
                    )
                size = replace_file(path, lambda fresh: fresh.write_text(report.html, "utf-8"))
            except OSError as error:
                raise DatabaseError(
                    f"cannot write {path} (INCIDENT_REPORT_PATH): {read_first_line(error)}. Make "
                    "room or choose another path, then run again; the report of before is kept"
                ) from None
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(path.absolute()),
                "plots": dg.MetadataValue.md(report.markdown),
                "bytes": size,
                **report.counts,
            }
        )

    return reliability_report
