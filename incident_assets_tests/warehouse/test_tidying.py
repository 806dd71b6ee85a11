"""What a sync writes anew though no row has changed: for room in the file, and for order."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from incident_assets.demo.account import Account, generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.log import Outcome
from incident_assets.warehouse import tidying
from incident_assets_tests.conftest import read_rows

Sync = Callable[..., dict[str, Outcome]]


@pytest.fixture
def account() -> Account:
    """So many rows that DuckDB does not take the room of replaced ones back by itself."""
    return generate_account(4000)


def change(api: DemoApi, every: int) -> None:
    for row in api.rows("follow_ups")[::every]:
        api.change("follow_ups", row["id"], title="Do it")


def read_room(table: str = "follow_ups") -> tuple[int, int]:
    """Return how many rows a raw table has, and for how many there is room in the file."""
    (row,) = read_rows(f"SELECT count(*) AS n, max(rowid) + 1 AS room FROM incident_api.{table}")
    return row["n"], row["room"]


def test_rows_that_were_replaced_leave_the_file(api: DemoApi, sync: Sync) -> None:
    sync("follow_ups")
    look = (
        "SELECT column_name, is_nullable, comment FROM duckdb_columns() "
        "WHERE schema_name = 'incident_api' AND table_name = 'follow_ups'"
    )
    before = read_rows(look)
    change(api, every=3)
    sync("follow_ups")
    rows, room = read_room()
    assert rows == room == len(api.rows("follow_ups"))
    assert read_rows(look) == before
    # For a few it is not worth while.
    change(api, every=50)
    sync("follow_ups")
    assert read_room() == (rows, rows + rows // 50)


def test_where_memory_is_too_small_a_table_stays_as_it_was(
    api: DemoApi, sync: Sync, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync("follow_ups")
    change(api, every=3)

    def run_out(*_: object) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: as a test has it")

    monkeypatch.setattr(tidying, "rewrite_table", run_out)
    with caplog.at_level(logging.WARNING):
        (outcome,) = sync("follow_ups").values()
    assert "no table was compacted: Out of Memory Error" in caplog.text
    assert outcome.failure is None
    changed = "SELECT count(*) AS n FROM incident_api.follow_ups WHERE title = 'Do it'"
    assert read_rows(changed) == [{"n": outcome.changed}]


def test_versions_of_a_moment_stand_together(
    api: DemoApi, sync: Sync, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "FEW", 4 * tidying.BLOCK)  # as of a table with so many rows more
    sync("severities")
    moments = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=x) for x in (0, 90, 180, 270)]
    write_versions(settings, 12 * tidying.BLOCK)
    found, blocks = list(map(sign_found, moments)), sum(map(count_blocks, moments))
    versions = "SELECT count(*), sum(hash(h)) FROM incident_history.severities AS h"
    kept, places = read_rows(versions), [sign_places()]
    while len(places) < 2 or places[-1] != places[-2]:  # part by part
        sync("severities")
        places.append(sign_places())
    assert list(map(sign_found, moments)) == found
    assert read_rows(versions) == kept
    assert sum(map(count_blocks, moments)) < 0.75 * blocks

    # A few more are left where they are; many are not.
    api.change("severities", api.rows("severities")[0]["id"], name="Another")
    sync("severities")
    assert sign_places() == places[-1]
    write_versions(settings, 4 * tidying.BLOCK, year=2021)
    last = sign_places(2021)
    sync("severities")
    assert sign_places(2021) != last


def test_what_has_ended_at_once_is_left_in_any_order(
    sync: Sync, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "MANY", 10)
    monkeypatch.setattr(tidying, "FEW", 10)
    sync("severities")
    write_versions(settings, 1000, days=20)
    places = sign_places()
    for _ in range(3):
        sync("severities")
    assert sign_places() == places


def write_versions(settings: Settings, rows: int, year: int = 2020, days: int = 300) -> None:
    """Write a year's versions of many rows in the order of their ends, as syncs do.

    Each row changes every so many days, from 20 to as many.
    """
    with duckdb.connect(str(settings.database)) as connection:
        connection.execute("UPDATE incident_history._period SET since = '2020-01-01 00:00:00Z'")
        connection.execute(
            "WITH changes AS (SELECT i, 20 + (hash(i) % $spread)::INT AS every "
            "FROM range($n) AS x (i))"
            ", versions AS ("
            "   SELECT i, $start + to_days(greatest(0, j * every - i % every)::INT) AS begun, "
            "   $start + to_days(((j + 1) * every - i % every)::INT) AS ended "
            "   FROM changes, range(365 // every) AS y (j)"
            ") INSERT INTO incident_history.severities BY NAME "
            "SELECT s.* REPLACE (s.id || i AS id, begun AS _valid_from), "
            "ended AS _valid_to, 'changed' AS _ended "
            "FROM (FROM incident_api.severities LIMIT 1) AS s, versions ORDER BY ended",
            {"n": rows, "spread": days - 19, "start": datetime(year, 1, 1, tzinfo=UTC)},
        )


def sign_places(year: int = 2020) -> dict[str, Any]:
    """Return a number that stands for where the versions of a year are."""
    sql = (
        "SELECT sum(hash(id, _valid_to, rowid)) FROM incident_history.severities "
        f"WHERE year(_valid_to) = {year}"
    )
    return read_rows(sql)[0]


def sign_found(at: datetime) -> dict[str, Any]:
    """Return how many rows there were at a moment, and a number that stands for them."""
    sql = f"SELECT count(*) AS n, sum(hash(s)) FROM incident_history.severities_as_of('{at}') AS s"
    return read_rows(sql)[0]


def count_blocks(at: datetime) -> int:
    """Return of how many blocks of rows DuckDB has to decode all columns."""
    sql = (
        f"SELECT count(DISTINCT rowid // {tidying.BLOCK}) AS n FROM incident_history.severities "
        f"WHERE _valid_from <= '{at}' AND _valid_to > '{at}'"
    )
    return int(read_rows(sql)[0]["n"])
