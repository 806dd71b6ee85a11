"""From the table of resources to dlt: the rest_api configuration, the source and the pipeline.

`build_config` has the shape of the document that the project was created from; docs/seed.md lists
where it differs. What a run does around them (lock, log, folders) is in `sync`.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import dlt
import duckdb
import pyarrow as pa
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import RESTAPIConfig

from incident_assets.settings import Settings
from incident_assets.source.endpoints import Column, Endpoint
from incident_assets.source.keys import LazyBearerAuth
from incident_assets.source.listing import Listing
from incident_assets.source.pagination import VariantPaginator
from incident_assets.source.tables import build_columns
from incident_assets.source.transport import PagedResponse, build_session

PIPELINE_NAME = "incident_assets"
RAW_SCHEMA = "incident_api"


def build_config(endpoints: Iterable[Endpoint], base_url: str) -> dict[str, Any]:
    """Return the rest_api configuration of these resources: one entry each, no key in it."""
    return {
        "client": {"base_url": base_url, "auth": LazyBearerAuth()},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [
            {"name": endpoint.name, "endpoint": _build_endpoint(endpoint)} for endpoint in endpoints
        ],
    }


def _build_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    # Each resource has params of its own: dlt shares one dict among those without.
    params: dict[str, Any] = {**endpoint.params, **endpoint.variants[0]}
    paginator: Any = {"type": "single_page"}
    if endpoint.page_size is not None:
        params["page_size"] = endpoint.page_size
        paginator = {
            "type": "cursor",
            "cursor_param": "after",
            "cursor_path": "pagination_meta.after",
        }
    elif len(endpoint.variants) > 1:
        paginator = VariantPaginator(endpoint.variants)
    return {
        "path": endpoint.path,
        "data_selector": endpoint.name,
        "params": {name: list(v) if isinstance(v, tuple) else v for name, v in params.items()},
        "paginator": paginator,
    }


def hand_over(listing: Listing, item: Any, meta: Any = None) -> Iterator[Any] | None:
    """Spool a page; after the last one, let dlt see the files of the whole listing.

    A step of the resource's pipe: it runs in dlt's extracting thread, where the load package is
    known. `item` is rest_api's page, which carries the response it came from.
    """
    response = cast(PagedResponse, item.response)
    listing.spool(response.page.items, dlt.current.load_package_state()["load_id"])
    return _import_files(listing) if response.last else None


def _import_files(listing: Listing) -> Iterator[Any]:
    pinned = {column.name for column in build_columns(listing.endpoint)}
    for file in listing.hand_over():
        # The columns are known from hints; dlt wants an Arrow table all the same.
        empty = pa.schema([file.schema.field("id")]).empty_table()
        if extra := [Column(n, "json", "") for n in file.schema.names if n not in pinned]:
            # An import takes a schema or hints, not both; text would hide that this is JSON.
            yield dlt.mark.with_hints(empty, dlt.mark.make_hints(columns=build_hints(extra)))
        yield dlt.mark.with_file_import(str(file.path), "parquet", file.rows, hints=empty)


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


def build_source(settings: Settings, listings: Mapping[str, Listing]) -> Any:
    """Return the dlt source that walks these listings, fetching up to thirteen at a time."""
    config = build_config((x.endpoint for x in listings.values()), settings.require_base_url())
    config["client"]["session"] = build_session(settings, listings.values())
    source = rest_api_source(
        cast(RESTAPIConfig, config), name=RAW_SCHEMA, max_table_nesting=0, parallelized=True
    )
    for name, listing in listings.items():
        resource = source.resources[name]
        resource.apply_hints(columns=build_hints(build_columns(listing.endpoint)))
        resource.add_step(partial(hand_over, listing))
    return source


def build_pipeline(connection: duckdb.DuckDBPyConnection, folder: Path) -> dlt.Pipeline:
    """Return a pipeline that writes through an open connection and works in an empty folder."""
    return dlt.pipeline(
        PIPELINE_NAME,
        pipelines_dir=str(folder),
        # Without this, dlt merges most tables in two commits, and a crash between them loses rows.
        destination=dlt.destinations.duckdb(connection, supports_transactions=True),
        dataset_name=RAW_SCHEMA,
    )
