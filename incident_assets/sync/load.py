"""Load: what whole listings change, through dlt, in one load package.

Which rows those are is decided before; how DuckDB takes them is the warehouse's.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from dlt.extract import DltResource
from dlt.load.exceptions import LoadClientJobException

from incident_assets.api.cells import ARROW_TYPES
from incident_assets.api.endpoints import LOADER_COLUMNS, Column
from incident_assets.api.failures import unwrap
from incident_assets.sync.plan import Landing
from incident_assets.warehouse.destination import OpenDuckDB
from incident_assets.warehouse.schemas import RAW_SCHEMA

PIPELINE_NAME = "incident_assets"


def build_source(
    landings: Iterable[Landing], state: Mapping[str, Mapping[str, Any]], folder: Path
) -> Any:
    """Return the dlt source with a resource for each table, which hands its file over.

    `state` is what is remembered, by resource; it is committed with the rows. In `folder` is made
    what has no file yet.
    """

    def list_resources() -> Iterator[DltResource]:
        for number, landing in enumerate(landings):
            yield _build_resource(landing, {} if number else state, folder)

    return dlt.source(list_resources, name=RAW_SCHEMA, max_table_nesting=0)()


def _build_resource(
    landing: Landing, state: Mapping[str, Mapping[str, Any]], folder: Path
) -> DltResource:
    name, file = landing.endpoint.name, landing.file
    path = file.path if file else folder / f"{name}.empty.parquet"
    pinned = [*landing.endpoint.columns, *LOADER_COLUMNS]
    known = {column.name for column in pinned}
    unknown = [Column(x, "json", "") for x in (file.schema.names if file else ()) if x not in known]

    def hand_over() -> Iterator[Any]:
        for resource, values in state.items():
            remembered = dlt.current.resource_state(resource)
            remembered.clear()
            remembered.update(values)
        if file is None:
            pq.write_table(_build_empty(pinned), path)
        marked = dlt.mark.with_file_import(str(path), "parquet", landing.rows)
        # Without an item dlt would drop the mark; this one has no rows and no file of its own.
        marked.data = _build_empty(pinned[:1])
        yield marked

    return dlt.resource(
        hand_over,
        name=name,
        primary_key="id",
        write_disposition="append" if landing.is_new else "merge",
        columns=build_hints([*pinned, *unknown]),
    )


def _build_empty(columns: Iterable[Column]) -> pa.Table:
    fields = [pa.field(x.name, ARROW_TYPES[x.type], nullable=x.nullable) for x in columns]
    return pa.schema(fields).empty_table()


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


def find_table(error: BaseException) -> str | None:
    """Return the table whose job failed a load; None where that cannot be told."""
    jobs = (x.job_id for x in unwrap(error) if isinstance(x, LoadClientJobException))
    return next((job.partition(".")[0] for job in jobs), None)


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
