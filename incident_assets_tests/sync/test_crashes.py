"""kill -9 at any moment, then a plain rerun: the database is that of an undisturbed run.

The runs are real Dagster runs with their history on disk, in processes of their own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from incident_assets.demo.server import DemoApi
from incident_assets_tests.killing import (
    POINTS,
    kill_after,
    read_database,
    run_to_end,
    start_run,
)

# These happen only where rows are there already.
ON_ROWS = ("staging", "before a merge", "merge")
FEW = ("pages in between", "merge", "after the merges", "publish", "before the rename")
KILLED = -9


class Tally:
    """Counts kills and reruns, and compares each rerun's database with an undisturbed one.

    Each time that rows were there and aged, they have one version more.
    """

    def __init__(self, folder: Path, job: str):
        self.folder, self.job = folder, job
        self.seconds = run_to_end(folder, job)
        self.expected = read_current()
        self.aged = 0
        self.kills = self.reruns = self.differences = 0

    def prepare(self, keeps: bool) -> dict[str, list[Any]]:
        """Age the rows, or remove them all; return the tables."""
        self.aged = self.aged + 1 if keeps else 0
        return _age_data() if keeps else _remove_data()

    def rerun(self, exit_code: int | None, before: dict[str, list[Any]]) -> None:
        """Compare each table with what it was `before` the kill; run again, plainly; compare."""
        self.kills += exit_code == KILLED
        for name, rows in read_database(schema="incident_api").items() if before else ():
            self.differences += rows not in (before[name], self.expected[name])
        run_to_end(self.folder, self.job)
        self.reruns += 1
        versions = {name: self.aged * len(rows) for name, rows in before.items()}
        for path in ("data/incidents.duckdb", "data/incidents.published.duckdb"):
            self.differences += read_current(path) != self.expected
            self.differences += before != {} and count_versions(path) != versions
        left = {path.name for path in Path("data").iterdir()}
        assert left <= {
            "incidents.duckdb",
            "incidents.duckdb.lock",
            "incidents.duckdb.newest.json",
            "incidents.published.duckdb",
            "incidents.report.html",
        }

    def __str__(self) -> str:
        return f"{self.kills} kills, {self.reruns} reruns, {self.differences} differences"


def read_current(path: str = "data/incidents.duckdb") -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of a database but versions of before."""
    tables = read_database(path).items()
    return {name: rows for name, rows in tables if not name.startswith("incident_history.")}


def count_versions(path: str) -> dict[str, int]:
    """Return how many versions there are of each raw table; one without an end fails."""
    counts = {}
    for name, rows in read_database(path, "incident_history").items():
        if not name.endswith("._period"):
            counts[name.replace("_history", "_api")] = len(rows)
            assert all(row[-1] for row in rows), name  # why it ended
    return counts


def kill_everywhere(points: list[str], times: int, job: str, folder: Path) -> Tally:
    """Kill at these points and `times` times spread over a run; half of them on a new database."""
    tally = Tally(folder, job)
    for number, point in enumerate(points):
        before = tally.prepare(number % 2 == 0 or point in ON_ROWS)
        process = start_run(folder, job, point)
        process.join(60)
        assert process.exitcode == KILLED, f"{point} was not reached"
        tally.rerun(process.exitcode, before)
    for number in range(times):
        seconds = tally.seconds * (number + 0.5) / times
        while True:
            before = tally.prepare(number % 2 == 0)
            if (exit_code := kill_after(seconds, folder, job)) == KILLED:
                break
            seconds *= 0.8  # it was over before
        tally.rerun(exit_code, before)
    return tally


def _remove_data() -> dict[str, list[Any]]:
    for path in Path("data").iterdir():
        path.unlink()
    return {}


def _age_data() -> dict[str, list[Any]]:
    """Change every raw row, so that the next sync has to write them all; return the tables."""
    with duckdb.connect("data/incidents.duckdb") as connection:
        for name in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'incident_api' "
            "AND NOT starts_with(table_name, '_')"
        ).fetchall():
            connection.execute(f"""UPDATE incident_api.{name[0]} SET _rescued = '{{"aged": 1}}'""")
    return read_database(schema="incident_api")


@pytest.mark.slow
@pytest.mark.fault(
    "the process is killed (-9), 6 times: by the clock, in a merge, in publishing, before a rename",
    "the next run needs no person: it clears the dead run's folder and loads everything",
    "every row, as after an undisturbed run",
)
def test_a_killed_run_leaves_nothing_to_repair(
    api: DemoApi, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally = kill_everywhere(list(FEW), 1, "load_live", tmp_path)
    record_property("told", f"{tally}")
    assert (tally.kills, tally.reruns, tally.differences) == (6, 6, 0)


@pytest.mark.long
def test_forty_killed_runs_leave_nothing_to_repair(
    api: DemoApi, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally = kill_everywhere([*POINTS], 40 - len(POINTS), "sync_all", tmp_path)
    record_property("told", f"{tally}")
    assert (tally.kills, tally.reruns, tally.differences) == (40, 40, 0)
