"""History: what rows were before they changed, since when and until when.

dlt merges in commits of its own. So a version that is about to end is written before, with no end
(`open_versions`), and gets one in the transaction in which the sync concludes (`close_versions`).
Until then its row in the raw table has no `_valid_from`, and the open version holds in its place.
Which rows differ is found in `merging`; when all of this happens is the sync's.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import duckdb

from incident_assets.api.endpoints import Column, Endpoint
from incident_assets.warehouse.as_of import define_as_of
from incident_assets.warehouse.columns import DUCKDB_TYPES
from incident_assets.warehouse.comments import Description, describe_endpoint, write_comments
from incident_assets.warehouse.file import quote_name
from incident_assets.warehouse.merging import read_columns
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, PERIOD_TABLE, RAW_SCHEMA, name_table

PERIOD_TEXTS = Description(
    "For which time history is kept. One row per table and time.",
    {
        "resource": "Table of incident_history",
        "since": "From when on each version is kept (UTC)",
        "until": "Until when, NULL where it still is (UTC)",
    },
)
# What a version has beside the columns of its row.
ENDS = (
    Column(
        "_valid_to",
        "timestamp",
        "Until when the row was like this, by the sync that saw it no more (UTC); NULL while a "
        "sync is going on",
    ),
    Column(
        "_ended",
        "text",
        "Why: changed, deleted (marked as such), came back, or dropped (by a full refresh)",
    ),
)
LONG = 100  # bytes of a column's texts on average, above which versions are best kept in blocks
VARIED = 0.1  # share of texts that differ, above which they are not best kept in a dictionary
SAMPLE = 20_000  # rows that both are found by


class History:
    """The versions of a database's rows, as one sync writes them.

    `tables` are those of the history, with their columns' types, as far as they are there. `days`
    is how long versions are kept: None for ever, 0 for none of those that begin from now on.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        tables: Mapping[str, Mapping[str, str]],
        days: float | None,
    ):
        self._connection = connection
        # A resource's name begins with a letter.
        self._tables = {name: dict(x) for name, x in tables.items() if name[0] != "_"}
        self._days = days
        self._ends: dict[str, datetime | None] | None = None

    def open_versions(self, name: str, ending: str) -> None:
        """Note what the rows of a raw table are that are `ending`: `SEMI JOIN ... USING (id)`.

        A row of a load that was never concluded is none of them: no sync has left it so.
        """
        if name not in self._tables:
            return
        columns, table, raw = self._select(name), name_history(name), name_table(name)
        # Of a load that was cut off before it replaced anything.
        self._run(
            f"DELETE FROM {table} WHERE _valid_to IS NULL "
            f"AND id IN (SELECT id FROM {raw} WHERE _valid_from IS NOT NULL)"
        )
        self._run(
            f"INSERT INTO {table} BY NAME SELECT {columns} FROM {raw} AS raw {ending} "
            f"WHERE {self._find_kept(name)}"
        )

    def close_versions(self, name: str, at: datetime) -> None:
        """End the open versions whose rows were replaced, or are gone; drop the others.

        Part of the caller's transaction, before the rows get their `_valid_from`.
        """
        if name not in self._tables:
            return
        table, raw = name_history(name), name_table(name)
        self._run(
            f"UPDATE {table} SET _valid_to = $at, _ended = CASE "
            f"WHEN id NOT IN (SELECT id FROM {raw}) THEN 'dropped' "
            "WHEN _deleted_at IS NULL THEN 'changed' ELSE 'came back' END "
            "WHERE _valid_to IS NULL "
            f"AND id NOT IN (SELECT id FROM {raw} WHERE _valid_from IS NOT NULL)",
            {"at": at},
        )
        self._run(f"DELETE FROM {table} WHERE _valid_to IS NULL")

    def end_deleted(self, name: str, listed: str, at: datetime) -> None:
        """Write the versions of live rows that are not `listed` (SQL), which are marked next."""
        if name not in self._tables:
            return
        columns, table, raw = self._select(name), name_history(name), name_table(name)
        self._run(
            f"INSERT INTO {table} BY NAME "
            f"SELECT {columns}, $at AS _valid_to, 'deleted' AS _ended FROM {raw} AS raw "
            f"WHERE _deleted_at IS NULL AND id NOT IN (SELECT id FROM {listed}) "
            f"AND _valid_from < $at AND {self._find_kept(name)}",
            {"at": at},
        )

    def drop_scrubbed(self, endpoint: Endpoint, at: datetime) -> int:
        """Empty those texts of versions that the account has scrubbed; return how many.

        They are those that a row has no more since this moment.
        """
        table, raw = name_history(endpoint.name), name_table(endpoint.name)
        scrubbed = 0
        for name in endpoint.scrubbed if endpoint.name in self._tables else ():
            emptied = self._connection.execute(
                f"UPDATE {table} SET {name} = NULL WHERE {name} <> '' AND id IN ("
                f"SELECT id FROM {raw} WHERE _valid_from = ? AND coalesce({name}, '') = '')",
                [at],
            ).fetchone()
            scrubbed += int(emptied[0]) if emptied else 0
        return scrubbed

    def begin(self, endpoints: Iterable[Endpoint], at: datetime) -> bool:
        """Make the histories that tables lack, which stay empty where none is wanted.

        Return whether there were any; `settle` makes their macros, and has them begin.
        """
        lacking = [x for x in endpoints if x.name not in self._tables]
        if not lacking:
            return False
        self._run(f"CREATE SCHEMA IF NOT EXISTS {HISTORY_SCHEMA}")
        self._run(
            f"CREATE TABLE IF NOT EXISTS {PERIOD_TABLE} "
            "(resource VARCHAR, since TIMESTAMPTZ, until TIMESTAMPTZ)"
        )
        write_comments(self._connection, {PERIOD_TABLE: PERIOD_TEXTS})
        for endpoint in lacking:
            # Rows of the program before are not known to have been so for any longer.
            raw = name_table(endpoint.name)
            self._run(f"UPDATE {raw} SET _valid_from = ? WHERE _valid_from IS NULL", [at])
            self._make_table(endpoint)
        return True

    def settle(self, at: datetime) -> None:
        """Let histories go on, or end, as is wanted, and drop what is older than it may be."""
        if not self._tables:
            return
        for name in self._tables:
            define_as_of(self._connection, name)
        if self._days == 0:
            self._run(f"UPDATE {PERIOD_TABLE} SET until = ? WHERE until IS NULL", [at])
            return
        self._run(
            f"INSERT INTO {PERIOD_TABLE} SELECT name, $at, NULL FROM unnest($names) AS x (name) "
            f"WHERE name NOT IN (SELECT resource FROM {PERIOD_TABLE} WHERE until IS NULL)",
            {"at": at, "names": sorted(self._tables)},
        )
        if self._days is not None:
            self._drop_before(at - timedelta(days=self._days))

    def _drop_before(self, oldest: datetime) -> None:
        for name in self._tables:
            self._run(f"DELETE FROM {name_history(name)} WHERE _valid_to <= ?", [oldest])
        self._run(f"DELETE FROM {PERIOD_TABLE} WHERE until <= ?", [oldest])
        self._run(f"UPDATE {PERIOD_TABLE} SET since = $1 WHERE since < $1", [oldest])

    def _find_kept(self, name: str) -> str:
        """Return which rows were as they are at a moment that history is kept for, as SQL."""
        if self._ends is None:
            found = self._connection.execute(
                "SELECT resource, CASE WHEN count(*) = count(until) THEN max(until) END "
                f"FROM {PERIOD_TABLE} GROUP BY resource"
            ).fetchall()
            self._ends = dict(found)
        if name not in self._ends:
            return "false"
        end = self._ends[name]
        return "_valid_from IS NOT NULL" if end is None else f"_valid_from < '{end.isoformat()}'"

    def _make_table(self, endpoint: Endpoint) -> None:
        table, raw = name_history(endpoint.name), name_table(endpoint.name)
        columns = read_columns(self._connection, raw)
        defined = [*define_columns(self._connection, raw, columns).values()]
        defined += [f"{x.name} {DUCKDB_TYPES[x.type]}" for x in ENDS]
        self._run(f"CREATE TABLE {table} ({', '.join(defined)})")
        self._tables[endpoint.name] = columns
        write_comments(self._connection, {table: describe_history(endpoint)})

    def _select(self, name: str) -> str:
        """Return the columns of a raw table as its history takes them, which gets those it lacks.

        Somebody may have given one another type, and a full refresh takes that back.
        """
        known, odd = self._tables[name], []
        for column, kind in read_columns(self._connection, name_table(name)).items():
            if column not in known:
                self._run(
                    f"ALTER TABLE {name_history(name)} ADD COLUMN {quote_name(column)} {kind}"
                )
                known[column] = kind
            elif kind != known[column]:
                quoted = quote_name(column)
                odd.append(f"TRY_CAST(raw.{quoted} AS {known[column]}) AS {quoted}")
        return f"raw.* REPLACE ({', '.join(odd)})" if odd else "raw.*"

    def _run(self, sql: str, values: object = None) -> None:
        self._connection.execute(sql, values)


def define_columns(
    connection: duckdb.DuckDBPyConnection, source: str, columns: Mapping[str, str]
) -> dict[str, str]:
    """Return columns of a history as SQL, of which `source` has rows, in the way they are kept.

    Long texts are kept in blocks, since those of a row's versions are alike. Where rows share a few
    texts, a dictionary holds them already, and is read faster.
    """
    # A lake has files of its own, and files of before DuckDB 1.2 know no such compression.
    ((version,),) = connection.execute(
        "SELECT tags['storage_version'] FROM duckdb_databases() "
        "WHERE database_name = current_database()"
    ).fetchall()
    number = re.match(r"v(\d+)\.(\d+)", version or "")
    long: set[str] = set()
    texts = [name for name, kind in columns.items() if kind in ("VARCHAR", "JSON")]
    if number and (int(number[1]), int(number[2])) >= (1, 2) and texts:
        lengths = ", ".join(
            f"avg(strlen({x}::VARCHAR)) > {LONG} "
            f"AND approx_count_distinct({x}) > {VARIED} * count({x})"
            for x in map(quote_name, texts)
        )
        sample = f"SELECT * FROM {source} LIMIT {SAMPLE}"
        (found,) = connection.execute(f"SELECT {lengths} FROM ({sample})").fetchall()
        long = {name for name, is_long in zip(texts, found, strict=True) if is_long}
    return {
        name: f"{quote_name(name)} {kind}{' USING COMPRESSION zstd' if name in long else ''}"
        for name, kind in columns.items()
    }


def forget_versions(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> int:
    """Delete all versions of these histories, which begin anew now; return how many there were."""
    versions = 0
    for name in tables:
        if name[0] != "_":
            gone = connection.execute(f"DELETE FROM {name_history(name)}").fetchone()
            versions += int(gone[0]) if gone else 0
    if versions:
        connection.execute(f"DELETE FROM {PERIOD_TABLE} WHERE until IS NOT NULL")
        connection.execute(f"UPDATE {PERIOD_TABLE} SET since = now()")
    return versions


def name_history(resource: str) -> str:
    """Return the table of a resource's versions."""
    return f"{HISTORY_SCHEMA}.{resource}"


def describe_history(endpoint: Endpoint) -> Description:
    """Return what the history of a resource and its columns are."""
    raw = describe_endpoint(endpoint)
    return Description(
        f"What rows of {RAW_SCHEMA}.{endpoint.name} were before they changed or went. "
        "One row per version.",
        {**raw.columns, **{x.name: x.description for x in ENDS}},
        raw.others,
    )
