"""A copy of the database that is safe to keep open: made whole, then put in place at once.

Readers of the copy never meet a writer: the file they opened is never written again, and it stays
the newest for as long as it is true. Nothing is replaced that is not an earlier copy of this
database.
"""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from incident_assets.settings import Settings
from incident_assets.warehouse.comments import Description, write_comments
from incident_assets.warehouse.file import DatabaseError, has_table, quote_text, read_first_line
from incident_assets.warehouse.held import HeldDatabase
from incident_assets.warehouse.private import keep_file, name_fresh, replace_file
from incident_assets.warehouse.schemas import (
    ACCOUNT_TABLE,
    FINDING_TABLE,
    LOG_SCHEMA,
    PERSONAL_TABLE,
    RAW_SCHEMA,
    VERSION_TABLE,
    name_table,
)
from incident_assets.warehouse.versions import sign_contents

# Who a database is, said in itself and so in its copies: DuckDB has no comments on schemas.
ID_TABLE = f"{LOG_SCHEMA}.database_id"
CONTENTS_TABLE = f"{LOG_SCHEMA}.contents"
TEXTS = {
    ID_TABLE: Description("Which database this is; its copies say the same.", {"id": "Its id"}),
    CONTENTS_TABLE: Description(
        "What the published copy holds. One row.",
        {
            "sign": "What stands for all of it but the sync log",
            "published_at": "When it was copied from the database (UTC)",
        },
    ),
}
# That the database has to be written anew is not so of a copy, which has been.
SETTLED = f"UPDATE {PERSONAL_TABLE} SET is_due = false"
# For those who write the database; who reads a copy has no use for them.
INTERNAL = (ACCOUNT_TABLE, FINDING_TABLE, VERSION_TABLE)
LONGEST = 3600.0  # seconds after which a copy is replaced for newer rows of the log alone
# What a copy of the program before has instead: its newest row of the log is one of ours.
LOGGED = f"SELECT run_id, resource, epoch_us(finished_at) AS ended FROM {LOG_SCHEMA}.log"


@dataclass(frozen=True)
class Copy:
    """The published copy: its bytes, what stands for its contents, and whether it was there."""

    size: int
    contents: str
    is_unchanged: bool


def publish_database(
    settings: Settings, database: HeldDatabase, keep_previous: bool = False
) -> Copy:
    """Copy the database to `settings.published_copy`, where that holds anything else.

    New rows of the log alone are copied once an hour. Whoever opens the copy sees all of the old or
    all of the new one, or is refused in the instant between; it is for reading only. With
    `keep_previous`, the copy of before stays as `settings.previous_copy`. Raises DatabaseBusy, and
    DatabaseError where the copy cannot be written or something else is in its place: then what was
    there stays.
    """
    path, previous = settings.database, settings.previous_copy
    target = Path(os.path.realpath(settings.published_copy))
    with database.cursor(settings.lock_timeout) as connection:
        _identify(connection)
        for place in (target, previous) if keep_previous else (target,):
            _refuse_another(connection, place)
        contents = sign_contents(connection)
        if not keep_previous and _is_current(target, contents):
            return Copy(target.stat().st_size, contents, is_unchanged=True)
        _note_contents(connection, contents)
        connection.execute("CHECKPOINT")

    def copy(fresh: Path) -> None:
        # DuckDB gets the name of its log wrong where a path has a question mark; ours has none.
        ready = name_fresh(path) if "?" in str(fresh.absolute()) else fresh
        shutil.copyfile(path, ready)
        _drop_internals(ready)
        if ready != fresh:
            shutil.copyfile(ready, fresh)
            ready.unlink()
        if keep_previous and _holds_something(target):
            keep_file(target, previous)
            _log_of(previous).unlink(missing_ok=True)
        _log_of(target).unlink(missing_ok=True)

    # Closed before it is read: closing another handle of the file would drop DuckDB's own lock.
    with database.released(settings.lock_timeout):
        try:
            # Read-only, or a curious writer would leave a log beside it that fits no later copy.
            size = replace_file(target, copy, mode=0o400)
        except (OSError, duckdb.Error) as error:
            _log_of(name_fresh(target)).unlink(missing_ok=True)
            raise DatabaseError(
                f"cannot publish to {target} (INCIDENT_PUBLISHED_PATH): {read_first_line(error)}. "
                "Make room or choose another path, then run again; the copy of before is kept"
            ) from None
    return Copy(size, contents, is_unchanged=False)


def _note_contents(connection: duckdb.DuckDBPyConnection, contents: str) -> None:
    connection.execute(
        f"CREATE OR REPLACE TABLE {CONTENTS_TABLE} AS "
        "SELECT ? AS sign, current_timestamp AS published_at",
        [contents],
    )
    write_comments(connection, TEXTS)


def is_copy(settings: Settings, database: HeldDatabase, place: Path) -> bool:
    """Whether a file is a copy of this database."""
    with database.cursor(settings.lock_timeout) as connection:
        return _is_copy(connection, place)


def _drop_internals(copy: Path) -> None:
    """Leave in a copy what is for reading, and let it say whose it is and as of when."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH {quote_text(str(copy.absolute()))} AS copy; USE copy")
        owner = "the account " + (_read_owner(connection) or "that is not known")
        at = f"SELECT published_at AT TIME ZONE 'UTC' FROM {CONTENTS_TABLE}"
        ((moment,),) = connection.execute(at).fetchall()
        text = f"A copy for reading, of {owner}, as of {moment:%Y-%m-%d %H:%M:%S} UTC."
        write_comments(connection, {ID_TABLE: Description(text, {})})
        loaders = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'copy' "
            "AND schema_name = ? AND starts_with(table_name, '_dlt_')",
            [RAW_SCHEMA],
        ).fetchall()
        for table in (*INTERNAL, *(name_table(name) for (name,) in loaders)):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        if has_table(connection, PERSONAL_TABLE):
            connection.execute(SETTLED)
        connection.execute(f"DROP SCHEMA IF EXISTS {RAW_SCHEMA}_staging CASCADE; CHECKPOINT")


def _read_owner(connection: duckdb.DuckDBPyConnection) -> str | None:
    known = _read_row(connection, f"SELECT coalesce(dashboard_url, host) FROM {ACCOUNT_TABLE}")
    return known[0] if known else None


def _is_current(place: Path, contents: str) -> bool:
    """Whether a copy of this database holds these contents, and is not an hour old."""
    if not _holds_something(place) or not 0 <= time.time() - place.stat().st_mtime < LONGEST:
        return False
    with duckdb.connect(str(place.absolute()), read_only=True) as copy:
        return _read_row(copy, f"SELECT sign FROM {CONTENTS_TABLE}") == (contents,)


def _identify(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LOG_SCHEMA}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {ID_TABLE} AS SELECT uuid()::VARCHAR AS id")


def _refuse_another(connection: duckdb.DuckDBPyConnection, place: Path) -> None:
    """Raise DatabaseError unless there is nothing at the place, or a copy of this database."""
    # The lock is beside what is written, and never beside a copy.
    is_written = place.with_name(f"{place.name}.lock").exists()
    if _holds_something(place) and (is_written or not _is_copy(connection, place)):
        raise DatabaseError(
            f"{place} (INCIDENT_PUBLISHED_PATH) is no copy of this database, so it is left as it "
            "is: move it away, or choose another path, then run again"
        )


def _holds_something(place: Path) -> bool:
    with suppress(OSError):  # whoever writes it tells what is wrong with the path
        return place.exists() and (place.stat().st_size > 0 or not place.is_file())
    return False


def _is_copy(connection: duckdb.DuckDBPyConnection, place: Path) -> bool:
    if not place.is_file():
        return False
    try:
        with duckdb.connect(str(place.absolute()), read_only=True) as copy:
            theirs = _read_row(copy, f"SELECT id FROM {ID_TABLE}")
            if theirs:
                return theirs == _read_row(connection, f"SELECT id FROM {ID_TABLE}")
            newest = _read_row(copy, f"{LOGGED} ORDER BY ended DESC LIMIT 1")
        ours = f"{LOGGED} WHERE run_id = ? AND resource = ? AND ended = ?"
        return newest is not None and _read_row(connection, ours, newest) == newest
    except duckdb.Error:  # no database, or none that this DuckDB can read
        return False


def _read_row(
    connection: duckdb.DuckDBPyConnection, query: str, values: tuple[Any, ...] = ()
) -> tuple[Any, ...] | None:
    """Return a row, or None where there is none or no such table."""
    try:
        return connection.execute(query, values).fetchone()
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.InvalidInputException):
        return None


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")
