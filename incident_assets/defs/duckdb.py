"""The DuckDB resource: how assets reach the warehouse. Frames are `defs.io_manager`'s.

dagster-duckdb's own resource leaves the connection open after an exception, opens the file for each
step, and knows no file lock. Holding and locking themselves are the warehouse's.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_duckdb
import duckdb
from pydantic import PrivateAttr

from incident_assets.settings import Settings, read_settings
from incident_assets.values import SettingError
from incident_assets.warehouse.file import DatabaseBusy, DatabaseError
from incident_assets.warehouse.held import HeldDatabase, hold_database
from incident_assets.warehouse.interrupts import raise_interrupts
from incident_assets.warehouse.place import Warehouse, find_warehouse
from incident_assets.warehouse.private import close_folder

HISTORY = Path("data/dagster")  # where dagster.yaml keeps runs and logs
# For a busy database alone, each waiting for `lock_timeout`. Not as a RetryPolicy: Dagster would
# start a step again that was interrupted, and sleep between two tries whatever comes.
RETRIES = 2


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn what is wrong with settings or database into one clear failure of the step.

    Only a busy database is worth another try. An interrupt is raised as itself.
    """
    try:
        with raise_interrupts():
            yield
    except DatabaseBusy as error:
        raise dg.RetryRequested(RETRIES) from dg.Failure(str(error))
    except (SettingError, DatabaseError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None


class DuckDBResource(dagster_duckdb.DuckDBResource):
    """The warehouse, opened at its first use and held, under its lock, until the run ends.

    Where `database` (a path) or `lock_timeout` (seconds) is unset, the settings count.
    """

    database: str = ""
    lock_timeout: float | None = None
    _run: str = PrivateAttr(default="")

    def apply_to(self, settings: Settings) -> Settings:
        """Return the settings with this resource's own values in place."""
        given = {"duckdb_path": self.database or None, "lock_timeout": self.lock_timeout}
        own: dict[str, Any] = {name: x for name, x in given.items() if x is not None}
        return replace(settings, **own) if own else settings

    def find(self) -> Warehouse:
        """Return the warehouse that settings and this resource's own values mean."""
        return find_warehouse(self.apply_to(read_settings()))

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["DuckDBResource"]:
        """Hold the database for a run, or for a process's part of it."""
        self._run = context.run.run_id if context.run else ""
        close_folder(HISTORY)
        with ExitStack() as holding:
            # What is wrong with a setting is told by the step that needs it.
            with suppress(SettingError):
                holding.enter_context(self.hold())
            yield self

    @contextmanager
    def hold(self) -> Iterator[HeldDatabase]:
        """Give the run's database; outside a run, one that is closed after the block."""
        purpose = f"run {self._run}" if self._run else "a program of yours"
        run = self._run or str(id(self))
        with hold_database(self.find(), run, purpose, self.connection_config) as held:
            yield held

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor of the run's connection, with a transaction of its own.

        What the block leaves open is rolled back, and settings that it changed are set back. The
        lock of a lake is not taken, which is for tables of ours. Raises
        DatabaseBusy, naming the holder, after `lock_timeout` seconds, and DatabaseError if the file
        is no database or cannot be opened, or the disk is full or fails in the block.
        """
        patience = self.apply_to(read_settings()).lock_timeout
        with (
            self.hold() as held,
            held.session(patience, is_alone=False) as cursor,
            held.noting_others(patience),
        ):
            yield cursor

    @contextmanager
    def open_session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor as `get_connection` does, to a step of ours that notes what it changes."""
        patience = self.apply_to(read_settings()).lock_timeout
        with self.hold() as held, held.session(patience) as cursor:
            yield cursor

    @contextmanager
    def open_cursor(
        self, timeout: float | None = None, is_alone: bool = True
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor as `get_connection` does, to a step of ours, which changes no setting.

        It waits `timeout` seconds for a database in use; unset, `lock_timeout`. One that writes has
        to be `is_alone`.
        """
        patience = self.apply_to(read_settings()).lock_timeout if timeout is None else timeout
        with self.hold() as held, held.cursor(patience, is_alone) as cursor:
            yield cursor

    connect = get_connection  # the name that earlier assets know

    @contextmanager
    def released(self) -> Iterator[Path]:
        """Give the path of the file, closed meanwhile, to another process or library.

        The lock is kept; the database is opened again when it is next needed.
        """
        patience = self.apply_to(read_settings()).lock_timeout
        with (
            self.hold() as held,
            held.released(patience) as path,
            held.noting_others(patience),
        ):
            yield path
