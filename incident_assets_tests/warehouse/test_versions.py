"""A version says whether a table is as it was noted, and is unsure rather than wrong."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from incident_assets.warehouse.versions import (
    doubt_versions,
    note_others,
    note_version,
    prepare_versions,
    read_versions,
    sign_contents,
)

TABLE = "incident_api.users"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with a raw table of two rows and a table of somebody's own."""
    with duckdb.connect(str(tmp_path / "incidents.duckdb")) as connection:
        connection.execute("CREATE SCHEMA incident_api; CREATE SCHEMA own")
        connection.execute(
            f"CREATE TABLE {TABLE} AS SELECT i::VARCHAR AS id, '1' AS _dlt_load_id, "
            "NULL::TIMESTAMPTZ AS _deleted_at FROM range(2) AS t (i)"
        )
        connection.execute("CREATE TABLE own.notes AS SELECT 1 AS i")
        prepare_versions(connection)
        yield connection


def read(connection: duckdb.DuckDBPyConnection) -> str | None:
    return read_versions(connection, [TABLE])[TABLE]


def test_a_version_is_what_was_noted(connection: duckdb.DuckDBPyConnection) -> None:
    assert read(connection) is None
    version = note_version(connection, TABLE)
    assert read(connection) == version
    assert note_version(connection, TABLE) != version
    assert note_version(connection, TABLE, "mine") == read(connection) == "mine"
    note_version(connection, "incident_api.other")
    assert read(connection) == "mine"


@pytest.mark.parametrize(
    "sql",
    [
        f"DELETE FROM {TABLE} WHERE id = '1'",
        f"INSERT INTO {TABLE} (id) VALUES ('3')",
        f"UPDATE {TABLE} SET _deleted_at = now() WHERE id = '1'",
        f"UPDATE {TABLE} SET _dlt_load_id = '2' WHERE id = '1'",
        f"ALTER TABLE {TABLE} ADD COLUMN more INT",
        f"DROP TABLE {TABLE}",
    ],
)
def test_what_another_program_wrote_makes_a_version_unsure(
    sql: str, connection: duckdb.DuckDBPyConnection
) -> None:
    note_version(connection, TABLE)
    connection.execute(sql)
    assert read(connection) is None


def test_a_version_that_is_doubted_is_unsure_until_one_is_noted(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    note_version(connection, TABLE)
    doubt_versions(connection, [TABLE])
    assert read(connection) is None
    assert note_version(connection, TABLE) == read(connection)


def test_without_the_table_of_versions_all_are_unsure() -> None:
    with duckdb.connect() as connection:
        assert read(connection) is None


def test_the_sign_of_the_contents_changes_with_anything_but_the_log(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    note_version(connection, TABLE)
    signs = [sign_contents(connection)]
    connection.execute("CREATE TABLE incident_sync.log AS SELECT 1 AS i")
    assert sign_contents(connection) == signs[0]
    for sql in (
        "INSERT INTO own.notes VALUES (2)",
        "CREATE TABLE own.more (i INT)",
        "CREATE VIEW own.seen AS FROM own.notes",
    ):
        connection.execute(sql)
        signs.append(sign_contents(connection))
        assert sign_contents(connection) == signs[-1]
    for note in (lambda: note_version(connection, TABLE), lambda: note_others(connection)):
        note()
        signs.append(sign_contents(connection))
    assert len(set(signs)) == len(signs)
    doubt_versions(connection, [TABLE])
    assert sign_contents(connection) != sign_contents(connection)
    connection.execute(f"DROP TABLE {TABLE}")
    assert sign_contents(connection) == sign_contents(connection) not in signs
