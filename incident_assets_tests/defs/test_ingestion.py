"""Materialisation through Dagster: events, subsets, failures, and assets built on raw tables."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from incident_assets.build import build_definitions
from incident_assets.demo.server import DemoApi
from incident_assets.models.catalog import read_models
from incident_assets.sync import run, stages
from incident_assets_tests.conftest import (
    KEY,
    NAMES,
    count_rows,
    read_rows,
    read_table,
    run_command,
)

Execute = Callable[..., dg.ExecuteInProcessResult]


def materialised(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Return the metadata of each materialisation by the last part of its asset's key."""
    return {
        event.asset_key.path[-1]: {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def test_sync_all_materialises_everything_twice(api: DemoApi, execute: Execute) -> None:
    for _ in range(2):
        result = execute("sync_all")
        assert result.success
        events = materialised(result)
        others = {"reliability_report", "log", "published_copy"}
        assert set(events) == {*NAMES, *read_models(), *others}
        for name in NAMES:
            assert events[name]["dagster/row_count"] == len(api.rows(name))
            assert events[name]["rows_listed"] == len(api.rows(name))
            assert events[name]["requests"] >= 1 and events[name]["load_id"]
    assert count_rows() == {name: len(api.rows(name)) for name in NAMES}


def test_an_empty_resource_reports_zero_rows(api: DemoApi, execute: Execute) -> None:
    api.empty("workflows")
    event = materialised(execute())["workflows"]
    assert event["rows_listed"] == event["dagster/row_count"] == 0


def test_a_resource_that_cannot_be_loaded_costs_the_others_no_materialisation(
    api: DemoApi, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MEMORY", "64MB")
    monkeypatch.setattr(stages, "LIFT_LIMIT", "SET memory_limit = '64MB'")
    too_long = {"name": "x" * 20_000_000}
    api.change("incidents", api.rows("incidents")[0]["id"], severity=too_long)
    result = execute()
    assert not result.success
    assert set(materialised(result)) == {*NAMES, "log", "published_copy"} - {"incidents"}
    loaded = {x.asset_key.path[-1]: x.passed for x in result.get_asset_check_evaluations()}
    assert [name for name, passed in loaded.items() if not passed and name in NAMES] == [
        "incidents"
    ]
    assert count_rows() == {name: len(api.rows(name)) for name in NAMES} | {"incidents": 0}


@pytest.mark.fault(
    "one resource cannot be read",
    "assets that need only the others are built, those that need it are skipped, the run fails",
    "what the resource had",
)
def test_one_bad_resource_fails_the_run_and_costs_the_others_nothing(
    api: DemoApi, execute: Execute
) -> None:
    @dg.asset(ins={"users": dg.AssetIn(["incident_api", "users"])})
    def needs_users(users: pa.Table) -> pa.Table:
        return users.select(["id"])

    @dg.asset(ins={"workflows": dg.AssetIn(["incident_api", "workflows"])})
    def needs_workflows(workflows: pa.Table) -> pa.Table:
        return workflows

    api.forbid("workflows")
    result = execute(assets=[needs_users, needs_workflows])
    assert not result.success
    assert set(materialised(result)) == {*NAMES, "log", "published_copy", "needs_users"} - {
        "workflows"
    }
    failure = next(event for event in result.all_events if event.is_step_failure)
    text = str(failure.event_specific_data.error)
    assert "workflows: 403" in text and "The key lacks workflows.view" in text
    assert read_rows("SELECT count(*) AS n FROM main.needs_users")[0]["n"] == len(api.rows("users"))


def test_the_live_job_lists_by_changes_and_a_refresh_drops_what_is_gone(
    api: DemoApi, execute: Execute
) -> None:
    assert execute().success
    live = materialised(execute("sync_live"))
    assert live["incidents"]["listing"] == "changes"
    assert live["actions"]["listing"] == "changes" and live["incidents"]["rows_changed"] == 0
    gone = api.rows("users")[0]["id"]
    api.remove("users", gone)
    assert materialised(execute())["users"]["rows_deleted"] == 1
    assert gone in read_table("users")
    refreshed = materialised(execute("full_refresh"))
    assert refreshed["users"]["rows_deleted"] == 1
    assert gone not in read_table("users")
    asked = [(x["listing"], x["full_refresh"]) for x in (live["log"], refreshed["log"])]
    assert asked == [("changes", False), ("full", True)]
    assert refreshed["users"]["full_refresh"] and not live["incidents"]["full_refresh"]
    accepting = materialised(execute(config={"accept_loss": ["users"]}))
    assert accepting["users"]["accept_loss"] and not accepting["actions"]["accept_loss"]
    assert accepting["log"]["accept_loss"] == ["users"]


def test_a_subset_requests_itself_alone_and_raises_without_the_check(
    api: DemoApi, instance: dg.DagsterInstance
) -> None:
    job = build_definitions().resolve_implicit_global_asset_job_def()

    def run(name: str) -> dg.ExecuteInProcessResult:
        key = dg.AssetKey(["incident_api", name])
        return job.execute_in_process(
            asset_selection=[key], instance=instance, raise_on_error=False
        )

    assert run("users").success
    assert {r.resource for r in api.requests if r.resource} == {"users"}
    api.forbid("users")
    assert not run("users").success


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("INCIDENT_API_BASE_URL", "", "INCIDENT_API_BASE_URL is not set"),
        ("INCIDENT_API_KEY", "", "set INCIDENT_API_KEY"),
        ("INCIDENT_DUCKDB_PATH", "/proc/none/x.duckdb", "INCIDENT_DUCKDB_PATH"),
    ],
)
def test_bad_settings_fail_the_run_with_one_message(
    variable: str, value: str, text: str, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    result = execute()
    assert not result.success
    failures = [event for event in result.all_events if event.is_step_failure]
    assert [event.step_key for event in failures] == ["sync"]
    assert text in str(failures[0].event_specific_data.error)


def test_the_key_is_in_no_event(
    api: DemoApi, execute: Execute, instance: dg.DagsterInstance
) -> None:
    api.forbid("workflows")
    result = execute()
    for entry in instance.all_logs(result.run_id):
        assert KEY not in entry.to_json()


@pytest.mark.slow
def test_job_execute_is_a_plain_command(api: DemoApi) -> None:
    result = run_command(
        "dagster", "job", "execute", "-m", "incident_assets.definitions", "-j", "sync_all"
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert count_rows() == {name: len(api.rows(name)) for name in NAMES}
    assert KEY not in result.stdout + result.stderr
