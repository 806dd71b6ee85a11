"""What a sync by changes asks for, and what it remembers from one sync to the next.

Incidents can be asked for by the date of their last change. Their updates cannot, so they are asked
for incident by incident, where that takes fewer requests than paging through all of them. What is
remembered is part of dlt's state, which is committed with the rows that it speaks of.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dlt
import duckdb

from incident_assets.api.categories import ACTIVE_CATEGORIES
from incident_assets.api.endpoints import find_endpoint
from incident_assets.sync.listing import Failure, Listing
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.merging import read_spool

log = logging.getLogger(__name__)

# Covers edits within the instant of the watermark, rows that were committed late, and clocks.
OVERLAP = timedelta(hours=1)
INCIDENTS, UPDATES = "incidents", "incident_updates"


class Changes:
    """The plan of one sync, and its part of dlt's state.

    State of `incidents`: `watermark`, the newest updated_at that has landed (ISO, UTC), absent
    where a row had none. State of `incident_updates`: `complete` after a full listing, `since` the
    time when that began, until a sync by changes has looked at what came after it, and `pending`
    the incidents whose updates are still to be fetched.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: str,
        listings: Mapping[str, Listing],
        state: Mapping[str, Mapping[str, Any]],
        started: datetime,
    ):
        self.connection = connection
        self._schema = schema
        self.listings = listings
        self._started = started
        self._made = threading.Event()
        self.wanted: Sequence[str] | None = None
        if INCIDENTS in listings and "watermark" in state.get(INCIDENTS, {}):
            listings[INCIDENTS].full = False
            if UPDATES in listings and state.get(UPDATES, {}).get("complete"):
                listings[UPDATES].full = False
        self._watermark: str = state.get(INCIDENTS, {}).get("watermark", "")

    @property
    def updated_since(self) -> date | None:
        """The day from which on incidents are asked for, or None for all of them."""
        listing = self.listings.get(INCIDENTS)
        if listing is None or listing.full:
            return None
        return (datetime.fromisoformat(self._watermark) - OVERLAP).date()

    def table(self, name: str) -> str:
        """Return the table that a resource's rows are compared with and loaded into."""
        return f"{self._schema}.{name}"

    def wait(self, seconds: float) -> bool:
        """Wait until it is known which incidents' updates are `wanted` (None: all)."""
        return self._made.wait(seconds)

    def settle(self, listing: Listing) -> None:
        """Draw the conclusions from a listing that has ended, before its rows are loaded."""
        if listing.name == INCIDENTS:
            self._settle_incidents(listing)
        elif listing.name == UPDATES and listing.whole:
            state = dlt.current.resource_state(UPDATES)
            state |= {"pending": [], "since": None}
            if listing.full:
                state |= {"complete": True, "since": self._started.isoformat()}

    def _settle_incidents(self, listing: Listing) -> None:
        if listing.whole:
            self._move_watermark(listing)
        state = dlt.current.resource_state(UPDATES)
        updates = self.listings.get(UPDATES)
        has_all = updates is not None and updates.full and updates.whole
        if not has_table(self.connection, self.table(INCIDENTS)):
            state["complete"] = has_all
        elif state.get("complete"):
            changed, wanted = self._find_incidents(listing, state)
            by_incident, all_pages = self._count_requests(wanted)
            if updates is not None and not updates.full:
                self._choose(updates, wanted, by_incident, all_pages)
            if not has_all:
                # Noted until a listing of updates, of this sync or a later one, has them.
                state["pending"] = changed
                if len(changed) > all_pages:
                    state |= {"complete": False, "pending": []}
        if updates is not None and self.wanted is None:
            updates.full = True
        self._made.set()

    def _move_watermark(self, listing: Listing) -> None:
        newest, undated = self._read(
            "SELECT max(updated_at), count(*) FILTER (updated_at IS NULL) "
            f"FROM {read_spool(listing.files)}"
        )[0]
        state = dlt.current.resource_state(INCIDENTS)
        if undated and not listing.full:
            listing.fail(
                Failure(
                    f"{undated} incidents have no updated_at, so what changed cannot be told",
                    "The nightly sync_all loads them all the same",
                )
            )
            listing.end()
        elif undated:
            log.warning(
                "%d incidents have no updated_at: syncs by changes list everything", undated
            )
            state.pop("watermark", None)
        elif newest is not None:
            # A time in the future would hide every change until then.
            newest = min(newest.astimezone(UTC), self._started)
            if not listing.full:
                newest = max(newest, datetime.fromisoformat(self._watermark))
            state["watermark"] = newest.isoformat()

    def _find_incidents(
        self, listing: Listing, state: Mapping[str, Any]
    ) -> tuple[list[str], list[str]]:
        """Return the incidents that changed or are pending, and all whose updates are wanted."""
        category = "json_extract_string(incident_status, '$.category')"
        table = self.table(INCIDENTS)
        rows = self._read(
            f"""WITH listed AS (
                SELECT id, updated_at, {category} AS category FROM {read_spool(listing.files)}
            ), stored AS (
                SELECT id, updated_at, {category} AS category, _dlt_load_id IN (
                    SELECT load_id FROM {self._schema}._dlt_loads WHERE status = 0
                ) AS committed
                FROM {table} WHERE _deleted_at IS NULL
            ), changed AS (
                -- A row of a load that was cut off counts as not seen: its updates may be missing.
                SELECT id FROM listed ANTI JOIN (FROM stored WHERE committed) AS known
                ON listed.id = known.id AND listed.updated_at IS NOT DISTINCT FROM known.updated_at
                UNION SELECT unnest(?::VARCHAR[])
            ), now AS (
                FROM listed SELECT id, updated_at, category
                UNION ALL SELECT id, updated_at, category FROM stored ANTI JOIN listed USING (id)
            )
            SELECT id, true FROM changed
            UNION ALL SELECT id, false FROM now ANTI JOIN changed USING (id)
            WHERE category IN (SELECT unnest(?::VARCHAR[])) OR updated_at >= ?
            ORDER BY ALL""",
            [
                state.get("pending", []),
                list(ACTIVE_CATEGORIES),
                datetime.fromisoformat(state["since"]) - OVERLAP if state.get("since") else None,
            ],
        )
        return [row[0] for row in rows if row[1]], [row[0] for row in rows]

    def _count_requests(self, wanted: Sequence[str]) -> tuple[int, int]:
        """Return how many requests it takes to fetch these incidents' updates, and all updates."""
        size = find_endpoint(UPDATES).page_size
        return self._read(
            f"""WITH counted AS (
                SELECT incident_id AS id, count(*) AS updates FROM {self.table(UPDATES)} GROUP BY 1
            )
            SELECT
                (SELECT count(*) + coalesce(sum((coalesce(updates, 1) - 1) // {size}), 0)::BIGINT
                FROM (SELECT unnest(?::VARCHAR[]) AS id) LEFT JOIN counted USING (id)),
                (SELECT greatest(1, ceil(sum(updates) / {size}))::BIGINT FROM counted)""",
            [list(wanted)],
        )[0]

    def _choose(
        self, updates: Listing, wanted: Sequence[str], by_incident: int, all_pages: int
    ) -> None:
        if by_incident < all_pages:
            self.wanted = wanted
        else:
            updates.full = True
        log.info(
            "%s: %d requests for the %d incidents that changed or are active, %d for all: asking "
            "for %s",
            UPDATES,
            by_incident,
            len(wanted),
            all_pages,
            "all" if updates.full else "those",
        )

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, list(parameters)).fetchall()


def read_state(pipeline: dlt.Pipeline, source: str) -> Mapping[str, Mapping[str, Any]]:
    """Return what earlier syncs of this database remembered, by resource."""
    pipeline.sync_destination()
    sources: Mapping[str, Any] = pipeline.state.get("sources", {})
    return sources.get(source, {}).get("resources", {})
