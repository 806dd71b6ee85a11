"""What the SQL itself says of a model: tables, output columns, types, and what each is made from.

The SQL is parsed, and run on empty tables in memory, which know the types: 0.4 s of a processor.
So what comes of it is kept in a file, which `catalog` reads; this is for making that file, for SQL
that was edited since, and for `tracing`, which needs the parsed SQL itself.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from itertools import takewhile
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

from incident_assets.api.endpoints import ENDPOINTS, LOADER_COLUMNS
from incident_assets.models.catalog import (
    CONSTANT,
    MODEL_SCHEMA,
    SETTING_SCHEMA,
    ColumnSource,
    Model,
    ModelColumn,
    read_texts,
)
from incident_assets.models.mappings import SETTINGS, define_categories, register_settings
from incident_assets.settings import Settings
from incident_assets.warehouse.columns import DUCKDB_TYPES
from incident_assets.warehouse.history import ENDS
from incident_assets.warehouse.merging import read_columns
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, RAW_SCHEMA


@dataclass(frozen=True)
class ParsedModel:
    """A model and its parsed SQL, each column with its table's name, and no star."""

    model: Model
    tree: Any


@cache
def parse_models() -> Mapping[str, ParsedModel]:
    """Return the models by name as their SQL has them now, each after those it reads."""
    texts = read_texts()
    trees: dict[str, Any] = {
        name: sqlglot.parse_one(texts[name], dialect="duckdb") for name in texts
    }
    tables = {name: frozenset(_find_tables(tree)) for name, tree in trees.items()}
    # Sorted, so that the order is the same in every process.
    inputs = {n: sorted(t for s, t in tables[n] if s == MODEL_SCHEMA) for n in sorted(texts)}
    parsed = {}
    with duckdb.connect() as connection:
        types = _create_inputs(connection)
        # Made once: `qualify` would translate all names and types anew for each model.
        schema = MappingSchema(types, dialect="duckdb")
        for name in TopologicalSorter(inputs).static_order():
            table = f"{MODEL_SCHEMA}.{name}"
            connection.execute(f"CREATE TABLE {table} AS {texts[name]}")
            types[MODEL_SCHEMA][name] = read_columns(connection, table)
            schema.add_table(table, types[MODEL_SCHEMA][name], dialect="duckdb")
            comments = {s.alias_or_name: " ".join(s.comments or ()) for s in trees[name].selects}
            scope = build_scope(
                qualify(trees[name], dialect="duckdb", schema=schema, quote_identifiers=False)
            )
            header = "\n".join(
                line[3:]
                for line in takewhile(lambda x: x.startswith("--"), texts[name].splitlines())
            )
            notes = re.split(r"\n(?=(?:Grain|Source|Caveat): )", header)
            grain = next(note[7:] for note in notes if note.startswith("Grain: "))
            model = Model(
                name=name,
                sql=texts[name],
                notes=tuple(" ".join(note.split()) for note in notes),
                grain=tuple(grain.split(", ")),
                tables=tables[name],
                columns=tuple(
                    ModelColumn(
                        column, kind, comments[column].strip(), frozenset(_trace(scope, column))
                    )
                    for column, kind in types[MODEL_SCHEMA][name].items()
                ),
            )
            parsed[name] = ParsedModel(model, trees[name])
    return parsed


def _find_tables(tree: exp.Expr) -> Iterator[tuple[str, str]]:
    for table in tree.find_all(exp.Table):
        if table.name in SETTINGS:
            table.set("db", exp.to_identifier(SETTING_SCHEMA))
        if table.db:
            yield table.db, table.name


def _create_inputs(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Create empty raw tables, their histories and settings; return types by schema and table."""
    for name in (RAW_SCHEMA, HISTORY_SCHEMA, MODEL_SCHEMA):
        connection.execute(f"CREATE SCHEMA {name}")
    for endpoint in ENDPOINTS:
        for schema, ends in ((RAW_SCHEMA, ()), (HISTORY_SCHEMA, ENDS)):
            columns = (*endpoint.columns, *LOADER_COLUMNS, *ends)
            listed = ", ".join(f'"{column.name}" {DUCKDB_TYPES[column.type]}' for column in columns)
            connection.execute(f"CREATE TABLE {schema}.{endpoint.name} ({listed})")
    register_settings(connection, Settings(), SETTINGS)
    define_categories(connection)
    raw, history = (
        {e.name: read_columns(connection, f"{schema}.{e.name}") for e in ENDPOINTS}
        for schema in (RAW_SCHEMA, HISTORY_SCHEMA)
    )
    settings = {name: read_columns(connection, name) for name in SETTINGS}
    return {
        RAW_SCHEMA: raw,
        HISTORY_SCHEMA: history,
        SETTING_SCHEMA: settings,
        MODEL_SCHEMA: {},
    }


def _trace(scope: Any, name: str) -> Iterator[ColumnSource]:
    """Yield the columns that an output column of a SELECT is made from."""
    if scope.set_operation_scopes:
        place = scope.expression.named_selects.index(name)
        for part in scope.set_operation_scopes:
            yield from _trace(part, part.expression.named_selects[place])
        return
    yield from find_sources(scope, find_projection(scope.expression, name).unalias())


def find_projection(select: Any, name: str) -> exp.Expr:
    """Return the output column of a SELECT. Raises StopIteration if it has none of that name."""
    return next(s for s in select.selects if s.alias_or_name == name)


def find_sources(scope: Any, value: exp.Expr) -> Iterator[ColumnSource]:
    """Yield the columns that a value in a SELECT is made from; a constant, if it is one."""
    if isinstance(value, exp.Literal):
        yield ColumnSource(CONSTANT, "", value.sql("duckdb"))
    for column in value.find_all(exp.Column):
        source = scope.sources[column.table]
        if isinstance(source, Scope):
            yield from _trace(source, column.name)
        else:
            # What a row was came from the same field of the API as what it is.
            is_end = column.name in (x.name for x in ENDS)
            is_was = source.db == HISTORY_SCHEMA and not is_end
            yield ColumnSource(RAW_SCHEMA if is_was else source.db, source.name, column.name)
