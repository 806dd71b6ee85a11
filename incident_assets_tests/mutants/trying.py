"""One mutation, and whether the tests notice it: tried in a copy of the checkout, never in place.

Which mutations there are is in `chosen` and `drawn`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from incident_assets_tests.processes import end_group

ROOT = Path(__file__).parents[2]
PACKAGE = "incident_assets"
TESTS = "incident_assets_tests"
# What a copy does without: environments, data, what tools leave behind.
NOT_COPIED = (".git", ".venv*", "data", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis")
LONGEST_TEST = 180  # seconds, after which a test is taken to hang
LONGEST_RUN = 3600  # seconds, after which pytest itself is

_RUNNING: "set[subprocess.Popen[str]]" = set()


class BadMutation(Exception):
    """A mutation that says nothing: its text or its tests are not there."""


@dataclass(frozen=True)
class Mutation:
    """A bug: file `path` of the checkout with the text `source`, and the tests that should see it.

    `says` is the change in a few words, at `line`; `tests` are files or ids, below the tests.
    """

    path: str
    line: int
    says: str
    source: str
    tests: Sequence[str]

    @property
    def place(self) -> str:
        """Where it is, below the package."""
        return f"{self.path.partition('/')[2]}:{self.line}"


def copy_checkout(folder: Path) -> Path:
    """Copy what the tests need into a folder and return it."""
    return Path(shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED)))


def try_mutation(mutation: Mutation, copy: Path) -> str | None:
    """Return what noticed a mutation, such as the id of the first test that failed; None if none.

    Raises BadMutation if there was no test to run.
    """
    place = copy / mutation.path
    before = place.read_text()
    place.write_text(mutation.source)
    try:
        return run_tests(mutation.tests, copy)
    finally:
        place.write_text(before)


def run_tests(tests: Sequence[str], copy: Path) -> str | None:
    """Run tests of a copy up to the first that fails, and return it; None if none does."""
    limit = (f"faulthandler_timeout={LONGEST_TEST}", "faulthandler_exit_on_timeout=true")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "pytest", "-x", "--no-header", "-rfE"]
        + ["-m", "not long and not browser"]
        + [part for setting in limit for part in ("-o", setting)]
        + ["-p", "no:cacheprovider", "-p", "no:warnings", "--show-capture=no", "--tb=no"]
        + [f"--basetemp={copy}.tmp"]
        + [f"{TESTS}/{test}" for test in tests],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what a test leaves behind ends with it
    )
    _RUNNING.add(process)
    try:
        output, _ = process.communicate(timeout=LONGEST_RUN)
    except subprocess.TimeoutExpired:
        return "a run without end"
    finally:
        end_group(process)
        _RUNNING.discard(process)
    return read_killer(process.returncode, output)


def end_all() -> None:
    """End what is going on, for whoever was interrupted."""
    for process in [*_RUNNING]:
        end_group(process)


def read_killer(status: int, output: str) -> str | None:
    """Return what failed in a run of pytest that ended so. Raises BadMutation if nothing ran."""
    if status == 0:
        return None
    for line in output.splitlines():
        kind, _, rest = line.partition(f" {TESTS}/")
        if kind in ("FAILED", "ERROR"):
            return rest.partition(" - ")[0]
    if "Timeout (" in output:
        return f"a test that hangs for {LONGEST_TEST} s"
    if "while loading conftest" in output:
        return "the tests' own import"
    raise BadMutation(f"pytest ended with {status}:\n{output[-2000:]}")
