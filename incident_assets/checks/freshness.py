"""Freshness: how long ago a resource was last loaded, against its cadence.

Read from the sync log, so that a sync that never starts is noticed, and a listing with nothing new
counts as a load.
"""

from datetime import UTC, datetime, timedelta

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.finding import NEVER_LOADED, Finding
from incident_assets.sync.log import RECENT
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.schemas import LOG_SCHEMA

MISSED_TO_WARN = 2  # syncs
MISSED_TO_FAIL = 4


def warn_window(endpoint: Endpoint) -> timedelta:
    """Return the age at which a resource is late: two syncs were missed."""
    return timedelta(seconds=MISSED_TO_WARN * endpoint.cadence)


def fail_window(endpoint: Endpoint) -> timedelta:
    """Return the age at which a resource is stale: four syncs were missed."""
    return timedelta(seconds=MISSED_TO_FAIL * endpoint.cadence)


def check_freshness(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Finding:
    """Compare the age of the last successful load with the limits."""
    if not has_table(connection, f"{LOG_SCHEMA}.log"):
        return NEVER_LOADED
    sql = (
        f"SELECT max(finished_at) FROM {LOG_SCHEMA}.log "
        # What is later than now was written by a clock that was ahead.
        f"WHERE resource = '{endpoint.name}' AND {RECENT} AND finished_at <= now()"
    )
    loaded = (connection.execute(sql).fetchone() or (None,))[0]
    if loaded is None:
        return NEVER_LOADED
    age = datetime.now(UTC) - loaded
    late, stale = age > warn_window(endpoint), age > fail_window(endpoint)
    limit = fail_window(endpoint) if stale else warn_window(endpoint)
    when = loaded.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Finding(
        passed=not late,
        severity="error" if stale else "warning",
        description=f"last loaded {_show(age)} ago ({when}), limit {_show(limit)}",
        counts={"age_seconds": round(age.total_seconds()), "limit_seconds": limit.total_seconds()},
        sql={"last_load": sql},
    )


def _show(span: timedelta) -> str:
    minutes = int(span.total_seconds()) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
