"""`python -m benchmarks.lake`: the same syncs into a file and into a lake, in turns, as one table.

The lake's catalog is a PostgreSQL cluster of its own on this machine; the packages are those of
locks/lake.txt. What other ways there are is in `ways`.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.library import ALL, LIVE
from benchmarks.report import LAKE_TITLE, put_section
from benchmarks.serving import KEY, serve
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.run import run_sync
from incident_assets_tests.cluster import Cluster, count_statements, start_cluster

DOCUMENT = Path("docs/benchmarks.md").absolute()
SITUATIONS = (
    "first",
    "in full, nothing changed",
    "by changes, 1 % changed",
    "in full, 1 % changed",
)


@dataclass(frozen=True)
class Sync:
    """One sync: seconds, of the processor too, and statements of ours and of dlt to the catalog."""

    place: str
    situation: str
    seconds: float
    cpu: float
    ours: int
    dlts: int


def main() -> None:
    """Measure, print the table, and with --write put it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lake", description=__doc__)
    parser.add_argument("--incidents", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write it into docs/benchmarks.md")
    given = parser.parse_args()
    section = render(given.incidents, [*measure(given.incidents, given.rounds)])
    print(section)
    if given.write:
        DOCUMENT.write_text(put_section(DOCUMENT.read_text(), section))


def measure(incidents: int, rounds: int) -> Iterator[Sync]:
    """Yield the syncs of all rounds; the first of each place is of the situation `first`."""
    os.chdir(tempfile.mkdtemp(prefix="incident_assets_bench_"))
    with start_cluster() as cluster, serve(incidents) as api:
        cluster.run("CREATE DATABASE lake")
        given = {"INCIDENT_API_BASE_URL": api.url, "INCIDENT_API_KEY": KEY}
        os.environ |= given
        lake = {
            "INCIDENT_LAKE_CATALOG": f"postgres:{cluster.address('lake')}",
            "INCIDENT_LAKE_DATA": str(Path("lake").absolute()),
        }
        places = {"file": read_settings(given), "lake": read_settings(given | lake)}
        for number in range(rounds):
            for situation in SITUATIONS[number > 0 :]:
                order = [*places] if number % 2 else [*reversed(places)]
                if "1 %" in situation:
                    api.call("change", f"Renamed {number} {situation}")
                for place in order:
                    yield _sync(cluster, place, places[place], situation)


def _sync(cluster: Cluster, place: str, settings: Settings, situation: str) -> Sync:
    changes = situation.startswith("by changes")
    with count_statements(cluster) as counted:
        wall, cpu = time.monotonic(), time.process_time()
        outcomes = run_sync(settings, LIVE if changes else ALL, changes=changes)
        seconds, busy = time.monotonic() - wall, time.process_time() - cpu
    assert not any(outcome.failure for outcome in outcomes)
    return Sync(place, situation, seconds, busy, counted.ours, counted.dlts)


def render(incidents: int, syncs: list[Sync]) -> str:
    """Return the table as a section of the document."""
    lines = [
        f"{LAKE_TITLE}\n",
        "From `python -m benchmarks.lake` with the packages of locks/lake.txt: PostgreSQL and data",
        "on one machine, syncs of one process in turns, medians. Statements are the catalog's,",
        "which logs each of them meanwhile; dlt's are apart.",
        f"{incidents:,} incidents, the thirteen resources or, by changes, the live ones.\n",
        "| sync | file s | lake s | × file | file CPU s | lake CPU s | statements, ours | dlt's |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for situation in SITUATIONS:
        file, lake = (
            [x for x in syncs if (x.place, x.situation) == (place, situation)]
            for place in ("file", "lake")
        )
        seconds = [median(x.seconds for x in found) for found in (file, lake)]
        cells = [situation, f"{seconds[0]:.2f}", f"{seconds[1]:.2f}"]
        cells.append(f"{seconds[1] / seconds[0]:.2f}")
        cells += [f"{median(x.cpu for x in found):.2f}" for found in (file, lake)]
        cells += [f"{median(x.ours for x in lake):.0f}", f"{median(x.dlts for x in lake):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
