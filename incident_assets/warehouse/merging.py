"""What a listing changes in its table: rows that are new or different, or gone.

Only rows that differ are loaded, so that a sync writes what changed and the file does not grow with
every listing. The loading itself is dlt's; which rows a listing has is the spool's.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import duckdb
import pyarrow.parquet as pq

from incident_assets.api.endpoints import LOADER_COLUMNS, Endpoint
from incident_assets.api.rows import NOT_LOADED
from incident_assets.warehouse.comments import describe_endpoint, write_comments
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.spool import Spool, SpooledFile

# Written by the loader, so not part of what a row says.
_STAMPS = ("_deleted_at", "_dlt_load_id")
SPARE = 0.1  # share of a table's rows in the file that were replaced, above which it is compacted


def write_changed(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    spool: Spool,
    uncompared: Sequence[str] = (),
    keep: Sequence[str] = (),
    kept_in: str = "",
    is_empty: bool | None = None,
) -> tuple[SpooledFile, bool]:
    """Return a file with the rows of a listing that its table does not hold, and whether it is new.

    New is a table that is not there or has no rows. A row is compared by a 64-bit hash over all of
    its columns but the `uncompared`; one that is marked as deleted is different. Values of the
    columns `keep` come from the table `kept_in`. `is_empty` says whether the table has no rows,
    where that is known.
    """
    known = read_columns(connection, kept_in) if keep else {}
    kept = ", ".join(f"{_cell(name, known, 'kept.')} AS {name}" for name in keep if name in known)
    theirs = read_columns(connection, table)
    if theirs and is_empty is None:
        is_empty = connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None
    stored = bool(theirs) and not is_empty
    if not stored and not kept and len(spool.files) == 1:
        return spool.files[0], True
    rows = f"SELECT * FROM {spool.sql}"
    if kept:
        rows = (
            f"SELECT listed.* REPLACE ({kept}) FROM {spool.sql} AS listed "
            f"LEFT JOIN {kept_in} AS kept USING (id)"
        )
    if stored:
        ours = read_columns(connection, spool.sql)
        names = sorted({*ours, *theirs}.difference(_STAMPS, uncompared))
        # A row that is there twice, or marked as deleted, is not what was listed either.
        rows = f"""SELECT rows.* FROM ({rows}) AS rows ANTI JOIN (
                SELECT id FROM (SELECT id, {_hash(names, ours)} AS hash FROM {spool.sql}) JOIN (
                    SELECT id, min({_hash(names, theirs)}) AS hash FROM {table}
                    GROUP BY id HAVING count(*) = 1 AND count(_deleted_at) = 0
                ) USING (id, hash)
            ) AS same ON rows.id = same.id"""
    target = spool.files[0].path.with_suffix(".changed.parquet")
    place = str(target).replace("'", "''")
    connection.execute(f"COPY ({rows}) TO '{place}' (FORMAT parquet, COMPRESSION uncompressed)")
    with pq.ParquetFile(target) as written:
        file = SpooledFile(target, written.metadata.num_rows, written.schema_arrow)
    return file, not stored


def read_columns(connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, str]:
    """Return the types of a table's or a query's columns by name; none where it is not there."""
    try:
        rows = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    # Where there is no such table, DuckDB looks for a Python variable of its name.
    except (duckdb.CatalogException, duckdb.InvalidInputException):
        return {}
    return {row[0]: row[1] for row in rows}


def read_schema(connection: duckdb.DuckDBPyConnection, schema: str) -> dict[str, dict[str, str]]:
    """Return what `read_columns` does for each table of a schema, at once."""
    rows = connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = ? "
        "ORDER BY table_name, column_index",
        [schema],
    ).fetchall()
    tables: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        tables.setdefault(table, {})[column] = kind
    return tables


def _cell(name: str, types: Mapping[str, str], prefix: str = "") -> str:
    return f'{prefix}"{name}"' + ("::VARCHAR" if types[name] == "JSON" else "")


def _hash(names: Iterable[str], types: Mapping[str, str]) -> str:
    cells = (_cell(name, types) if name in types else "NULL" for name in names)
    return f"hash({', '.join(cells)})"


def stamp_load(connection: duckdb.DuckDBPyConnection, table: str, load_id: str) -> int:
    """Note the load package on the rows that it has written; return how many they are."""
    written = connection.execute(
        f"UPDATE {table} SET _dlt_load_id = ? WHERE _dlt_load_id = ?", [load_id, NOT_LOADED]
    ).fetchone()
    return int(written[0]) if written else 0


def mark_deleted(
    connection: duckdb.DuckDBPyConnection, table: str, spool: Spool, at: datetime
) -> int:
    """Mark the live rows that a full listing no longer has; return how many there are."""
    gone = connection.execute(
        f"UPDATE {table} SET _deleted_at = ? WHERE _deleted_at IS NULL "
        f"AND id NOT IN (SELECT id FROM {spool.sql})",
        [at],
    ).fetchone()
    return int(gone[0]) if gone else 0


def swap_tables(
    connection: duckdb.DuckDBPyConnection,
    fresh: str,
    schema: str,
    endpoints: Iterable[Endpoint],
    kept: Collection[str] = (),
) -> dict[str, int]:
    """Put tables of schema `fresh` in the place of the old ones; return rows dropped by name.

    The rows that a new one lacks are dropped, but stay where its name is among the `kept`. Part of
    the caller's transaction.
    """
    dropped = {}
    for endpoint in endpoints:
        new, old = f"{fresh}.{endpoint.name}", f"{schema}.{endpoint.name}"
        source, lacking = new, f"SELECT old.* FROM {old} AS old ANTI JOIN {new} USING (id)"
        if has_table(connection, old):
            if endpoint.name in kept:
                source = f"(FROM {new} UNION ALL BY NAME {lacking})"
            else:
                gone = connection.execute(f"SELECT count(*) FROM ({lacking})").fetchone()
                dropped[endpoint.name] = gone[0] if gone else 0
        _write_anew(connection, old, source, endpoint)
    connection.execute(f"INSERT INTO {schema}._dlt_loads BY NAME FROM {fresh}._dlt_loads")
    # dlt would believe the old columns to be there still; without these it looks for itself.
    connection.execute(f"DELETE FROM {schema}._dlt_version")
    return dropped


def compact_table(
    connection: duckdb.DuckDBPyConnection, schema: str, endpoints: Iterable[Endpoint]
) -> None:
    """Write the table with the largest share of replaced rows anew, if that is above SPARE.

    Part of the caller's transaction. DuckDB keeps such rows in the file, since it gives room back
    by row groups, and most of our tables are one. One table, since each is there twice meanwhile.
    """
    shares = {}
    for endpoint in endpoints:
        if "rowid" in read_columns(connection, f"{schema}.{endpoint.name}"):
            continue  # a field of the API, which hides DuckDB's own
        rows, written = connection.execute(
            f"SELECT count(*), coalesce(max(rowid), 0) + 1 FROM {schema}.{endpoint.name}"
        ).fetchone() or (0, 0)
        shares[(written - rows) / written] = endpoint
    share = max(shares, default=0)
    if share > SPARE:
        table = f"{schema}.{shares[share].name}"
        _write_anew(connection, table, table, shares[share])


def _write_anew(
    connection: duckdb.DuckDBPyConnection, table: str, source: str, endpoint: Endpoint
) -> None:
    columns = (*endpoint.columns, *LOADER_COLUMNS)
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {source}")
    for name in (column.name for column in columns if not column.nullable):
        connection.execute(f'ALTER TABLE {table} ALTER COLUMN "{name}" SET NOT NULL')
    write_comments(connection, {table: describe_endpoint(endpoint)})
