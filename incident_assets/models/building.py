"""How a model's table is built and replaced: in one transaction, and never on a broken key.

One that would come out as it is, is left alone. What a model is, is read in `catalog`. No Dagster
here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import duckdb

from incident_assets.api.categories import CATEGORIES
from incident_assets.api.endpoints import LOADER_COLUMNS, find_endpoint
from incident_assets.checks.finding import SAMPLE, Finding
from incident_assets.models.catalog import MODEL_SCHEMA, SETTING_SCHEMA, Model
from incident_assets.models.mappings import define_categories, register_settings
from incident_assets.settings import Settings
from incident_assets.warehouse.comments import write_comments
from incident_assets.warehouse.commits import commit
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.history import ENDS
from incident_assets.warehouse.merging import read_columns
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, RAW_SCHEMA, name_table
from incident_assets.warehouse.versions import (
    note_version,
    prepare_versions,
    read_looks,
    read_versions,
    sign,
)

RAW_TABLE = re.compile(rf"(?<=FROM |JOIN )((?:{RAW_SCHEMA}|{HISTORY_SCHEMA})\.(\w+))(?: AS (\w+))?")


@dataclass(frozen=True)
class Built:
    """A model's rows and version, and whether it was built; with a broken grain, it was undone."""

    rows: int
    version: str
    grain: Finding
    is_unchanged: bool = False


def find_missing(connection: duckdb.DuckDBPyConnection, model: Model) -> list[str]:
    """Return the tables that a model reads and that are not there."""
    tables = sorted(table for table in model.tables if table[0] != SETTING_SCHEMA)
    return [name for name in map(".".join, tables) if not has_table(connection, name)]


def build_model(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    settings: Settings,
    today: date | None = None,
) -> Built:
    """Replace a model's table by what its SQL gives, if the key is whole; all of it or nothing.

    The table is left alone where neither the SQL, nor the settings or versions of tables that it
    reads, are others than at its last build; `today` is one of these settings. Raises
    SettingError if a setting is wrong; after any error, closing the connection undoes what was
    begun.
    """
    table = f"{MODEL_SCHEMA}.{model.name}"
    relations = sorted(name for schema, name in model.tables if schema == SETTING_SCHEMA)
    register_settings(connection, settings, relations, today)
    define_categories(connection)
    connection.execute("SET TimeZone = 'UTC'")  # for times without a zone
    sql = _narrow(connection, model.sql)
    version = _find_version(connection, model, sql, relations)
    looks = read_looks(connection, [table])
    if version is not None and read_versions(connection, [table], looks)[table] == version:
        found = f"unchanged since {_name_key(model)} was unique"
        finding = Finding(True, found, "error", {"broken keys": 0}, is_repeated=True)
        return Built(looks[table].rows, version, finding, is_unchanged=True)
    connection.begin()
    prepare_versions(connection)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {MODEL_SCHEMA}")
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS {sql}")
    write_comments(connection, {table: model.texts})
    version = note_version(connection, table, version)
    grain = check_grain(connection, model)
    rows = _count(connection, table)
    if grain.passed:
        commit(connection)
    else:
        connection.rollback()
    return Built(rows, version, grain)


def _find_version(
    connection: duckdb.DuckDBPyConnection, model: Model, sql: str, relations: Iterable[str]
) -> str | None:
    """Return what stands for all that a build reads; None where that is unsure."""
    tables = sorted(
        ".".join(table) for table in model.tables - model.histories if table[0] != SETTING_SCHEMA
    )
    # A version is written as its row is replaced; one is dropped alone, by age or to be forgotten.
    histories = [name_table(name) for _, name in model.histories]
    versions = read_versions(connection, sorted({*tables, *histories}))
    if None in versions.values():
        return None
    looks = read_looks(connection, sorted(map(".".join, model.histories)))
    settings = {name: connection.execute(f"FROM {name}").fetchall() for name in relations}
    parts = (sql, model.grain, model.texts, CATEGORIES, settings, versions, duckdb.__version__)
    return sign(*parts, *sorted(looks.items()))


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def _narrow(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return a model's SQL with nothing in sight that the table of resources does not know.

    A new field of the API may be named like anything in the SQL, and would be read in its place.
    """

    def select(found: re.Match[str]) -> str:
        table, name, alias = found.groups()
        there = read_columns(connection, table)
        known = (c.name for c in (*find_endpoint(name).columns, *LOADER_COLUMNS, *ENDS))
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
        description=f"{_name_key(model)} is {'NULL or repeated' if count else 'unique'}",
        severity="error",
        counts={"broken keys": count},
        samples={"broken keys": list(samples)} if samples else {},
        sql={"broken keys": sql},
    )


def _name_key(model: Model) -> str:
    return f"({', '.join(model.grain)})"
