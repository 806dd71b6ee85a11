"""What becomes of the runs: tables with ratios, the targets and whether they are met, one document.

Only figures of runs stand in it; nothing is measured here.
"""

import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.measuring import Run
from benchmarks.ways import HISTORY_RUNS, LATENCIES, SITUATIONS, SIZES, WAYS, find_reason

Machine = Mapping[str, str]

# Sections that modules of their own write: `benchmarks.lake` and `benchmarks.history`.
LAKE_TITLE, HISTORY_TITLE = "## A lake beside a file", "## A year of history"

PACKAGES = ("dagster", "dagster-dlt", "dlt", "duckdb", "pyarrow", "orjson")
MEGABYTE = 10**6
INTRODUCTION = """\
Written by `make bench`; do not edit. Every run is a fresh process with a database of its own;
the bundled API answers from another process, without its rate limit. The ways take turns within
each round and begin with another one each time. Seconds are of the whole process, *own* seconds
those after imports, where a way tells them: median (least to most). Ratios compare with the
floor's median in the same table and column. The floor has no incremental sync and loads all again.

After each run the rows in the thirteen tables are compared with the API's. Bare dlt asks as the
seed's configuration does, in pages of 25 and for the default modes and categories, so it has fewer
rows. Pages are made by the API when they are first asked for after a change, within the time of
whoever asks."""


def describe_machine() -> dict[str, str]:
    """Return what the figures depend on, without names or paths of this machine."""
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores ({models[0] if models else 'unknown'}), "
        f"{memory / 1e9:.0f} GB, {platform.system()} {platform.release().partition('-')[0]}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]
        ),
    }


def read_runs(path: Path) -> tuple[Machine, list[Run]]:
    """Return the machine and the runs of a results file, also of one that was interrupted."""
    machine, *runs = [json.loads(line) for line in path.read_text().splitlines()]
    return machine, [Run(**run) for run in runs]


def put_section(document: str, section: str) -> str:
    """Return a document with this section, in place of the one of its title or at the end."""
    title = section.partition("\n")[0]
    kept = [x for x in _split(document) if x.partition("\n")[0] != title]
    return "".join(kept).rstrip("\n") + "\n\n" + section


def keep_sections(document: str, before: str) -> str:
    """Return a document with those sections that it had `before` and that others write."""
    for section in _split(before):
        if section.partition("\n")[0] in (LAKE_TITLE, HISTORY_TITLE):
            document = put_section(document, section.rstrip("\n") + "\n")
    return document


def _split(document: str) -> list[str]:
    return re.split(r"(?m)^(?=## )", document)


def render(machine: Machine, runs: Sequence[Run]) -> str:
    """Return the whole document as Markdown."""
    parts = [
        "# Benchmarks",
        INTRODUCTION,
        "\n".join(f"- {name}: {value}" for name, value in machine.items()),
        "## Targets",
        _table(("target", "measured", "at most", "met"), _judge(runs)),
    ]
    places = sorted({(run.size, run.latency) for run in runs})
    for size, latency in places:
        parts.append(f"## {size:,} incidents, {latency:g} ms")
        header = ("situation", "way", "s", "× floor", "own s", "× floor", "CPU s", "MB", "requests")
        rows = _compare([r for r in runs if (r.size, r.latency) == (size, latency)])
        parts.append(_table((*header, "rows"), rows))
    parts += ["## Left out", "\n".join(f"- {line}" for line in _list_left_out(runs))]
    return "\n\n".join(parts) + "\n"


def _compare(runs: Sequence[Run]) -> Iterable[tuple[str, ...]]:
    for situation in SITUATIONS:
        floor = _find(runs, "floor", situation)
        for way in WAYS:
            found = _find(runs, way.name, situation)
            if not found:
                continue
            own = [run.seconds for run in found if run.seconds is not None]
            rows = {f"{run.rows:,}" if run.rows is not None else "" for run in found}
            yield (
                situation,
                way.words,
                _spread([run.wall for run in found]),
                _ratio([r.wall for r in found], [r.wall for r in floor]),
                _spread(own),
                _ratio(own, [r.seconds for r in floor if r.seconds is not None]),
                f"{median(run.cpu for run in found):.1f}",
                f"{median(run.memory for run in found) / MEGABYTE:.0f}",
                f"{median(run.requests for run in found):.0f}",
                rows.pop() if len(rows) == 1 else "",
            )


def _find(
    runs: Iterable[Run],
    way: str,
    situation: str = "first",
    size: int | None = None,
    latency: float = 0,
) -> list[Run]:
    return [
        run
        for run in runs
        if (run.way, run.situation) == (way, situation)
        and not (run.error or run.left_out)
        and (size is None or (run.size, run.latency) == (size, latency))
    ]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _ratio(values: Sequence[float], floor: Sequence[float]) -> str:
    return f"{median(values) / median(floor):.2f}" if values and floor else ""


def _list_left_out(runs: Iterable[Run]) -> Iterable[str]:
    reasons: dict[str, set[str]] = {}
    for way in WAYS:
        for situation in way.situations:
            for size in SIZES:
                for latency in LATENCIES:
                    if reason := find_reason(way, situation, size, latency):
                        reasons.setdefault(reason, set()).add(way.name)
    for run in runs:
        if reason := run.left_out or run.error:
            reasons.setdefault(reason, set()).add(f"{run.way} ({run.size:,}, {run.latency:g} ms)")
    return [f"{', '.join(sorted(ways))}: {reason}" for reason, ways in reasons.items()]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class _Figures:
    """Medians of a figure over the runs of a way; ValueError if it has none."""

    def __init__(self, runs: Sequence[Run]):
        self._runs = runs

    def __call__(
        self, figure: str, way: str, size: int, situation: str = "first", latency: float = 0
    ) -> float:
        found = _find(self._runs, way, situation, size, latency)
        values = [run.steps.get(figure, getattr(run, figure, None)) for run in found]
        return median(value for value in values if value is not None)


def _judge(runs: Sequence[Run]) -> Iterable[tuple[str, str, str, str]]:
    for words, judge in TARGETS:
        try:
            value, limit = judge(_Figures(runs))
        except ValueError:
            yield words, "not measured", "", ""
        else:
            yield words, f"{value:.2f}", f"{limit:.2f}", "yes" if value <= limit else "**no**"


def _judge_requests(of: _Figures, situation: str) -> tuple[float, float]:
    """The live resources by changes: a dozen requests, one per active or changed incident."""
    of_changes = partial(of, way="changes", size=50_000, situation=situation)
    limit = 12 + of_changes("active") + of_changes("changed")
    full = of("requests", "library", 50_000, situation)
    return of_changes("requests"), min(limit, full)


def _judge_job(of: _Figures, way: str, share: float) -> tuple[float, float]:
    imports = of("wall", "imports", 500, "alone")
    return of("wall", way, 500), of("wall", "source", 500) + share * imports


# What is wanted, and a value with the limit that it may reach.
TARGETS: Sequence[tuple[str, Callable[[_Figures], tuple[float, float]]]] = (
    (
        "first sync in-process, 5,000: times the floor",
        lambda of: (of("seconds", "library", 5000) / of("seconds", "floor", 5000), 2),
    ),
    (
        "first sync in-process, 50,000: times the floor",
        lambda of: (of("seconds", "library", 50_000) / of("seconds", "floor", 50_000), 1.6),
    ),
    (
        "first sync as a whole process, 5,000: times the floor",
        lambda of: (of("wall", "source", 5000) / of("wall", "floor", 5000), 2.5),
    ),
    (
        "the same: share of bare dlt's time",
        lambda of: (of("wall", "source", 5000) / of("wall", "dlt", 5000), 1 / 6),
    ),
    (
        "the same: share of bare dlt's peak memory",
        lambda of: (of("memory", "source", 5000) / of("memory", "dlt", 5000), 1 / 10),
    ),
    (
        "peak memory, 5,000: MB",
        lambda of: (of("memory", "source", 5000) / MEGABYTE, 400),
    ),
    (
        "peak memory, 50,000: MB",
        lambda of: (of("memory", "source", 50_000) / MEGABYTE, 700),
    ),
    (
        "first request to last answer, 5,000, 200 ms: s, against 1.2 times the longest listing",
        lambda of: (
            of("fetch", "library", 5000, latency=200),
            1.2 * 0.2 * of("longest", "library", 5000, latency=200),
        ),
    ),
    (
        "nothing changed, 50,000, live resources: requests",
        lambda of: _judge_requests(of, "unchanged"),
    ),
    (
        "1 % changed, 50,000, live resources: requests",
        lambda of: _judge_requests(of, "changed"),
    ),
    (
        "nothing changed, 50,000, incidents and updates in-process: seconds",
        lambda of: (
            of("seconds", "changes_two", 50_000, "unchanged"),
            of("seconds", "library", 50_000) / 10,
        ),
    ),
    (
        "`dagster job execute`, 500: seconds, against the source alone and 1.5 times the imports",
        lambda of: _judge_job(of, "job", 1.5),
    ),
    (
        "the same with checks and published copy: seconds, against twice that surplus",
        lambda of: _judge_job(of, "job_checked", 3),
    ),
    (
        "sync_live, nothing changed, 500: seconds, against 1.25 times as many empty assets",
        lambda of: (
            of("wall", "live", 500, "unchanged"),
            1.25 * of("wall", "empty", 500, "alone"),
        ),
    ),
    (
        "sync_live, nothing changed, 50,000: seconds",
        lambda of: (of("wall", "live", 50_000, "unchanged"), 5),
    ),
    (
        "Dagster's history of a run of sync_live with nothing changed: MB",
        lambda of: (
            (of("after", "history", 500, "alone") - of("before", "history", 500, "alone"))
            / HISTORY_RUNS
            / MEGABYTE,
            0.4,
        ),
    ),
    (
        "peak memory, 200,000: MB",
        lambda of: (of("memory", "source", 200_000) / MEGABYTE, 800),
    ),
    (
        "seconds per incident at 200,000: times those at 50,000",
        lambda of: (
            of("wall", "source", 200_000) / of("wall", "source", 50_000) / 4,
            1.2,
        ),
    ),
    (
        "file after 200 full syncs: times a fresh load's",
        lambda of: (of("grown", "growth", 500, "alone") / of("fresh", "growth", 500, "alone"), 2),
    ),
    (
        "file after 200 syncs by changes: times a fresh load's",
        lambda of: (
            of("grown", "growth_changes", 500, "alone")
            / of("fresh", "growth_changes", 500, "alone"),
            2,
        ),
    ),
)
