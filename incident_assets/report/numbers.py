"""What the plots show, as plain numbers: rows of the marts, selected, pooled and put in order.

Nothing here draws or writes HTML. Durations are seconds, weeks are Mondays.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

WEEK = timedelta(days=7)
WEEKS_SHOWN = 78
WINDOW = 4  # weeks that a point of the trend pools
THIN = 5  # incidents below which a pooled figure says little
LOAD_WEEKS = 13
MONTHS_POOLED = 6
CATEGORIES = ("triage", "live", "paused", "learning", "closed")
Row = Mapping[str, Any]


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
    """Incidents per week: `counts[severity][week]`; first the `ranked` severities, worst first."""

    weeks: Sequence[date]
    severities: Sequence[str]
    ranked: int
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Trend:
    """One duration over time: `weekly` on its own, `pooled` over the window that ends there."""

    weeks: Sequence[date]
    weekly: Sequence[Spread]
    pooled: Sequence[Spread]
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


def pool(groups: Iterable[Spread]) -> Spread:
    """Return the spread of several groups together.

    The mean is exact. Median and p90 are where groups are of one or two; a larger one is taken to
    be skewed as durations are (evenly on a log scale), which puts them within about a tenth.
    """
    known = [g for g in groups if g.count and g.median is not None]
    if not known:
        return NO_SPREAD
    values = np.concatenate([_stand_ins(g.count, g.median or 0, g.p90) for g in known])
    median, p90 = np.quantile(values, [0.5, 0.9])
    mean = sum(g.count * (g.mean or 0) for g in known) / len(values)
    return Spread(len(values), mean, float(median), float(p90))


def _stand_ins(count: int, median: float, p90: float | None) -> "np.typing.NDArray[np.float64]":
    p90 = median if p90 is None else p90
    steps = (np.linspace(0, 1, count) - 0.5) / 0.4 if count > 1 else np.zeros(1)
    if count > 2 and 0 < median <= p90:
        return np.asarray(median * (p90 / median) ** steps)
    return np.asarray(median + (p90 - median) * steps)


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
    place = {week: n for n, week in enumerate(weeks)}
    rows = [row for row in weekly.to_pylist() if row["week"] in place]
    names = {row["severity_id"]: row["severity"] for row in rows}
    ranks = {row["severity_id"]: row["severity_rank"] for row in rows}
    order = sorted(names, key=lambda x: (ranks[x] is None, -(ranks[x] or 0), names[x], x))
    counts = np.zeros((len(order), len(weeks)), int)
    for row in rows:
        counts[order.index(row["severity_id"]), place[row["week"]]] += row["incidents"]
    ranked = sum(ranks[x] is not None for x in order)
    return Weekly(weeks, [names[x] for x in order], ranked, counts.tolist())


def follow_duration(weekly: pa.Table, metric: str, weeks: Sequence[date]) -> Trend:
    """Return a duration over these weeks; `metric` is mttd, mtta, mttm or mttr."""
    cells = defaultdict(list)
    negative = 0
    for row in weekly.to_pylist():
        parts = (row[f"{metric}_{part}"] for part in ("incidents", "mean", "median", "p90"))
        cells[row["week"]].append(Spread(*parts))
        negative += row[f"{metric}_negative"] if row["week"] in weeks else 0
    return Trend(
        weeks,
        [pool(cells[week]) for week in weeks],
        [pool(c for n in range(WINDOW) for c in cells[week - n * WEEK]) for week in weeks],
        negative,
    )


def time_stays(stays: pa.Table, today: date) -> list[Stay]:
    """Return the stays of the last months by category, in the order of an incident's life."""
    months = today.year * 12 + today.month - MONTHS_POOLED
    groups = defaultdict(list)
    for row in stays.to_pylist():
        if months < row["month"].year * 12 + row["month"].month <= months + MONTHS_POOLED:
            groups[row["category"]].append(row)
    known = [category for category in CATEGORIES if category in groups]
    return [
        Stay(
            category,
            pool(
                Spread(r["stays"], *(r[f"seconds_{part}"] for part in ("mean", "median", "p90")))
                for r in groups[category]
            ),
            total := _add(groups[category], "incidents"),
            reopened := _add(groups[category], "reopened"),
            reopened / total
            if total and any(row["reopen_rate"] is not None for row in groups[category])
            else None,
        )
        for category in known + sorted(set(groups) - set(known))
    ]


def sum_load(load: pa.Table, today: date) -> list[Load]:
    """Return each responder's load over the last LOAD_WEEKS weeks, the heaviest first."""
    end = find_week(today)
    groups = defaultdict(list)
    for row in load.to_pylist():
        if end - LOAD_WEEKS * WEEK < row["week"] <= end:
            groups[row["user_id"]].append(row)
    loads = [
        Load(
            next((r["user_name"] for r in rows if r["user_name"]), f"Unknown ({user})"),
            _add(rows, "incidents"),
            _add(rows, "lead_assignments"),
            *(_add(rows, f"minutes_{part}") for part in ("total", "working", "late", "sleeping")),
        )
        for user, rows in groups.items()
    ]
    return sorted(loads, key=lambda x: (-x.total, -x.leads, x.name))


def age_follow_ups(ageing: pa.Table) -> tuple[list[str], list[Backlog]]:
    """Return the age buckets, youngest first, and the backlog by priority, most urgent first."""
    rows = ageing.to_pylist()
    buckets = [b for _, b in sorted({(r["age_bucket_order"], r["age_bucket"]) for r in rows})]
    groups: dict[tuple[bool, int, str], dict[str, Row]] = defaultdict(dict)
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


def _add(rows: Iterable[Row], column: str) -> Any:
    return sum(row[column] or 0 for row in rows)
