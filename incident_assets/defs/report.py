"""The reliability report as an asset: its marts through the IO manager, one HTML file, metadata.

What is plotted and said, and how it is written, is in `incident_assets.report`.
"""

from typing import Any

import dagster as dg
import pyarrow as pa

from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.translator import describe_tables
from incident_assets.models.catalog import MODEL_SCHEMA, read_models
from incident_assets.report.marts import MARTS, Marts
from incident_assets.settings import read_settings

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
        "status, severities raised and lowered, responder load, ageing follow-ups and whether they "
        "get done: plots in the metadata, and one HTML file that opens offline, prints, and is "
        "readable on a phone.",
    )
    def reliability_report(duckdb: DuckDBResource, **marts: pa.Table) -> dg.MaterializeResult[Any]:
        # Late, so that the definitions load without what draws.
        from incident_assets.report.writing import write_report

        with explain_errors():
            settings = duckdb.apply_to(read_settings())
            report, size = write_report(settings, Marts(**marts))
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(settings.report_page.absolute()),
                "plots": dg.MetadataValue.md(report.markdown),
                "bytes": size,
                **report.counts,
            }
        )

    return reliability_report
