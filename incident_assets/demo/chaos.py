"""`incident-assets demo chaos`: break something in the living demo, and heal it after a while.

The command leaves a note in the demo's folder, which is its owner's alone, and the demo's process
takes it. What happens to a request is one of `faults`.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from incident_assets.demo import faults
from incident_assets.demo.faults import Fault
from incident_assets.demo.place import DATABASE
from incident_assets.demo.server import DemoApi
from incident_assets.warehouse.file import find_holder
from incident_assets.warehouse.private import name_fresh, write_private

NOTE = "chaos.json"
PATIENCE = 3.0  # seconds in which a demo that runs takes the note
KILL = "kill"
BEGUN = 5  # requests, after which a sync is in its middle


@dataclass(frozen=True)
class Trouble:
    """What breaks, what the product makes of it, and by which faults."""

    breaks: str
    look: str
    faults: Callable[[], Sequence[Fault]]


TROUBLES: Mapping[str, Trouble] = {
    "429": Trouble(
        "every eighth answer is 429, come back in 2 seconds",
        "syncs wait as they are told, take longer, and land whole",
        lambda: [Fault(faults.rate_limited(2), every=8)],
    ),
    "403": Trouble(
        "the key may no longer read follow_ups",
        "the others land, and the check `loaded` of follow_ups says why it did not",
        lambda: [Fault(faults.forbidden("follow_ups"), "follow_ups")],
    ),
    "slow": Trouble(
        "every sixth answer takes 4 seconds",
        "syncs take longer, and the log says which resource it was",
        lambda: [Fault(faults.hang(4), every=6)],
    ),
    "drop": Trouble(
        "every fifth connection is cut without an answer",
        "the requests are made again, and nobody notices",
        lambda: [Fault(faults.reset(), every=5)],
    ),
    "mass-delete": Trouble(
        "the API lists a tenth of the users",
        "sync_reference holds the listing: no user is marked as deleted, `volume` says why",
        lambda: [Fault(faults.shrunk(0.1), "users")],
    ),
    "drift": Trouble(
        "incidents have a new field, and a number in words",
        "a new column, the words in `_rescued`, and the check `contract` of incidents names both",
        lambda: [
            Fault(faults.drifted(impact={"level": 3}, workload_minutes_total="many"), "incidents")
        ],
    ),
    KILL: Trouble(
        "the next sync is killed (-9) in its middle",
        "its run fails, the database is as it was, and the next run loads everything",
        lambda: [Fault(faults.hang(0.5))],
    ),
}


def ask_for(folder: Path, kind: str, seconds: float) -> str | None:
    """Have the demo of a folder break; return what it does, None where no demo is running.

    No seconds heal what is broken.
    """
    trouble, note = TROUBLES[kind], folder / NOTE
    if not folder.is_dir():
        return None
    fresh = name_fresh(note)
    write_private(fresh, json.dumps({"kind": kind, "seconds": seconds}))
    fresh.replace(note)  # at once, since it is taken as soon as it is there
    until = time.monotonic() + PATIENCE
    while note.exists():
        if time.monotonic() > until:
            note.unlink(missing_ok=True)
            return None
        time.sleep(0.1)
    return f"For {seconds:g} seconds {trouble.breaks}.\nWhat to see: {trouble.look}."


class Chaos:
    """What is broken in a bundled API, one trouble at a time; to be looked after by `tick`."""

    def __init__(self, api: DemoApi, folder: Path, say: Callable[[str], object] = print):
        self._api, self._folder, self._say = api, folder, say
        self._kind = ""
        self._until, self._seen = 0.0, 0
        (folder / NOTE).unlink(missing_ok=True)  # nobody waits for it any more

    def tick(self) -> None:
        """Break what a note asks for, go on with it, and heal it when its time is over."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            wanted = json.loads((self._folder / NOTE).read_text())
            self._begin(str(wanted["kind"]), float(wanted["seconds"]))
        (self._folder / NOTE).unlink(missing_ok=True)
        if self._kind == KILL and len(self._api.requests) >= self._seen + BEGUN:
            victim = find_holder(self._folder / DATABASE)
            if victim is not None and victim != os.getpid():
                os.kill(victim, signal.SIGKILL)
                self._heal(f"killed the sync that was process {victim}")
        if self._kind and time.monotonic() > self._until:
            self._heal("healed")

    def _begin(self, kind: str, seconds: float) -> None:
        trouble = TROUBLES[kind]
        self._api.heal()
        for fault in trouble.faults():
            self._api.inject(fault)
        self._kind, self._until = kind, time.monotonic() + seconds
        self._seen = len(self._api.requests)
        self._say(f"{kind}: {trouble.breaks}, for {seconds:g} seconds")

    def _heal(self, how: str) -> None:
        self._api.heal()
        self._say(f"{self._kind}: {how}")
        self._kind = ""
