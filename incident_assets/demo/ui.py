"""`incident-assets demo ui`: the Dagster UI on the demo, whose account lives on behind it.

The bundled API is behind it. Where it works is in `place`, how the account moves on in `life`, and
what is broken on request in `chaos`.
"""

import socket
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from incident_assets.demo.chaos import Chaos
from incident_assets.demo.life import Clock, Life
from incident_assets.demo.load import JOB
from incident_assets.demo.place import (
    build_environment,
    describe_account,
    keep_state,
    prepare_folder,
    run_dagster,
    serve_account,
)
from incident_assets.demo.server import DemoApi

DAY = 24 * 60  # minutes
QUIET = 2.0  # seconds without a request, after which no listing is being walked
# Minutes from one run to the next; a day of the account takes ten by default.
SCHEDULES = "sync_live=2,sync_reference=4,sync_all=10,check_freshness=5"
FIRST = ("sync_all", "check_freshness")  # so that nothing is red for having been away


def open_ui(day_minutes: float) -> int:
    """Serve the UI until Ctrl-C and return the exit code.

    A day of the account passes in `day_minutes`, until it has come to the present.
    """
    folder = prepare_folder()
    port = _find_free_port()
    command = ["dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    try:
        with ExitStack() as stack:
            run = stack.enter_context
            api, life = run(serve_account(folder))
            output = run((folder / "ui.log").open("wb"))
            environment = build_environment(folder, api) | {"INCIDENT_SCHEDULES": SCHEDULES}
            options = {"stdout": output, "stderr": output}
            process = run(run_dagster(command, folder, environment, **options))
            print("Starting the Dagster UI ...", flush=True)
            url = f"http://127.0.0.1:{port}"
            while process.poll() is None and not _answers(url):
                time.sleep(0.3)
            if process.poll() is None:
                _greet(url, life, day_minutes)
            mover = _Mover(api, life, Clock(life.at, DAY / day_minutes), folder)
            chaos = Chaos(api, folder, _tell)
            first, job = list(FIRST), None
            while process.poll() is None:
                if first and (job is None or job.poll() is not None):
                    job = run(run_dagster([*JOB, first.pop(0)], folder, environment, **options))
                mover.tick()
                chaos.tick()
                time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    print((folder / "ui.log").read_text(errors="replace")[-4000:])
    return process.returncode or 1


def _greet(url: str, life: Life, day_minutes: float) -> None:
    print(f"The Dagster UI is at {url} (Ctrl-C stops it)")
    print(f"The account has {describe_account(life)}. From here a day of it passes in", end=" ")
    print(f"{day_minutes:g} minutes, up to the present.")
    print("Schedules are on: sync_live runs every 2 minutes. `make chaos` breaks something.")
    print(flush=True)


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class _Mover:
    """Moves an account on as its clock says."""

    def __init__(self, api: DemoApi, life: Life, clock: Clock, folder: Path):
        self._api, self._life, self._clock, self._folder = api, life, clock, folder

    def tick(self) -> None:
        """Show what has happened, and say what incidents there are news of."""
        # A row that changes within a listing is found by its time, a week behind the sync's clock
        # here: it would wait for the next full listing.
        if self._api.requests and time.time() - self._api.requests[-1].time < QUIET:
            return
        changed = self._life.advance(self._clock())
        if changed:  # noted first, so that what was seen is never taken back
            keep_state(self._folder, self._life.ends, self._life.at)
        for resource, row in changed:
            self._api.add(resource, row)
            if resource == "incidents":
                status = row["incident_status"]["name"]
                _tell(f"{self._life.at:%b %d %H:%M}  {row['reference']} {status}: {row['name']}")


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
