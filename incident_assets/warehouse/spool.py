"""The rows of one listing on disk, as they come: typed Parquet files with one row per id.

Memory stays bounded whatever a listing holds. Whether the listing is whole is not known here.
"""

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from incident_assets.api.endpoints import Endpoint
from incident_assets.api.rows import UnknownFields, build_columns, build_schema, build_table
from incident_assets.warehouse.file import quote_path

# What is turned into Arrow at a time: bounds memory, also for the unpaginated bodies.
CHUNK_ROWS = 2000
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class SpooledFile:
    """A Parquet file with rows of one listing, ready to be loaded."""

    path: Path
    rows: int
    schema: pa.Schema


class Spool:
    """The rows of a listing, in a folder of the run. Used by all threads that fetch them.

    `columns` are those that its table has so far. After `end`, `files` hold the rows, and `sql`
    reads them, one row per id.
    """

    def __init__(self, endpoint: Endpoint, folder: Path, columns: Iterable[str] = ()):
        self._endpoint = endpoint
        self.folder = folder
        self.unknown = UnknownFields(endpoint, columns)
        self.files: Sequence[SpooledFile] = ()
        self.sql = ""
        self._lock = threading.Lock()
        self._row_of: dict[str, int] = {}
        self._stale: set[int] = set()
        self._spooled = 0
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._written: list[SpooledFile] = []
        self._file: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None

    @property
    def rows(self) -> int:
        """Distinct ids so far."""
        return self._spooled - len(self._stale)

    @property
    def duplicates(self) -> int:
        """Rows that came more than once; the last one counts."""
        return len(self._stale)

    @property
    def taken(self) -> int:
        """Rows so far, with those that came more than once."""
        return self._spooled

    def add(self, items: Sequence[Any], ids: Sequence[str], size: int, since: int = 0) -> bool:
        """Take the items of a page of so many bytes, with their ids.

        Return whether it has an id that did not come after the first `since` rows.
        """
        with self._lock:
            is_new = bool(ids)
            if self._waiting and items and type(items[0]) is not type(self._waiting[0]):
                self._flush()
            rows = {identifier: row for row, identifier in enumerate(ids, self._spooled)}
            if len(rows) < len(ids) or not self._row_of.keys().isdisjoint(rows):
                is_new = any(self._row_of.get(identifier, -1) < since for identifier in ids)
                for number, identifier in enumerate(ids, self._spooled):
                    if (stale := self._row_of.get(identifier)) is not None:
                        self._stale.add(stale)
                    self._row_of[identifier] = number
            else:
                self._row_of.update(rows)
            self._spooled += len(ids)
            self._waiting.extend(items)
            self._waiting_bytes += size
            if len(self._waiting) >= CHUNK_ROWS or self._waiting_bytes >= CHUNK_BYTES:
                self._flush()
            return is_new

    def end(self) -> None:
        """Close the files and leave one row per id in them; there is at least one file."""
        self._flush()
        self._close()
        self._row_of.clear()
        first, files = 0, []
        for file in self._written:
            stale = {row - first for row in self._stale if first <= row < first + file.rows}
            first += file.rows
            files.append(_drop_rows(file, stale) if stale else file)
        self.files = files or [self._write_empty()]
        paths = ", ".join(quote_path(file.path) for file in self.files)
        self.sql = f"read_parquet([{paths}], union_by_name = true)"

    def _write_empty(self) -> SpooledFile:
        schema = build_schema(build_columns(self._endpoint))
        path = self.folder / f"{self._endpoint.name}.empty.parquet"
        pq.write_table(schema.empty_table(), path)
        return SpooledFile(path, 0, schema)

    def reopen(self) -> None:
        """Take more rows after `end`; those that come again replace those of before."""
        self._written = [file for file in self.files if file.rows]
        self._stale.clear()
        ids: list[str] = []
        for file in self._written:
            ids += pq.read_table(file.path, columns=["id"])["id"].to_pylist()
        self._row_of = {identifier: row for row, identifier in enumerate(ids)}
        self._spooled = len(ids)

    def discard(self) -> None:
        """Let go of the files, whatever state they are in; on a full disk open ones take room."""
        with suppress(OSError):
            self._close()

    def _flush(self) -> None:
        items, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for start in range(0, len(items), CHUNK_ROWS):
            chunk = items[start : start + CHUNK_ROWS]
            self._write(build_table(self._endpoint, chunk, self.unknown))

    def _write(self, table: pa.Table) -> None:
        # A field that appears on a later page starts a file of its own.
        if self._writer is not None and self._writer.schema != table.schema:
            self._close()
        if self._writer is None:
            path = self.folder / f"{self._endpoint.name}.{len(self._written)}.parquet"
            self._file = path.open("wb")
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="none")
            self._written.append(SpooledFile(path, 0, table.schema))
        self._writer.write_table(table)
        last = self._written[-1]
        self._written[-1] = SpooledFile(last.path, last.rows + table.num_rows, last.schema)

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
