"""Models through Dagster: one step each, skipped alone, blocked on a broken key, well described."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from incident_assets.build import build_definitions
from incident_assets.defs.models import model_key
from incident_assets.demo.server import DemoApi
from incident_assets.models.catalog import read_models
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import publish, read_rows
from incident_assets_tests.defs.test_ingestion import materialised
from incident_assets_tests.killing import read_database, start_run
from incident_assets_tests.modelling import build_all

Build = Callable[..., dg.ExecuteInProcessResult]
DATABASE = "data/incidents.duckdb"
MODELS = set(read_models())
OF_UPDATES = {"fct_status_transition", "fct_incident", "fct_incident_change"}
MARTS = {name for name in MODELS if name.startswith("mart_")}


@pytest.fixture
def build(loaded: Settings, instance: dg.DagsterInstance) -> Build:
    """Build the named models (all if none) on a database that has been synced."""
    job = build_definitions().resolve_implicit_global_asset_job_def()

    def run(*names: str) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            asset_selection=[model_key(name) for name in names or MODELS],
            instance=instance,
            raise_on_error=False,
        )

    return run


def change_database(sql: str) -> None:
    with duckdb.connect(DATABASE) as connection:
        connection.execute(sql)


@pytest.mark.slow
def test_every_model_is_materialised_with_rows_of_the_columns_that_it_says(
    api: DemoApi, build: Build, loaded: Settings
) -> None:
    # Nobody raises a severity in this account, and there is a model of those that were.
    highest = max(api.rows("severities"), key=lambda row: row["rank"])
    raised = next(
        incident["id"]
        for incident in api.rows("incidents")
        if incident["mode"] == "standard"
        and incident["incident_status"]["category"] == "closed"
        and incident["severity"]["id"] != highest["id"]
    )
    api.change("incidents", raised, severity=highest)
    run_sync(loaded, ["incidents"])
    events = materialised(build())
    assert set(events) == MODELS
    graph = build_definitions().resolve_asset_graph()
    for name, model in read_models().items():
        event = events[name]
        (row,) = read_rows(f"SELECT count(*) AS n FROM incident_analytics.{name}")
        assert event["dagster/row_count"] == row["n"] > 0
        assert (event["unchanged"], "dagster/column_schema" in event) == (False, False)
        said = graph.get(model_key(name)).metadata
        assert said["dagster/table_name"] == f"incident_analytics.{name}"
        columns = said["dagster/column_schema"].columns
        types = read_rows(f"DESCRIBE incident_analytics.{name}")
        there = [(row["column_name"], row["column_type"]) for row in types]
        assert there == [(c.name, c.type) for c in columns]
        assert said["dagster/column_lineage"].deps_by_column.keys() == {c.name for c in columns}
        assert {c.name for c in columns if not c.constraints.nullable} == {*model.grain}
    publish(loaded)
    assert read_database(str(loaded.published_copy)) == read_database()


def test_models_are_described_before_they_are_built() -> None:
    graph = build_definitions().resolve_asset_graph()
    keys = graph.get_all_asset_keys()
    for name, model in read_models().items():
        spec = graph.get(model_key(name))
        assert (spec.group_name, spec.kinds) == ("analytics", {"duckdb", "sql"})
        assert spec.parent_keys and spec.parent_keys <= keys
        assert spec.description and model.sql in spec.description
        schema = spec.metadata["dagster/column_schema"]
        assert all(column.type and column.description for column in schema.columns)
        for sources in spec.metadata["dagster/column_lineage"].deps_by_column.values():
            assert {source.asset_key for source in sources} <= spec.parent_keys
        written = spec.metadata["column lineage"].md_str.splitlines()[2:]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in written]
        assert [row[0] for row in cells] == [column.name for column in model.columns]
        assert all(made_from and behind for _, made_from, behind in cells)
        for column, (_, made_from, _) in zip(schema.columns, cells, strict=True):
            assert column.description.endswith(f" (from {made_from})")
        (file,) = spec.metadata["dagster/code_references"].code_references
        assert Path(file.file_path).read_text() == model.sql
        hours = spec.freshness_policy.fail_window.to_timedelta().total_seconds() / 3600
        assert hours == (4 if name.startswith("dim_") or name == "fct_on_call_shift" else 1)


@pytest.mark.slow
@pytest.mark.fault(
    "a model needs a table that could not be read",
    "it is skipped with what is built on it; the other models are built, and the run fails",
    "the model's table of before",
)
def test_a_model_whose_table_could_not_be_read_is_skipped_alone(
    api: DemoApi, loaded: Settings, execute: Build
) -> None:
    build_all(loaded.database)
    before = read_database()
    api.forbid("users")
    api.change("severities", api.rows("severities")[0]["id"], name="Renamed")
    result = execute("sync_all")
    assert not result.success
    events = materialised(result)
    assert MODELS & set(events) == MODELS - {"dim_user", "mart_responder_load"}
    after = read_database()
    for name in ("dim_user", "mart_responder_load"):
        assert after[f"incident_analytics.{name}"] == before[f"incident_analytics.{name}"]
    assert "Renamed" in {row[1] for row in after["incident_analytics.dim_severity"]}


def test_a_model_of_a_table_that_was_never_selected_is_skipped_and_says_why(
    build: Build, instance: dg.DagsterInstance
) -> None:
    change_database("DROP TABLE incident_api.incident_updates")
    result = build()
    assert result.success
    assert set(materialised(result)) == MODELS - OF_UPDATES - MARTS
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert "skipped, since nothing is there yet: incident_api.incident_updates" in messages
    # Alone too, where nothing before it in the run is skipped.
    result = build("mart_incident_weekly")
    assert result.success and not materialised(result)


@pytest.mark.slow
def test_a_broken_key_is_an_error_that_keeps_the_old_table_and_blocks(
    build: Build, loaded: Settings
) -> None:
    build_all(loaded.database)
    before = read_database()
    change_database(
        "INSERT INTO incident_api.severities SELECT * REPLACE ('Twice' AS name) "
        "FROM incident_api.severities LIMIT 1"
    )
    result = build()
    assert not result.success
    assert set(materialised(result)) == MODELS - {
        "dim_severity",
        "mart_incident_weekly",
        "mart_severity_changes",
    }
    (broken,) = (x for x in result.get_asset_check_evaluations() if not x.passed)
    assert broken.asset_key == model_key("dim_severity")
    assert broken.severity == dg.AssetCheckSeverity.ERROR
    assert broken.metadata["broken keys"].value == 1
    name = "incident_analytics.dim_severity"
    assert read_database()[name] == before[name]


def test_a_broken_key_fails_a_run_that_selects_no_checks(
    loaded: Settings, instance: dg.DagsterInstance
) -> None:
    change_database("INSERT INTO incident_api.severities FROM incident_api.severities LIMIT 1")
    model = dg.AssetSelection.assets(model_key("dim_severity")).without_checks()
    jobs = [dg.define_asset_job("unchecked", model)]
    definitions = dg.Definitions.merge(build_definitions(), dg.Definitions(jobs=jobs))
    job = definitions.resolve_job_def("unchecked")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success and not materialised(result)


def test_a_wrong_setting_fails_the_models_that_read_it(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_FOLLOW_UP_SLA", "Urgent=soon")
    result = build()
    failed = [event for event in result.all_events if event.is_step_failure]
    assert [event.step_key for event in failed] == ["fct_follow_up"]
    assert "INCIDENT_FOLLOW_UP_SLA" in str(failed[0].event_specific_data.error)
    skipped = {"fct_follow_up", "mart_follow_up_ageing", "mart_follow_up_flow"}
    assert MODELS - set(materialised(result)) == skipped


def test_a_moment_without_a_timestamp_is_a_warning_on_its_model(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_database("UPDATE incident_api.incident_timestamps SET name = 'Done' WHERE rank = 8")
    for timestamps in ("", "fixed=Done"):
        monkeypatch.setenv("INCIDENT_TIMESTAMPS", timestamps)
        result = build("dim_moment")
        assert result.success
        found = {x.check_name: x for x in result.get_asset_check_evaluations()}
        assert found["grain"].passed
        assert found["moments"].passed == bool(timestamps)
        assert found["moments"].severity == dg.AssetCheckSeverity.WARN
    key = dg.AssetCheckKey(model_key("dim_moment"), "moments")
    alone = dg.define_asset_job("alone", dg.AssetSelection.checks(key))
    definitions = dg.Definitions.merge(build_definitions(), dg.Definitions(jobs=[alone]))
    result = definitions.resolve_job_def("alone").execute_in_process(raise_on_error=False)
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.passed and not materialised(result)


def test_the_check_of_a_grain_can_be_run_alone(build: Build) -> None:
    build("dim_severity")
    change_database("INSERT INTO incident_analytics.dim_severity (name) VALUES ('No key')")
    key = dg.AssetCheckKey(model_key("dim_severity"), "grain")
    alone = dg.define_asset_job("alone", dg.AssetSelection.checks(key))
    definitions = dg.Definitions.merge(build_definitions(), dg.Definitions(jobs=[alone]))
    result = definitions.resolve_job_def("alone").execute_in_process(raise_on_error=False)
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed and not materialised(result)
    assert len(read_rows("SELECT * FROM incident_analytics.dim_severity")) == 6


@pytest.mark.fault(
    "the process is killed (-9) while a model is replaced",
    "the next run builds it",
    "the model's table of before, whole",
)
def test_a_kill_in_the_middle_of_a_model_keeps_the_old_table(
    loaded: Settings, tmp_path: Path
) -> None:
    build_all(loaded.database)
    before = read_database()
    change_database("UPDATE incident_api.incidents SET name = 'New'")
    process = start_run(tmp_path, "build_models", "half a model")
    process.join(60)
    assert process.exitcode == -9
    kept = read_database()
    assert kept.keys() == before.keys()
    for name in MODELS:
        rows = kept[f"incident_analytics.{name}"]
        if name == "fct_incident":
            assert len({str(row[:2]) for row in rows}) == 60
        else:
            assert rows == before[f"incident_analytics.{name}"]
    build_all(loaded.database)
    names = read_rows("SELECT DISTINCT name FROM incident_analytics.fct_incident")
    assert names == [{"name": "New"}]
