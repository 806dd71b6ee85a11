"""Loss: how much a full listing may take away from its table, by rule 3a of the data.

All of it is computed from the table, `_deleted_at` and the sync log. Marking and dropping rows is
the warehouse's; telling people is the check `volume`'s.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import duckdb

from incident_assets.api.failures import Failure
from incident_assets.sync.listing import Listing
from incident_assets.sync.log import LOG_TABLE
from incident_assets.warehouse.schemas import RAW_SCHEMA

WINDOW = timedelta(days=7)
LARGEST_SHARE = 0.5  # of what was live in the window, beyond which a listing is held
NOTED_SHARE = 0.2  # of it, beyond which `volume` warns
SMALL_TABLE = 10  # live rows, of which a second listing can take most away
AN_HOUR = timedelta(hours=1)  # after which a listing that says the same is believed


class Past(NamedTuple):
    """What the log says of a resource.

    `since` is when losses begin to count, and `dropped` the rows that refreshes have dropped since;
    a sync last `concluded` then, and rows last came by that `path`.
    """

    since: datetime
    dropped: int
    concluded: datetime
    path: str | None


@dataclass(frozen=True)
class Verdict:
    """What a listing may do to its table.

    `takes_away`: rows that it does not have are gone. `held` says why it is held, with the numbers
    and the way on; `remark` what `volume` warns of where it is not. The table has `stored` rows,
    marked ones too, if somebody has counted them; `missing` live ones were not listed, whose ids
    make up `missing_hash`, and `marked` are gone since lately. `is_accepted` where somebody, or a
    second listing, has said that the loss is right, `is_short` where fewer rows came than were
    announced and nothing is known of the others.
    """

    takes_away: bool = False
    held: Failure | None = None
    remark: str = ""
    stored: int | None = None
    missing: int = 0
    missing_hash: int | None = None
    marked: int = 0
    is_accepted: bool = False
    is_short: bool = False


class Recent(NamedTuple):
    """Rows of a table that are live, and those that went in the last seven days, still gone."""

    live: int
    gone: int

    @property
    def share(self) -> float:
        """Gone rows, of all that were live in that time."""
        return self.gone / max(1, self.live + self.gone)


def count_recent(connection: duckdb.DuckDBPyConnection, name: str, at: datetime) -> Recent:
    """Return how many rows of a table are live, and went lately without anybody's having said so.

    What a full refresh has dropped counts, by the sync log.
    """
    since, dropped = _find_window(read_past(connection, at).get(name), at)
    live, marked = connection.execute(
        "SELECT count(*) FILTER (_deleted_at IS NULL), count(*) FILTER (_deleted_at > ?) "
        f"FROM {RAW_SCHEMA}.{name}",
        [since],
    ).fetchone() or (0, 0)
    return Recent(live, marked + dropped)


def judge_loss(
    connection: duckdb.DuckDBPyConnection,
    listing: Listing,
    at: datetime,
    past: Past | None,
    accepted: bool = False,
    lost_roles: Collection[str] = (),
) -> Verdict:
    """Return what a whole listing may take away from its table, which is there.

    `past` is what the log says of it, if anything; `accepted` where somebody said that it may;
    `lost_roles` are those that the key once had.
    """
    if not listing.full:
        return Verdict()
    name = listing.name
    since, dropped = _find_window(past, at)
    stored, live, missing, fingerprint, marked = _count_missing(connection, listing, since)
    seen = Verdict(stored=stored, missing=missing, missing_hash=fingerprint, marked=marked)
    if accepted:
        return replace(seen, takes_away=True, is_accepted=missing > 0)
    if lost_roles and missing:
        return replace(
            seen,
            remark=f"{missing} of {live} rows were not listed and none is marked, since the key "
            f"has lost {', '.join(sorted(lost_roles))}: give the role back, or say that it is "
            "right by `incident-assets check --accept-account`",
        )
    shortfall = max(0, (listing.announced or 0) - listing.rows)
    came = f"the API announced {listing.announced} rows and {listing.rows} came"
    if shortfall and shortfall > _read_usual_shortfall(connection, name, at):
        remark = (
            f"{came}; {missing} of the table's were not listed, and none is marked before a full "
            "listing an hour later says the same"
        )
        return replace(seen, remark=remark if missing else "", is_short=True)
    remark = f"{came}: the key does not see the others" if shortfall else ""
    recent = Recent(live - missing, missing + marked + dropped)
    at_its_end = bool(listing.missing) and not listing.rows
    if missing and (recent.share > LARGEST_SHARE or at_its_end):
        is_small = live <= SMALL_TABLE and not at_its_end
        if not (is_small and _was_held_alike(connection, name, at, fingerprint)):
            return replace(seen, held=_describe_hold(listing, live, recent, is_small))
        return replace(seen, takes_away=True, remark=remark, is_accepted=True)
    return replace(seen, takes_away=True, remark=remark)


def _describe_hold(listing: Listing, live: int, recent: Recent, is_small: bool) -> Failure:
    name, missing = listing.name, live - recent.live
    lately = f", {recent.gone} with those of the last seven days" if recent.gone > missing else ""
    where = ""
    if listing.missing:
        where = f" by {listing.way.path}, while {listing.missing[0][0]} is not there"
    later = "wait for a full listing an hour later that says the same, or " if is_small else ""
    return Failure(
        f"held: {missing} of {live} live rows were not listed{where}{lately}; what came is loaded, "
        "and nothing is marked as deleted",
        f"Look whether the key or the account has changed; if the rows are gone, {later}accept it: "
        f"accept_loss: [{name}] in the run's config, or "
        f"`incident-assets sync --select {name} --accept-loss {name}`",
    )


def read_past(connection: duckdb.DuckDBPyConnection, at: datetime) -> dict[str, Past]:
    """Return what the log says of each resource that it names.

    What was gone when a loss was accepted has been accepted with it.
    """
    start = at - WINDOW
    rows = connection.execute(
        f"""WITH accepted AS (
            SELECT resource, max(started_at) AS at FROM {LOG_TABLE}
            WHERE accepted AND started_at > $start GROUP BY resource
        )
        SELECT resource, any_value(accepted.at), sum(dropped) FILTER (
            started_at > $start AND (accepted.at IS NULL OR started_at > accepted.at)
        ), max(finished_at), arg_max(path, finished_at) FILTER (rows > 0)
        FROM {LOG_TABLE} LEFT JOIN accepted USING (resource) GROUP BY resource""",
        {"start": start},
    ).fetchall()
    return {
        name: Past(since or start, int(dropped or 0), concluded, path)
        for name, since, dropped, concluded, path in rows
    }


def _find_window(past: Past | None, at: datetime) -> tuple[datetime, int]:
    """Return since when losses count, and how many rows refreshes have dropped since."""
    return (past.since, past.dropped) if past else (at - WINDOW, 0)


def _count_missing(
    connection: duckdb.DuckDBPyConnection, listing: Listing, since: datetime
) -> tuple[int, int, int, int | None, int]:
    """Return all rows, live ones, those not listed, a hash of these, those gone since a moment."""
    row = connection.execute(
        f"""SELECT count(*), count(*) FILTER (is_live), count(*) FILTER (is_live AND NOT is_listed),
            bit_xor(hash(id)) FILTER (is_live AND NOT is_listed),
            count(*) FILTER (_deleted_at > ? AND NOT is_listed)
        FROM (
            SELECT id, _deleted_at, _deleted_at IS NULL AS is_live,
                id IN (SELECT id FROM {listing.spool.sql}) AS is_listed
            FROM {RAW_SCHEMA}.{listing.name}
        )""",
        [since],
    ).fetchone()
    assert row is not None  # an aggregate has one row
    stored, live, missing, fingerprint, marked = row
    return stored, live, missing, fingerprint, marked


def _read_usual_shortfall(connection: duckdb.DuckDBPyConnection, name: str, at: datetime) -> int:
    """Return the rows that full listings have lacked since one at least an hour ago, 0 if none."""
    found = connection.execute(
        f"""WITH listed AS (
            FROM {LOG_TABLE} SELECT finished_at, greatest(0, announced - rows) AS lacking
            WHERE resource = ? AND listing = 'full' AND outcome = 'loaded'
        )
        SELECT min(lacking) FROM listed
        WHERE finished_at >= (SELECT max(finished_at) FROM listed WHERE finished_at <= ?)""",
        [name, at - AN_HOUR],
    ).fetchone()
    return int(found[0] or 0) if found else 0


def _was_held_alike(
    connection: duckdb.DuckDBPyConnection, name: str, at: datetime, fingerprint: int | None
) -> bool:
    """Whether full listings have been held for these same rows since an hour ago or longer."""
    found = connection.execute(
        f"""WITH listed AS (
            FROM {LOG_TABLE} SELECT *, outcome = 'held' AND missing_hash = ? AS is_alike
            WHERE resource = ? AND listing = 'full' AND outcome IN ('loaded', 'held')
        )
        SELECT min(finished_at) FROM listed WHERE is_alike AND finished_at > (
            SELECT coalesce(max(finished_at), '-infinity'::TIMESTAMPTZ) FROM listed
            WHERE is_alike IS NOT TRUE
        )""",
        [fingerprint, name],
    ).fetchone()
    return found is not None and found[0] is not None and found[0] <= at - AN_HOUR
