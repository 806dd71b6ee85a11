"""The bundled API answers as the real one does: keys, permissions, filters, pages, limits, hooks.

What each response looks like in full is the contract test's, what a year or a version changes
`test_versions`'.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from incident_assets.demo.account import Account, generate_account
from incident_assets.demo.listings import CATEGORIES, MODES, TASK_MODES
from incident_assets.demo.server import DemoApi
from incident_assets.demo.versions import AUGUST
from incident_assets_tests.demo.conftest import Clock, Get, Walk

EVERYTHING = {"mode[one_of]": MODES, "status_category[one_of]": CATEGORIES}


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "missing_authorization_material"),
        ("Basic abc", "missing_authorization_material"),
        ("Bearer ", "missing_authorization_material"),
        ("Bearer other", "access_token_invalid"),
    ],
)
def test_a_key_that_is_none_is_refused(header: str, code: str, get: Get) -> None:
    answer = get("users", Authorization=header)
    body = answer.json()
    assert answer.status_code == body["status"] == 401
    assert body["type"] == "authentication_error" and body["errors"][0]["code"] == code
    assert body["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("resource", AUGUST.values())
def test_each_resource_has_a_permission_of_its_own(
    resource: str, served: DemoApi, get: Get
) -> None:
    served.forbid(resource)
    answers = {name: get(name) for name in AUGUST.values()}
    assert [name for name, answer in answers.items() if not answer.ok] == [resource]
    error = answers[resource].json()["errors"][0]
    assert answers[resource].status_code == 403 and error["code"] == "missing_required_scope"
    assert error["metadata"] == {"scope": f"{resource}.view"}
    served.permit(resource)
    assert get(resource).ok


def test_other_paths_are_not_found(get: Get) -> None:
    answer = get("/v2/nothing")
    body = answer.json()
    assert answer.status_code == body["status"] == 404 and body["type"] == "not_found"
    assert body["errors"][0]["code"] == "resource_not_found"
    assert get("/v1/identity").json()["identity"]["name"]


@pytest.mark.parametrize(
    ("resource", "query", "named"),
    [
        ("incidents", {"page_size": "0"}, "page_size"),
        ("incidents", {"page_size": "501"}, "page_size"),
        ("incident_updates", {"page_size": "251"}, "page_size"),
        ("users", {"page_size": "many"}, "page_size"),
        ("incidents", {"after": "nobody"}, "after"),
        ("incidents", {"mode[one_of]": "stream"}, "mode"),
        ("incidents", {"status_category[one_of]": "open"}, "status_category"),
        ("incidents", {"sort_by": "updated_at"}, "sort_by"),
        ("incidents", {"filter_mode": "none"}, "filter_mode"),
        (
            "incidents",
            {"updated_at[gte]": "2026-01-01", "updated_at[lte]": "2026-02-01"},
            "updated_at",
        ),
        ("incidents", {"updated_at[date_range]": "2026-01-01T00:00:00Z~2026-02-01"}, "updated_at"),
        ("incidents", {"created_at[after]": "2026-01-01"}, "created_at"),
        ("incidents", {"updated_at[gte]": "2026-01-01T00:00:00Z"}, "updated_at"),
        ("incidents", {"updated_at[date_range]": "2026-01-01"}, "updated_at"),
        ("actions", {"incident_mode": "live"}, "incident_mode"),
        ("follow_ups", {"incident_mode": "all"}, "incident_mode"),
        *(
            (path, query, next(iter(query)).partition("[")[0])
            for path in ("/v3/actions", "/v3/follow_ups")
            for query in (
                {"page_size": "0"},
                {"page_size": "251"},
                {"page_size": "many"},
                {"after": "nobody"},
                {"incident_mode": "live"},
                {"updated_at[gte]": "2026-01-01", "updated_at[lte]": "2026-02-01"},
                {"updated_at[gte]": "2026-01-01T00:00:00"},
                {"updated_at[gte]": "2026-W01-1"},
                {"updated_at[lte]": "2026-02-30"},
                {"created_at[gte]": "yesterday"},
                {"created_at[after]": "2026-01-01"},
                {"created_at[date_range]": "2026-01-01"},
                {"created_at[date_range]": "2026-01-01T00:00:00Z~2026-02-01"},
            )
        ),
    ],
)
def test_a_parameter_that_is_wrong_answers_422(
    resource: str, query: dict[str, str], named: str, get: Get
) -> None:
    answer = get(resource, query)
    assert answer.status_code == 422 and answer.json()["type"] == "validation_error"
    assert answer.json()["errors"][0]["message"].startswith(named)


def test_pages_have_the_real_sizes_and_only_a_missing_cursor_ends(served: DemoApi) -> None:
    sizes = {"incidents": (25, 500, 250), "incident_updates": (25, 250, 250)}
    for resource, (default, asked, given) in sizes.items():
        for size, query in ((default, ""), (given, f"page_size={asked}")):
            page = served.answer(f"/v2/{resource}", query, f"Bearer {served.key}")[1]
            assert page.body.count(b'"after":') == 1
            assert f'"page_size":{size}'.encode() in page.body


def test_next_shifts_come_only_with_small_pages(walk: Walk, get: Get) -> None:
    assert all("next_shifts" in row for row in walk("schedules", page_size=25))
    assert not any("next_shifts" in row for row in walk("schedules", page_size=26))
    assert "pagination_meta" not in get("severities").json()


def test_what_the_defaults_leave_out(served: DemoApi, walk: Walk) -> None:
    every = walk("incidents", page_size=250, **EVERYTHING)
    default = walk("incidents", page_size=250)
    assert [row["id"] for row in every] == [row["id"] for row in served.rows("incidents")[::-1]]
    assert {row["mode"] for row in default} == {"standard", "retrospective"}
    left_out = {"declined", "canceled", "merged"}
    assert not left_out & {row["incident_status"]["category"] for row in default}
    assert left_out <= {row["incident_status"]["category"] for row in every}
    everyone = walk("users", include_inactive="true", page_size=1000)
    assert (
        {row["id"] for row in walk("users", page_size=1000)}
        == {row["id"] for row in everyone if row["is_active"]}
        < {row["id"] for row in everyone}
    )
    for path in ("/v2/actions", "/v2/follow_ups", "/v3/actions", "/v3/follow_ups"):
        by_mode = {mode: {r["id"] for r in walk(path, incident_mode=mode)} for mode in TASK_MODES}
        assert {row["id"] for row in walk(path)} == (by_mode["standard"] | by_mode["retrospective"])
        assert set().union(*by_mode.values()) == set(served.account.rows[path.rpartition("/")[2]])
        assert all(by_mode.values())


def test_filters_keep_what_they_name(served: DemoApi, walk: Walk) -> None:
    rows = served.rows("incidents")
    day = rows[150]["updated_at"][:10]

    def ids(**query: Any) -> set[str]:
        return {row["id"] for row in walk("incidents", page_size=250, **EVERYTHING, **query)}

    def expect(keep: Callable[[dict[str, Any]], bool]) -> set[str]:
        return {row["id"] for row in rows if keep(row)}

    assert ids(**{"updated_at[gte]": day}) == expect(lambda r: r["updated_at"][:10] >= day)
    assert ids(**{"updated_at[date_range]": f"{day}~{day}"}) == expect(
        lambda r: r["updated_at"][:10] == day
    )
    major = served.rows("severities")[2]
    assert ids(**{"severity[gte]": major["id"]}) == expect(
        lambda r: r.get("severity", {"rank": -1})["rank"] >= major["rank"]
    )
    kind = next(r["incident_type"]["id"] for r in rows if "incident_type" in r)
    assert ids(**{"incident_type[not_in]": kind}) == expect(
        lambda r: r.get("incident_type", {}).get("id") != kind
    )
    oldest = walk("incidents", page_size=250, sort_by="created_at_oldest_first", **EVERYTHING)
    assert [row["id"] for row in oldest] == [row["id"] for row in rows]
    one = rows[7]["id"]
    assert {row["incident_id"] for row in walk("incident_updates", incident_id=one)} == {one}
    follow_up = next(row for row in served.rows("follow_ups") if "assignee_team" in row)
    team = follow_up["assignee_team"]["id"]
    found = walk("follow_ups", assignee_team_id=team)
    assert found and {row["assignee_team"]["id"] for row in found} == {team}


def test_a_key_without_the_wider_role_sees_silently_less(served: DemoApi, walk: Walk) -> None:
    hidden = {row["id"] for row in served.rows("incidents") if row["visibility"] == "private"}
    served.sees_private = False
    seen = {row["id"] for row in walk("incidents", page_size=250, **EVERYTHING)}
    assert hidden and seen == set(served.account.rows["incidents"]) - hidden
    assert not hidden & {row["incident_id"] for row in walk("incident_updates", page_size=250)}
    assert not hidden & {row["incident_id"] for row in walk("actions")}


def test_a_bucket_empties_and_refills(served: DemoApi, get: Get, clock: Clock) -> None:
    answers = [get("incidents") for _ in range(61)]
    assert [answer.status_code for answer in answers] == [200] * 60 + [429]
    first, last = answers[0].headers, answers[-1].headers
    assert first["X-RateLimit-Limit"] == "60, 1200;window=60, 60;window=60"
    assert (first["X-RateLimit-Remaining"], first["X-RateLimit-Used"]) == ("59", "1")
    assert int(last["X-RateLimit-Reset"]) == clock() + 60
    assert int(last["Retry-After"]) >= 1
    assert get("users").headers["X-RateLimit-Limit"] == "1200, 1200;window=60"
    clock.now += int(last["Retry-After"])
    assert get("incidents").ok
    served.retry_after_as_date = True
    while (answer := get("incidents")).ok:
        pass
    when = parsedate_to_datetime(answer.headers["Retry-After"])
    assert when.timestamp() > clock()


def test_hooks_change_what_is_served(served: DemoApi, walk: Walk, clock: Clock) -> None:
    before = {row["id"]: row for row in walk("severities")}
    first, second, *_ = before
    served.change("severities", first, name="Renamed", new_field=[1], description=...)
    served.remove("severities", second)
    added = served.add("severities", rank=99)
    after = {row["id"]: row for row in walk("severities")}
    assert set(after) == set(before) - {second} | {added["id"]}
    assert after[first]["name"] == "Renamed" and after[first]["new_field"] == [1]
    assert "description" not in after[first]
    assert after[first]["updated_at"].startswith("2026-11-01T00:00:00")
    served.empty("severities")
    assert walk("severities") == []


def test_requests_are_logged_without_the_key(served: DemoApi, get: Get) -> None:
    get("users", {"page_size": "5"})
    get("users", Authorization="Bearer other")
    assert served.count("users") == 2 and served.count("users", status=401) == 1
    assert [request.authorized for request in served.requests] == [True, False]
    assert served.key not in repr(served.requests) and "other" not in repr(served.requests)


def test_an_account_is_the_same_every_time_and_plausible() -> None:
    until = datetime(2026, 11, 1, tzinfo=UTC)
    account, again = (generate_account(200, seed=3, until=until) for _ in range(2))
    assert account == again != generate_account(200, seed=4, until=until)
    _check_references(account)
    created = [row["created_at"] for row in account.rows["incidents"].values()]
    assert created[-1] < "2026-11-01" and created[0] < "2025-06"
    fields = set().union(*account.rows["incidents"].values())
    assert {"duration_metrics", "incident_type", "severity", "workload_minutes_total"} <= fields


def _check_references(account: Account) -> None:
    rows = account.rows
    assert all(len(identifier) == 26 for ids in rows.values() for identifier in ids)
    for resource in ("incident_updates", "actions", "follow_ups"):
        assert {row["incident_id"] for row in rows[resource].values()} <= set(rows["incidents"])
    for row in rows["incidents"].values():
        assert row["incident_status"]["id"] in rows["incident_statuses"]
        assert {e["custom_field"]["id"] for e in row["custom_field_entries"]} == set(
            rows["custom_fields"]
        )
        for assigned in row["incident_role_assignments"]:
            assert assigned["assignee"]["id"] in rows["users"]
