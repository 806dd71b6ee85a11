"""The bundled API in each of its years: which paths there are, and what a version shows of a row.

What is the same in every year is `test_server`'s.
"""

import re
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests

from incident_assets.demo.faults import Fault, status
from incident_assets.demo.server import DemoApi
from incident_assets.demo.versions import PATHS, Calendar, Gone
from incident_assets_tests.demo.conftest import Get, Walk

OLDER = {"/v2/actions", "/v2/follow_ups"}
NEWER = {"/v3/actions", "/v3/follow_ups", "/v3/catalog_types", "/v2/incident_roles"}
TASKS = ("actions", "follow_ups")
INCIDENT_COLUMNS = {
    "team_ids",
    "last_activity_at",
    "slack_channel_url",
    "ms_teams_channel_url",
    "debriefs",
}
CATALOG_COLUMNS = {
    "engine_resource_type",
    "use_name_as_identifier",
    "is_team_type",
    "owning_team_ids",
}


@pytest.mark.parametrize(("year", "missing"), [("before", NEWER), ("now", set()), ("2027", OLDER)])
def test_each_year_has_its_paths(
    year: Calendar, missing: set[str], served: DemoApi, get: Get
) -> None:
    served.turn_to(year)
    answers = {path: get(path) for path in PATHS["now"]}
    assert len(answers) == 17
    assert {path for path, answer in answers.items() if answer.status_code == 404} == missing
    assert {path for path, answer in answers.items() if not answer.ok} == missing
    types = {answers[path].json()["type"] for path in missing}
    assert types == ({"not_found"} if missing else set())


@pytest.mark.parametrize(
    ("gone", "code"), [("404", 404), ("410", 410), ("redirect", 302), ("empty", 200)]
)
@pytest.mark.parametrize("name", TASKS)
def test_a_removed_path_answers_as_it_is_told(
    gone: Gone, code: int, name: str, served: DemoApi, get: Get
) -> None:
    served.turn_to("2027", gone=gone)
    answer = get(f"/v2/{name}")
    assert answer.status_code == code and ("Location" in answer.headers) == (code == 302)
    if code == 200:
        assert answer.json() == {name: []}
    elif code != 302:
        assert answer.json()["status"] == code
    assert get(f"/v3/{name}").json()[name]
    served.turn_to("now")
    assert get(f"/v2/{name}").json()[name]


@pytest.mark.parametrize("name", TASKS)
def test_v3_does_not_look_beyond_a_full_page(name: str, served: DemoApi, get: Get) -> None:
    path, count = f"/v3/{name}", 2 if name == "actions" else 1
    query = {"incident_id": served.rows("incidents")[0]["id"]}
    full = get(path, query | {"page_size": count}).json()
    assert len(full[name]) == count
    assert full["pagination_meta"] == {"page_size": count, "after": full[name][-1]["id"]}
    empty = get(path, query | {"page_size": count, "after": full[name][-1]["id"]}).json()
    assert empty == {name: [], "pagination_meta": {"page_size": count}}
    assert get(path, query | {"page_size": count + 1}).json() == {
        name: full[name],
        "pagination_meta": {"page_size": count + 1},
    }
    usual = get(path).json()
    assert len(usual[name]) == usual["pagination_meta"]["page_size"] == 25
    served.empty(name)
    assert get(path).json() == {name: [], "pagination_meta": {"page_size": 25}}


@pytest.mark.parametrize("name", TASKS)
def test_v3_lists_the_rows_of_v2_by_id(name: str, served: DemoApi, walk: Walk) -> None:
    served.add(name, id="00000000000000000000000001", incident_id=served.rows("incidents")[0]["id"])
    older, newer = walk(f"/v2/{name}"), walk(f"/v3/{name}", page_size=250)
    assert newer[0]["id"] == older[-1]["id"] == "00000000000000000000000001"
    shared = [{k: v for k, v in row.items() if k != "category"} for row in newer]
    assert shared == sorted(older, key=lambda row: row["id"])
    assert any("category" in row for row in newer) == (name == "follow_ups")


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_v3_filters_by_the_moment(name: str, column: str, served: DemoApi, walk: Walk) -> None:
    path = f"/v3/{name}"
    everything = walk(path, page_size=250)
    times = {row["id"]: datetime.fromisoformat(row[column]) for row in everything}
    middle = sorted(times.values())[len(times) // 2]
    day = f"{middle:%Y-%m-%d}"

    def ids(operator: str, value: str) -> set[str]:
        rows: list[dict[str, Any]] = walk(path, page_size=250, **{f"{column}[{operator}]": value})
        return {row["id"] for row in rows}

    elsewhere = (middle + timedelta(hours=2)).replace(tzinfo=None).isoformat() + "+02:00"
    later = {i for i, at in times.items() if at >= middle}
    assert ids("gte", elsewhere) == ids("gte", middle.isoformat()) == later != set(times)
    assert ids("lte", elsewhere) == {i for i, at in times.items() if at <= middle} != set(times)
    assert ids("gte", day) == {i for i, at in times.items() if f"{at:%Y-%m-%d}" >= day}
    assert ids("lte", day) == {i for i, at in times.items() if f"{at:%Y-%m-%d}" <= day}
    on_day = {i for i, at in times.items() if f"{at:%Y-%m-%d}" == day}
    assert ids("date_range", f"{day}~{day}") == on_day


def test_a_cursor_of_a_deleted_row_answers_422(served: DemoApi, get: Get) -> None:
    after = get("/v3/actions").json()["pagination_meta"]["after"]
    served.remove("actions", after)
    assert get("/v3/actions", {"after": after}).status_code == 422


def test_v3_knows_the_team_of_a_follow_up(served: DemoApi, walk: Walk) -> None:
    team = next(row for row in served.rows("follow_ups") if "assignee_team" in row)["assignee_team"]
    found = walk("/v3/follow_ups", assignee_team_id=team["id"])
    assert found and {row["assignee_team"]["id"] for row in found} == {team["id"]}


@pytest.mark.parametrize(
    ("columns", "path", "years"),
    [
        (INCIDENT_COLUMNS, "/v2/incidents", ("now", "2027")),
        ({"auto_run_mode"}, "/v2/workflows", ("now", "2027")),
        (CATALOG_COLUMNS, "/v2/catalog_types", ()),
        (CATALOG_COLUMNS, "/v3/catalog_types", ("now", "2027")),
        ({"semantic_type"}, "/v2/catalog_types", ("before", "now", "2027")),
        ({"semantic_type"}, "/v3/catalog_types", ()),
        ({"required"}, "/v1/incident_roles", ("before", "now", "2027")),
        ({"required"}, "/v2/incident_roles", ()),
        ({"category"}, "/v2/follow_ups", ()),
        ({"category"}, "/v3/follow_ups", ("now", "2027")),
    ],
)
def test_columns_are_there_in_their_years_and_versions_alone(
    columns: set[str], path: str, years: tuple[Calendar, ...], served: DemoApi, walk: Walk
) -> None:
    for year in (year for year, paths in PATHS.items() if path in paths):
        served.turn_to(year)
        shown = set().union(*walk(path, page_size=250))
        assert columns & shown == (columns if year in years else set())


def test_nested_fields_follow_the_year_and_the_version(served: DemoApi, walk: Walk) -> None:
    for year, has_layers in (("before", True), ("now", False), ("2027", False)):
        served.turn_to(year)
        shifts = [
            shift
            for row in walk("/v2/schedules")
            for shift in row["current_shifts"] + row["next_shifts"]
        ]
        assert {"layer_id" in shift for shift in shifts} == {has_layers}
    for row in served.rows("catalog_types"):
        manual = [attribute | {"mode": "manual"} for attribute in row["schema"]["attributes"]]
        served.change("catalog_types", row["id"], schema=row["schema"] | {"attributes": manual})
    for path, mode in (("/v2/catalog_types", "manual"), ("/v3/catalog_types", "dashboard")):
        attributes = [a for row in walk(path) for a in row["schema"]["attributes"]]
        assert {attribute["mode"] for attribute in attributes} == {mode}


def test_a_path_announces_what_it_is_told_to(served: DemoApi, get: Get) -> None:
    ends = "Thu, 31 Dec 2026 23:59:59 GMT"
    served.announce("/v2/actions", Sunset=ends, Deprecation="@1767225599")
    headers = get("/v2/actions").headers
    assert headers["Sunset"] == ends and headers["Deprecation"] == "@1767225599"
    assert "Sunset" not in get("/v3/actions").headers
    served.announce("/v2/actions")
    assert "Sunset" not in get("/v2/actions").headers


def test_a_fault_hits_the_path_that_serves_the_resource(served: DemoApi, get: Get) -> None:
    served.inject(Fault(status(503), resource="actions", nth=2))
    codes = [get(path).status_code for path in ("/v3/actions", "/v2/users", "/v2/actions")]
    assert codes == [200, 200, 503]
    served.heal()
    served.turn_to("before")
    served.inject(Fault(status(503), resource="actions"))
    assert [get(path).status_code for path in ("/v3/actions", "/v2/actions")] == [404, 503]
    served.inject(Fault(status(500), path="/v3/actions"))
    assert get("/v3/actions").status_code == 500


def test_the_command_takes_a_year() -> None:
    command = [
        *(sys.executable, "-m", "incident_assets", "demo", "serve"),
        *("--port", "0", "--incidents", "1"),
    ]
    with subprocess.Popen(
        [*command, "--calendar", "2027", "--gone", "410"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        found = re.search(r"BASE_URL=(\S+) INCIDENT_API_KEY=([^)]+)", process.stdout.readline())
        assert found
        headers = {"Authorization": f"Bearer {found[2]}"}
        answer = requests.get(f"{found[1]}/v2/actions", headers=headers, timeout=10)
        process.terminate()
    assert answer.status_code == 410
