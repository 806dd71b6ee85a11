"""One sync from end to end: lock, account, working folder, its stages, and cleaning up.

Used by the Dagster op and by the command alike. What the stages do is in `stages`.
"""

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dlt
import duckdb

from incident_assets.api.endpoints import ENDPOINTS, Endpoint, find_endpoint
from incident_assets.api.key import resolve_key
from incident_assets.api.personal import Mask, build_mask
from incident_assets.api.retries import ATTEMPTS
from incident_assets.api.session import read_identity
from incident_assets.settings import Settings
from incident_assets.sync.account import (
    find_account,
    prepare_account,
    remember_account,
)
from incident_assets.sync.fetch import Fetcher
from incident_assets.sync.listing import Listing
from incident_assets.sync.load import build_pipeline, read_state
from incident_assets.sync.log import Outcome, prepare_log
from incident_assets.sync.memory import bound_memory
from incident_assets.sync.personal import prepare_masking
from incident_assets.sync.plan import STATUSES, Plan
from incident_assets.sync.progress import Watch, log_progress
from incident_assets.sync.renewal import renew_database
from incident_assets.sync.stages import Sync
from incident_assets.sync.telemetry import opt_out
from incident_assets.sync.updates import INCIDENTS
from incident_assets.values import SettingError
from incident_assets.warehouse.columns import pin_columns
from incident_assets.warehouse.commits import transact
from incident_assets.warehouse.file import (
    has_table,
    open_working_folder,
)
from incident_assets.warehouse.held import hold_database
from incident_assets.warehouse.history import History
from incident_assets.warehouse.interrupts import raise_interrupts
from incident_assets.warehouse.merging import read_schema
from incident_assets.warehouse.place import find_warehouse
from incident_assets.warehouse.schemas import (
    HISTORY_SCHEMA,
    RAW_SCHEMA,
    REFRESH_SCHEMA,
    name_table,
)
from incident_assets.warehouse.spool import Spool
from incident_assets.warehouse.versions import Look, find_rewritten, prepare_versions, read_looks

logger = logging.getLogger(__name__)

MEMORY = "350MB"  # of DuckDB: a row group of incidents, with what it is compressed in; then disk


@contextmanager
def open_sync(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    names: Sequence[str],
    run_id: str,
    changes: bool = False,
    full_refresh: bool = False,
    accept_loss: Sequence[str] = (),
    watch: Watch = log_progress,
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> Iterator[Sync]:
    """Set up a sync of these resources, which are rows of `endpoints`, and clean up after it.

    With `changes`, what can be asked for by changes is, where enough is known of earlier syncs.
    With `full_refresh`, the tables are built anew beside the old ones. `accept_loss` names those
    of them that may lose whatever a full listing lacks. `watch` is entered with the listings, to
    show how far they are. The database is ours throughout, so nobody can take it between fetching
    and loading. Raises SettingError and DatabaseError (AccountMismatch, MaskMismatch) before any
    row is fetched.
    """
    if unknown := sorted({*accept_loss}.difference(names)):
        raise SettingError(
            f"accept_loss names {', '.join(unknown)}, which this sync does not load: give names "
            f"among {', '.join(names)}"
        )
    opt_out()
    settings.require_base_url()
    mask = build_mask(settings, endpoints)
    key = resolve_key()
    logger.info("syncing from %s with the key from %s", settings.base_url, key.origin)
    started = datetime.now(UTC)
    connection.execute("SET TimeZone = 'UTC'")  # in others Python cannot hold every instant
    identity = read_identity(settings, key, ATTEMPTS)
    with transact(connection):
        prepare_log(connection)
        prepare_versions(connection)
        prepare_account(connection)
        account = find_account(connection, settings, identity)
        remember_account(connection, settings, identity)
        prepare_masking(connection, settings, mask, endpoints, names, full_refresh)
        _drop_refresh(connection)
        columns = read_schema(connection, RAW_SCHEMA)
        versions = read_schema(connection, HISTORY_SCHEMA)
    with (
        bound_memory(),
        _bound_database(connection),
        _open_spooling(connection, settings) as spooling,
        open_working_folder(settings.database) as folder,
        _dlt_settings(),
        _choose_schema(connection, full_refresh) as schema,
    ):
        wanted = [endpoint for endpoint in endpoints if endpoint.name in set(names)]
        stored = {x.name: columns.get(x.name, {}) for x in wanted}
        listings = {
            x.name: Listing(x, Spool(x, folder, spooling, stored[x.name], mask)) for x in wanted
        }
        pin_columns(connection, RAW_SCHEMA, wanted, stored)
        pin_columns(connection, HISTORY_SCHEMA, wanted, versions)
        history = History(connection, versions, settings.history_days)
        pipeline = build_pipeline(connection, RAW_SCHEMA, folder / "dlt")
        tables = {name for name, columns in stored.items() if columns}
        by_changes = changes and schema == RAW_SCHEMA
        known, looks = _recall(connection, pipeline, listings, tables, by_changes)
        if schema != RAW_SCHEMA:
            pipeline = build_pipeline(connection, schema, folder / "dlt-refresh")
        statuses = _find_statuses(listings, folder, spooling, mask)
        plan = Plan(
            *(connection, schema, listings, tables, known, by_changes, started, statuses),
            accepted=accept_loss,
            lost_roles=account.lost_roles,
        )
        with _discarding(listings.values()), watch(listings.values()):
            fetcher = Fetcher(settings, key, [*listings.values(), *plan.chain])
            with raise_interrupts():
                yield Sync(
                    *(run_id, settings, account, started, connection, plan, history, fetcher),
                    *(pipeline, folder),
                    looks=looks,
                )


def _recall(
    connection: duckdb.DuckDBPyConnection,
    pipeline: dlt.Pipeline,
    resources: Collection[str],
    tables: AbstractSet[str],
    by_changes: bool,
) -> tuple[Mapping[str, Mapping[str, Any]], dict[str, Look]]:
    """Return what is remembered of resources, and what their tables look like if it was asked.

    By changes, nothing is remembered of a table that is gone, or that another program wrote: it
    lacks more than what changed since.
    """
    known = read_state(pipeline)
    if not by_changes:
        return known, {}
    with transact(connection):
        looks = read_looks(connection, [name_table(name) for name in tables])
        rewritten = find_rewritten(connection, looks)
    lost = {x for x in resources if x not in tables or name_table(x) in rewritten}
    return {name: values for name, values in known.items() if name not in lost}, looks


def _find_statuses(
    listings: Mapping[str, Listing],
    folder: Path,
    connection: duckdb.DuckDBPyConnection,
    mask: Mask | None,
) -> Listing | None:
    """Return the listing of statuses that incidents need; its requests count as theirs."""
    if INCIDENTS not in listings or STATUSES in listings:
        return listings.get(STATUSES) if INCIDENTS in listings else None
    endpoint = find_endpoint(STATUSES)
    statuses = Listing(endpoint, Spool(endpoint, folder, connection, mask=mask))
    statuses.traffic.counted_in = listings[INCIDENTS].traffic
    return statuses


@contextmanager
def _discarding(listings: Iterable[Listing]) -> Iterator[None]:
    try:
        yield
    finally:
        for listing in listings:
            listing.spool.discard()


@contextmanager
def _choose_schema(connection: duckdb.DuckDBPyConnection, full_refresh: bool) -> Iterator[str]:
    """Give the schema to load into: for a full refresh one beside the tables, if there are any."""
    if not (full_refresh and has_table(connection, f"{RAW_SCHEMA}._dlt_loads")):
        yield RAW_SCHEMA
        return
    try:
        yield REFRESH_SCHEMA
    finally:
        with suppress(duckdb.Error):  # none is open
            connection.rollback()
        with transact(connection):
            _drop_refresh(connection)


def _drop_refresh(connection: duckdb.DuckDBPyConnection) -> None:
    for schema in (REFRESH_SCHEMA, f"{REFRESH_SCHEMA}_staging"):
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@contextmanager
def _bound_database(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute(f"SET memory_limit = '{MEMORY}'")
    try:
        yield
    finally:
        # What is written into the file at closing may take more; else it stays in the log beside.
        with suppress(duckdb.Error):
            connection.execute("RESET memory_limit")


@contextmanager
def _open_spooling(
    connection: duckdb.DuckDBPyConnection, settings: Settings
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give the connection that reads files of rows, each time without asking a lake's catalog."""
    if not settings.lake_catalog:
        yield connection
        return
    with duckdb.connect(":memory:", config={"memory_limit": MEMORY}) as spooling:
        yield spooling


@contextmanager
def _dlt_settings() -> Iterator[None]:
    # Through the environment the user still has the last word: dlt looks there first.
    values = {
        "extract.futures_poll_interval": 0.001,  # seconds; what is fetched has no futures
        "load.raise_on_max_retries": 1,  # nobody else writes, so what fails now fails again
        "load.truncate_staging_dataset": True,  # or every row stays in the file twice
    }
    with dlt.config.values(values):
        yield


def run_sync(
    settings: Settings,
    names: Sequence[str],
    changes: bool = False,
    full_refresh: bool = False,
    accept_loss: Sequence[str] = (),
    watch: Watch = log_progress,
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> list[Outcome]:
    """Sync these resources without Dagster and return the outcomes.

    Raises as `open_sync` does, and DatabaseBusy.
    """
    run_id, warehouse = f"pid-{os.getpid()}", find_warehouse(settings)
    options = (changes, full_refresh, accept_loss, watch, endpoints)
    with hold_database(warehouse, run_id, f"sync {run_id}") as database:
        with (
            database.cursor(settings.lock_timeout) as connection,
            open_sync(connection, settings, names, run_id, *options) as sync,
        ):
            outcomes = sync.run()
        if sync.is_due:
            renew_database(settings, database)
    return outcomes
