"""How far a sync is, while it goes on: lines in the log, or bars on a terminal.

Only what the listings know is shown here; what they have done in the end is in the sync log.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from incident_assets.sync.listing import Listing

logger = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two lines of a listing
REDRAW = 0.2  # seconds between two looks at the terminal

Watch = Callable[[Iterable[Listing]], AbstractContextManager[None]]


@contextmanager
def log_progress(listings: Iterable[Listing]) -> Iterator[None]:
    """Say every few seconds, while the block runs, how far each listing is that is going on."""

    def say() -> None:
        for listing in listings:
            if listing.is_going_on:
                logger.info("%s: %s", listing.name, describe_progress(listing))

    with _repeating(say, EVERY):
        yield


@contextmanager
def show_bars(listings: Iterable[Listing]) -> Iterator[None]:
    """Show a bar for each listing on the terminal while the block runs."""
    # Late, since a run without a terminal has no use for it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TextColumn("{task.fields[state]}", markup=False),  # may hold a text of the API
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {x.name: bars.add_task(x.name, total=None, state="") for x in listings}

        def draw() -> None:
            for listing in listings:
                rows, ended = listing.rows, listing.ended is not None
                bars.update(
                    tasks[listing.name],
                    total=rows or 1 if ended else listing.announced,
                    completed=rows or 1 if ended else rows,
                    state=describe_progress(listing),
                )

        with _repeating(draw, REDRAW):
            yield
        draw()


def describe_progress(listing: Listing) -> str:
    """Return pages, rows, requests and, if it waits for the rate limit, for how long."""
    if listing.failure is not None:
        return f"failed: {listing.failure.message}"
    announced = f" of {listing.announced:,}" if listing.announced else ""
    text = f"{listing.pages:,} pages, {listing.rows:,}{announced} rows, "
    text += f"{listing.traffic.requests:,} requests"
    seconds = listing.traffic.waiting_until - time.monotonic()
    return f"{text}, waiting {seconds:.0f} s for the rate limit" if seconds > 0 else text


@contextmanager
def _repeating(action: Callable[[], None], every: float) -> Iterator[None]:
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every):
            action()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
