"""The API's versions: the newest that is there answers, and going between them loses nothing."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from incident_assets.api.endpoints import ENDPOINTS, find_endpoint
from incident_assets.checks.contract import check_contract
from incident_assets.checks.finding import Finding
from incident_assets.demo.faults import Effect, Fault, edit, hang, html, rate_limited, status
from incident_assets.demo.server import DemoApi
from incident_assets.demo.versions import CAME_AFTER_AUGUST, Calendar, Gone
from incident_assets.settings import Settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.columns import DUCKDB_TYPES
from incident_assets_tests.conftest import NAMES, read_rows, read_table, run_command
from incident_assets_tests.rebuilding import find_way, read_upstream, rebuild

Sync = Callable[..., dict[str, Outcome]]
YEARS: list[tuple[Calendar, Gone]] = [
    ("before", "404"),
    ("now", "404"),
    ("2027", "404"),
    ("2027", "410"),
    ("2027", "redirect"),
    ("2027", "empty"),
]
TWO_WAYS = [endpoint.name for endpoint in ENDPOINTS if len(endpoint.ways) > 1]
NEWEST = {endpoint.name: endpoint.newest.path for endpoint in ENDPOINTS}


def assert_same_as_shown(api: DemoApi, but: Sequence[str] = ()) -> None:
    """Compare all tables with what the API shows, in the columns that its version has."""
    for endpoint in ENDPOINTS:
        left_out = {*find_way(api, endpoint).lacks, *but}
        table, shown = read_table(endpoint.name), read_upstream(api, endpoint)
        assert all(row["_deleted_at"] is None for row in table.values())
        rows = {key: rebuild(endpoint, row) for key, row in table.items()}
        assert [_drop(row, left_out) for row in rows.values()] == [
            _drop(shown[key], left_out) for key in rows
        ], endpoint.name
        assert rows.keys() == shown.keys()


def _drop(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def judge(name: str) -> Finding:
    """Return what the contract check finds of a resource."""
    with duckdb.connect("data/incidents.duckdb", read_only=True) as connection:
        return check_contract(connection, find_endpoint(name))


@pytest.mark.slow
@pytest.mark.fault(
    "a path that ends: 404, 410, a redirect, or 200 with an empty list",
    "the API's newest path is asked first, and the one before it where that is not there",
    "every row of all thirteen, before and after 31 December 2026",
)
@pytest.mark.parametrize(("year", "gone"), YEARS)
def test_all_thirteen_load_in_every_year(
    year: Calendar, gone: Gone, api: DemoApi, sync: Sync
) -> None:
    api.turn_to(year, gone=gone)
    outcomes = sync()
    assert not any(outcome.failure for outcome in outcomes.values())
    assert_same_as_shown(api)
    answered = {name: find_way(api, find_endpoint(name)).path for name in NAMES}
    assert {name: outcome.path for name, outcome in outcomes.items()} == answered
    logged = read_rows("SELECT resource, path FROM incident_sync.log")
    assert {row["resource"]: row["path"] for row in logged} == answered
    findings = {name: judge(name) for name in NAMES}
    assert {name: f.description for name, f in findings.items() if not f.passed} == {}


@pytest.mark.slow
def test_a_database_goes_through_the_years(api: DemoApi, settings: Settings) -> None:
    for number, year in enumerate[Calendar](["before", "now", "2027", "before"]):
        api.turn_to(year)
        for changes in (True, False):
            for name in ("actions", "follow_ups", "incidents", "catalog_types"):
                row = api.rows(name)[number]
                api.change(name, row["id"], description=f"Edited in {year}, {changes}")
            outcomes = run_sync(settings, NAMES, changes=changes)
            assert not any(outcome.failure for outcome in outcomes)
            assert sum(outcome.deleted for outcome in outcomes) == 0
            # What incidents have had since August comes with their next full listing.
            new = CAME_AFTER_AUGUST["/v2/incidents"]
            assert_same_as_shown(api, but=new if changes else ())


@pytest.mark.slow
def test_a_version_writes_only_what_differs_in_its_columns(api: DemoApi, sync: Sync) -> None:
    sync()
    kept = read_table("follow_ups")
    assert any(row["category"] for row in kept.values())
    api.turn_to("before")
    outcomes = sync()
    assert {x.resource for x in outcomes.values() if x.changed} == {
        "incidents",
        "schedules",
        "workflows",
    }
    assert read_table("follow_ups") == kept
    edited = next(key for key, row in kept.items() if row["category"])
    api.change("follow_ups", edited, title="Edited where there is no category")
    assert sync("follow_ups")["follow_ups"].changed == 1
    row = read_table("follow_ups")[edited]
    assert (row["title"], row["category"]) == (
        "Edited where there is no category",
        kept[edited]["category"],
    )
    run_command("incident_assets", "sync", "--select", "follow_ups", "--full-refresh")
    assert read_table("follow_ups")[edited]["category"] == kept[edited]["category"]


def test_an_api_of_one_version_costs_a_request_more_per_resource(api: DemoApi, sync: Sync) -> None:
    api.turn_to("before")
    outcomes = sync()
    missing = [request.path for request in api.requests if request.status == 404]
    assert sorted(missing) == sorted(NEWEST[name] for name in TWO_WAYS)
    assert outcomes["catalog_types"].requests == 2
    assert judge("actions").passed and judge("catalog_types").passed


@pytest.mark.slow
def test_one_bad_night_of_404s_is_a_warning_and_changes_nothing(api: DemoApi, sync: Sync) -> None:
    sync()
    before = {name: read_table(name) for name in TWO_WAYS}
    for name in before:
        api.inject(Fault(status(404), path=NEWEST[name]))
    outcomes = sync(*before)
    assert not any(outcome.failure or outcome.changed for outcome in outcomes.values())
    assert {name: read_table(name) for name in before} == before
    for name in before:
        finding = judge(name)
        assert not finding.passed and finding.severity == "warning"
        assert f"no longer {NEWEST[name]}" in finding.description
    api.heal()
    sync(*before)
    assert all(judge(name).passed for name in before)


@pytest.mark.parametrize("answer", [status(405), status(410), status(501), html()])
def test_what_says_that_nothing_is_there_leads_to_the_older_path(
    answer: Effect, api: DemoApi, sync: Sync
) -> None:
    api.inject(Fault(answer, path="/v3/actions"))
    outcome = sync("actions")["actions"]
    assert (outcome.failure, outcome.path, outcome.rows) == (
        None,
        "/v2/actions",
        len(api.rows("actions")),
    )


@pytest.mark.parametrize(
    "answer",
    [status(401), status(403), status(422), rate_limited(0), status(500), hang(3)],
    ids=["401", "403", "422", "429", "500", "timeout"],
)
def test_what_says_anything_else_does_not(
    answer: Effect, api: DemoApi, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.inject(Fault(answer, path="/v3/actions"))
    settings = Settings(base_url=api.url, backoff=0.01, read_timeout=0.2)
    (outcome,) = run_sync(settings, ["actions"])
    assert outcome.failure and "/v2" not in str(outcome.failure)
    assert {x.path for x in api.requests if x.resource == "actions"} <= {"/v3/actions"}


def test_a_walk_that_has_begun_stays_with_its_version(api: DemoApi, sync: Sync) -> None:
    for _ in range(300):
        api.add("actions")
    api.inject(Fault(status(404), path="/v3/actions", nth=2))
    outcome = sync("actions")["actions"]
    assert "404" in str(outcome.failure)
    assert {x.path for x in api.requests if x.resource == "actions"} == {"/v3/actions"}


def test_a_resource_that_is_nowhere_names_both_paths_once(api: DemoApi, sync: Sync) -> None:
    api.turn_to("2027", gone="410")
    api.inject(Fault(status(404), path="/v3/actions"))
    outcomes = sync()
    failed = [outcome for outcome in outcomes.values() if outcome.failure]
    assert [outcome.resource for outcome in failed] == ["actions"]
    text = str(failed[0].failure)
    assert "/v3/actions (404" in text and "nor /v2/actions (410" in text and "req-" in text


def test_an_address_where_nothing_is_names_the_base_url_once(api: DemoApi) -> None:
    outcomes = run_sync(Settings(base_url=api.url + "/nowhere", backoff=0.01), NAMES)
    reasons = {str(outcome.failure) for outcome in outcomes}
    assert len(reasons) == 1
    assert f"INCIDENT_API_BASE_URL ({api.url}/nowhere)" in reasons.pop()


@pytest.mark.fault(
    "the older path answers 200 with an empty list while the newer is not there",
    "nothing counts as deleted",
    "every row",
)
def test_an_empty_older_path_marks_nothing(api: DemoApi, sync: Sync) -> None:
    sync("actions")
    api.turn_to("2027", gone="empty")
    api.inject(Fault(status(404), path="/v3/actions"))
    sync("actions")
    assert all(row["_deleted_at"] is None for row in read_table("actions").values())


def test_a_sunset_header_is_a_finding_with_its_date(api: DemoApi, sync: Sync) -> None:
    date = "Thu, 31 Dec 2026 23:59:59 GMT"
    api.announce("/v1/severities", Sunset=date, Deprecation="@1798761599")
    sync("severities")
    description = judge("severities").description
    assert f"Sunset: {date}" in description and "Deprecation: @1798761599" in description
    api.announce("/v1/severities")
    sync("severities")
    assert judge("severities").passed


def test_a_text_that_was_scrubbed_is_seen_by_a_full_listing(api: DemoApi, sync: Sync) -> None:
    sync("incident_updates")
    update = api.rows("incident_updates")[0]["id"]
    api.change("incident_updates", update, message="[removed]")
    assert sync("incident_updates")["incident_updates"].changed == 1
    assert read_table("incident_updates")[update]["message"] == "[removed]"


def test_what_is_said_of_the_path_of_statuses_is_not_said_of_incidents(
    api: DemoApi, sync: Sync
) -> None:
    before = sync("incidents")["incidents"]
    api.announce("/v1/incident_statuses", Sunset="Thu, 31 Dec 2026 23:59:59 GMT")
    outcome = sync("incidents")["incidents"]
    assert (outcome.notice, outcome.requests) == ("", before.requests)
    assert "Sunset" in sync("incident_statuses")["incident_statuses"].notice


def test_v3_pages_are_whole(api: DemoApi, sync: Sync) -> None:
    api.empty("follow_ups")
    for _ in range(250):  # a full page, whose cursor leads to an empty one
        api.add("follow_ups", api.rows("actions")[0] | {"id": f"F{_:03}", "title": "T"})
    outcome = sync("follow_ups")["follow_ups"]
    assert (outcome.failure, outcome.rows) == (None, 250)
    asked = [x for x in api.requests if x.resource == "follow_ups"]
    assert len(asked) == 5  # four modes, and the empty page
    api.inject(Fault(edit(lambda body: body.pop("pagination_meta") and None), path="/v3/actions"))
    outcome = sync("actions")["actions"]
    assert "no pagination_meta" in str(outcome.failure) and outcome.path == "/v3/actions"


NEW = {
    *CAME_AFTER_AUGUST["/v2/incidents"],
    *CAME_AFTER_AUGUST["/v2/workflows"],
    *(name for endpoint in ENDPOINTS for name in endpoint.ways[-1].lacks),
}
# As the program of before knew it: the seed's paths, and none of the columns since August.
AUGUST = [
    replace(
        endpoint,
        ways=(replace(endpoint.ways[-1], lacks=()),),
        columns=tuple(column for column in endpoint.columns if column.name not in NEW),
        enums={path: known for path, known in endpoint.enums.items() if path not in NEW},
    )
    for endpoint in ENDPOINTS
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [True, False])
def test_a_database_of_the_program_of_before_is_synced(
    changes: bool, api: DemoApi, settings: Settings
) -> None:
    odd, workflow = api.rows("workflows")[0]["id"], api.rows("workflows")[1]["id"]
    value = {"not": "a text", "none": None}
    api.change("workflows", odd, auto_run_mode=value, version="two")
    run_sync(settings, NAMES, endpoints=AUGUST)
    assert read_table("workflows")[workflow]["auto_run_mode"] == '"run_automatically"'
    outcomes = {x.resource: x for x in run_sync(settings, NAMES, changes=changes)}
    assert not any(outcome.failure for outcome in outcomes.values())
    assert sum(outcome.deleted for outcome in outcomes.values()) == 0
    assert outcomes["workflows"].changed == outcomes["incidents"].changed == 0
    assert_same_as_shown(api)
    rescued = {"auto_run_mode": value, "version": "two"}
    assert json.loads(read_table("workflows")[odd]["_rescued"]) == rescued
    assert judge("incidents").passed and "rescued" in judge("workflows").description
    run_sync(settings, NAMES)
    assert_same_as_shown(api)


def test_a_database_without_history_or_versions_is_synced(api: DemoApi, loaded: Settings) -> None:
    with duckdb.connect(str(loaded.database)) as connection:  # as 0.1.0 has written it
        for name in NAMES:
            connection.execute(f"ALTER TABLE incident_api.{name} DROP COLUMN _valid_from")
        connection.execute("DROP SCHEMA incident_history CASCADE")
        for (table,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() "
            "WHERE schema_name = 'incident_sync' AND table_name <> 'log'"
        ).fetchall():
            connection.execute(f"DROP TABLE incident_sync.{table}")
        connection.execute("DELETE FROM incident_api._dlt_version")
    api.forbid("users")
    outcomes = run_sync(loaded, NAMES)
    assert [x.resource for x in outcomes if x.failure] == ["users"]
    api.permit("users")
    outcomes += run_sync(loaded, NAMES, changes=True)
    assert not any(x.failure for x in outcomes[len(NAMES) :])
    assert sum(x.changed + x.deleted for x in outcomes) == 0
    lacking = " UNION ALL ".join(f"SELECT _valid_from FROM incident_api.{x}" for x in NAMES)
    assert read_rows(f"SELECT count(*) AS n FROM ({lacking}) WHERE _valid_from IS NULL") == [
        {"n": 0}
    ]
    api.change("users", api.rows("users")[0]["id"], name="Renamed")
    run_sync(loaded, NAMES)
    assert len(read_rows("FROM incident_history.users")) == 1


def test_a_column_that_somebody_dropped_comes_back_though_it_is_empty(
    api: DemoApi, sync: Sync, settings: Settings
) -> None:
    column = find_endpoint("severities").columns[-1]
    for row in api.rows("severities"):
        api.change("severities", row["id"], **{column.name: None})
    sync("severities")
    with duckdb.connect(str(settings.database)) as connection:
        connection.execute(f"ALTER TABLE incident_api.severities DROP COLUMN {column.name}")
    assert sync("severities")["severities"].changed == 0
    (found,) = read_rows(
        "SELECT data_type, comment FROM duckdb_columns() WHERE schema_name = 'incident_api' "
        f"AND table_name = 'severities' AND column_name = '{column.name}'"
    )
    assert found == {"data_type": DUCKDB_TYPES[column.type], "comment": column.description}


def test_a_column_that_history_lacks_too_is_made_where_a_row_has_changed(
    api: DemoApi, sync: Sync, settings: Settings
) -> None:
    column = find_endpoint("severities").columns[-1].name
    sync("severities")
    with duckdb.connect(str(settings.database)) as connection:
        for schema in ("incident_api", "incident_history"):
            connection.execute(f"ALTER TABLE {schema}.severities DROP COLUMN {column}")
    row, gone = api.rows("severities")[:2]
    api.change("severities", row["id"], name="Renamed")
    api.remove("severities", gone["id"])
    outcome = sync("severities")["severities"]
    assert (outcome.failure, outcome.deleted) == (None, 1)
    ended = {x["id"] for x in read_rows("FROM incident_history.severities")}
    assert ended >= {row["id"], gone["id"]}


def test_a_version_of_a_row_has_the_column_in_its_new_type(
    api: DemoApi, settings: Settings
) -> None:
    workflow = api.rows("workflows")[0]
    run_sync(settings, ["workflows"], endpoints=AUGUST)
    api.change("workflows", workflow["id"], name="Renamed")
    run_sync(settings, ["workflows"])
    (version,) = read_rows("FROM incident_history.workflows WHERE _ended = 'changed'")
    assert version["auto_run_mode"] == workflow["auto_run_mode"]


def test_an_instant_of_before_that_python_cannot_hold_is_rescued(
    api: DemoApi, settings: Settings
) -> None:
    endless, late = api.rows("incidents")[:2]  # so old that no sync by changes lists them
    for row, value in ((endless, "infinity"), (late, "9999-12-31T23:59:59-12:00")):
        fields = {"updated_at": row["updated_at"], "last_activity_at": value}
        api.change("incidents", row["id"], **fields)
    run_sync(settings, ["incidents"], endpoints=AUGUST)
    run_sync(settings, ["incidents"], changes=True)
    for row, value in ((endless, "infinity"), (late, "9999-12-31T23:59:59-12:00")):
        stored = read_table("incidents")[row["id"]]
        assert stored["last_activity_at"] is None
        assert json.loads(stored["_rescued"]) == {"last_activity_at": value}


def test_readiness_says_which_version_answers(api: DemoApi) -> None:
    api.turn_to("before")
    result = run_command("incident_assets", "check")
    assert "readable at /v2/actions" in result.stdout
    api.turn_to("now")
    result = run_command("incident_assets", "check")
    assert "readable at /v3/actions" in result.stdout
