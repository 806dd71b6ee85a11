"""The bundled API in a process of its own, and the remote control that changes what it serves.

A process, so that serving shares no interpreter lock with what is measured; a pipe, because the
API has no endpoint that changes an incident. What is measured knows its address and nothing else.
"""

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

from incident_assets.demo.account import RESOURCES, generate_account
from incident_assets.demo.faults import Answer, Fault
from incident_assets.demo.server import DemoApi

KEY = "benchmark-key"
# Changes are a day apart, as watermarks are dates, and none of them may be in the future.
HISTORY = timedelta(days=400)
ACTIVE = ("triage", "live", "paused")


@dataclass(frozen=True)
class Traffic:
    """What was asked of the API: all requests, the pages of the longest listing, and the seconds
    from the first request of a listing, its latency included, to the last answer.
    """

    requests: int
    longest: int
    seconds: float


class _Served:
    """The commands that the pipe understands, run in the process that serves."""

    def __init__(self, incidents: int):
        self._until = datetime.now(UTC).replace(hour=0, minute=0, second=0) - HISTORY
        self._day = 0
        self._latency = 0.0
        account = generate_account(incidents, until=self._until.replace(microsecond=0))
        self.api = DemoApi(account, key=KEY, clock=self._read_clock)

    def _read_clock(self) -> float:
        return time.time() - (HISTORY - timedelta(days=self._day)).total_seconds()

    def set_latency(self, milliseconds: float) -> None:
        """Let every answer wait so long from now on."""
        self._latency = milliseconds / 1000
        self.api.heal()
        if milliseconds:
            self.api.inject(Fault(self._pause))
            self.api.inject(Fault(self._pause, path="/v1/identity"))

    def _pause(self, _: Any, answer: Answer) -> Answer:
        time.sleep(self._latency)
        return answer

    def change(self, name: str) -> None:
        """Rename a hundredth of the incidents, with an update on each, a day later."""
        self._day += 1
        incidents = [row["id"] for row in self.api.rows("incidents")]
        for identifier in incidents[self._day % 100 :: 100] or incidents[:1]:
            self.api.change("incidents", identifier, name=name)
            self.api.add("incident_updates", incident_id=identifier)

    def count_renamed(self, name: str) -> int:
        """Return how many incidents have this name."""
        return sum(row["name"] == name for row in self.api.rows("incidents"))

    def count_rows(self) -> dict[str, int]:
        """Return the rows that there are of each resource."""
        return {name: len(self.api.rows(name)) for name in RESOURCES}

    def count_active(self) -> int:
        """Return how many incidents are in triage, live or paused."""
        incidents = self.api.rows("incidents")
        return sum(row["incident_status"]["category"] in ACTIVE for row in incidents)

    def take_traffic(self) -> Traffic:
        """Return what was asked since the last time."""
        asked = list(self.api.requests)
        self.api.reset_log()
        listed = [request for request in asked if request.resource]
        times = [request.time for request in listed]
        pages = Counter(request.resource for request in listed).values()
        seconds = max(times) - min(times) + self._latency if times else 0.0
        return Traffic(len(asked), max(pages, default=0), seconds)


class RemoteApi:
    """The API as the harness sees it: its address, and the commands of `_Served`."""

    def __init__(self, pipe: Connection, url: str):
        self.url = url
        self._pipe = pipe

    def call(self, command: str, *arguments: Any) -> Any:
        """Run a command in the serving process and return what it returns."""
        self._pipe.send((command, arguments))
        return self._pipe.recv()


@contextmanager
def serve(incidents: int) -> Iterator[RemoteApi]:
    """Serve an account of so many incidents from another process until the block ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, incidents), daemon=True)
    process.start()
    theirs.close()
    try:
        yield RemoteApi(ours, ours.recv())
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _serve(pipe: Connection, incidents: int) -> None:
    served = _Served(incidents)
    with served.api as api:
        pipe.send(api.url)
        # The pipe breaks when the harness ends, however it ends.
        while True:
            try:
                command, arguments = pipe.recv()
            except (EOFError, KeyboardInterrupt):
                return
            pipe.send(getattr(served, command)(*arguments))
