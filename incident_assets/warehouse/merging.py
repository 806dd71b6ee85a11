"""What a listing changes in its table: rows that are new or different, or gone.

Only rows that differ are loaded, so that a sync writes what changed and the file does not grow with
every listing. The loading itself is dlt's; which rows a listing has is the spool's.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow.parquet as pq

from incident_assets.api.endpoints import LOADER_COLUMNS, Endpoint
from incident_assets.api.rows import NOT_LOADED
from incident_assets.warehouse.comments import describe_endpoint, write_comments
from incident_assets.warehouse.file import has_table, quote_name, quote_text
from incident_assets.warehouse.spool import Spool, SpooledFile

# Written by the loader, so not part of what a row says.
_STAMPS = ("_deleted_at", "_valid_from", "_dlt_load_id")


@dataclass(frozen=True)
class Scope:
    """Which columns a listing says something of, by its version of the API and the one before.

    `unsaid` ones it does not, or not any more; those of them that this version `lacks` keep what
    they hold. Of the `coming` ones the version before said nothing, so NULL is no value yet.
    """

    unsaid: Collection[str] = ()
    lacks: Collection[str] = ()
    coming: Collection[str] = ()


def write_changed(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    spool: Spool,
    scope: Scope,
    kept_in: str = "",
    is_empty: bool | None = None,
    is_part: bool = False,
) -> tuple[SpooledFile, bool]:
    """Return a file with the rows of a listing that its table does not hold, and whether it is new.

    New is a table that is not there or has no rows. A row is compared by a 64-bit hash over all of
    its columns that are in `scope`; one that is marked as deleted is different. Where a row says
    what it said, in the columns known on both sides, it keeps its `_valid_from`. Values of columns
    that the listing lacks come from the table `kept_in`. `is_empty` says whether the table has no
    rows, where that is known, and `is_part` that most of them are not listed.
    """
    keep = scope.lacks
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
        names = sorted({*ours, *theirs}.difference(_STAMPS, scope.unsaid))
        asked = f"WHERE id IN (SELECT id FROM {spool.sql})" if is_part else ""
        # A row that is there twice, or marked as deleted, is not what was listed either.
        rows = f"""SELECT rows.* FROM ({rows}) AS rows ANTI JOIN (
                SELECT id FROM (SELECT id, {_hash(names, ours)} AS hash FROM {spool.sql}) JOIN (
                    SELECT id, min({_hash(names, theirs)}) AS hash FROM {table}
                    {asked} GROUP BY id HAVING count(*) = 1 AND count(_deleted_at) = 0
                ) USING (id, hash)
            ) AS same ON rows.id = same.id"""
        common = _find_common(connection, spool.endpoint, {spool.sql: ours, table: theirs}, scope)
        if scope.coming or common != names:
            rows = _keep_since(rows, table, common, ours, theirs, scope)
    return _write_file(connection, rows, spool), not stored


def _write_file(connection: duckdb.DuckDBPyConnection, rows: str, spool: Spool) -> SpooledFile:
    target = spool.files[0].path.with_suffix(".changed.parquet")
    connection.execute(
        f"COPY ({rows}) TO {quote_text(str(target))} (FORMAT parquet, COMPRESSION uncompressed)"
    )
    with pq.ParquetFile(target) as written:
        return SpooledFile(target, written.metadata.num_rows, written.schema_arrow)


def _find_common(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    sources: Mapping[str, Mapping[str, str]],
    scope: Scope,
) -> list[str]:
    """Return the columns of which all `sources` (SQL, with their types) say something."""
    pinned = {column.name for column in (*endpoint.columns, *LOADER_COLUMNS)}
    common = set.intersection(*map(set, sources.values())).difference(_STAMPS, scope.unsaid)
    if others := sorted(common - pinned):
        # Absent equals null, so an unknown field is none where no row has a value.
        counts = ", ".join(f"count({quote_name(name)})" for name in others)
        for source in sources:
            (found,) = connection.execute(f"SELECT {counts} FROM {source}").fetchall()
            empty = [name for name, count in zip(others, found, strict=True) if not count]
            common.difference_update(empty)
    return sorted(common)


def _keep_since(
    rows: str,
    table: str,
    common: Collection[str],
    ours: Mapping[str, str],
    theirs: Mapping[str, str],
    scope: Scope,
) -> str:
    """Return rows with the `_valid_from` of the table's live row that says the same."""
    if "_valid_from" not in theirs:
        return rows
    compared = [name for name in common if name not in scope.coming]
    # Of the old rows no more than it takes: all of them at once may be more than memory holds.
    was = ["id", "_valid_from", f"{_hash(compared, theirs)} AS hash"]
    same = [f"{_hash(compared, ours, 'rows.')} = was.hash"]
    for name in sorted({*common}.intersection(scope.coming)):
        was.append(f'{_cell(name, theirs)} AS "{name}"')
        before, now = f'was."{name}"', _cell(name, ours, "rows.")
        same.append(f"({before} IS NULL OR {before} IS NOT DISTINCT FROM {now})")
    known = f"SELECT DISTINCT ON (id) {', '.join(was)} FROM {table} WHERE _deleted_at IS NULL"
    return f"""SELECT rows.* REPLACE (was._valid_from AS _valid_from) FROM ({rows}) AS rows
        LEFT JOIN ({known}) AS was ON rows.id = was.id AND {" AND ".join(same)}"""


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


def _hash(names: Iterable[str], types: Mapping[str, str], prefix: str = "") -> str:
    cells = (_cell(name, types, prefix) if name in types else "NULL" for name in names)
    return f"hash({', '.join(cells)})"


def stamp_load(
    connection: duckdb.DuckDBPyConnection, table: str, load_id: str, at: datetime
) -> int:
    """Note on the rows that a load package has written which it was, and since when they hold.

    Return how many they are.
    """
    written = connection.execute(
        f"UPDATE {table} SET _dlt_load_id = $load, _valid_from = coalesce(_valid_from, $at) "
        "WHERE _dlt_load_id = $none",
        {"load": load_id, "at": at, "none": NOT_LOADED},
    ).fetchone()
    return int(written[0]) if written else 0


def mark_deleted(
    connection: duckdb.DuckDBPyConnection, table: str, listed: str, missed: datetime, at: datetime
) -> int:
    """Mark the live rows that are not `listed` (SQL) as `missed`; return how many there are."""
    gone = connection.execute(
        f"UPDATE {table} SET _deleted_at = $missed, _valid_from = $at WHERE _deleted_at IS NULL "
        f"AND id NOT IN (SELECT id FROM {listed})",
        {"missed": missed, "at": at},
    ).fetchone()
    return int(gone[0]) if gone else 0


def find_successors(
    connection: duckdb.DuckDBPyConnection,
    fresh: str,
    schema: str,
    endpoint: Endpoint,
    scope: Scope,
    keeps: bool,
) -> str:
    """Return the rows, as SQL, that a table of schema `fresh` puts in the place of the old ones.

    Those that say what they said keep their `_valid_from`. Rows that the new table lacks are among
    them if it `keeps` them.
    """
    new, old = f"{fresh}.{endpoint.name}", f"{schema}.{endpoint.name}"
    theirs = read_columns(connection, old)
    if not theirs:
        return new
    ours = read_columns(connection, new)
    common = _find_common(connection, endpoint, {new: ours, old: theirs}, scope)
    rows = _keep_since(f"FROM {new}", old, common, ours, theirs, scope)
    lacking = f" UNION ALL BY NAME SELECT old.* FROM {old} AS old ANTI JOIN {new} USING (id)"
    return f"({rows}{lacking if keeps else ''})"


def swap_table(
    connection: duckdb.DuckDBPyConnection, schema: str, endpoint: Endpoint, successors: str
) -> int:
    """Put these rows (SQL) in the place of a table's; return how many were dropped.

    Part of the caller's transaction, as `finish_swap` after the last one.
    """
    table, dropped = f"{schema}.{endpoint.name}", 0
    if has_table(connection, table):
        lacking = f"{table} AS old ANTI JOIN (SELECT id FROM {successors}) USING (id)"
        ((dropped,),) = connection.execute(f"SELECT count(*) FROM {lacking}").fetchall()
    rewrite_table(connection, table, successors, endpoint)
    return dropped


def finish_swap(connection: duckdb.DuckDBPyConnection, fresh: str, schema: str) -> None:
    """Take over what dlt noted of the load into schema `fresh`, and what is remembered with it."""
    for table in ("_dlt_loads", "_dlt_pipeline_state"):
        connection.execute(f"INSERT INTO {schema}.{table} BY NAME FROM {fresh}.{table}")
    # dlt would believe the old columns to be there still; without these it looks for itself.
    connection.execute(f"DELETE FROM {schema}._dlt_version")


def rewrite_table(
    connection: duckdb.DuckDBPyConnection, table: str, source: str, endpoint: Endpoint
) -> None:
    """Put the rows of `source`, which may be the table, in a table's place, as its only ones."""
    columns = (*endpoint.columns, *LOADER_COLUMNS)
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {source}")
    for name in (column.name for column in columns if not column.nullable):
        connection.execute(f'ALTER TABLE {table} ALTER COLUMN "{name}" SET NOT NULL')
    write_comments(connection, {table: describe_endpoint(endpoint)})
