"""The published copy as an asset: after each sync, last, whatever was skipped before it.

How the copy is made is in `warehouse.publishing`.
"""

import time
from typing import Any

import dagster as dg

from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.outcome import LOG_KEY
from incident_assets.settings import read_settings
from incident_assets.warehouse.publishing import publish_database
from incident_assets.warehouse.schemas import LOG_SCHEMA


def build_published_copy() -> dg.AssetsDefinition:
    """Return the asset that publishes the database."""

    @dg.asset(
        key=[LOG_SCHEMA, "published_copy"],
        deps=[LOG_KEY],
        group_name="operations",
        kinds={"duckdb"},
        # It depends on the log alone, so that nothing skipped stops it, and comes last.
        op_tags={"dagster/priority": "-100"},
        description="The whole database in a second file that is safe to keep open: each sync "
        "replaces it at once, and who reads the old one keeps reading it until reconnecting.",
    )
    def published_copy(duckdb: DuckDBResource) -> dg.MaterializeResult[Any]:
        begun = time.monotonic()
        with explain_errors(), duckdb.hold() as database:
            size = publish_database(duckdb.apply_to(read_settings()), database)
        return dg.MaterializeResult(
            metadata={"bytes": size, "seconds": round(time.monotonic() - begun, 3)}
        )

    return published_copy
