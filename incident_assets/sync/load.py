"""From the table of resources to dlt: the rest_api configuration, the source and the pipeline.

`build_config` has the shape of the document that the project was created from; docs/seed.md lists
where it differs. What a run does around them (lock, log, folders) is in `sync`.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dlt
import duckdb
from dlt.common.jsonpath import compile_path
from dlt.extract import DltResource
from dlt.sources.helpers.requests import Session
from dlt.sources.helpers.rest_client.client import PageData, RESTClient
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import RESTAPIConfig

from incident_assets.api.endpoints import Column, Endpoint
from incident_assets.api.key import LazyBearerAuth
from incident_assets.api.pages import VariantPaginator
from incident_assets.api.rows import build_columns, build_schema
from incident_assets.api.session import build_session
from incident_assets.settings import Settings
from incident_assets.sync.listing import Listing
from incident_assets.sync.memory import release_memory
from incident_assets.sync.plan import INCIDENTS, UPDATES, Changes
from incident_assets.warehouse.destination import OpenDuckDB
from incident_assets.warehouse.merging import has_rows, write_changed

PIPELINE_NAME = "incident_assets"
RAW_SCHEMA = "incident_api"
WALKS_AT_ONCE = 8  # incidents whose updates are being fetched
WAIT = 0.05  # seconds


def build_config(
    endpoints: Iterable[Endpoint], base_url: str, updated_since: date | None = None
) -> dict[str, Any]:
    """Return the rest_api configuration of these resources: one entry each, no key in it.

    With `updated_since`, only incidents changed on that day (UTC) or later are asked for.
    """
    return {
        "client": {"base_url": base_url, "auth": LazyBearerAuth()},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [
            {"name": endpoint.name, "endpoint": _build_endpoint(endpoint, updated_since)}
            for endpoint in endpoints
        ],
    }


def _build_endpoint(endpoint: Endpoint, updated_since: date | None) -> dict[str, Any]:
    # Each resource has params of its own: dlt shares one dict among those without.
    params: dict[str, Any] = {**endpoint.params, **endpoint.variants[0]}
    if updated_since is not None and endpoint.name == INCIDENTS:
        params["updated_at[gte]"] = updated_since.isoformat()
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


@dataclass(frozen=True)
class HandOver:
    """The last step of a resource's pipe: lets dlt see the rows of a whole listing, as a file.

    Run in dlt's extracting thread. `item` is rest_api's page, which carries the response it came
    from; the transport has spooled its rows already.
    """

    changes: Changes
    listing: Listing

    def __call__(self, item: Any, meta: Any = None) -> Iterator[Any] | None:
        return self._import_changed() if item.response.last else None

    def _import_changed(self) -> Iterator[Any]:
        listing, connection = self.listing, self.changes.connection
        table = self.changes.table(listing.name)
        listing.load_id = dlt.current.load_package_state()["load_id"]
        listing.end()
        release_memory()
        self.changes.settle(listing)
        file = write_changed(connection, table, listing)
        listing.changed = file.rows
        pinned = build_columns(listing.endpoint)
        names = {column.name for column in pinned}
        extra = [Column(name, "json", "") for name in file.schema.names if name not in names]
        # Into an empty table one file goes at once and whole; a merge would write rows twice.
        hints = dlt.mark.make_hints(
            columns=build_hints([*pinned, *extra]),
            write_disposition="merge" if has_rows(connection, table) else "append",
        )
        marked = dlt.mark.with_file_import(str(file.path), "parquet", file.rows, hints=hints)
        # Without an item dlt would drop the mark; this one has no rows and no file of its own.
        marked.data = build_schema(pinned[:1]).empty_table()
        yield marked


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


def build_source(settings: Settings, changes: Changes) -> Any:
    """Return the dlt source that walks the listings, fetching several at a time."""
    listings = changes.listings
    session = build_session(settings, listings.values())
    updates = listings.get(UPDATES)
    by_incident = [updates] if updates is not None and not updates.full else []
    config = build_config(
        (listing.endpoint for listing in listings.values() if listing not in by_incident),
        settings.require_base_url(),
        changes.updated_since,
    )
    config["client"]["session"] = session
    for resource in config["resources"]:
        # dlt would compile the text anew for every page.
        resource["endpoint"]["data_selector"] = compile_path(resource["name"])
    source = rest_api_source(
        cast(RESTAPIConfig, config), name=RAW_SCHEMA, max_table_nesting=0, parallelized=True
    )
    for listing in by_incident:
        source.resources.add(_build_updates(settings, session, listing, changes))
    for name, listing in listings.items():
        resource = source.resources[name]
        resource.apply_hints(columns=build_hints(build_columns(listing.endpoint)))
        resource.add_step(HandOver(changes, listing))
    return source


def _build_updates(
    settings: Settings, session: Session, listing: Listing, changes: Changes
) -> DltResource:
    """Return the resource that asks for the updates of one incident after the other.

    Which ones is known when the incidents have been listed; it may turn out to be all at once.
    """
    endpoint = _build_endpoint(listing.endpoint, None)
    # One client for all walks: the paths in it are compiled once, and each walk copies the rest.
    client = RESTClient(
        settings.require_base_url(),
        auth=LazyBearerAuth(),
        session=session,
        paginator=JSONResponseCursorPaginator("pagination_meta.after", "after"),
        data_selector=compile_path(listing.name),
    )

    def walk(filters: Mapping[str, str]) -> None:
        for _ in client.paginate(endpoint["path"], params={**endpoint["params"], **filters}):
            pass  # the transport spools each page

    def fetch() -> Iterator[Any]:
        while not changes.wait(WAIT):
            yield None  # gives the thread back, since what we wait for may never come
        listing.load_id = dlt.current.load_package_state()["load_id"]
        wanted = changes.wanted
        walks = [{}] if wanted is None else [{"incident_id": incident} for incident in wanted]
        listing.expect_walks(len(walks))
        with ThreadPoolExecutor(WALKS_AT_ONCE) as pool:
            for _ in pool.map(walk, walks):
                pass
        yield PageData([], None, SimpleNamespace(last=True), None, None)  # type: ignore[arg-type]

    return dlt.resource(
        fetch,
        name=listing.name,
        primary_key="id",
        write_disposition="merge",
        max_table_nesting=0,
        parallelized=True,
    )


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
