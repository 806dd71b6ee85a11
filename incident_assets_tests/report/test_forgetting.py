"""Whoever is forgotten is in no row, no version and no byte; the rest is as it was."""

import duckdb
import pytest

from incident_assets.demo.faults import Fault, redirect
from incident_assets.demo.server import DemoApi
from incident_assets.report.forgetting import forget
from incident_assets.settings import Settings
from incident_assets.sync.log import name_newest_rows
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.file import DatabaseError
from incident_assets_tests.conftest import NAMES, publish, read_rows, read_table, run_command

NAME, ADDRESS = "Zebedee Quux", "zebedee@quux.example"
TITLE = "Incident of the patient Quux"


@pytest.fixture
def known(api: DemoApi, loaded: Settings) -> tuple[str, str]:
    """An incident and a user of a database with versions of both, a copy and models."""
    incident, user = api.rows("incidents")[0]["id"], api.rows("users")[0]["id"]
    person = {"id": user, "name": NAME, "email": ADDRESS, "role": "owner"}
    for number in range(2):
        api.change("users", user, name=f"{NAME} {number}", email=ADDRESS)
        api.change("incidents", incident, name=f"{TITLE} {number}")
        task = next(x for x in api.rows("follow_ups") if x["incident_id"] != incident)
        api.change("follow_ups", task["id"], assignee=person, title=f"Task {number}")
        run_sync(loaded, NAMES)
    publish(loaded)
    return incident, user


def find_bytes(settings: Settings, *texts: str) -> list[str]:
    """Return the files beside a database that hold one of these texts."""
    with duckdb.connect(str(settings.database)) as connection:
        connection.execute("PRAGMA force_compression = 'uncompressed'; CHECKPOINT")
    files = [file for file in settings.database.parent.iterdir() if file.is_file()]
    return [x.name for x in files if any(text.encode() in x.read_bytes() for text in texts)]


@pytest.mark.slow
def test_a_forgotten_user_is_an_id_and_nothing_else(
    known: tuple[str, str], loaded: Settings
) -> None:
    _, user = known
    assert find_bytes(loaded, NAME, ADDRESS)
    before = {name: len(read_table(name)) for name in NAMES}
    done = forget(loaded, [], [user], False)
    assert (done.rows, done.versions) == (1, 2)
    assert find_bytes(loaded, NAME, ADDRESS) == []
    assert {name: len(read_table(name)) for name in NAMES} == before | {
        "users": before["users"] - 1
    }
    held = read_rows(f"FROM incident_api.follow_ups WHERE assignee::VARCHAR LIKE '%{user}%'")
    assert held and {row["assignee"] for row in held} == {f'{{"id":"{user}"}}'}
    assert not read_rows(f"FROM incident_analytics.dim_user WHERE user_id = '{user}'")
    assert read_rows("FROM incident_analytics.mart_responder_load")
    assert not loaded.report_page.exists()


@pytest.mark.slow
def test_what_the_log_said_is_forgotten_beside_the_database_too(
    api: DemoApi, loaded: Settings
) -> None:
    api.inject(Fault(redirect(f"https://example.com/{ADDRESS}"), resource="severities"))
    assert run_sync(loaded, ["severities"])[0].failure
    newest = name_newest_rows(loaded.database)
    assert ADDRESS in newest.read_text()
    forget(loaded, [], [api.rows("users")[0]["id"]], False)
    assert ADDRESS not in newest.read_text()


@pytest.mark.slow
def test_what_a_killed_load_left_beside_the_tables_is_forgotten_too(
    api: DemoApi, loaded: Settings
) -> None:
    user, other = (x["id"] for x in api.rows("users")[:2])
    api.change("users", user, name=NAME)
    run_sync(loaded, ["users"])
    with duckdb.connect(str(loaded.database)) as connection:  # before dlt has emptied it
        connection.execute("INSERT INTO incident_api_staging.users FROM incident_api.users")
    forget(loaded, [], [user], False)
    assert find_bytes(loaded, NAME) == []
    api.remove("users", user)
    api.change("users", other, name="Renamed")
    assert not any(x.failure for x in run_sync(loaded, NAMES))
    assert read_table("users")[other]["name"] == "Renamed"


@pytest.mark.slow
def test_a_report_that_is_there_is_made_again(known: tuple[str, str], loaded: Settings) -> None:
    page = loaded.report_page
    page.write_text(f"<html><title>Incident reliability report</title>{NAME}")
    forget(loaded, [], [known[1]], False)
    assert NAME not in page.read_text() and "Who carries the load" in page.read_text()
    page.write_text(f"<html><title>My own page</title>{NAME}")
    forget(loaded, [known[0]], [], False)
    assert page.read_text() == f"<html><title>My own page</title>{NAME}"


@pytest.mark.slow
def test_a_forgotten_incident_takes_along_what_belongs_to_it(
    api: DemoApi, known: tuple[str, str], loaded: Settings
) -> None:
    incident, _ = known
    others = len(read_table("incidents")) - 1
    forget(loaded, [incident], [], False)
    assert find_bytes(loaded, TITLE) == []
    assert len(read_table("incidents")) == others
    for name in ("incident_updates", "actions", "follow_ups"):
        for schema in ("incident_api", "incident_history"):
            rows = f"FROM {schema}.{name} WHERE incident_id = '{incident}'"
            assert not read_rows(rows), (schema, name)
    api.remove("incidents", incident)
    assert not any(x.failure for x in run_sync(loaded, NAMES, accept_loss=NAMES))
    assert len(read_table("incidents")) == others


@pytest.mark.slow
def test_history_that_is_forgotten_begins_anew(
    api: DemoApi, known: tuple[str, str], loaded: Settings
) -> None:
    done = forget(loaded, [], [], True)
    assert done.rows == 0 < done.versions
    assert find_bytes(loaded, f"{TITLE} 0", f"{NAME} 0") == []
    api.change("incidents", known[0], name="Renamed")
    run_sync(loaded, ["incidents"])
    versions = read_rows("FROM incident_history.incidents")
    assert [row["name"] for row in versions] == [f"{TITLE} 1"]
    since = read_rows("SELECT min(since) AS at FROM incident_history._period")[0]["at"]
    as_of = f"FROM incident_history.incidents_as_of('{since}') WHERE id = '{known[0]}'"
    assert read_rows(as_of)[0]["name"] == f"{TITLE} 1"


@pytest.mark.slow
def test_what_is_not_there_is_not_forgotten(known: tuple[str, str], loaded: Settings) -> None:
    before = loaded.database.read_bytes()
    with pytest.raises(DatabaseError, match="knows no row 'nobody' in users"):
        forget(loaded, [known[0]], ["nobody"], False)
    assert read_table("incidents")[known[0]] and len(before) == loaded.database.stat().st_size


@pytest.mark.slow
def test_the_command_says_what_is_forgotten(known: tuple[str, str], loaded: Settings) -> None:
    result = run_command("incident_assets", "forget", "--user", known[1])
    assert result.returncode == 0 and "was written anew" in result.stderr
    assert result.stdout == "1 rows and 2 versions of rows are forgotten\n"
    result = run_command("incident_assets", "forget")
    assert result.returncode == 2 and "give --incident ID, --user ID or --history" in result.stderr
    result = run_command("incident_assets", "forget", "--incident", "none")
    assert result.returncode == 2 and "nothing was forgotten" in result.stderr
