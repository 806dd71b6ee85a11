"""The published copy as an asset: after each sync, last, whatever was skipped before it.

How the copy is made is in `warehouse.publishing`.
"""

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg

from incident_assets.api.endpoints import Endpoint
from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.outcome import LOG_KEY
from incident_assets.defs.translator import describe_tables
from incident_assets.models.catalog import MODEL_SCHEMA, read_models
from incident_assets.settings import read_settings
from incident_assets.sync.log import LOG_TABLE, LOG_TEXTS, has_lost_rows
from incident_assets.warehouse.publishing import publish_database
from incident_assets.warehouse.schemas import LOG_SCHEMA, name_table

NONE = "none: a lake is read in place, while it is written too (docs/lake.md)"


def build_published_copy(endpoints: Sequence[Endpoint]) -> dg.AssetsDefinition:
    """Return the asset that publishes the database with the tables of these resources."""
    tables = {name_table(endpoint.name): endpoint.description for endpoint in endpoints}
    tables |= {f"{MODEL_SCHEMA}.{x.name}": x.notes[0] for x in read_models().values()}
    tables[LOG_TABLE] = LOG_TEXTS.table

    @dg.asset(
        key=[LOG_SCHEMA, "published_copy"],
        deps=[LOG_KEY],
        group_name="outputs",
        kinds={"duckdb", "file"},
        metadata={"dagster/column_schema": describe_tables(tables)},
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
            if not database.warehouse.has_file:
                return dg.MaterializeResult(metadata={"copy": NONE})
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
