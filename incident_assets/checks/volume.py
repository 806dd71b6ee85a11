"""Volume: rows listed, against the same resource's own history.

A key that lost a role, a new category or a short page show as a sudden drop, and nowhere else.
"""

from statistics import median

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.finding import NEVER_LOADED, Finding, has_loaded
from incident_assets.warehouse.schemas import LOG_SCHEMA

HISTORY = 7  # full listings
LARGEST_DROP = 0.2  # of the median
SMALLEST_DROP = 2  # rows; fewer may come and go


def check_volume(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Finding:
    """Compare the last full listing with the median of those before it."""
    if not has_loaded(connection, endpoint):
        return NEVER_LOADED
    sql = (
        f"SELECT rows, coalesce(deleted, 0), finished_at FROM {LOG_SCHEMA}.log "
        f"WHERE resource = '{endpoint.name}' AND outcome = 'loaded' AND listing = 'full' "
        f"ORDER BY finished_at DESC LIMIT {HISTORY + 1}"
    )
    listings = connection.execute(sql).fetchall()
    if not listings:
        return NEVER_LOADED
    rows, deleted = listings[0][:2]
    if len(listings) == 1:
        return Finding(True, f"{rows} rows, no listing before", counts={"rows": rows})
    usual = median(listing[0] for listing in listings[1:])
    # As many may have come as went, so what went counts too.
    drop = max(usual - rows, deleted)
    sudden = drop >= SMALLEST_DROP and drop > LARGEST_DROP * usual
    gone = f", {deleted} gone since the listing before" if deleted else ""
    return Finding(
        passed=not sudden,
        description=f"{rows} rows, usually {usual:g}{gone}",
        counts={
            "rows": rows,
            "usual_rows": usual,
            "deleted_rows": deleted,
            "listings_before": len(listings) - 1,
        },
        sql={"history": sql},
    )
