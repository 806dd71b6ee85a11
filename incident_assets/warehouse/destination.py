"""dlt's DuckDB destination on a connection that is open already, made cheap for small syncs.

dlt asks for what a destination is and can do hundreds of times in a run. What is loaded into it,
and who opens and closes the connection, is decided elsewhere.
"""

from functools import cache
from pathlib import Path
from typing import Any, cast

import dlt
import duckdb
from dlt.common.configuration import configspec

# dlt exports its destinations, but not what they are configured by and made of.
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration, DuckDbCredentials
from dlt.destinations.impl.duckdb.duck import DuckDbClient, DuckDbCopyJob

from incident_assets.warehouse.file import quote_path


@configspec(init=False)
class OpenCredentials(DuckDbCredentials):
    """A connection that is open, in the place of credentials."""

    @staticmethod
    def _external_conn_database(conn: duckdb.DuckDBPyConnection) -> str:
        return ":external:"  # dlt would ask the database each time, and nothing of ours reads it


@configspec(init=False)
class OpenConfiguration(DuckDbClientConfiguration):
    """The configuration of an open database, whose path is in messages of ours anyway."""

    credentials: OpenCredentials = None  # type: ignore[assignment]  # as dlt declares its own

    __hash__ = object.__hash__  # so that what depends on it can be remembered

    # dlt would import SQLAlchemy, to write an address that nobody reads.
    __str__ = object.__repr__


class QuotedCopyJob(DuckDbCopyJob):
    """Reads a file by its name, whatever apostrophes and wildcards the folders above it have."""

    def run(self) -> None:
        self._file_path = quote_path(Path(self._file_path))[1:-1]  # dlt quotes, but does not escape
        super().run()


class OpenClient(DuckDbClient):
    """dlt's client for DuckDB, with that job for files."""

    def create_load_job(
        self, table: Any, file_path: str, load_id: str, restore: bool = False
    ) -> Any:
        """Return the job that loads a file."""
        job = super().create_load_job(table, file_path, load_id, restore)
        return QuotedCopyJob(file_path) if isinstance(job, DuckDbCopyJob) else job


class OpenDuckDB(dlt.destinations.duckdb):
    """The destination that a pipeline writes through `connection`, which stays open."""

    spec = OpenConfiguration
    # What dlt notes in its state: databases of ours look like any other.
    destination_type = cast(Any, "dlt.destinations.duckdb")
    client_class = OpenClient

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        # Without this, dlt merges most tables in two commits, and a crash between them loses rows.
        super().__init__(connection, supports_transactions=True)
        # Settings are looked up once, instead of at each of a hundred questions.
        self.capabilities = cache(super().capabilities)  # type: ignore[method-assign]
