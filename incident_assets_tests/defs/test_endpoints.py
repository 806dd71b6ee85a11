"""Rows from outside: a list endpoint that somebody adds is an asset like the thirteen."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from incident_assets.api.endpoints import CREATED, ID, Column, Endpoint, Way, text, whole
from incident_assets.api.outside import BadEndpoint
from incident_assets.build import build_definitions
from incident_assets.checks.catalog import CHECKS
from incident_assets.defs.translator import API_KEY, raw_key
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import read_rows, read_table

Execute = Callable[..., dg.ExecuteInProcessResult]

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLE = re.findall(r"^## Another list endpoint\n.*?```python\n(.*?)```", README, re.M | re.S)[0]
RUNBOOKS = Endpoint(
    name="runbooks",
    ways=(Way("/v1/runbooks"),),
    group="reference",
    grain="one row per runbook",
    description="What to do when it happens again.",
    columns=(ID, text("title", "Name that people read"), whole("steps", "How many there are")),
)
AFTER_LOAD = ("contract", "integrity", "loaded", "volume")


@pytest.fixture
def teams() -> Endpoint:
    """The row of the README's example, which is run as it stands there."""
    names: dict[str, Any] = {}
    exec(EXAMPLE, names)
    assert raw_key("teams") in names["defs"].resolve_asset_graph().get_all_asset_keys()
    return names["teams"]


@pytest.fixture
def lists(api: DemoApi) -> DemoApi:
    """The bundled API with 60 teams, in pages of 25, and three runbooks without pages."""
    member = api.rows("users")[0]["id"]
    api.open_list(
        "/v3/teams",
        [
            {
                "id": f"team-{number:02}",
                "name": f"Team {number}",
                "kind": "product",
                "members": [{"id": member}],
                "created_at": "2026-01-05T09:00:00Z",
            }
            for number in range(60)
        ],
        page_size=25,
    )
    api.open_list(
        "/v1/runbooks", [{"id": f"book-{n}", "title": f"Book {n}", "steps": n} for n in range(3)]
    )
    return api


def read_checks(result: dg.ExecuteInProcessResult, name: str) -> dict[str, bool]:
    """Return which checks of a resource were evaluated in a run, and whether they passed."""
    found = result.get_asset_check_evaluations()
    return {x.check_name: x.passed for x in found if x.asset_key == raw_key(name)}


@pytest.mark.slow
def test_rows_from_outside_go_through_the_job_of_their_group(
    lists: DemoApi, execute: Execute, teams: Endpoint
) -> None:
    own = [teams, RUNBOOKS]
    result = execute("sync_reference", endpoints=own)
    assert result.success
    assert [r.query.get("page_size") for r in lists.requests if r.resource == "teams"] == [
        ["25"]
    ] * 3
    assert [r.query for r in lists.requests if r.resource == "runbooks"] == [{}]
    for endpoint in own:
        assert set(read_table(endpoint.name)) == {x["id"] for x in lists.rows(endpoint.name)}
        assert read_checks(result, endpoint.name) == dict.fromkeys(AFTER_LOAD, True)
    types = {row["column_name"]: row["column_type"] for row in describe("teams")}
    assert types["members"] == "JSON" and types["created_at"] == "TIMESTAMP WITH TIME ZONE"
    assert {row["column_name"]: row["column_type"] for row in describe("runbooks")} == {
        "id": "VARCHAR",
        "title": "VARCHAR",
        "steps": "BIGINT",
        "_rescued": "JSON",
        "_deleted_at": "TIMESTAMP WITH TIME ZONE",
        "_valid_from": "TIMESTAMP WITH TIME ZONE",
        "_dlt_load_id": "VARCHAR",
    }

    lists.remove("teams", "team-30")
    lists.remove("runbooks", "book-0")
    lists.change("teams", "team-31", kind="unheard of", members=[{"id": "nobody"}])
    schedule = build_definitions(endpoints=own).resolve_schedule_def("sync_reference_schedule")
    result = execute(schedule.job_name, endpoints=own)
    assert result.success
    for name, gone in (("teams", "team-30"), ("runbooks", "book-0")):
        rows = read_table(name).values()
        assert [row["id"] for row in rows if row["_deleted_at"]] == [gone]
    assert read_checks(result, "teams") == {
        "contract": False,
        "integrity": False,
        "loaded": True,
        "volume": True,
    }
    assert read_checks(result, "runbooks") == dict.fromkeys(AFTER_LOAD, True)
    fresh = execute("check_freshness", endpoints=own)
    assert read_checks(fresh, "teams") == read_checks(fresh, "runbooks") == {"freshness": True}


def describe(name: str) -> list[dict[str, Any]]:
    return read_rows(f"DESCRIBE incident_api.{name}")


@pytest.mark.parametrize(("group", "other"), [("live", "reference"), ("reference", "live")])
def test_a_row_from_outside_is_described_and_in_the_jobs_of_its_group_alone(
    group: Any, other: str
) -> None:
    definitions = build_definitions(endpoints=[replace(RUNBOOKS, group=group)])
    spec = definitions.resolve_asset_graph().get(raw_key("runbooks"))
    assert spec.group_name == group and spec.parent_keys == {API_KEY}
    assert spec.metadata["dagster/table_name"] == "incident_api.runbooks"
    assert spec.metadata["endpoint"] == "/v1/runbooks"
    assert [c.name for c in spec.metadata["dagster/column_schema"].columns][:3] == [
        "id",
        "title",
        "steps",
    ]
    for job in (f"sync_{group}", "sync_all", "full_refresh"):
        layer = definitions.resolve_job_def(job).asset_layer
        assert raw_key("runbooks") in layer.executable_asset_keys
    left_out = definitions.resolve_job_def(f"sync_{other}").asset_layer.executable_asset_keys
    assert raw_key("runbooks") not in left_out
    # The next definitions know nothing of it.
    keys = build_definitions().resolve_asset_graph().get_all_asset_keys()
    assert raw_key("runbooks") not in keys and raw_key("users") in keys


# Words of SQL and of our own code are names like any other.
@pytest.mark.parametrize("name", ["runbooks", "order", "table", "connection"])
def test_a_row_from_outside_syncs_without_dagster(
    name: str, api: DemoApi, settings: Settings
) -> None:
    api.open_list(f"/v1/{name}", [{"id": f"{n}", "title": "", "steps": n} for n in range(3)])
    row = alter(name=name, ways=(Way(f"/v1/{name}"),))
    (outcome,) = run_sync(settings, [name], endpoints=[row])
    assert outcome.failure is None and outcome.rows == outcome.table_rows == 3
    assert {r.resource for r in api.requests if r.resource} == {name}
    (outcome,) = run_sync(settings, [name], changes=True, endpoints=[row])
    assert (outcome.listing, outcome.rows, outcome.changed) == ("full", 3, 0)
    (outcome,) = run_sync(settings, [name], full_refresh=True, endpoints=[row])
    assert outcome.failure is None and outcome.table_rows == 3
    with duckdb.connect(settings.database, read_only=True) as connection:
        assert all(check.find(connection, row).passed for check in CHECKS)


def alter(**fields: Any) -> Endpoint:
    return replace(RUNBOOKS, **fields)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([alter(name="users")], "'users' cannot be added: there is one of that name"),
        ([alter(ways=(Way("/v2/users"),))], "'runbooks' .*: /v2/users is the path of 'users'"),
        (
            [alter(ways=(Way("/v9/runbooks"), Way("/v2/actions")))],
            "'runbooks' .*: /v2/actions is the path of 'actions'",
        ),
        ([RUNBOOKS, alter(ways=(Way("/v2/x"),))], "'runbooks' .*: there is one of that name"),
        ([RUNBOOKS, alter(name="books")], "'books' .*: /v1/runbooks is the path of 'runbooks'"),
        ([alter(name="Run-books")], "'Run-books' .*: its name is no table's"),
        ([alter(ways=(Way("v1/runbooks"),))], "'runbooks' .*: 'v1/runbooks' is no path"),
        ([alter(ways=(Way("/v2/users/"),))], "'runbooks' .*: '/v2/users/' is no path"),
        ([alter(ways=())], "'runbooks' .*: it has no way to be asked for"),
        ([alter(group="daily")], "'runbooks' .*: its group 'daily' is none of live, reference"),
        ([alter(columns=(CREATED, ID))], "'runbooks' .*: its first column has to be ID"),
        ([alter(columns=(ID, CREATED, CREATED))], "'runbooks' .*: a column is there twice"),
        ([alter(columns=(ID, Column("_rescued", "json", "")))], "is one of the loader's"),
        ([alter(columns=(ID, Column("Title", "text", "")))], "'runbooks' .*: 'Title' is no column"),
        ([alter(optional=("x",))], "'runbooks' .*: the path 'x' begins with none of its columns"),
        (
            [alter(references={"owners[].id": "users"})],
            r"the path 'owners\[\].id' begins with none",
        ),
        ([alter(enums={"owner.role": ("lead",)})], "the path 'owner.role' begins with none"),
    ],
)
def test_a_row_that_cannot_stand_in_the_table_is_refused_by_name(
    rows: list[Endpoint], text: str
) -> None:
    with pytest.raises(BadEndpoint, match=text):
        build_definitions(endpoints=rows)
    assert issubclass(BadEndpoint, ValueError)
