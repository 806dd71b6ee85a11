"""Dagster runs in processes of their own, killed with -9 by the clock or at a named point.

The processes are forked from a server that has imported everything, so that a run costs what it
does and not its imports. What is compared afterwards is the tests' own.
"""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

# dlt has no public hook between its steps.
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from incident_assets.build import build_definitions
from incident_assets.models import building
from incident_assets.sync.listing import Listing
from incident_assets.sync.stages import Sync
from incident_assets.warehouse import private
from incident_assets.warehouse.spool import Spool

FORKS = multiprocessing.get_context("forkserver")
# The server sees installed packages only, and says nothing about others.
FORKS.set_forkserver_preload(
    ["incident_assets.build", "dlt.destinations.impl.duckdb.factory", "dlt.sources.rest_api"]
)
GRACE = 0.002  # seconds into a call that is killed in the middle


@dataclass(frozen=True)
class Point:
    """The nth `call`, looked up in `owner`, with `text` in its arguments: before, in or after."""

    owner: Any
    call: Callable[..., Any]
    when: str
    nth: int = 1
    text: str = ""


STAGING, MERGE = 'INTO "incident_api_staging"', 'FROM "incident_api".'
POINTS = {
    "first page": Point(Listing, Listing.take, "after"),
    "pages in between": Point(Listing, Listing.take, "in", nth=6),
    "hand-over": Point(Spool, Spool.end, "before", nth=3),
    "staging": Point(DuckDbSqlClient, DuckDbSqlClient.execute_query, "in", nth=2, text=STAGING),
    "before a merge": Point(
        DuckDbSqlClient, DuckDbSqlClient.execute_query, "before", nth=2, text=MERGE
    ),
    "merge": Point(DuckDbSqlClient, DuckDbSqlClient.execute_query, "in", nth=3, text=MERGE),
    "after the merges": Point(
        DuckDbSqlClient, DuckDbSqlClient.execute_query, "before", text='"_dlt_loads"("load_id"'
    ),
    "before the log": Point(Sync, Sync.conclude, "before"),
    "after the log": Point(Sync, Sync.conclude, "after"),
    "half a model": Point(building, building.check_grain, "before", nth=12),
    "publish": Point(shutil, shutil.copyfile, "in"),
    "half a copy": Point(private, private._sync_to_disk, "before"),
    "before the rename": Point(Path, Path.replace, "before", text=".fresh"),
    "after the rename": Point(Path, Path.replace, "after", text=".fresh"),
}


def start_run(folder: Path, job: str = "sync_all", point: str | None = None) -> BaseProcess:
    """Start a run that keeps its history in `folder`; at a named point it kills itself."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("INCIDENT_")}
    process = FORKS.Process(target=_run, args=(str(folder), settings, job, point))
    process.start()
    return process


def run_to_end(folder: Path, job: str = "sync_all") -> float:
    """Run a job to its end and return its seconds. Raises AssertionError if it fails."""
    begun = time.monotonic()
    process = start_run(folder, job)
    process.join(120)
    assert process.exitcode == 0, f"the run ended with {process.exitcode}"
    return time.monotonic() - begun


def kill_after(seconds: float, folder: Path, job: str) -> int | None:
    """Start a run, kill it after so many seconds and return its exit code (-9 if it was hit)."""
    process = start_run(folder, job)
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def _run(folder: str, settings: dict[str, str], job: str, point: str | None) -> None:
    os.chdir(folder)
    output = os.open("runs.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(settings, DAGSTER_HOME=folder, HOME=folder, DO_NOT_TRACK="1")
    Path("dagster.yaml").write_text("telemetry: {enabled: false}\n")
    if point is not None:
        _arm(POINTS[point])
    with dg.DagsterInstance.get() as instance:
        report = dg.AssetSelection.assets("incident_analytics/reliability_report")
        # The live resources without their checks, for tests of what comes before those.
        load_live = dg.define_asset_job(
            "load_live",
            (dg.AssetSelection.groups("live", "operations", "outputs") - report).without_checks(),
        )
        build = dg.define_asset_job("build_models", dg.AssetSelection.groups("analytics") | report)
        definitions = dg.Definitions.merge(
            build_definitions(), dg.Definitions(jobs=[load_live, build])
        )
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, raise_on_error=False
        )
    os._exit(0 if result.success else 1)


def _arm(point: Point) -> None:
    name = point.call.__name__
    original: Callable[..., Any] = getattr(point.owner, name)
    calls = threading.Lock()
    seen = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        if point.text not in " ".join(str(argument) for argument in args):
            return original(*args, **kwargs)
        with calls:
            seen += 1
            here = seen == point.nth
        if here and point.when == "before":
            _die()
        if here and point.when == "in":
            threading.Timer(GRACE, _die).start()
        result = original(*args, **kwargs)
        if here:
            _die()
        return result

    setattr(point.owner, name, call)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def read_database(
    path: str = "data/incidents.duckdb", schema: str = "%"
) -> dict[str, list[tuple[Any, ...]]]:
    """Return what `read_tables` does, of a file that nobody has open."""
    with duckdb.connect(path, read_only=True) as connection:
        return read_tables(connection, schema)


def read_tables(
    connection: duckdb.DuckDBPyConnection, schema: str = "%"
) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables but what is noted of them or whose, and dlt's own, unstamped.

    What depends on the moment of the build is left out too.
    """
    tables = connection.execute(
        "SELECT table_schema, table_name FROM information_schema.tables "
        "WHERE table_name NOT LIKE '\\_dlt%' ESCAPE '\\' "
        "AND table_name NOT IN "
        "('log', 'account', 'database_id', 'table_version', 'finding', 'contents', "
        "'personal_data', '_period') "
        "AND table_schema NOT LIKE '%_staging' AND table_schema LIKE ? ORDER BY ALL",
        [schema],
    ).fetchall()
    return {
        f"{place}.{table}": connection.execute(
            "SELECT COLUMNS(lambda c: c NOT IN ('_dlt_load_id', '_valid_from', 'seen_at', 'as_of') "
            f"AND NOT starts_with(c, 'open_age')) FROM {place}.{table} ORDER BY ALL"
        ).fetchall()
        for place, table in tables
    }
