"""COMMENTs: every table and column says what it is, in the copy too, and nothing is said twice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from incident_assets.api.endpoints import find_endpoint
from incident_assets.demo.server import DemoApi
from incident_assets.models.catalog import read_models
from incident_assets.settings import Settings
from incident_assets.sync.log import LOG_TEXTS, Outcome
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.comments import UNKNOWN, describe_endpoint, write_comments
from incident_assets.warehouse.schemas import VERSION_TABLE
from incident_assets.warehouse.versions import COMMENTS
from incident_assets_tests.conftest import NAMES, publish, read_rows
from incident_assets_tests.modelling import build_all

COPY = "data/incidents.published.duckdb"
SAID = (
    "SELECT table_name AS t, column_name AS c, comment FROM duckdb_columns() WHERE schema_name "
    "IN ('incident_api', 'incident_sync', 'incident_analytics') UNION ALL "
    "SELECT table_name, '', comment FROM duckdb_tables() WHERE schema_name "
    "IN ('incident_api', 'incident_sync', 'incident_analytics')"
)


def read_comments(path: str = COPY) -> dict[tuple[str, str], str | None]:
    """Return the comments of columns by table and column, those of tables under no column."""
    return {(row["t"], row["c"]): row["comment"] for row in read_rows(SAID, path)}


def test_every_table_and_column_of_the_copy_says_what_it_is(loaded: Settings, api: DemoApi) -> None:
    # A field that is new, and rows that are replaced, after which the table is written anew.
    for row in api.rows("severities"):
        api.change("severities", row["id"], name=f"{row['name']} now", new_field=1)
    assert not any(x.failure for x in run_sync(loaded, NAMES))
    build_all(loaded.database)
    publish(loaded)
    said = read_comments()
    assert [place for place, text in said.items() if text is None] == []
    assert len(said) > 500
    assert said["severities", ""] == "How bad an incident can be. One row per severity."
    assert said["severities", "rank"] == "Higher is more severe"
    assert said["fct_incident", "week"] == read_models()["fct_incident"].texts.columns["week"]
    assert said["fct_incident", ""] == read_models()["fct_incident"].texts.table
    assert said["log", "outcome"] == LOG_TEXTS.columns["outcome"]
    assert said["severities", "new_field"] == UNKNOWN


def test_only_what_is_missing_is_written(loaded: Settings) -> None:
    texts = {f"incident_api.{name}": describe_endpoint(find_endpoint(name)) for name in NAMES}
    with duckdb.connect(str(loaded.database), read_only=True) as connection:
        write_comments(connection, texts)  # or it would be refused


def test_what_another_version_of_the_program_said_is_said_anew_once(loaded: Settings) -> None:
    say = "COMMENT ON COLUMN incident_api.users.name IS 'other words'"
    with duckdb.connect(str(loaded.database)) as connection:
        connection.execute(say)
        connection.execute(f"UPDATE {VERSION_TABLE} SET version = 'x' WHERE name = '{COMMENTS}'")
    run_sync(loaded, ["severities"])
    assert read_comments(str(loaded.database))["users", "name"] == "Full name"
    with duckdb.connect(str(loaded.database)) as connection:
        connection.execute(say)
    run_sync(loaded, ["users"])
    assert read_comments(str(loaded.database))["users", "name"] == "other words"


def test_a_table_that_is_refreshed_keeps_its_comments(loaded: Settings) -> None:
    run_sync(loaded, ["severities"], full_refresh=True)
    said = read_comments(str(loaded.database))
    assert said["severities", "rank"] == "Higher is more severe" and said["severities", ""]


def test_the_copy_holds_what_is_read_and_says_whose_it_is(
    loaded: Settings, sync: Callable[..., dict[str, Outcome]]
) -> None:
    sync("users")
    with duckdb.connect(str(loaded.database)) as connection:
        connection.execute("CREATE SCHEMA mine; CREATE TABLE mine._dlt_notes AS SELECT 1 AS n")
    publish(loaded)
    tables = {(r["s"], r["t"]) for r in read_rows(
        "SELECT schema_name AS s, table_name AS t FROM duckdb_tables()", COPY
    )}  # fmt: skip
    own = {("incident_sync", name) for name in ("log", "database_id", "contents", "personal_data")}
    own |= {("incident_history", name) for name in ("_period", *NAMES)}
    assert tables == {("mine", "_dlt_notes"), *own, *(("incident_api", name) for name in NAMES)}
    schemas = read_rows("SELECT schema_name AS s FROM duckdb_schemas() WHERE NOT internal", COPY)
    assert {"incident_api_staging"} & {row["s"] for row in schemas} == set()
    (moment,) = read_rows("SELECT published_at AS at FROM incident_sync.contents", COPY)
    assert read_comments()["database_id", ""] == (
        "A copy for reading, of the account https://app.example.com/demo, as of "
        f"{moment['at']:%Y-%m-%d %H:%M:%S} UTC."
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keep", "drop"])
def test_a_copy_that_is_taken_back_is_synced_on(mode: str, loaded: Settings) -> None:
    masked = replace(loaded, personal_data=mode)
    run_sync(masked, NAMES, full_refresh=True)
    with duckdb.connect(str(loaded.database)) as connection:
        connection.execute("UPDATE incident_sync.personal_data SET is_due = true")
    publish(masked)
    assert not any(row["is_due"] for row in read_rows("FROM incident_sync.personal_data", COPY))
    back = replace(masked, duckdb_path="data/back.duckdb")
    Path(COPY).rename(back.database)
    for _ in range(2):
        outcomes = run_sync(back, NAMES, changes=True)
        assert not any(x.failure for x in outcomes)
    assert sum(x.changed for x in outcomes) == 0
    assert publish(back)
