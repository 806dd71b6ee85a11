"""Fixtures: the bundled API on loopback, a database in a folder of its own, settings for both.

Tests never see the user's .env, variables or folders. What only one folder of tests needs belongs
there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.api.outside import extend_table
from incident_assets.build import build_definitions
from incident_assets.defs.checks import list_scheduled_checks
from incident_assets.demo.account import Account, generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.log import Outcome, name_newest_rows
from incident_assets.sync.run import run_sync
from incident_assets.sync.terminal import format_table
from incident_assets.warehouse import held
from incident_assets.warehouse.place import find_warehouse
from incident_assets.warehouse.publishing import publish_database
from incident_assets_tests.pages import collect_faults

# The shim's own test needs the extra; everything else runs with and without it.
collect_ignore = [] if find_spec("dagster_embedded_elt") else ["test_embedded_elt.py"]

KEY = "known-secret-of-the-tests-4711"
NAMES = [endpoint.name for endpoint in ENDPOINTS]


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder with none of the user's settings."""
    for name in list(os.environ):
        if name.startswith(("INCIDENT_", "DAGSTER_", "API_KEY", "HTTP_PROXY", "HTTPS_PROXY")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "home" / "dlt"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def account() -> Account:
    """A small account, fresh for each test."""
    return generate_account(60)


@pytest.fixture
def api(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoApi]:
    """The bundled API, and the settings that lead to it; retries wait hardly at all."""
    with DemoApi(account, key=KEY) as api:
        monkeypatch.setenv("INCIDENT_API_BASE_URL", api.url)
        monkeypatch.setenv("INCIDENT_API_KEY", KEY)
        monkeypatch.setenv("INCIDENT_RETRY_BACKOFF", "0.01")
        monkeypatch.setenv("INCIDENT_LOCK_TIMEOUT", "20")
        yield api


@pytest.fixture
def settings(api: DemoApi) -> Settings:
    """The settings of a sync from the bundled API into `data/incidents.duckdb`."""
    return read_settings()


@pytest.fixture
def sync(settings: Settings) -> Callable[..., dict[str, Outcome]]:
    """Sync the named resources (all if none) without Dagster; outcomes by resource."""

    def run(*names: str) -> dict[str, Outcome]:
        return {outcome.resource: outcome for outcome in run_sync(settings, names or NAMES)}

    return run


@pytest.fixture(scope="session")
def synced_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that holds the small account, made once; tests work on copies of it."""
    path = tmp_path_factory.mktemp("synced") / "incidents.duckdb"
    with DemoApi(generate_account(60), key=KEY) as api, pytest.MonkeyPatch.context() as patched:
        patched.setenv("INCIDENT_API_KEY", KEY)
        run_sync(Settings(base_url=api.url, duckdb_path=str(path)), NAMES)
    return path


@pytest.fixture
def loaded(settings: Settings, synced_database: Path) -> Settings:
    """The settings of a database that has been synced with the bundled API."""
    settings.database.parent.mkdir(mode=0o700)
    shutil.copy(synced_database, settings.database)
    shutil.copy(name_newest_rows(synced_database), name_newest_rows(settings.database))
    return settings


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that ends with the test; its SQLite is in memory, which is faster.

    It is on disk where processes share it: in tests of commands, kills and runs at once.
    """
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def execute(api: DemoApi, instance: dg.DagsterInstance) -> Callable[..., Any]:
    """Run a job of the definitions in this process; keyword arguments go to the builder.

    `config` is the ingestion op's.
    `sync_raw`, the default, is `sync_all` without the models, whose many steps cost seconds;
    or it is what is given as `select`.
    """

    def run(
        job: str = "sync_raw",
        config: Mapping[str, Any] | None = None,
        select: dg.AssetSelection | None = None,
        tags: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> dg.ExecuteInProcessResult:
        everything = (
            select or dg.AssetSelection.all() - dg.AssetSelection.groups("analytics").downstream()
        )
        freshness = list_scheduled_checks(extend_table(overrides.get("endpoints", ())))
        sync_raw = dg.define_asset_job(
            "sync_raw", everything - dg.AssetSelection.checks(*freshness)
        )
        definitions = dg.Definitions.merge(
            build_definitions(**overrides), dg.Definitions(jobs=[sync_raw])
        )
        return definitions.resolve_job_def(job).execute_in_process(
            run_config={"ops": {"sync": {"config": config}}} if config else None,
            instance=instance,
            tags=dict(tags or {}),
            raise_on_error=False,
        )

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests tell; and the table of faults where it was asked for, and in CI."""
    config = terminalreporter.config
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "told":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
    if "fault" not in config.getoption("-m") and not os.environ.get("CI"):
        return
    results: dict[str, set[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            test = report.nodeid.partition("[")[0].partition("/")[2]
            results.setdefault(test, set()).add(outcome)
    rows = [
        (row.fault, row.happens, row.kept, "/".join(sorted(results[row.test])))
        for row in collect_faults()
        if row.test in results
    ]
    if rows:
        header = ("fault", "what happens", "what is kept", "result")
        terminalreporter.write_line(format_table(header, rows))


def read_rows(query: str, path: str = "data/incidents.duckdb") -> list[dict[str, Any]]:
    """Return the rows of a query on the warehouse, opened read-only."""
    with duckdb.connect(path, read_only=True) as connection:
        cursor = connection.execute(query)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def read_table(name: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a raw table by id."""
    return {row["id"]: row for row in read_rows(f"SELECT * FROM incident_api.{name}")}


def count_rows() -> dict[str, int]:
    """Return how many rows each raw table has."""
    return {
        name: read_rows(f"SELECT count(*) AS n FROM incident_api.{name}")[0]["n"] for name in NAMES
    }


def run_command(
    *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m ...` in the test's folder and return its result, both outputs as text."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *arguments],
        env=os.environ | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def publish(settings: Settings, keep_previous: bool = False) -> int:
    """Publish a database that nobody holds; return the bytes."""
    with held.hold_database(find_warehouse(settings), "a test", "a test") as database:
        return publish_database(settings, database, keep_previous).size


@contextmanager
def hold_database(path: Path) -> Iterator[int]:
    """Keep a database open in another process, whose number is given."""
    hold = (
        "import sys; from pathlib import Path\n"
        "from incident_assets.warehouse.file import open_database\n"
        f"with open_database(Path({str(path)!r}), 1, 'nightly sync'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        yield holder.pid
