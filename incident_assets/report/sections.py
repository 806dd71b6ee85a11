"""The sections of the report: what each plots, says in words and lists, and its definitions.

Those of weeks are in `flow`, the numbers on top in `headlines`. Numbers are made in `numbers`,
drawing in `figures`, HTML in `page`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from incident_assets.api.categories import CATEGORIES
from incident_assets.api.names import say_missing
from incident_assets.report import figures
from incident_assets.report.numbers import (
    LOAD_WEEKS,
    MONTHS,
    SHOWN_CATEGORIES,
    THIN,
    WINDOW,
    Backlog,
    Load,
    Spread,
    Stay,
    Trend,
    Weekly,
)
from incident_assets.report.words import NOTHING, say_day, say_duration, say_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, LISTED = 12, 50  # rows at most, in a plot and in its table
METRICS = {"mtta": "Time to acknowledge (MTTA)", "mttr": "Time to resolve (MTTR)"}
CALLED_OFF = ", ".join(category.name for category in CATEGORIES if not category.is_counted)
COUNTED = f"Counted: standard and retrospective incidents, without {CALLED_OFF} and deleted ones."
OVER = " or ".join(category.name for category in CATEGORIES if category.is_over)


@dataclass(frozen=True)
class Section:
    """A plot with its words and its table; without `plot`, `finding` says why there is none."""

    key: str
    title: str
    finding: str
    definition: str
    plot: "Callable[[int], Figure] | None" = None
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def show_weekly(weekly: Weekly, time_zone: str) -> Section:
    """Return the section on incidents per week, which begins on Monday in the time zone."""
    definition = (
        f"By the week (Monday, {time_zone}) in which an incident was created or, reported in "
        f"retrospect, began. {COUNTED}"
    )
    key, title = "weekly", "Incidents per week"
    if not weekly.weeks:
        return Section(key, title, "There were no incidents in the last 18 months.", definition)
    totals = [sum(week) for week in zip(*weekly.counts, strict=True)]
    rows = [
        [f"{week:%Y-%m-%d}", f"{total:,}", *(f"{counts[n]:,}" for counts in weekly.counts)]
        for n, (week, total) in enumerate(zip(weekly.weeks, totals, strict=True))
    ]
    finding = f"{sum(totals):,} incidents since {say_day(weekly.weeks[0])}"
    finding += ", by severity" if weekly.places else ""
    finding += "; the last, paler bar is a week that is not over." if totals[-1] else "."
    if not weekly.places:
        finding += (
            " None of them has a severity of the account: once incidents are given one in the "
            "product, the next sync brings it."
        )
    return Section(
        key,
        title,
        finding,
        definition,
        lambda width: figures.plot_weekly(weekly, width),
        ["Week of", "All", *weekly.severities],
        rows[::-1],
    )


def show_trends(trends: Mapping[str, Trend], missing: Sequence[str] = ()) -> Section:
    """Return the section on durations over time; `trends` are by metric, mtta and mttr.

    `missing` are the moments that no timestamp of the account stands for.
    """
    definition = (
        "Acknowledge: from Reported to Accepted, else to the first update out of triage, unless "
        "it was reported in retrospect. Resolve: from Impact started, else Reported, to Fixed, "
        f"else Resolved, once an incident is resolved. Each point is of the {WINDOW} weeks that "
        f"end there, and is left out below {THIN} incidents."
    )
    key, title = "durations", "How fast incidents are acknowledged and resolved"
    counts = [trend.count for trend in trends.values()]
    warning = f" {said[0].upper()}{said[1:]}." if (said := say_missing(missing)) else ""
    if not any(counts):
        nothing = f"No incident has these durations yet.{warning}"
        return Section(key, title, nothing, definition)
    negative = sum(trend.negative for trend in trends.values())
    finding = (
        f"Median and 90th percentile (nine of ten incidents are faster), over {counts[0]:,} "
        f"acknowledged and {counts[1]:,} resolved incidents, on a logarithmic scale."
    )
    if negative:
        finding += f" {negative:,} negative durations (timestamps out of order) are included."
    for metric, trend in trends.items():
        if not trend.count:
            finding += f" {METRICS[metric]}: no incident has the moments for it yet, see below."
    finding += warning
    weeks = next(iter(trends.values())).weeks
    rows = [
        [
            f"{week:%Y-%m-%d}",
            *(text for trend in trends.values() for text in _say_spread(trend.windows[n])),
        ]
        for n, week in enumerate(weeks)
    ]
    header = [
        f"{m.upper()} {part}" for m in trends for part in ("incidents", "mean", "median", "p90")
    ]
    return Section(
        key,
        title,
        finding,
        definition,
        lambda width: figures.plot_trend({METRICS[m]: t for m, t in trends.items()}, width),
        [f"{WINDOW} weeks to week of", *header],
        rows[::-1],
    )


def _say_spread(spread: Spread) -> list[str]:
    figures = (spread.mean, spread.median, spread.p90)
    return [f"{spread.count:,}", *(say_duration(figure) for figure in figures)]


def show_stays(stays: Sequence[Stay]) -> Section:
    """Return the section on time in status."""
    definition = (
        "From the update that set a status to the one that left it, by the category of the status "
        f"and the month of leaving; the last {MONTHS} months together. Reopened: back to "
        f"live from {OVER}."
    )
    key, title = "stays", "Where the time goes"
    if not any(stay.spread.count for stay in stays):
        nothing = f"No incident has left a status in the last {MONTHS} months."
        return Section(key, title, nothing, definition)
    reopened = "; ".join(
        f"{say_share(s.reopen_rate)} of incidents in {s.category} went back to live"
        for s in stays
        if s.reopen_rate is not None and s.category in SHOWN_CATEGORIES
    )
    return Section(
        key,
        title,
        f"Time in each status category: median and 90th percentile{'; ' * bool(reopened)}"
        f"{reopened}.",
        definition,
        lambda width: figures.plot_stays(stays[:SHOWN], width),
        ["Category", "Stays", "Mean", "Median", "p90", "Incidents", "Reopened", "Share"],
        [
            [
                stay.category,
                *_say_spread(stay.spread),
                f"{stay.incidents:,}",
                NOTHING if stay.reopen_rate is None else f"{stay.reopened:,}",
                say_share(stay.reopen_rate),
            ]
            for stay in stays
        ],
    )


def show_load(loads: Sequence[Load]) -> Section:
    """Return the section on responders."""
    definition = (
        "Workload of the incidents that a responder led (several leads share it evenly), split by "
        "the responder's working, late and sleeping hours; incidents without a lead count for "
        "nobody."
    )
    key, title = "load", "Who carries the load"
    if not any(load.total or load.leads for load in loads):
        nothing = (
            f"Nobody has led an incident in the last {LOAD_WEEKS} weeks: what counts is a role of "
            "the type lead."
        )
        return Section(key, title, nothing, definition)
    top = [load for load in loads if load.total or load.leads][:SHOWN]
    total, asleep = sum(x.total for x in loads), sum(x.sleeping for x in loads)
    finding = (
        f"The API gives no workload for the incidents of the last {LOAD_WEEKS} weeks, so there are "
        "no hours, only who led how many."
    )
    if total:
        finding = (
            f"{total / 60:,.0f} hours in the last {LOAD_WEEKS} weeks, {asleep / 60:,.0f} of them "
            f"in sleeping hours; the {len(top):,} responders shown (of {len(loads):,}) carried "
            f"{say_share(sum(x.total for x in top) / total)}."
        )
    return Section(
        key,
        title,
        finding,
        definition,
        lambda width: figures.plot_load(top, width),
        ["Responder", "Hours", "Working", "Late", "Sleeping", "Led", "Incidents"],
        [
            [
                x.name,
                *(f"{m / 60:,.1f}" for m in (x.total, x.working, x.late, x.sleeping)),
                f"{x.leads:,}",
                f"{x.incidents:,}",
            ]
            for x in loads[:LISTED]
        ],
    )


def show_backlog(buckets: Mapping[str, int], backlogs: Sequence[Backlog]) -> Section:
    """Return the section on open follow-ups."""
    definition = (
        "Age: from creation to now, for follow-ups of counted incidents that are not completed. "
        "Deleted ones and those not to be done are left out. The SLA of a priority is a setting "
        "of this project."
    )
    key, title = "backlog", "Which follow-ups are ageing"
    if not backlogs:
        return Section(key, title, "There are no open follow-ups.", definition)
    over = f"{sum(b.over_sla for b in backlogs):,} are over their SLA"
    if all(b.sla_days is None for b in backlogs):
        over = "no SLA is set (INCIDENT_FOLLOW_UP_SLA sets one)"
    return Section(
        key,
        title,
        f"{sum(sum(b.open) for b in backlogs):,} open follow-ups by priority and age; {over}.",
        definition,
        lambda width: figures.plot_backlog(buckets, backlogs[:SHOWN], width),
        ["Priority", *buckets, "Over SLA", "SLA"],
        [
            [
                b.priority,
                *(f"{n:,}" for n in b.open),
                NOTHING if b.sla_days is None else f"{b.over_sla:,}",
                NOTHING if b.sla_days is None else f"{b.sla_days:g} d",
            ]
            for b in backlogs
        ],
    )
