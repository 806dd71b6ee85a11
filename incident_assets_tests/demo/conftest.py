"""Fixtures: a bundled API with a clock that stands still, and how to ask it.

The contract test needs the contract, which is not part of the project: of November 2026 and of
August.
"""

import os
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.demo.versions import AUGUST, Calendar

NOW = os.environ.get("INCIDENT_API_CONTRACT", "")
BEFORE = os.environ.get("INCIDENT_API_CONTRACT_BEFORE", "")
CONTRACTS: dict[Calendar, str] = {"before": BEFORE, "now": NOW, "2027": NOW}
collect_ignore = [] if NOW or BEFORE else ["test_contract.py"]

Get = Callable[..., requests.Response]
Walk = Callable[..., list[dict[str, Any]]]


class Clock:
    """A time that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def saved_account() -> bytes:
    """An account to load from, which is ten times as fast as to generate it."""
    return pickle.dumps(generate_account(300))


@pytest.fixture
def served(saved_account: bytes, clock: Clock) -> Iterator[DemoApi]:
    with DemoApi(pickle.loads(saved_account), clock=clock, rate_limit=True) as api:
        yield api


@pytest.fixture
def get(served: DemoApi) -> Get:
    """Ask a path, or the older one of a resource, with the key unless a header is given."""

    def ask(asked: str, query: dict[str, Any] | None = None, **headers: str) -> Any:
        path = next((p for p, name in AUGUST.items() if name == asked), asked)
        sent = {"Authorization": f"Bearer {served.key}"} | headers
        return requests.get(
            served.url + path, params=query, headers=sent, timeout=10, allow_redirects=False
        )

    return ask


@pytest.fixture
def walk(get: Get) -> Walk:
    """Return the rows of all pages of a listing."""

    def ask(asked: str, **query: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            body = get(asked, query).json()
            rows += body[asked.rpartition("/")[2]]
            if not (after := body.get("pagination_meta", {}).get("after")):
                return rows
            query["after"] = after

    return ask
