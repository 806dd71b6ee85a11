"""One resource's walk in one run: how it is asked for, its counts, and whether it is whole.

Rule 0 of the data lives here: rows are spooled as they come, and are handed over only when the
whole listing has succeeded. Asking is `fetch`'s; what a listing means for its table is `plan`'s.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from incident_assets.api.adapter import Traffic
from incident_assets.api.endpoints import CATEGORY_FILTER, Endpoint, Way
from incident_assets.api.failures import Failure, describe_surprise
from incident_assets.api.pages import BadPage, Page
from incident_assets.warehouse.file import find_storage_failure
from incident_assets.warehouse.interrupts import find_interrupt
from incident_assets.warehouse.spool import Spool

logger = logging.getLogger(__name__)

BARREN_PAGES = 3  # in a row without a new row, after which a walk is taken to be endless
SEEN_BITS = 2**25
BITS_OF_ID = 4


def is_its_own(error: BaseException) -> bool:
    """Whether an error may be that of one listing: no interrupt, and no failure of the disk."""
    return find_interrupt(error) is None and find_storage_failure(error) is None


class SeenIds:
    """Which ids a walk has seen, in 4 MB whatever it lists: a Bloom filter.

    Of a million ids, one in six thousand is taken for one that came before; none the other way.
    """

    def __init__(self) -> None:
        self._bits = bytearray(SEEN_BITS // 8)

    def note(self, ids: Iterable[str]) -> bool:
        """Note ids, and return whether one of them is new."""
        bits, is_new = self._bits, False
        for identifier in ids:
            number = hash(identifier)
            step = number >> 32 | 1
            for _ in range(BITS_OF_ID):
                number = (number + step) % SEEN_BITS
                byte, bit = number >> 3, 1 << (number & 7)
                if not bits[byte] & bit:
                    bits[byte] |= bit
                    is_new = True
        return is_new


@dataclass
class Walk:
    """How far one of a listing's walks is, while it goes on."""

    seen: SeenIds = field(default_factory=SeenIds)
    cursors: set[str] = field(default_factory=set)
    barren: int = 0


class Listing:
    """The walk over one resource. Used by the threads that fetch it, then by the run.

    `since` is the day or moment (ISO) from which on changes are asked for, None for everything;
    `incidents` are the only ones whose rows are asked for, None for all; `full` is neither.
    `categories` are all that incidents can be of, where that is known.
    `seconds` is the time from the first request until it `ended`.
    `announced` is the total that the API gave, where it gives one. `missing` are the paths that are
    not there, with what they answered; `gone` are incidents that are not. `is_whole` once all that
    was asked for has come. Its rows are in `spool`.
    """

    def __init__(self, endpoint: Endpoint, spool: Spool):
        self.endpoint = endpoint
        self.name = endpoint.name
        self.way = endpoint.newest
        self.spool = spool
        self.traffic = Traffic(endpoint.name)
        self.since: str | None = None
        self.incidents: Sequence[str] | None = None
        self.full = True
        self.categories: Sequence[str] = ()
        self.pages = 0
        self.announced: int | None = None
        self.missing: list[tuple[str, Failure]] = []
        self.gone: list[str] = []
        self.failure: Failure | None = None
        self.is_whole = False
        self.ended: float | None = None
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._walks: dict[str, Walk] = {}

    @property
    def filters(self) -> dict[str, str | tuple[str, ...]]:
        """Query parameters for what changed, and for the account's own status categories."""
        changes = self.way.changes
        since = {changes.parameter: self.since} if changes and self.since else {}
        return since | ({CATEGORY_FILTER: tuple(self.categories)} if self.categories else {})

    @property
    def asks_nothing(self) -> bool:
        """Whether there is nothing to ask for: rows of incidents, but of none."""
        return self.incidents is not None and not self.incidents

    @property
    def rows(self) -> int:
        """Rows that came so far; once it has ended, those with an id of their own."""
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

    def begin_again(self) -> None:
        """Let it be walked once more, for rows that the first walks have missed."""
        self._walks.clear()
        self.spool.reopen()

    def give_up(self, failure: Failure, is_known: bool = False) -> None:
        """Note why it cannot be had, which costs the other listings nothing; tell what is new."""
        self.is_whole = False
        self.failure = failure
        self.spool.discard()  # on a full disk open files take room
        if not is_known:
            logger.warning("%s: %s", self.name, failure)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Give the listing up for what goes wrong in the block, if that is its own."""
        try:
            yield
        except Exception as error:
            if not is_its_own(error):
                raise
            self.give_up(describe_surprise(error))

    def take(self, page: Page, walk: str) -> None:
        """Take a page of one of the walks: count it, and spool its rows.

        Raises BadPage where the walk would never end: its cursor was seen before, or page after
        page has no new row.
        """
        with self._lock:
            self.pages += 1
            self.announced = page.total if page.total is not None else self.announced
            if page.after is None:
                self._walks.pop(walk, None)
            else:
                _go_on(self._walks.setdefault(walk, Walk()), page.ids, page.after)
        for part in page.parts:
            self.spool.add(part.items, part.size)


def _go_on(walk: Walk, ids: Iterable[str], after: str) -> None:
    if after in walk.cursors:
        raise BadPage("the API repeated a cursor, so the listing would never end")
    walk.cursors.add(after)
    walk.barren = 0 if walk.seen.note(ids) else walk.barren + 1
    if walk.barren >= BARREN_PAGES:
        raise BadPage(
            f"{walk.barren} pages in a row had no new row and a new cursor each, so the listing "
            "would never end"
        )
