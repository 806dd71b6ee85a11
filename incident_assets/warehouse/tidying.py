"""What is written anew in a file though no row of it has changed: for its size, and for readers.

A raw table that holds too much of what was is compacted, and versions that ended since are put in
order. A lake has its own upkeep.
"""

import json
import logging
from collections.abc import Iterable

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.warehouse.commits import transact
from incident_assets.warehouse.file import read_first_line
from incident_assets.warehouse.history import name_history
from incident_assets.warehouse.merging import read_columns, rewrite_table
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, name_table
from incident_assets.warehouse.versions import ORDERED, note_fact, read_versions

logger = logging.getLogger(__name__)

SPARE = 0.1  # share of a table's rows in the file that were replaced, above which it is compacted
BLOCK = 2048  # rows that DuckDB reads, or passes over, at once
PART = 0.25  # versions that are put in order at once, as a share of their table's rows
FEW, MANY = 2 * BLOCK, 20 * BLOCK  # of which at least, lest nothing be gained, and at most


def tidy_tables(connection: duckdb.DuckDBPyConnection, endpoints: Iterable[Endpoint]) -> None:
    """Compact the one table of these that needs it most, and put many new versions in order.

    One table, since it is there twice meanwhile. Where memory is too small, all stays as it was.
    """
    known = {endpoint.name: endpoint for endpoint in endpoints}
    try:
        with transact(connection):
            if name := _find_loose(connection, known):
                rewrite_table(connection, name_table(name), name_table(name), known[name])
        with transact(connection):
            _order_versions(connection, known)
    except duckdb.OutOfMemoryException as error:
        logger.warning("no table was compacted: %s", read_first_line(error))


def _find_loose(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> str | None:
    """Return the table with the largest share of replaced rows, None where that is small.

    DuckDB keeps such rows in the file, since it gives room back by row groups, and most of our
    tables are one.
    """
    shares = {}
    for name in names:
        if "rowid" in read_columns(connection, name_table(name)):
            continue  # a field of the API, which hides DuckDB's own
        ((shares[name],),) = connection.execute(
            f"SELECT coalesce(1 - count(*) / (max(rowid) + 1), 0) FROM {name_table(name)}"
        ).fetchall()
    loosest = max(shares, key=lambda x: shares[x], default=None)
    return loosest if loosest and shares[loosest] > SPARE else None


def _order_versions(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
    """Put versions that ended one after the other in the order in which they began, part by part.

    DuckDB passes over a block of rows none of which was valid at the moment asked for. Versions are
    written as they end, so that each block has some that began before any moment. In this order
    those of a moment are the first ones of later parts.
    """
    ends = json.loads(read_versions(connection, [ORDERED])[ORDERED] or "{}")
    large = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = ? AND estimated_size >= ?",
        [HISTORY_SCHEMA, FEW],
    ).fetchall()
    ordered = {}
    for name in {name for (name,) in large}.intersection(names):
        if end := _order_part(connection, name, ends.get(name, "-infinity")):
            ordered[name] = end
    if ordered:
        note_fact(connection, ORDERED, json.dumps(ends | ordered))


def _order_part(connection: duckdb.DuckDBPyConnection, name: str, since: str) -> str | None:
    """Order the next part of the versions that ended after `since`; return the newest of its ends.

    None where there are too few.
    """
    table = name_history(name)
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {name_table(name)}").fetchall()
    size = min(max(round(rows * PART), FEW), MANY)
    found = connection.execute(
        f"SELECT _valid_to::VARCHAR FROM {table} WHERE _valid_to > ?::TIMESTAMPTZ "
        "ORDER BY _valid_to LIMIT 1 OFFSET ?",
        [since, size - 1],
    ).fetchone()
    if found is None:
        return None
    part = f"FROM {table} WHERE _valid_to > $since::TIMESTAMPTZ AND _valid_to <= $end::TIMESTAMPTZ"
    ends = {"since": since, "end": found[0]}
    ((count,),) = connection.execute(f"SELECT count(*) {part}", ends).fetchall()
    if count <= 2 * MANY:  # more have ended at once: in any order
        connection.execute(f"CREATE TEMP TABLE part AS {part} ORDER BY _valid_from", ends)
        connection.execute(f"DELETE {part}", ends)
        connection.execute(f"INSERT INTO {table} FROM part")
        connection.execute("DROP TABLE part")
    return str(found[0])
