"""One resource's walk in one run: how it is asked for, its counts, and whether it is whole.

Rule 0 of the data lives here: rows are spooled as they come, and are handed over only when the
whole listing has succeeded. Asking is `fetch`'s; what a listing means for its table is `plan`'s.
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from incident_assets.api.adapter import Traffic
from incident_assets.api.endpoints import Endpoint, Way
from incident_assets.api.failures import Failure
from incident_assets.api.pages import BadPage, Page
from incident_assets.warehouse.spool import Spool, SpooledFile


class Listing:
    """The walk over one resource. Used by the threads that fetch it, then by the run.

    `since` is the day or moment (ISO) from which on changes are asked for, None for everything;
    `incidents` are the only ones whose rows are asked for, None for all. `announced` is the total
    that the API gave, where it gives one. `missing` are the newer paths that are not there, with
    what they answered.
    """

    def __init__(self, endpoint: Endpoint, folder: Path):
        self.endpoint = endpoint
        self.way = endpoint.newest
        self.spool = Spool(endpoint, folder)
        self.traffic = Traffic(endpoint.name)
        self.since: str | None = None
        self.incidents: Sequence[str] | None = None
        self.pages = 0
        self.announced: int | None = None
        self.missing: list[tuple[str, Failure]] = []
        self.failure: Failure | None = None
        self._ended: float | None = None
        self._lock = threading.Lock()
        self._cursors: set[tuple[str, str]] = set()

    @property
    def name(self) -> str:
        """Name of the resource."""
        return self.endpoint.name

    @property
    def full(self) -> bool:
        """Whether it asks for everything, or only for what may have changed."""
        return self.since is None and self.incidents is None

    @property
    def filters(self) -> dict[str, str]:
        """Query parameters for what changed."""
        changes = self.way.changes
        return {changes.parameter: self.since} if changes and self.since else {}

    @property
    def files(self) -> Sequence[SpooledFile]:
        """The rows of a whole listing; a file without any where it is not whole."""
        return self.spool.files if self.is_whole else [self.spool.write_empty()]

    @property
    def rows(self) -> int:
        """Distinct ids seen so far."""
        return self.spool.rows

    @property
    def seconds(self) -> float:
        """Time from the first request to the last page, or until now."""
        if self.traffic.started is None:
            return 0.0
        return (self._ended or time.monotonic()) - self.traffic.started

    @property
    def has_ended(self) -> bool:
        """Whether the last page has come, or the listing was given up."""
        return self._ended is not None

    @property
    def is_going_on(self) -> bool:
        """Whether requests have been made and more are to come."""
        return self.traffic.started is not None and self._ended is None

    @property
    def is_whole(self) -> bool:
        """Whether all that was asked for has come."""
        return self.has_ended and self.failure is None

    @property
    def is_missing(self) -> bool:
        """Whether the API has it at none of its paths."""
        return len(self.missing) == len(self.endpoint.ways)

    @property
    def shows_deletions(self) -> bool:
        """Whether a row that it does not have is gone.

        Not where fewer rows came than were announced, nor where the older path answers with
        nothing while the newer one is not there: a path at its end may do so.
        """
        short = self.announced is not None and self.rows < self.announced
        return self.is_whole and self.full and not short and not (self.missing and not self.rows)

    def begin(self, way: Way) -> None:
        """Note how the API is asked from now on; in full where this version knows no changes."""
        self.way = way
        self.since = self.since if way.changes else None

    def take(self, page: Page, walk: str) -> None:
        """Take a page of one of the walks: count it, and spool its rows.

        Raises BadPage if its cursor was seen before in that walk, which would never end.
        """
        with self._lock:
            self.pages += 1
            self.announced = page.total if page.total is not None else self.announced
            if page.after is not None:
                if (walk, page.after) in self._cursors:
                    raise BadPage("the API repeated a cursor, so the listing would never end")
                self._cursors.add((walk, page.after))
        self.spool.add(page.items, page.ids, page.size)

    def end(self) -> None:
        """Note that the last page has come, and leave one row per id in the spool."""
        self.spool.end()
        self._ended = time.monotonic()

    def fail(self, failure: Failure) -> None:
        """Give the listing up; its rows go nowhere."""
        self.failure = failure
        self._ended = self._ended or time.monotonic()
        self.spool.discard()
