"""Versions of tables: what has changed since somebody looked, so that the rest need not be redone.

A version is noted in the transaction that changes a table, with what the table looked like then. It
is unsure (None) where a load was begun and not concluded, where nothing was noted, and where the
table looks otherwise than noted, since another program wrote it; whoever asks takes that for a
change. What depends on which tables is decided by those who build on them.
"""

from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple
from uuid import uuid4

import duckdb

from incident_assets.warehouse.comments import Description
from incident_assets.warehouse.merging import read_schema
from incident_assets.warehouse.schemas import LOG_SCHEMA, VERSION_TABLE

VERSION_TEXTS = Description(
    "Versions of tables, by which nothing is built again that has not changed.",
    {
        "name": "Table, with its schema",
        "version": "Another one as soon as the table has changed",
        "look": "What the table looked like then, NULL while that is unsure",
    },
)
OTHERS = "others"  # in place of a table: all that steps write which are not ours
COMMENTS = "comments"  # in place of a table: what is said of all of them
HISTORY = "history"  # in place of a table: how history is kept
ORDERED = "ordered"  # in place of a table: until which end versions of rows are in order
NO_TABLE = OTHERS  # the look of these


class Look(NamedTuple):
    """What can be seen of a table at a glance: how many rows it has, and a text for all of it."""

    rows: int
    text: str


def prepare_versions(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table of versions where it is missing."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LOG_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (name VARCHAR, version VARCHAR, look VARCHAR)"
    )


def read_looks(connection: duckdb.DuckDBPyConnection, tables: Collection[str]) -> dict[str, Look]:
    """Return the looks of these tables (`schema.table`) that are there."""
    columns = {
        f"{schema}.{name}": types
        for schema in {x.partition(".")[0] for x in tables if "." in x}
        for name, types in read_schema(connection, schema).items()
    }
    return {x: _look_at(connection, x, columns[x]) for x in tables if x in columns}


def read_versions(
    connection: duckdb.DuckDBPyConnection,
    tables: Collection[str],
    looks: Mapping[str, Look] | None = None,
) -> dict[str, str | None]:
    """Return the versions of these tables (`schema.table`), None for one that is unsure.

    `looks` are theirs as they are now, where somebody has read them already.
    """
    try:
        noted = {
            name: (version, look)
            for name, version, look in connection.execute(f"FROM {VERSION_TABLE}").fetchall()
        }
    except duckdb.CatalogException:  # a database of the program before
        noted = {}
    if looks is None:
        looks = read_looks(connection, [x for x in tables if noted.get(x, (None, None))[1]])
    versions: dict[str, str | None] = {}
    for table in tables:
        version, look = noted.get(table, (None, None))
        now = looks[table].text if table in looks else NO_TABLE
        versions[table] = version if look == now else None
    return versions


def find_rewritten(connection: duckdb.DuckDBPyConnection, looks: Mapping[str, Look]) -> set[str]:
    """Return those of these tables that look otherwise than noted: another program wrote them."""
    sql = f"SELECT name, look FROM {VERSION_TABLE} WHERE look IS NOT NULL"
    noted = connection.execute(sql).fetchall()
    return {name for name, look in noted if name in looks and looks[name].text != look}


def note_version(
    connection: duckdb.DuckDBPyConnection, table: str, version: str | None = None
) -> str:
    """Note a version of a table as it is now, a new one where none is given, and return it.

    Part of the caller's transaction.
    """
    version = version or uuid4().hex
    look = read_looks(connection, [table]).get(table)
    _write(connection, table, version, look and look.text)
    return version


def note_others(connection: duckdb.DuckDBPyConnection) -> None:
    """Note that a step that is not ours has written something, whatever it was."""
    prepare_versions(connection)
    _write(connection, OTHERS, uuid4().hex, NO_TABLE)


def note_fact(connection: duckdb.DuckDBPyConnection, name: str, version: str) -> None:
    """Note COMMENTS, HISTORY or ORDERED as they are now. Part of the caller's transaction."""
    _write(connection, name, version, NO_TABLE)


def doubt_versions(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> None:
    """Make the versions of tables unsure until one is noted again; committed at once."""
    for table in tables:
        connection.execute(f"UPDATE {VERSION_TABLE} SET look = NULL WHERE name = ?", [table])


def sign_contents(connection: duckdb.DuckDBPyConnection) -> str:
    """Return a text that is another one as soon as anything but rows of the log has changed.

    Of tables that have no version, such as a user's own, it is the number of rows that counts.
    """
    prepare_versions(connection)
    names = [name for (name,) in connection.execute(f"SELECT name FROM {VERSION_TABLE}").fetchall()]
    looks = read_looks(connection, names)
    versions = read_versions(connection, names, looks)
    # Never what it was, and always the same for a table that is gone.
    unsure = {name: uuid4().hex if name in looks or "." not in name else "" for name in names}
    others = connection.execute(
        "SELECT schema_name || '.' || table_name, estimated_size, column_count "
        "FROM duckdb_tables() WHERE NOT temporary AND NOT starts_with(table_name, '_dlt') "
        "AND schema_name <> ? AND NOT ends_with(schema_name, '_staging') "
        "UNION ALL SELECT schema_name || '.' || view_name, 0, hash(sql) FROM duckdb_views() "
        "WHERE NOT internal AND NOT temporary ORDER BY ALL",
        [LOG_SCHEMA],
    ).fetchall()
    signed = [sorted((n, v or unsure[n]) for n, v in versions.items())]
    return sign(signed, [row for row in others if row[0] not in versions])


def sign(*parts: object) -> str:
    """Return a text that stands for these parts, as Python writes them."""
    return sha256(repr(parts).encode()).hexdigest()[:32]


def _look_at(connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> Look:
    seen = ["count(*)"]
    seen += ["count(_deleted_at)"] * ("_deleted_at" in columns)
    seen += ["max(_dlt_load_id)"] * ("_dlt_load_id" in columns)
    row = connection.execute(f"SELECT {', '.join(seen)} FROM {table}").fetchone() or (0,)
    return Look(row[0], f"{row} {sign(columns)}")


def _write(
    connection: duckdb.DuckDBPyConnection, table: str, version: str, look: str | None
) -> None:
    # Rows are updated where they stand: DuckDB gives the room of deleted ones back late.
    values = {"name": table, "version": version, "look": look}
    there = connection.execute(
        f"UPDATE {VERSION_TABLE} SET version = $version, look = $look WHERE name = $name", values
    ).fetchone()
    if not (there and there[0]):
        connection.execute(f"INSERT INTO {VERSION_TABLE} VALUES ($name, $version, $look)", values)
