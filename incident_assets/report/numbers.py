"""What the plots show, as plain numbers: rows of the marts, selected, added up and put in order.

Nothing here draws or writes HTML. Durations are seconds, weeks are Mondays.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from incident_assets.api.categories import CATEGORIES
from incident_assets.api.names import MOMENTS

WEEK = timedelta(days=7)
WEEKS_SHOWN = 78
WINDOW = 4  # weeks of a point of the trend, as in mart_incident_trend
THIN = 5  # incidents below which a figure says little
LOAD_WEEKS = 13
FLOW_WEEKS = 26
MONTHS = 6  # as in mart_time_in_status_recent
# In the order of an incident's life.
SHOWN_CATEGORIES = [
    category.name
    for category in sorted(CATEGORIES, key=lambda category: category.is_over)
    if category.is_counted
]
MartRow = Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """How many durations there were, their mean, median and 90th percentile (None if none)."""

    count: int
    mean: float | None
    median: float | None
    p90: float | None


NO_SPREAD = Spread(0, None, None, None)


@dataclass(frozen=True)
class Weekly:
    """Incidents per week: `counts[severity][week]`; first those with a rank, worst first.

    `places` are theirs among the `ranked` severities that any incident ever had, from 0.
    """

    weeks: Sequence[date]
    severities: Sequence[str]
    places: Sequence[int]
    ranked: int
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Trend:
    """One duration over time: over the window that ends with a week, and each week's own median.

    `count` and `negative` are how many there are in these weeks, and how many below zero.
    """

    weeks: Sequence[date]
    windows: Sequence[Spread]
    medians: Sequence[float | None]
    count: int
    negative: int


@dataclass(frozen=True)
class Stay:
    """How long incidents stayed in a category, and which share of them was reopened from it."""

    category: str
    spread: Spread
    incidents: int
    reopened: int
    reopen_rate: float | None


@dataclass(frozen=True)
class Load:
    """What one responder carried: minutes of the incidents led, and how often."""

    name: str
    incidents: int
    leads: int
    total: float
    working: float
    late: float
    sleeping: float


@dataclass(frozen=True)
class Backlog:
    """The open follow-ups of one priority: by age bucket, and how many are over the SLA."""

    priority: str
    open: Sequence[int]
    over_sla: int
    sla_days: float | None


@dataclass(frozen=True)
class Flow:
    """What happened in each week: the mart's columns, week by week."""

    weeks: Sequence[date]
    columns: Mapping[str, Sequence[Any]]

    def sum(self, column: str, weeks: int = FLOW_WEEKS) -> int:
        """Return how often something happened in the last so many weeks."""
        return sum(self.columns.get(column, ())[-weeks:])


def find_week(day: date) -> date:
    """Return the Monday of a day's week."""
    return day - timedelta(days=day.weekday())


def list_weeks(weekly: pa.Table, today: date) -> list[date]:
    """Return the weeks to show, without gaps: up to today's, from the first with an incident."""
    end = find_week(today)
    start = end - (WEEKS_SHOWN - 1) * WEEK
    known = [week for week in weekly["week"].to_pylist() if start <= week <= end]
    return [min(known) + n * WEEK for n in range((end - min(known)) // WEEK + 1)] if known else []


def count_incidents(weekly: pa.Table, weeks: Sequence[date]) -> Weekly:
    """Return the incidents of these weeks by severity, worst first, those without a rank last."""
    rows = weekly.to_pylist()
    names = {row["severity_id"]: row["severity"] for row in rows}
    ranks = {row["severity_id"]: row["severity_rank"] for row in rows}
    order = sorted(names, key=lambda x: (ranks[x] is None, -(ranks[x] or 0), names[x], x))
    counts = {(row["severity_id"], row["week"]): row["incidents"] for row in rows}
    ranked = [x for x in order if ranks[x] is not None]
    cells = {x: [counts.get((x, week), 0) for week in weeks] for x in order}
    shown = [x for x in order if any(cells[x])]
    places = [n for n, x in enumerate(ranked) if x in shown]
    return Weekly(weeks, [names[x] for x in shown], places, len(ranked), [cells[x] for x in shown])


def follow_duration(weekly: pa.Table, trend: pa.Table, metric: str, weeks: Sequence[date]) -> Trend:
    """Return a duration over these weeks; `metric` is mttd, mtta, mttm or mttr."""
    points = {
        row["week"]: (
            _read_spread(row, f"{metric}_incidents", metric),
            row[f"{metric}_week_median"],
        )
        for row in trend.to_pylist()
    }
    shown = [points.get(week, (NO_SPREAD, None)) for week in weeks]
    rows = [row for row in weekly.to_pylist() if row["week"] in weeks]
    counts = (_add(rows, f"{metric}_{part}") for part in ("incidents", "negative"))
    return Trend(weeks, [w for w, _ in shown], [m for _, m in shown], *counts)


def list_missing(moments: pa.Table) -> list[str]:
    """Return the moments that no timestamp of the account stands for, in their order."""
    missing = {row["moment"] for row in moments.to_pylist() if row["is_missing"]}
    return [moment for moment in MOMENTS if moment in missing]


def time_stays(stays: pa.Table) -> list[Stay]:
    """Return the stays of the last months by category, in the order of an incident's life."""
    known = {category: n for n, category in enumerate(SHOWN_CATEGORIES)}
    return [
        Stay(
            row["category"],
            _read_spread(row, "stays", "seconds"),
            row["incidents"],
            row["reopened"],
            row["reopen_rate"],
        )
        for row in sorted(
            stays.to_pylist(), key=lambda x: (known.get(x["category"], len(known)), x["category"])
        )
    ]


def _read_spread(row: MartRow, count: str, name: str) -> Spread:
    return Spread(row[count], *(row[f"{name}_{part}"] for part in ("mean", "median", "p90")))


def sum_load(load: pa.Table, today: date, are_masked: bool = False) -> list[Load]:
    """Return each responder's load over the last LOAD_WEEKS weeks, the heaviest first.

    Where people `are_masked`, they are numbered in the order of their ids.
    """
    end = find_week(today)
    groups = defaultdict(list)
    for row in load.to_pylist():
        if end - LOAD_WEEKS * WEEK < row["week"] <= end:
            groups[row["user_id"]].append(row)
    numbers = {user: f"Responder {number}" for number, user in enumerate(sorted(groups), 1)}
    loads = [
        Load(
            numbers[user]
            if are_masked
            else next((r["user_name"] for r in rows if r["user_name"]), f"Unknown ({user})"),
            _add(rows, "incidents"),
            _add(rows, "lead_assignments"),
            *(_add(rows, f"minutes_{part}") for part in ("total", "working", "late", "sleeping")),
        )
        for user, rows in groups.items()
    ]
    return sorted(loads, key=lambda x: (-x.total, -x.leads, x.name))


def age_follow_ups(ageing: pa.Table) -> tuple[dict[str, int], list[Backlog]]:
    """Return the places of the age buckets that are in use, and the backlog by priority.

    Youngest and most urgent come first.
    """
    rows = ageing.to_pylist()
    places = {(r["age_bucket_order"], r["age_bucket"]) for r in rows if r["open"]}
    buckets = {bucket: place for place, bucket in sorted(places)}
    groups: dict[tuple[bool, int, str], dict[str, MartRow]] = defaultdict(dict)
    for row in rows:
        rank = row["priority_rank"]
        groups[rank is None, rank or 0, row["priority"]][row["age_bucket"]] = row
    backlogs = [
        Backlog(
            key[2],
            [cells[b]["open"] if b in cells else 0 for b in buckets],
            _add(cells.values(), "open_over_sla"),
            next((c["sla_days"] for c in cells.values() if c["sla_days"] is not None), None),
        )
        for key, cells in sorted(groups.items())
    ]
    return buckets, [backlog for backlog in backlogs if sum(backlog.open)]


def follow_flow(mart: pa.Table, today: date) -> Flow:
    """Return the last FLOW_WEEKS weeks of a mart by week, without gaps; none if all are empty.

    Counts of a week without a row are 0, medians None.
    """
    end = find_week(today)
    rows = {row["week"]: row for row in mart.to_pylist()}
    weeks = [end - n * WEEK for n in range(FLOW_WEEKS)][::-1]
    if not rows.keys() & {*weeks}:
        return Flow([], {})
    nothing = {x.name: 0 if pa.types.is_integer(x.type) else None for x in mart.schema}
    shown = [rows.get(week, nothing) for week in weeks]
    return Flow(weeks, {name: [row[name] for row in shown] for name in nothing})


def _add(rows: Iterable[MartRow], column: str) -> Any:
    return sum(row[column] or 0 for row in rows)
