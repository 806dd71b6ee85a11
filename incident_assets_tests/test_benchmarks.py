"""The benchmarks run end to end and every way loads the same rows; times are not judged here."""

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.measuring import FOLDER, Run
from benchmarks.moves import STRETCHES, Step, count_moves
from benchmarks.report import (
    HISTORY_TITLE,
    LAKE_TITLE,
    keep_sections,
    put_section,
    read_runs,
    render,
)
from incident_assets_tests.conftest import run_command
from incident_assets_tests.pages import ROOT


def run_benchmarks(*arguments: str) -> list[Run]:
    """Run one round with 30 incidents and return what was measured."""
    assert main(["--sizes", "30", "--latencies", "0", "--rounds", "1", *arguments]) == 0
    (results,) = FOLDER.glob("*.jsonl")
    machine, runs = read_runs(results)
    assert str(Path.cwd()) not in render(machine, runs)
    assert not (FOLDER / "places").exists()
    return runs


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("steps", "counts"),
    [
        (["1a", "1a"], (1, 0, 0)),
        (["1a", "1b", "1b", "1a", "1c"], (3, 3, 1)),
        # Of two threads that take turns, each stays where it is.
        (["1a", "2a", "1a", "2b", "1a", "2b"], (2, 1, 0)),
    ],
)
def test_a_move_changes_the_file_of_a_thread(
    steps: list[str], counts: tuple[int, int, int]
) -> None:
    """Files, moves between them, and those to a file left before."""
    assert count_moves([Step(int(step[0]), step[1], "f") for step in steps]) == counts


def test_a_section_that_is_written_alone_leaves_the_others() -> None:
    """It takes the place of its own, and what is written in one go leaves it there."""
    document = "# Benchmarks\n\n## Targets\n\nold\n"
    for title in (LAKE_TITLE, HISTORY_TITLE):
        document = put_section(document, f"{title}\n\nold\n")
    document = put_section(document, f"{LAKE_TITLE}\n\nnew\n")
    rest = f"\n{HISTORY_TITLE}\n\nold\n\n{LAKE_TITLE}\n\nnew\n"
    assert document == f"# Benchmarks\n\n## Targets\n\nold\n{rest}"
    fresh = "# Benchmarks\n\n## Targets\n\nnew\n"
    assert keep_sections(fresh, document) == fresh + rest


@pytest.mark.slow
def test_a_year_of_history_is_measured_in_days() -> None:
    """It runs end to end, and writes nothing where it is not asked to."""
    before = (ROOT / "docs/benchmarks.md").read_text()
    arguments = ["--incidents", "100", "--days", "10"]
    result = run_command("benchmarks.history", *arguments, environment={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(HISTORY_TITLE)
    # One of a hundred changes a day.
    assert "there are 0.1 times as many versions as rows" in result.stdout
    assert (ROOT / "docs/benchmarks.md").read_text() == before


@pytest.mark.slow
def test_a_page_and_a_403_are_followed_to_the_sync_log() -> None:
    """Every event that a stretch lies between is still seen, and each moves between files."""
    result = run_command("benchmarks.moves", environment={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stderr
    _, *lines, key = result.stdout.splitlines()
    assert len(lines) == len(STRETCHES) + 1 and key.startswith("Whole syncs look the key up")
    assert all(int(line.split()[-3]) > 0 for line in lines)
