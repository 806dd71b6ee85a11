"""One sync from end to end: lock, account, working folder; fetch, decide, load; the sync log.

Used by the Dagster op and by the command alike.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dlt
import duckdb

from incident_assets.api.endpoints import ENDPOINTS, Endpoint
from incident_assets.api.failures import clean_text, describe_surprise
from incident_assets.api.key import resolve_key
from incident_assets.api.session import read_identity
from incident_assets.settings import Settings
from incident_assets.sync.account import check_account, prepare_account
from incident_assets.sync.fetch import Fetcher
from incident_assets.sync.listing import Listing, is_its_own
from incident_assets.sync.load import build_pipeline, build_source, find_table, read_state
from incident_assets.sync.log import Outcome, prepare_log, write_log
from incident_assets.sync.memory import bound_memory
from incident_assets.sync.plan import Landing, Plan
from incident_assets.sync.progress import Watch, log_progress
from incident_assets.sync.telemetry import opt_out
from incident_assets.warehouse.columns import pin_columns
from incident_assets.warehouse.file import (
    explain_storage_failures,
    has_table,
    open_database,
    read_first_line,
)
from incident_assets.warehouse.merging import (
    compact_table,
    mark_deleted,
    read_columns,
    stamp_load,
    swap_tables,
)
from incident_assets.warehouse.schemas import RAW_SCHEMA, REFRESH_SCHEMA

logger = logging.getLogger(__name__)

LOAD_WORKERS = 4  # more would only hold more in memory at once
MEMORY = "150MB"  # of DuckDB, beyond which it works on disk


@dataclass(frozen=True)
class Sync:
    """A sync that is set up: `fetch`, `load` with the pipeline, then `conclude`."""

    run_id: str
    started: datetime
    connection: duckdb.DuckDBPyConnection
    plan: Plan
    fetcher: Fetcher
    pipeline: dlt.Pipeline
    folder: Path
    landings: list[Landing]

    def fetch(self) -> None:
        """Walk all listings to their ends."""
        self.fetcher.fetch_all(self.plan)

    def load(self, run: Callable[[Any], Iterable[Any]]) -> list[Any]:
        """Have `run` load the dlt source of what the listings change; return what it yields.

        A listing whose rows cannot be loaded is given up, and the others are loaded without it.
        """
        workers = LOAD_WORKERS
        while landings := self.plan.decide():
            self.landings[:] = landings
            try:
                with dlt.config.values({"load.workers": workers}):
                    return list(run(build_source(landings, self.plan.state, self.folder)))
            except Exception as error:
                if not is_its_own(error):
                    raise
                if workers == 1:
                    self._blame(error)
            # One at a time from now on: what takes all the memory may break another's load.
            workers = 1
            self.pipeline.abort_packages()
        self.landings.clear()
        return []

    def _blame(self, error: Exception) -> None:
        """Give the listing up whose rows could not be loaded; all, where that cannot be told."""
        whole = {x.name: x for x in self.plan.listings.values() if x.is_whole}
        if not whole:
            raise error
        table = find_table(error)
        for listing in [whole[table]] if table in whole else whole.values():
            listing.give_up(describe_surprise(error))

    def conclude(self) -> list[Outcome]:
        """Mark what is gone, write the sync log, and return what happened to each resource."""
        self.connection.begin()
        listings = self.plan.listings.values()
        dropped = {}
        if self.plan.schema != RAW_SCHEMA:
            landed = [landing.endpoint for landing in self.landings]
            dropped = swap_tables(self.connection, self.plan.schema, RAW_SCHEMA, landed)
        load_id = self._find_load_id()
        outcomes = [self._judge(x, load_id, dropped.get(x.name, 0)) for x in listings]
        write_log(self.connection, outcomes, self.run_id, self.started, datetime.now(UTC))
        self.connection.commit()
        self._compact([listing.endpoint for listing in listings if listing.is_whole])
        return outcomes

    def _compact(self, endpoints: Sequence[Endpoint]) -> None:
        self.connection.begin()
        try:
            compact_table(self.connection, RAW_SCHEMA, endpoints)
        except duckdb.OutOfMemoryException as error:
            logger.warning("no table was compacted: %s", read_first_line(error))
            self.connection.rollback()
        else:
            self.connection.commit()

    def _judge(self, listing: Listing, load_id: str, deleted: int) -> Outcome:
        table = f"{RAW_SCHEMA}.{listing.name}"
        changed = 0
        if listing.is_whole:
            changed = stamp_load(self.connection, table, load_id)
            if listing.shows_deletions:
                deleted += mark_deleted(self.connection, table, listing.spool, self.started)
            if listing.announced not in (None, listing.rows):
                logger.warning(
                    "%s: the API announced %d rows and %d came; rows may have been added or "
                    "removed meanwhile",
                    listing.name,
                    listing.announced,
                    listing.rows,
                )
        counted = self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        notice = "; ".join(f"{x}: {clean_text(text)}" for x, text in listing.traffic.notice.items())
        return Outcome(
            resource=listing.name,
            listing="full" if listing.full else "changes",
            rows=listing.rows if listing.is_whole else 0,
            changed=changed,
            deleted=deleted,
            table_rows=(counted or (0,))[0],
            requests=listing.traffic.requests,
            seconds=round(listing.seconds, 3),
            load_id=load_id if listing.is_whole else None,
            failure=listing.failure,
            path=listing.way.path,
            notice=notice,
        )

    def _find_load_id(self) -> str:
        trace = self.pipeline.last_trace
        loaded = trace.last_load_info if trace else None
        return loaded.loads_ids[-1] if loaded and loaded.loads_ids else ""


@contextmanager
def open_sync(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    names: Sequence[str],
    run_id: str,
    changes: bool = False,
    full_refresh: bool = False,
    watch: Watch = log_progress,
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> Iterator[Sync]:
    """Set up a sync of these resources, which are rows of `endpoints`, and clean up after it.

    With `changes`, what can be asked for by changes is, where enough is known of earlier syncs.
    With `full_refresh`, the tables are built anew beside the old ones. `watch` is entered with the
    listings, to show how far they are. The database is ours throughout, so nobody can take it
    between fetching and loading. Raises SettingError and DatabaseError (AccountMismatch) before any
    row is fetched.
    """
    opt_out()
    settings.require_base_url()
    key = resolve_key()
    logger.info("syncing from %s with the key from %s", settings.base_url, key.origin)
    started = datetime.now(UTC)
    connection.execute(f"SET memory_limit = '{MEMORY}'")
    connection.execute("SET TimeZone = 'UTC'")  # in others Python cannot hold every instant
    prepare_log(connection)
    prepare_account(connection)
    check_account(connection, settings, read_identity(settings, key))
    with (
        bound_memory(),
        _working_folder(settings.database) as folder,
        _dlt_settings(),
        _choose_schema(connection, full_refresh) as schema,
    ):
        wanted = [endpoint for endpoint in endpoints if endpoint.name in set(names)]
        listings = {
            x.name: Listing(x, folder, read_columns(connection, f"{RAW_SCHEMA}.{x.name}"))
            for x in wanted
        }
        pin_columns(connection, RAW_SCHEMA, wanted)
        pipeline = build_pipeline(connection, schema, folder / "dlt")
        known = {} if schema != RAW_SCHEMA else read_state(pipeline)
        tables = {x for x in listings if has_table(connection, f"{RAW_SCHEMA}.{x}")}
        plan = Plan(connection, schema, listings, tables, known, changes, started)
        with (
            _discarding(listings.values()),
            explain_storage_failures(settings.database),
            watch(listings.values()),
        ):
            fetcher = Fetcher(settings, key, listings.values())
            yield Sync(run_id, started, connection, plan, fetcher, pipeline, folder, [])


@contextmanager
def _discarding(listings: Iterable[Listing]) -> Iterator[None]:
    try:
        yield
    finally:
        for listing in listings:
            listing.spool.discard()


@contextmanager
def _working_folder(path: Path) -> Iterator[Path]:
    # We hold the lock, so whatever is in there was left by a run that died.
    folder = path.with_name(path.name + ".work")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _choose_schema(connection: duckdb.DuckDBPyConnection, full_refresh: bool) -> Iterator[str]:
    """Give the schema to load into: for a full refresh one beside the tables, if there are any."""
    _drop_refresh(connection)
    if not (full_refresh and has_table(connection, f"{RAW_SCHEMA}._dlt_loads")):
        yield RAW_SCHEMA
        return
    try:
        yield REFRESH_SCHEMA
    finally:
        _drop_refresh(connection)


def _drop_refresh(connection: duckdb.DuckDBPyConnection) -> None:
    for schema in (REFRESH_SCHEMA, f"{REFRESH_SCHEMA}_staging"):
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


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
    watch: Watch = log_progress,
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> list[Outcome]:
    """Sync these resources without Dagster and return the outcomes.

    Raises as `open_sync` does, and DatabaseBusy.
    """
    run_id, path = f"pid-{os.getpid()}", settings.database
    options = (changes, full_refresh, watch, endpoints)
    with (
        open_database(path, settings.lock_timeout, f"sync {run_id}") as connection,
        open_sync(connection, settings, names, run_id, *options) as sync,
    ):
        sync.fetch()
        sync.load(lambda source: [sync.pipeline.run(source, loader_file_format="parquet")])
        return sync.conclude()
