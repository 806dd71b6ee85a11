"""The benchmarks run end to end and every way loads the same rows; times are not judged here."""

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.measuring import FOLDER, Run
from benchmarks.report import read_runs, render


def run_benchmarks(*arguments: str) -> list[Run]:
    """Run one round with 30 incidents and return what was measured."""
    assert main(["--sizes", "30", "--latencies", "0", "--rounds", "1", *arguments]) == 0
    (results,) = FOLDER.glob("*.jsonl")
    machine, runs = read_runs(results)
    assert str(Path.cwd()) not in render(machine, runs)
    assert not (FOLDER / "places").exists()
    return runs


def test_the_floor_and_the_library_load_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Both load every row of the API; ours asks once more, whose key it is."""
    runs = run_benchmarks("--ways", "floor", "library", "--situations", "first")
    requests = {run.way: run.requests for run in runs}
    assert requests["library"] == requests["floor"] + 1
    assert {run.rows for run in runs} == {runs[0].expected}
    assert "## 30 incidents, 0 ms" in capsys.readouterr().out


def test_changes_made_in_the_serving_process_are_loaded() -> None:
    """A changed incident and its update are there after the next sync, or the run is an error."""
    first, changed = run_benchmarks("--ways", "floor", "--situations", "first", "changed")
    assert (first.changed, changed.changed) == (0, 1)
    assert changed.rows == changed.expected == first.expected + 1
