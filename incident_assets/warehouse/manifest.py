"""The manifest of an export: what it holds, of which types, and whether all of it is there.

How tables get into files, and out of them, is in `moving`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import orjson

from incident_assets.warehouse.file import DatabaseError, quote_name, quote_path
from incident_assets.warehouse.private import write_private

FORMAT = 1  # of the folder; a newer one is refused
NAME = "manifest.json"


@dataclass(frozen=True)
class Column:
    """A column as DuckDB describes it."""

    name: str
    type: str
    nullable: bool
    comment: str | None


@dataclass(frozen=True)
class Table:
    """A table, with the rows that its file has."""

    schema: str
    name: str
    comment: str | None
    rows: int
    columns: list[Column]

    @property
    def sql(self) -> str:
        """Return its name as SQL."""
        return f"{quote_name(self.schema)}.{quote_name(self.name)}"

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"{quote(self.schema, safe='')}.{quote(self.name, safe='')}.parquet"


@dataclass(frozen=True)
class Manifest:
    """What an export says of itself."""

    format: int
    program: str
    duckdb: str
    exported_at: str
    account: dict[str, str | None]
    tables: list[Table]


def list_tables(connection: duckdb.DuckDBPyConnection, but: Iterable[str]) -> list[Table]:
    """Return the tables of all schemas but those, without their numbers of rows."""
    rows = connection.execute(
        "SELECT t.schema_name, t.table_name, t.comment, c.column_name, c.data_type, "
        "c.is_nullable, c.comment FROM duckdb_tables() AS t JOIN duckdb_columns() AS c "
        "USING (database_name, schema_name, table_name) "
        "WHERE database_name = current_database() AND NOT t.temporary "
        "AND schema_name NOT IN (SELECT unnest(?)) "
        "ORDER BY t.schema_name, t.table_name, c.column_index",
        [[*but]],
    ).fetchall()
    tables: dict[tuple[str, str], Table] = {}
    for schema, name, comment, *column in rows:
        table = tables.setdefault((schema, name), Table(schema, name, comment, 0, []))
        table.columns.append(Column(*column))
    return [*tables.values()]


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write it beside the files. Raises OSError."""
    write_private(folder / NAME, orjson.dumps(manifest, option=orjson.OPT_INDENT_2).decode())


def read_manifest(folder: Path) -> Manifest:
    """Return what an export says of itself, when all of it is there. Raises DatabaseError."""
    try:
        known: dict[str, Any] = orjson.loads((folder / NAME).read_bytes())
        if known["format"] > FORMAT:
            raise DatabaseError(
                f"{folder} was exported by a newer incident-assets, {known['program']}: import it "
                "with that version or a later one"
            )
        tables = [
            Table(**x | {"columns": [Column(**column) for column in x["columns"]]})
            for x in known["tables"]
        ]
        manifest = Manifest(**known | {"tables": tables})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise DatabaseError(
            f"{folder} holds no export, or not all of it: give a folder that `incident-assets "
            "export` has made"
        ) from None
    with duckdb.connect(":memory:") as connection:
        for table in manifest.tables:
            file = quote_path(folder.absolute() / table.file)
            try:
                query = f"SELECT num_rows FROM parquet_file_metadata({file})"
                is_whole = connection.execute(query).fetchone() == (table.rows,)
            except duckdb.Error:
                is_whole = False
            if not is_whole:
                raise DatabaseError(
                    f"{table.file} of {folder} is not there or not whole, so nothing was "
                    "imported: take another export"
                )
    return manifest
