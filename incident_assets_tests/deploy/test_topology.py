"""A server as compose starts it: a schedule, killed processes, and readers while it writes.

PostgreSQL, code server, webserver and daemon are real processes; the API is the bundled one. One
server for all tests, so in one process: `make test-server`.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.settings import read_settings
from incident_assets.warehouse.place import find_warehouse
from incident_assets_tests.cluster import start_cluster
from incident_assets_tests.conftest import KEY, NAMES
from incident_assets_tests.deploy.server import RUNS, Server
from incident_assets_tests.pages import ROOT
from incident_assets_tests.processes import ask

pytestmark = pytest.mark.server
LIVE = ("incidents", "incident_updates", "actions", "follow_ups")
# Reads again and again until its input ends: in one transaction, two tables that fit each other.
READER = """
import sys, threading
from incident_assets.settings import read_settings
from incident_assets.warehouse.place import find_warehouse
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
reads = 0
while not (reads and ended.wait(0.5)):
    with find_warehouse(read_settings()).open(0, "a reader", read_only=True) as connection:
        connection.execute("BEGIN")
        found = [
            connection.execute(f"FROM {table}").fetchall()
            for table in ("incident_api.incidents", "incident_analytics.fct_incident")
        ]
        connection.execute("COMMIT")
        assert all(found)
    reads += 1
    if reads == 1:
        print("has read", flush=True)
print(reads)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All of it, with empty databases that `migrate` has made Dagster's tables in."""
    with ExitStack() as stack:
        cluster = stack.enter_context(start_cluster("dagster_postgres"))
        api = stack.enter_context(DemoApi(generate_account(60), key=KEY))
        cluster.run("CREATE ROLE incidents LOGIN CREATEDB")
        for name in ("incidents", "dagster"):
            cluster.run(f"CREATE DATABASE {name} OWNER incidents")
        server = Server(tmp_path_factory.mktemp("server"), cluster, api)
        migrated = server.run(["dagster", "instance", "migrate"])
        assert migrated.returncode == 0, migrated.stderr
        stack.callback(lambda: [server.kill(name) for name in list(server.running)])
        for name in ("code", "webserver", "daemon"):
            server.start(name)
        yield server


def count_rows(server: Server) -> dict[str, int]:
    """Return how many rows each raw table of the lake has, read from outside and from its files."""
    with find_warehouse(read_settings(server.environment)).open(
        0, "a test", read_only=True
    ) as connection:
        rows = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'incident_api'"
        ).fetchall()
        return {
            name: connection.execute(
                f"SELECT count(DISTINCT id) FROM incident_api.{name}"
            ).fetchall()[0][0]
            for (name,) in rows
            if name in NAMES
        }


def count_account(server: Server) -> dict[str, int]:
    return {name: len(server.api.rows(name)) for name in NAMES}


def test_a_schedules_tick_ends_in_a_loaded_lake(server: Server) -> None:
    run = server.find_run("dagster/schedule_name", "sync_live_schedule")
    server.stop_schedule("sync_live_schedule")
    assert server.follow(run) == "SUCCESS"
    found = count_rows(server)
    assert {name: found[name] for name in LIVE} == {
        name: n for name, n in count_account(server).items() if name in LIVE
    }


def test_a_killed_worker_is_retried_as_a_whole(server: Server) -> None:
    run = server.launch("sync_all")

    def has_loaded() -> bool:
        events = server.read_events(run)
        return any(
            x["__typename"] == "ExecutionStepSuccessEvent" and x["stepKey"] == "sync"
            for x in events
        )

    server.wait(has_loaded, "the step sync to end")
    os.kill(server.find_process(run), signal.SIGKILL)
    assert server.follow(run) == "FAILURE"
    retry = server.find_run("dagster/parent_run_id", run)
    assert server.follow(retry) == "SUCCESS"
    assert count_rows(server) == count_account(server)


def test_a_daemon_that_is_restarted_loses_no_run(server: Server) -> None:
    gate = server.close_gate("incidents")
    running = server.launch("sync_live")
    server.wait(gate.reached.is_set, "the sync to ask")
    server.kill("daemon")
    queued = server.launch("sync_reference")
    assert server.read_status(queued) == "QUEUED"
    server.start("daemon")
    gate.opened.set()
    assert server.follow(running) == "SUCCESS"
    assert server.follow(queued) == "SUCCESS"


def test_a_code_server_that_has_to_stop_waits_for_its_run(server: Server) -> None:
    gate = server.close_gate("incidents")
    run = server.launch("sync_live")
    server.wait(gate.reached.is_set, "the sync to ask")
    server.stop("code", gate.opened.set)
    assert server.follow(run) == "SUCCESS"
    server.start("code")


def test_readers_neither_wait_for_a_sync_nor_fail(server: Server) -> None:
    server.api.change("incidents", server.api.rows("incidents")[0]["id"], name="Renamed")
    gate = server.close_gate("incidents")
    run = server.launch("sync_all")
    server.wait(gate.reached.is_set, "the sync to ask")
    readers = [start_reader(server, name) for name in ("one", "other")]
    for reader in readers:
        assert reader.stdout and reader.stdout.readline() == "has read\n"
    assert server.read_status(run) == "STARTED"
    gate.opened.set()
    assert server.follow(run) == "SUCCESS"
    for reader in readers:
        output, errors = reader.communicate()
        assert reader.returncode == 0 and int(output) > 1, errors


def start_reader(server: Server, name: str) -> "subprocess.Popen[str]":
    """Start a reader with a folder of its own, as on another machine."""
    folder: dict[str, Any] = {"INCIDENT_DUCKDB_PATH": str(server.folder / name / "incidents")}
    return subprocess.Popen(
        [sys.executable, "-c", READER],
        env=server.environment | folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_that_died_with_its_code_server_is_ended_and_the_next_one_works(
    server: Server,
) -> None:
    gate = server.close_gate("incidents")
    lost = server.launch("sync_all", dagster__max_retries="0")
    server.wait(gate.reached.is_set, "the sync to ask")
    server.kill("code")
    gate.opened.set()
    server.shorten(lost)  # now, or monitoring would end it while it lives
    server.start("code")
    following = server.launch("sync_all")
    assert server.follow(lost) == "FAILURE"
    assert server.follow(following) == "SUCCESS"
    assert count_rows(server) == count_account(server)


def test_a_backup_as_the_page_says_brings_everything_back(server: Server) -> None:
    before = count_runs(server)
    backup, restore = read_blocks("Backup and restore")
    run_shell(server, backup)
    for name in list(server.running):
        server.kill(name)
    for name in ("incidents", "dagster"):
        server.cluster.run(f"DROP DATABASE {name} WITH (FORCE)")
    shutil.rmtree(server.folder / "data" / "lake")
    run_shell(server, restore)
    assert count_rows(server) == count_account(server)
    for name in ("code", "webserver", "daemon"):
        server.start(name)
    assert count_runs(server) == before
    run = server.launch("sync_all")
    assert server.follow(run) == "SUCCESS"
    assert count_rows(server) == count_account(server)


def read_blocks(title: str) -> list[str]:
    """Return the shell of a chapter of docs/deploy.md."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    chapter = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)


def run_shell(server: Server, block: str) -> None:
    there = {"PGHOST": "127.0.0.1", "PGPORT": str(server.cluster.port), "PGUSER": "incidents"}
    done = server.run(["sh", "-ec", block], **there)
    assert done.returncode == 0, done.stderr


def count_runs(server: Server) -> int:
    return len(ask(server.url, RUNS)["results"])
