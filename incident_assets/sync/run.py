"""One sync from end to end: lock, account, working folder, pipeline, sync log.

Used by the Dagster op and by `python -m incident_assets` alike. How rows are fetched and
typed is in the other modules of this folder.
"""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dlt
import duckdb

from incident_assets.api.endpoints import ENDPOINTS, find_endpoint
from incident_assets.api.key import resolve_key
from incident_assets.api.session import Identity, read_identity
from incident_assets.settings import Settings
from incident_assets.sync.listing import Failure, Listing
from incident_assets.sync.load import RAW_SCHEMA, build_pipeline, build_source
from incident_assets.sync.memory import bound_memory
from incident_assets.sync.plan import Changes, read_state
from incident_assets.sync.progress import Watch, log_progress
from incident_assets.sync.telemetry import opt_out
from incident_assets.warehouse.file import (
    DatabaseError,
    explain_storage_failures,
    has_table,
    open_database,
)
from incident_assets.warehouse.merging import compact_table, stamp_rows, swap_tables

log = logging.getLogger(__name__)

LOG_SCHEMA = "incident_sync"
REFRESH_SCHEMA = "incident_api_refresh"
MEMORY = "150MB"  # of DuckDB, beyond which it works on disk
LOG_COLUMNS = {
    "run_id": "VARCHAR",
    "resource": "VARCHAR",
    "started_at": "TIMESTAMPTZ",
    "finished_at": "TIMESTAMPTZ",
    "listing": "VARCHAR",
    "outcome": "VARCHAR",
    "rows": "BIGINT",
    "table_rows": "BIGINT",
    "requests": "BIGINT",
    "seconds": "DOUBLE",
    "load_id": "VARCHAR",
    "error": "VARCHAR",
    "changed": "BIGINT",
    "deleted": "BIGINT",
}


class AccountMismatch(DatabaseError):
    """The database holds another account's rows."""


@dataclass(frozen=True)
class Outcome:
    """What one sync did for one resource; `failure` is None where its rows have landed.

    `rows` were listed, of which `changed` were new or different; `deleted` are newly missing (after
    a full refresh: dropped); `table_rows` are in the table afterwards, deleted ones included.
    `seconds` is the time of the listing; `load_id` names dlt's load package.
    """

    resource: str
    listing: str
    rows: int
    changed: int
    deleted: int
    table_rows: int
    requests: int
    seconds: float
    load_id: str | None
    failure: Failure | None

    def log(self) -> dict[str, Any]:
        """Return its part of a row of the sync log, by column."""
        return vars(self) | {
            "outcome": "failed" if self.failure else "loaded",
            "error": str(self.failure) if self.failure else None,
        }


@dataclass(frozen=True)
class Sync:
    """A sync that is set up: run `pipeline` on `source`, then call `conclude` once."""

    run_id: str
    started: datetime
    schema: str
    connection: duckdb.DuckDBPyConnection
    listings: dict[str, Listing]
    source: Any
    pipeline: dlt.Pipeline

    def conclude(self) -> list[Outcome]:
        """Mark what is gone, write the sync log, and return what happened to each resource."""
        self.connection.begin()
        listings, dropped = self.listings.values(), {}
        if self.schema != RAW_SCHEMA:
            dropped = swap_tables(self.connection, self.schema, RAW_SCHEMA, listings)
        outcomes = [self._judge(listing, dropped.get(listing.name, 0)) for listing in listings]
        compact_table(self.connection, RAW_SCHEMA, listings)
        run = {
            "run_id": self.run_id,
            "started_at": self.started,
            "finished_at": datetime.now(UTC),
        }
        names, marks = ", ".join(LOG_COLUMNS), ", ".join("?" * len(LOG_COLUMNS))
        self.connection.executemany(
            f"INSERT INTO {LOG_SCHEMA}.log ({names}) VALUES ({marks})",
            [[(run | outcome.log())[name] for name in LOG_COLUMNS] for outcome in outcomes],
        )
        self.connection.commit()
        return outcomes

    def _judge(self, listing: Listing, deleted: int) -> Outcome:
        table = f"{RAW_SCHEMA}.{listing.name}"
        if listing.whole:
            if listing.announced not in (None, listing.rows):
                log.warning(
                    "%s: the API announced %d rows and %d came; rows may have been added or "
                    "removed meanwhile",
                    listing.name,
                    listing.announced,
                    listing.rows,
                )
            deleted += stamp_rows(self.connection, table, listing, self.started)
        counted = self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return Outcome(
            resource=listing.name,
            listing="full" if listing.full else "changes",
            rows=listing.rows if listing.whole else 0,
            changed=listing.changed,
            deleted=deleted,
            table_rows=(counted or (0,))[0],
            requests=listing.requests,
            seconds=round(listing.seconds, 3),
            load_id=listing.load_id if listing.whole else None,
            failure=listing.failure,
        )


@contextmanager
def open_sync(
    settings: Settings,
    names: Sequence[str],
    run_id: str,
    changes: bool = False,
    full_refresh: bool = False,
    watch: Watch = log_progress,
) -> Iterator[Sync]:
    """Set up a sync of these resources and clean up after it.

    With `changes`, incidents and their updates are listed by what changed, where enough is known
    of earlier syncs. With `full_refresh`, the tables are built anew beside the old ones. `watch`
    is entered with the listings, to show how far they are. The
    database is locked and open throughout, so nobody can take it between fetching and loading.
    Raises SettingError, DatabaseError (DatabaseBusy, AccountMismatch) before any row is fetched.
    """
    opt_out()
    settings.require_base_url()
    _, origin = resolve_key()
    log.info("syncing from %s with the key from %s", settings.base_url, origin)
    path = settings.database
    with (
        open_database(path, settings.lock_timeout, f"sync {run_id}") as connection,
        bound_memory(),
    ):
        started = datetime.now(UTC)
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        _prepare_log(connection)
        check_account(connection, settings, read_identity(settings))
        with (
            _working_folder(path) as folder,
            _dlt_settings(),
            _choose_schema(connection, full_refresh) as schema,
        ):
            wanted = [endpoint.name for endpoint in ENDPOINTS if endpoint.name in set(names)]
            listings = {name: Listing(find_endpoint(name), folder) for name in wanted}
            pipeline = build_pipeline(connection, schema, folder / "dlt")
            known = read_state(pipeline, RAW_SCHEMA) if changes else {}
            plan = Changes(connection, schema, listings, known, started)
            with (
                _discarding(listings.values()),
                explain_storage_failures(path),
                watch(listings.values()),
            ):
                yield Sync(
                    run_id=run_id,
                    started=started,
                    schema=schema,
                    connection=connection,
                    listings=listings,
                    source=build_source(settings, plan),
                    pipeline=pipeline,
                )


def check_account(
    connection: duckdb.DuckDBPyConnection, settings: Settings, identity: Identity | None
) -> None:
    """Raise AccountMismatch if the database belongs to another account; remember a new one's.

    An account is its API host and, where `/v1/identity` answers, its dashboard's address.
    """
    host = urlsplit(settings.require_base_url()).hostname
    dashboard = identity.dashboard_url if identity else None
    stored = connection.execute(f"SELECT host, dashboard_url FROM {LOG_SCHEMA}.account").fetchone()
    if stored is None:
        connection.execute(f"INSERT INTO {LOG_SCHEMA}.account VALUES (?, ?)", [host, dashboard])
        return
    if stored[0] != host or (dashboard and stored[1] and stored[1] != dashboard):
        raise AccountMismatch(
            f"{settings.duckdb_path} holds the account {' '.join(filter(None, stored))}, but "
            f"INCIDENT_API_BASE_URL and the key lead to {' '.join(filter(None, (host, dashboard)))}"
            ": give each account a database of its own (INCIDENT_DUCKDB_PATH)"
        )
    if dashboard and not stored[1]:
        connection.execute(f"UPDATE {LOG_SCHEMA}.account SET dashboard_url = ?", [dashboard])


def _prepare_log(connection: duckdb.DuckDBPyConnection) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in LOG_COLUMNS.items())
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LOG_SCHEMA}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {LOG_SCHEMA}.log ({columns})")
    for name in ("changed", "deleted"):  # newer than some databases
        connection.execute(
            f"ALTER TABLE {LOG_SCHEMA}.log ADD COLUMN IF NOT EXISTS {name} {LOG_COLUMNS[name]}"
        )
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {LOG_SCHEMA}.account (host VARCHAR, dashboard_url VARCHAR)"
    )


@contextmanager
def _discarding(listings: Iterable[Listing]) -> Iterator[None]:
    try:
        yield
    finally:
        for listing in listings:
            listing.discard()


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
        "extract.workers": 5,  # most listings are one page; more would hold more bodies at once
        "load.workers": 4,  # more would only hold more in memory at once
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
) -> list[Outcome]:
    """Sync these resources without Dagster and return the outcomes. Raises as `open_sync` does."""
    with open_sync(settings, names, f"pid-{os.getpid()}", changes, full_refresh, watch) as sync:
        sync.pipeline.run(sync.source, loader_file_format="parquet")
        return sync.conclude()
