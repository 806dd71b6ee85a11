"""Fixtures of tests of the Dagster layer: a webhook, to which alerts go."""

from collections.abc import Iterator

import pytest

from incident_assets_tests.defs.test_alerts import Receiver


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    monkeypatch.setenv("INCIDENT_ALERT_WEBHOOK", receiver.url)
    yield receiver
    receiver.open.set()
    receiver.server.shutdown()
    receiver.server.server_close()
