"""A server of real processes: what compose starts, as it starts it, but for addresses and folders.

Commands, health checks and settings are those of `deploy/`. What has to come of it is in
`test_topology`.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import yaml

from incident_assets.demo.faults import Answer, Connection, Fault
from incident_assets.demo.server import DemoApi
from incident_assets.demo.ui import _find_free_port
from incident_assets_tests.cluster import Cluster
from incident_assets_tests.conftest import KEY
from incident_assets_tests.deploy.test_settings import FOLDER, read
from incident_assets_tests.pages import ROOT
from incident_assets_tests.processes import BIN, ask

SERVICES = read(FOLDER / "compose.yaml")["services"]
CODE = json.loads(re.findall(r"^CMD (.*)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)[0])
LOCATION = {"repositoryLocationName": "incident_assets", "repositoryName": "__repository__"}
LIMIT = 400  # seconds that anything may take on a busy machine
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
EVENTS = """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
    __typename ... on MessageEvent { message stepKey } } } } }"""
RUNS = """{ runsOrError { ... on Runs { results { runId jobName tags { key value } } } } }"""
LAUNCH = """mutation($what: ExecutionParams!) { launchRun(executionParams: $what) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
SCHEDULE = """query($of: ScheduleSelector!) { scheduleOrError(scheduleSelector: $of) {
    ... on Schedule { scheduleState { id } } } }"""
STOP = "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
T = TypeVar("T")


class Gate:
    """An effect of the bundled API: holds requests until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = Event(), Event()

    def __call__(self, connection: Connection, answer: Answer) -> Answer:
        self.reached.set()
        while not (self.opened.wait(0.02) or connection.is_stopping()):
            pass
        return answer


class Server:
    """The processes, by compose's names, on a cluster's databases `dagster` and `incidents`."""

    def __init__(self, folder: Path, cluster: Cluster, api: DemoApi) -> None:
        self.folder, self.cluster, self.api = folder, cluster, api
        self.ports = {"3000": str(_find_free_port()), "4000": str(_find_free_port())}
        self.url = f"http://127.0.0.1:{self.ports['3000']}"
        self.home = folder / "home"
        self.home.mkdir()
        settings = read(FOLDER / "dagster.yaml")
        settings["run_monitoring"]["poll_interval_seconds"] = 3  # so that nobody waits for it
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(settings))
        (self.home / "workspace.yaml").write_text((FOLDER / "workspace.yaml").read_text())
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        kept = {x: os.environ[x] for x in ("LANG", "TZ", "TMPDIR") if x in os.environ}
        self.environment = kept | {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "HOME": str(folder),
            "NO_PROXY": "127.0.0.1,localhost",
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "INCIDENT_API_BASE_URL": api.url,
            "INCIDENT_API_KEY": KEY,
            "INCIDENT_SCHEDULES": "sync_live=1",
            # Longer than a gate is closed.
            "INCIDENT_READ_TIMEOUT": "600",
            "INCIDENT_REQUEST_TIMEOUT": "600",
        }
        self.environment |= {name: self._fit(x) for name, x in self._read_environment().items()}

    def run(self, command: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of a service to its end."""
        return subprocess.run(
            [self._fit(word) for word in command],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
        )

    def start(self, name: str) -> None:
        """Start a service, and wait until its health check passes."""
        command = SERVICES[name].get("command", CODE)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [self._fit(word) for word in command],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_hear_interrupts,
            )
        kind, *check = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        self.wait(lambda: self.run(check).returncode == 0, f"{name} to be healthy")

    def kill(self, name: str) -> None:
        """Kill a service with all that it has started, at once."""
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str, then: Callable[[], None]) -> None:
        """Ask a service to stop, as compose does, then do something, and wait for its end."""
        process = self.running[name]
        process.terminate()
        then()
        process.wait(LIMIT)
        del self.running[name]

    def wait(self, probe: Callable[[], T], what: str) -> T:
        """Return what a probe returns as soon as it is true. Raises AssertionError, with logs."""
        until = time.monotonic() + LIMIT
        while not (found := probe()):
            dead = [name for name, process in self.running.items() if process.poll() is not None]
            if dead or time.monotonic() > until:
                logs = [path.read_text()[-4000:] for path in self.folder.glob("*.log")]
                raise AssertionError("\n".join([f"waited for {what}; ended: {dead}", *logs]))
            time.sleep(0.5)
        return found

    def close_gate(self, resource: str) -> Gate:
        """Let requests of a resource wait from now on, and those of others no more."""
        gate = Gate()
        self.api.heal()
        self.api.inject(Fault(gate, resource=resource))
        return gate

    def launch(self, job: str, **tags: str) -> str:
        """Put a run into the queue, as the UI does; return its id."""
        listed = [{"key": name.replace("__", "/"), "value": x} for name, x in tags.items()]
        selector = LOCATION | {"jobName": job}
        what = {"selector": selector, "mode": "default", "executionMetadata": {"tags": listed}}
        answer = ask(self.url, LAUNCH, what=what)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def shorten(self, run: str) -> None:
        """Let a run be longer than it may be, for run monitoring."""
        tag = "import sys, dagster as dg; dg.DagsterInstance.get().add_run_tags(*eval(sys.argv[1]))"
        done = self.run(["python", "-c", tag, repr((run, {"dagster/max_runtime": "1"}))])
        assert done.returncode == 0, done.stderr

    def read_status(self, run: str) -> str:
        return str(ask(self.url, STATUS, run=run)["status"])

    def read_events(self, run: str) -> list[Mapping[str, Any]]:
        return list(ask(self.url, EVENTS, run=run)["events"])

    def follow(self, run: str) -> str:
        """Wait until a run is over; return its status."""
        over = ("SUCCESS", "FAILURE", "CANCELED")
        return self.wait(lambda: (x := self.read_status(run)) in over and x, f"{run} to end") or ""

    def find_run(self, tag: str, value: str) -> str:
        """Wait for a run with a tag, and return its id."""

        def find() -> str:
            runs = ask(self.url, RUNS)["results"]
            tagged = {"key": tag, "value": value}
            return next((run["runId"] for run in runs if tagged in run["tags"]), "")

        return self.wait(find, f"a run with {tag}={value}")

    def find_process(self, run: str) -> int:
        """Return the process of a run that has begun."""
        said = " ".join(str(event.get("message")) for event in self.read_events(run))
        found = re.search(r"Started process for run \(pid: (\d+)\)", said)
        assert found, said
        return int(found[1])

    def stop_schedule(self, name: str) -> None:
        found = ask(self.url, SCHEDULE, of=LOCATION | {"scheduleName": name})
        answer = ask(self.url, STOP, id=found["scheduleState"]["id"])
        assert answer["__typename"] == "ScheduleStateResult"

    def _read_environment(self) -> dict[str, str]:
        return dict(SERVICES["code"]["environment"])

    def _fit(self, text: str) -> str:
        """Return a word of `deploy/` with the addresses and folders of this server."""
        for name, port in self.ports.items():
            text = re.sub(rf"\b{name}\b", port, text)
        for name, here in {
            "0.0.0.0": "127.0.0.1",
            "/opt/dagster": str(self.home),
            "/srv/incident_assets": str(self.folder),
            "@postgres/": f"@127.0.0.1:{self.cluster.port}/",
            "host=postgres": f"host=127.0.0.1 port={self.cluster.port}",
        }.items():
            text = text.replace(name, here)
        return "localhost" if text == "code" else text


def _hear_interrupts() -> None:
    # A script's job in the background ignores SIGINT, and Dagster then SIGTERM as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
