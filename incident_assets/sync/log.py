"""The sync log: a row per run and resource, from which freshness and volume are read.

What happened is decided elsewhere; this is how it is written down.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from incident_assets.api.failures import Failure
from incident_assets.warehouse.schemas import LOG_SCHEMA

LOG_TABLE = f"{LOG_SCHEMA}.log"
LOG_COLUMNS = {
    "run_id": "VARCHAR",
    "resource": "VARCHAR",
    "started_at": "TIMESTAMPTZ",
    "finished_at": "TIMESTAMPTZ",
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
}


@dataclass(frozen=True)
class Outcome:
    """What one sync did for one resource; `failure` is None where its rows have landed.

    `rows` were listed, of which `changed` were new or different; `deleted` are newly missing (after
    a full refresh: dropped); `table_rows` are in the table afterwards, deleted ones included.
    `seconds` is the time of the listing; `load_id` names dlt's load package. `path` is where the
    API answered, and `notice` what its headers say of the end of that path.
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
    failure: Failure | None
    path: str
    notice: str

    def log(self) -> dict[str, Any]:
        """Return its part of a row of the sync log, by column."""
        return vars(self) | {
            "outcome": "failed" if self.failure else "loaded",
            "error": str(self.failure) if self.failure else None,
            "notice": self.notice or None,
        }


def prepare_log(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the log, or add the columns that an older one lacks."""
    columns = ", ".join(f"{name} {kind}" for name, kind in LOG_COLUMNS.items())
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LOG_SCHEMA}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {LOG_TABLE} ({columns})")
    for name, kind in LOG_COLUMNS.items():
        connection.execute(f"ALTER TABLE {LOG_TABLE} ADD COLUMN IF NOT EXISTS {name} {kind}")


def write_log(
    connection: duckdb.DuckDBPyConnection,
    outcomes: Iterable[Outcome],
    run_id: str,
    started: datetime,
    finished: datetime,
) -> None:
    """Add a row for each outcome of a run; part of the caller's transaction."""
    run = {"run_id": run_id, "started_at": started, "finished_at": finished}
    names, marks = ", ".join(LOG_COLUMNS), ", ".join("?" * len(LOG_COLUMNS))
    connection.executemany(
        f"INSERT INTO {LOG_TABLE} ({names}) VALUES ({marks})",
        [list(map((run | outcome.log()).get, LOG_COLUMNS)) for outcome in outcomes],
    )
