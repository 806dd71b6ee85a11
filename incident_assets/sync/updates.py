"""Updates of incidents: of which ones they are asked for, incident by incident.

They cannot be asked for by the time of their last change. So those are fetched of the incidents
that changed or may be posted on, where that takes fewer requests than paging through all.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb

from incident_assets.api.categories import IDLE_CATEGORIES
from incident_assets.api.endpoints import find_endpoint
from incident_assets.api.rows import NOT_LOADED
from incident_assets.sync.listing import Listing, is_its_own

logger = logging.getLogger(__name__)

FULL_LISTING_OVERLAP = timedelta(hours=1)  # rows committed late, and clocks
INCIDENTS, UPDATES = "incidents", "incident_updates"
NOTHING = "(SELECT '' AS id, NOW() AS updated_at, NULL::JSON AS incident_status WHERE false)"


class Updates:
    """Which incidents' updates a sync asks for, and which it leaves to a later one.

    `known` is what was remembered: `complete` after a full listing, `since` the time when that
    began, until a sync by changes has looked at what came after it, and `pending` the incidents
    whose updates are still to be fetched. The tables are those of `schema`.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: str,
        listings: Mapping[str, Listing],
        known: Mapping[str, Any],
    ):
        self._connection = connection
        self._schema = schema
        self._listings = listings
        self._known = known
        self._changed: tuple[list[str], list[str]] | None = None

    def choose(self) -> None:
        """Ask for the updates of the incidents that may have new ones, or for all of them."""
        _, wanted = self._find_changed()
        by_incident, all_pages = self._count_requests(wanted)
        if by_incident < all_pages:
            updates = self._listings[UPDATES]
            updates.ask(updates.way, incidents=wanted)
        logger.info(
            "%s: %d requests for the %d incidents that changed or are active, %d for all: asking "
            "for %s",
            UPDATES,
            by_incident,
            len(wanted),
            all_pages,
            "those" if by_incident < all_pages else "all",
        )

    def find_pending(self) -> list[str] | None:
        """Return the incidents whose updates this sync does not have; None if too many to note."""
        try:
            changed, wanted = self._find_changed()
            return changed if len(changed) <= self._count_requests(wanted)[1] else None
        except Exception as error:
            if not is_its_own(error):
                raise
            return None

    def _find_changed(self) -> tuple[list[str], list[str]]:
        """Return the incidents that changed or are pending, and all whose updates are wanted."""
        if self._changed is None:
            self._changed = self._compare_incidents()
        return self._changed

    def _compare_incidents(self) -> tuple[list[str], list[str]]:
        category = "json_extract_string(incident_status, '$.category')"
        since = self._known.get("since")
        incidents = self._listings[INCIDENTS]
        listed = incidents.spool.sql if incidents.is_whole else NOTHING
        rows = self._read(
            f"""WITH listed AS (
                SELECT id, updated_at, {category} AS category FROM {listed}
            ), stored AS (
                SELECT id, updated_at, {category} AS category, _dlt_load_id IN (
                    SELECT load_id FROM {self._schema}._dlt_loads WHERE status = 0
                ) AS committed, _dlt_load_id = '{NOT_LOADED}' AS is_cut_off
                FROM {self._schema}.{INCIDENTS} WHERE _deleted_at IS NULL
            ), changed AS (
                -- A row of a load that was cut off counts as not seen: its updates may be missing.
                SELECT id FROM listed ANTI JOIN (FROM stored WHERE committed) AS known
                ON listed.id = known.id AND listed.updated_at IS NOT DISTINCT FROM known.updated_at
                -- Also one that is not listed, which this sync is about to stamp.
                UNION SELECT id FROM stored WHERE is_cut_off
                UNION SELECT unnest(?::VARCHAR[])
            ), now AS (
                FROM listed SELECT id, updated_at, category
                UNION ALL SELECT id, updated_at, category FROM stored ANTI JOIN listed USING (id)
            )
            SELECT id, true FROM changed
            UNION ALL SELECT id, false FROM now ANTI JOIN changed USING (id)
            WHERE coalesce(category, '') NOT IN (SELECT unnest(?::VARCHAR[])) OR updated_at >= ?
            ORDER BY ALL""",
            [
                self._known.get("pending") or [],
                list(IDLE_CATEGORIES),
                datetime.fromisoformat(since) - FULL_LISTING_OVERLAP if since else None,
            ],
        )
        return [row[0] for row in rows if row[1]], [row[0] for row in rows]

    def _count_requests(self, wanted: Sequence[str]) -> tuple[int, int]:
        """Return how many requests it takes to fetch these incidents' updates, and all updates."""
        size = find_endpoint(UPDATES).newest.page_size
        return self._read(
            f"""WITH counted AS (
                SELECT incident_id AS id, count(*) AS updates
                FROM {self._schema}.{UPDATES} GROUP BY 1
            )
            SELECT
                (SELECT count(*) + coalesce(sum((coalesce(updates, 1) - 1) // {size}), 0)::BIGINT
                FROM (SELECT unnest(?::VARCHAR[]) AS id) LEFT JOIN counted USING (id)),
                (SELECT greatest(1, ceil(sum(updates) / {size}))::BIGINT FROM counted)""",
            [list(wanted)],
        )[0]

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, list(parameters)).fetchall()
