"""Personal data kept out: of every byte that a sync writes, and after a change of the setting."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from incident_assets.demo.account import Account
from incident_assets.demo.faults import Fault, redirect, status, unframed
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.personal import MaskMismatch, read_masking
from incident_assets.sync.renewal import renew_database
from incident_assets.sync.run import open_sync, run_sync
from incident_assets.values import SettingError
from incident_assets.warehouse.held import hold_database
from incident_assets.warehouse.place import find_warehouse
from incident_assets_tests.conftest import NAMES, publish, read_rows
from incident_assets_tests.hostile import Hostile, find_in_files, find_in_tables
from incident_assets_tests.modelling import build_all

MASK_KEY = "a key of the tests alone 0815"
DATA = Path("data")
MODES = pytest.mark.parametrize("mode", ["hash", "drop"])


@pytest.fixture
def hostile() -> Hostile:
    """An account with known people everywhere."""
    return Hostile()


@pytest.fixture
def account(hostile: Hostile) -> Account:
    """That account, in the place of the small one."""
    return hostile.account


def masked(settings: Settings, mode: str = "hash", key: str = MASK_KEY) -> Settings:
    """Return the settings with another masking."""
    return replace(settings, personal_data=mode, personal_data_key=key)


def sync(settings: Settings, *names: str, **options: Any) -> dict[str, Outcome]:
    """Sync without Dagster into a file that compresses nothing, so that its bytes can be read."""
    config = {"force_compression": "uncompressed"}
    warehouse = find_warehouse(settings)
    with hold_database(warehouse, "a test", "a test", config) as database:
        with (
            database.cursor(20) as connection,
            open_sync(connection, settings, names or NAMES, "a test", **options) as run,
        ):
            outcomes = {outcome.resource: outcome for outcome in run.run()}
        if run.is_due:
            renew_database(settings, database)
    return outcomes


def assert_nobody(hostile: Hostile, path: Path = DATA / "incidents.duckdb") -> None:
    """Nobody of the account is in any file or column."""
    assert find_in_tables(hostile.secrets, path) == {}
    assert find_in_files(hostile.secrets, Path.cwd()) == {}


def read_models_and_joins() -> dict[str, Any]:
    """Return how many rows each model has, and how many of them are joined with a user."""
    path = DATA / "incidents.duckdb"
    built = build_all(path)
    assert all(x.grain.passed for x in built.values())
    joined = {
        f"{table}.{column}": read_rows(
            f"SELECT count(*) AS n FROM incident_analytics.{table} AS t "
            f"JOIN incident_analytics.dim_user AS u ON t.{column} = u.user_id"
        )
        for table, column in (
            ("fct_role_assignment", "user_id"),
            ("fct_action", "creator_id"),
            ("fct_incident", "creator_id"),
            ("fct_on_call_shift", "user_id"),
        )
    }
    return {name: x.rows for name, x in built.items()} | joined


@pytest.mark.slow
def test_a_database_that_keeps_people_shows_them(hostile: Hostile, settings: Settings) -> None:
    """What the other tests look for would be found."""
    sync(settings)
    shown = {x for here in find_in_files(hostile.secrets, Path.cwd()).values() for x in here}
    assert {*hostile.secrets} == shown
    held = find_in_tables(hostile.secrets, settings.database)
    assert {*hostile.secrets} == {x for here in held.values() for x in here}


@pytest.mark.slow
@MODES
def test_nobody_is_in_any_byte(
    mode: str, hostile: Hostile, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = sync(masked(settings, mode))
    assert {x.outcome for x in outcomes.values()} == {"loaded"}
    publish(settings)
    build_all(settings.database)
    assert_nobody(hostile)
    assert_nobody(hostile, settings.published_copy)
    assert not [x for x in hostile.secrets if x in caplog.text]
    # Nothing has changed, so nothing is written.
    assert {x.changed for x in sync(masked(settings, mode)).values()} == {0}


@MODES
def test_nobody_is_in_the_spool(mode: str, hostile: Hostile, settings: Settings) -> None:
    wanted = masked(settings, mode)
    with (
        hold_database(find_warehouse(wanted), "a test", "a test") as database,
        database.cursor(20) as connection,
        open_sync(connection, wanted, NAMES, "a test") as run,
    ):
        run.fetch()
        assert [*DATA.glob("*.work/*.parquet")]
        assert find_in_files(hostile.secrets, Path.cwd()) == {}


def write_versions(connection: duckdb.DuckDBPyConnection) -> None:
    """Have a version of each row that is like it."""
    for name in NAMES:
        connection.execute(
            f"INSERT INTO incident_history.{name} BY NAME "
            f"SELECT *, now() AS _valid_to, 'changed' AS _ended FROM incident_api.{name}"
        )


@pytest.mark.slow
@MODES
def test_models_count_what_they_count_with_people(
    mode: str, api: DemoApi, settings: Settings
) -> None:
    sync(settings)
    kept = read_models_and_joins()
    os.unlink(settings.database)
    sync(masked(settings, mode))
    assert read_models_and_joins() == kept
    assert sum(kept[x][0]["n"] for x in kept if "." in x) > 0


def test_one_person_has_one_hash(api: DemoApi, settings: Settings) -> None:
    sync(masked(settings))
    names = read_rows(
        "SELECT DISTINCT u.name, json_extract_string(a.assignee, '$.name') AS embedded "
        "FROM incident_api.users AS u JOIN incident_api.actions AS a "
        "ON u.id = json_extract_string(a.assignee, '$.id')"
    )
    assert names and all(row["name"] == row["embedded"] for row in names)
    assert all(row["name"].startswith("p_") and len(row["name"]) == 18 for row in names)


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("has_history", [False, True])
def test_a_full_refresh_masks_what_was_kept(
    mode: str, has_history: bool, hostile: Hostile, settings: Settings
) -> None:
    sync(settings)
    build_all(settings.database)
    publish(settings)
    publish(settings, keep_previous=True)
    settings.report_page.write_text(
        f"<html><title>Incident reliability report</title>{hostile.secrets[0]}"
    )
    with duckdb.connect(str(settings.database)) as connection:
        # A database of the program before remembers nothing.
        connection.execute("DROP TABLE incident_sync.personal_data")
        if has_history:
            write_versions(connection)
        else:
            connection.execute("DROP SCHEMA incident_history CASCADE")
    assert find_in_files(hostile.secrets, Path.cwd())
    wanted = masked(settings, mode)
    with pytest.raises(MaskMismatch, match=f"written with INCIDENT_PERSONAL_DATA=keep.* {mode}"):
        sync(wanted)
    with pytest.raises(MaskMismatch, match=r"leaves out actions, .*full_refresh"):
        sync(wanted, "users", full_refresh=True)
    assert find_in_tables(hostile.secrets, settings.database)  # untouched by both
    sync(wanted, full_refresh=True)
    assert_nobody(hostile)
    assert_nobody(hostile, settings.published_copy)
    assert settings.published_copy.exists()
    assert not settings.previous_copy.exists() and not settings.report_page.exists()
    if has_history:  # what it was is masked as what it is
        for name in NAMES:
            same = read_rows(
                f"SELECT count(*) AS n FROM incident_history.{name} AS h JOIN incident_api.{name} "
                "AS t USING (id) WHERE h._rescued::VARCHAR IS NOT DISTINCT FROM t._rescued::VARCHAR"
            )
            assert same == read_rows(f"SELECT count(*) AS n FROM incident_api.{name}")
    assert {x.changed for x in sync(wanted).values()} == {0}


@pytest.mark.slow
def test_rows_masked_where_they_stand_are_those_that_a_sync_writes(
    hostile: Hostile, settings: Settings
) -> None:
    sync(settings)
    with duckdb.connect(str(settings.database)) as connection:
        write_versions(connection)
    sync(masked(settings), full_refresh=True)
    for name in NAMES:
        others = read_rows(
            f"SELECT * EXCLUDE (_dlt_load_id, _valid_to, _ended) FROM incident_history.{name} "
            f"EXCEPT SELECT * EXCLUDE (_dlt_load_id) FROM incident_api.{name}"
        )
        assert others == [] != read_rows(f"FROM incident_history.{name} LIMIT 1"), name


@pytest.mark.slow
@pytest.mark.parametrize("to", ["drop", "keep", "another key"])
def test_from_hashes_there_is_no_way_back_for_history(
    to: str, hostile: Hostile, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    sync(masked(settings))
    hashes = {row["name"] for row in read_rows("SELECT name FROM incident_api.users")}
    with duckdb.connect(str(settings.database)) as connection:
        write_versions(connection)
    wanted = masked(settings, key="another key of the tests") if to == "another key" else settings
    wanted = masked(settings, to) if to == "drop" else wanted
    with pytest.raises(MaskMismatch, match=r"another INCIDENT_PERSONAL_DATA_KEY|=hash, and now"):
        sync(wanted)
    sync(wanted, full_refresh=True)
    assert "history ends here and begins anew" in caplog.text
    assert find_in_files(sorted(hashes), DATA) == {}
    assert (find_in_tables(hostile.secrets, settings.database) != {}) == (to == "keep")
    sync(wanted)


@pytest.mark.slow
def test_a_change_that_is_not_whole_has_to_be_done_again(
    api: DemoApi, settings: Settings, hostile: Hostile
) -> None:
    sync(masked(settings))
    other = masked(settings, "drop")
    api.inject(Fault(status(500), resource="actions"))
    assert sync(other, full_refresh=True)["actions"].outcome == "failed"
    for again in (other, masked(settings)):
        with pytest.raises(MaskMismatch, match="not all of it is yet"):
            sync(again)
    api.heal()
    sync(other, full_refresh=True)
    sync(other)


@pytest.mark.slow
def test_what_a_killed_run_left_to_do_is_done_by_the_next(
    hostile: Hostile, settings: Settings
) -> None:
    sync(settings)
    wanted = masked(settings)
    # As `run_sync` does, until the rows are there and the file is not written anew.
    with (
        hold_database(find_warehouse(wanted), "a test", "a test") as database,
        database.cursor(20) as connection,
        open_sync(connection, wanted, NAMES, "a test", full_refresh=True) as run,
    ):
        run.run()
        assert read_masking(connection).is_due
    assert find_in_files(hostile.secrets, DATA)
    sync(wanted, "severities")
    assert_nobody(hostile)


@pytest.mark.slow
def test_columns_can_be_left_out(hostile: Hostile, settings: Settings) -> None:
    sync(settings)
    wanted = replace(settings, drop_fields="incident_updates.message, incidents.summary")
    with pytest.raises(MaskMismatch, match="INCIDENT_DROP_FIELDS naming nothing, and now"):
        sync(wanted)
    messages = [
        row["message"]
        for row in read_rows("SELECT DISTINCT message FROM incident_api.incident_updates")
        if row["message"] and len(row["message"]) > 12
    ]
    assert find_in_files(messages, DATA)
    sync(wanted, full_refresh=True)
    assert find_in_tables(messages, settings.database) == {}
    assert find_in_files(messages, DATA) == {}
    assert find_in_tables(hostile.secrets, settings.database)
    assert {x.changed for x in sync(wanted).values()} == {0}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("users", "'users', and users has no such column"),
        ("nothing.name", "it should be a resource and a column.*the resources are actions"),
        ("users.surname", "no such column; it has id, name"),
        ("users.id", "told apart and joined by it"),
        ("incidents.incident_status", "models are built on it"),
        ("incidents.created_at", "it is no text"),
    ],
)
def test_only_what_can_be_missed_is_left_out(settings: Settings, fields: str, told: str) -> None:
    with pytest.raises(SettingError, match=f"INCIDENT_DROP_FIELDS has .*{told}"):
        run_sync(replace(settings, drop_fields=fields), NAMES)


@pytest.mark.parametrize("mode", ["keep", "hash"])
def test_failures_quote_nobody(
    mode: str, api: DemoApi, hostile: Hostile, settings: Settings
) -> None:
    name, address = hostile.make_name(), hostile.make_address()
    message = f"the key of {name} <{address}> may not read this"
    body = f'{{"type":"{name}","errors":[{{"message":"{message}"}}],"request_id":"{name}"}}'
    api.inject(Fault(status(403, body.encode(), Sunset=f"ask {name}"), resource="actions"))
    api.inject(Fault(redirect(f"https://example.com/{address}"), resource="users"))
    # Nor does what broke on the wire, which may look like words of a disk.
    row = api.rows("severities")[0]["id"]
    api.change("severities", row, name=f"No space left on device {name} {address}")
    api.inject(Fault(unframed(), resource="severities"))
    outcomes = sync(masked(settings, mode))
    failed = {x for x, outcome in outcomes.items() if outcome.outcome == "failed"}
    assert failed == {"actions", "users", "severities"}
    assert "cannot reach" in str(outcomes["severities"].failure)
    found = find_in_tables([name, address], settings.database)
    assert (found == {}) == (mode == "hash")
    told = " ".join(str(outcomes[x].failure) for x in sorted(failed))
    assert (name in told or address in told) == (mode == "keep")
    assert "403" in told and "redirected" in told
