"""The rows of one listing on disk, as they come: typed Parquet files, in the end one row per id.

Memory stays bounded whatever a listing holds: which ids came twice, the database finds. Whether the
listing is whole is not known here.
"""

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from incident_assets.api.endpoints import Endpoint
from incident_assets.api.personal import Mask
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

    @property
    def sql(self) -> str:
        """Its rows, as SQL."""
        return _read_files([self])


class Spool:
    """The rows of a listing, in a folder of the run. Used by all threads that fetch them.

    `connection` finds what came twice, `columns` are those that its table has so far, and `mask`
    keeps out what is a person's. `rows`
    are those that came, after `end` those with an id of their own; then `files` hold them, and
    `sql` reads them.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        folder: Path,
        connection: duckdb.DuckDBPyConnection,
        columns: Iterable[str] = (),
        mask: Mask | None = None,
    ):
        self._mask = mask
        self.endpoint = endpoint
        self._connection = connection
        self.folder = folder
        self.unknown = UnknownFields(endpoint, columns)
        self.files: Sequence[SpooledFile] = ()
        self.sql = ""
        self.rows = 0
        self._lock = threading.Lock()
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._written: list[SpooledFile] = []
        self._made = 0
        self._file: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, items: Sequence[Any], size: int) -> None:
        """Take items that came in so many bytes; of those with one id, the last one counts."""
        with self._lock:
            if self._waiting and items and type(items[0]) is not type(self._waiting[0]):
                self._flush()
            self.rows += len(items)
            self._waiting.extend(items)
            self._waiting_bytes += size
            if len(self._waiting) >= CHUNK_ROWS or self._waiting_bytes >= CHUNK_BYTES:
                self._flush()

    def end(self) -> None:
        """Close the files and leave one row per id in them; there is at least one file."""
        self._flush()
        self._close()
        files = self._written or [self._write_empty()]
        stale = self._find_stale(files)
        self.files = [_drop_rows(file, stale.get(str(file.path), ())) for file in files]
        self.rows = sum(file.rows for file in self.files)
        self.sql = _read_files(self.files)

    def _find_stale(self, files: Sequence[SpooledFile]) -> dict[str, set[int]]:
        """Return the rows whose id came again later, by file."""
        with self._connection.cursor() as cursor:
            query = f"SELECT count(*) - count(DISTINCT id) FROM {_read_files(files)}"
            if not any(cursor.execute(query).fetchone() or ()):
                return {}
            source = _read_files(files, "filename = true", "file_row_number = true")
            rows = cursor.execute(
                f"""SELECT filename, file_row_number FROM {source}
                QUALIFY row_number() OVER (
                    PARTITION BY id ORDER BY list_position(?, filename) DESC, file_row_number DESC
                ) > 1""",
                [[str(file.path) for file in files]],
            ).fetchall()
        stale = defaultdict(set)
        for path, row in rows:
            stale[path].add(row)
        return stale

    def _write_empty(self) -> SpooledFile:
        schema = build_schema(build_columns(self.endpoint))
        path = self.folder / f"{self.endpoint.name}.empty.parquet"
        pq.write_table(schema.empty_table(), path)
        return SpooledFile(path, 0, schema)

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        """Return what a query gives, which has {} in the place of the rows that came."""
        with self._connection.cursor() as cursor:
            return cursor.execute(sql.format(self.sql)).fetchall()

    def reopen(self) -> None:
        """Take more rows after `end`; those that come again replace those of before."""
        self._written = [file for file in self.files if file.rows]

    def discard(self) -> None:
        """Let go of the files, whatever state they are in; on a full disk open ones take room."""
        with suppress(OSError):
            self._close()

    def _flush(self) -> None:
        items, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for start in range(0, len(items), CHUNK_ROWS):
            chunk = items[start : start + CHUNK_ROWS]
            self._write(build_table(self.endpoint, chunk, self.unknown, self._mask))

    def _write(self, table: pa.Table) -> None:
        # A field that appears on a later page starts a file of its own.
        if self._writer is not None and self._writer.schema != table.schema:
            self._close()
        if self._writer is None:
            path = self.folder / f"{self.endpoint.name}.{self._made}.parquet"
            self._made += 1
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


def _read_files(files: Iterable[SpooledFile], *options: str) -> str:
    paths = ", ".join(quote_path(file.path) for file in files)
    return f"read_parquet({', '.join((f'[{paths}]', 'union_by_name = true', *options))})"


def _drop_rows(file: SpooledFile, stale: Collection[int]) -> SpooledFile:
    if not stale:
        return file
    path = file.path.with_suffix(".distinct.parquet")
    first = 0
    with pq.ParquetFile(file.path) as source, pq.ParquetWriter(path, file.schema) as target:
        for batch in source.iter_batches(CHUNK_ROWS):
            keep = [row not in stale for row in range(first, first + batch.num_rows)]
            first += batch.num_rows
            target.write_batch(batch.filter(pa.array(keep)))
    return SpooledFile(path, file.rows - len(stale), file.schema)
