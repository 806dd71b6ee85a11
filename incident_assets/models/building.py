"""How a model's table is built and replaced: in one transaction, and never on a broken key.

What a model is, is read in `catalog`. No Dagster here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb

from incident_assets.api.endpoints import LOADER_COLUMNS, find_endpoint
from incident_assets.checks.finding import SAMPLE, Finding
from incident_assets.models.catalog import MODEL_SCHEMA, SETTING_SCHEMA, Model
from incident_assets.models.mappings import define_categories, register_settings
from incident_assets.settings import Settings
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.merging import read_columns
from incident_assets.warehouse.schemas import RAW_SCHEMA

RAW_TABLE = re.compile(rf"(?<=FROM |JOIN )({RAW_SCHEMA}\.(\w+))(?: AS (\w+))?")


@dataclass(frozen=True)
class Built:
    """A build's rows and, by column, how many are NULL; if the grain is broken, it was undone."""

    rows: int
    nulls: Mapping[str, int]
    grain: Finding


def find_missing(connection: duckdb.DuckDBPyConnection, model: Model) -> list[str]:
    """Return the tables that a model reads and that are not there."""
    tables = sorted(table for table in model.tables if table[0] != SETTING_SCHEMA)
    return [name for name in map(".".join, tables) if not has_table(connection, name)]


def build_model(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    settings: Settings,
    now: datetime | None = None,
) -> Built:
    """Replace a model's table by what its SQL gives, if the key is whole; all of it or nothing.

    `now` is the time of the build. Raises SettingError if a setting that the model reads is wrong;
    after any error, closing the connection undoes what was begun.
    """
    table = f"{MODEL_SCHEMA}.{model.name}"
    relations = [name for schema, name in model.tables if schema == SETTING_SCHEMA]
    register_settings(connection, settings, relations, now)
    define_categories(connection)
    connection.execute("SET TimeZone = 'UTC'")  # for times without a zone
    connection.begin()
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {MODEL_SCHEMA}")
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS {_narrow(connection, model.sql)}")
    counted = ", ".join(f'count(*) - count("{column.name}")' for column in model.columns)
    query = f"SELECT count(*), {counted} FROM {table}"
    rows, *nulls = connection.execute(query).fetchone() or (0,)
    grain = check_grain(connection, model)
    if grain.passed:
        connection.commit()
    else:
        connection.rollback()
    names = [column.name for column in model.columns]
    return Built(rows, dict(zip(names, nulls, strict=True)), grain)


def _narrow(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return a model's SQL with nothing in sight that the table of resources does not know.

    A new field of the API may be named like anything in the SQL, and would be read in its place.
    """

    def select(found: re.Match[str]) -> str:
        table, name, alias = found.groups()
        there = read_columns(connection, table)
        known = (c.name for c in (*find_endpoint(name).columns, *LOADER_COLUMNS))
        columns = ", ".join(f'"{column}"' for column in known if column in there)
        return f"(SELECT {columns} FROM {table}) AS {alias or name}"

    return RAW_TABLE.sub(select, sql)


def check_grain(connection: duckdb.DuckDBPyConnection, model: Model) -> Finding:
    """Look for keys of a model's table that are NULL or there more than once."""
    key = ", ".join(model.grain)
    absent = " OR ".join(f"{name} IS NULL" for name in model.grain)
    sql = (
        f"SELECT {key} FROM {MODEL_SCHEMA}.{model.name} GROUP BY {key} "
        f"HAVING count(*) > 1 OR {absent}"
    )
    query = f"SELECT count(*), min(concat_ws(', ', {key}), {SAMPLE}) FROM ({sql})"
    count, samples = connection.execute(query).fetchone() or (0, None)
    return Finding(
        passed=not count,
        description=f"({key}) is {'NULL or repeated' if count else 'unique'}",
        severity="error",
        counts={"broken keys": count},
        samples={"broken keys": list(samples)} if samples else {},
        sql={"broken keys": sql},
    )
