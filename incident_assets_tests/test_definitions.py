"""The definitions: loadable with no setting at all, and everything made from the one table."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from incident_assets.api import endpoints
from incident_assets.api.endpoints import ENDPOINTS, Endpoint
from incident_assets.api.rows import build_columns
from incident_assets.build import build_definitions
from incident_assets.defs.models import model_key
from incident_assets.defs.outcome import LOG_KEY
from incident_assets.defs.translator import API_KEY, raw_key
from incident_assets.models.catalog import read_models
from incident_assets.report.marts import MARTS
from incident_assets.settings import Settings
from incident_assets.sync.log import LOG_COLUMNS, LOG_TABLE
from incident_assets.values import SettingError
from incident_assets_tests.conftest import NAMES, read_rows, run_command

JOBS = {
    "sync_live": {e.name for e in ENDPOINTS if e.group == "live"},
    "sync_reference": {e.name for e in ENDPOINTS if e.group == "reference"},
    "sync_all": set(NAMES),
}


def test_definitions_load_without_any_setting() -> None:
    dg.Definitions.validate_loadable(build_definitions())


def test_each_call_builds_fresh_objects() -> None:
    first, second = build_definitions(), build_definitions()
    assert first.resources["duckdb"] is not second.resources["duckdb"]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_each_resource_is_one_described_asset(endpoint: Endpoint) -> None:
    spec = build_definitions().resolve_asset_graph().get(raw_key(endpoint.name))
    assert spec.group_name == endpoint.group
    assert spec.parent_keys == {API_KEY}
    assert spec.description and endpoint.grain in spec.description
    assert spec.kinds == {"dlt", "duckdb"} and not spec.owners
    schema = spec.metadata["dagster/column_schema"]
    assert [column.name for column in schema.columns] == [
        column.name for column in build_columns(endpoint)
    ]
    assert all(column.description for column in schema.columns)


def test_types_are_those_that_the_database_has(loaded: Settings) -> None:
    graph = build_definitions().resolve_asset_graph()
    for key in (LOG_KEY, *map(raw_key, NAMES)):
        columns = graph.get(key).metadata["dagster/column_schema"].columns
        there = read_rows(f"DESCRIBE {'.'.join(key.path)}")
        types = {row["column_name"]: row["column_type"] for row in there}
        assert {column.name: column.type for column in columns} == types
        assert all(column.description for column in columns)


def test_log_copy_and_report_say_what_is_in_them() -> None:
    graph = build_definitions().resolve_asset_graph()
    models = {f"incident_analytics.{name}" for name in read_models()}
    for key, kinds, tables in (
        (LOG_KEY, {"duckdb"}, set(LOG_COLUMNS)),
        (COPY, {"duckdb", "file"}, {LOG_TABLE, *models, *(f"incident_api.{x}" for x in NAMES)}),
        (REPORT, {"matplotlib", "html"}, {f"incident_analytics.{x}" for x in MARTS.values()}),
    ):
        spec = graph.get(key)
        columns = spec.metadata["dagster/column_schema"].columns
        assert spec.kinds == kinds and {column.name for column in columns} == tables
        assert all(column.description for column in columns)


def test_owners_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_OWNERS", "team:reliability, ana@example.com")
    mine = dg.AssetSpec("mine", owners=["team:mine"])
    graph = build_definitions(assets=[mine]).resolve_asset_graph()
    owned = {key: graph.get(key).owners for key in graph.get_all_asset_keys() - {API_KEY}}
    assert owned.pop(mine.key) == ["team:mine"]
    assert {*map(tuple, owned.values())} == {("team:reliability", "ana@example.com")}
    for wrong in ("reliability", "team:", "ana@example", "a b@example.com"):
        monkeypatch.setenv("INCIDENT_OWNERS", f"team:reliability,{wrong}")
        with pytest.raises(SettingError, match=f"INCIDENT_OWNERS has '{wrong}'"):
            build_definitions()


def test_no_group_is_on_both_sides_of_another() -> None:
    graph = build_definitions().resolve_asset_graph()
    links = {
        (graph.get(parent).group_name, graph.get(key).group_name)
        for key in graph.get_all_asset_keys()
        for parent in graph.get(key).parent_keys
    }
    to_the_right = {(x, y) for x, y in links if x != y}
    assert to_the_right == {
        *(("api", group) for group in ("live", "reference", "operations")),
        *((group, "analytics") for group in ("live", "reference")),
        *((group, "outputs") for group in ("analytics", "operations")),
    }


COPY = dg.AssetKey(["incident_sync", "published_copy"])
REPORT = model_key("reliability_report")
OPERATIONS = {LOG_KEY, COPY}


def test_no_phantom_upstream() -> None:
    keys = build_definitions().resolve_asset_graph().get_all_asset_keys()
    raw, models = map(raw_key, NAMES), map(model_key, read_models())
    assert keys == {API_KEY, *OPERATIONS, *raw, *models, REPORT}


@pytest.mark.parametrize("job", JOBS)
def test_jobs_select_their_groups_and_the_operations(job: str) -> None:
    selected = build_definitions().resolve_job_def(job).asset_layer.executable_asset_keys
    raw = {key.path[-1] for key in selected if key.path[0] == "incident_api"}
    assert raw == JOBS[job]
    assert selected >= OPERATIONS
    # Whatever is built on one of its tables, directly or through other models, and nothing else.
    models = {key.path[-1] for key in selected - {REPORT} if key.path[0] == "incident_analytics"}
    assert models == {name for name in read_models() if find_raw_tables(name) & raw}


def find_raw_tables(name: str) -> set[str]:
    found: set[str] = set()
    for schema, table in read_models()[name].tables:
        if schema == "incident_api":
            found.add(table)
        elif schema == "incident_analytics":
            found |= find_raw_tables(table)
    return found


@pytest.mark.parametrize("job", JOBS)
def test_each_job_has_a_schedule_that_is_off(job: str) -> None:
    schedule = build_definitions().resolve_schedule_def(f"{job}_schedule")
    assert schedule.job_name == job
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    with dg.instance_for_test() as instance, dg.build_schedule_context(instance) as context:
        assert len(schedule.evaluate_tick(context).run_requests or ()) == 1


def test_the_source_loads_without_dagster() -> None:
    code = "import sys; import incident_assets.sync.run; print('dagster' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert result.stdout.strip() == b"False", result.stderr


def test_no_definition_says_which_location_it_is_in() -> None:
    definitions = build_definitions()
    jobs = [definitions.resolve_job_def(job.name) for job in definitions.jobs or ()]
    schedules = [definitions.resolve_schedule_def(x.name) for x in definitions.schedules or ()]
    # It would beat the true location, wherever the definitions are loaded.
    assert not [x for x in (*jobs, *schedules) if ".dagster/repository" in x.tags]


def test_importing_the_definitions_writes_nothing(tmp_path: object) -> None:
    result = run_command("dagster", "definitions", "validate", "-m", "incident_assets.definitions")
    assert result.returncode == 0, result.stderr
    left = {path.name for path in Path.cwd().rglob("*") if path.is_file()}
    assert not {name for name in left if "duckdb" in name or "dlt" in name}


def run_code(code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_loading_the_definitions_parses_no_sql_and_opens_no_database() -> None:
    run_code(
        """
import sys
import duckdb
duckdb.connect = None
import incident_assets.definitions
# dlt imports sqlglot, but parses nothing with it.
assert not {"incident_assets.models.lineage", "sqlglot.dialects.duckdb"} & set(sys.modules)
"""
    )


def test_loading_the_definitions_warns_of_nothing_that_is_ours() -> None:
    run_code(
        """
import warnings
import dagster as dg
for kind in (dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning):
    warnings.simplefilter("error", kind)
from incident_assets.definitions import defs
dg.Definitions.validate_loadable(defs)
"""
    )


def test_no_collection_looks_through_the_definitions() -> None:
    run_code(
        """
import gc
import incident_assets.definitions
assert gc.get_freeze_count() > 100 * len(gc.get_objects())
"""
    )


def test_each_resource_names_the_line_of_its_row() -> None:
    lines = Path(endpoints.__file__).read_text().splitlines()
    graph = build_definitions().resolve_asset_graph()
    for name in NAMES:
        (row,) = graph.get(raw_key(name)).metadata["dagster/code_references"].code_references
        assert lines[row.line_number - 1].strip() == f'name="{name}",'
