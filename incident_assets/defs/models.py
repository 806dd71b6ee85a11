"""The models as assets: one for each SQL file, a step each, so that one can be skipped alone.

Key, dependencies, columns, descriptions and lineage come from the file. How it is read and built
is in `incident_assets.models`.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import dagster as dg

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.freshness import fail_window, warn_window
from incident_assets.defs.checks import report_finding
from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.translator import link_code
from incident_assets.models.building import build_model, check_grain, find_missing
from incident_assets.models.catalog import (
    MODEL_SCHEMA,
    ColumnSource,
    Model,
    find_file,
    find_origins,
    read_models,
)
from incident_assets.models.mapped import MODEL_CHECKS, ModelCheck
from incident_assets.settings import read_settings
from incident_assets.warehouse.schemas import RAW_SCHEMA

GRAIN = "grain"


def build_models(endpoints: Iterable[Endpoint]) -> list[dg.AssetsDefinition]:
    """Return an asset for each model, with its checks in the same step."""
    table = {endpoint.name: endpoint for endpoint in endpoints}
    return [_build_asset(model, table) for model in read_models().values()]


def model_key(name: str) -> dg.AssetKey:
    """Return the asset key of a model: schema, then table."""
    return dg.AssetKey([MODEL_SCHEMA, name])


def _build_asset(model: Model, table: Mapping[str, Endpoint]) -> dg.AssetsDefinition:
    key = model_key(model.name)
    others = [check for check in MODEL_CHECKS if check.model == model.name]

    @dg.multi_asset(
        name=model.name,
        specs=[_build_spec(model, table)],
        check_specs=_build_check_specs(model, others),
        # Nothing is yielded where there is nothing to read, not even a result of the check.
        can_subset=True,
    )
    def build(
        context: dg.AssetExecutionContext, duckdb: DuckDBResource
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        begun = time.monotonic()
        built, findings = None, {}
        with explain_errors(), duckdb.open_cursor() as connection:
            if missing := find_missing(connection, model):
                context.log.info("skipped, since nothing is there yet: %s", ", ".join(missing))
                return
            settings = duckdb.apply_to(read_settings())
            if key in context.selected_asset_keys:
                built = build_model(connection, model, settings)
                findings[GRAIN] = built.grain
            else:
                findings[GRAIN] = check_grain(connection, model)
            if built is None or built.grain.passed:
                findings |= {x.name: x.find(connection, settings) for x in others}
        if built and built.grain.passed:
            metadata: dict[str, Any] = {
                "dagster/row_count": built.rows,
                "unchanged": built.is_unchanged,
            }
            if not built.is_unchanged:
                metadata["seconds"] = round(time.monotonic() - begun, 3)
            version = dg.DataVersion(built.version)
            yield dg.MaterializeResult(key, metadata=metadata, data_version=version)
        selected = {check.name for check in context.selected_asset_check_keys}
        for name, finding in findings.items():
            # A build that was undone must not pass for one, whether or not its check was selected.
            if built or name in selected:
                yield report_finding(name, key, finding)

    return build


def _build_check_specs(model: Model, others: Iterable[ModelCheck]) -> list[dg.AssetCheckSpec]:
    key = model_key(model.name)
    grain = dg.AssetCheckSpec(
        GRAIN,
        asset=key,
        blocking=True,
        description=f"({', '.join(model.grain)}) is never empty and never there twice. "
        "A build that breaks this is undone, and nothing is built on it.",
    )
    return [
        grain,
        *(
            dg.AssetCheckSpec(x.name, asset=key, description=f"{x.meaning}\n\n{x.remedy}")
            for x in others
        ),
    ]


def _build_spec(model: Model, table: Mapping[str, Endpoint]) -> dg.AssetSpec:
    # Any sync that brings one of its tables brings the model, so the fastest one counts.
    origins = {
        o for column in model.columns for source in column.sources for o in find_origins(source)
    }
    endpoints = [table[origin.table] for origin in origins if origin.schema == RAW_SCHEMA]
    # What rows were is written by the sync of their table, and is no asset of its own.
    read = model.tables | {(RAW_SCHEMA, name) for _, name in model.histories}
    fastest = min(endpoints, key=lambda endpoint: endpoint.cadence)
    return dg.AssetSpec(
        key=model_key(model.name),
        deps=[dg.AssetKey(table) for table in sorted(read) if _is_asset(table[0])],
        group_name="analytics",
        kinds={"duckdb", "sql"},
        skippable=True,
        code_version=sha256(model.sql.encode()).hexdigest()[:12],
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=fail_window(fastest), warn_window=warn_window(fastest)
        ),
        description="\n\n".join([*model.notes, f"```sql\n{model.sql}```"]),
        tags={"layer": "model"},
        metadata=_describe(model)
        | {"column lineage": dg.MetadataValue.md(write_lineage(model))}
        | link_code(find_file(model.name), 1, model.name),
    )


def _describe(model: Model) -> dict[str, Any]:
    """Return the metadata of columns, said once, here, rather than at each build."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            # The list of columns is shown without a click.
            f"{column.description} (from {_list(column.sources)})",
            dg.TableColumnConstraints(
                nullable=column.name not in model.grain, unique=model.grain == (column.name,)
            ),
        )
        for column in model.columns
    ]
    lineage = {
        column.name: [
            dg.TableColumnDep(dg.AssetKey([source.schema, source.table]), source.column)
            for source in sorted(column.sources)
            if _is_asset(source.schema)
        ]
        for column in model.columns
    }
    return {
        "dagster/table_name": f"{MODEL_SCHEMA}.{model.name}",
        "dagster/column_schema": dg.TableSchema(columns),
        "dagster/column_lineage": dg.TableColumnLineage(lineage),
    }


def write_lineage(model: Model) -> str:
    """Return a table in Markdown: each column, what it is made from, and where that comes from.

    Dagster's own UI keeps `dagster/column_lineage` to itself, so it is written out as well.
    """
    lines = ["| column | made from | API fields and settings behind it |", "|---|---|---|"]
    for column in model.columns:
        origins = find_origins(ColumnSource(MODEL_SCHEMA, model.name, column.name))
        lines.append(f"| {column.name} | {_list(column.sources)} | {_list(origins)} |")
    return "\n".join(lines)


def _list(sources: Iterable[ColumnSource]) -> str:
    return ", ".join(f"`{label}`" for label in sorted(source.label for source in sources))


def _is_asset(schema: str) -> bool:
    return schema in (RAW_SCHEMA, MODEL_SCHEMA)
