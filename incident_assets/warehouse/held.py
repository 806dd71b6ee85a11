"""A database that a run holds: opened at its first use, closed at the run's end, its lock with it.

How it is opened and locked is the warehouse's, in `place`; who works on it is decided elsewhere.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from incident_assets.warehouse.file import DatabaseError
from incident_assets.warehouse.place import Warehouse
from incident_assets.warehouse.versions import note_others

# One for all that a process does in a run, by both: resources are there more than once.
_HELD: dict[tuple[type[Warehouse], Path, str], "HeldDatabase"] = {}
_GUARD = threading.Lock()


class HeldDatabase:
    """A database that is locked and opened when it is first needed, until `close`.

    `purpose` tells those who wait who has it.
    """

    def __init__(self, warehouse: Warehouse, purpose: str, config: Mapping[str, Any] | None = None):
        self.warehouse = warehouse
        self.holders = 0
        self._purpose = purpose
        self._config = dict(config or {})
        self._lock = ExitStack()
        self._is_locked = False
        self._connection: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def cursor(self, timeout: float, is_alone: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor with a transaction of its own, rolled back where the block leaves it open.

        For steps of ours, which change no setting. Unless the block has to be `is_alone`, the lock
        is taken only where nobody else may have the database open. Raises DatabaseBusy if others
        keep it for longer than `timeout` seconds, and DatabaseError if it cannot be opened, or the
        disk is full or fails in the block.
        """
        with self.warehouse.explain_failures():
            cursor = self._open(timeout, is_alone).cursor()
            try:
                yield cursor
            except duckdb.FatalException:  # nothing more can be done with this connection
                self._close_connection()
                raise
            finally:
                with suppress(duckdb.Error):  # none is open
                    cursor.rollback()
                cursor.close()

    @contextmanager
    def session(self, timeout: float, is_alone: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor as `cursor` does, and set back the settings that the block has changed."""
        with self.cursor(timeout, is_alone) as cursor:
            before = _read_settings(cursor)
            try:
                yield cursor
            finally:
                with suppress(duckdb.Error):  # none is open
                    cursor.rollback()
                with suppress(duckdb.FatalException):  # then it is closed
                    for name, value in before - _read_settings(cursor):
                        with suppress(duckdb.Error):  # some follow from others
                            cursor.execute(f"SET GLOBAL {name} = '{value}'")

    @contextmanager
    def noting_others(self, timeout: float) -> Iterator[None]:
        """Note it where the block, which is no step of ours, has written into the database."""
        before = self.warehouse.read_stamp()
        try:
            yield
        finally:
            if self.warehouse.read_stamp() != before:
                with suppress(duckdb.FatalException), self.cursor(timeout) as cursor:
                    note_others(cursor)

    @contextmanager
    def released(self, timeout: float) -> Iterator[Path]:
        """Give the path of the file, closed meanwhile, while the lock is kept.

        Raises DatabaseError where it is no file.
        """
        if not self.warehouse.has_file:
            raise DatabaseError(f"{self.warehouse} is no file to give away")
        self._take_lock(timeout)
        self._close_connection()
        yield self.warehouse.path

    def close(self) -> None:
        """Close the database and free its lock."""
        try:
            self._close_connection()
        finally:
            self._lock.close()
            self._is_locked = False

    def _open(self, timeout: float, is_alone: bool) -> duckdb.DuckDBPyConnection:
        if is_alone or self.warehouse.is_exclusive:
            self._take_lock(timeout)
        if self._connection is None:
            self._connection = self.warehouse.connect(timeout, config=self._config)
        return self._connection

    def _take_lock(self, timeout: float) -> None:
        if not self._is_locked:
            self._lock.enter_context(self.warehouse.lock(timeout, self._purpose))
            self._is_locked = True

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def hold_database(
    warehouse: Warehouse, run: str, purpose: str, config: Mapping[str, Any] | None = None
) -> Iterator[HeldDatabase]:
    """Give the database that a run holds; it is closed when the last holder of the run is done."""
    key = (type(warehouse), warehouse.path.absolute(), run)
    with _GUARD:
        held = _HELD.setdefault(key, HeldDatabase(warehouse, purpose, config))
        held.holders += 1
    try:
        yield held
    finally:
        with _GUARD:
            held.holders -= 1
            if not held.holders:
                del _HELD[key]
        if not held.holders:
            held.close()


def _read_settings(connection: duckdb.DuckDBPyConnection) -> set[tuple[str, str]]:
    rows = connection.execute(
        "SELECT name, value FROM duckdb_settings() WHERE scope = 'GLOBAL' AND value IS NOT NULL"
    ).fetchall()
    return {(row[0], row[1]) for row in rows}
