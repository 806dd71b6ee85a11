"""`python -m benchmarks.moves`: how far a page and a failure travel between files of the package.

A small account's incidents are synced from the bundled API by the command itself, under
`sys.setprofile`. On each thread, the current file is that of the frame of the package that runs;
it stays while others' code runs. A move is a call or a return that changes it, and a thread that
begins in another file than the one last entered. A move to a file that the stretch has been in
before is a return. The bundled API is no part of it. The stretches lie between these events:

- body: an adapter's `send` returns the answer for incidents, a page or a 403
- spool: pyarrow's `write_table` returns
- row: dlt's `Pipeline.load` returns
- log: DuckDB is given `INSERT INTO ... log`

Time is no matter here; that is measured by `python -m benchmarks`.
"""

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import duckdb
from requests import Response

import incident_assets
from incident_assets.__main__ import command
from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi

PACKAGE = Path(incident_assets.__file__).parent
INCIDENTS = 100  # less than a page holds
STRETCHES = (("body", "spool"), ("spool", "row"), ("row", "log"), ("body", "log"))
LOG_ROW = re.compile(r"\s*INSERT\s+(OR\s+\w+\s+)?INTO\s+\S*\blog\b", re.IGNORECASE)


@cache
def name_file(path: str) -> str:
    """Return a source file's path in the package; empty for the bundled API and for others'."""
    inside = Path(path).is_relative_to(PACKAGE) and not Path(path).is_relative_to(PACKAGE / "demo")
    return str(Path(path).relative_to(PACKAGE)) if inside else ""


def is_wanted(response: Response) -> bool:
    """Whether a response is an answer for incidents."""
    return urlsplit(response.url).path.endswith("/incidents")


@dataclass(frozen=True)
class Step:
    """A frame of the package that runs on a thread: one that called, was called or returned."""

    thread: int
    file: str
    function: str


@dataclass
class Trail:
    """What happened in one sync.

    `marks` says before how many steps an event was, and `look_ups` the same for each time that the
    API key was looked up.
    """

    steps: list[Step] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    look_ups: list[int] = field(default_factory=list)

    def follow(self, frame: FrameType, event: str, value: Any) -> None:
        """Note an event of `sys.setprofile`."""
        function, path = frame.f_code.co_name, frame.f_code.co_filename
        if event == "call" and name_file(path):
            self.enter(frame.f_back)
            self.enter(frame)
            if function == "resolve_key":
                self.look_ups.append(len(self.steps))
        elif event == "return" and name_file(path):
            self.enter(frame)
            if function == "send" and isinstance(value, Response) and is_wanted(value):
                self.mark("body", frame)
            self.enter(frame.f_back)
        elif event == "return" and function == "write_table" and "pyarrow" in path:
            self.mark("spool", frame)
        elif event == "return" and function == "load" and path.endswith("dlt/pipeline/pipeline.py"):
            self.mark("row", frame)

    def enter(self, frame: FrameType | None) -> None:
        """Note that a frame runs, if it is one of the package."""
        if frame is not None and (file := name_file(frame.f_code.co_filename)):
            self.steps.append(Step(threading.get_ident(), file, frame.f_code.co_name))

    def mark(self, name: str, frame: FrameType | None) -> None:
        """Note an event and the frame of the package it is in; the first after the body counts."""
        if name in self.marks or (name != "body" and "body" not in self.marks):
            return
        self.marks[name] = len(self.steps)
        while frame is not None and not name_file(frame.f_code.co_filename):
            frame = frame.f_back
        self.enter(frame)


@contextlib.contextmanager
def watch_log(trail: Trail) -> Iterator[None]:
    """Mark the row of the sync log; a profiler sees no arguments of what is written in C."""

    def watch(call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(connection: Any, query: Any, *given: Any, **options: Any) -> Any:
            if isinstance(query, str) and LOG_ROW.match(query):
                trail.mark("log", sys._getframe())
            return call(connection, query, *given, **options)

        return watched

    kind = duckdb.DuckDBPyConnection
    with (
        patch.object(kind, "execute", watch(kind.execute)),
        patch.object(kind, "executemany", watch(kind.executemany)),
    ):
        yield


def trace(forbid: bool) -> Trail:
    """Sync the incidents of a small account, or be forbidden to, and return what happened."""
    trail = Trail()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),  # where no .env of the user's is
        DemoApi(generate_account(INCIDENTS)) as api,
        patch.dict(
            os.environ,
            INCIDENT_API_BASE_URL=api.url,
            INCIDENT_API_KEY=api.key,
            INCIDENT_DUCKDB_PATH="incidents.duckdb",
        ),
        watch_log(trail),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        if forbid:
            api.forbid("incidents")
        threading.setprofile(trail.follow)
        sys.setprofile(trail.follow)
        try:
            command.main(["sync", "--select", "incidents"], standalone_mode=False)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return trail


def count_moves(steps: Sequence[Step]) -> tuple[int, int, int]:
    """Return how many files the steps visit, the moves between them, and the returns of these."""
    current: dict[int, str] = {}
    seen: set[str] = set()
    moves, returns, last = 0, 0, steps[0].file
    for step in steps:
        if step.file != current.get(step.thread, last):
            moves += 1
            returns += step.file in seen
        current[step.thread] = last = step.file
        seen.add(step.file)
    return len(seen), moves, returns


def main() -> None:
    """Trace a page and a 403, and print a line for each stretch."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.moves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--show", action="store_true", help="print the files in their order too")
    show = parser.parse_args().show
    page, refused = trace(forbid=False), trace(forbid=True)
    print(f"{'stretch':24}{'files':>7}{'moves':>7}{'returns':>9}{'key looked up':>15}")
    for first, last in STRETCHES:
        _print_stretch(f"page: {first} to {last}", page, first, last, show)
    _print_stretch("403: body to log", refused, "body", "log", show)
    print(f"Whole syncs look the key up {len(page.look_ups)} and {len(refused.look_ups)} times.")


def _print_stretch(name: str, trail: Trail, first: str, last: str, show: bool) -> None:
    if missing := {first, last} - trail.marks.keys():
        sys.exit(f"{name}: nothing was seen of {', '.join(sorted(missing))}")
    begin, end = trail.marks[first], trail.marks[last]
    files, moves, returns = count_moves(trail.steps[begin:end])
    looked_up = sum(begin <= at < end for at in trail.look_ups)
    print(f"{name:24}{files:7}{moves:7}{returns:9}{looked_up:15}")
    before = None
    for step in trail.steps[begin:end] if show else ():
        if (step.thread, step.file) != before:
            print(f"    {step.thread % 1000:03} {step.file} {step.function}")
        before = (step.thread, step.file)


if __name__ == "__main__":
    main()
