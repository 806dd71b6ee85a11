"""One resource's walk in one run: its counts, its spool on disk, and whether it is whole.

Rule 0 of the data lives here: pages are spooled as they come, and are handed over only when the
whole listing has succeeded. Talking to the API and to dlt is elsewhere.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from incident_assets.api.endpoints import Endpoint
from incident_assets.api.pages import BadPage, Page, PageReader
from incident_assets.api.rows import build_columns, build_schema, build_table

# What is turned into Arrow at a time: bounds memory, also for the unpaginated bodies.
CHUNK_ROWS = 2000
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Failure:
    """Why a resource could not be read, in words that someone on call can act on."""

    message: str
    remedy: str
    status: int | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        request = f" (request id {self.request_id})" if self.request_id else ""
        return f"{self.message}{request}. {self.remedy}"


@dataclass(frozen=True)
class SpooledFile:
    """A Parquet file with rows of one listing, ready to be loaded."""

    path: Path
    rows: int
    schema: pa.Schema


class Listing:
    """The walk over one resource. Used by its fetching threads and the extracting thread.

    `full` is whether it asks for everything, or only for what may have changed.
    `requests` counts every attempt, retries included; `seconds` runs from the first request to
    the last page; `load_id` is dlt's load package, once known; `announced` is the total that the
    API gave, where it gives one; `files` is the spool of a listing that has ended, and `changed`
    how many of its rows are new or different; `waiting_until` is when the rate limit lets it go
    on, on the monotonic clock.
    """

    def __init__(self, endpoint: Endpoint, folder: Path):
        self.endpoint = endpoint
        self.folder = folder
        self.full = True
        self.reader = PageReader(endpoint)
        self.requests = 0
        self.pages = 0
        self.announced: int | None = None
        self.load_id: str | None = None
        self.files: Sequence[SpooledFile] = ()
        self.changed = 0
        self.failure: Failure | None = None
        self.whole = False
        self.waiting_until = 0.0
        self._started: float | None = None
        self._ended: float | None = None
        self._lock = threading.Lock()
        self._cursors: set[tuple[str, str]] = set()
        self._walks_left = len(endpoint.variants)
        self._row_of: dict[str, int] = {}
        self._stale: set[int] = set()
        self._spooled = 0
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._files: list[SpooledFile] = []
        self._file: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None

    @property
    def name(self) -> str:
        """Name of the resource."""
        return self.endpoint.name

    @property
    def rows(self) -> int:
        """Distinct ids seen so far."""
        return self._spooled - len(self._stale)

    @property
    def duplicates(self) -> int:
        """Rows that came more than once; the last one counts."""
        return len(self._stale)

    @property
    def seconds(self) -> float:
        """Time from the first request to the last page, or until now."""
        if self._started is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._started

    @property
    def has_ended(self) -> bool:
        """Whether the last page has come, or the listing was given up."""
        return self._ended is not None

    @property
    def is_going_on(self) -> bool:
        """Whether requests have been made and more are to come."""
        return self._started is not None and self._ended is None

    @property
    def is_short(self) -> bool:
        """Whether fewer rows came than the API announced, so that what is missing is unknown."""
        return self.announced is not None and self.rows < self.announced

    def begin_request(self) -> None:
        """Note that a request is about to be sent."""
        with self._lock:
            self._started = self._started or time.monotonic()
            self.requests += 1

    def expect_walks(self, count: int) -> None:
        """Say how many walks the listing takes, where that is known only now."""
        self._walks_left = count
        if count == 0:
            self._started = self._ended = time.monotonic()

    def follow(self, page: Page, walk: str = "") -> bool:
        """Note a page of one of the walks; return whether it is the last of the listing.

        Raises BadPage if its cursor was seen before in that walk, which would never end.
        """
        with self._lock:
            self.pages += 1
            self.announced = page.total if page.total is not None else self.announced
            if page.after is None:
                self._walks_left -= 1
            elif (walk, page.after) in self._cursors:
                raise BadPage("the API repeated a cursor, so the listing would never end", False)
            else:
                self._cursors.add((walk, page.after))
            if self._walks_left == 0:
                self._ended = time.monotonic()
            return self._walks_left == 0

    def fail(self, failure: Failure) -> None:
        """Give the listing up; the first reason is kept."""
        self.failure = self.failure or failure
        self._ended = time.monotonic()

    def spool(self, page: Page) -> None:
        """Take a page, to be written to disk; of an id that comes again the last row stays."""
        with self._lock:
            if self._waiting and page.items and type(page.items[0]) is not type(self._waiting[0]):
                self._flush()
            rows = {identifier: row for row, identifier in enumerate(page.ids, self._spooled)}
            if len(rows) < len(page.ids) or not self._row_of.keys().isdisjoint(rows):
                for number, identifier in enumerate(page.ids, self._spooled):
                    if (stale := self._row_of.get(identifier)) is not None:
                        self._stale.add(stale)
                    self._row_of[identifier] = number
            else:
                self._row_of.update(rows)
            self._spooled += len(page.ids)
            self._waiting.extend(page.items)
            self._waiting_bytes += page.size
            if len(self._waiting) >= CHUNK_ROWS or self._waiting_bytes >= CHUNK_BYTES:
                self._flush()

    def end(self) -> Sequence[SpooledFile]:
        """Close the spool and return the files of a whole listing, one row per id.

        There is at least one, and none has any rows where the listing is not whole.
        """
        self._flush()
        self._close()
        self._row_of.clear()
        self.whole = self.failure is None
        files = self._files if self.whole else []
        first, ended = 0, []
        for file in files:
            stale = {row - first for row in self._stale if first <= row < first + file.rows}
            first += file.rows
            ended.append(_drop_rows(file, stale) if stale else file)
        if not ended:
            schema = build_schema(build_columns(self.endpoint))
            path = self.folder / f"{self.name}.empty.parquet"
            pq.write_table(schema.empty_table(), path)
            ended.append(SpooledFile(path, 0, schema))
        self.files = ended
        return ended

    def discard(self) -> None:
        """Let go of the spool, whatever state it is in; on a full disk an open file takes room."""
        with suppress(OSError):
            self._close()

    def _flush(self) -> None:
        items, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for start in range(0, len(items), CHUNK_ROWS):
            chunk = items[start : start + CHUNK_ROWS]
            self._write(build_table(self.endpoint, chunk, self.load_id or ""))

    def _write(self, table: pa.Table) -> None:
        # A field that appears on a later page starts a file of its own.
        if self._writer is not None and self._writer.schema != table.schema:
            self._close()
        if self._writer is None:
            path = self.folder / f"{self.name}.{len(self._files)}.parquet"
            self._file = path.open("wb")
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="none")
            self._files.append(SpooledFile(path, 0, table.schema))
        self._writer.write_table(table)
        last = self._files[-1]
        self._files[-1] = SpooledFile(last.path, last.rows + table.num_rows, last.schema)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and self._file is not None:
            try:
                writer.close()
            finally:
                self._file.close()


def _drop_rows(file: SpooledFile, stale: set[int]) -> SpooledFile:
    path = file.path.with_suffix(".distinct.parquet")
    first = 0
    with pq.ParquetFile(file.path) as source, pq.ParquetWriter(path, file.schema) as target:
        for batch in source.iter_batches(CHUNK_ROWS):
            keep = [row not in stale for row in range(first, first + batch.num_rows)]
            first += batch.num_rows
            target.write_batch(batch.filter(pa.array(keep)))
    return SpooledFile(path, file.rows - len(stale), file.schema)
