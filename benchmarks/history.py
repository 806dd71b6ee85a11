"""`python -m benchmarks.history`: what a year of history costs its syncs, its file and its readers.

A hundredth of the incidents changes each day. Two databases are synced by these changes in turns,
one with history and one without. What other ways there are is in `ways`.
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from statistics import median

import duckdb

from benchmarks.report import HISTORY_TITLE, put_section
from benchmarks.serving import KEY, RemoteApi, serve
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.history import name_history
from incident_assets.warehouse.schemas import name_table

DOCUMENT = Path("docs/benchmarks.md").absolute()
SYNCED = ("incident_statuses", "incidents")
TABLE, HISTORY = name_table("incidents"), name_history("incidents")
READS = 5
PARTS = (0, 1 / 12, 1 / 4, 1 / 2, 3 / 4, 1)  # of the year, as of which rows are read
Read = Callable[[duckdb.DuckDBPyConnection, str], object]


def main() -> None:
    """Measure, print the tables, and with --write put them into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--incidents", type=int, default=50_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--write", action="store_true", help="write it into docs/benchmarks.md")
    given = parser.parse_args()
    os.chdir(tempfile.mkdtemp(prefix="incident_assets_bench_"))
    with serve(given.incidents) as api:
        os.environ |= {"INCIDENT_API_BASE_URL": api.url, "INCIDENT_API_KEY": KEY}
        kept = replace(read_settings(), duckdb_path="kept.duckdb")
        none = replace(kept, duckdb_path="none.duckdb", keep_history="off")
        seconds, moments = live_through(api, given.days, {"kept": kept, "none": none})
    title = f"{given.incidents:,} incidents, of which 1 % change on each of {given.days} days."
    section = render(title, seconds, read_shares(kept), read_costs(kept, moments))
    print(section)
    if given.write:
        DOCUMENT.write_text(put_section(DOCUMENT.read_text(), section))


def live_through(
    api: RemoteApi, days: int, places: dict[str, Settings]
) -> tuple[dict[str, float], list[datetime]]:
    """Sync each place once a day; return CPU seconds after the first day, and when syncs ended."""
    seconds, moments = dict.fromkeys(places, 0.0), []
    for day in range(days + 1):
        if day:
            api.call("change", f"Renamed {day}")
        for place in [*places] if day % 2 else [*reversed(places)]:
            cpu = time.process_time()
            outcomes = run_sync(places[place], SYNCED, changes=True)
            seconds[place] += time.process_time() - cpu if day else 0
            assert not any(outcome.failure for outcome in outcomes)
        with closing(_open(places["kept"])) as connection:
            sql = "SELECT max(finished_at) FROM incident_sync.log"
            moments.append(connection.execute(sql).fetchall()[0][0])
    return seconds, moments


def read_shares(settings: Settings) -> dict[str, float]:
    """Return how many times as many versions as rows there are, and as many bytes."""
    sizes = {}
    with closing(_open(settings)) as connection:
        for table in (TABLE, HISTORY):
            sizes[table] = connection.execute(
                f"SELECT (SELECT count(*) FROM {table}), count(DISTINCT block_id) "
                f"FROM pragma_storage_info('{table}')"
            ).fetchall()[0]
    (rows, blocks), (versions, kept) = sizes.values()
    return {"rows": versions / rows, "bytes": kept / blocks}


def read_costs(settings: Settings, moments: list[datetime]) -> dict[str, list[float]]:
    """Return how many times the CPU seconds of the table rows as of a moment take, by way."""
    ways: dict[str, Read] = {
        "all rows, as Python's": lambda connection, rows: connection.execute(rows).fetchall(),
        "all rows, as Arrow": lambda connection, rows: connection.sql(rows).to_arrow_table(),
        "a sum over all columns, within DuckDB": _sum,
    }
    table = f"FROM {TABLE} WHERE _deleted_at IS NULL"
    asked = [moments[round(part * (len(moments) - 1))] for part in PARTS]
    with closing(_open(settings)) as connection:
        connection.execute("SET threads = 1")
        return {
            way: [
                _compare(connection, read, f"FROM {HISTORY}_as_of('{moment.isoformat()}')", table)
                for moment in asked
            ]
            for way, read in ways.items()
        }


def _compare(connection: duckdb.DuckDBPyConnection, read: Read, rows: str, table: str) -> float:
    seconds: dict[str, list[float]] = {rows: [], table: []}
    for _ in range(READS):
        for sql, found in seconds.items():
            gc.collect()
            cpu = time.process_time()
            read(connection, sql)
            found.append(time.process_time() - cpu)
    return median(seconds[rows]) / median(seconds[table])


def _sum(connection: duckdb.DuckDBPyConnection, rows: str) -> object:
    return connection.execute(f"SELECT sum(hash(x)) FROM ({rows}) AS x").fetchall()


def _open(settings: Settings) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(settings.database), read_only=True)


def render(
    title: str,
    seconds: Mapping[str, float],
    shares: Mapping[str, float],
    costs: Mapping[str, list[float]],
) -> str:
    """Return the tables as a section of the document."""
    parts = " | ".join(f"{part:.0%}" for part in PARTS)
    lines = [
        f"{HISTORY_TITLE}\n",
        f"From `python -m benchmarks.history`. {title}",
        "Two databases are synced by these changes in turns, one without history; CPU seconds, one",
        "thread, medians.\n",
        f"- syncs take {seconds['kept'] / seconds['none']:.2f} times what they take without it",
        f"- there are {shares['rows']:.1f} times as many versions as rows, and "
        f"{shares['bytes']:.1f} times as many bytes\n",
        "As of a moment, so many times what reading the table takes, by how much of the time has",
        "passed at that moment:\n",
        f"| what is read | {parts} |",
        f"| --- |{' --- |' * len(PARTS)}",
    ]
    for way, found in costs.items():
        lines.append(f"| {way} | {' | '.join(f'{x:.2f}' for x in found)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
