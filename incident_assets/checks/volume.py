"""Volume: rows listed, against the same resource's own history.

A key that lost a role, a new category or a short page show as a sudden drop, and nowhere else.
"""

from statistics import median

import duckdb

from incident_assets.checks.finding import NEVER_LOADED, Finding, has_loaded
from incident_assets.source.endpoints import Endpoint
from incident_assets.source.sync import LOG_SCHEMA

HISTORY = 7  # full listings
LARGEST_DROP = 0.2  # of the median
SMALLEST_DROP = 2  # rows; fewer may come and go


def check_volume(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Finding:
    """Compare the last full listing with the median of those before it."""
    if not has_loaded(connection, endpoint):
        return NEVER_LOADED
    sql = (
        f"SELECT rows, finished_at FROM {LOG_SCHEMA}.log WHERE resource = '{endpoint.name}' "
        "AND outcome = 'loaded' AND listing = 'full' "
        f"ORDER BY finished_at DESC LIMIT {HISTORY + 1}"
    )
    rows = [row[0] for row in connection.execute(sql).fetchall()]
    if not rows:
        return NEVER_LOADED
    if len(rows) == 1:
        return Finding(True, f"{rows[0]} rows, no listing before", counts={"rows": rows[0]})
    usual = median(rows[1:])
    drop = usual - rows[0]
    sudden = drop >= SMALLEST_DROP and drop > LARGEST_DROP * usual
    return Finding(
        passed=not sudden,
        description=f"{rows[0]} rows, usually {usual:g}",
        counts={"rows": rows[0], "usual_rows": usual, "listings_before": len(rows) - 1},
        sql={"history": sql},
    )
