"""Ticks while others write: what skips, what queues, and what no longer counts because it is lost.

Runs are entries of a real Dagster instance; whether they work is told by the lock of the database.
"""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
import yaml

# Private: nothing public makes a run of a given status, or asks the queue what it would start.
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._utils.schedules import cron_string_iterator

from incident_assets.build import build_definitions
from incident_assets.defs.schedules import CRONS, LAKE_ONLY
from incident_assets.defs.writers import ASSETS_PAGE, QUEUED, WHOLE, WRITER
from incident_assets.settings import Settings
from incident_assets.values import SettingError
from incident_assets.warehouse.file import lock_database
from incident_assets_tests.conftest import hold_database
from incident_assets_tests.pages import ROOT

DATABASE = Path("data/incidents.duckdb")
USERS, INCIDENTS = (
    dg.AssetKey(["incident_api", "users"]),
    dg.AssetKey(["incident_api", "incidents"]),
)
FRESHNESS = dg.AssetCheckKey(USERS, "freshness")
STARTED, RUN_QUEUED = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.QUEUED
SETTINGS = yaml.safe_load((ROOT / "dagster.yaml").read_text())


@pytest.fixture(scope="module")
def shared_instance() -> Iterator[dg.DagsterInstance]:
    """An instance that a tick can open again, with the queue and the limits of the project's."""
    kept = ("run_coordinator", "concurrency", "run_monitoring")
    with dg.instance_for_test({name: SETTINGS[name] for name in kept}) as instance:
        yield instance


@pytest.fixture
def instance(shared_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """The instance without any run."""
    shared_instance.wipe()
    return shared_instance


@cache
def build() -> dg.Definitions:
    return build_definitions()


def start(
    instance: dg.DagsterInstance,
    job: str,
    status: dg.DagsterRunStatus = STARTED,
    age: float = 0,
    **selection: Any,
) -> str:
    """Make a run that began so many seconds ago, and has said nothing since; return its id."""
    tags = QUEUED if job not in ("check_freshness", "prune_history", ASSETS_PAGE) else {}
    place = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("incident_assets"), "repository")
    run = create_run_for_test(
        instance,
        job_name=job,
        status=status,
        tags=tags,
        remote_job_origin=RemoteJobOrigin(place, job),
        **{name: frozenset(keys) for name, keys in selection.items()},
    )
    began = datetime.now(UTC) - timedelta(seconds=age)
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        text = sqlalchemy.text("UPDATE runs SET create_timestamp = :began WHERE run_id = :run")
        connection.execute(text, {"began": f"{began:%Y-%m-%d %H:%M:%S.%f}", "run": run.run_id})
    return run.run_id


def tick(instance: dg.DagsterInstance, job: str = "sync_live") -> str:
    """Return why a job's schedule skips its tick now, or '' where it asks for one run."""
    repository = build().get_repository_def()
    with dg.build_schedule_context(instance, repository_def=repository) as context:
        data = build().resolve_schedule_def(f"{job}_schedule").evaluate_tick(context)
    assert len(data.run_requests or ()) == (0 if data.skip_message else 1)
    return data.skip_message or ""


@pytest.mark.slow
def test_frequent_syncs_skip_while_another_run_writes_and_the_nightly_one_does_not(
    instance: dg.DagsterInstance,
) -> None:
    for job, status, selection in (
        ("sync_all", "STARTED", {}),
        ("sync_live", "QUEUED", {}),
        ("sync_reference", "STARTING", {}),
        ("full_refresh", "CANCELING", {}),
        (ASSETS_PAGE, "STARTED", {"asset_selection": {USERS}}),
        (ASSETS_PAGE, "QUEUED", {"asset_selection": {USERS}, "asset_check_selection": {FRESHNESS}}),
    ):
        run = start(instance, job, dg.DagsterRunStatus[status], **selection)
        for name in ("sync_live", "sync_reference"):
            assert run in tick(instance, name), (job, status)
        for name in ("sync_all", "check_freshness", "prune_history"):
            assert not tick(instance, name)
        instance.delete_run(run)


def test_what_does_not_write_is_not_waited_for(instance: dg.DagsterInstance) -> None:
    for job, status, selection in (
        ("check_freshness", "STARTED", {}),
        ("prune_history", "QUEUED", {}),
        (ASSETS_PAGE, "STARTED", {"asset_check_selection": {FRESHNESS}}),
        (ASSETS_PAGE, "STARTED", {"asset_selection": {dg.AssetKey("of another project")}}),
        ("job_of_another_project", "STARTED", {}),
        ("sync_all", "SUCCESS", {}),
        ("sync_all", "FAILURE", {}),
    ):
        start(instance, job, dg.DagsterRunStatus[status], **selection)
        assert not tick(instance), (job, status)


@pytest.mark.fault(
    "a run is killed together with its code server, so that Dagster believes it for ever",
    "after two minutes without the database's lock it is named and not waited for, in the queue "
    "neither; after five hours `run_monitoring` ends it",
    "everything; schedules go on",
)
def test_a_lost_run_is_waited_for_no_longer(instance: dg.DagsterInstance) -> None:
    lost = start(instance, "sync_all", age=150)
    waiting = start(instance, "sync_reference", RUN_QUEUED)
    reason = tick(instance)
    assert f"by run {waiting} " in reason and f"Lost, and not waited for: run {lost} " in reason
    assert find_started(instance) == {waiting}
    instance.delete_run(waiting)
    assert not tick(instance)
    assert not Path("data").exists()
    with lock_database(DATABASE, 1, "the run that was let pass"):
        assert f"{lost} of sync_all" in tick(instance)
    assert not tick(instance)
    run = instance.get_run_by_id(lost)
    assert run
    instance.report_engine_event("not lost at all", run)
    assert lost in tick(instance)


def test_a_silent_run_counts_while_the_lock_is_held_or_was_lately(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run = start(instance, "sync_all", age=3600)
    with hold_database(tmp_path / DATABASE):
        age_lock(3600)
        assert run in tick(instance)
    with lock_database(DATABASE, 1, "taken and given back"):
        age_lock(3600)
    assert run in tick(instance)
    age_lock(3600)
    with lock_database(DATABASE, 1, "killed while it has the lock"):
        taken = lock_path().stat().st_mtime
    os.utime(lock_path(), (taken, taken))
    assert run in tick(instance)
    age_lock(3600)
    assert not tick(instance)


def test_a_run_that_began_or_said_something_lately_is_not_lost(
    instance: dg.DagsterInstance,
) -> None:
    young = start(instance, "sync_live", age=90)
    assert young in tick(instance)
    instance.delete_run(young)
    old = start(instance, "sync_live", age=3600)
    run = instance.get_run_by_id(old)
    assert run
    instance.report_engine_event("reading incidents", run)
    assert old in tick(instance)


def test_a_queued_run_is_never_lost(instance: dg.DagsterInstance) -> None:
    assert start(instance, "sync_all", RUN_QUEUED, age=86400) in tick(instance)


def lock_path() -> Path:
    return DATABASE.with_name(DATABASE.name + ".lock")


def age_lock(seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(lock_path(), (moment, moment))


def test_a_wrong_setting_breaks_no_tick(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_LOCK_TIMEOUT", "soon")
    assert not tick(instance)
    run = start(instance, "sync_all", age=3600)
    assert run in tick(instance)


def test_the_queue_lets_one_writer_start_and_freshness_always(
    instance: dg.DagsterInstance,
) -> None:
    page = start(
        instance,
        ASSETS_PAGE,
        dg.DagsterRunStatus.NOT_STARTED,
        asset_selection={USERS},
    )
    checks = start(
        instance,
        ASSETS_PAGE,
        dg.DagsterRunStatus.NOT_STARTED,
        asset_check_selection={FRESHNESS},
    )
    again = start(instance, "sync_all", dg.DagsterRunStatus.NOT_STARTED)
    instance.add_run_tags(again, {WRITER: "lost"})  # as of a run that was lost and started again
    fresh = start(instance, "check_freshness", dg.DagsterRunStatus.NOT_STARTED)
    for run in (page, checks, again, fresh):
        submit(instance, run)
    assert find_started(instance) == {page, checks, fresh}
    instance.delete_run(page)
    assert find_started(instance) == {again, checks, fresh}
    start(instance, "sync_live", STARTED)
    assert find_started(instance) == {checks, fresh}


def test_a_writer_that_dagster_starts_again_is_a_whole_run(instance: dg.DagsterInstance) -> None:
    job = start(instance, "sync_live", dg.DagsterRunStatus.NOT_STARTED)
    page = start(instance, ASSETS_PAGE, dg.DagsterRunStatus.NOT_STARTED, asset_selection={USERS})
    for run_id in (job, page):
        submit(instance, run_id)
        run = instance.get_run_by_id(run_id)
        assert run and run.tags.items() >= WHOLE.items()


def submit(instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    assert run
    workspace: Any = None
    instance.run_coordinator.submit_run(dg.SubmitRunContext(run, workspace))


def find_started(instance: dg.DagsterInstance) -> set[str]:
    """Return the queued runs that the daemon would start now."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=5)
    runs = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
    return {run.run_id for run in runs}


def test_the_jobs_carry_the_mark_that_the_queue_counts() -> None:
    marked = {
        job.name
        for job in build().jobs or ()
        if build().resolve_job_def(job.name).run_tags.get(WRITER)
    }
    assert marked == {"sync_live", "sync_reference", "sync_all", "full_refresh"}


def test_a_run_may_take_longer_than_the_longest_sync() -> None:
    limit = SETTINGS["run_monitoring"]["max_runtime_seconds"]
    assert SETTINGS["run_monitoring"]["enabled"] and limit >= Settings().sync_deadline + 1800


def test_no_two_schedules_share_a_minute() -> None:
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    seen: dict[datetime, str] = {}
    for job, cron in CRONS.items():
        for moment in cron_string_iterator(midnight.timestamp(), cron, "UTC"):
            if moment >= midnight + timedelta(days=1):
                break
            assert seen.setdefault(moment, job) == job


def test_a_setting_says_how_often_and_that_they_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_SCHEDULES", "sync_live=2, sync_reference=60")
    made = {schedule.job_name: schedule for schedule in build_definitions().schedules or ()}
    on = {job for job, x in made.items() if x.default_status is dg.DefaultScheduleStatus.RUNNING}
    assert on == {"sync_live", "sync_reference", "check_freshness", "prune_history"}
    crons = {job: schedule.cron_schedule for job, schedule in made.items()}
    expected = CRONS | {"sync_live": "*/2 * * * *", "sync_reference": "7 * * * *"}
    assert crons == {job: cron for job, cron in expected.items() if job not in LAKE_ONLY}
    told = (("sync_live", "an hour"), ("sync_live=90", "an hour"), ("sync_live=45", "an hour"))
    for wrong, said in (*told, ("x=5", "sync_all"), ("check_freshness=2", "5 or more")):
        monkeypatch.setenv("INCIDENT_SCHEDULES", wrong)
        with pytest.raises(SettingError, match=f"INCIDENT_SCHEDULES has .*{said}"):
            build_definitions()


@pytest.mark.parametrize(("live", "reference"), [(15, 60), (5, 60), (2, 4), (10, 10), (20, 30)])
def test_frequent_syncs_are_not_due_at_once(
    live: int, reference: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_SCHEDULES", f"sync_live={live},sync_reference={reference}")
    made = {x.job_name: x.cron_schedule for x in build_definitions().schedules or ()}
    hour = datetime(2026, 11, 25, tzinfo=UTC)
    due = []
    for job, every in (("sync_live", live), ("sync_reference", reference)):
        moments = cron_string_iterator(hour.timestamp(), str(made[job]), "UTC")
        found = list(takewhile(lambda moment: moment < hour + timedelta(hours=2), moments))
        assert {after - one for one, after in pairwise(found)} == {timedelta(minutes=every)}
        due.append({*found})
    assert due[0] and due[1] and not due[0] & due[1]


def test_freshness_goes_by_the_minutes_of_a_setting(
    loaded: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_SCHEDULES", "sync_live=30")
    definitions = build_definitions()
    hours, graph = {}, definitions.resolve_asset_graph()
    for key in (INCIDENTS, USERS, dg.AssetKey(["incident_analytics", "fct_incident"])):
        policy = graph.get(key).freshness_policy
        hours[key.path[-1]] = policy.fail_window.to_timedelta() / timedelta(hours=1)
    assert hours == {"incidents": 2, "users": 4, "fct_incident": 2}
    assert graph.get(INCIDENTS).metadata["dagster/code_references"]
    result = definitions.resolve_job_def("check_freshness").execute_in_process(instance=instance)
    limits = {
        x.asset_key.path[-1]: x.metadata["limit_seconds"].value
        for x in result.get_asset_check_evaluations()
    }
    assert (limits["incidents"], limits["users"]) == (3600, 2 * 3600)
