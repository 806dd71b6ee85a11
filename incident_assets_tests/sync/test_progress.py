"""What people see while a sync goes on: lines in the log, bars on a terminal."""

import logging
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from incident_assets.api.endpoints import find_endpoint
from incident_assets.api.failures import Failure
from incident_assets.build import build_definitions
from incident_assets.demo.faults import Answer, Fault
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync import progress
from incident_assets.sync.listing import Listing
from incident_assets.sync.progress import describe_progress
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.spool import Spool
from incident_assets_tests.conftest import NAMES

LINE = re.compile(r"incidents: [\d,]+ pages, [\d,]+( of [\d,]+)? rows, [\d,]+ requests")


class Waiting(logging.Handler):
    """Lets the API answer for incidents only when a line has said that this is awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.said = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if LINE.search(record.getMessage()):
            self.said.set()

    def hold(self, _: Any, answer: Answer) -> Answer:
        assert self.said.wait(30)
        return answer


@pytest.fixture(autouse=True)
def patient(api: DemoApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have lines often, and incidents that take until there was one."""
    monkeypatch.setattr(progress, "EVERY", 0.05)
    waiting, logger = Waiting(), logging.getLogger(progress.__name__)
    api.inject(Fault(waiting.hold, resource="incidents"))
    logger.addHandler(waiting)
    logger.setLevel("INFO")
    yield
    logger.removeHandler(waiting)
    logger.setLevel(logging.NOTSET)


def test_each_listing_says_how_far_it_is(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "incident_assets"):
        run_sync(settings, NAMES)
    assert LINE.search(caplog.text)


@pytest.mark.slow
def test_the_lines_are_in_the_log_of_the_run(api: DemoApi) -> None:
    settings = {"managed_python_loggers": ["incident_assets"], "python_log_level": "INFO"}
    with dg.instance_for_test(overrides={"python_logs": settings}) as instance:
        result = (
            build_definitions().resolve_job_def("sync_live").execute_in_process(instance=instance)
        )
        text = "\n".join(entry.user_message for entry in instance.all_logs(result.run_id))
    assert LINE.search(text)


def test_a_wait_for_the_rate_limit_is_part_of_it(settings: Settings, tmp_path: Path) -> None:
    users = find_endpoint("users")
    listing = Listing(users, Spool(users, tmp_path, duckdb.connect()))
    assert describe_progress(listing) == "0 pages, 0 rows, 0 requests"
    listing.traffic.waiting_until = float("inf")
    assert describe_progress(listing).endswith("waiting inf s for the rate limit")


@pytest.mark.fault(
    "a text of the API looks like markup",
    "it is shown as it is, on terminals, in the UI's Markdown and in the report",
    "nothing is at stake",
)
@pytest.mark.parametrize("text", ["[/bold] gone", "[red]x", "[link=http://evil.example]y[/link]"])
def test_a_text_of_the_api_in_brackets_is_shown_as_it_is(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    users = find_endpoint("users")
    listing = Listing(users, Spool(users, tmp_path, duckdb.connect()))
    with progress.show_bars([listing]):
        listing.failure = Failure(text, "Wait")
        listing.ended = 1.0
    assert f"failed: {text}" in capsys.readouterr().err


def test_a_terminal_shows_a_bar_for_each_resource(api: DemoApi) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-W", "ignore", "-m", "incident_assets", "sync", "--select", "users"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(controller, 4096)
            except OSError:  # the other end is closed
                break
        assert process.wait() == 0
    os.close(controller)
    assert f"{len(api.rows('users')):,} rows".encode() in shown and "━".encode() in shown
