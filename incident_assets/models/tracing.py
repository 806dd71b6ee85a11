"""What a mart's SQL says of a figure: the query that lists the rows behind it, field by field.

A value is followed from the mart down, through CTEs and into the models that work it out, to the
fields of the API. To the listed rows two columns come for each value that it is made from: the
value, and the field that it was read from (of several, the one that it was). No database is opened
here; who asks, and what is printed, is in `explain`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from sqlglot import exp
from sqlglot.optimizer.scope import Scope, build_scope

from incident_assets.models.catalog import (
    CONSTANT,
    MODEL_SCHEMA,
    SETTING_SCHEMA,
    find_origins,
    read_models,
)
from incident_assets.models.lineage import find_projection, find_sources, parse_models
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, RAW_SCHEMA

LISTED = "listed"  # relation of the rows, as `Trace.figure` reads it
HINT = "API field"
# Every list names its incidents, by their reference; of other rows, a field tells which it is of.
NAMED = "incidents"
# What has two sides that count alike.
PAIRS = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ)
# What takes one value of several, and what takes the field of that one in the same way.
PICKS: dict[type[Any], str] = {
    exp.Min: "arg_min({field}, {value})",
    exp.Max: "arg_max({field}, {value})",
    exp.Lead: "lead({field})",
    exp.Lag: "lag({field})",
}
# What leaves a value as it is read, so that it has one field alone.
CARRIERS = (exp.Alias, exp.Paren, exp.Cast, exp.Filter, exp.JSONExtractScalar, exp.Min, exp.Max)


@dataclass(frozen=True)
class Trace:
    """The query for the rows of a figure, and the one that makes the figure from `LISTED`.

    The first has a parameter for each column of the mart's key; `header` names its columns.
    """

    sql: str
    header: tuple[str, ...]
    figure: str


class Part(NamedTuple):
    """A value that another one is made from and the text of its field, both as SQL."""

    name: str
    value: str
    field: str


def is_figure(mart: str, column: str) -> bool:
    """Return whether a column is worked out of a group's rows alone, not picked from one of them.

    One that a window makes of several groups is none, and is not followed.
    """
    projection = find_projection(parse_models()[mart].tree, column)
    aggregates = {type(found) for found in projection.find_all(exp.AggFunc)}
    return bool(aggregates - PICKS.keys()) and not projection.find(exp.Window)


@cache
def trace_figure(mart: str, metric: str) -> Trace:
    """Return how the rows that add to a figure of a mart are listed.

    Raises KeyError if there is no such mart, StopIteration if it has no such column.
    """
    model = read_models()[mart]
    scope: Any = build_scope(parse_models()[mart].tree.copy())
    select = scope.expression
    value = find_projection(select, metric).unalias()
    keys = {name: _write(find_projection(select, name).unalias()) for name in model.grain}
    adding = " OR ".join(_write_condition(found) for found in value.find_all(exp.AggFunc))
    labels = sorted(_find_labels(scope).items(), key=lambda label: label[0][0])
    shown = [(name, text) for (_, name), text in labels]
    places: dict[str, int] = {}
    columns = {_write(column): column for column in value.find_all(exp.Column)}
    # First what is added up, then what it depends on whether it is.
    for text, column in sorted(columns.items(), key=lambda x: not x[1].find_ancestor(exp.AggFunc)):
        parts = _split(column, scope)
        for part in parts if len(parts) > 1 else []:
            if part.name not in [name for name, _ in shown]:
                shown += [(part.name, part.value), (HINT, part.field)]
        places[text] = len(shown)
        shown += [(column.name, text), *((HINT, part.field) for part in parts if len(parts) == 1)]
    for clause in ("group", "having", "order", "limit"):
        select.set(clause, None)
    for table in select.find_all(exp.Table):
        if table.db == SETTING_SCHEMA:
            table.set("db", None)
    cells = [f"{text} AS c{n}" for n, (_, text) in enumerate(shown)]
    select.select(*cells, append=False, copy=False, dialect="duckdb")
    wanted = [f"{text} IS NOT DISTINCT FROM ${name}" for name, text in keys.items()]
    select.where(*wanted, adding, copy=False, dialect="duckdb")
    figure = value.copy().transform(_read_listed, places)
    return Trace(
        f"{_write(select)} ORDER BY ALL",
        tuple(name for name, _ in shown),
        f"SELECT {_write(figure)} FROM {LISTED}",
    )


def _write(value: exp.Expr) -> str:
    return value.sql("duckdb", comments=False)


def _write_condition(aggregate: exp.Expr) -> str:
    conditions = [f"{_write(column)} IS NOT NULL" for column in aggregate.find_all(exp.Column)]
    if isinstance(aggregate.parent, exp.Filter):
        conditions.append(f"({_write(aggregate.parent.expression.this)})")
    return " AND ".join(dict.fromkeys(conditions)) or "TRUE"


def _read_listed(node: exp.Expr, places: dict[str, int]) -> exp.Expr:
    if not isinstance(node, exp.Column):
        return node
    column = exp.column(f"c{places[_write(node)]}")
    # Alone can stand what is the same in the whole group; but there is no group any more.
    return column if node.find_ancestor(exp.AggFunc, exp.Filter) else exp.AnyValue(this=column)


def _find_labels(scope: Any) -> dict[tuple[str, str], str]:
    """Return what people know rows by: of each fact, its first two texts that are no ids."""
    labels = {}
    for alias, (_, source) in scope.selected_sources.items():
        if isinstance(source, Scope):
            inner = _find_labels(source) if _can_grow(source) else {}
            for (fact, name), text in inner.items():
                if _is_grouped(source):
                    text = f"string_agg(DISTINCT {text}, ', ' ORDER BY {text})"
                labels[fact, name] = _add(source, text, f"{fact}__{name}", alias)
        elif source.name.startswith("fct_"):
            texts = [c.name for c in read_models()[source.name].columns if c.type == "VARCHAR"]
            known = [name for name in texts if not name.endswith("_id")][:2]
            labels |= {(source.name, name): f"{alias}.{name}" for name in known}
    return labels


def _can_grow(scope: Any) -> bool:
    select = scope.expression
    return isinstance(select, exp.Select) and not select.args.get("distinct")


def _is_grouped(scope: Any) -> bool:
    return bool(scope.expression.args.get("group"))


def _add(scope: Any, text: str, name: str, alias: str) -> str:
    """Add a column to a SELECT that is there under an alias; return how it is read outside."""
    if name not in scope.expression.named_selects:
        scope.expression.select(f"{text} AS {name}", copy=False, dialect="duckdb")
    return f"{alias}.{name}"


def _split(value: exp.Expr, scope: Any) -> list[Part]:
    """Return what a value is made from, none for a constant; of a difference, its start first."""
    if isinstance(value, exp.Column):
        return _split_column(value, scope)
    if isinstance(value, exp.Literal | exp.Null | exp.Boolean):
        return []
    if isinstance(value, exp.Paren | exp.Cast):
        return _split(value.this, scope)
    if isinstance(value, exp.Anonymous) and value.name.lower() == "epoch_us":
        return _split(value.expressions[0], scope)
    if isinstance(value, PAIRS):
        left, right = (_split(side, scope) for side in (value.left, value.right))
        return right + left if isinstance(value, exp.Sub) else left + right
    choices: list[tuple[str, exp.Expr | None]] = []
    if isinstance(value, exp.Coalesce):
        choices = [(f"{_write(x)} IS NOT NULL", x) for x in (value.this, *value.expressions)]
    elif isinstance(value, exp.Case) and not value.this:
        choices = [(_write(branch.this), branch.args["true"]) for branch in value.args["ifs"]]
        choices.append(("TRUE", value.args.get("default")))
    branches = [(when, _split(x, scope) if x else []) for when, x in choices]
    counts = {len(parts) for _, parts in branches} - {0}
    if len(counts) == 1:
        return [_choose(branches, n) for n in range(counts.pop())]
    return [Part(_write(value), _write(value), _write_field(value, scope))]


def _choose(branches: list[tuple[str, list[Part]]], n: int) -> Part:
    """Return the nth part of a value that is one of several, each with its condition."""
    there = [(when, parts[n]) for when, parts in branches if parts]
    names = " or ".join(dict.fromkeys(part.name for _, part in there))
    values, fields = (
        " ".join(f"WHEN {when} THEN {parts[n][k] if parts else 'NULL'}" for when, parts in branches)
        for k in (1, 2)
    )
    return Part(names, f"CASE {values} END", f"CASE {fields} END")


def _split_column(column: exp.Column, scope: Any) -> list[Part]:
    source, name, text = scope.sources[column.table], column.name, _write(column)
    if not isinstance(source, Scope):
        if template := _follow(column, scope):
            return [Part(name, text, _fill(template, source, column.table))]
        inner: Any = build_scope(parse_models()[source.name].tree.copy())
        # `scope` goes on to know the table: this is the model's own SQL in its place.
        name_there = exp.TableAlias(this=exp.to_identifier(column.table))
        source.replace(exp.Subquery(this=inner.expression, alias=name_there))
        source = scope.sources[column.table] = inner
    if not _can_grow(source):
        return [Part(name, text, _write_origins(column, scope))]
    projection = find_projection(source.expression, name).unalias()
    parts = []
    for n, part in enumerate(_split(projection, source)):
        if _is_grouped(source) and not projection.find(exp.AggFunc):
            part = Part(part.name, f"min({part.value})", f"min({part.field})")
        value = _add(source, part.value, f"{name}__{n}", column.table)
        field = _add(source, part.field, f"{name}__{n}_field", column.table)
        parts.append(Part(part.name, value, field))
    if len(parts) == 1:
        return [Part(name, text, parts[0].field)]
    return parts or [Part(name, text, _write_origins(column, scope))]


def _follow(value: exp.Expr, scope: Any) -> str | None:
    """Return the one field that a value is read from, None if it is worked out.

    `{}` stands for the row: of what is unnested, that in the field; else that of the table.
    """
    if isinstance(value, exp.Column):
        source = scope.sources[value.table]
        if isinstance(source, exp.Table):
            if source.db != MODEL_SCHEMA:
                row = "[{}]" * (source.db in (RAW_SCHEMA, HISTORY_SCHEMA) and source.name != NAMED)
                return f"{source.name}{row}.{value.name}"
            source = build_scope(parse_models()[source.name].tree)
        if not isinstance(source.expression, exp.Select):
            return None
        return _follow(find_projection(source.expression, value.name), source)
    carried = isinstance(value, (*CARRIERS, exp.Dot, exp.Explode)) or value.key == "fromjson"
    if not carried or (found := _follow(value.this, scope)) is None:
        return None
    if isinstance(value, exp.Explode):
        return found.replace("[{}]", "") + "[{}]"
    return f"{found}.{value.expression.name}" if isinstance(value, exp.Dot) else found


def _fill(template: str, table: exp.Table, alias: str) -> str:
    if "{}" not in template:
        return f"'{template}'"
    label = "id"
    if table.db == MODEL_SCHEMA:
        model = read_models()[table.name]
        label = "name" if "name" in [c.name for c in model.columns] else model.grain[-1]
    before, after = template.split("{}")
    return f"'{before}' || {alias}.{label} || '{after}'"


def _write_field(value: exp.Expr, scope: Any) -> str:
    """Return the field of a value that is one of several or made of one, else all its origins."""
    one = value.this if isinstance(value, exp.Filter | exp.Window) else value
    if pick := PICKS.get(type(one)):
        parts = _split(one.this, scope)
        if len(parts) == 1:
            text = pick.format(field=parts[0].field, value=_write(one.this))
            return _write(value).replace(_write(one), text, 1)
    sides = [side for side in value.iter_expressions() if side.find(exp.Column)]
    if len(sides) == 1 and not value.find(exp.AggFunc):
        parts = _split(sides[0], scope)
        if len(parts) == 1:
            return parts[0].field
    return _write_origins(value, scope)


def _write_origins(value: exp.Expr, scope: Any) -> str:
    origins = {o for source in find_sources(scope, value) for o in find_origins(source)}
    return f"'{', '.join(sorted(o.label for o in origins if o.schema != CONSTANT))}'"
