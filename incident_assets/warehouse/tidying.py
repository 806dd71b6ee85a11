"""What is written anew in a file though no row of it has changed: for its size, and for readers.

A raw table that holds too much of what was is compacted, and versions that ended since are put in
order. A lake has its own upkeep.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from itertools import pairwise, product
from math import isqrt

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.warehouse.comments import write_comments
from incident_assets.warehouse.commits import transact
from incident_assets.warehouse.file import read_first_line
from incident_assets.warehouse.history import define_columns, describe_history, name_history
from incident_assets.warehouse.merging import read_columns, rewrite_table
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, RAW_SCHEMA
from incident_assets.warehouse.versions import CLUSTERED, note_fact, read_versions

logger = logging.getLogger(__name__)

SPARE = 0.1  # share of a table's rows in the file that were replaced, above which it is compacted
BLOCK = 2048  # rows that DuckDB reads, or passes over, at once
FEW = 10 * BLOCK  # versions that are looked through in no time
LATE = 0.07  # share of versions that ended since they were put in order, above which they are again


def tidy_tables(connection: duckdb.DuckDBPyConnection, endpoints: Iterable[Endpoint]) -> None:
    """Compact the one table of these, and order the one history, that need it most, if any does.

    One of each, since it is there twice meanwhile. Where memory is too small, all stays as it was.
    """
    known = {endpoint.name: endpoint for endpoint in endpoints}
    try:
        with transact(connection):
            if name := _find_loose(connection, known):
                table = f"{RAW_SCHEMA}.{name}"
                rewrite_table(connection, table, table, known[name])
        with transact(connection):
            ends = json.loads(read_versions(connection, [CLUSTERED])[CLUSTERED] or "{}")
            if name := _find_scattered(connection, known, ends):
                ends[name] = _cluster(connection, known[name])
                note_fact(connection, CLUSTERED, json.dumps(ends))
    except duckdb.OutOfMemoryException as error:
        logger.warning("no table was compacted: %s", read_first_line(error))


def _find_loose(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> str | None:
    """Return the table with the largest share of replaced rows, None where that is small.

    DuckDB keeps such rows in the file, since it gives room back by row groups, and most of our
    tables are one.
    """
    shares = {}
    for name in names:
        if "rowid" in read_columns(connection, f"{RAW_SCHEMA}.{name}"):
            continue  # a field of the API, which hides DuckDB's own
        ((shares[name],),) = connection.execute(
            f"SELECT coalesce(1 - count(*) / (max(rowid) + 1), 0) FROM {RAW_SCHEMA}.{name}"
        ).fetchall()
    return _find_most(shares, SPARE)


def _find_scattered(
    connection: duckdb.DuckDBPyConnection, names: Iterable[str], ends: Mapping[str, str]
) -> str | None:
    """Return the history with the largest share of late versions, None where that is small.

    `ends` are the newest of those that were put in order before (UTC).
    """
    large = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = ? AND estimated_size > ?",
        [HISTORY_SCHEMA, FEW],
    ).fetchall()
    shares = {}
    for name in {name for (name,) in large}.intersection(names):
        ((shares[name],),) = connection.execute(
            "SELECT 1 - count(*) FILTER (_valid_to <= ?::TIMESTAMPTZ) / count(*) "
            f"FROM {name_history(name)}",
            [ends.get(name)],
        ).fetchall()
    return _find_most(shares, LATE)


def _find_most(shares: Mapping[str, float], limit: float) -> str | None:
    name = max(shares, key=lambda x: shares[x], default=None)
    return name if name and shares[name] > limit else None


def _cluster(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> str:
    """Put the versions of a resource in order, and return the newest of their ends (UTC).

    DuckDB passes over a block of rows none of which was valid at the moment asked for. Versions are
    written as they end, so that each block has some that began before any moment. In an order by
    both, few have. They are written in cells of about a block, each sorted by itself: to sort all
    would take more memory than a sync has.
    """
    table, fresh = name_history(endpoint.name), f"{HISTORY_SCHEMA}._{endpoint.name}"
    columns = define_columns(connection, table, read_columns(connection, table))
    connection.execute(f"CREATE TABLE {fresh} ({', '.join(columns.values())})")
    ((rows, newest),) = connection.execute(
        f"SELECT count(*), max(_valid_to)::VARCHAR FROM {table}"
    ).fetchall()
    parts = max(2, isqrt(rows // BLOCK))
    begun, ended = (_split(connection, table, x, parts) for x in ("_valid_from", "_valid_to"))
    for cell in map(" AND ".join, product(begun, ended)):
        connection.execute(
            f"INSERT INTO {fresh} BY NAME FROM {table} WHERE {cell} ORDER BY _valid_to"
        )
    connection.execute(f"DROP TABLE {table}")
    connection.execute(f"ALTER TABLE {fresh} RENAME TO {endpoint.name}")
    write_comments(connection, {table: describe_history(endpoint)})
    return str(newest)


def _split(connection: duckdb.DuckDBPyConnection, table: str, column: str, parts: int) -> list[str]:
    """Return so many conditions, as SQL, of which each row meets one, each as many rows."""
    ((found,),) = connection.execute(
        f"SELECT quantile_disc({column}, {[x / parts for x in range(1, parts)]}) FROM {table}"
    ).fetchall()
    bounds = [f"'{x.isoformat()}'" for x in sorted({*found})]
    between = [f"{column} > {low} AND {column} <= {high}" for low, high in pairwise(bounds)]
    last = f"({column} > {bounds[-1]} OR {column} IS NULL)"
    return [f"{column} <= {bounds[0]}", *between, last]
