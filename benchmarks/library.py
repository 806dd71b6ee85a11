"""This project in-process: one thing is run and timed after imports, and told as one line of JSON.

`python -m benchmarks.library COMMAND`, one of `COMMANDS`. What the numbers mean, and what they are
compared with, is in `ways` and `report`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dlt

from benchmarks.serving import serve
from benchmarks.ways import HISTORY_RUNS
from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.settings import read_settings
from incident_assets.sync.run import run_sync

Result = dict[str, Any]

ALL = [endpoint.name for endpoint in ENDPOINTS]
LIVE = [endpoint.name for endpoint in ENDPOINTS if endpoint.group == "live"]
GROWTH_INCIDENTS = 500
GROWTH_SYNCS = 200


def time_sync(names: Sequence[str], changes: bool = False) -> Result:
    """Sync once and return seconds, those of dlt's steps, and rows loaded."""
    settings = read_settings()
    begun = time.perf_counter()
    outcomes = run_sync(settings, names, changes)
    seconds = time.perf_counter() - begun
    if failed := [outcome for outcome in outcomes if outcome.failure]:
        raise RuntimeError(f"{failed[0].resource}: {failed[0].failure}")
    trace = dlt.current.pipeline().last_trace
    steps = {
        step.step: (step.finished_at - step.started_at).total_seconds()
        for step in (trace.steps if trace else ())
        if step.finished_at
    }
    return {"seconds": seconds, "steps": steps, "loaded": sum(outcome.rows for outcome in outcomes)}


def time_checks() -> Result:
    """Run every check of every resource, the database opened once per resource as the ops do."""
    from incident_assets.checks.catalog import CHECKS
    from incident_assets.warehouse.file import open_database

    settings = read_settings()
    steps = {}
    begun = time.perf_counter()
    for endpoint in ENDPOINTS:
        started = time.perf_counter()
        with open_database(settings.database, 1, "benchmark", read_only=True) as connection:
            for check in CHECKS:
                check.find(connection, endpoint)
        steps[endpoint.name] = time.perf_counter() - started
    return {"seconds": time.perf_counter() - begun, "steps": steps}


def time_models() -> Result:
    """Build every model once, without checks, and return the seconds of each step and their sum."""
    import dagster as dg

    from incident_assets.build import build_definitions

    # The report is built from them, nightly.
    report = dg.AssetSelection.tag("cadence", "nightly")
    selection = (dg.AssetSelection.groups("analytics") - report).without_checks()
    definitions = dg.Definitions.merge(
        build_definitions(), dg.Definitions(jobs=[dg.define_asset_job("models", selection)])
    )
    result = definitions.resolve_job_def("models").execute_in_process()
    steps = {
        event.step_key or "": (event.step_success_data.duration_ms or 0) / 1000
        for event in result.all_events
        if event.is_step_success
    }
    return {"seconds": sum(steps.values()), "steps": steps}


def measure_growth(changes: bool = False) -> Result:
    """Sync again and again, a hundredth changed each time, and load once anew beside it.

    `seconds` is the median of the last ten syncs; sizes are in bytes.
    """
    settings = replace(read_settings(), duckdb_path="grown.duckdb")
    with serve(GROWTH_INCIDENTS) as api:
        settings = replace(settings, base_url=api.url)
        run_sync(settings, ALL)
        seconds = []
        for number in range(GROWTH_SYNCS):
            api.call("change", f"change {number}")
            begun = time.perf_counter()
            run_sync(settings, LIVE if changes else ALL, changes)
            seconds.append(time.perf_counter() - begun)
        fresh = replace(settings, duckdb_path="fresh.duckdb")
        run_sync(fresh, ALL)
    sizes = {name: Path(f"{name}.duckdb").stat().st_size for name in ("grown", "fresh")}
    return {"seconds": sorted(seconds[-10:])[5], "steps": sizes}


def measure_history() -> Result:
    """Run `sync_live` again and again, with nothing changed, as a process each.

    `steps` are the bytes of Dagster's history before and after.
    """
    command = [
        sys.executable,
        "-m",
        "dagster",
        "job",
        "execute",
        "-m",
        "incident_assets.definitions",
    ]
    with serve(GROWTH_INCIDENTS) as api:
        environment = os.environ | {"INCIDENT_API_BASE_URL": api.url, "DAGSTER_HOME": os.getcwd()}
        run_sync(replace(read_settings(), base_url=api.url), ALL)
        sizes = []
        for _ in range(HISTORY_RUNS + 1):
            subprocess.run(
                [*command, "-j", "sync_live"], env=environment, capture_output=True, check=True
            )
            files = [path for path in Path("data/dagster").rglob("*") if path.is_file()]
            sizes.append(sum(path.stat().st_size for path in files))
    return {"steps": {"before": sizes[0], "after": sizes[-1]}}


COMMANDS: Mapping[str, Callable[[], Result]] = {
    "full": lambda: time_sync(ALL),
    "changes": lambda: time_sync(LIVE, changes=True),
    "changes_two": lambda: time_sync(["incidents", "incident_updates"], changes=True),
    "checks": time_checks,
    "history": measure_history,
    "models": time_models,
    "growth": measure_growth,
    "growth_changes": lambda: measure_growth(changes=True),
}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]]()))
