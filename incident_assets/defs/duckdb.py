"""The DuckDB resource and IO manager: how assets reach the warehouse.

dagster-duckdb's own resource leaves the connection open after an exception, opens the file for each
step, and knows no file lock. Holding and locking themselves are the warehouse's.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_duckdb
import duckdb
import pyarrow as pa
from pydantic import PrivateAttr

from incident_assets.settings import SettingError, Settings, read_settings
from incident_assets.warehouse.file import DatabaseBusy, DatabaseError
from incident_assets.warehouse.held import HeldDatabase, hold_database

DEFAULT_SCHEMA = "main"
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


class DuckDBResource(dagster_duckdb.DuckDBResource):
    """The warehouse, opened at its first use and held, under its lock, until the run ends.

    Where `database` (a path) or `lock_timeout` (seconds) is unset, the settings count.
    """

    database: str = ""
    lock_timeout: float | None = None
    _run: str = PrivateAttr(default="")

    def apply_to(self, settings: Settings) -> Settings:
        """Return the settings with this resource's own values in place."""
        own: dict[str, Any] = {
            "duckdb_path": self.database or None,
            "lock_timeout": self.lock_timeout,
        }
        return replace(settings, **{name: v for name, v in own.items() if v is not None})

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["DuckDBResource"]:
        """Hold the database for a run, or for a process's part of it."""
        self._run = context.run.run_id if context.run else ""
        with ExitStack() as holding:
            # What is wrong with a setting is told by the step that needs it.
            with suppress(SettingError):
                holding.enter_context(self.hold())
            yield self

    @contextmanager
    def hold(self) -> Iterator[HeldDatabase]:
        """Give the run's database; outside a run, one that is closed after the block."""
        path = self.apply_to(read_settings()).database
        purpose = f"run {self._run}" if self._run else "a program of yours"
        run = self._run or str(id(self))
        with hold_database(path, run, purpose, self.connection_config) as held:
            yield held

    @contextmanager
    def get_connection(self, timeout: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor of the run's connection, with a transaction of its own.

        What the block leaves open is rolled back, and settings that it changed are set back. Raises
        DatabaseBusy, naming the holder, after `timeout` seconds (unset, `lock_timeout`), and
        DatabaseError if the file is no database or cannot be opened.
        """
        patience = self.apply_to(read_settings()).lock_timeout if timeout is None else timeout
        with self.hold() as held, held.cursor(patience) as cursor:
            yield cursor

    @contextmanager
    def released(self) -> Iterator[Path]:
        """Give the path of the file, closed meanwhile, to another process or library.

        The lock is kept; the database is opened again when it is next needed.
        """
        patience = self.apply_to(read_settings()).lock_timeout
        with self.hold() as held, held.released(patience) as path:
            yield path


class DuckDBIOManager(dg.ConfigurableIOManager):
    """Stores frames as tables and gives tables as frames.

    The last part of an asset key is the table, the part before it the schema (`main` if there is
    none). Takes and gives pyarrow Tables, and Polars or pandas DataFrames where those are
    installed; `metadata={"columns": [...]}` on an input reads only these.
    """

    warehouse: dg.ResourceDependency[DuckDBResource]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Replace the asset's table by this frame, all of it or nothing."""
        if obj is None:
            return
        frame = _to_arrow(obj)
        schema, table = _locate(context.asset_key)
        with self.warehouse.get_connection() as connection:
            connection.register("incoming_frame", frame)
            connection.begin()
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quote(schema)}")
            connection.execute(
                f"CREATE OR REPLACE TABLE {_quote(schema)}.{_quote(table)} AS "
                "SELECT * FROM incoming_frame"
            )
            connection.commit()
        columns = [dg.TableColumn(field.name, str(field.type)) for field in frame.schema]
        context.add_output_metadata(
            {
                "dagster/row_count": frame.num_rows,
                "dagster/table_name": f"{schema}.{table}",
                "dagster/column_schema": dg.TableSchema(columns),
            }
        )

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the upstream asset's table as the type that the input is annotated with."""
        schema, table = _locate(context.asset_key)
        columns: Sequence[str] | None = (context.definition_metadata or {}).get("columns")
        chosen = ", ".join(_quote(column) for column in columns) if columns else "*"
        with self.warehouse.get_connection() as connection:
            frame = connection.sql(
                f"SELECT {chosen} FROM {_quote(schema)}.{_quote(table)}"
            ).to_arrow_table()
        return _from_arrow(frame, context.dagster_type.typing_type)


def _locate(key: dg.AssetKey) -> tuple[str, str]:
    return (key.path[-2] if len(key.path) > 1 else DEFAULT_SCHEMA), key.path[-1]


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _library(kind: type) -> str:
    return kind.__module__.split(".")[0]


def _to_arrow(frame: Any) -> pa.Table:
    if isinstance(frame, pa.Table):
        return frame
    library = _library(type(frame))
    if library == "polars":
        return frame.to_arrow()
    if library == "pandas":
        return pa.Table.from_pandas(frame, preserve_index=False)
    raise TypeError(
        f"the io_manager stores pyarrow Tables and Polars or pandas DataFrames, not {type(frame)}; "
        "return one of these, or give the asset another io_manager_key"
    )


def _from_arrow(frame: pa.Table, kind: Any) -> Any:
    library = _library(kind) if isinstance(kind, type) else "pyarrow"
    if library == "polars":
        import polars

        return polars.from_arrow(frame)
    if library == "pandas":
        return frame.to_pandas()
    return frame
