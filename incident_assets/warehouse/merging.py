"""What a listing changes in its table: rows that are new or different, seen again, or gone.

Only rows that differ are loaded, so that a sync writes what changed and the file does not grow with
every listing. The loading itself is dlt's; which rows a listing has is the listing's.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import duckdb
import pyarrow.parquet as pq

from incident_assets.api.endpoints import LOADER_COLUMNS
from incident_assets.sync.listing import Listing, SpooledFile
from incident_assets.warehouse.file import has_table

# Written by the loader, so not part of what a row says.
_STAMPS = ("_deleted_at", "_dlt_load_id")
SPARE = 0.1  # share of a table's rows in the file that were replaced, above which it is compacted


def has_rows(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether a table is there and has any rows."""
    if not has_table(connection, table):
        return False
    return connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None


def read_spool(files: Iterable[SpooledFile]) -> str:
    """Return SQL for the rows of spooled files; only folders of ours are in the paths."""
    paths = ", ".join("'" + str(file.path).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{paths}], union_by_name = true)"


def write_changed(
    connection: duckdb.DuckDBPyConnection, table: str, listing: Listing
) -> SpooledFile:
    """Write the rows of a listing that its table does not hold as they are into one file.

    A row is compared by a 64-bit hash over all of its columns; one marked as deleted is different.
    """
    listed = read_spool(listing.files)
    changed = f"SELECT * FROM {listed}"
    stored = has_rows(connection, table)
    if not stored and len(listing.files) == 1:
        return listing.files[0]
    if stored:
        ours, theirs = _read_columns(connection, listed), _read_columns(connection, table)
        names = sorted({*ours, *theirs}.difference(_STAMPS))
        # A row that is there twice, or marked as deleted, is not what was listed either.
        changed += f""" AS listed ANTI JOIN (
                SELECT id FROM (SELECT id, {_hash(names, ours)} AS hash FROM {listed}) JOIN (
                    SELECT id, min({_hash(names, theirs)}) AS hash FROM {table}
                    GROUP BY id HAVING count(*) = 1 AND count(_deleted_at) = 0
                ) USING (id, hash)
            ) AS same ON listed.id = same.id"""
    target = listing.folder / f"{listing.name}.changed.parquet"
    place = str(target).replace("'", "''")
    connection.execute(f"COPY ({changed}) TO '{place}' (FORMAT parquet, COMPRESSION uncompressed)")
    with pq.ParquetFile(target) as written:
        return SpooledFile(target, written.metadata.num_rows, written.schema_arrow)


def _read_columns(connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, str]:
    rows = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    return {row[0]: row[1] for row in rows}


def _hash(names: Iterable[str], types: Mapping[str, str]) -> str:
    cells = (
        f'"{name}"' + ("::VARCHAR" if types[name] == "JSON" else "") if name in types else "NULL"
        for name in names
    )
    return f"hash({', '.join(cells)})"


def stamp_rows(
    connection: duckdb.DuckDBPyConnection, table: str, listing: Listing, at: datetime
) -> int:
    """Note on each row whether the listing saw it; return how many rows are newly missing.

    Rows that were seen get its load id. After a full listing, the others get `_deleted_at`, unless
    it was short: then nobody knows which rows are gone.
    """
    if listing.changed < listing.rows:  # the others were written with it
        connection.execute(
            f"UPDATE {table} SET _dlt_load_id = ? FROM {read_spool(listing.files)} AS listed "
            f"WHERE {table}.id = listed.id AND {table}._dlt_load_id <> ?",
            [listing.load_id, listing.load_id],
        )
    if not listing.full or listing.is_short:
        return 0
    gone = connection.execute(
        f"UPDATE {table} SET _deleted_at = ? WHERE _dlt_load_id <> ? AND _deleted_at IS NULL",
        [at, listing.load_id],
    ).fetchone()
    return int(gone[0]) if gone else 0


def swap_tables(
    connection: duckdb.DuckDBPyConnection, fresh: str, schema: str, listings: Iterable[Listing]
) -> dict[str, int]:
    """Put whole tables of schema `fresh` in the place of the old ones; return rows dropped by name.

    Part of the caller's transaction. A table of a listing that is not whole stays as it was.
    """
    dropped = {}
    for listing in listings:
        new, old = f"{fresh}.{listing.name}", f"{schema}.{listing.name}"
        if has_table(connection, old):
            if not listing.whole:
                continue
            gone = connection.execute(
                f"SELECT count(*) FROM {old} AS old ANTI JOIN {new} AS new USING (id)"
            ).fetchone()
            dropped[listing.name] = gone[0] if gone else 0
        _write_anew(connection, old, new, listing)
    connection.execute(f"INSERT INTO {schema}._dlt_loads BY NAME FROM {fresh}._dlt_loads")
    # dlt would believe the old columns to be there still; without these it looks for itself.
    connection.execute(f"DELETE FROM {schema}._dlt_version")
    return dropped


def compact_table(
    connection: duckdb.DuckDBPyConnection, schema: str, listings: Iterable[Listing]
) -> None:
    """Write the table with the largest share of replaced rows anew, if that is above SPARE.

    Part of the caller's transaction. DuckDB keeps such rows in the file, since it gives room back
    by row groups, and most of our tables are one. One table, since each is there twice meanwhile.
    """
    shares = {}
    for listing in listings:
        if listing.whole:
            rows, written = connection.execute(
                f"SELECT count(*), coalesce(max(rowid), 0) + 1 FROM {schema}.{listing.name}"
            ).fetchone() or (0, 0)
            shares[(written - rows) / written] = listing
    share = max(shares, default=0)
    if share > SPARE:
        table = f"{schema}.{shares[share].name}"
        _write_anew(connection, table, table, shares[share])


def _write_anew(
    connection: duckdb.DuckDBPyConnection, table: str, source: str, listing: Listing
) -> None:
    columns = (*listing.endpoint.columns, *LOADER_COLUMNS)
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {source}")
    for name in (column.name for column in columns if not column.nullable):
        connection.execute(f'ALTER TABLE {table} ALTER COLUMN "{name}" SET NOT NULL')
