"""COMMENTs: what each table and column is, said in the database itself, so in its copies too.

Who knows a table says what it is (`Description`); this is how it gets there. What is there already
is not written again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import duckdb

from incident_assets.api.endpoints import LOADER_COLUMNS, Endpoint
from incident_assets.warehouse.file import quote_name, quote_text

UNKNOWN = "Field of the API that this program does not know, as JSON"


@dataclass(frozen=True)
class Description:
    """What a table is, and its columns by name; `others` is said of columns without a text."""

    table: str
    columns: Mapping[str, str]
    others: str = ""


def describe_endpoint(endpoint: Endpoint) -> Description:
    """Return what the raw table of a resource and its columns are."""
    columns = (*endpoint.columns, *LOADER_COLUMNS)
    table = f"{endpoint.description} {endpoint.grain.capitalize()}."
    return Description(table, {x.name: x.description for x in columns}, UNKNOWN)


def write_comments(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Description]
) -> None:
    """Give tables (`schema.table`), and their columns, the comments that they lack.

    Tables that are not there are passed over. Part of the caller's transaction.
    """
    found = connection.execute(
        "WITH said AS (SELECT schema_name || '.' || table_name AS place, NULL AS column_name, "
        "comment FROM duckdb_tables() WHERE database_name = current_database() "
        "UNION ALL SELECT schema_name || '.' || table_name, column_name, comment "
        "FROM duckdb_columns() WHERE database_name = current_database()) "
        "SELECT place, column_name, comment FROM said WHERE place IN (SELECT unnest(?))",
        [[*tables]],
    ).fetchall()
    if statements := list(_list_statements(found, tables)):
        connection.execute(";".join(statements))


def _list_statements(
    found: Iterable[tuple[str, str | None, str | None]], tables: Mapping[str, Description]
) -> Iterable[str]:
    for table, column, said in found:
        known = tables[table]
        text = known.table if column is None else known.columns.get(column, known.others)
        if not text or text == said:
            continue
        if column is None:
            yield f"COMMENT ON TABLE {table} IS {quote_text(text)}"
        else:
            yield f"COMMENT ON COLUMN {table}.{quote_name(column)} IS {quote_text(text)}"
