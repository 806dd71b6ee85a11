"""The stages of one sync, in their order: fetch, decide, load, conclude.

What each does is in the module of its name; how a sync is set up, and cleaned up after, in `run`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb

from incident_assets.api.failures import describe_surprise, quote_notice
from incident_assets.settings import Settings
from incident_assets.sync.account import Account, recognise_rows
from incident_assets.sync.describing import describe_tables
from incident_assets.sync.fetch import Fetcher
from incident_assets.sync.listing import Listing, is_its_own
from incident_assets.sync.load import build_source, find_table
from incident_assets.sync.log import (
    Kind,
    Outcome,
    write_log,
    write_newest_rows,
)
from incident_assets.sync.loss import Verdict
from incident_assets.sync.memory import release_memory
from incident_assets.sync.personal import conclude_masking, note_due, read_masking
from incident_assets.sync.plan import Landing, Plan
from incident_assets.warehouse.as_of import AS_OF
from incident_assets.warehouse.commits import commit, transact
from incident_assets.warehouse.history import (
    History,
)
from incident_assets.warehouse.merging import (
    find_successors,
    finish_swap,
    mark_deleted,
    stamp_load,
    swap_table,
)
from incident_assets.warehouse.schemas import RAW_SCHEMA, name_table
from incident_assets.warehouse.tidying import tidy_tables
from incident_assets.warehouse.versions import (
    COMMENTS,
    HISTORY,
    Look,
    doubt_versions,
    note_fact,
    note_version,
    read_looks,
    read_versions,
    sign,
)

logger = logging.getLogger(__name__)

IDLE = "there was nothing to ask for: no incident has changed or is active"
INSTANT = timedelta(microseconds=1)
LOAD_WORKERS = 4  # more would only hold more in memory at once
LIFT_LIMIT = "RESET memory_limit"  # of DuckDB, where its usual share was not enough


@dataclass
class Sync:
    """A sync that is set up: `fetch`, `load` with the pipeline, then `conclude`.

    After that, `versions` are those of its tables, by resource, and `is_due` says whether the
    database has to be written anew, since this sync or one that died has masked or scrubbed rows.
    `looks` are what its tables look like, none before they were read and after they were written.
    """

    run_id: str
    settings: Settings
    account: Account
    started: datetime
    connection: duckdb.DuckDBPyConnection
    plan: Plan
    history: History
    fetcher: Fetcher
    pipeline: dlt.Pipeline
    folder: Path
    landings: list[Landing] = field(default_factory=list)
    looks: dict[str, Look] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    is_due: bool = False

    def run(self) -> list[Outcome]:
        """Go through all stages, without Dagster, and return what happened to each resource."""
        self.fetch()
        self.load(lambda source: [self.pipeline.run(source, loader_file_format="parquet")])
        return self.conclude()

    def fetch(self) -> None:
        """Walk all listings to their ends. Raises AccountMismatch if they are another account's."""
        self.fetcher.fetch_all(self.plan)
        if not self.account.is_proven:
            listings = {*self.plan.listings.values(), *self.plan.chain}
            recognise_rows(self.connection, self.settings, listings)
        release_memory()

    def load(self, run: Callable[[Any], Iterable[Any]]) -> list[Any]:
        """Have `run` load the dlt source of what the listings change; return what it yields.

        A listing whose rows cannot be loaded is given up, and the others are loaded without it.
        Where nothing would change, neither rows nor what is remembered, `run` is not called.
        """
        # Commits at once to a lake would be in each other's way.
        workers, is_lifted = 1 if self.settings.lake_catalog else LOAD_WORKERS, False
        while landings := self._find_needed(self.plan.decide()):
            self.landings[:], self.looks = landings, {}
            if not self.plan.refreshes:
                # dlt commits by itself; a crash between must not pass for nothing changed.
                written = [name_table(x.endpoint.name) for x in landings if x.rows]
                doubt_versions(self.connection, written)
                self._open_versions(landings)
            try:
                with dlt.config.values({"load.workers": workers}):
                    return list(run(build_source(landings, self.plan.state, self.folder)))
            except Exception as error:
                if not is_its_own(error):
                    raise
                if is_lifted:
                    self._blame(error)
                # One at a time, then with all memory: what takes it all may break another's load.
                is_lifted, workers = workers == 1, 1
            if is_lifted:
                self.connection.execute(LIFT_LIMIT)
            self.pipeline.abort_packages()
        self.landings.clear()
        return []

    def _find_needed(self, landings: Sequence[Landing]) -> Sequence[Landing]:
        """Return the landings without which something would not be what it is to be."""
        needed = [x for x in landings if x.rows or self.plan.makes_table(x)]
        if needed or not landings:
            return needed
        if self.plan.has_moved:
            return landings[:1]
        with transact(self.connection):
            versions = self._read_versions()
        # What a killed sync has written is settled by a load, be it one of no rows.
        return landings[:1] if None in versions.values() else []

    def _read_versions(self) -> dict[str, str | None]:
        """Return the versions of the tables, and those of what is noted like one, as they are."""
        tables = [name_table(name) for name in self.plan.listings]
        self.looks = self.looks or read_looks(self.connection, tables)
        return read_versions(self.connection, [*tables, COMMENTS, HISTORY], self.looks)

    def _open_versions(self, landings: Iterable[Landing]) -> None:
        with transact(self.connection):
            for landing in landings:
                if landing.file and landing.rows and not landing.is_new:
                    ending = f"SELECT id FROM {landing.file.sql} WHERE _valid_from IS NULL"
                    self.history.open_versions(
                        landing.endpoint.name, f"SEMI JOIN ({ending}) USING (id)"
                    )

    def _blame(self, error: Exception) -> None:
        """Give the listing up whose rows could not be loaded; all, where that cannot be told."""
        whole = {x.name: x for x in self.plan.listings.values() if x.is_whole}
        if not whole:
            raise error
        table = find_table(error)
        for listing in [whole[table]] if table in whole else whole.values():
            listing.give_up(describe_surprise(error))

    def conclude(self) -> list[Outcome]:
        """Mark what is gone, write the sync log, and return what happened to each resource."""
        self.connection.begin()
        listings = self.plan.listings.values()
        dropped = self._swap_tables() if self.plan.refreshes and self.landings else {}
        load_id = self._find_load_id()
        sure = self._read_versions()
        finished = datetime.now(UTC)
        at = self._find_end(finished)
        outcomes = [self._conclude(x, load_id, dropped.get(x.name, 0), sure, at) for x in listings]
        self._keep_history(sure[HISTORY], at)
        self._note_versions(outcomes, load_id, sure)
        write_log(self.connection, outcomes, self.run_id, self.started, finished)
        written = [x.endpoint for x in self.landings if x.is_new or x.rows]
        describe_tables(self.connection, written, sure[COMMENTS])
        self.is_due = read_masking(self.connection).is_due
        commit(self.connection)
        if not self.settings.lake_catalog:  # which never keeps readers out, and has its upkeep
            write_newest_rows(self.connection, self.settings.database)
            tidy_tables(self.connection, [x.endpoint for x in listings if x.is_whole])
        return outcomes

    def _swap_tables(self) -> dict[str, int]:
        """Put the refreshed tables in the place of the old ones; return rows dropped by name."""
        connection, plan, dropped = self.connection, self.plan, {}
        for endpoint in (landing.endpoint for landing in self.landings):
            listing = plan.listings[endpoint.name]
            scope, keeps = plan.find_scope(listing), not plan.verdicts[endpoint.name].takes_away
            successors = find_successors(
                connection, plan.schema, RAW_SCHEMA, endpoint, scope, keeps
            )
            lasting = f"SELECT id FROM {successors} WHERE _valid_from IS NOT NULL"
            self.history.open_versions(endpoint.name, f"ANTI JOIN ({lasting}) USING (id)")
            dropped[endpoint.name] = swap_table(connection, RAW_SCHEMA, endpoint, successors)
        finish_swap(connection, plan.schema, RAW_SCHEMA)
        whole = {x.endpoint.name for x in self.landings if x.file}
        held = {name for name, x in plan.verdicts.items() if not x.takes_away}
        conclude_masking(connection, whole - held)
        return dropped

    def _find_end(self, finished: datetime) -> datetime:
        """Return when this sync ends for history: after any other, whatever the clock says."""
        before = [past.concluded + INSTANT for past in self.plan.past.values()]
        return max(finished, *before, self.started)

    def _keep_history(self, noted: str | None, at: datetime) -> None:
        """Begin the history of tables that have none; let it go on, or end, as the settings say."""
        whole = [x.endpoint for x in self.plan.listings.values() if x.is_whole]
        has_begun = self.history.begin(whole, at)
        days = self.settings.history_days
        version = sign(AS_OF, days, at.date() if days else None)  # old versions go once a day
        if has_begun or version != noted:
            self.history.settle(at)
            note_fact(self.connection, HISTORY, version)

    def _note_versions(
        self, outcomes: Iterable[Outcome], load_id: str, sure: Mapping[str, str | None]
    ) -> None:
        """Give each table a new version that was changed, or of which nobody knows."""
        for outcome in outcomes:
            table = name_table(outcome.resource)
            version = sure[table]
            # What a killed sync has written is settled by one that loads, and unsure until then.
            if outcome.changed or outcome.deleted or (version is None and load_id):
                version = note_version(self.connection, table)
            self.versions[outcome.resource] = version or self.run_id

    def _conclude(
        self,
        listing: Listing,
        load_id: str,
        deleted: int,
        sure: Mapping[str, str | None],
        at: datetime,
    ) -> Outcome:
        table, verdict = name_table(listing.name), self.plan.verdicts[listing.name]
        changed = 0
        # Touched by this load, or by one that was never concluded, whatever came of this listing.
        if load_id and table in self.looks and (self.plan.refreshes or sure[table] is None):
            self.history.close_versions(listing.name, at)
            changed = stamp_load(self.connection, table, load_id, at)
            if changed and self.history.drop_scrubbed(listing.endpoint, at):
                note_due(self.connection)
        takes_away = listing.is_whole and verdict.takes_away and verdict.missing
        if takes_away and not self.plan.refreshes:
            self.history.end_deleted(listing.name, listing.spool.sql, at)
            deleted += mark_deleted(self.connection, table, listing.spool.sql, self.started, at)
        short = f"{listing.announced} rows were announced and {listing.rows} came"
        if said := verdict.held or verdict.remark or (verdict.is_short and short):
            logger.warning("%s: %s", listing.name, said)
        quotes = not self.settings.masks_people
        notices = listing.traffic.notice.items()
        notice = "; ".join(f"{x}: {quote_notice(text, quotes)}" for x, text in notices)
        return Outcome(
            resource=listing.name,
            listing="full" if listing.full else "changes",
            rows=listing.rows if listing.is_whole else 0,
            changed=changed,
            deleted=deleted,
            table_rows=self.looks[table].rows,
            requests=listing.traffic.requests,
            seconds=round(listing.seconds, 3),
            load_id=load_id or None if listing.is_whole else None,
            outcome=_name_outcome(listing, verdict),
            failure=listing.failure or verdict.held,
            path=listing.way.path,
            notice=notice,
            announced=listing.announced,
            missing=verdict.missing,
            missing_hash=verdict.missing_hash,
            dropped=verdict.missing + verdict.marked if deleted and self.plan.refreshes else 0,
            accepted=verdict.is_accepted,
            remark=verdict.remark or ("" if listing.pages or listing.failure else IDLE),
        )

    def _find_load_id(self) -> str:
        trace = self.pipeline.last_trace
        loaded = trace.last_load_info if trace else None
        return loaded.loads_ids[-1] if loaded and loaded.loads_ids else ""


def _name_outcome(listing: Listing, verdict: Verdict) -> Kind:
    if listing.failure:
        return "failed"
    if not listing.is_whole:
        return "not asked"
    return "held" if verdict.held else "loaded"
