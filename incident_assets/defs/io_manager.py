"""The IO manager: frames that assets return become tables, tables become frames of their inputs.

dagster-duckdb's, on the connection of our resource: each output in one transaction, pyarrow,
Polars and pandas at once, schema `main`. How the file is opened is `defs.duckdb`'s.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import dagster_duckdb
import duckdb
import pyarrow as pa

# Private: dagster-duckdb's public class asks for type handlers, and nothing public says what one
# is. dagster-duckdb-pandas and -polars build on the same, import their library at once, and replace
# a table's rows outside of a transaction.
from dagster._core.storage.db_io_manager import (
    DbIOManager,
    DbTypeHandler,
    TablePartitionDimension,
    TableSlice,
)
from dagster_duckdb.io_manager import DuckDbClient

from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.warehouse.file import quote_name

DEFAULT_SCHEMA = "main"
Context = dg.InputContext | dg.OutputContext


class DuckDBIOManager(dagster_duckdb.DuckDBIOManager):
    """Stores frames as tables and gives tables as frames.

    The last part of an asset key is the table, the part before it the schema (`main` if there is
    none). Takes and gives pyarrow Tables, and Polars or pandas DataFrames where those are
    installed; `metadata={"columns": [...]}` on an input reads only these. An output replaces its
    table, whose columns may change; of a partitioned asset it replaces the rows that
    `metadata={"partition_expr": ...}` (SQL) puts into its partitions, and may add columns. Either
    happens whole or not at all. An input of a partitioned asset has the mapped partitions only.
    """

    warehouse: dg.ResourceDependency[DuckDBResource]
    database: str = ""  # required there; here the warehouse says which, and how it is opened

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        """Return the one handler, for the frames of all three libraries."""
        return [FrameHandler()]

    def create_io_manager(self, context: dg.InitResourceContext) -> DbIOManager:
        """Return the IO manager of a run, which reads and writes in the warehouse."""
        return FrameIOManager(
            type_handlers=self.type_handlers(),
            db_client=WarehouseClient(self.warehouse),
            database=self.database,
            schema=self.schema_,
            io_manager_name=type(self).__name__,
        )


class WarehouseClient(DuckDbClient):
    """dagster-duckdb's SQL, with names quoted, in one transaction on the resource's connection."""

    def __init__(self, warehouse: DuckDBResource) -> None:
        self.warehouse = warehouse

    @contextmanager
    def connect(  # type: ignore[override]  # static there, with nowhere to keep the warehouse
        self, context: Context, table_slice: TableSlice
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a connection in a transaction, committed unless the block raises."""
        with explain_errors(), self.warehouse.get_connection() as connection:
            for _, partitions in table_slice.partition_dimensions or ():
                if isinstance(partitions, dg.TimeWindow):
                    # The SQL gives a window's ends in its own zone, without naming it.
                    connection.execute(f"SET TimeZone = '{partitions.start.tzinfo}'")
            connection.begin()
            yield connection
            connection.commit()

    @staticmethod
    def ensure_schema_exists(
        context: dg.OutputContext, table_slice: TableSlice, connection: duckdb.DuckDBPyConnection
    ) -> None:
        """Create the schema where it is missing.

        Raises ValueError where it is called like the database: DuckDB could not tell them apart.
        """
        named = connection.execute("SELECT lower(current_database())").fetchone() or ("",)
        if table_slice.schema.lower() == named[0]:
            raise ValueError(
                f"the asset's schema {table_slice.schema} is called like the database: give the "
                "asset another key prefix, or the file another name (INCIDENT_DUCKDB_PATH)"
            )
        DuckDbClient.ensure_schema_exists(context, _as_sql(table_slice), connection)

    @staticmethod
    def delete_table_slice(
        context: dg.OutputContext, table_slice: TableSlice, connection: duckdb.DuckDBPyConnection
    ) -> None:
        """Do nothing: the handler deletes, once it has made sure that there is a table.

        Deleting from a missing one would end the transaction.
        """

    @staticmethod
    def get_select_statement(table_slice: TableSlice) -> str:
        """Return the SQL that reads the slice."""
        return DuckDbClient.get_select_statement(_as_sql(table_slice))


class FrameHandler(DbTypeHandler[Any]):
    """Stores frames of pyarrow, Polars and pandas, and gives what an input is annotated with."""

    @property
    def supported_types(self) -> Sequence[type[object]]:
        """Everything: to name the frames' classes would import pandas, a third of a second."""
        return [object]

    def handle_output(
        self,
        context: dg.OutputContext,
        table_slice: TableSlice,
        obj: Any,
        connection: duckdb.DuckDBPyConnection,
    ) -> Mapping[str, Any]:
        """Replace the table, or its partition, by this frame; return the metadata.

        Raises TypeError for what is no frame, ValueError for rows outside of the partition.
        """
        frame = _to_arrow(obj)
        if table_slice.partition_dimensions:
            _replace_partition(context, table_slice, frame, connection)
        else:
            connection.register("incoming_frame", frame)
            connection.execute(
                f"CREATE OR REPLACE TABLE {_name_table(table_slice)} AS FROM incoming_frame"
            )
        stored = connection.execute(f"DESCRIBE {_name_table(table_slice)}").fetchall()
        columns = [dg.TableColumn(name, kind) for name, kind, *_ in stored]
        counted = "partition_row_count" if table_slice.partition_dimensions else "row_count"
        return {
            f"dagster/{counted}": frame.num_rows,
            "dagster/column_schema": dg.TableSchema(columns),
        }

    def load_input(
        self,
        context: dg.InputContext,
        table_slice: TableSlice,
        connection: duckdb.DuckDBPyConnection,
    ) -> Any:
        """Return the slice of the upstream asset's table as the type the input asks for."""
        query = WarehouseClient.get_select_statement(table_slice)
        return _from_arrow(connection.sql(query).to_arrow_table(), context.dagster_type.typing_type)


class FrameIOManager(DbIOManager):
    """Dagster's database IO manager, where ours always did otherwise."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Store the frame; None leaves the table as it is.

        Raises ValueError where the asset has partitions and no `partition_expr` for them.
        """
        if obj is not None:
            super().handle_output(context, obj)

    def _check_supported_type(self, obj_type: Any) -> None:
        super()._check_supported_type(_as_class(obj_type))

    def _resolve_handler(self, obj_type: Any) -> DbTypeHandler[Any]:
        return super()._resolve_handler(_as_class(obj_type))

    def _get_table_slice(self, context: Context, output_context: dg.OutputContext) -> TableSlice:
        metadata = output_context.definition_metadata or {}
        path = context.asset_key.path if context.has_asset_key else ()
        if path and context.has_asset_partitions:
            _require_expressions(context, metadata.get("partition_expr"))
        table_slice = super()._get_table_slice(context, output_context)
        if metadata.get("schema") or self._schema or len(path) > 1:
            return table_slice
        return table_slice._replace(schema=DEFAULT_SCHEMA)


def _require_expressions(context: Context, expression: Any) -> None:
    # Dagster itself overlooks a dimension without one; where all is missing it raises.
    definition = context.asset_partitions_def
    if expression is None or not isinstance(definition, dg.MultiPartitionsDefinition):
        return
    names = [dimension.name for dimension in definition.partitions_defs]
    if not (isinstance(expression, Mapping) and all(map(expression.get, names))):
        raise ValueError(
            f"{context.asset_key.to_user_string()} is partitioned by {' and '.join(names)}: its "
            f"metadata's partition_expr must give a column or an expression for each, as in "
            f"{dict.fromkeys(names, 'a_column')}, not {expression!r}"
        )


def _replace_partition(
    context: dg.OutputContext,
    table_slice: TableSlice,
    frame: pa.Table,
    connection: duckdb.DuckDBPyConnection,
) -> None:
    table = _name_table(table_slice)
    # A column of nulls alone has no type yet: it is added with its first value.
    typed = [n for n, field in enumerate(frame.schema) if not pa.types.is_null(field.type)]
    connection.register("incoming_frame", frame.select(typed) if typed else frame)
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} AS FROM incoming_frame LIMIT 0")
    # Before the rows are deleted: DuckDB 1.5 commits no ALTER after a DELETE.
    for name, kind, *_ in connection.execute("DESCRIBE incoming_frame").fetchall():
        connection.execute(
            f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {quote_name(name)} {kind}"
        )
    DuckDbClient.delete_table_slice(context, _as_sql(table_slice), connection)
    connection.execute(f"INSERT INTO {table} BY NAME FROM incoming_frame")
    stored = WarehouseClient.get_select_statement(table_slice._replace(columns=None))
    row = connection.execute(f"SELECT {frame.num_rows} - count(*) FROM ({stored})").fetchone()
    if row and row[0]:
        raise ValueError(
            f"{row[0]} rows for {table} are outside of its partition, by its partition_expr: the "
            "next run would store them again. Return the partition's own rows, or correct it"
        )


def _as_class(kind: Any) -> type:
    # A union as `pa.Table | None` is no class, and issubclass refuses it.
    return kind if isinstance(kind, type) else object


def _name_table(table_slice: TableSlice) -> str:
    return f"{quote_name(table_slice.schema)}.{quote_name(table_slice.table)}"


def _as_sql(table_slice: TableSlice) -> TableSlice:
    # DuckDB 1.5 knows no `in ()`, which is what an input without any mapped partition asks for.
    none = TablePartitionDimension("NULL", [""])
    return table_slice._replace(
        schema=quote_name(table_slice.schema),
        table=quote_name(table_slice.table),
        columns=[quote_name(column) for column in table_slice.columns or ()],
        partition_dimensions=[
            dimension if dimension.partitions else none
            for dimension in table_slice.partition_dimensions or ()
        ],
    )


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
    library = _library(_as_class(kind))
    if library == "polars":
        import polars

        return polars.from_arrow(frame)
    if library == "pandas":
        return frame.to_pandas()
    return frame
