"""Texts that are made from code: pages of docs/, and the snapshot of the definitions.

`python -m incident_assets_tests.pages` writes them; a test compares them, and pytest prints the
table of faults with results where fault tests were run (`make test-faults`, CI).
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import incident_assets_tests
from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.checks.catalog import CHECKS, Check
from incident_assets.checks.freshness import fail_window, warn_window
from incident_assets.models.catalog import (
    MODEL_SCHEMA,
    ColumnSource,
    Model,
    find_origins,
    read_models,
    write_kept,
)
from incident_assets.models.lineage import parse_models
from incident_assets.models.mapped import MODEL_CHECKS
from incident_assets.settings import SHOWN, Settings
from incident_assets_tests.snapshot import render_definitions

ROOT = Path(__file__).parents[1]
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

The sync itself yields one more, `loaded`: whether it could read all of the resource, and if not,
why and what to do. It is there for each resource that a sync selects, also where nothing was
materialised; the table keeps what it had. `every_resource_loaded` on `incident_sync/log` puts the
reasons together and ends the run as failed.

![The Checks tab of an asset that could not be read](pictures/failed.png)

A check that a failed run planned and did not come to is shown as failed too; the reason is at
`loaded`.

Every model has the check `grain`: its key is never empty and never there twice. It is made before
the new table takes the old one's place: a build that fails it is undone, and nothing is built on
it. What to do: look at the sample in the result; the raw tables' `integrity` usually says why. Two
models that depend on what things are called in an account have one more each.

Made from `incident_assets/checks/catalog.py` and `incident_assets/models/mapped.py`
(`python -m incident_assets_tests.pages`).

"""
METRICS = """\
# What each figure means, and where it comes from

26 models in the schema `incident_analytics`: `dim_` say what things are, `fct_` what happened,
`mart_` hold the figures. Times are UTC; days, weeks and months are those of INCIDENT_TIME_ZONE;
durations are seconds. Each model is one SQL file, replaced in one transaction; its columns are in
the UI too, and under `column lineage` what each is made from. One figure, row by row:

```sh
.venv/bin/incident-assets explain mart_incident_weekly mttr_median \\
  --week 2026-W40 --severity Major
```

An account may rename its timestamps, statuses and priorities. The usual names are known; others
are told by INCIDENT_TIMESTAMPS, INCIDENT_STATUSES and INCIDENT_FOLLOW_UP_SLA
([settings](settings.md)). A moment that nobody defines is empty, and so is what is computed from
it: `incident-assets check`, the check `moments` of `dim_moment` and the report name it.

The report shows them as plots: in its page, and in the UI under `plots`, Show Markdown, in the
metadata of `reliability_report`.

![Plots of the report in the Dagster UI](pictures/plots.png)

Made from `incident_assets/models/*.sql` (`python -m incident_assets_tests.pages`).

"""
SETTINGS = """\
# Settings

Environment variables, or lines of a file `.env` in the working directory, which beats the shell's.
An empty one counts as unset. They are read when a run or a command begins; those marked * when
Dagster loads the project (in the UI: Deployment, Reload).

Made from `incident_assets/settings.py` (`python -m incident_assets_tests.pages`).

| setting | default | meaning |
| --- | --- | --- |
| INCIDENT_API_KEY | dlt's secret `api_key` | The key; whoever has it reads the account |
"""


@dataclass(frozen=True)
class ShownFault:
    """A fault, what happens then, what is kept, and the test that shows it."""

    fault: str
    happens: str
    kept: str
    test: str


def collect_faults() -> Iterator[ShownFault]:
    """Yield one for each test that is marked as one, in the order of files and tests."""
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
                    yield ShownFault(*mark.args, test=f"{path}.py::{test}")


def render_reliability() -> str:
    """Return docs/reliability.md."""
    lines = ["| fault | what happens | what is kept | test |", "| --- | --- | --- | --- |"]
    lines += [f"| {x.fault} | {x.happens} | {x.kept} | `{x.test}` |" for x in collect_faults()]
    return RELIABILITY + "\n".join(lines) + "\n"


def render_checks() -> str:
    """Return docs/checks.md."""
    parts = [_render_check(check) for check in CHECKS]
    lines = ["| resource | late after | stale after | ids that must be known |", "|" + " --- |" * 4]
    for endpoint in ENDPOINTS:
        paths = ", ".join(f"`{path}` ({to})" for path, to in endpoint.references.items()) or "-"
        late, stale = (
            w.total_seconds() / 60 for w in (warn_window(endpoint), fail_window(endpoint))
        )
        lines.append(f"| {endpoint.name} | {late:g} min | {stale:g} min | {paths} |")
    parts += [
        f"## {x.name} of {x.model}\n\n{x.meaning}\n\nRuns with the model; at worst a warning.\n\n"
        f"**What to do.** {x.remedy}\n"
        for x in MODEL_CHECKS
    ]
    return CHECKS_PAGE + "\n".join([*parts, "## Limits\n", *lines]) + "\n"


def _render_check(check: Check) -> str:
    worst = "an error" if check.worst == "error" else "a warning"
    stops = ", which stops what is built on the table" if check.blocking else ""
    return (
        f"## {check.name}\n\n{check.meaning}\n\nRuns {check.runs}; at worst {worst}{stops}."
        f"\n\n**What to do.** {check.remedy}\n"
    )


def render_metrics() -> str:
    """Return docs/metrics.md: the marts, then what they are made from."""
    models = sorted(read_models().values(), key=lambda model: (model.name[0] != "m", model.name))
    return METRICS + "\n".join(_render_model(model) for model in models)


def _render_model(model: Model) -> str:
    link = f"[{model.name}](../incident_assets/models/{model.name}.sql)"
    lines = [
        f"## {link}",
        *model.notes,
        "| column | type | meaning | made from |\n|" + " --- |" * 4,
    ]
    for column in model.columns:
        origins = find_origins(ColumnSource(MODEL_SCHEMA, model.name, column.name))
        fields = sorted({origin.label for origin in origins})
        cells = (column.name, column.type, column.description, ", ".join(fields))
        lines[-1] += f"\n| {' | '.join(cells)} |"
    return "\n\n".join(lines) + "\n"


def render_settings() -> str:
    """Return docs/settings.md."""
    lines = []
    for setting in fields(Settings):
        name = setting.metadata["env"]
        mark = " *" if name in SHOWN else ""
        lines.append(f"| {name}{mark} | {setting.default} | {setting.metadata['meaning']} |\n")
    return SETTINGS + "".join(lines).replace("|  |", "| |")


def render_lineage() -> str:
    """Return incident_assets/models/lineage.json, made from the SQL as it is now."""
    return write_kept({name: parsed.model for name, parsed in parse_models().items()})


PAGES = {
    "incident_assets/models/lineage.json": render_lineage,
    "docs/reliability.md": render_reliability,
    "docs/checks.md": render_checks,
    "docs/metrics.md": render_metrics,
    "docs/settings.md": render_settings,
    "incident_assets_tests/definitions.snapshot.txt": render_definitions,
}

if __name__ == "__main__":
    for name, render in PAGES.items():
        (ROOT / name).write_text(render())
