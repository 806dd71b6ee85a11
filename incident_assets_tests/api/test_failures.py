"""Paging that cannot lie and bad input: one clear reason, the others land, nothing hangs."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from incident_assets.api import pages
from incident_assets.demo.faults import (
    Effect,
    Fault,
    cut_short,
    duplicate_rows,
    edit,
    html,
    rate_limited,
    repeating_cursor,
    reset,
    status,
    without_id,
    without_list,
    without_meta,
)
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings, read_settings
from incident_assets.sync.account import AccountMismatch
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.values import SettingError
from incident_assets.warehouse.file import DatabaseBusy, DatabaseError, open_database
from incident_assets_tests.conftest import (
    KEY,
    NAMES,
    count_rows,
    hold_database,
    read_table,
    run_command,
)

Sync = Callable[..., dict[str, Outcome]]
PAGINATED = ("actions", "follow_ups", "incident_updates", "users", "schedules", "incidents")


def _page(resource: str) -> bytes:
    return f'{{"{resource}": [{{"id": "x"}}], "pagination_meta": {{"after": "again"}}}}'.encode()


@pytest.mark.fault(
    "a cursor that repeats, which would never end",
    "the resource fails within its second page",
    "what the resource had; the others land",
)
@pytest.mark.parametrize("resource", PAGINATED)
def test_a_repeated_cursor_fails_within_the_second_page(
    resource: str, api: DemoApi, sync: Sync
) -> None:
    api.inject(Fault(repeating_cursor(), resource=resource, first=1))
    # The cursor is unknown to the server, which a mock that repeats it would not mind.
    api.inject(Fault(status(200, _page(resource)), resource=resource))
    outcome = sync(resource)[resource]
    assert "repeated a cursor" in str(outcome.failure)
    # Incidents are preceded by the statuses, which say what categories there are.
    assert outcome.requests == 2 + (resource == "incidents")


@pytest.mark.fault(
    "a page without its list or pagination_meta, HTML or half a body with status 200, a reset, 5xx",
    "asked again three times, then the resource fails with status, request id and remedy",
    "what the resource had; the others land",
)
@pytest.mark.parametrize(
    ("effect", "reason", "requests"),
    [
        (without_list(), "no list 'users'", 4),
        (edit(lambda body: body.update(users=None)), "no list 'users'", 4),
        (without_meta(), "no pagination_meta", 4),
        (html(), "no JSON (text/html", 4),
        (status(200, b"null"), "no JSON object", 4),
        (status(200, _page("users").replace(b"}]", b', "seats": ["\xff"]}]')), "no JSON (", 4),
        (edit(lambda body: body["pagination_meta"].update(after="\ud800")), "cursor", 4),
        (cut_short(), "cannot reach", 4),
        (reset(), "cannot reach", 4),
        (status(500), "500", 4),
        (status(408), "408", 4),
        (rate_limited(0), "429", 4),
        (without_id(), "has no id", 1),
        (edit(lambda body: body["users"][0].update(id="x" * 1001)), "more than 1,000 char", 1),
        (status(404), "404", 1),
    ],
    ids=[
        "no list",
        "a null list",
        "no meta",
        "html",
        "null",
        "no UTF-8",
        "half a cursor",
        "cut short",
        "reset",
        "500",
        "408",
        "429",
        "no id",
        "a long id",
        "404",
    ],
)
def test_a_broken_answer_fails_its_resource_alone(
    effect: Effect, reason: str, requests: int, api: DemoApi, sync: Sync
) -> None:
    sync("users", "severities")
    before = read_table("users")
    api.inject(Fault(effect, resource="users"))
    api.reset_log()
    outcomes = sync("users", "severities")
    assert reason in str(outcomes["users"].failure)
    assert outcomes["users"].requests == requests
    assert outcomes["severities"].failure is None
    assert read_table("users") == before


@pytest.mark.parametrize(
    ("effect", "reason"),
    [
        (status(200, _page("users").replace(b"}]", b', "seats": ["\xff"]}]')), "no JSON"),
        (edit(lambda body: body["users"].append("x")), "has no id"),
        (edit(lambda body: body["users"][-1].update(id="x" * 1001)), "more than 1,000 char"),
    ],
    ids=["no UTF-8", "no object", "a long id"],
)
def test_a_long_page_is_judged_to_its_end(
    effect: Effect, reason: str, api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LONG_BODY", 1)
    monkeypatch.setattr(pages, "PART_ROWS", 3)
    assert not sync("users")["users"].failure
    before = read_table("users")
    api.inject(Fault(effect, resource="users"))
    assert reason in str(sync("users")["users"].failure)
    assert read_table("users") == before


@pytest.mark.fault(
    "a reset, half a body, a web page, 429 or 5xx that passes",
    "asked again, after 2, 4 and 8 s or as Retry-After says",
    "every row",
)
@pytest.mark.parametrize(
    "effect",
    [reset(), cut_short(), html(), status(503), status(429)],
    ids=["reset", "cut short", "html", "503", "429"],
)
def test_what_passes_is_retried(effect: Effect, api: DemoApi, sync: Sync) -> None:
    api.inject(Fault(effect, resource="incidents", nth=1))
    outcome = sync("incidents")["incidents"]
    assert outcome.failure is None
    assert outcome.rows == len(api.rows("incidents"))


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(as_date: bool, api: DemoApi, sync: Sync) -> None:
    api.inject(Fault(rate_limited(2, as_date), resource="severities", nth=1))
    assert sync("severities")["severities"].failure is None
    first, second = (r.time for r in api.requests if r.resource == "severities")
    # Whole seconds: a date may be cut to the second before.
    assert second - first >= 0.9


@pytest.mark.slow
@pytest.mark.fault(
    "a listing whose last page fails",
    "none of its pages are loaded; no listing is walked twice",
    "what the resource had; the others land",
)
def test_a_bad_last_page_loads_nothing_of_its_resource(api: DemoApi, sync: Sync) -> None:
    for _ in range(600):
        api.add("incident_updates")
    sync()
    clean, before = api.count(), read_table("incident_updates")
    api.add("incident_updates")
    api.add("severities")
    api.reset_log()
    api.inject(Fault(status(500), resource="incident_updates", last_page=True))
    outcomes = sync()
    assert [name for name in NAMES if outcomes[name].failure] == ["incident_updates"]
    assert api.count() == clean + 3
    assert read_table("incident_updates") == before
    assert len(read_table("severities")) == len(api.rows("severities"))


@pytest.mark.slow
@pytest.mark.fault(
    "one address that always answers 500",
    "exactly four requests in the whole run",
    "what the resource had; the others land",
)
def test_an_address_that_always_fails_takes_four_requests(api: DemoApi, sync: Sync) -> None:
    sync()
    clean = api.count()
    api.reset_log()
    api.inject(Fault(status(500), resource="custom_fields"))
    assert sync()["custom_fields"].requests == 4
    assert api.count("custom_fields") == 4 and api.count() == clean + 3


@pytest.mark.slow
@pytest.mark.fault(
    "one 403, every 7th response 429, every 11th 500, and a body cut short, in one run",
    "twelve assets materialise; the run ends as failed with the missing permission",
    "every row of the twelve",
)
def test_many_faults_at_once_cost_one_resource(api: DemoApi) -> None:
    api.forbid("workflows")
    api.inject(Fault(cut_short(), resource="incidents", nth=1))
    api.inject(Fault(rate_limited(1), every=7))
    api.inject(Fault(status(500), every=11))
    result = run_command(
        "dagster", "job", "execute", "-m", "incident_assets.definitions", "-j", "sync_all"
    )
    assert result.returncode != 0
    assert "workflows: 403" in result.stderr and "The key lacks workflows.view" in result.stderr
    assert api.count(status=429) and api.count(status=500)
    expected = {name: len(api.rows(name)) for name in NAMES} | {"workflows": 0}
    assert count_rows() == expected
    for name in NAMES:
        shown = f"Materialized value incident_api {name}." in result.stderr
        assert shown == (name != "workflows")


@pytest.mark.fault(
    "a key that lacks a permission",
    "its resource fails after one request; the message names the permission",
    "what the resource had; the others land",
)
def test_a_missing_permission_names_it(api: DemoApi, sync: Sync) -> None:
    api.forbid("workflows")
    outcomes = sync()
    failure = outcomes["workflows"].failure
    assert failure and failure.status == 403 and failure.request_id
    assert "The key lacks workflows.view" in str(failure)
    assert [name for name in NAMES if outcomes[name].failure] == ["workflows"]
    assert count_rows()["workflows"] == 0


@pytest.mark.fault(
    "an id twice on a page",
    "the last row counts",
    "one row per id",
)
def test_duplicates_leave_one_row_the_last(api: DemoApi, sync: Sync) -> None:
    api.inject(Fault(duplicate_rows(), resource="incidents"))
    assert sync("incidents")["incidents"].failure is None
    assert len(read_table("incidents")) == len(api.rows("incidents"))


@pytest.mark.fault(
    "an id on two pages, since rows moved while they were listed",
    "the last row counts",
    "one row per id",
)
@pytest.mark.parametrize("more", [{}, {"novel": "in a file of its own"}])
def test_an_id_on_two_pages_keeps_the_row_that_came_last(
    more: dict[str, str], api: DemoApi, sync: Sync
) -> None:
    for _ in range(250):
        api.add("incidents")
    newest = api.rows("incidents")[-1]["id"]

    def add_newest(body: dict[str, list[dict[str, str]]]) -> None:
        body["incidents"].append({"id": newest, "name": "seen later", **more})

    api.inject(Fault(edit(add_newest), resource="incidents", last_page=True))
    sync("incidents")
    assert read_table("incidents")[newest]["name"] == "seen later"
    assert len(read_table("incidents")) == len(api.rows("incidents"))


@pytest.mark.fault(
    "fewer or more rows than the API announced",
    "a warning with both numbers",
    "every row that came",
)
def test_a_total_that_does_not_match_warns(
    api: DemoApi, sync: Sync, caplog: pytest.LogCaptureFixture
) -> None:
    def inflate(body: dict[str, dict[str, int]]) -> None:
        body["pagination_meta"]["total_record_count"] += 5

    api.inject(Fault(edit(inflate), resource="incidents"))
    with caplog.at_level(logging.WARNING):
        assert sync("incidents")["incidents"].failure is None
    assert "announced" in caplog.text


@pytest.mark.fault(
    "a key that is refused (401)",
    "every resource fails; the message says where the key came from, never what it is",
    "everything that the database held",
)
def test_a_wrong_key_says_where_it_came_from(
    api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_API_KEY", "wrong-key-of-somebody")
    failures = {str(outcome.failure) for outcome in sync().values()}
    assert all("401" in text and "from INCIDENT_API_KEY" in text for text in failures)
    assert not any("wrong-key-of-somebody" in text for text in failures)


def test_dlts_own_secret_serves_as_the_key(
    api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INCIDENT_API_KEY")
    monkeypatch.setenv("API_KEY", KEY)
    assert sync("users")["users"].failure is None


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("INCIDENT_API_BASE_URL", "", "INCIDENT_API_BASE_URL is not set"),
        ("INCIDENT_API_BASE_URL", "api.example.com", "INCIDENT_API_BASE_URL is no web address"),
        ("INCIDENT_API_BASE_URL", "http://api.example.com", "plain http"),
        ("INCIDENT_API_BASE_URL", "https://me:pw@api.example.com", "more than an address"),
        ("INCIDENT_API_KEY", "", "there is no API key: set INCIDENT_API_KEY"),
        ("INCIDENT_API_KEY", "two words", "the API key from INCIDENT_API_KEY"),
        ("INCIDENT_LOCK_TIMEOUT", "soon", "INCIDENT_LOCK_TIMEOUT"),
    ],
)
def test_a_bad_setting_is_named_before_any_request(
    variable: str, value: str, text: str, api: DemoApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError) as caught:
        run_sync(read_settings(), NAMES)
    assert text in str(caught.value) and "two words" not in str(caught.value)
    assert not api.requests


def test_a_host_that_does_not_resolve_is_named(
    api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_API_BASE_URL", "https://incidents.invalid")
    outcomes = run_sync(read_settings(), ["users"])
    assert "cannot reach https://incidents.invalid" in str(outcomes[0].failure)


@pytest.mark.fault(
    "a path that is no DuckDB database, or cannot be written",
    "the run fails before any request, naming INCIDENT_DUCKDB_PATH",
    "the file, as it was",
)
@pytest.mark.parametrize("kind", ["no database", "under a file"])
def test_an_unusable_database_is_named_before_any_row(
    kind: str, api: DemoApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no database at all" * 500)
    path = file if kind == "no database" else file / "incidents.duckdb"
    monkeypatch.setenv("INCIDENT_DUCKDB_PATH", str(path))
    with pytest.raises(DatabaseError, match="INCIDENT_DUCKDB_PATH"):
        run_sync(read_settings(), NAMES)
    assert not api.requests
    assert file.read_text() == "no database at all" * 500


@pytest.mark.fault(
    "another account's key or address with this database",
    "the sync ends before any row, naming both accounts",
    "everything that the database held",
)
def test_a_database_that_another_account_filled_is_refused(api: DemoApi, sync: Sync) -> None:
    sync("users")
    before = read_table("users")
    api.account.identity["dashboard_url"] = "https://app.example.com/other"
    with pytest.raises(AccountMismatch, match=r"example\.com/demo.*example\.com/other"):
        sync("users")
    assert read_table("users") == before
    assert api.count("users") == 1


def test_another_host_is_another_account_though_the_dashboard_is_the_same(
    api: DemoApi, sync: Sync, settings: Settings
) -> None:
    sync("users")
    other = replace(settings, base_url=api.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(AccountMismatch, match=r"account 127\.0\.0\.1 .* lead to localhost "):
        run_sync(other, ["users"])
    assert api.count("users") == 1


def test_a_busy_database_names_its_holder_and_is_closed_after_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    with hold_database(path) as pid:
        named = f"process {pid} .nightly sync"
        with pytest.raises(DatabaseBusy, match=named), open_database(path, 0.3, "test"):
            raise AssertionError("two writers")
    with pytest.raises(RuntimeError), open_database(path, 1, "test"):
        raise RuntimeError
    with (
        open_database(path, 1, "test", read_only=True) as connection,
        pytest.raises(duckdb.Error),
    ):
        connection.execute("CREATE TABLE t (i INT)")


def test_more_pages_of_what_is_asked_for_as_one_are_not_left_out(api: DemoApi, sync: Sync) -> None:
    assert sync("custom_fields")["custom_fields"].failure is None
    more = edit(lambda body: body.update(pagination_meta={"after": "a cursor"}))
    api.inject(Fault(more, resource="custom_fields"))
    outcome = sync("custom_fields")["custom_fields"]
    assert "more pages" in str(outcome.failure) and outcome.deleted == 0
