"""Each check changes when what it watches breaks, through the API or in the database, and heals.

Most are called as functions on a synced database; how they run in Dagster is shown once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from incident_assets.api.endpoints import ENDPOINTS, Endpoint
from incident_assets.build import build_definitions
from incident_assets.checks.catalog import CHECKS
from incident_assets.checks.finding import Finding
from incident_assets.defs.checks import report_finding
from incident_assets.defs.outcome import LOADED_CHECK, list_loaded_checks
from incident_assets.demo.faults import Fault, edit
from incident_assets.demo.server import DemoApi
from incident_assets.models.catalog import read_models
from incident_assets.models.mapped import MODEL_CHECKS
from incident_assets.settings import Settings
from incident_assets.sync.stages import Sync
from incident_assets_tests.conftest import NAMES, hold_database
from incident_assets_tests.report.reading import Page

DATABASE = "data/incidents.duckdb"
WARNING_AT_WORST = {check.name for check in CHECKS if check.worst == "warning"}
AFTER_LOAD = [check.name for check in CHECKS if check.runs == "after each load"]
Check = Callable[..., dict[str, Finding]]
Results = dict[str, dg.AssetCheckEvaluation]


@pytest.fixture
def check(loaded: Settings, sync: Callable[..., Any]) -> Check:
    """Sync the named resources (all if none), run every check; findings by resource and check.

    Everything had been synced once before.
    """

    def run(*names: str) -> dict[str, Finding]:
        sync(*names)
        return read_checks()

    return run


def read_checks() -> dict[str, Finding]:
    """Run every check on the database as it is; none finds worse than the catalog says."""
    with duckdb.connect(DATABASE, read_only=True) as connection:
        found = {
            f"{endpoint.name} {check.name}": check.find(connection, endpoint)
            for endpoint in ENDPOINTS
            for check in CHECKS
        }
    errors = {name.split()[1] for name, x in found.items() if x.severity == "error"}
    assert not errors & WARNING_AT_WORST
    return found


def failing(results: dict[str, Finding]) -> dict[str, str]:
    """Return the descriptions of checks that do not pass."""
    return {name: x.description for name, x in results.items() if not x.passed}


@pytest.fixture
def run_job(api: DemoApi, instance: dg.DagsterInstance) -> Callable[..., Results]:
    """Run a job through Dagster; the results of its checks by asset and name."""

    def run(name: str) -> Results:
        job = build_definitions().resolve_job_def(name)
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        return by_name(result)

    return run


def by_name(result: dg.ExecuteInProcessResult) -> Results:
    """Return the results of a run's checks by asset and name."""
    evaluations = result.get_asset_check_evaluations()
    errors = {x.check_name for x in evaluations if x.severity == dg.AssetCheckSeverity.ERROR}
    assert not errors & WARNING_AT_WORST
    return {f"{x.asset_key.path[-1]} {x.check_name}": x for x in evaluations}


def read_metadata(result: dg.AssetCheckEvaluation) -> dict[str, Any]:
    """Return the metadata of a result as plain values."""
    return {name: value.value for name, value in result.metadata.items()}


def change_database(sql: str) -> None:
    with duckdb.connect(DATABASE) as connection:
        connection.execute(sql)


@pytest.mark.slow
def test_a_healthy_account_is_green_in_every_check(run_job: Callable[..., Results]) -> None:
    results = run_job("sync_all")
    assert [name for name, result in results.items() if not result.passed] == []
    loaded = {f"{name} {kind}" for name in NAMES for kind in (*AFTER_LOAD, LOADED_CHECK)}
    grains = {f"{name} grain" for name in read_models()}
    mapped = {f"{check.model} {check.name}" for check in MODEL_CHECKS}
    assert set(results) == loaded | grains | mapped | {"log every_resource_loaded"}
    results = run_job("check_freshness")
    assert [name for name, result in results.items() if not result.passed] == []
    assert set(results) == {f"{name} freshness" for name in NAMES}
    assert {check.name for check in CHECKS} == {"freshness", *AFTER_LOAD}


def test_what_was_never_loaded_is_a_warning_and_makes_no_database(
    run_job: Callable[..., Results],
) -> None:
    results = run_job("check_freshness")
    assert set(results) == {f"{name} freshness" for name in NAMES}
    assert {(x.passed, x.severity) for x in results.values()} == {
        (False, dg.AssetCheckSeverity.WARN)
    }
    assert all("never loaded" in str(x.description) for x in results.values())
    assert not Path(DATABASE).exists()


def test_checks_of_a_resource_that_was_never_selected_say_so(sync: Callable[..., Any]) -> None:
    sync("severities")
    assert set(failing(read_checks())) == {
        f"{name} {check.name}" for name in NAMES for check in CHECKS if name != "severities"
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missed", "passed", "severity"),
    [(1.9, True, "warning"), (2.1, False, "warning"), (4.1, False, "error")],
)
def test_freshness_is_late_after_two_syncs_and_stale_after_four(
    missed: float, passed: bool, severity: str, check: Check
) -> None:
    for endpoint in ENDPOINTS:
        seconds = int(missed * endpoint.cadence)
        change_database(
            f"UPDATE incident_sync.log SET finished_at = now() - INTERVAL {seconds} SECOND "
            f"WHERE resource = '{endpoint.name}'"
        )
    results = read_checks()
    for endpoint in ENDPOINTS:
        found = results[f"{endpoint.name} freshness"]
        assert (found.passed, found.severity) == (passed, severity)
        assert abs(found.counts["age_seconds"] - missed * endpoint.cadence) < 60
    assert failing(check()) == {}


def test_a_resource_without_news_is_fresh_and_a_failed_one_is_not(
    api: DemoApi, check: Check
) -> None:
    api.empty("workflows")
    check("workflows")
    change_database("UPDATE incident_sync.log SET finished_at = now() - INTERVAL 3 HOUR")
    api.forbid("users")
    assert set(failing(check())) == {"users freshness", "workflows volume"}


def test_freshness_believes_no_clock_that_was_ahead(check: Check) -> None:
    change_database("UPDATE incident_sync.log SET finished_at = now() + INTERVAL 5 HOUR")
    results = read_checks()
    assert not any(results[f"{endpoint.name} freshness"].passed for endpoint in ENDPOINTS)
    assert failing(check()) == {}


def test_freshness_does_not_wait_for_a_sync_that_keeps_the_database(
    loaded: Settings, run_job: Callable[..., Results]
) -> None:
    with hold_database(loaded.database.absolute()):
        results = run_job("check_freshness")
    assert [name for name, result in results.items() if result.passed] == list(results) != []


@pytest.mark.slow
def test_a_key_that_is_there_twice_is_an_error_and_blocks(
    api: DemoApi, check: Check, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset(ins={"users": dg.AssetIn(["incident_api", "users"])})
    def needs_users(users: pa.Table) -> pa.Table:
        return users.select(["id"])

    @dg.asset(ins={"severities": dg.AssetIn(["incident_api", "severities"])})
    def needs_severities(severities: pa.Table) -> pa.Table:
        return severities.select(["id"])

    conclude = Sync.conclude

    def conclude_and_break(self: Sync) -> Any:
        # A sync heals the table, so it is broken between the load and its checks.
        outcomes = conclude(self)
        self.connection.execute(
            "INSERT INTO incident_api.users SELECT * FROM incident_api.users LIMIT 3"
        )
        return outcomes

    with monkeypatch.context() as patched:
        patched.setattr(Sync, "conclude", conclude_and_break)
        definitions = build_definitions(assets=[needs_users, needs_severities])
        job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    built = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
    assert "needs_severities" in built and "needs_users" not in built
    broken = by_name(result)["users integrity"]
    assert not broken.passed and broken.severity == dg.AssetCheckSeverity.ERROR
    assert read_metadata(broken)["id is not unique"] == 3
    assert failing(check("users")) == {}


@pytest.mark.parametrize(
    "endpoint", [e for e in ENDPOINTS if e.references], ids=lambda endpoint: endpoint.name
)
def test_an_id_that_nobody_has_is_counted_and_sampled(
    endpoint: Endpoint, api: DemoApi, check: Check
) -> None:
    was: dict[str, dict[str, Any]] = {}
    samples = {}
    for path, target in endpoint.references.items():
        column = path.partition(".")[0].removesuffix("[]")
        row, broken = next(
            (row, broken)
            for row in api.rows(endpoint.name)
            if row["id"] not in was and (broken := _replace(row.get(column), path)) is not None
        )
        api.change(endpoint.name, row["id"], **{column: broken})
        was[row["id"]] = {column: row.get(column, ...)}
        samples[f"{path} is no row of {target}"] = [row["id"]]
    results = check(endpoint.name)
    (said,) = failing(results).values()
    assert sorted(said.split(", ")) == sorted(f"{name}: 1" for name in samples)
    found = results[f"{endpoint.name} integrity"]
    assert found.severity == "warning" and found.samples == samples
    with duckdb.connect(DATABASE, read_only=True) as connection:
        for name, (identifier,) in samples.items():
            assert connection.execute(found.sql[name]).fetchall() == [(identifier, "01UNKNOWN")]
    for identifier, columns in was.items():
        api.change(endpoint.name, identifier, **columns)
    assert failing(check(endpoint.name)) == {}


def _replace(cell: Any, path: str) -> Any:
    """Return a column's value with the id at the path replaced, or None if there is none."""
    rest = path.partition(".")[2]
    if not rest:
        return "01UNKNOWN"
    if "[]" in path:
        return [inner, *cell[1:]] if cell and (inner := _put(cell[0], rest.split("."))) else None
    return _put(cell, rest.split("."))


def _put(node: Any, names: list[str]) -> Any:
    if not names:
        return "01UNKNOWN"
    if not isinstance(node, dict) or names[0] not in node:
        return None
    inner = _put(node[names[0]], names[1:])
    return None if inner is None else {**node, names[0]: inner}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"updated_at": "2020-01-01T00:00:00Z"}, "created_at is after updated_at"),
        ({"updated_at": "2100-01-01T00:00:00Z"}, "updated_at is in the future"),
    ],
)
def test_times_out_of_order_are_counted(
    fields: dict[str, str], name: str, api: DemoApi, check: Check
) -> None:
    row = api.rows("follow_ups")[0]
    api.change("follow_ups", row["id"], **fields)
    assert failing(check("follow_ups")) == {"follow_ups integrity": f"{name}: 1"}
    api.change("follow_ups", row["id"], updated_at=row["updated_at"])
    assert failing(check("follow_ups")) == {}


@pytest.mark.slow
def test_a_drop_warns_with_the_numbers_until_seven_days_have_passed(
    api: DemoApi, check: Check
) -> None:
    usual = len(api.rows("follow_ups"))
    for row in api.rows("follow_ups")[: usual // 2]:
        api.remove("follow_ups", row["id"])
    left = len(api.rows("follow_ups"))
    gone = f"{usual - left} gone in seven days, {left} live"
    results = check("follow_ups")
    assert failing(results) == {"follow_ups volume": f"{left} rows listed, {gone}"}
    assert results["follow_ups volume"].counts == {
        "rows": left,
        "live_rows": left,
        "gone_rows": usual - left,
        "missing_rows": usual - left,
    }
    for _ in range(3):  # not because it has become the history
        results = check("follow_ups")
    assert set(failing(results)) == {"follow_ups volume"}
    change_database("UPDATE incident_api.follow_ups SET _deleted_at = _deleted_at - INTERVAL 7 DAY")
    assert failing(check("follow_ups")) == {}


def test_rows_that_were_only_changed_or_came_are_no_drop(api: DemoApi, check: Check) -> None:
    for row in api.rows("users"):
        api.change("users", row["id"], name="Renamed")
        api.add("users", {**row, "id": f"{row['id']}-2"})
    assert failing(check("users")) == {}


@pytest.mark.slow
def test_a_key_that_loses_its_wider_role_shows_as_a_drop(api: DemoApi, check: Check) -> None:
    for row in api.rows("incidents")[:20]:
        api.change("incidents", row["id"], visibility="private")
    check("incidents")
    api.sees_private = False
    assert set(failing(check("incidents"))) == {"incidents volume"}
    api.sees_private = True
    assert failing(check("incidents")) == {}


@pytest.mark.parametrize(
    "name",
    ["[x](javascript:alert)", "![](http://evil.example/x)", "<img src=x>", "a\n```\n# b", "*b*"],
)
def test_what_the_api_calls_its_fields_is_text_in_the_metadata(
    name: str, api: DemoApi, check: Check
) -> None:
    def add_field(body: dict[str, Any]) -> None:
        for item in body["severities"]:
            item[name] = 1

    api.inject(Fault(edit(add_field), resource="severities"))
    finding = check("severities")["severities contract"]
    result = report_finding("contract", dg.AssetKey(["incident_api", "severities"]), finding)
    shown = Page(MarkdownIt().render(str(result.metadata["sql"].value)))
    assert set(shown.tags) == {"p", "pre", "code"}
    assert " ".join(f"rescued: {name}".split()) in shown.texts
    assert f"{finding.sql[f'rescued: {name}']}\n" in shown.texts


def test_thousands_of_new_fields_are_counted_and_some_named(api: DemoApi, check: Check) -> None:
    fields = {f"field_{n}": n for n in range(2000)} | {"x" * 70_000: 1, "Name": 2}
    api.change("severities", api.rows("severities")[0]["id"], **fields)
    finding = check("severities")["severities contract"]
    assert finding.counts["new: field_0"] == finding.counts["rescued: Name"] == 1
    assert (finding.counts["new: 80 more"], finding.counts["rescued: 1,882 more"]) == (80, 1882)
    assert len(finding.description) < 3000 and len(str(finding.sql)) < 10_000


def test_small_changes_are_no_drop(api: DemoApi, check: Check) -> None:
    api.remove("severities", api.rows("severities")[0]["id"])
    assert "severities volume" not in failing(check("severities"))


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"zeppelin": {"a": 1}}, "new: zeppelin"),
        ({"camelCase": 1}, "rescued: camelCase"),
        ({"name": 7}, "rescued: name"),
        ({"mode": "rehearsal"}, "new value of mode: rehearsal"),
        ({"visibility": "secret"}, "new value of visibility: secret"),
    ],
)
def test_what_the_api_changed_is_named(
    fields: dict[str, Any], found: str, api: DemoApi, check: Check
) -> None:
    row = api.rows("incidents")[0]

    def change(body: dict[str, Any]) -> None:
        for item in body["incidents"]:
            if item["id"] == row["id"]:
                item.update(fields)

    api.inject(Fault(edit(change), resource="incidents"))
    results = check("incidents")
    assert failing(results) == {"incidents contract": found}
    assert results["incidents contract"].counts == {found: 1}
    if not found.startswith("new: "):  # a new column stays
        assert results["incidents contract"].samples == {found: [row["id"]]}
        api.heal()
        assert failing(check("incidents")) == {}


def test_a_new_status_category_is_named(api: DemoApi, check: Check) -> None:
    status = api.rows("incident_statuses")[0]
    api.change("incident_statuses", status["id"], category="simmering")
    found = "new value of category: simmering"
    assert failing(check("incident_statuses")) == {"incident_statuses contract": found}


def test_a_field_that_is_gone_is_named(api: DemoApi, check: Check) -> None:
    for row in api.rows("incident_timestamps"):
        api.change("incident_timestamps", row["id"], rank=...)
    assert failing(check("incident_timestamps")) == {"incident_timestamps contract": "gone: rank"}
    for number, row in enumerate(api.rows("incident_timestamps")):
        api.change("incident_timestamps", row["id"], rank=number)
    assert failing(check("incident_timestamps")) == {}


def test_one_check_can_be_run_alone_and_sees_a_column_that_changed(
    loaded: Settings,
) -> None:
    change_database("ALTER TABLE incident_api.severities DROP COLUMN description")
    change_database("ALTER TABLE incident_api.severities ALTER rank TYPE VARCHAR")
    key = dg.AssetCheckKey(dg.AssetKey(["incident_api", "severities"]), "contract")
    alone = dg.define_asset_job("alone", dg.AssetSelection.checks(key))
    definitions = dg.Definitions.merge(build_definitions(), dg.Definitions(jobs=[alone]))
    results = by_name(definitions.resolve_job_def("alone").execute_in_process())
    assert [*results] == ["severities contract"]
    description = results["severities contract"].description
    assert description == "gone: description; retyped: rank is VARCHAR"


@pytest.mark.slow
def test_an_unreadable_resource_skips_only_its_own_checks_and_nothing_personal_is_shown(
    api: DemoApi, run_job: Callable[..., Results]
) -> None:
    api.forbid("users")
    api.empty("incidents")
    results = run_job("sync_all")
    read = [name for name in NAMES if name != "users"]
    expected = {f"{name} {kind}" for name in read for kind in AFTER_LOAD}
    without_users = read_models().keys() - {"dim_user", "mart_responder_load"}
    expected |= {f"{name} grain" for name in without_users}
    expected |= {f"{check.model} {check.name}" for check in MODEL_CHECKS}
    expected |= {f"{name} {LOADED_CHECK}" for name in NAMES}
    assert set(results) == expected | {"log every_resource_loaded"}
    failed = {name for name in NAMES if not results[f"{name} {LOADED_CHECK}"].passed}
    reason = results[f"users {LOADED_CHECK}"].description
    assert failed == {"users"}
    assert reason and "403" in reason and "users.view" in reason and "req-" in reason
    assert not results["actions integrity"].passed
    text = repr([(x.description, x.metadata) for x in results.values()])
    for user in api.rows("users"):
        assert user["name"] not in text and user.get("email", "nobody@") not in text


@pytest.mark.slow
def test_the_check_loaded_alone_repeats_the_log_and_asks_the_api_for_nothing(
    api: DemoApi, instance: dg.DagsterInstance, run_job: Callable[..., Results]
) -> None:
    api.forbid("users")
    run_job("sync_reference")
    api.reset_log()
    alone = dg.define_asset_job("alone", dg.AssetSelection.checks(*list_loaded_checks(ENDPOINTS)))
    definitions = dg.Definitions.merge(build_definitions(), dg.Definitions(jobs=[alone]))
    job = definitions.resolve_job_def("alone")
    results = by_name(job.execute_in_process(instance=instance))
    assert api.count() == 0
    assert results["severities loaded"].passed
    assert "403" in str(results["users loaded"].description)
    assert "never loaded" in str(results["incidents loaded"].description)
