"""A warehouse, whichever it is: what can be locked and opened; and which one the settings mean.

The file is `file`'s, the lake `lake`'s. The rest of the code knows only what is said here.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

from incident_assets.settings import Settings
from incident_assets.warehouse import file
from incident_assets.warehouse.lake import Lake


class Warehouse(Protocol):
    """What can be locked and opened. Its text says which one it is, with its setting.

    All raise DatabaseError where it cannot be used, and those that wait DatabaseBusy.
    """

    @property
    def path(self) -> Path:
        """The file, or where it would be: beside it is what belongs to this machine."""

    @property
    def has_file(self) -> bool:
        """Whether all of it is that file, which can be copied."""

    @property
    def is_exclusive(self) -> bool:
        """Whether even who only reads it needs the lock."""

    def lock(self, timeout: float, purpose: str) -> AbstractContextManager[None]:
        """Hold the lock; `purpose` tells those who wait what we are doing."""

    def open(
        self, timeout: float, purpose: str, read_only: bool = False
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Lock it where that is needed, open it, and close it whatever happens."""

    def connect(
        self, timeout: float, read_only: bool = False, config: Mapping[str, Any] | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Open it while its lock is ours, or make it."""

    def exists(self) -> bool:
        """Whether anything was ever loaded."""

    def find_last_use(self) -> float | None:
        """Return when the lock was last taken or given back, in seconds since the epoch.

        None while somebody has it, 0 if nobody ever had. Raises OSError where it cannot be seen.
        """

    def read_stamp(self) -> object:
        """Return what is another one after each commit, where anything depends on that."""

    def explain_failures(self) -> AbstractContextManager[None]:
        """Turn failing storage, wherever it shows in the block, into one DatabaseError."""


@dataclass(frozen=True)
class DatabaseFile:
    """The DuckDB file at a path."""

    path: Path

    has_file = True
    is_exclusive = True

    def __str__(self) -> str:
        return f"{self.path} (INCIDENT_DUCKDB_PATH)"

    def lock(self, timeout: float, purpose: str) -> AbstractContextManager[None]:
        return file.lock_database(self.path, timeout, purpose)

    def open(
        self, timeout: float, purpose: str, read_only: bool = False
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return file.open_database(self.path, timeout, purpose, read_only)

    def connect(
        self, timeout: float, read_only: bool = False, config: Mapping[str, Any] | None = None
    ) -> duckdb.DuckDBPyConnection:
        return file.connect_database(self.path, timeout, read_only, config)

    def exists(self) -> bool:
        return self.path.exists()

    def find_last_use(self) -> float | None:
        return file.find_last_use(self.path)

    def read_stamp(self) -> object:
        # Every commit writes into one of them.
        files = (self.path, self.path.with_name(f"{self.path.name}.wal"))
        seen = [path.stat() for path in files if path.exists()]
        return [(found.st_mtime_ns, found.st_size) for found in seen]

    def explain_failures(self) -> AbstractContextManager[None]:
        return file.explain_storage_failures(self.path)


def find_warehouse(settings: Settings) -> Warehouse:
    """Return the warehouse that the settings mean: the lake, if there is one, or else the file."""
    if settings.lake_catalog:
        return Lake(settings.database, settings.lake_catalog, settings.lake_data)
    return DatabaseFile(settings.database)
