"""The living account: a function of seed and moment, whose changes syncs see without a pause."""

from datetime import UTC, datetime, timedelta

import pytest

from incident_assets.demo.account import Account, generate_account
from incident_assets.demo.life import REVEALED, Clock, Life
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets.sync.updates import UPDATES
from incident_assets_tests.conftest import KEY, NAMES, read_table
from incident_assets_tests.sync.test_changes import LIVE, assert_same_as_upstream

ENDS = datetime(2026, 10, 1, tzinfo=UTC)
START = ENDS - timedelta(days=60)
TIMES = ("created_at", "updated_at", "completed_at", "last_activity_at")


@pytest.fixture(scope="module")
def whole() -> Account:
    return generate_account(300, until=ENDS)


def move(api: DemoApi | Account, life: Life, at: datetime) -> list[tuple[str, str]]:
    """Move an account on, and return resources and ids of what changed."""
    rows = life.advance(at)
    for resource, row in rows:
        if isinstance(api, DemoApi):
            api.add(resource, row)
        else:
            api.rows[resource][row["id"]] = row
    return [(resource, row["id"]) for resource, row in rows]


def test_an_account_is_the_same_whichever_way_it_got_there(whole: Account) -> None:
    life = Life(whole, ENDS, START)
    for hours in range(1, 240):
        move(life.account, life, START + timedelta(hours=hours))
    at_once = Life(whole, ENDS, life.at).account
    assert life.account.rows == at_once.rows
    assert all(list(life.account.rows[name]) == list(at_once.rows[name]) for name in NAMES)


def test_nothing_is_later_than_the_moment_and_all_that_changes_says_when(whole: Account) -> None:
    life, moments = Life(whole, ENDS, START), 0
    for hours in range(1, 240):
        before, at = life.at, START + timedelta(hours=hours)
        for resource, identifier in move(life.account, life, at):
            row = life.account.rows[resource][identifier]
            times = [datetime.fromisoformat(row[name]) for name in TIMES if name in row]
            newest = max(times)
            imported = resource == "incident_updates" and newest < before  # with a late incident
            assert before < newest <= at or imported, row
            moments += 1
            for moment in row.get("incident_timestamp_values", ()):
                value = moment.get("value", {}).get("value")
                assert value is None or datetime.fromisoformat(value) <= at
    assert moments > 100


def test_incidents_follow_ups_and_schedules_live(whole: Account) -> None:
    life = Life(whole, ENDS, START)
    seen: dict[str, list[str]] = {}
    on_call = {name: row["current_shifts"] for name, row in life.account.rows["schedules"].items()}
    planned = {name: row["next_shifts"] for name, row in life.account.rows["schedules"].items()}
    waiting = [i for i, x in life.account.rows["follow_ups"].items() if x["status"] != "completed"]
    for hours in range(1, 169):
        for resource, identifier in move(life.account, life, START + timedelta(hours=hours)):
            row = life.account.rows[resource][identifier]
            if resource == "incidents":
                category = row["incident_status"]["category"]
                seen.setdefault(identifier, []).append(category)
                assert ("severity" in row) == (category != "triage")
                assert category == "closed" or not row["has_debrief"]
    assert any({"live", "learning", "closed"} <= {*path} for path in seen.values()), seen
    assert any(life.account.rows["follow_ups"][x]["status"] == "completed" for x in waiting)
    for name, row in life.account.rows["schedules"].items():  # a week: each was handed over once
        assert row["current_shifts"] == planned[name] != on_call[name]
    move(life.account, life, ENDS)
    for resource in REVEALED:
        assert life.account.rows[resource].keys() == whole.rows[resource].keys()
        for row in whole.rows[resource].values():
            shown = life.account.rows[resource][row["id"]]
            stamps = dict.fromkeys(("updated_at", "last_activity_at"))
            assert shown | stamps == row | stamps


def test_the_clock_is_fast_until_it_has_come_to_the_present() -> None:
    now = [1_000_000.0]
    start = datetime.fromtimestamp(now[0], UTC) - timedelta(days=1)
    clock = Clock(start, 144, lambda: now[0])
    now[0] += 60
    assert clock() == start + timedelta(minutes=144)
    now[0] += 3600
    assert clock() == datetime.fromtimestamp(now[0], UTC)


@pytest.mark.slow
def test_what_happens_reaches_the_tables_by_syncs_of_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [datetime.now(UTC).timestamp()]
    life = Life(generate_account(100, until=ENDS), ENDS, START)
    clock = Clock(START, 10 * 144, lambda: now[0])
    with DemoApi(life.account, key=KEY) as api:
        monkeypatch.setenv("INCIDENT_API_KEY", KEY)
        settings = Settings(base_url=api.url)
        run_sync(settings, NAMES)
        changed = 0
        for _ in range(3):
            now[0] += 10 * 60
            move(api, life, clock())
            outcomes = run_sync(settings, LIVE, changes=True)
            assert not [x.failure for x in outcomes if x.failure]
            assert {x.listing for x in outcomes if x.resource != UPDATES} == {"changes"}
            changed += sum(x.changed for x in outcomes)
            assert_same_as_upstream(api, *LIVE)
        assert changed > 10
        run_sync(settings, NAMES)
        assert_same_as_upstream(api)
        assert not any(row["_deleted_at"] for name in NAMES for row in read_table(name).values())
