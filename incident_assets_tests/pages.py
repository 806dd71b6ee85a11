"""Pages of docs/ that are made from code: reliability.md from the tests, checks.md from the checks.

`python -m incident_assets_tests.pages` writes them; a test compares them, and pytest prints the
table of faults with results where fault tests were run (`make test-faults`, CI).
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import incident_assets_tests
from incident_assets.checks.freshness import fail_window, warn_window
from incident_assets.checks.per_resource import CHECKS
from incident_assets.source.endpoints import ENDPOINTS

DOCS = Path(__file__).parents[1] / "docs"
RELIABILITY = """\
# What goes wrong, and what then

Each row is shown by a test, which this page is made from (`python -m
incident_assets_tests.pages`). `make test-faults` runs them all and prints the table with their
results; the long forms (40 kills, 500 pages under the rate limit) are in `make test-all`.

"""
CHECKS_PAGE = """\
# What is checked, and what to do

Every raw table has these four checks. `freshness` runs every fifteen minutes in the job
`check_freshness`, which is on from the start and needs neither key nor network; the other three run
after each load, in the sync jobs. Any of them can be run alone from the Checks tab of an asset.
Each result carries counts, the ids of a few rows, and SQL that lists them all.

Made from `incident_assets/checks/per_resource.py` (`python -m incident_assets_tests.pages`).

"""


@dataclass(frozen=True)
class Row:
    """A fault, what happens then, what is kept, and the test that shows it."""

    fault: str
    happens: str
    kept: str
    test: str


def collect_rows() -> Iterator[Row]:
    """Yield a row for each test that is marked as one, in the order of files and tests."""
    names = [
        module.name
        for module in pkgutil.walk_packages(
            incident_assets_tests.__path__, f"{incident_assets_tests.__name__}."
        )
        if module.name.rpartition(".")[2].startswith("test_")
        and not module.name.endswith(("test_contract", "test_embedded_elt"))
    ]
    for name in sorted(names):
        for test, function in vars(importlib.import_module(name)).items():
            for mark in getattr(function, "pytestmark", ()):
                if mark.name == "fault":
                    path = name.partition(".")[2].replace(".", "/")
                    yield Row(*mark.args, test=f"{path}.py::{test}")


def render_reliability() -> str:
    """Return docs/reliability.md."""
    lines = ["| fault | what happens | what is kept | test |", "| --- | --- | --- | --- |"]
    lines += [f"| {x.fault} | {x.happens} | {x.kept} | `{x.test}` |" for x in collect_rows()]
    return RELIABILITY + "\n".join(lines) + "\n"


def render_checks() -> str:
    """Return docs/checks.md."""
    parts = [
        f"## {name}\n\n{check.meaning}\n\n**What to do.** {check.remedy}\n"
        for name, check in CHECKS.items()
    ]
    lines = ["| resource | late after | stale after | ids that must be known |", "|" + " --- |" * 4]
    for endpoint in ENDPOINTS:
        paths = ", ".join(f"`{path}` ({to})" for path, to in endpoint.references.items()) or "-"
        late, stale = (
            w.total_seconds() / 60 for w in (warn_window(endpoint), fail_window(endpoint))
        )
        lines.append(f"| {endpoint.name} | {late:g} min | {stale:g} min | {paths} |")
    return CHECKS_PAGE + "\n".join([*parts, "## Limits\n", *lines]) + "\n"


PAGES = {"reliability.md": render_reliability, "checks.md": render_checks}

if __name__ == "__main__":
    for name, render in PAGES.items():
        (DOCS / name).write_text(render())
