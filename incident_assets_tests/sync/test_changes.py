"""Syncs by changes: what they ask for, what they remember, and that nothing is ever missed.

Deletions and full refreshes are here too, since all three are about a table that has a past.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from incident_assets.api.categories import IDLE_CATEGORIES
from incident_assets.api.endpoints import find_endpoint
from incident_assets.demo.account import generate_account
from incident_assets.demo.faults import Fault, edit, hang, status, where
from incident_assets.demo.server import DemoApi
from incident_assets.demo.versions import CAME_AFTER_AUGUST, Calendar
from incident_assets.settings import Settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.sync.stages import Sync
from incident_assets.warehouse.schemas import RAW_SCHEMA
from incident_assets_tests.conftest import KEY, NAMES, read_rows, read_table
from incident_assets_tests.rebuilding import find_way, read_upstream, rebuild

LIVE = ["incidents", "incident_updates", "actions", "follow_ups"]
Outcomes = dict[str, Outcome]
SyncChanges = Callable[..., Outcomes]


@pytest.fixture
def sync_changes(loaded: Settings) -> SyncChanges:
    """Sync the named resources (the live ones if none) by changes; everything was loaded once."""

    def run(*names: str, **options: Any) -> Outcomes:
        options = {"changes": True} | options
        return {x.resource: x for x in run_sync(loaded, names or LIVE, **options)}

    return run


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def find_active(api: DemoApi) -> list[str]:
    """Return the ids of incidents that may be posted on without being changed themselves."""
    return [
        row["id"]
        for row in api.rows("incidents")
        if row["incident_status"]["category"] not in IDLE_CATEGORIES
    ]


def find_settled(api: DemoApi, number: int = 0) -> str:
    """Return the id of an old incident that is not active."""
    active = set(find_active(api))
    return [row["id"] for row in api.rows("incidents") if row["id"] not in active][number]


def post_update(api: DemoApi, incident: str, touch: bool = True) -> str:
    """Add an update to an incident, which by default changes the incident too; return its id."""
    if touch:
        api.change("incidents", incident)
    return str(api.add("incident_updates", incident_id=incident)["id"])


def asked_incidents(api: DemoApi) -> list[str]:
    """Return the incidents whose updates were asked for."""
    asked = [x.query for x in api.requests if x.resource == "incident_updates"]
    return sorted(query["incident_id"][0] for query in asked if "incident_id" in query)


def assert_same_as_upstream(api: DemoApi, *names: str) -> None:
    """Compare live rows with the API's, value by value."""
    for name in names or NAMES:
        endpoint = find_endpoint(name)
        rows = {
            key: rebuild(endpoint, row)
            for key, row in read_table(name).items()
            if row["_deleted_at"] is None
        }
        assert rows == read_upstream(api, endpoint), name


@pytest.fixture
def many_updates(api: DemoApi) -> None:
    """Have an active incident, and so many updates that asking for its own alone costs less."""
    settled = find_settled(api)
    live = next(x for x in api.rows("incident_statuses") if x["category"] == "live")
    api.change("incidents", api.rows("incidents")[-1]["id"], incident_status=live)
    for _ in range(250 * (len(find_active(api)) + 4)):
        api.add("incident_updates", incident_id=settled)


@pytest.mark.slow
def test_nothing_changed_asks_for_little_and_changes_nothing(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    before = {name: read_table(name) for name in LIVE}
    api.reset_log()
    outcomes = sync_changes()
    assert len(api.requests) <= 12 + len(find_active(api))
    assert asked_incidents(api) == sorted(find_active(api))
    assert {x.listing for x in outcomes.values()} == {"changes"}
    assert sum(outcome.changed for outcome in outcomes.values()) == 0
    for name in LIVE:
        stamp = {"_dlt_load_id": None}
        assert {key: row | stamp for key, row in read_table(name).items()} == {
            key: row | stamp for key, row in before[name].items()
        }


def run_sync_full(sync_changes: SyncChanges) -> None:
    """Sync everything twice: in full, and then by changes, which looks at the first one's end."""
    sync_changes(*NAMES, changes=False)
    sync_changes()


@pytest.mark.slow
def test_changed_incidents_and_their_updates_arrive(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    changed = [find_settled(api, number) for number in (1, 2)]
    updates = [post_update(api, incident) for incident in changed]
    api.reset_log()
    outcomes = sync_changes()
    assert asked_incidents(api) == sorted({*find_active(api), *changed})
    assert outcomes["incidents"].changed == 2 and outcomes["incident_updates"].changed == 2
    assert set(updates) <= read_table("incident_updates").keys()
    assert_same_as_upstream(api, *LIVE)


@pytest.mark.slow
def test_an_update_of_an_active_incident_arrives_though_the_incident_did_not_change(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    update = post_update(api, find_active(api)[0], touch=False)
    sync_changes()
    assert update in read_table("incident_updates")


def test_all_pages_are_walked_where_that_is_fewer_requests(
    api: DemoApi, sync_changes: SyncChanges, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(8):
        api.change("incidents", find_settled(api, number), name="Renamed")
    api.reset_log()
    with caplog.at_level("INFO", "incident_assets"):
        outcomes = sync_changes()
    assert asked_incidents(api) == []
    pages = -(-len(api.rows("incident_updates")) // 250)
    assert outcomes["incident_updates"].requests == pages
    assert outcomes["incident_updates"].listing == "full"
    assert outcomes["incidents"].listing == "changes"
    assert f"{pages} for all: asking for all" in caplog.text


@pytest.mark.slow
def test_a_first_sync_is_remembered_whichever_listing_ends_first(
    many_updates: None, api: DemoApi, settings: Settings
) -> None:
    api.inject(Fault(hang(0.5), resource="incidents"))
    run_sync(settings, NAMES)
    api.heal()
    outcomes = {x.resource: x for x in run_sync(settings, LIVE, changes=True)}
    assert outcomes["incidents"].listing == outcomes["incident_updates"].listing == "changes"
    assert_same_as_upstream(api, *LIVE)


@pytest.mark.slow
def test_rows_that_were_replaced_do_not_fill_the_file(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    query = "SELECT max(rowid) + 1 AS written, count(*) AS live FROM incident_api.incidents"
    for name in ("first", "second", "third"):
        for row in api.rows("incidents")[:6]:
            api.change("incidents", row["id"], name=name)
        sync_changes()
        (found,) = read_rows(query)
        assert found["written"] <= found["live"] * 1.12
    assert_same_as_upstream(api, *LIVE)
    (column,) = read_rows(
        "SELECT is_nullable FROM information_schema.columns WHERE table_schema = 'incident_api' "
        "AND table_name = 'incidents' AND column_name = 'id'"
    )
    assert column["is_nullable"] == "NO"


def test_every_mode_and_category_is_asked_for_by_date(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    sync_changes()
    query = next(x.query for x in reversed(api.requests) if x.resource == "incidents")
    newest = max(row["updated_at"] for row in api.rows("incidents"))
    overlap = datetime.fromisoformat(newest) - timedelta(hours=1)
    the_day_before = overlap.astimezone(UTC).date() - timedelta(days=1)
    assert query["updated_at[gte]"] == [the_day_before.isoformat()]
    assert len(query["mode[one_of]"]) == 4 and len(query["status_category[one_of]"]) == 8


def rewind(api: DemoApi, newest: str) -> None:
    """Let no incident have changed after that moment."""
    for row in api.rows("incidents"):
        if row["updated_at"] > newest:
            api.change("incidents", row["id"], updated_at=newest)


@pytest.mark.parametrize(
    ("newest", "since"), [("00:59", "2026-08-30"), ("01:00", "2026-08-31"), ("23:59", "2026-08-31")]
)
def test_an_hour_before_the_watermark_is_asked_for_once_more(
    newest: str, since: str, api: DemoApi, sync_changes: SyncChanges
) -> None:
    rewind(api, f"2026-09-01T{newest}:00Z")
    sync_changes("incidents", changes=False)
    sync_changes("incidents")
    query = next(x.query for x in reversed(api.requests) if x.resource == "incidents")
    assert query["updated_at[gte]"] == [since]


def test_a_change_on_the_apis_day_before_is_seen(api: DemoApi, sync_changes: SyncChanges) -> None:
    rewind(api, "2026-09-01T05:00:00Z")
    sync_changes("incidents", changes=False)
    # Later, and yet a day before where the API is: it compares the day as it writes it.
    settled = find_settled(api)
    api.change("incidents", settled, name="Renamed", updated_at="2026-08-31T21:00:00-10:00")
    sync_changes("incidents")
    assert read_table("incidents")[settled]["name"] == "Renamed"


def test_an_hour_before_a_full_listing_is_looked_at_once_more(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    now = datetime.now(UTC)
    late, early = find_settled(api, 1), find_settled(api, 2)
    for incident, minutes in ((late, 50), (early, 70)):
        at = f"{now - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"
        api.change("incidents", incident, updated_at=at)
    sync_changes(*NAMES, changes=False)
    update = post_update(api, late, touch=False)  # committed late, with the time of before
    api.reset_log()
    sync_changes()
    assert update in read_table("incident_updates")
    assert late in asked_incidents(api) and early not in asked_incidents(api)


def test_without_a_watermark_changes_means_full(
    api: DemoApi, settings: Settings, sync_changes: SyncChanges
) -> None:
    settings.database.unlink()
    outcomes = sync_changes()
    assert {outcome.listing for outcome in outcomes.values()} == {"full"}
    assert_same_as_upstream(api, *LIVE)


def test_an_incident_merged_or_of_another_mode_does_not_vanish(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    merged = next(x for x in api.rows("incident_statuses") if x["category"] == "merged")
    first, second = find_settled(api), find_settled(api, 1)
    api.change("incidents", first, incident_status=merged)
    api.change("incidents", second, mode="tutorial")
    sync_changes()
    assert_same_as_upstream(api, "incidents")


@pytest.mark.slow
@pytest.mark.fault(
    "updates of incidents cannot be read while the incidents can",
    "the resource fails; what is still to be fetched is remembered, and fetched by the next sync",
    "every update",
)
def test_updates_that_failed_are_fetched_later(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    incident = find_settled(api, 3)
    update = post_update(api, incident)
    api.forbid("incident_updates")
    assert sync_changes()["incident_updates"].failure
    api.permit("incident_updates")
    api.reset_log()
    sync_changes()
    assert incident in asked_incidents(api)
    assert update in read_table("incident_updates")
    api.reset_log()
    sync_changes()
    assert incident not in asked_incidents(api)


@pytest.mark.slow
def test_updates_are_fetched_after_incidents_were_synced_alone(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    update = post_update(api, find_settled(api, 3))
    sync_changes("incidents")
    sync_changes("incidents", changes=False)
    sync_changes()
    assert update in read_table("incident_updates")


@pytest.mark.slow
def test_incidents_that_failed_cost_no_update(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    incident, active = find_settled(api, 3), find_active(api)[0]
    updates = {post_update(api, incident), post_update(api, active)}
    api.forbid("incidents")
    outcomes = sync_changes()
    assert outcomes["incidents"].failure and not outcomes["incident_updates"].failure
    api.permit("incidents")
    sync_changes()
    assert updates <= read_table("incident_updates").keys()


@pytest.mark.slow
@pytest.mark.fault(
    "the process dies after rows of a sync by changes are merged, before its state is committed",
    "the next sync asks again for all that one had asked for",
    "every incident and every update",
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_load_that_was_cut_off_counts_as_not_seen(
    fails: bool,
    many_updates: None,
    api: DemoApi,
    sync_changes: SyncChanges,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_sync_full(sync_changes)
    update = post_update(api, find_settled(api, 3))
    with duckdb.connect("data/incidents.duckdb") as connection:
        kept = "CREATE TABLE kept AS FROM incident_api.incident_updates"
        connection.execute(kept)
    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(Sync, "conclude", _die)
        sync_changes()
    with duckdb.connect("data/incidents.duckdb") as connection:
        # What such a death leaves: merged incidents, but neither their load nor its state.
        ((load,),) = connection.execute(
            "SELECT max(load_id) FROM incident_api._dlt_loads"
        ).fetchall()
        connection.execute("DELETE FROM incident_api._dlt_loads WHERE load_id = ?", [load])
        connection.execute(
            "DELETE FROM incident_api._dlt_pipeline_state WHERE _dlt_load_id = ?", [load]
        )
        connection.execute("CREATE OR REPLACE TABLE incident_api.incident_updates AS FROM kept")
    assert update not in read_table("incident_updates")
    if fails:  # so that the incident is not listed by the sync that settles its row
        api.forbid("incidents")
        assert sync_changes()["incidents"].failure
        api.permit("incidents")
    sync_changes()
    assert update in read_table("incident_updates")


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_updates_are_fetched_after_incidents_were_refreshed_alone(
    fails: bool, many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    update = post_update(api, find_settled(api, 3))
    if fails:
        api.forbid("incident_updates")
    names = ("incidents", "incident_updates") if fails else ("incidents",)
    sync_changes(*names, changes=False, full_refresh=True)
    api.permit("incident_updates")
    assert update not in read_table("incident_updates")
    sync_changes()
    assert update in read_table("incident_updates")
    task = api.rows("follow_ups")[0]["id"]
    api.change("follow_ups", task, title="Renamed")
    refreshed = sync_changes("actions", full_refresh=True)["actions"]
    assert (refreshed.listing, refreshed.rows) == ("full", len(api.rows("actions")))
    outcomes = sync_changes()  # the watermarks of what was not refreshed are those of before
    assert (outcomes["follow_ups"].listing, outcomes["follow_ups"].changed) == ("changes", 1)


@pytest.mark.slow
@pytest.mark.fault(
    "another program drops a table, or takes rows away from it",
    "the next sync by changes lists the resource in full",
    "every row",
)
@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("follow_ups", "DROP TABLE incident_api.follow_ups"),
        ("incidents", "DELETE FROM incident_api.incidents WHERE hash(id) % 2 = 0"),
        ("incident_updates", "DELETE FROM incident_api.incident_updates WHERE hash(id) % 2 = 0"),
        ("incident_updates", "DROP TABLE incident_api.incident_updates"),
    ],
)
def test_what_another_program_took_away_comes_back(
    name: str, sql: str, many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    with duckdb.connect("data/incidents.duckdb") as connection:
        connection.execute(sql)
    outcomes = sync_changes()
    assert not any(x.failure for x in outcomes.values())
    assert outcomes[name].listing == "full"
    assert read_table(name).keys() == {row["id"] for row in api.rows(name)}
    assert sync_changes()["follow_ups"].listing == "changes"


@pytest.mark.slow
def test_an_incident_that_the_api_did_not_know_for_a_moment_is_asked_for_once_more(
    many_updates: None, api: DemoApi, sync_changes: SyncChanges
) -> None:
    run_sync_full(sync_changes)
    incident = find_settled(api, 3)
    update = post_update(api, incident)
    api.inject(Fault(where(incident, status(404)), resource="incident_updates"))
    assert not sync_changes()["incident_updates"].failure
    api.heal()
    assert update not in read_table("incident_updates")
    sync_changes()
    assert update in read_table("incident_updates")
    api.reset_log()
    sync_changes()
    assert incident not in asked_incidents(api)


def test_the_watermark_does_not_move_with_a_load_that_failed(
    api: DemoApi, loaded: Settings, sync_changes: SyncChanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> list[str]:
        api.reset_log()
        sync_changes("incidents")
        return next(x.query["updated_at[gte]"] for x in api.requests if x.resource == "incidents")

    before = ask()
    api.change("incidents", find_settled(api))
    with monkeypatch.context() as patched:
        patched.setattr("dlt.load.load.Load.submit_job", _fail)
        failure = sync_changes("incidents")["incidents"].failure
        assert failure and "ZeroDivisionError in test_changes.py" in failure.message
    assert ask() == before
    assert ask() > before
    assert_same_as_upstream(api, "incidents")


def _fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError


def test_a_time_in_the_future_does_not_hide_later_changes(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    api.change("incidents", find_settled(api), updated_at="2100-01-01T00:00:00Z")
    sync_changes()
    api.change("incidents", find_settled(api, 1), name="Changed later")
    sync_changes()
    assert_same_as_upstream(api, "incidents")


@contextmanager
def without_updated_at(api: DemoApi, incident: str) -> Iterator[None]:
    def cut(body: dict[str, Any]) -> None:
        for item in body["incidents"]:
            if item["id"] == incident:
                del item["updated_at"]

    api.inject(Fault(edit(cut), resource="incidents"))
    yield
    api.heal()


def test_an_incident_without_updated_at_is_an_error_by_changes_and_loads_in_full(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    incident = find_settled(api)
    api.change("incidents", incident, name="Undated")
    with without_updated_at(api, incident):
        failure = sync_changes("incidents")["incidents"].failure
        assert failure and "1 incidents have no updated_at" in str(failure)
        assert read_table("incidents")[incident]["name"] != "Undated"
        assert not sync_changes("incidents", changes=False)["incidents"].failure
        assert read_table("incidents")[incident]["name"] == "Undated"
        outcome = sync_changes("incidents")["incidents"]
        assert outcome.listing == "full" and not outcome.failure


@pytest.mark.slow
def test_rows_that_are_gone_are_marked_and_live_again_when_they_come_back(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    gone = {name: api.rows(name)[0] for name in ("users", "incidents", "actions")}
    for name, row in gone.items():
        api.remove(name, row["id"])
    outcomes = sync_changes(*NAMES, changes=False)
    assert {name: x.deleted for name, x in outcomes.items() if x.deleted} == dict.fromkeys(gone, 1)
    for name, row in gone.items():
        assert read_table(name)[row["id"]]["_deleted_at"] is not None
    logged = read_rows(
        "SELECT resource, deleted FROM incident_sync.log WHERE deleted > 0 ORDER BY resource"
    )
    assert logged == [{"resource": name, "deleted": 1} for name in sorted(gone)]
    assert not any(x.deleted for x in sync_changes(*NAMES, changes=False).values())
    for name, row in gone.items():
        api.add(name, row)
    sync_changes(*NAMES, changes=False)
    assert_same_as_upstream(api)


@pytest.mark.parametrize("broken", ["forbidden", "short", "by changes"])
def test_a_listing_that_is_not_whole_marks_nothing(
    broken: str, api: DemoApi, sync_changes: SyncChanges
) -> None:
    api.remove("incidents", find_settled(api))
    if broken == "forbidden":
        api.forbid("incidents")
    elif broken == "short":

        def announce(body: dict[str, Any]) -> None:
            body["pagination_meta"]["total_record_count"] += 1

        api.inject(Fault(edit(announce), resource="incidents"))
    outcomes = sync_changes("incidents", changes=broken == "by changes")
    assert outcomes["incidents"].deleted == 0
    assert {row["_deleted_at"] for row in read_table("incidents").values()} == {None}


@pytest.mark.slow
def test_a_full_refresh_drops_what_is_gone_and_heals_a_table(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    api.remove("severities", api.rows("severities")[0]["id"])
    sync_changes("severities", changes=False)
    with duckdb.connect("data/incidents.duckdb") as connection:
        connection.execute("ALTER TABLE incident_api.severities DROP COLUMN description")
        connection.execute("ALTER TABLE incident_api.severities ALTER rank TYPE VARCHAR")
    outcomes = sync_changes("severities", "users", changes=False, full_refresh=True)
    assert outcomes["severities"].deleted == 1 and outcomes["users"].deleted == 0
    assert len(read_table("severities")) == len(api.rows("severities"))
    schemas = read_rows("SELECT schema_name FROM duckdb_schemas() WHERE NOT internal")
    assert not [row for row in schemas if "refresh" in row["schema_name"]]
    api.change("severities", api.rows("severities")[0]["id"], name="Later", brand_new=1)
    sync_changes(*NAMES, changes=False)
    assert_same_as_upstream(api)
    sync_changes()
    assert_same_as_upstream(api)


@pytest.mark.slow
@pytest.mark.fault(
    "a full refresh fails or dies half-way",
    "the new tables are thrown away; a resource that could be read is replaced, another is not",
    "the old table, whole",
)
def test_a_full_refresh_that_fails_leaves_the_old_table(
    api: DemoApi, sync_changes: SyncChanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_table("users")
    api.inject(Fault(status(500), resource="users"))
    outcomes = sync_changes("users", "severities", changes=False, full_refresh=True)
    assert outcomes["users"].failure and not outcomes["severities"].failure
    assert read_table("users") == before
    api.heal()
    with monkeypatch.context() as patched:
        patched.setattr(Sync, "_conclude", _fail)
        with pytest.raises(ZeroDivisionError):
            sync_changes("users", changes=False, full_refresh=True)
    assert read_table("users") == before
    sync_changes(*NAMES, changes=False)
    assert_same_as_upstream(api)


def test_a_full_refresh_of_a_new_database_is_a_full_sync(
    api: DemoApi, settings: Settings, sync_changes: SyncChanges
) -> None:
    settings.database.unlink()
    sync_changes(*NAMES, changes=False, full_refresh=True)
    assert_same_as_upstream(api)


def test_tasks_are_asked_for_from_minutes_before_their_watermark(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    (newest,) = read_rows("SELECT max(updated_at) AS at FROM incident_api.actions")
    api.reset_log()
    assert sync_changes()["actions"].listing == "changes"
    asked = [x.query for x in api.requests if x.path == "/v3/actions"]
    assert [query.get("incident_mode") for query in asked] == [
        None,
        ["test"],
        ["tutorial"],
        ["stream"],
    ]
    since = {datetime.fromisoformat(query["updated_at[gte]"][0]) for query in asked}
    assert since == {newest["at"] - timedelta(minutes=10)}


@pytest.mark.parametrize("nth", [1, 4])
def test_a_walk_of_tasks_that_fails_in_any_mode_leaves_the_watermark(
    nth: int, api: DemoApi, sync_changes: SyncChanges
) -> None:
    changed = api.rows("actions")[0]["id"]
    api.change("actions", changed, description="Changed")
    api.inject(Fault(status(403), path="/v3/actions", nth=nth))
    assert sync_changes()["actions"].failure
    api.heal()
    # So much later that only the old watermark reaches back to it.
    for task in api.rows("actions")[1:3]:
        api.change("actions", task["id"], updated_at="2030-01-01T00:00:00Z")
    sync_changes()
    assert read_table("actions")[changed]["description"] == "Changed"


@pytest.mark.slow
def test_what_moves_no_time_of_a_task_and_deletions_are_seen_in_full(
    api: DemoApi, sync_changes: SyncChanges
) -> None:
    sync_changes(*NAMES, changes=False)
    renamed, gone = (row for row in api.rows("follow_ups")[:2])
    api.change("follow_ups", renamed["id"], updated_at=renamed["updated_at"], labels=["other"])
    api.remove("follow_ups", gone["id"])
    assert sync_changes()["follow_ups"].changed == 0
    assert read_table("follow_ups")[gone["id"]]["_deleted_at"] is None
    outcome = sync_changes(changes=False)["follow_ups"]
    assert (outcome.listing, outcome.changed, outcome.deleted) == ("full", 1, 1)
    api.turn_to("before")
    assert sync_changes()["follow_ups"].listing == "full"
    api.turn_to("now")
    assert sync_changes()["follow_ups"].listing == "changes"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            "edit post post-quietly close declare remove task untouched fail break year".split()
        ),
        st.integers(0, 99),
        st.sampled_from(["", "changes", "changes", "full"]),
    ),
    min_size=2,
    max_size=6,
)


def play_step(api: DemoApi, kind: str, number: int) -> None:
    """Change the account as people do."""
    incidents, active = api.rows("incidents"), find_active(api)
    incident = incidents[number % len(incidents)]["id"]
    if kind == "edit":
        api.change("incidents", incident, name=f"Edited {number}")
    elif kind == "post":
        post_update(api, incident)
    elif kind == "post-quietly" and active:
        post_update(api, active[number % len(active)], touch=False)
    elif kind == "close":
        closed = next(x for x in api.rows("incident_statuses") if x["category"] == "closed")
        api.change("incidents", incident, incident_status=closed)
        post_update(api, incident)
    elif kind == "declare":
        post_update(api, str(api.add("incidents")["id"]), touch=False)
    elif kind == "remove" and len(incidents) > 3:
        api.remove("incidents", incident)
        for update in [x for x in api.rows("incident_updates") if x["incident_id"] == incident]:
            api.remove("incident_updates", update["id"])
    elif kind == "task":
        resource = ("actions", "follow_ups")[number % 2]
        task = api.rows(resource)[number % len(api.rows(resource))]
        api.change(resource, task["id"], status="completed")
        api.account.modes[task["id"]] = ("standard", "stream", "test")[number % 3]
        api.add(resource, incident_id=incident)
    elif kind == "untouched":
        task = api.rows("follow_ups")[number % len(api.rows("follow_ups"))]
        api.remove("actions", api.rows("actions")[number % len(api.rows("actions"))]["id"])
        api.change("follow_ups", task["id"], updated_at=task["updated_at"], labels=["renamed"])
    elif kind == "year":
        years: tuple[Calendar, ...] = ("before", "now", "2027")
        api.turn_to(years[number % 3], gone=("404", "410", "redirect")[number % 3])
    elif kind == "fail":
        api.forbid(("incidents", "incident_updates")[number % 2])
    elif kind == "break":
        bad = status(500)
        api.inject(Fault(bad, resource=("incidents", "incident_updates")[number % 2]))


def play_and_compare(steps: list[tuple[str, int, str]], pages: int, folder: Any) -> None:
    """Play steps with syncs in between; the end is what a fresh load of everything would be.

    Rows deleted upstream are left out of the comparison until a full listing has marked them.
    """
    with (
        DemoApi(generate_account(8), key=KEY) as api,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("INCIDENT_API_KEY", KEY)
        # So many updates that asking by incident pays.
        settled = find_settled(api)
        for _ in range(250 * pages):
            api.add("incident_updates", incident_id=settled)
        path = folder / "data" / "incidents.duckdb"
        settings = Settings(base_url=api.url, duckdb_path=str(path), backoff=0.001)
        run_sync(settings, LIVE)
        for kind, number, sync in steps:
            play_step(api, kind, number)
            if sync:
                run_sync(settings, LIVE, changes=sync == "changes")
                api.heal()
                api.forbidden.clear()
        api.heal()
        api.forbidden.clear()
        run_sync(settings, LIVE, changes=True)
        compare(api, path, marked=False)
        run_sync(settings, LIVE, accept_loss=LIVE)  # an incident may have had most updates
        compare(api, path, marked=True)
        path.unlink()


def compare(api: DemoApi, path: Any, marked: bool) -> None:
    with duckdb.connect(str(path), read_only=True) as connection:
        for name in LIVE:
            endpoint = find_endpoint(name)
            cursor = connection.execute(f"SELECT * FROM {RAW_SCHEMA}.{name}")
            columns = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
            items = read_upstream(api, endpoint)
            live = {row["id"]: rebuild(endpoint, row) for row in rows if not row["_deleted_at"]}
            for row in live.values():  # what this version lacks may hold what another has said
                for column in find_way(api, endpoint).lacks:
                    row.pop(column, None)
            if not marked:  # some things change unseen, until everything is listed
                for row in (*live.values(), *items.values()):
                    for column in ("labels", *CAME_AFTER_AUGUST["/v2/incidents"]):
                        row.pop(column, None)
            if not marked:
                live = {key: row for key, row in live.items() if key in items}
            assert len({row["id"] for row in rows}) == len(rows)
            assert live == items, name


@pytest.mark.slow
@given(steps=STEPS, pages=st.sampled_from([0, 12]))
@hypothesis_settings(
    max_examples=4,  # the long form below plays 200
    deadline=None,
    phases=[Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_sequence_ends_as_a_fresh_load(
    tmp_path: Any, steps: list[tuple[str, int, str]], pages: int
) -> None:
    play_and_compare(steps, pages, tmp_path)


@pytest.mark.long
@given(steps=STEPS, pages=st.sampled_from([0, 12]))
@hypothesis_settings(
    max_examples=200,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_of_many_sequences_ends_as_a_fresh_load(
    tmp_path: Any, steps: list[tuple[str, int, str]], pages: int
) -> None:
    play_and_compare(steps, pages, tmp_path)
