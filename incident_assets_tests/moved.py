"""What a moved account is compared by, and moves that are killed with -9 on their way."""

import subprocess
import sys
from typing import Any

import duckdb

from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.moving import BUILT
from incident_assets.warehouse.place import find_warehouse
from incident_assets_tests.conftest import NAMES

KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from incident_assets.settings import read_settings
from incident_assets.warehouse import moving
move, folder, point, nth = sys.argv[1:]
original, calls = getattr(moving, point), itertools.count(1)
def call(*args):
    if next(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args)
setattr(moving, point, call)
getattr(moving, move)(read_settings(), Path(folder))
"""


def kill_move(move: str, folder: str, point: str, nth: int = 1) -> int:
    """Run a function of `moving` in a process that kills itself before the nth call of another."""
    return subprocess.run([sys.executable, "-c", KILLED, move, folder, point, str(nth)]).returncode


def read_all(settings: Settings) -> dict[str, tuple[list[Any], list[Any]]]:
    """Return columns, comments and rows of each table that is moved, dlt's and the log too."""
    warehouse = find_warehouse(settings)
    with warehouse.open(0, "a test", read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return _read_all(connection)


def _read_all(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[list[Any], list[Any]]]:
    columns = connection.execute(
        "SELECT schema_name, table_name, t.comment, list((column_name, data_type, is_nullable, "
        "c.comment) ORDER BY column_index) FROM duckdb_tables() AS t JOIN duckdb_columns() AS c "
        "USING (database_name, schema_name, table_name) WHERE database_name = current_database() "
        "AND schema_name NOT IN (SELECT unnest(?)) GROUP BY ALL ORDER BY ALL",
        [[*BUILT]],
    ).fetchall()
    found = {}
    for schema, name, *described in columns:
        order = "rowid" if name == "log" else "ALL"
        # As text too, since Python holds no nanoseconds.
        rows = connection.execute(
            f'SELECT *, t::VARCHAR FROM "{schema}"."{name}" AS t ORDER BY {order}'
        ).fetchall()
        found[f"{schema}.{name}"] = (described, rows)
    return found


def ask_for_changes(settings: Settings) -> dict[str, tuple[str, int, int]]:
    """Sync by changes and return, by resource, the kind of listing, its requests and changes."""
    outcomes = run_sync(settings, NAMES, changes=True)
    assert not any(outcome.failure for outcome in outcomes)
    return {x.resource: (x.listing, x.requests, x.changed + x.deleted) for x in outcomes}


def count_changes(settings: Settings) -> int:
    """Sync fully and return how many rows changed or were marked."""
    return sum(outcome.changed + outcome.deleted for outcome in run_sync(settings, NAMES))
