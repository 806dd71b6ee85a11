"""The sync log: a row per run and resource, from which freshness and volume are read.

What happened is decided elsewhere; this is how it is written down.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import duckdb

from incident_assets.api.failures import Failure
from incident_assets.warehouse.comments import Description
from incident_assets.warehouse.file import quote_path, quote_text, read_first_line
from incident_assets.warehouse.private import replace_file
from incident_assets.warehouse.schemas import LOG_SCHEMA

logger = logging.getLogger(__name__)

LOG_TABLE = f"{LOG_SCHEMA}.log"
LOG_COLUMNS = {
    "run_id": "VARCHAR",
    "resource": "VARCHAR",
    "started_at": "TIMESTAMP WITH TIME ZONE",
    "finished_at": "TIMESTAMP WITH TIME ZONE",
    "listing": "VARCHAR",
    "outcome": "VARCHAR",
    "rows": "BIGINT",
    "table_rows": "BIGINT",
    "requests": "BIGINT",
    "seconds": "DOUBLE",
    "load_id": "VARCHAR",
    "error": "VARCHAR",
    # Newer than some databases:
    "changed": "BIGINT",
    "deleted": "BIGINT",
    "path": "VARCHAR",
    "notice": "VARCHAR",
    "announced": "BIGINT",
    "missing": "BIGINT",
    "missing_hash": "UBIGINT",
    "dropped": "BIGINT",
    "accepted": "BOOLEAN",
    "remark": "VARCHAR",
}
LOG_TEXTS = Description(
    "What each sync did for each resource. One row per run and resource.",
    {
        "run_id": "Run of Dagster, or process of the command",
        "resource": "Table of incident_api",
        "started_at": "When the run began (UTC)",
        "finished_at": "When the run wrote this row (UTC)",
        "listing": "full, or changes where only what had changed was asked for",
        "outcome": "loaded, failed (the table is untouched), held (nothing was taken away), "
        "or not asked (there was nothing to ask for)",
        "rows": "Rows that were listed",
        "table_rows": "Rows of the table afterwards, those marked as deleted included",
        "requests": "Requests to the API",
        "seconds": "Time of the listing, in seconds",
        "load_id": "Load package, as in _dlt_load_id, NULL if nothing was loaded",
        "error": "Why it failed or was held, and what to do",
        "changed": "Rows that were new or different",
        "deleted": "Rows newly marked as deleted; of a full refresh, dropped ones",
        "path": "Path of the API that answered",
        "notice": "What the API announced of the end of that path",
        "announced": "Rows that the API announced for a full listing",
        "missing": "Live rows that a full listing lacked",
        "missing_hash": "What stands for their ids",
        "dropped": "Rows that were live lately and that a full refresh dropped",
        "accepted": "Whether somebody accepted the loss",
        "remark": "What the check volume warns of",
    },
)

Kind = Literal["loaded", "failed", "held", "not asked"]
# What shows that a table is as recent as the sync, as SQL.
RECENT = "outcome IN ('loaded', 'held', 'not asked')"


@dataclass(frozen=True)
class Outcome:
    """What one sync did for one resource.

    It is loaded, failed (untouched), held (loaded, but nothing taken away, by rule 3a) or not asked
    (there was nothing to ask for); `failure` says why it is failed or held. `rows` were listed, of
    which `changed` were new or different; `deleted` are newly marked (after a full refresh:
    dropped); `table_rows` are in the table afterwards, deleted ones included. `seconds` is the time
    of the listing; `load_id` names dlt's load package. `path` is where the API answered, and
    `notice` what its headers say of the end of that path.

    Of a full listing, `announced` is the total that the API gave, `missing` are the live rows that
    it lacked and `missing_hash` is made from their ids; a refresh has `dropped` so many that were
    live lately, somebody may have `accepted` the loss, and `remark` is what `volume` warns of.
    """

    resource: str
    listing: str
    rows: int
    changed: int
    deleted: int
    table_rows: int
    requests: int
    seconds: float
    load_id: str | None
    outcome: Kind
    failure: Failure | None
    path: str
    notice: str
    announced: int | None
    missing: int
    missing_hash: int | None
    dropped: int
    accepted: bool
    remark: str

    def log(self) -> dict[str, Any]:
        """Return its part of a row of the sync log, by column."""
        return vars(self) | {
            "error": str(self.failure) if self.failure else None,
            "notice": self.notice or None,
            "remark": self.remark or None,
        }


def prepare_log(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the log, or add the columns that an older one lacks."""
    columns = ", ".join(f"{name} {kind}" for name, kind in LOG_COLUMNS.items())
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LOG_SCHEMA}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {LOG_TABLE} ({columns})")
    for name, kind in LOG_COLUMNS.items():
        connection.execute(f"ALTER TABLE {LOG_TABLE} ADD COLUMN IF NOT EXISTS {name} {kind}")


def has_lost_rows(connection: duckdb.DuckDBPyConnection, copy: Path) -> bool:
    """Whether rows were dropped, or a loss was accepted, by a sync that this copy does not know.

    Clocks tell nothing of that: they are set back, and those of file servers differ.
    """
    if not copy.exists():
        return False
    sql = f"SELECT run_id, resource FROM {LOG_TABLE} WHERE dropped > 0 OR accepted"
    try:
        lost = {*connection.execute(sql).fetchall()}
    except (duckdb.CatalogException, duckdb.BinderException):  # no log, or an older one
        return False
    if not lost:
        return False
    try:
        with duckdb.connect(str(copy.absolute()), read_only=True) as known:
            return bool(lost.difference(known.execute(sql).fetchall()))
    except duckdb.Error:  # of an older program, or none of ours
        return True


def write_log(
    connection: duckdb.DuckDBPyConnection,
    outcomes: Iterable[Outcome],
    run_id: str,
    started: datetime,
    finished: datetime,
) -> None:
    """Add a row for each outcome of a run; part of the caller's transaction."""
    run = {"run_id": run_id, "started_at": started, "finished_at": finished}
    rows = [[*map((run | outcome.log()).get, LOG_COLUMNS)] for outcome in outcomes]
    if rows:
        # At once, since a lake makes a file of each statement's rows.
        marks = ", ".join([f"({', '.join('?' * len(LOG_COLUMNS))})"] * len(rows))
        connection.execute(
            f"INSERT INTO {LOG_TABLE} ({', '.join(LOG_COLUMNS)}) VALUES {marks}",
            [value for row in rows for value in row],
        )


def write_newest_rows(connection: duckdb.DuckDBPyConnection, database: Path) -> None:
    """Write each resource's newest row of each outcome into a small file beside the database.

    It tells how fresh the tables are while a sync has the database.
    """

    def write(fresh: Path) -> None:
        connection.execute(
            f"COPY (SELECT * FROM {LOG_TABLE} QUALIFY row_number() OVER "
            "(PARTITION BY resource, outcome ORDER BY rowid DESC) = 1) "
            f"TO {quote_text(str(fresh.absolute()))} (FORMAT json, ARRAY false)"
        )

    try:
        replace_file(name_newest_rows(database), write)
    except (OSError, duckdb.Error) as error:  # what was loaded stays loaded
        logger.warning("%s was not written: %s", name_newest_rows(database), read_first_line(error))


@contextmanager
def open_newest_rows(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection that knows nothing but these rows, as the sync log."""
    kinds = ", ".join(f"{name}: '{kind}'" for name, kind in LOG_COLUMNS.items())
    source = quote_path(name_newest_rows(database).absolute())
    with duckdb.connect() as connection:
        prepare_log(connection)
        connection.execute(
            f"INSERT INTO {LOG_TABLE} BY NAME FROM read_json({source}, columns = {{{kinds}}})"
        )
        yield connection


def name_newest_rows(database: Path) -> Path:
    """Return the file that holds the newest rows of a database's log."""
    return database.with_name(f"{database.name}.newest.json")
