"""A database written anew has all that it had, and none of the bytes that were replaced."""

from pathlib import Path

import duckdb
import pytest

from incident_assets.warehouse.anew import write_anew
from incident_assets.warehouse.file import DatabaseError, lock_database
from incident_assets.warehouse.held import hold_database
from incident_assets.warehouse.place import DatabaseFile

PATH = Path("data/incidents.duckdb")
CATALOG = (
    "SELECT schema_name, table_name, comment, estimated_size, sql FROM duckdb_tables()",
    "SELECT schema_name, table_name, column_name, data_type, is_nullable, column_default, comment "
    "FROM duckdb_columns() WHERE NOT internal",
    "SELECT schema_name, view_name, comment, sql FROM duckdb_views() WHERE NOT internal",
    "SELECT schema_name, function_name, comment FROM duckdb_functions() WHERE NOT internal",
    "SELECT schema_name, sequence_name FROM duckdb_sequences()",
    "SELECT index_name FROM duckdb_indexes()",
    "FROM mine.listed ORDER BY ALL",
    "FROM mine.doubled('a')",
    "SELECT mine.more(1)",
)


def make() -> None:
    """Make a database with a bit of everything that a user may have in it."""
    PATH.parent.mkdir(mode=0o700)
    with hold_database(DatabaseFile(PATH), "a test", "a test") as held, held.cursor(5) as cursor:
        cursor.execute(
            """
            CREATE SCHEMA mine;
            CREATE SEQUENCE mine.numbers START 5;
            CREATE TYPE mine.mood AS ENUM ('good', 'bad');
            CREATE TABLE mine.people (
                id VARCHAR NOT NULL, name VARCHAR, told JSON, seen TIMESTAMPTZ,
                number BIGINT DEFAULT nextval('mine.numbers'), mood mine.mood, parts INTEGER[]
            );
            INSERT INTO mine.people (id, name, told, seen, mood, parts) VALUES
                ('a', 'Quillan Ashgrove', '{"x": 1}', now(), 'good', [1, 2]),
                ('b', 'Quillan Ashgrove', NULL, NULL, 'bad', NULL);
            COMMENT ON TABLE mine.people IS 'of a user';
            COMMENT ON COLUMN mine.people.name IS 'a name';
            CREATE INDEX by_name ON mine.people (number);
            CREATE VIEW mine.listed AS SELECT id, name FROM incidents.mine.people;
            CREATE MACRO mine.more(x) AS x + 1;
            CREATE MACRO mine.doubled(x) AS TABLE SELECT * FROM mine.people WHERE id = x;
            CREATE TABLE mine.gone (id INTEGER);
            CREATE VIEW mine.broken AS FROM mine.gone;
            DROP TABLE mine.gone;
            CHECKPOINT;
            UPDATE mine.people SET name = 'nobody';
            """
        )


def read() -> list[object]:
    with duckdb.connect(str(PATH), read_only=True) as connection:
        return [sorted(map(repr, connection.execute(q).fetchall())) for q in CATALOG]


def test_everything_comes_along_but_what_was_replaced() -> None:
    make()
    assert b"Quillan Ashgrove" in PATH.read_bytes()
    before = read()
    with lock_database(PATH, 5, "a test"):
        size = write_anew(PATH, ["CREATE TABLE mine.settled AS SELECT 1 AS done"])
    assert size == PATH.stat().st_size and PATH.stat().st_mode & 0o777 == 0o600
    assert [x.name for x in PATH.parent.iterdir() if "lock" not in x.name] == [PATH.name]
    assert b"Quillan Ashgrove" not in PATH.read_bytes()
    with duckdb.connect(str(PATH)) as connection:
        assert connection.execute("FROM mine.settled").fetchall() == [(1,)]
        connection.execute("DROP TABLE mine.settled")
    assert read() == before
    with duckdb.connect(str(PATH)) as connection:
        assert connection.execute(
            "INSERT INTO mine.people (id) VALUES ('c') RETURNING number"
        ).fetchall() == [(7,)]
        with pytest.raises(duckdb.ConstraintException):
            connection.execute("INSERT INTO mine.people (name) VALUES ('no id')")
        tags = connection.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name='incidents'"
        ).fetchall()
    assert "v1.2.0" in str(tags)


def test_what_cannot_be_written_leaves_the_file_as_it_was() -> None:
    make()
    before = PATH.read_bytes()
    with lock_database(PATH, 5, "a test"), pytest.raises(DatabaseError, match="as it was"):
        write_anew(PATH, ["FROM nothing.of_the_kind"])
    assert PATH.read_bytes() == before
    assert not [x for x in PATH.parent.iterdir() if "fresh" in x.name]
