"""The published copy as an asset: after each sync, last, whatever was skipped before it.

How the copy is made is in `warehouse.publishing`.
"""

import time
from typing import Any

import dagster as dg

from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.outcome import LOG_KEY
from incident_assets.settings import read_settings
from incident_assets.sync.log import has_lost_rows
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
        description="What is read of the database (raw tables, models, the sync log, schemas of "
        "your own), in a second file that is safe to keep open: a sync that "
        "changed anything replaces it at once, and who reads the old one keeps reading it until "
        "reconnecting. New rows of the sync log alone replace it once an hour. After "
        "a full refresh that dropped rows, or a loss that was accepted, the copy of before stays "
        "beside it, so that it can be taken back.",
    )
    def published_copy(duckdb: DuckDBResource) -> dg.MaterializeResult[Any]:
        begun = time.monotonic()
        settings = duckdb.apply_to(read_settings())
        with explain_errors(), duckdb.hold() as database:
            with database.cursor(settings.lock_timeout) as connection:
                lost = has_lost_rows(connection, settings.published_copy)
            copy = publish_database(settings, database, keep_previous=lost)
        return dg.MaterializeResult(
            metadata={
                "bytes": copy.size,
                "unchanged": copy.is_unchanged,
                "seconds": round(time.monotonic() - begun, 3),
                "previous_copy": settings.previous_copy.name if lost else "",
            },
            data_version=dg.DataVersion(copy.contents),
        )

    return published_copy
