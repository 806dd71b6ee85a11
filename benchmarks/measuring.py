"""One measured run: a fresh process in a folder and environment of its own, its figures, its rows.

The harness stays small on purpose: on Linux a child's peak memory is never reported below its
parent's, so neither dlt nor Dagster is imported here.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.serving import KEY, RemoteApi, Traffic
from benchmarks.ways import Way
from incident_assets.demo.account import RESOURCES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("data/bench")
DATABASE = "incidents.duckdb"
LONGEST = 3600  # seconds until a run is given up
KEPT = ("data", "dagster.yaml", "home")  # Dagster's history is as old as in real life


@dataclass(frozen=True)
class Run:
    """The figures of one run. Seconds and bytes; `rows` are in the tables, `expected` in the API.

    `seconds` are the way's own, after imports, where it tells them, and `steps` their parts;
    `fetch` is the time from the first request to the last answer, `longest` the pages of the
    longest listing. A run with an `error` has no figures worth reading.
    """

    way: str
    situation: str
    size: int
    latency: float
    round: int
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    requests: int = 0
    longest: int = 0
    fetch: float = 0.0
    rows: int | None = None
    expected: int = 0
    seconds: float | None = None
    steps: Mapping[str, float] = field(default_factory=dict)
    changed: int = 0
    active: int = 0
    left_out: str | None = None
    error: str | None = None


def prepare_place(way: Way) -> Path:
    """Empty a way's folder, but for what a first sync may find there, and return it."""
    place = FOLDER / "places" / way.name
    (place / "home").mkdir(parents=True, exist_ok=True)
    for path in place.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copy(ROOT / "dagster.yaml", place)
    return place


def continue_from(way: Way) -> None:
    """Give a way the database of the one that it continues, unless it has one."""
    places = FOLDER / "places"
    target = places / way.name / DATABASE
    if way.continues and not target.exists():
        with suppress(FileNotFoundError):  # the other one failed, and so will this one
            shutil.copy(places / way.continues / DATABASE, target)


def measure(
    way: Way, situation: str, size: int, latency: float, number: int, api: RemoteApi, mark: str
) -> Run:
    """Run a way once and return its figures; `mark` is the name of the incidents changed last."""
    place = FOLDER / "places" / way.name
    api.call("take_traffic")
    figures, told = _run_process(way, place, api.url)
    if situation != "alone" and not (figures["error"] or told.get("left_out")):
        figures |= _check_rows(way, place / DATABASE, api, mark if situation == "changed" else "")
    traffic: Traffic = api.call("take_traffic")
    return Run(
        way=way.name,
        situation=situation,
        size=size,
        latency=latency,
        round=number,
        requests=traffic.requests,
        longest=traffic.longest,
        fetch=traffic.seconds,
        active=api.call("count_active"),
        seconds=told.get("seconds"),
        steps=told.get("steps", {}),
        left_out=told.get("left_out"),
        **figures,
    )


def _run_process(way: Way, place: Path, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of a process, and what it told as JSON in its last line."""
    with (place / "out").open("w+") as out, (place / "err").open("w+") as err:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *way.arguments],
            cwd=place,
            env=_build_environment(place.absolute(), url),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        limit = threading.Timer(LONGEST, process.kill)
        limit.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            limit.cancel()
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        lines = (place / "out").read_text().splitlines()
        complaint = (place / "err").read_text().strip().rpartition("\n")[2]
    told: dict[str, Any] = {}
    with suppress(ValueError, IndexError):
        last = json.loads(lines[-1])
        told = last if isinstance(last, dict) else {}
    figures = {
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss * 1024,  # Linux counts kibibytes
        "error": f"exit code {process.returncode}: {complaint}" if process.returncode else None,
    }
    return figures, told


def _build_environment(place: Path, url: str) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "HOME": str(place / "home"),
        "TMPDIR": str(place),
        "DLT_DATA_DIR": str(place / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "NO_PROXY": "127.0.0.1,localhost",
        "INCIDENT_API_BASE_URL": url,
        "INCIDENT_API_KEY": KEY,
        "INCIDENT_DUCKDB_PATH": DATABASE,
    }


def _check_rows(way: Way, database: Path, api: RemoteApi, mark: str) -> dict[str, Any]:
    """Return the rows in the thirteen tables, and an error if a complete way misses any."""
    expected: dict[str, int] = api.call("count_rows")
    found: dict[str, int] = {}
    marked = 0
    with duckdb.connect(str(database), read_only=True) as connection:
        for name in RESOURCES:
            with suppress(duckdb.CatalogException):
                found[name] = _count(connection, f"incident_api.{name}")
        if mark:
            marked = _count(connection, f"incident_api.incidents WHERE name = '{mark}'")
    changed = api.call("count_renamed", mark)
    figures = {
        "rows": sum(found.values()),
        "expected": sum(expected.values()),
        "changed": changed,
    }
    if way.complete and (found != expected or marked != changed):
        wrong = {n: (found.get(n), expected[n]) for n in RESOURCES if found.get(n) != expected[n]}
        figures["error"] = f"rows differ (found, expected): {wrong}; changed {marked} of {changed}"
    return figures


def _count(connection: duckdb.DuckDBPyConnection, source: str) -> int:
    return (connection.execute(f"SELECT count(*) FROM {source}").fetchone() or (0,))[0]
