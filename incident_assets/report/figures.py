"""The plots: numbers in, a matplotlib figure out, in any width down to a phone's.

What is selected and added up is in `numbers`, what plots have in common is in `sheet`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from incident_assets.report.numbers import (
    NO_SPREAD,
    THIN,
    WINDOW,
    Backlog,
    Flow,
    Load,
    Stay,
    Trend,
    Weekly,
)
from incident_assets.report.render import PALETTE
from incident_assets.report.sheet import (
    TICKS,
    Key,
    Sheet,
    find_step,
    label_weeks,
    row_height,
    scale_amounts,
    scale_durations,
)
from incident_assets.report.words import cut, say_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT, BOTTOM, FOOT = 52, 42, 26  # px for the labels of axes; FOOT is that of amounts
END = 60  # px for the last figure of a line
BAR = 18  # px
SHADES = tuple(PALETTE[f"worst-{n}"] for n in range(1, 6))
AGES = tuple(PALETTE[f"age-{n}"] for n in range(1, 5))


def plot_weekly(weekly: Weekly, width: int) -> "Figure":
    """Stacked incidents per week, the worst severity at the bottom, and their running mean."""
    layers = _colour_layers(weekly)
    totals = [sum(week) for week in zip(*weekly.counts, strict=True)]
    means = [sum(totals[n - WINDOW : n]) / WINDOW for n in range(WINDOW, len(totals))]
    mean = [Key(f"mean of {WINDOW} weeks", PALETTE["ink"], "")] * (len(means) > 1)
    sheet = Sheet(width, 240 + BOTTOM, [*(key for key, _ in layers), *mean])
    axes = sheet.add_axes(LEFT - 18, sheet.top, width - LEFT + 18, 240)
    below = [0] * len(weekly.weeks)
    for key, counts in layers:
        above = [a + b for a, b in zip(below, counts, strict=True)]
        _draw_weeks(axes, above, below, key.colour)
        below = above
    axes.plot(range(WINDOW - 1, len(below) - 1), means, color=PALETTE["ink"], linewidth=1.6)
    top = max(4, *below)
    step = find_step(top, 7)
    axes.set(ylim=(0, top * 1.03), yticks=range(0, top + 1, step))
    label_weeks(axes, weekly.weeks, sheet.narrow)
    return sheet.figure


def _draw_weeks(axes: "Axes", above: Sequence[int], below: Sequence[int], colour: str) -> None:
    """Draw a column per week; that of the last one, which is not over, is paler."""
    last = len(above) - 1
    _draw_columns(axes, above[:last], below[:last], 0, color=colour)
    _draw_columns(axes, above[last:], below[last:], last, color=colour, alpha=0.45)


def _draw_columns(
    axes: "Axes", above: Sequence[int], below: Sequence[int], first: int, **look: Any
) -> None:
    # One path for all columns of a colour: what is between two of them has no height.
    edges = [first + n + side for n in range(len(above)) for side in (-0.42, 0.42)]
    tops, feet = ([v for x in values for v in (x, nan)][:-1] for values in (above, below))
    if tops:
        axes.stairs(tops, edges, baseline=feet, fill=True, linewidth=0, **look)


def plot_flow(flow: Flow, up: str, down: str, width: int) -> "Figure":
    """Columns of two of a flow's columns per week, `up` above the line and `down` below it."""
    keys = [Key(up, PALETTE["late"]), Key(down, PALETTE["age-3"])]
    sheet = Sheet(width, 180 + BOTTOM, keys)
    axes = sheet.add_axes(LEFT - 18, sheet.top, width - LEFT + 18, 180)
    above, below = flow.columns[up], [-count for count in flow.columns[down]]
    for key, counts in zip(keys, (above, below), strict=True):
        _draw_weeks(axes, counts, [0] * len(counts), key.colour)
    low, high = min(-1, *below), max(1, *above)
    step = find_step(high - low, 7)
    ticks = [*range(low // -step * -step, 0, step), *range(0, high + 1, step)]
    axes.set(ylim=(low * 1.03, high * 1.03))
    axes.set_yticks(ticks, [f"{abs(tick):,}" for tick in ticks])
    axes.axhline(0, color=PALETTE["muted"], linewidth=1)
    label_weeks(axes, flow.weeks, sheet.narrow)
    return sheet.figure


def _colour_layers(weekly: Weekly) -> list[tuple[Key, Sequence[int]]]:
    """Return what is stacked; a severity has its colour whether or not the others are there."""
    names, counts, places = list(weekly.severities), list(weekly.counts), list(weekly.places)
    most, ranked = len(SHADES), len(places)
    if len(names) > ranked + 1:
        names[ranked:], counts[ranked:] = ["without a rank"], [_add_up(counts[ranked:])]
    if (lower := sum(place >= most - 1 for place in places)) > 1:
        low = slice(ranked - lower, ranked)
        names[low], counts[low], places[low] = [f"{lower} lower"], [_add_up(counts[low])], [most]
    step = (most - 1) / max(min(weekly.ranked, most) - 1, 1)
    shades = [SHADES[round(min(place, most - 1) * step)] for place in places]
    shades += [PALETTE["unranked"]] * (len(names) - len(places))
    return [(Key(cut(n, 22), s), c) for n, s, c in zip(names, shades, counts, strict=True)]


def _add_up(counts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(week) for week in zip(*counts, strict=True)]


def plot_trend(trends: Mapping[str, Trend], width: int) -> "Figure":
    """Median and p90 of each duration over the window; single weeks as faint dots."""
    tail = Key("p90", PALETTE["tail"], "", (0, (3, 1.5)))
    middle = Key("median", PALETTE["middle"], "")
    dot = Key("median of a single week", PALETTE["middle"], "o")
    height, head = 180, 30
    lines = [tail, middle] * any(_has_line(trend) for trend in trends.values())
    sheet = Sheet(width, len(trends) * (head + height + BOTTOM), [*lines, dot])
    for n, (name, trend) in enumerate(trends.items()):
        top = sheet.top + n * (head + height + BOTTOM) + head
        sheet.write(0, top - 18, name, fontweight="bold")
        axes = sheet.add_axes(LEFT, top, width - LEFT - END, height)
        axes.grid(True, axis="y")
        single = _lift(trend.medians)
        shown = [s if s.count >= THIN else NO_SPREAD for s in trend.windows]
        high, low = _lift([s.p90 for s in shown]), _lift([s.median for s in shown])
        look: Any = {"markersize": 4, "markeredgewidth": 0, "alpha": 0.35, "clip_on": False}
        axes.plot(range(len(single)), single, "o", color=dot.colour, **look)
        for key, values, weight in ((tail, high, "normal"), (middle, low, "bold")):
            axes.plot(range(len(values)), values, color=key.colour, ls=key.dash, linewidth=2.2)
            # No figure beside a line that ends early, nor two on top of each other.
            if values[-1] > (0 if key is middle else 1.5 * low[-1]):
                text = say_duration(values[-1]) if values[-1] > 1 else TICKS[1]
                place = axes.get_yaxis_transform()
                axes.text(1.01, values[-1], text, transform=place, va="center", weight=weight)
        drawn = [value for value in single + high + low if isfinite(value)]
        scale_durations(axes, "y", drawn, 6)
        label_weeks(axes, trend.weeks, sheet.narrow)
    return sheet.figure


def _has_line(trend: Trend) -> bool:
    enough = [spread.count >= THIN for spread in trend.windows]
    return any(one and next_one for one, next_one in pairwise(enough))


def _lift(values: Sequence[float | None]) -> list[float]:
    # A logarithmic axis has no place for nothing and less; its lowest tick says so.
    return [nan if value is None else max(value, 1) for value in values]


def plot_stays(stays: Sequence[Stay], width: int) -> "Figure":
    """Median and p90 of the time in each status category, joined by a line."""
    timed = [stay for stay in stays if stay.spread.count]
    middle = Key("median", PALETTE["middle"], "o")
    tail = Key("p90", PALETTE["tail"], "o")
    sheet = Sheet(width, row_height(width) * len(timed) + FOOT, [middle, tail])
    names = [stay.category[:1].upper() + stay.category[1:] for stay in timed]
    notes = [f"{say_duration(s.spread.median)} · {say_duration(s.spread.p90)}" for s in timed]
    few = [f" ({s.spread.count} only)" if s.spread.count < THIN else "" for s in timed]
    axes = sheet.add_rows(names, [a + b for a, b in zip(notes, few, strict=True)], room=180)
    ends = [_lift([s.spread.median, s.spread.p90]) for s in timed]
    for n, (low, high) in enumerate(ends):
        axes.plot([low, high], [n, n], color=PALETTE["grid"], linewidth=5)
        axes.plot([high], [n], "o", color=tail.colour, markersize=9, clip_on=False)
        axes.plot([low], [n], "o", color=middle.colour, markersize=9, clip_on=False)
    scale_durations(axes, "x", [x for pair in ends for x in pair], 4 if sheet.narrow else 6)
    return sheet.figure


def plot_load(loads: Sequence[Load], width: int) -> "Figure":
    """Hours of each responder, split by when they fell."""
    parts = {
        Key("working hours", PALETTE["working"]): [x.working for x in loads],
        Key("late", PALETTE["late"]): [x.late for x in loads],
        Key("sleeping hours", PALETTE["sleeping"]): [x.sleeping for x in loads],
    }
    sheet = Sheet(width, row_height(width) * len(loads) + FOOT, list(parts))
    notes = [f"{x.total / 60:,.0f} h · {x.leads} led" for x in loads]
    axes = sheet.add_rows([x.name for x in loads], notes, room=130)
    below = [0.0] * len(loads)
    for key, minutes in parts.items():
        hours = [m / 60 for m in minutes]
        axes.barh(range(len(loads)), hours, BAR / row_height(width), below, color=key.colour)
        below = [a + b for a, b in zip(below, hours, strict=True)]
    scale_amounts(axes, max(below), " h")
    return sheet.figure


def plot_backlog(buckets: Mapping[str, int], backlogs: Sequence[Backlog], width: int) -> "Figure":
    """Open follow-ups by priority, the oldest last; those over the SLA are underlined."""
    keys = [Key(bucket, AGES[place - 1]) for bucket, place in buckets.items()]
    over = Key("over SLA", PALETTE["alarm"], "")
    known = any(b.sla_days is not None for b in backlogs)
    legend = [*keys, over] if any(b.over_sla for b in backlogs) else keys
    sheet = Sheet(width, row_height(width) * len(backlogs) + FOOT, legend)
    notes = [f"{sum(b.open):,} open" + _say_over(b) * known for b in backlogs]
    axes = sheet.add_rows([b.priority for b in backlogs], notes, room=190 if known else 90)
    thick = BAR / row_height(width)
    for n, backlog in enumerate(backlogs):
        begin = 0
        for key, count in zip(keys, backlog.open, strict=True):
            axes.barh(n, count, thick, begin, color=key.colour)
            begin += count
        # The SLA of a priority is one age, so those over it are the oldest, at the bar's end.
        if backlog.over_sla:
            ends, below = [begin - backlog.over_sla, begin], [n + thick * 0.8] * 2
            axes.plot(ends, below, color=over.colour, linewidth=3, solid_capstyle="butt")
    scale_amounts(axes, max(sum(b.open) for b in backlogs))
    return sheet.figure


def _say_over(backlog: Backlog) -> str:
    if backlog.sla_days is None:
        return " · no SLA"
    return f" · {backlog.over_sla:,} over {backlog.sla_days:g} d"
