"""The table of faults in docs/reliability.md, made from the tests that show each row.

`python -m incident_assets_tests.reliability` writes the page; a test compares it, and pytest
prints the table with results where fault tests were run (`make test-faults`, CI).
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import incident_assets_tests

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
INTRODUCTION = """\
# What goes wrong, and what then

Each row is shown by a test, which this page is made from (`python -m
incident_assets_tests.reliability`). `make test-faults` runs them all and prints the table with
their results; the long forms (40 kills, 500 pages under the rate limit) are in `make test-all`.

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


def render_page() -> str:
    """Return the page."""
    lines = ["| fault | what happens | what is kept | test |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row.fault} | {row.happens} | {row.kept} | `{row.test}` |" for row in collect_rows()
    ]
    return INTRODUCTION + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render_page())
