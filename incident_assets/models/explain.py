"""`incident-assets explain MART METRIC`: where a figure comes from, row by row.

Prints the definition, the SQL, the rows behind the figure with the API fields they were read from,
and the figure worked out again from these rows in Python. Figures are made in `models`, not here.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import fmean, median
from typing import Any

import duckdb

from incident_assets.api.key import clean_text
from incident_assets.models.catalog import MODEL_SCHEMA, Model, Source, find_origins, read_models
from incident_assets.settings import SettingError, read_settings
from incident_assets.sync.terminal import format_table
from incident_assets.warehouse.file import DatabaseError, open_database

Row = dict[str, Any]
Cells = list[tuple[object, ...]]

# The moments that a duration is between: the first that is there of each list.
SPANS = {
    "mttd": (("impact_started",), ("identified",)),
    "mtta": (("reported",), ("accepted", "out_of_triage")),
    "mttm": (("impact_started", "reported"), ("fixed",)),
    "mttr": (("impact_started", "reported"), ("fixed", "resolved")),
}
NAMES = {"severity_id": "severity", "user_id": "user_name"}  # of keys that are ids
SHOWN = 20  # keys in a message; of weeks, the last


class Unknown(Exception):
    """There is no such mart, metric or row; the text says which there are."""


@dataclass(frozen=True)
class Explanation:
    """The rows behind a figure as a table, and the figure worked out from them."""

    header: tuple[str, ...]
    rows: Cells
    figure: float | None


def explain(
    connection: duckdb.DuckDBPyConnection, mart: str, metric: str, chosen: Mapping[str, str]
) -> tuple[Row, Explanation]:
    """Return a mart's row and what is behind one of its figures.

    `chosen` has, by key column, what the row is selected by. Raises Unknown if there is no such
    mart, metric or row, or more than one row.
    """
    if mart not in EXPLAINERS:
        raise Unknown(f"there is no mart {mart!r}: there are {', '.join(EXPLAINERS)}")
    model = read_models()[mart]
    figures = [column.name for column in model.columns if _is_figure(model, column.name)]
    if metric not in figures:
        raise Unknown(f"{mart} has no metric {metric!r}: there are {', '.join(figures)}")
    row = _find_row(connection, model, chosen)
    return row, EXPLAINERS[mart](connection, row, metric)


def _is_figure(model: Model, name: str) -> bool:
    others = (*model.grain, *NAMES.values(), "severity_rank", "priority_rank", "age_bucket_order")
    return name not in (*others, "sla_days", "since", "as_of")


def _find_row(
    connection: duckdb.DuckDBPyConnection, model: Model, chosen: Mapping[str, str]
) -> Row:
    if extra := chosen.keys() - set(model.grain):
        raise Unknown(
            f"{model.name} is selected by {_list_options(model.grain)} alone, not by "
            f"{_list_options(sorted(extra))}"
        )
    key = ", ".join(model.grain)
    rows = _fetch(connection, f"SELECT * FROM {MODEL_SCHEMA}.{model.name} ORDER BY {key}")
    for column in model.grain:
        left = [row for row in rows if column in chosen and _matches(row, column, chosen[column])]
        known = [*dict.fromkeys(clean_text(str(row[NAMES.get(column, column)])) for row in rows)]
        if column not in chosen and len(known) == 1:
            continue
        if not left:
            wanted = f"no {chosen[column]!r}" if column in chosen else "more than one"
            more = f"{len(known) - SHOWN} more and " if len(known) > SHOWN else ""
            raise Unknown(
                f"{model.name} has {wanted} ({_list_options([column])}): "
                f"there are {more}{', '.join(known[-SHOWN:]) or 'no rows'}"
            )
        rows = left
    if len(rows) != 1:
        raise Unknown(f"{model.name} has {len(rows)} such rows: give ids in place of names")
    return rows[0]


def _list_options(columns: Sequence[str]) -> str:
    return ", ".join("--" + column.removesuffix("_id").replace("_", "-") for column in columns)


def _matches(row: Row, column: str, wanted: str) -> bool:
    if isinstance(row[column], date):
        return row[column] == _read_day(column, wanted)
    names = (row[column], row[NAMES.get(column, column)])
    return wanted.lower() in [str(name).lower() for name in names]


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


def _explain_weekly(connection: duckdb.DuckDBPyConnection, row: Row, metric: str) -> Explanation:
    kind, _, statistic = metric.replace("_week_", "_").partition("_")
    alone = "severity_id" in row or "_week_" in metric  # else with the three weeks before
    incidents = _fetch(
        connection,
        f"SELECT incident_id, reference, name, created_at, started_at "
        f"FROM {MODEL_SCHEMA}.fct_incident WHERE is_counted AND week BETWEEN $first AND $last "
        "AND ($severity_id IS NULL OR coalesce(severity_id, '') = $severity_id) "
        "ORDER BY started_at, incident_id",
        first=row["week"] - timedelta(days=0 if alone else 21),
        last=row["week"],
        severity_id=row.get("severity_id"),
    )
    if kind not in SPANS:
        cells: Cells = [
            (i["reference"], i["name"], _show(i["created_at"]), "incidents.created_at")
            for i in incidents
        ]
        return Explanation(("incident", "name", "created", "API field"), cells, len(cells))
    moments = _fetch_moments(connection, [i["incident_id"] for i in incidents])
    cells, values = [], []
    for incident in incidents:
        found = moments.get(incident["incident_id"], {})
        ends = [next((found[m] for m in names if m in found), None) for names in SPANS[kind]]
        if not ends[0] or not ends[1] or (kind == "mttr" and "resolved" not in found):
            continue
        (start, start_field), (end, end_field) = ends[0], ends[1]
        seconds = (end - start).total_seconds()
        if statistic == "negative" and seconds >= 0:
            continue
        values.append(seconds)
        times = (_show(start), start_field, _show(end), end_field)
        cells.append((incident["reference"], incident["name"], *times, seconds))
    header = ("incident", "name", "from", "API field", "to", "API field", "seconds")
    return Explanation(header, cells, _summarise(statistic, values))


def _fetch_moments(
    connection: duckdb.DuckDBPyConnection, incidents: list[str]
) -> dict[str, dict[str, tuple[datetime, str]]]:
    """Return, by incident and moment, when it happened and the API field that says so."""
    rows = _fetch(
        connection,
        f"""
        SELECT incident_id, unnest(moments) AS moment, occurred_at,
            'incidents.incident_timestamp_values[' || name || '].value.value' AS field
        FROM {MODEL_SCHEMA}.fct_incident_timestamp
        WHERE list_contains($incidents, incident_id)
        UNION ALL
        SELECT incident_id, 'out_of_triage', entered_at,
            'incident_updates[' || update_id || '].created_at'
        FROM {MODEL_SCHEMA}.fct_status_transition
        WHERE list_contains($incidents, incident_id) AND category <> 'triage'
        ORDER BY occurred_at DESC
        """,
        incidents=incidents,
    )
    moments: dict[str, dict[str, tuple[datetime, str]]] = {}
    for row in rows:  # the first of several comes last
        found = moments.setdefault(row["incident_id"], {})
        found[row["moment"]] = (row["occurred_at"], row["field"])
    return moments


def _explain_status(connection: duckdb.DuckDBPyConnection, row: Row, metric: str) -> Explanation:
    stays = _fetch(
        connection,
        f"SELECT t.*, i.reference FROM {MODEL_SCHEMA}.fct_status_transition AS t "
        f"INNER JOIN {MODEL_SCHEMA}.fct_incident AS i USING (incident_id) WHERE i.is_counted "
        "AND t.category = $category AND t.month BETWEEN $first AND $last ORDER BY t.entered_at",
        category=row["category"],
        first=row["month"] if "month" in row else row["since"],
        last=row["month"] if "month" in row else row["as_of"].astimezone(UTC).date(),
    )
    if metric == "reopened":
        stays = [stay for stay in stays if stay["is_reopening"]]
    elif metric == "stays" or metric.startswith("seconds_"):
        stays = [stay for stay in stays if stay["left_at"]]
    incidents = {stay["incident_id"] for stay in stays}
    reopened = {stay["incident_id"] for stay in stays if stay["is_reopening"]}
    durations = [(s["left_at"] - s["entered_at"]).total_seconds() for s in stays if s["left_at"]]
    rated = row["category"] in ("closed", "learning") and incidents
    figure = {
        "stays": len(stays),
        "incidents": len(incidents),
        "reopened": len(reopened),
        "reopen_rate": len(reopened) / len(incidents) if rated else None,
    }.get(metric, _summarise(metric.removeprefix("seconds_"), durations))
    cells: Cells = [
        (
            stay["reference"],
            stay["status"],
            _show(stay["entered_at"]),
            f"incident_updates[{stay['update_id']}].created_at",
            _show(stay["left_at"]),
            stay["next_category"] or "",
        )
        for stay in stays
    ]
    header = ("incident", "status", "from", "API field", "to (the next update's)", "then")
    return Explanation(header, cells, figure)


def _explain_load(connection: duckdb.DuckDBPyConnection, row: Row, metric: str) -> Explanation:
    field = metric.replace("minutes_", "workload_minutes_")
    minutes = field if metric.startswith("minutes_") else "NULL"
    held = _fetch(
        connection,
        f"SELECT i.reference, i.name, i.leads, {minutes} AS minutes, "
        "list(r.role ORDER BY r.role) AS roles, "
        "count(*) FILTER (WHERE r.role_type = 'lead') AS led "
        f"FROM {MODEL_SCHEMA}.fct_role_assignment AS r "
        f"INNER JOIN {MODEL_SCHEMA}.fct_incident AS i USING (incident_id) "
        "WHERE i.is_counted AND i.week = $week AND r.user_id = $user_id "
        "GROUP BY ALL ORDER BY i.reference",
        week=row["week"],
        user_id=row["user_id"],
    )
    if metric != "incidents":
        held = [one for one in held if one["led"]]
    figure = {"incidents": len(held), "lead_assignments": sum(one["led"] for one in held)}.get(
        metric, math.fsum((one["minutes"] or 0) / one["leads"] for one in held)
    )
    cells: Cells = [
        (
            one["reference"],
            one["name"],
            ", ".join(filter(None, one["roles"])),
            "incidents.incident_role_assignments[].role",
            *(
                (one["minutes"] or 0.0, f"incidents.{field}", one["leads"])
                if field != metric
                else ()
            ),
        )
        for one in held
    ]
    more = ("minutes", "API field", "split between") if field != metric else ()
    return Explanation(("incident", "name", "roles", "API field", *more), cells, figure)


def _explain_ageing(connection: duckdb.DuckDBPyConnection, row: Row, metric: str) -> Explanation:
    done = metric.startswith("completed")
    tasks = _fetch(
        connection,
        f"SELECT f.*, i.reference FROM {MODEL_SCHEMA}.fct_follow_up AS f "
        f"INNER JOIN {MODEL_SCHEMA}.fct_incident AS i USING (incident_id) WHERE i.is_counted "
        "AND coalesce(f.priority, 'No priority') = $priority AND f.created_at IS NOT NULL "
        "AND coalesce(f.status, '') NOT IN ('deleted', 'not_doing') "
        "AND coalesce(f.status = 'completed', FALSE) = $done ORDER BY f.created_at",
        priority=row["priority"],
        done=done,
    )
    low, high = {1: (-math.inf, 8), 2: (8, 31), 3: (31, 91), 4: (91, math.inf)}[
        row["age_bucket_order"]
    ]
    limit = math.inf if row["sla_days"] is None else row["sla_days"] * 86_400
    cells: Cells = []
    ages = []
    for task in tasks:
        end = task["completed_at"] or row["as_of"]
        age = (end - task["created_at"]).total_seconds()
        if not low <= age / 86_400 < high or (metric.endswith("_sla") and age <= limit):
            continue
        ages.append(age)
        field = "follow_ups.completed_at" if task["completed_at"] else "when the mart was built"
        times = (_show(task["created_at"]), "follow_ups.created_at", _show(end), field)
        cells.append((task["follow_up_id"], task["reference"], *times, age))
    statistic = metric.rpartition("_")[2]
    header = ("follow-up", "incident", "from", "API field", "to", "API field", "seconds")
    return Explanation(header, cells, _summarise(statistic, ages))


def _summarise(statistic: str, values: Sequence[float]) -> float | None:
    """Return the mean, median or p90 of values (None if there are none), else their number."""
    if statistic not in ("mean", "median", "p90"):
        return len(values)
    if not values:
        return None
    if statistic == "mean":
        return fmean(values)
    if statistic == "median":
        return median(values)
    ordered = sorted(values)
    whole, part = divmod(0.9 * (len(ordered) - 1), 1)
    above = ordered[min(int(whole) + 1, len(ordered) - 1)]
    return ordered[int(whole)] + part * (above - ordered[int(whole)])


EXPLAINERS: Mapping[str, Callable[[duckdb.DuckDBPyConnection, Row, str], Explanation]] = {
    "mart_incident_weekly": _explain_weekly,
    "mart_incident_trend": _explain_weekly,
    "mart_time_in_status": _explain_status,
    "mart_time_in_status_recent": _explain_status,
    "mart_responder_load": _explain_load,
    "mart_follow_up_ageing": _explain_ageing,
}


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str, **values: object) -> list[Row]:
    cursor = connection.execute(sql, values or None)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _show(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment else ""


@contextmanager
def _open() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the published copy, or the database if there is none; read-only."""
    settings = read_settings()
    if settings.published_copy.exists():
        with duckdb.connect(str(settings.published_copy), read_only=True) as connection:
            yield connection
    elif settings.database.exists():
        path, timeout = settings.database, settings.lock_timeout
        with open_database(path, timeout, "explaining a figure", read_only=True) as connection:
            yield connection
    else:
        raise Unknown(
            f"there is no database {settings.database} (INCIDENT_DUCKDB_PATH): sync first"
        )


def _print(model: Model, metric: str, row: Row, explanation: Explanation) -> bool:
    """Print everything; return whether the mart's figure is the one worked out from the rows."""
    column = next(column for column in model.columns if column.name == metric)
    key = ", ".join(clean_text(f"{k} {row[NAMES.get(k, k)]}") for k in model.grain)
    origins = sorted(find_origins(Source(MODEL_SCHEMA, model.name, metric)))
    print(f"{model.name}.{metric} ({key}) = {row[metric]}\n")
    print(f"{column.description}.\n", *model.notes, sep="\n")
    for source in sorted(column.sources):
        if source.schema == MODEL_SCHEMA:
            nearer = {c.name: c for c in read_models()[source.table].columns}[source.column]
            print(f"{source.table}.{source.column}: {nearer.description}.")
    print("Made from:", ", ".join(".".join(filter(None, origin)) for origin in origins))
    facts = sorted(name for _, name in model.tables if name.startswith("fct_"))
    for name in (*facts, model.name):
        print(f"\nSQL (incident_assets/models/{name}.sql):\n\n{read_models()[name].sql}")
    print(format_table(explanation.header, explanation.rows))
    print(f"\n{len(explanation.rows)} rows. Worked out from them: {explanation.figure}")
    stored, figure = row[metric], explanation.figure
    if stored is None or figure is None:
        return bool(stored is figure)
    return math.isclose(stored, figure, rel_tol=1e-9)


def run(mart: str, metric: str, chosen: Mapping[str, str]) -> int:
    """Print where a figure comes from; `chosen` selects its row by the columns of the mart's key.

    Return the exit code: 0 done, 1 figures differ, 2 bad input.
    """
    try:
        with _open() as connection:
            row, explanation = explain(connection, mart, metric, chosen)
    except duckdb.CatalogException:
        print(
            "the models are not built yet: run a sync job, or materialise the group analytics",
            file=sys.stderr,
        )
        return 2
    except (Unknown, SettingError, DatabaseError) as error:
        print(error, file=sys.stderr)
        return 2
    if _print(read_models()[mart], metric, row, explanation):
        return 0
    print("The mart says otherwise: it is older than its rows, build the models again")
    return 1
