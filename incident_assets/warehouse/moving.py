"""An account on its way from one warehouse to another: a folder of Parquet files and a manifest.

In it is what a sync needs to go on as before (raw tables and what they were, dlt's own, log,
account, versions), and the tables of users' own schemas. Models are left out, since they are built
from raw tables. What the folder says of itself is in `manifest`. The two may be a file and a lake,
and their versions of DuckDB different ones.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb

from incident_assets.settings import Settings
from incident_assets.warehouse.as_of import define_as_of
from incident_assets.warehouse.commits import transact
from incident_assets.warehouse.file import (
    DatabaseError,
    has_table,
    quote_name,
    quote_path,
    quote_text,
    read_first_line,
)
from incident_assets.warehouse.history import define_columns
from incident_assets.warehouse.manifest import (
    FORMAT,
    Manifest,
    Table,
    list_tables,
    read_manifest,
    write_manifest,
)
from incident_assets.warehouse.place import Warehouse, find_warehouse
from incident_assets.warehouse.private import fill_folder, make_private
from incident_assets.warehouse.schemas import (
    ACCOUNT_TABLE,
    HISTORY_SCHEMA,
    LOG_SCHEMA,
    MODEL_SCHEMA,
    PERIOD_TABLE,
    RAW_SCHEMA,
    REFRESH_SCHEMA,
)

BUILT = (MODEL_SCHEMA, REFRESH_SCHEMA, f"{RAW_SCHEMA}_staging", f"{REFRESH_SCHEMA}_staging")
OURS = (RAW_SCHEMA, HISTORY_SCHEMA, LOG_SCHEMA, *BUILT)
# What Parquet has no exact type for goes as text, which has all of it.
AS_TEXT = re.compile(r"\b(U?HUGEINT|INTERVAL|TIME WITH TIME ZONE)\b")


def export_account(settings: Settings, folder: Path) -> Manifest:
    """Write the account of the warehouse into a folder, which must be missing or empty.

    The folder is there as a whole, or not at all. Raises DatabaseError, and DatabaseBusy.
    """
    warehouse = find_warehouse(settings)
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise DatabaseError(f"{folder} is there, and not an empty folder: give another name")
    except OSError as error:
        raise _unwritten(folder, error) from None
    if not warehouse.exists():
        raise _nothing(warehouse)
    with make_private(), ExitStack() as locked:
        locked.enter_context(warehouse.lock(settings.lock_timeout, f"export pid-{os.getpid()}"))
        with (
            warehouse.explain_failures(),
            closing(warehouse.connect(settings.lock_timeout, read_only=True)) as connection,
            transact(connection),
        ):
            account, tables = _read_account(connection, warehouse), list_tables(connection, BUILT)
            moment = datetime.now(UTC).isoformat(timespec="seconds")
            if not warehouse.is_exclusive:  # this transaction has seen it, whatever follows
                locked.close()
            try:
                with fill_folder(folder) as fresh:
                    tables = [_write_table(connection, table, fresh) for table in tables]
                    program = version("incident-assets")
                    made = Manifest(FORMAT, program, duckdb.__version__, moment, account, tables)
                    write_manifest(made, fresh)
            except OSError as error:
                raise _unwritten(folder, error) from None
    return made


def import_account(settings: Settings, folder: Path) -> Manifest:
    """Fill a warehouse that holds no tables of ours with what was exported, in one transaction.

    Raises DatabaseError, and DatabaseBusy; then nothing has been written.
    """
    manifest, warehouse = read_manifest(folder), find_warehouse(settings)
    with (
        warehouse.open(settings.lock_timeout, f"import pid-{os.getpid()}") as connection,
        transact(connection),
    ):
        _refuse_filled(connection, warehouse, manifest)
        for table in manifest.tables:
            try:
                connection.execute(";".join(_list_statements(connection, table, folder.absolute())))
                _compare(connection, table, folder.absolute())
            except duckdb.Error as error:
                raise DatabaseError(
                    f"{table.schema}.{table.name} of {folder} cannot be written into "
                    f"{warehouse}: {read_first_line(error)}. Nothing was imported"
                ) from None
        for table in manifest.tables:
            if table.schema == HISTORY_SCHEMA and f"{HISTORY_SCHEMA}.{table.name}" != PERIOD_TABLE:
                define_as_of(connection, table.name)
    return manifest


def _read_account(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse
) -> dict[str, str | None]:
    if not has_table(connection, ACCOUNT_TABLE):
        raise _nothing(warehouse)
    row = connection.execute(f"SELECT host, dashboard_url FROM {ACCOUNT_TABLE}").fetchone()
    if row is None:
        raise _nothing(warehouse)
    return {"host": row[0], "dashboard_url": row[1]}


def _write_table(connection: duckdb.DuckDBPyConnection, table: Table, folder: Path) -> Table:
    columns = [
        f"{quote_name(x.name)}::VARCHAR AS {quote_name(x.name)}"
        if AS_TEXT.search(x.type)
        else quote_name(x.name)
        for x in table.columns
    ]
    # The newest row of the log is the last one.
    order = " ORDER BY rowid" if table.schema == LOG_SCHEMA else ""
    place = quote_text(str(folder / table.file))
    try:
        row = connection.execute(
            f"COPY (SELECT {', '.join(columns)} FROM {table.sql}{order}) TO {place} "
            "(FORMAT parquet, COMPRESSION zstd)"
        ).fetchone()
    except duckdb.IOException as error:
        if folder.name not in str(error):  # what is read has failed, not what is written
            raise
        raise OSError(read_first_line(error)) from None
    return Table(**vars(table) | {"rows": row[0] if row else 0})


def _refuse_filled(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, manifest: Manifest
) -> None:
    coming = {f"{table.schema}.{table.name}".lower() for table in manifest.tables}
    found = connection.execute(
        "SELECT schema_name, schema_name || '.' || table_name FROM duckdb_tables() "
        "WHERE database_name = current_database() AND NOT temporary "
        "UNION ALL SELECT schema_name, schema_name || '.' || view_name FROM duckdb_views() "
        "WHERE database_name = current_database() AND NOT temporary AND NOT internal ORDER BY ALL"
    ).fetchall()
    for schema, name in found:
        if schema in OURS or name.lower() in coming:
            raise DatabaseError(
                f"{warehouse} holds {name} already, so nothing was imported: let the setting lead "
                "to a new one, or move the old one away"
            )


def _list_statements(
    connection: duckdb.DuckDBPyConnection, table: Table, folder: Path
) -> Iterator[str]:
    source = f"read_parquet({quote_path(folder / table.file)})"
    defined = {x.name: f"{quote_name(x.name)} {x.type}" for x in table.columns}
    if table.schema == HISTORY_SCHEMA:
        defined = define_columns(connection, source, {x.name: x.type for x in table.columns})
    columns = ", ".join(
        f"{defined[x.name]}{'' if x.nullable else ' NOT NULL'}" for x in table.columns
    )
    yield f"CREATE SCHEMA IF NOT EXISTS {quote_name(table.schema)}"
    yield f"CREATE TABLE {table.sql} ({columns})"
    cells = ", ".join(f"{quote_name(x.name)}::{x.type}" for x in table.columns)
    yield f"INSERT INTO {table.sql} SELECT {cells} FROM {source}"
    said = {f"TABLE {table.sql}": table.comment}
    said |= {f"COLUMN {table.sql}.{quote_name(x.name)}": x.comment for x in table.columns}
    for place, comment in said.items():
        if comment:
            yield f"COMMENT ON {place} IS {quote_text(comment)}"


def _compare(connection: duckdb.DuckDBPyConnection, table: Table, folder: Path) -> None:
    """Raise DatabaseError where values became others: a lake's own files are Parquet too."""
    columns = [x for x in table.columns if AS_TEXT.search(x.type)]
    given = ", ".join(f"{quote_name(x.name)}::{x.type}" for x in columns)
    held = ", ".join(quote_name(x.name) for x in columns)
    query = f"SELECT {given} FROM read_parquet({quote_path(folder / table.file)})"
    if columns and connection.execute(f"{query} EXCEPT SELECT {held} FROM {table.sql}").fetchone():
        names = ", ".join(x.name for x in columns)
        raise DatabaseError(
            f"{table.schema}.{table.name} would hold other values than before in one of its "
            f"columns ({names}), whose types it cannot keep: give them others, such as VARCHAR, "
            "and export again. Nothing was imported"
        )


def _nothing(warehouse: Warehouse) -> DatabaseError:
    return DatabaseError(f"{warehouse} holds no account yet: sync first, then export it")


def _unwritten(folder: Path, error: OSError) -> DatabaseError:
    return DatabaseError(
        f"{folder} cannot be written: {read_first_line(error)}. Make room or give another folder, "
        "then export again; nothing of it is left there"
    )
