"""`incident-assets explain MART METRIC`: where a figure comes from, row by row; which there are.

Prints the definition, the SQL, the rows behind the figure with the API fields they were read from,
and the figure worked out again from these rows alone. What a figure is made of is read from the
mart's SQL in `tracing`; figures are made there, not here.
"""

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from textwrap import fill, indent
from typing import Any

import duckdb

from incident_assets.api.failures import clean_text
from incident_assets.models.catalog import (
    MODEL_SCHEMA,
    ColumnSource,
    Model,
    find_origins,
    read_models,
)
from incident_assets.models.mappings import SETTINGS, define_categories, register_settings
from incident_assets.models.tracing import LISTED, is_figure, trace_figure
from incident_assets.settings import Settings
from incident_assets.sync.terminal import format_table
from incident_assets.values import SettingError
from incident_assets.warehouse.file import DatabaseError
from incident_assets.warehouse.place import find_warehouse

MartRow = dict[str, Any]

SHOWN = 20  # keys in a message; of weeks, the last
WIDTH = 100  # columns of a list
USAGE = "The rows behind one: incident-assets explain MART FIGURE, with the options of the mart"


class Unknown(Exception):
    """There is no such mart, metric or row; the text says which there are."""


@dataclass(frozen=True)
class Explanation:
    """The rows behind a figure as a table, and the figure worked out from them."""

    header: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]
    figure: float | None


def list_marts() -> list[str]:
    """Return the names of the models that have figures."""
    return sorted(name for name in read_models() if name.startswith("mart_"))


def list_figures(mart: str) -> list[str]:
    """Return the figures of a mart, in its order. Raises KeyError if there is no such mart."""
    columns = [column.name for column in read_models()[mart].columns]
    return [name for name in columns if is_figure(mart, name)]


def explain(
    connection: duckdb.DuckDBPyConnection,
    mart: str,
    metric: str,
    chosen: Mapping[str, str],
    settings: Settings | None = None,
) -> tuple[MartRow, Explanation]:
    """Return a mart's row and what is behind one of its figures.

    `chosen` has, by key column, what the row is selected by; `settings` are those that the models
    were built with. Raises Unknown if there is no such mart, metric or row, or more than one row.
    """
    model = _find_mart(mart)
    if metric not in (figures := list_figures(mart)):
        raise Unknown(f"{mart} has no metric {metric!r}: there are {', '.join(figures)}")
    row = _find_row(connection, model, chosen)
    trace = trace_figure(mart, metric)
    # The clock shows what it did at the build, where the mart says when that was.
    register_settings(connection, settings or Settings(), SETTINGS, row.get("as_of"))
    define_categories(connection)
    connection.execute("SET TimeZone = 'UTC'")
    keys = {name: row[name] for name in model.grain}
    rows = connection.sql(trace.sql, params=keys).to_arrow_table()
    figure = connection.register(LISTED, rows).execute(trace.figure).fetchall()[0][0]
    cells = [tuple(map(_show, values.values())) for values in rows.to_pylist()]
    return row, Explanation(trace.header, cells, figure)


def _find_mart(mart: str) -> Model:
    if mart not in (marts := list_marts()):
        raise Unknown(f"there is no mart {mart!r}: there are {', '.join(marts)}")
    return read_models()[mart]


def _show(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else value


def _name_key(model: Model, column: str) -> str:
    """Return the column with the name of a key that is an id, else the key."""
    stem = column.removesuffix("_id")
    names = {other.name for other in model.columns}
    return next((name for name in (stem, f"{stem}_name") if name in names), column)


def _find_row(
    connection: duckdb.DuckDBPyConnection, model: Model, chosen: Mapping[str, str]
) -> MartRow:
    if extra := chosen.keys() - set(model.grain):
        raise Unknown(
            f"{model.name} is selected by {_list_options(model.grain)} alone, not by "
            f"{_list_options(sorted(extra))}"
        )
    key = ", ".join(model.grain)
    sql = f"SELECT * FROM {MODEL_SCHEMA}.{model.name} ORDER BY {key}"
    rows = connection.sql(sql).to_arrow_table().to_pylist()
    for column in model.grain:
        name, wanted = _name_key(model, column), chosen.get(column)
        left = [row for row in rows if wanted is not None and _matches(row, column, name, wanted)]
        known = [*dict.fromkeys(clean_text(str(row[name])) for row in rows)]
        if wanted is None and len(known) == 1:
            continue
        if not left:
            found = "more than one" if wanted is None else f"no {wanted!r}"
            more = f"{len(known) - SHOWN} more and " if len(known) > SHOWN else ""
            raise Unknown(
                f"{model.name} has {found} ({_list_options([column])}): "
                f"there are {more}{', '.join(known[-SHOWN:]) or 'no rows'}"
            )
        rows = left
    if len(rows) != 1:
        raise Unknown(f"{model.name} has {len(rows)} such rows: give ids in place of names")
    return rows[0]


def _list_options(columns: Sequence[str]) -> str:
    return ", ".join("--" + column.removesuffix("_id").replace("_", "-") for column in columns)


def _matches(row: MartRow, column: str, name: str, wanted: str) -> bool:
    if isinstance(row[column], date):
        return bool(row[column] == _read_day(column, wanted))
    return wanted.lower() in [str(value).lower() for value in (row[column], row[name])]


def _read_day(column: str, text: str) -> date:
    """Return the Monday of a week (2026-W40 or a day in it), or the first of a month (2026-10)."""
    try:
        if column == "month":
            return date.fromisoformat(text[:7] + "-01")
        if found := re.fullmatch(r"(\d{4})-?W(\d{1,2})", text, re.IGNORECASE):
            return date.fromisocalendar(int(found[1]), int(found[2]), 1)
        day = date.fromisoformat(text)
    except ValueError:
        example = "2026-10" if column == "month" else "2026-W40 or 2026-09-28"
        raise Unknown(f"--{column} {text!r} is none: it should look like {example}") from None
    return day - timedelta(days=day.weekday())


@contextmanager
def _open(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the published copy, or the database if there is none; read-only."""
    warehouse = find_warehouse(settings)
    if warehouse.has_file and settings.published_copy.exists():
        with duckdb.connect(str(settings.published_copy.absolute()), read_only=True) as connection:
            yield connection
    elif warehouse.exists():
        timeout = settings.lock_timeout
        with warehouse.open(timeout, "explaining a figure", read_only=True) as connection:
            yield connection
    else:
        raise Unknown(
            f"there is no database {settings.database} (INCIDENT_DUCKDB_PATH): sync first, or "
            "run the demo"
        )


def write_explanation(mart: str, metric: str, row: MartRow, explanation: Explanation) -> str:
    """Return what `explain` found as text: definition, SQL, rows, and the figure made of them."""
    model = read_models()[mart]
    column = next(column for column in model.columns if column.name == metric)
    key = ", ".join(clean_text(f"{k} {row[_name_key(model, k)]}") for k in model.grain)
    origins = sorted(find_origins(ColumnSource(MODEL_SCHEMA, mart, metric)))
    lines = [f"{mart}.{metric} ({key}) = {row[metric]}\n", f"{column.description}.\n", *model.notes]
    for source in sorted(column.sources):
        if source.schema == MODEL_SCHEMA:
            nearer = {c.name: c for c in read_models()[source.table].columns}[source.column]
            lines.append(f"{source.label}: {nearer.description}.")
    lines.append(f"Made from: {', '.join('.'.join(filter(None, origin)) for origin in origins)}")
    facts = sorted(name for _, name in model.tables if name.startswith("fct_"))
    for name in (*facts, mart):
        sql = read_models()[name].sql
        lines.append(f"\nSQL (incident_assets/models/{name}.sql):\n\n{sql}")
    lines.append(format_table(explanation.header, explanation.rows))
    count, figure = len(explanation.rows), explanation.figure
    return "\n".join([*lines, f"\n{count} rows. Worked out from them: {figure}"])


def agrees(stored: float | None, figure: float | None) -> bool:
    """Return whether a mart's figure is the one worked out from the rows, but for last digits."""
    if stored is None or figure is None:
        return stored is figure
    return math.isclose(stored, figure, rel_tol=1e-9)


def write_marts() -> str:
    """Return a list of the marts, what selects a row of each, and their figures."""
    parts = []
    for mart in list_marts():
        model = read_models()[mart]
        notes, figures = (
            indent(fill(text, WIDTH - 2), "  ")
            for text in (model.notes[0], ", ".join(list_figures(mart)))
        )
        parts.append(f"{mart}  {_list_options(model.grain)}\n{notes}\n{figures}")
    return "\n\n".join([*parts, f"What a figure means: incident-assets explain MART\n{USAGE}"])


def write_figures(mart: str) -> str:
    """Return a list of a mart's figures with their meanings. Raises Unknown if there is no such."""
    model = _find_mart(mart)
    meanings = {column.name: column.description for column in model.columns}
    rows = [(name, meanings[name]) for name in list_figures(mart)]
    listed = format_table(("figure", "meaning"), rows)
    return f"{model.notes[0]}\n\n{listed}\n\nSelected by {_list_options(model.grain)}\n{USAGE}"


def run(mart: str, metric: str, chosen: Mapping[str, str], settings: Settings) -> int:
    """Print where a figure comes from; `chosen` selects its row by the columns of the mart's key.

    Return the exit code: 0 done, 1 figures differ, 2 bad input.
    """
    try:
        with _open(settings) as connection:
            row, explanation = explain(connection, mart, metric, chosen, settings)
    except duckdb.CatalogException:
        print(
            "the models are not built yet: run a sync job, or materialise the group analytics",
            file=sys.stderr,
        )
        return 2
    except (Unknown, SettingError, DatabaseError) as error:
        print(error, file=sys.stderr)
        return 2
    print(write_explanation(mart, metric, row, explanation))
    if agrees(row[metric], explanation.figure):
        return 0
    print("The mart says otherwise: it is older than its rows, build the models again")
    return 1
