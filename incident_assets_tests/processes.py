"""Processes of Dagster: started, killed, and asked over GraphQL what they know.

Which ones, and what they have to do, is the tests' own.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


@contextmanager
def start(command: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command of the shell, both outputs in one, until the block ends."""
    process = subprocess.Popen(
        ["sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end_group(process)


def end_group(process: "subprocess.Popen[Any]") -> None:
    """Kill a process that began a session of its own, and all that is left of what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ask(url: str, query: str, **variables: Any) -> Any:
    """Return the only field of the answer to a GraphQL query."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        (value,) = json.load(answer)["data"].values()
    return value


def wait_for(url: str) -> None:
    while True:
        try:
            ask(url, "{ version }")
            return
        except OSError:
            time.sleep(0.2)
