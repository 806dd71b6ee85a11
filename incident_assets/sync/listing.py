"""One resource's walk in one run: how it is asked for, its counts, and whether it is whole.

Rule 0 of the data lives here: rows are spooled as they come, and are handed over only when the
whole listing has succeeded. Asking is `fetch`'s; what a listing means for its table is `plan`'s.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from incident_assets.api.adapter import Traffic
from incident_assets.api.endpoints import Endpoint, Way
from incident_assets.api.failures import Failure
from incident_assets.api.pages import BadPage, Page
from incident_assets.warehouse.spool import Spool


class Listing:
    """The walk over one resource. Used by the threads that fetch it, then by the run.

    `since` is the day or moment (ISO) from which on changes are asked for, None for everything;
    `incidents` are the only ones whose rows are asked for, None for all; `full` is neither.
    `seconds` is the time from the first request until it `ended`.
    `announced` is the total that the API gave, where it gives one. `missing` are the paths that are
    not there, with what they answered. `is_whole` once all that was asked for has come.
    """

    def __init__(self, endpoint: Endpoint, folder: Path):
        self.endpoint = endpoint
        self.name = endpoint.name
        self.way = endpoint.newest
        self.spool = Spool(endpoint, folder)
        self.traffic = Traffic(endpoint.name)
        self.since: str | None = None
        self.incidents: Sequence[str] | None = None
        self.full = True
        self.pages = 0
        self.announced: int | None = None
        self.missing: list[tuple[str, Failure]] = []
        self.failure: Failure | None = None
        self.is_whole = False
        self.ended: float | None = None
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._cursors: set[tuple[str, str]] = set()

    @property
    def filters(self) -> dict[str, str]:
        """Query parameters for what changed."""
        changes = self.way.changes
        return {changes.parameter: self.since} if changes and self.since else {}

    @property
    def rows(self) -> int:
        """Distinct ids seen so far."""
        return self.spool.rows

    @property
    def is_going_on(self) -> bool:
        """Whether requests have been made and more are to come."""
        return self.traffic.started is not None and self.ended is None

    @property
    def is_missing(self) -> bool:
        """Whether the API has it at none of its paths."""
        return len(self.missing) == len(self.endpoint.ways)

    def ask(
        self, way: Way, since: str | None = None, incidents: Sequence[str] | None = None
    ) -> None:
        """Note how the API is asked from now on; in full where this version knows no changes."""
        self.way = way
        self.since = since if way.changes else None
        self.incidents = incidents
        self.full = self.since is None and incidents is None

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
