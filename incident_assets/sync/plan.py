"""Decide: what a sync asks for, and what whole listings mean for the tables.

What is remembered for the next sync is part of dlt's state, which is committed with the rows that
it speaks of. Asking is `fetch`'s, loading is `load`'s; how much a listing may take away is in
`loss`, and which incidents' updates are asked for in `updates`.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from incident_assets.api.categories import STATUS_CATEGORIES
from incident_assets.api.endpoints import Endpoint
from incident_assets.api.failures import Failure
from incident_assets.sync.listing import Listing
from incident_assets.sync.loss import Past, Verdict, judge_loss, read_past
from incident_assets.sync.updates import INCIDENTS, UPDATES, Updates
from incident_assets.warehouse.commits import transact
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.merging import Scope, write_changed
from incident_assets.warehouse.schemas import RAW_SCHEMA, name_table
from incident_assets.warehouse.spool import SpooledFile

logger = logging.getLogger(__name__)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # nothing to be asked for is older
DAY = timedelta(days=1)  # by which the API's date may be behind UTC's
STATUSES = "incident_statuses"

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
    UTC), absent where a row had none. That of `incident_updates` is `Updates`'.

    `tables` are the raw tables that are there. `known` is the state of before, and `state` that of
    after, once `decide` was called; then `verdicts` say what each listing may take away, and `past`
    what the log said before.
    `statuses` is the listing of statuses that incidents need, which may be none of those to be
    loaded. `accepted` are the resources whose loss somebody has accepted, and `lost_roles` the
    roles that the key no longer has.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: str,
        listings: Mapping[str, Listing],
        tables: AbstractSet[str],
        known: Mapping[str, Mapping[str, Any]],
        by_changes: bool,
        started: datetime,
        statuses: Listing | None = None,
        accepted: Collection[str] = (),
        lost_roles: Collection[str] = (),
    ):
        self.connection = connection
        self.listings = listings
        self.schema = schema
        self._tables = tables
        self._started = started
        self._accepted = accepted
        self._lost_roles = lost_roles
        self.verdicts: dict[str, Verdict] = {}
        self.past: dict[str, Past] = {}
        self._known = known
        self.state: State = {}
        self._updates = Updates(connection, schema, listings, known.get(UPDATES, {}))
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
        wanted = (statuses, listings.get(INCIDENTS), listings[UPDATES] if waits else None)
        self.chain = [listing for listing in wanted if listing is not None]

    @property
    def refreshes(self) -> bool:
        """Whether the tables are built anew."""
        return self.schema != RAW_SCHEMA

    @property
    def has_moved(self) -> bool:
        """Whether there is anything else to remember than before."""
        return _drop_empty(self.state) != _drop_empty(self._known)

    @property
    def free(self) -> list[Listing]:
        """The listings that wait for no other; those of the chain wait for the one before."""
        return [listing for listing in self.listings.values() if listing not in self.chain]

    def makes_table(self, landing: Landing) -> bool:
        """Whether the table of a landing is not there yet."""
        return self.refreshes or landing.endpoint.name not in self._tables

    def _remembered(self, name: str, what: str) -> Any:
        return self._known.get(name, {}).get(what)

    def _find_start(self, listing: Listing) -> str | None:
        watermark, changes = self._remembered(listing.name, "watermark"), listing.way.changes
        if watermark is None or changes is None:
            return None
        start = max(datetime.fromisoformat(watermark), EPOCH) - changes.overlap
        return (start - DAY).date().isoformat() if changes.by_date else start.isoformat()

    def prepare(self, listing: Listing) -> None:
        """Decide what a listing of the chain is asked for, by what those before it have shown."""
        if listing.name == INCIDENTS:
            listing.categories = self._find_categories()
        elif listing.name == UPDATES:
            self._updates.choose()

    def _find_categories(self) -> list[str]:
        """Return the categories that incidents can be of: those known, and the account's own."""
        listed, stored = self.chain[0], name_table(STATUSES)
        # Others than words are no filter's.
        sql = "SELECT DISTINCT category FROM {} WHERE regexp_full_match(category, '[a-z0-9_]+')"
        if listed.is_whole:
            rows = listed.spool.read(sql)
        elif has_table(self.connection, stored):
            rows = self._read(sql.format(stored))
        else:
            rows = []
        found = {row[0] for row in rows}
        return [*STATUS_CATEGORIES, *sorted(found.difference(STATUS_CATEGORIES))]

    def list_missing(self) -> list[Listing]:
        """Return listings that lack stored rows which may have moved between variants meanwhile."""
        with transact(self.connection):
            return [x for x in self.listings.values() if self._misses_rows(x)]

    def _misses_rows(self, listing: Listing) -> bool:
        if not (listing.is_whole and listing.full and len(listing.way.variants) > 1):
            return False
        table = name_table(listing.name)
        return listing.name in self._tables and bool(
            self._read(
                f"SELECT 1 FROM {table} WHERE _deleted_at IS NULL "
                f"AND id NOT IN (SELECT id FROM {listing.spool.sql}) LIMIT 1"
            )
        )

    def decide(self) -> list[Landing]:
        """Return what the listings change in their tables, and conclude what to remember.

        After its first sync a table is there and typed, whether it could be read or not.
        """
        # To ask for a table that is not there would end a transaction.
        is_one = not self.refreshes and self._tables >= self.listings.keys()
        with transact(self.connection) if is_one else nullcontext():
            return self._decide(is_one)

    def _decide(self, is_one: bool) -> list[Landing]:
        landings = []
        known = {name: dict(values) for name, values in self._known.items()}
        self.state = {UPDATES: {}} | known
        self.past = read_past(self.connection, self._started)
        for listing in self.listings.values():
            landing, self.verdicts[listing.name] = Landing(listing.endpoint), Verdict()
            if listing.is_whole:
                with listing.blamed():
                    self.verdicts[listing.name] = self._judge(listing)
                    landing = self._compare(listing)
                    if self._moves_on(listing) and listing.way.changes is not None:
                        self._move_watermark(listing)
                if listing.failure and is_one:  # which has ended the transaction; none wrote
                    self.connection.rollback()
                    self.connection.begin()
            if listing.is_whole or listing.name not in self._tables:
                landings.append(landing if listing.is_whole else Landing(listing.endpoint))
        updates = self.listings.get(UPDATES)
        if updates is not None and self._moves_on(updates):
            state = self.state[UPDATES]
            # One that the API did not know just now, though it listed it, is asked for once more.
            unknown = {*updates.gone}.difference(state.get("pending") or [])
            state |= {"pending": sorted(unknown), "since": None}
            if updates.full:
                state |= {"complete": True, "since": self._started.isoformat()}
        elif INCIDENTS in self.listings:
            state = self.state[UPDATES]
            if INCIDENTS not in self._tables:
                state["complete"] = False
            elif state.get("complete"):
                pending = self._updates.find_pending()
                state |= {"pending": pending or [], "complete": pending is not None}
        return landings

    def _judge(self, listing: Listing) -> Verdict:
        if listing.name not in self._tables:
            return Verdict(is_short=listing.rows < (listing.announced or 0))
        verdict = judge_loss(
            self.connection,
            listing,
            self._started,
            self.past.get(listing.name),
            listing.name in self._accepted,
            self._lost_roles,
        )
        if verdict.is_short and self.refreshes:
            listing.is_whole = False
            listing.failure = Failure(
                f"the API announced {listing.announced} rows and {listing.rows} came, so a refresh "
                "could throw rows away",
                "Sync it in full twice, an hour apart, before the refresh, or accept the loss: "
                f"accept_loss: [{listing.name}], or --accept-loss {listing.name}",
            )
        return verdict

    def _moves_on(self, listing: Listing) -> bool:
        """Whether a listing counts for what is remembered: it is whole, and not held."""
        return listing.is_whole and not self.verdicts[listing.name].held

    def _compare(self, listing: Listing) -> Landing:
        stored = self.verdicts[listing.name].stored
        file, is_new = write_changed(
            self.connection,
            f"{self.schema}.{listing.name}",
            listing.spool,
            self.find_scope(listing),
            kept_in=name_table(listing.name),
            is_empty=None if self.refreshes or stored is None else stored == 0,
            is_part=not listing.full,
        )
        return Landing(listing.endpoint, file, is_new)

    def find_scope(self, listing: Listing) -> Scope:
        """Return which columns a listing says something of, and which it says first."""
        ways, past = listing.endpoint.ways, self.past.get(listing.name)
        before = next((way for way in ways if past and way.path == past.path), listing.way)
        return Scope(
            # What this version lacks, and what newer ones have dropped: it says nothing any more.
            unsaid=[x for way in ways[: ways.index(listing.way) + 1] for x in way.lacks],
            lacks=listing.way.lacks,
            coming=set(before.lacks).difference(listing.way.lacks),
        )

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

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, list(parameters)).fetchall()


def _drop_empty(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: values for name, values in state.items() if values}
