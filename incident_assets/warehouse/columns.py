"""Columns of raw tables in DuckDB: their types, and how one that lacks or was unknown gets made.

Which columns there are is the table of resources'; how rows get into them is `merging`'s.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import duckdb

from incident_assets.api.endpoints import LOADER_COLUMNS, Column, ColumnType, Endpoint
from incident_assets.warehouse.commits import transact
from incident_assets.warehouse.file import has_table, quote_name
from incident_assets.warehouse.versions import COMMENTS, doubt_versions

DUCKDB_TYPES: Mapping[ColumnType, str] = {
    "text": "VARCHAR",
    "bigint": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "json": "JSON",
}
FIRST_INSTANT, LAST_INSTANT = (
    f"'{end.isoformat()}Z'::TIMESTAMPTZ" for end in (datetime.min, datetime.max)
)


def pin_columns(
    connection: duckdb.DuckDBPyConnection,
    schema: str,
    endpoints: Iterable[Endpoint],
    stored: Mapping[str, dict[str, str]],
) -> None:
    """Give tables the pinned columns that they lack, and those their types that are JSON still.

    JSON is what unknown fields come as, and columns lack in a table of a program before, where dlt
    would make them with the next row alone. `stored` are the types of each table's columns, by
    resource, and afterwards those that they have then.

    A value that does not fit goes to `_rescued` under the column's name. Interrupted anywhere, it
    goes on the next time.
    """
    endpoints = [*endpoints]
    if not all(stored.get(endpoint.name) for endpoint in endpoints):
        _let_dlt_look(connection, schema)  # somebody may have dropped a table
    for endpoint in endpoints:
        table, there = f"{schema}.{endpoint.name}", stored.get(endpoint.name, {})
        if there:
            _add_columns(connection, table, endpoint, there)
        for column in endpoint.columns:
            if there.get(column.name) == "JSON" != DUCKDB_TYPES[column.type]:
                _let_dlt_look(connection, schema)  # first, since it would believe the old type
                with transact(connection):
                    _pin(connection, table, column)
                there[column.name] = DUCKDB_TYPES[column.type]


def _let_dlt_look(connection: duckdb.DuckDBPyConnection, schema: str) -> None:
    """Have dlt look for itself what is there, in place of what it noted."""
    if has_table(connection, f"{schema}._dlt_version"):
        connection.execute(f"DELETE FROM {schema}._dlt_version")
        connection.execute(f"DROP SCHEMA IF EXISTS {schema}_staging CASCADE")


def _add_columns(
    connection: duckdb.DuckDBPyConnection, table: str, endpoint: Endpoint, there: dict[str, str]
) -> None:
    columns = (*endpoint.columns, *LOADER_COLUMNS)
    if lacking := [x for x in columns if x.name not in there and x.nullable]:
        with transact(connection):
            for column in lacking:
                kind = f"{quote_name(column.name)} {DUCKDB_TYPES[column.type]}"
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {kind}")
        there |= {column.name: DUCKDB_TYPES[column.type] for column in lacking}
        doubt_versions(connection, [COMMENTS])  # they have none yet


def _pin(connection: duckdb.DuckDBPyConnection, table: str, column: Column) -> None:
    name = f'"{column.name}"'
    # JSON of text is text; of the other types only what is written as one of them.
    texts = ("VARCHAR",) if column.type in ("text", "timestamp") else ("BIGINT", "UBIGINT")
    kinds = {"bool": ("BOOLEAN",), "double": (*texts, "DOUBLE")}.get(column.type, texts)
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    value = (
        f"CASE WHEN json_type({name}) IN ({allowed}) "
        f"THEN TRY_CAST(json_extract_string({name}, '$') AS {DUCKDB_TYPES[column.type]}) END"
    )
    if column.type == "timestamp":  # DuckDB's go on where Python's end, and "infinity" is one
        value = f"CASE WHEN {value} BETWEEN {FIRST_INSTANT} AND {LAST_INSTANT} THEN {value} END"
    # As text: DuckDB's own merging leaves out what is null inside of a value.
    connection.execute(
        f"UPDATE {table} SET _rescued = coalesce(left(_rescued::VARCHAR, -1) || ',', '{{') "
        f"|| '{name}:' || {name}::VARCHAR || '}}' "
        f"WHERE json_type({name}) <> 'NULL' AND ({value}) IS NULL "
        f"AND NOT coalesce(list_contains(json_keys(_rescued), '{column.name}'), false)"
    )
    # A column of its own, since one that is compressed as text cannot become anything else.
    connection.execute(f"ALTER TABLE {table} ADD COLUMN _pinned {DUCKDB_TYPES[column.type]}")
    connection.execute(f"UPDATE {table} SET _pinned = {value}")
    connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    connection.execute(f"ALTER TABLE {table} RENAME COLUMN _pinned TO {name}")
