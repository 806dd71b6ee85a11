"""Rate limits are kept before they are hit, and nothing that drags on holds a sync for ever."""

import gzip
import logging
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from requests import Response

from incident_assets.api.rate_limit import Pacer
from incident_assets.api.retries import read_retry_after
from incident_assets.demo import listings
from incident_assets.demo.account import generate_account
from incident_assets.demo.faults import Effect, Fault, drip, hang, rate_limited, status
from incident_assets.demo.server import DemoApi
from incident_assets.settings import read_settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import KEY, NAMES, count_rows

Sync = Callable[..., dict[str, Outcome]]


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, float], DemoApi]]:
    """Serve incidents one by one, 60 in so many seconds: a walk of as many pages as incidents."""
    monkeypatch.setattr(listings, "INCIDENTS_SERVED", 1)
    started = []

    def serve(incidents: int, window: float) -> DemoApi:
        account = generate_account(incidents)
        api = DemoApi(account, key=KEY, rate_limit=True, rate_window=window).__enter__()
        started.append(api)
        monkeypatch.setenv("INCIDENT_API_BASE_URL", api.url)
        monkeypatch.setenv("INCIDENT_API_KEY", KEY)
        return api

    yield serve
    for api in started:
        api.__exit__(None, None, None)


def walk_within_the_limit(api: DemoApi, pages: int) -> None:
    outcome = run_sync(read_settings(), ["incidents"])[0]
    assert outcome.failure is None and outcome.rows == pages
    assert api.count("incidents", status=200) == pages
    assert api.count(status=429) == 0


@pytest.mark.fault(
    "more pages than the rate limit allows at once",
    "requests are paced by the X-RateLimit headers; the log says until when it waits",
    "every row, without a 429",
)
def test_a_long_walk_keeps_to_the_rate_limit(
    limited: Callable[[int, float], DemoApi], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "incident_assets"):
        walk_within_the_limit(limited(140, 3), 140)
    waits = [line for line in caplog.messages if "rate limit of 60 requests in 3 s" in line]
    assert waits and "waiting until" in waits[0] and len(waits) < 5


@pytest.mark.long
def test_five_hundred_pages_keep_to_the_rate_limit(
    limited: Callable[[int, float], DemoApi],
) -> None:
    walk_within_the_limit(limited(500, 12), 500)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def show(remaining: int, limit: str = "60, 1200;window=60, 60;window=60") -> dict[str, str]:
    """Return the headers of an answer."""
    return {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": str(remaining)}


def test_turns_come_at_the_rate_of_the_bucket() -> None:
    pacer = Pacer(clock := Clock())
    assert pacer.reserve("incidents") == 0
    pacer.learn("incidents", show(1))
    assert [pacer.reserve("incidents") for _ in range(3)] == [0, 1, 2]
    clock.now += 2
    # Two more tokens came, and two requests are still out.
    pacer.learn("incidents", show(2))
    assert pacer.reserve("incidents") == 1
    for _ in range(3):
        pacer.release("incidents")
    clock.now += 3600
    assert [pacer.reserve("incidents") for _ in range(60)] == [0] * 60
    assert pacer.reserve("incidents") == 1


def test_resources_of_one_limit_share_their_turns() -> None:
    pacer = Pacer(Clock())
    for name in ("users", "actions"):
        pacer.learn(name, show(1, "1200, 1200;window=60"))
    assert [pacer.reserve("users"), pacer.reserve("actions")] == [0, 0.05]
    assert pacer.reserve("incidents") == 0


def test_a_429_holds_everybody_who_shares_its_limit() -> None:
    pacer = Pacer(Clock())
    pacer.learn("users", show(1, "1200, 1200;window=60"))
    pacer.learn("actions", show(0, "1200, 1200;window=60"), retry_after=7)
    assert pacer.reserve("users") == pytest.approx(7)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-RateLimit-Limit": "60"},
        show(5, "unlimited"),
        show(5, "0"),
        {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "-1"},
        {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "\u00b2"},
        {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "9" * 400},
        show(5, "9" * 400),
        show(5, "\u00b2"),
    ],
)
def test_headers_that_say_nothing_hold_nobody(headers: dict[str, str]) -> None:
    pacer = Pacer(Clock())
    pacer.learn("users", headers)
    assert [pacer.reserve("users") for _ in range(100)] == [0] * 100


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,400}"), st.text() | st.integers().map(str))
def test_any_limit_makes_a_turn_that_comes(limit: str, remaining: str) -> None:
    headers = {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": remaining}
    pacer = Pacer(Clock())
    for text in (limit, f"60, 60;window={limit}"):
        pacer.learn("users", headers | {"X-RateLimit-Limit": text})
        assert 0 <= pacer.reserve("users") < 1e10


def answer_with(retry_after: str, status: int = 429) -> Response:
    """Return an answer with this header."""
    response = Response()
    response.status_code = status
    response.headers["Retry-After"] = retry_after
    return response


@given(st.text() | st.from_regex(r"(Wed, )?[0-9]{1,3} (Oct|Xyz) [0-9]{1,6} [0-9:]{1,8}( GMT)?"))
@example("Wed, 21 Oct 99999 07:28:00 GMT")
@example("9" * 5000)
@example("-5")
def test_any_retry_after_is_some_seconds(value: str) -> None:
    seconds = read_retry_after(answer_with(value))
    assert seconds is not None and seconds >= 0


def test_a_retry_after_is_a_number_or_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    assert 590 < (read_retry_after(answer_with(later)) or 0) <= 600
    values = [" 7 ", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-3"]
    assert [read_retry_after(answer_with(value)) for value in values] == [7, 1.5, 0, 0, 0]
    assert read_retry_after(Response()) is None


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_date_without_a_zone_is_utc(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        later = time.asctime(time.gmtime(time.time() + 600))
        assert 590 < (read_retry_after(answer_with(later)) or 0) <= 600
    finally:
        monkeypatch.undo()
        time.tzset()


NONSENSE = [
    "Wed, 21 Oct 99999 07:28:00 GMT",
    "-5",
    "soon",
    "",
    "\u00b2",
    "Wed, 21 Oct 2015 07:28 GMT",
]


@pytest.mark.fault(
    "headers that say nothing: a Retry-After in the year 99999, limits of hundreds of digits",
    "what they ask for is left out of account; the request is tried again as without them",
    "every row",
)
@pytest.mark.parametrize("value", NONSENSE)
def test_headers_that_say_nothing_cost_nothing(value: str, api: DemoApi, sync: Sync) -> None:
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "Deprecation", "Sunset", "Date")
    api.announce("/v2/users", **dict.fromkeys(names, value))
    api.announce("/v1/severities", **{names[0]: f"60, 60;window={'9' * 400}", names[1]: "0"})
    api.inject(Fault(status(429, Retry_After=value), resource="users", nth=1))
    outcomes = sync("users", "severities")
    assert not outcomes["users"].failure and not outcomes["severities"].failure
    assert outcomes["users"].requests == 2


@pytest.mark.fault(
    "a header that asks for a wait of more than five minutes",
    "the resource fails at once, naming the wait",
    "what the resource had; the others land",
)
@pytest.mark.parametrize("code", [429, 403, 503])
def test_a_wait_beyond_five_minutes_is_not_begun(
    code: int, api: DemoApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_SYNC_DEADLINE", "60")
    api.inject(Fault(status(code, Retry_After="301"), resource="users"))
    outcomes = {x.resource: x for x in run_sync(read_settings(), ["users", "severities"])}
    assert f"answered {code} and asks for a wait of 301 s" in str(outcomes["users"].failure)
    assert outcomes["users"].requests == 1 and outcomes["severities"].failure is None


@pytest.fixture
def exhausted(api: DemoApi, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Outcome]:
    """Sync incidents of several pages, with a limit of one request in so many seconds, used up."""

    def run(window: int) -> Outcome:
        monkeypatch.setattr(listings, "INCIDENTS_SERVED", 20)
        api.announce("/v2/incidents", **show(0, f"1, 1;window={window}"))
        return run_sync(read_settings(), ["incidents"])[0]

    return run


def test_a_limit_of_a_day_is_not_waited_for(
    exhausted: Callable[[int], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_SYNC_DEADLINE", "60")
    outcome = exhausted(86400)
    assert "rate limit of 1 requests in 86400 s" in str(outcome.failure)
    assert "a wait of 86,400 s" in str(outcome.failure)
    assert outcome.requests == 2  # the first is for the statuses


def test_a_wait_beyond_the_deadline_is_not_begun(
    exhausted: Callable[[int], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_SYNC_DEADLINE", "40")
    outcome = exhausted(60)
    assert "INCIDENT_SYNC_DEADLINE" in str(outcome.failure) and outcome.requests == 2
    assert outcome.seconds < 40  # which it would take to wait as long as there is time


@pytest.mark.fault(
    "403 with Retry-After",
    "a limit, not a permission: waited for and asked again three times",
    "every row",
)
def test_a_403_that_says_when_to_come_back_is_a_limit(api: DemoApi, sync: Sync) -> None:
    api.inject(Fault(status(403, Retry_After="0"), resource="users", nth=1))
    assert sync("users")["users"].requests == 2
    api.heal()
    api.inject(Fault(status(403, Retry_After="0"), resource="users"))
    outcome = sync("users")["users"]
    assert outcome.requests == 4 and "403" in str(outcome.failure)
    assert "busy: sync again later" in str(outcome.failure)
    assert "key lacks" not in str(outcome.failure)


@pytest.mark.fault(
    "a body that is far larger when it is decoded",
    "no more than INCIDENT_BODY_LIMIT is decoded; the resource fails at once",
    "what the resource had; the others land",
)
def test_a_body_beyond_its_limit_is_not_decoded(
    api: DemoApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_BODY_LIMIT", "2")
    bomb = gzip.compress(b" " * 64_000_000)
    api.inject(Fault(status(200, bomb, Content_Encoding="gzip"), resource="users"))
    tracemalloc.start()
    try:
        outcomes = {x.resource: x for x in run_sync(read_settings(), ["users", "severities"])}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "longer than 2 MB (INCIDENT_BODY_LIMIT)" in str(outcomes["users"].failure)
    assert outcomes["users"].requests == 1 and outcomes["severities"].failure is None
    assert peak < 24_000_000  # bytes; all of it would be 64 million


@pytest.mark.fault(
    "429 without end",
    "asked again three times, as Retry-After says, then the resource fails",
    "what the resource had; the others land",
)
def test_a_429_without_end_fails_its_resource(
    api: DemoApi, sync: Sync, caplog: pytest.LogCaptureFixture
) -> None:
    api.inject(Fault(rate_limited(1), resource="users"))
    with caplog.at_level(logging.INFO, "incident_assets"):
        outcomes = sync("users", "severities")
    assert "429" in str(outcomes["users"].failure) and outcomes["users"].requests == 4
    assert outcomes["severities"].failure is None
    assert "users: the API answered 429, waiting until" in caplog.text


@pytest.mark.fault(
    "a response that drips for ever",
    "cut off after INCIDENT_REQUEST_TIMEOUT and asked again; after three more, the resource fails",
    "what the resource had; the others land",
)
@pytest.mark.parametrize("effect", [drip(0.02), drip(0.02, head=False)], ids=["body", "head"])
def test_a_response_that_drips_is_cut_off(
    effect: Effect, api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_REQUEST_TIMEOUT", "0.4")
    api.inject(Fault(effect, resource="users"))
    outcomes = {x.resource: x for x in run_sync(read_settings(), ["users", "severities"])}
    assert "no whole answer within 0.4 s (INCIDENT_REQUEST_TIMEOUT)" in str(
        outcomes["users"].failure
    )
    assert outcomes["users"].requests == 4 and outcomes["severities"].failure is None
    api.heal()
    api.inject(Fault(effect, resource="users", nth=1))
    assert run_sync(read_settings(), ["users"])[0].failure is None


@pytest.mark.fault(
    "a sync that takes longer than INCIDENT_SYNC_DEADLINE",
    "resources that are not whole by then fail",
    "what they had; whole listings land",
)
def test_a_sync_ends_by_its_deadline(api: DemoApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_SYNC_DEADLINE", "4")
    api.inject(Fault(hang(60), resource="incidents"))
    api.inject(Fault(status(500, Retry_After="60"), resource="users"))
    outcomes = {x.resource: x for x in run_sync(read_settings(), NAMES)}
    failed = {name: str(x.failure) for name, x in outcomes.items() if x.failure}
    assert set(failed) == {"incidents", "users"}
    assert all("INCIDENT_SYNC_DEADLINE" in reason for reason in failed.values())
    # Neither the answer that hangs nor the minute that Retry-After asks for was waited out.
    assert outcomes["incidents"].requests == outcomes["users"].requests == 1
    assert count_rows()["actions"] == len(api.rows("actions"))


def test_an_identity_that_drips_holds_nobody(api: DemoApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_REQUEST_TIMEOUT", "0.3")
    api.inject(Fault(drip(0.02), path="/v1/identity"))
    assert run_sync(read_settings(), ["severities"])[0].failure is None
