"""Numbers and names as people read them: durations, shares, dates, texts of the API cut to fit.

Which of them are shown is decided by who shows them.
"""

import unicodedata
from collections.abc import Callable
from datetime import date

UNITS = ((1, "s", 90), (60, "min", 5400), (3600, "h", 172800), (86400, "d", float("inf")))
NOTHING = "–"


def say_duration(seconds: float | None) -> str:
    """Return seconds in the unit that suits them: 45 s, 12 min, 3.4 h, 2.1 d."""
    if seconds is None:
        return NOTHING
    size, unit, _ = next(row for row in UNITS if abs(seconds) < row[2])
    amount = abs(seconds) / size
    sign = "−" if seconds < 0 else ""
    return f"{sign}{amount:.{int(size > 1 and amount < 9.95)}f} {unit}"


def say_change(now: float | None, before: float | None, say: Callable[[float | None], str]) -> str:
    """Return the figure of before, and by how much it has changed where that can be said."""
    if before is None:
        return "nothing to compare with"
    change = f" ({now / before - 1:+.0%})" if now is not None and before > 0 else ""
    change = " (no change)" if change in (" (+0%)", " (-0%)") else change
    return f"before: {say(before)}{change}".replace("-", "−")


def say_share(share: float | None) -> str:
    """Return a share as a percentage."""
    return NOTHING if share is None else f"{share:.1%}".replace(".0%", "%")


def say_day(day: date) -> str:
    """Return a date such as 3 May 2026."""
    return f"{day.day} {day:%B %Y}"


def measure(text: str) -> int:
    """Return how many columns a text takes; a CJK letter takes two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def cut(text: str, columns: int) -> str:
    """Return text as one printable line of at most so many columns."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or NOTHING
    if measure(line) <= columns:
        return line
    while line and measure(line) >= columns:
        line = line[: columns - 1] if len(line) >= columns else line[:-1]
    return f"{line.rstrip()}…"
