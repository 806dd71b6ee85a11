"""A sheet to draw on, measured in CSS pixels from its top left corner, with a legend above.

What the plots have in common is here: legend, axes of weeks and durations, rows of names. What
they show is decided in `figures`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from incident_assets.report.render import PALETTE, make_figure
from incident_assets.report.words import cut, measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PHONE = 500  # px; on a narrower sheet names stand above their bars, and axes have fewer ticks
LETTER = 7.4  # px of an average letter
LINE = 22  # px of a row of the legend
MINUTE, HOUR, DAY = 60, 3600, 86400
TICKS = {
    1: "≤ 1 s",
    10: "10 s",
    MINUTE: "1 min",
    3 * MINUTE: "3 min",
    10 * MINUTE: "10 min",
    30 * MINUTE: "30 min",
    HOUR: "1 h",
    3 * HOUR: "3 h",
    9 * HOUR: "9 h",
    DAY: "1 d",
    3 * DAY: "3 d",
    7 * DAY: "1 week",
    30 * DAY: "30 d",
    90 * DAY: "90 d",
    365 * DAY: "1 year",
}


@dataclass(frozen=True)
class Key:
    """An entry of the legend: a line, or the marker `s` or `o`."""

    label: str
    colour: str
    marker: str = "s"
    dash: Any = "-"


class Sheet:
    """A figure with a legend; `height` is that of the space below it, which starts at `top`."""

    def __init__(self, width: int, height: float, keys: Sequence[Key]) -> None:
        """Lay out the legend from left to right, in as many rows as it takes."""
        self.width, self.narrow = width, width < PHONE
        places, x, y = [], 0.0, 12.0
        for key in keys:
            needed = 22 + measure(key.label) * LETTER + 12
            if x and x + needed > width:
                x, y = 0.0, y + LINE
            places.append((x, y))
            x += needed
        self.top = y + 18 if keys else 0
        self.height = self.top + height
        self.figure = make_figure(width, self.height)
        self.page = self.add_axes(0, 0, width, self.height)
        self.page.set(xlim=(0, width), ylim=(self.height, 0))
        self.page.axis("off")
        for key, (x, y) in zip(keys, places, strict=True):
            look = {"color": key.colour, "marker": key.marker, "linestyle": key.dash}
            if key.marker:
                self.page.plot([x + 8], [y], markersize=11 if key.marker == "s" else 6, **look)
            else:
                self.page.plot([x, x + 16], [y, y], linewidth=2, **look)
            self.write(x + 22, y, key.label)

    def add_axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        """Return new axes at this place."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def write(self, x: float, y: float, text: str, **look: Any) -> None:
        """Write text with its left (`ha`: right) end at x, its middle at y."""
        self.page.text(x, y, text, va="center_baseline", **look)

    def add_rows(self, names: Sequence[str], notes: Sequence[str], *, room: int) -> "Axes":
        """Return axes with a horizontal row per name, at y = 0, 1, ...; each note at its right.

        `room` is the width in pixels of the notes. On a narrow sheet both stand above the row.
        """
        pitch = row_height(self.width)
        left = 0 if self.narrow else 190
        wide = self.width - left - (0 if self.narrow else room)
        axes = self.add_axes(left, self.top, wide, pitch * len(names))
        for n, (name, note) in enumerate(zip(names, notes, strict=True)):
            y = self.top + n * pitch
            if self.narrow:
                fits = int((self.width - measure(note) * LETTER) / LETTER) - 1
                self.write(0, y + 12, cut(name, fits))
                self.write(self.width, y + 12, note, ha="right", color=PALETTE["muted"])
            else:
                self.write(left - 12, y + pitch / 2, cut(name, 22), ha="right")
                self.write(left + wide + 12, y + pitch / 2, note, color=PALETTE["muted"])
        shift = 0.18 if self.narrow else 0
        axes.set_ylim(len(names) - 0.5 - shift, -0.5 - shift)
        axes.set_yticks([])
        axes.grid(not self.narrow, axis="x")  # there, it would run through the names
        return axes


def row_height(width: int) -> int:
    """Return the pixels of a row of `Sheet.add_rows` on a sheet of this width."""
    return 50 if width < PHONE else 32


def find_step(amount: float, ticks: int) -> int:
    """Return the smallest round step that divides an amount into at most so many."""
    return next(m * 10**n for n in range(12) for m in (1, 2, 5) if amount / (m * 10**n) <= ticks)


def scale_amounts(axes: "Axes", most: float, unit: str = "") -> None:
    """Make an x axis run from 0 to `most`, with about five labelled ticks at round amounts."""
    most = max(most, 1)
    step = find_step(most, 5)
    ticks = range(0, int(most) + 1, step)
    axes.set_xticks(ticks, [f"{tick:,}{unit}" for tick in ticks])
    axes.set_xlim(0, most * 1.01)
    _keep_inside(axes)


def label_weeks(axes: "Axes", weeks: Sequence[date], narrow: bool) -> None:
    """Label the x axis, on which a week is 1 wide, with months, and years where they begin."""
    begins = [n for n, week in enumerate(weeks) if week.day <= 7]
    every = max(1, round(len(begins) / (5 if narrow else 12)))
    shown = [n for n in begins if (weeks[n].month - 1) % every == 0] or [0]
    texts = [
        f"{weeks[n]:%b}"
        + (f"\n{weeks[n].year}" if n == shown[0] or weeks[n].month <= every else "")
        for n in shown
    ]
    axes.set_xticks(shown, texts)
    axes.set_xlim(-0.6, len(weeks) - 0.4)


def scale_durations(axes: "Axes", axis: str, seconds: Sequence[float], most: int) -> None:
    """Make an axis logarithmic over these durations, with at most so many labelled ticks."""
    low, high = min(seconds, default=MINUTE) / 1.3, max(seconds, default=HOUR) * 1.3
    if sum(low <= tick <= high for tick in TICKS) < 2:
        low = max((tick for tick in TICKS if tick <= low), default=low)
        high = min((tick for tick in TICKS if tick >= high), default=high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    ticks = ticks[:: 1 + len(ticks) // (most + 1)]
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (low, high)})
    line = axes.xaxis if axis == "x" else axes.yaxis
    line.set_ticks(ticks, [TICKS[tick] for tick in ticks])
    line.set_ticks([], minor=True)
    if axis == "x":
        _keep_inside(axes)


def _keep_inside(axes: "Axes") -> None:
    place = axes.transScale + axes.transLimits
    for label, tick in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True):
        share = place.transform((tick, 1))[0]
        if not 0.05 < share < 0.95:
            label.set_horizontalalignment("left" if share < 0.5 else "right")
