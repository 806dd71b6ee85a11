"""Volume: what full listings have taken away lately, or would have, by rule 3a of the data.

A key that lost a role, a new category or a short page show as a sudden drop, and nowhere else. What
a listing may take away is decided in `sync.loss`.
"""

from datetime import UTC, datetime

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.finding import NEVER_LOADED, Finding, has_loaded
from incident_assets.sync.log import LOG_TABLE
from incident_assets.sync.loss import NOTED_SHARE, count_recent

SMALLEST_DROP = 2  # rows; fewer may come and go


def check_volume(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Finding:
    """Compare what is gone since seven days with what was there, and look at the last listing."""
    if not has_loaded(connection, endpoint):
        return NEVER_LOADED
    sql = (
        f"SELECT rows, outcome, error, remark, missing FROM {LOG_TABLE} WHERE listing = 'full' "
        f"AND resource = '{endpoint.name}' AND outcome IN ('loaded', 'held') "
        "ORDER BY rowid DESC LIMIT 1"
    )
    last = connection.execute(sql).fetchone()
    if last is None:
        return NEVER_LOADED
    rows, outcome, error, remark, missing = last
    recent = count_recent(connection, endpoint.name, datetime.now(UTC))
    dropped = recent.gone >= SMALLEST_DROP and recent.share > NOTED_SHARE
    known = f"{recent.gone} gone in seven days, {recent.live} live"
    counts = {"rows": rows, "live_rows": recent.live, "gone_rows": recent.gone}
    if missing:
        counts["missing_rows"] = missing
    return Finding(
        passed=not (dropped or remark or outcome == "held"),
        severity="error" if outcome == "held" else "warning",
        description="; ".join(filter(None, (f"{rows} rows listed, {known}", error, remark))),
        counts=counts,
        sql={"last_full_listing": sql} if remark or dropped or outcome == "held" else {},
    )
