"""Load: what whole listings change, through dlt, in one load package.

Which rows those are is decided before; how DuckDB takes them is the warehouse's.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.extract import DltResource

from incident_assets.api.endpoints import Column, Endpoint
from incident_assets.api.rows import build_columns, build_schema
from incident_assets.warehouse.destination import OpenDuckDB
from incident_assets.warehouse.schemas import RAW_SCHEMA
from incident_assets.warehouse.spool import SpooledFile

PIPELINE_NAME = "incident_assets"


@dataclass(frozen=True)
class Landing:
    """What a listing changes in its table, as a file.

    Into an empty table one file is appended, at once and whole; a merge would write rows twice.
    """

    endpoint: Endpoint
    file: SpooledFile
    append: bool


def build_source(landings: Iterable[Landing], state: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the dlt source with a resource for each table, which hands its file over.

    `state` is what is remembered, by resource; it is committed with the rows.
    """

    def list_resources() -> Iterator[DltResource]:
        for landing in landings:
            yield _build_resource(landing, state)

    return dlt.source(list_resources, name=RAW_SCHEMA, max_table_nesting=0)()


def _build_resource(landing: Landing, state: Mapping[str, Mapping[str, Any]]) -> DltResource:
    name = landing.endpoint.name
    pinned = build_columns(landing.endpoint)
    known = {column.name for column in pinned}
    unknown = [Column(x, "json", "") for x in landing.file.schema.names if x not in known]

    def hand_over() -> Iterator[Any]:
        for resource, values in state.items():
            remembered = dlt.current.resource_state(resource)
            remembered.clear()
            remembered.update(values)
        file = dlt.mark.with_file_import(str(landing.file.path), "parquet", landing.file.rows)
        # Without an item dlt would drop the mark; this one has no rows and no file of its own.
        file.data = build_schema(pinned[:1]).empty_table()
        yield file

    return dlt.resource(
        hand_over,
        name=name,
        primary_key="id",
        write_disposition="append" if landing.append else "merge",
        columns=build_hints([*pinned, *unknown]),
    )


def build_hints(columns: Iterable[Column]) -> dict[str, Any]:
    """Return dlt's column hints, a dict of its own for each column."""
    return {
        column.name: {
            "name": column.name,
            "data_type": column.type,
            "nullable": column.nullable,
            "description": column.description,
        }
        for column in columns
    }


def build_pipeline(
    connection: duckdb.DuckDBPyConnection, schema: str, folder: Path
) -> dlt.Pipeline:
    """Return a pipeline that writes through an open connection and works in an empty folder."""
    return dlt.pipeline(
        PIPELINE_NAME,
        pipelines_dir=str(folder),
        destination=OpenDuckDB(connection),
        dataset_name=schema,
    )


def read_state(pipeline: dlt.Pipeline) -> Mapping[str, Mapping[str, Any]]:
    """Return what earlier syncs of this database remembered, by resource."""
    pipeline.sync_destination()
    sources: Mapping[str, Any] = pipeline.state.get("sources", {})
    return sources.get(RAW_SCHEMA, {}).get("resources", {})
