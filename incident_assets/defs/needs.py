"""What a run needs and does not bring: tables and models that its own models read.

Tables are loaded once, where they have never been, so that any order of first runs works; after
that, they are left to the jobs that bring them. Models are built where they lag behind.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.defs.outcome import describe_outcome
from incident_assets.defs.translator import raw_key
from incident_assets.models.building import build_model, find_missing
from incident_assets.models.catalog import MODEL_SCHEMA, Model, read_models
from incident_assets.settings import Settings
from incident_assets.sync.run import open_sync
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, RAW_SCHEMA, name_table

VERSION_TAG = "dagster/data_version"


def load_needed_tables(
    context: dg.AssetExecutionContext,
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    names: Sequence[str],
    endpoints: Sequence[Endpoint],
) -> None:
    """Load the resources that the run's models read, beside its own `names`, if they never were.

    Those of the reference group alone, which is small. Raises as `open_sync` does.
    """
    read = {
        table
        for model in _list_models(context)
        for schema, table in model.tables
        if schema in (RAW_SCHEMA, HISTORY_SCHEMA)
    }
    needed = [
        x.name
        for x in endpoints
        if x.group == "reference" and x.name in read.difference(names)
        if not has_table(connection, name_table(x.name))
    ]
    if not needed:
        return
    context.log.info("models of this run need what was never loaded: %s", ", ".join(needed))
    run_id = context.run.run_id
    with open_sync(connection, settings, needed, run_id, endpoints=endpoints) as sync:
        outcomes = sync.run()
    for outcome in outcomes:
        if outcome.outcome != "failed":
            version, key = sync.versions[outcome.resource], raw_key(outcome.resource)
            _tell(context, key, version, describe_outcome(outcome))


def build_needed_models(
    context: dg.AssetExecutionContext, connection: duckdb.DuckDBPyConnection, settings: Settings
) -> None:
    """Build the models that those of the run read and that are no part of it, as far as they lag.

    Their SQL or a setting may have changed since the job that brings them last ran.
    """
    for model in _list_models(context):
        if context.job_def.has_node_named(model.name) or find_missing(connection, model):
            continue
        built = build_model(connection, model, settings)
        if built.grain.passed and not built.is_unchanged:
            key = dg.AssetKey([MODEL_SCHEMA, model.name])
            metadata = {"dagster/row_count": built.rows, "unchanged": False}
            _tell(context, key, built.version, metadata)


def _list_models(context: dg.AssetExecutionContext) -> list[Model]:
    """Return the models of the run, and those that they read, each after those it reads."""
    found: dict[str, Model] = {}
    read: set[str] = set()
    for name, model in reversed([*read_models().items()]):
        if name in read or context.job_def.has_node_named(name):
            found[name] = model
            read |= {table for schema, table in model.tables if schema == MODEL_SCHEMA}
    return [*reversed(found.values())]


def _tell(
    context: dg.AssetExecutionContext, key: dg.AssetKey, version: str, metadata: dict[str, Any]
) -> None:
    tags = {VERSION_TAG: version}
    context.log_event(dg.AssetMaterialization(key, metadata=metadata, tags=tags))
