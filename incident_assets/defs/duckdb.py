"""The DuckDB resource: how assets reach the warehouse. Frames are `defs.io_manager`'s.

dagster-duckdb's own is not used: it leaves the connection open after an exception, always opens
read-write, and knows no file lock. Locking itself is in `warehouse.file`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dagster as dg
import duckdb

from incident_assets.settings import SettingError, Settings, read_settings
from incident_assets.warehouse.file import DatabaseBusy, DatabaseError, open_database

# For a busy database alone; failures of the API are retried by the transport, request by request.
BUSY_POLICY = dg.RetryPolicy(max_retries=2, delay=30)


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn what is wrong with settings or database into one clear failure of the step.

    Only a busy database is worth another try, by the step's retry policy.
    """
    try:
        yield
    except DatabaseBusy as error:
        raise dg.Failure(str(error)) from None
    except (SettingError, DatabaseError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None


class DuckDBResource(dg.ConfigurableResource[Any]):
    """The warehouse. Where `path` or `lock_timeout` (seconds) is unset, the settings count."""

    path: str | None = None
    lock_timeout: float | None = None

    def apply_to(self, settings: Settings) -> Settings:
        """Return the settings with this resource's own values in place."""
        own: dict[str, Any] = {"duckdb_path": self.path, "lock_timeout": self.lock_timeout}
        return replace(settings, **{name: v for name, v in own.items() if v is not None})

    @contextmanager
    def connect(
        self, read_only: bool = False, purpose: str = "an asset"
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database under its lock and close it again, whatever happens.

        `purpose` tells those who wait what is going on. Raises DatabaseBusy naming the holder, and
        DatabaseError if the file is no database or cannot be opened.
        """
        settings = self.apply_to(read_settings())
        with open_database(
            settings.database, settings.lock_timeout, purpose, read_only
        ) as connection:
            yield connection

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database as `connect` does, under the name that dagster-duckdb uses."""
        with self.connect() as connection:
            yield connection
