"""Decide: what a sync asks for, and what whole listings mean for the tables.

Some resources can be asked for by the time of their last change. Updates of incidents cannot, so
they are asked for incident by incident, where that takes fewer requests than paging through all of
them. What is remembered for the next sync is part of dlt's state, which is committed with the rows
that it speaks of. Asking is `fetch`'s, loading is `load`'s.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from incident_assets.api.categories import ACTIVE_CATEGORIES
from incident_assets.api.endpoints import Endpoint, find_endpoint
from incident_assets.api.failures import Failure
from incident_assets.sync.listing import Listing, is_its_own
from incident_assets.warehouse.merging import write_changed
from incident_assets.warehouse.schemas import RAW_SCHEMA
from incident_assets.warehouse.spool import SpooledFile

logger = logging.getLogger(__name__)

FULL_LISTING_OVERLAP = timedelta(hours=1)  # rows committed late, and clocks
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # nothing to be asked for is older
DAY = timedelta(days=1)  # by which the API's date may be behind UTC's
INCIDENTS, UPDATES = "incidents", "incident_updates"
NOTHING = "(SELECT '' AS id, NOW() AS updated_at, NULL::JSON AS incident_status WHERE false)"

State = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Landing:
    """What a listing changes in its table, as a file; no file where only the table is to be made.

    Into a table without rows one file is appended, at once and whole; a merge would write rows
    twice.
    """

    endpoint: Endpoint
    file: SpooledFile | None = None
    is_new: bool = True

    @property
    def rows(self) -> int:
        """How many rows are new or different."""
        return self.file.rows if self.file else 0


class Plan:
    """The plan of one sync, and what it remembers, by resource.

    State of what is asked for by changes: `watermark`, the newest updated_at that has landed (ISO,
    UTC), absent where a row had none. State of `incident_updates`: `complete` after a full listing,
    `since` the time when that began, until a sync by changes has looked at what came after it, and
    `pending` the incidents whose updates are still to be fetched.

    `tables` are the raw tables that are there. `known` is the state of before, and `state` that of
    after, once `decide` was called.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: str,
        listings: Mapping[str, Listing],
        tables: Collection[str],
        known: Mapping[str, Mapping[str, Any]],
        by_changes: bool,
        started: datetime,
    ):
        self.connection = connection
        self.listings = listings
        self.schema = schema
        self._tables = tables
        self._started = started
        self._known = known
        self.state: State = {}
        self._changed: tuple[list[str], list[str]] | None = None
        if by_changes:
            for listing in listings.values():
                listing.ask(listing.way, self._find_start(listing))
        waits = (
            by_changes
            and UPDATES in listings
            and INCIDENTS in listings
            and not listings[INCIDENTS].full
            and self._remembered(UPDATES, "complete")
        )
        self.last = listings[UPDATES] if waits else None

    @property
    def first(self) -> list[Listing]:
        """The listings that wait for no other."""
        return [listing for listing in self.listings.values() if listing is not self.last]

    @property
    def decisive(self) -> str:
        """The listing that shows what to ask for in `last`."""
        return INCIDENTS

    def _remembered(self, name: str, what: str) -> Any:
        return self._known.get(name, {}).get(what)

    def _find_start(self, listing: Listing) -> str | None:
        watermark, changes = self._remembered(listing.name, "watermark"), listing.way.changes
        if watermark is None or changes is None:
            return None
        start = max(datetime.fromisoformat(watermark), EPOCH) - changes.overlap
        return (start - DAY).date().isoformat() if changes.by_date else start.isoformat()

    def choose_updates(self) -> None:
        """Ask for the updates of the incidents that may have new ones, or for all of them."""
        _, wanted = self._find_changed()
        by_incident, all_pages = self._count_requests(wanted)
        if by_incident < all_pages:
            updates = self.listings[UPDATES]
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

    def decide(self) -> list[Landing]:
        """Return what the listings change in their tables, and conclude what to remember.

        After its first sync a table is there and typed, whether it could be read or not.
        """
        landings = []
        self.state = {name: dict(values) for name, values in self._known.items()}
        for listing in self.listings.values():
            landing = Landing(listing.endpoint)
            if listing.is_whole:
                with listing.blamed():
                    landing = self._compare(listing)
                    if listing.way.changes is not None:
                        self._move_watermark(listing)
            if listing.is_whole or listing.name not in self._tables:
                landings.append(landing if listing.is_whole else Landing(listing.endpoint))
        updates = self.listings.get(UPDATES)
        if updates is not None and updates.is_whole:
            state = self.state.setdefault(UPDATES, {})
            state |= {"pending": [], "since": None}
            if updates.full:
                state |= {"complete": True, "since": self._started.isoformat()}
        elif INCIDENTS in self.listings:
            self._note_pending()
        return landings

    def _compare(self, listing: Listing) -> Landing:
        ways = listing.endpoint.ways
        file, is_new = write_changed(
            self.connection,
            f"{self.schema}.{listing.name}",
            listing.spool,
            # What this version lacks, and what newer ones have dropped: it says nothing any more.
            uncompared=[x for way in ways[: ways.index(listing.way) + 1] for x in way.lacks],
            keep=listing.way.lacks,
            kept_in=f"{RAW_SCHEMA}.{listing.name}",
        )
        return Landing(listing.endpoint, file, is_new)

    def _note_pending(self) -> None:
        """Remember incidents whose updates this sync does not have, for a later one."""
        state = self.state.setdefault(UPDATES, {})
        if INCIDENTS not in self._tables:
            state["complete"] = False
        elif state.get("complete"):
            try:
                changed, wanted = self._find_changed()
                too_many = len(changed) > self._count_requests(wanted)[1]
            except Exception as error:
                if not is_its_own(error):
                    raise
                changed, too_many = [], True
            state["pending"] = [] if too_many else changed
            state["complete"] = not too_many

    def _move_watermark(self, listing: Listing) -> None:
        newest, undated = self._read(
            f"SELECT max(updated_at), count(*) FILTER (updated_at IS NULL) FROM {listing.spool.sql}"
        )[0]
        state = self.state.setdefault(listing.name, {})
        if undated and not listing.full:
            listing.is_whole = False
            listing.failure = Failure(
                f"{undated} {listing.name} have no updated_at, so what changed cannot be told",
                "The nightly sync_all loads them all the same",
            )
        elif undated:
            logger.warning(
                "%d %s have no updated_at: syncs by changes list everything",
                undated,
                listing.name,
            )
            state.pop("watermark", None)
        elif newest is not None:
            # A time in the future would hide every change until then.
            newest = min(newest.astimezone(UTC), self._started)
            if not listing.full:
                newest = max(newest, datetime.fromisoformat(state["watermark"]))
            state["watermark"] = newest.isoformat()

    def _find_changed(self) -> tuple[list[str], list[str]]:
        """Return the incidents that changed or are pending, and all whose updates are wanted."""
        if self._changed is None:
            self._changed = self._compare_incidents()
        return self._changed

    def _compare_incidents(self) -> tuple[list[str], list[str]]:
        category = "json_extract_string(incident_status, '$.category')"
        since = self._remembered(UPDATES, "since")
        incidents = self.listings[INCIDENTS]
        listed = incidents.spool.sql if incidents.is_whole else NOTHING
        rows = self._read(
            f"""WITH listed AS (
                SELECT id, updated_at, {category} AS category FROM {listed}
            ), stored AS (
                SELECT id, updated_at, {category} AS category, _dlt_load_id IN (
                    SELECT load_id FROM {self.schema}._dlt_loads WHERE status = 0
                ) AS committed
                FROM {self.schema}.{INCIDENTS} WHERE _deleted_at IS NULL
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
                self._remembered(UPDATES, "pending") or [],
                list(ACTIVE_CATEGORIES),
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
                FROM {self.schema}.{UPDATES} GROUP BY 1
            )
            SELECT
                (SELECT count(*) + coalesce(sum((coalesce(updates, 1) - 1) // {size}), 0)::BIGINT
                FROM (SELECT unnest(?::VARCHAR[]) AS id) LEFT JOIN counted USING (id)),
                (SELECT greatest(1, ceil(sum(updates) / {size}))::BIGINT FROM counted)""",
            [list(wanted)],
        )[0]

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, list(parameters)).fetchall()
