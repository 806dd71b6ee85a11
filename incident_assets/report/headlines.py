"""The headline numbers of the report, and the period that they are of.

How a number is written is in `words`; what stands below them is in `sections`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from incident_assets.report.numbers import (
    NO_SPREAD,
    THIN,
    WEEK,
    WINDOW,
    Backlog,
    Trend,
    Weekly,
    find_week,
)
from incident_assets.report.words import say_change, say_day, say_duration

OLD = {"31-90 d", "91+ d"}  # age buckets


@dataclass(frozen=True)
class Tile:
    """A headline number, with what it is compared with."""

    label: str
    value: str
    note: str


def count_headlines(
    weekly: Weekly,
    trends: Mapping[str, Trend],
    buckets: Mapping[str, int],
    backlogs: Sequence[Backlog],
    today: date,
) -> tuple[str, list[Tile]]:
    """Return the period of the headline numbers in words, and the numbers.

    They are of the last WINDOW whole weeks, compared with as many before.
    """
    end = find_week(today) - WEEK
    totals = {w: sum(c[n] for c in weekly.counts) for n, w in enumerate(weekly.weeks)}
    now, before = (
        sum(totals.get(last - n * WEEK, 0) for n in range(WINDOW))
        for last in (end, end - WINDOW * WEEK)
    )
    tiles = [Tile("Incidents", f"{now:,}", say_change(now, before, lambda n: f"{n:,.0f}"))]
    for metric, trend in trends.items():
        windows = dict(zip(trend.weeks, trend.windows, strict=True))
        last, earlier = (windows.get(w, NO_SPREAD) for w in (end, end - WINDOW * WEEK))
        note = say_change(last.median, earlier.median, say_duration)
        note += f", {last.count} incidents only" if 0 < last.count < THIN else ""
        tiles.append(Tile(f"Median {metric.upper()}", say_duration(last.median), note))
    everything = sum(sum(b.open) for b in backlogs)
    old = sum(n for b in backlogs for n, age in zip(b.open, buckets, strict=True) if age in OLD)
    tiles.append(Tile("Follow-ups over 30 days", f"{old:,}", f"of {everything:,} open"))
    days = [say_day(d) for d in (end - (WINDOW - 1) * WEEK, end + WEEK - timedelta(days=1))]
    return f"{' to '.join(days)}, against the {WINDOW} weeks before", tiles
