"""The lake: tables as Parquet files on shared storage, their catalog in PostgreSQL (DuckLake).

Its lock is in `lake_lock`. What is written into the lake is decided elsewhere; its upkeep is in
`upkeep`.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb

from incident_assets.values import LAKE, LAKE_DATA
from incident_assets.warehouse.file import (
    DatabaseError,
    find_storage_failure,
    quote_text,
    read_first_line,
)
from incident_assets.warehouse.lake_lock import (
    INSTALL,
    NAME,
    ask,
    find_last_use,
    hold_lock,
    reach,
)
from incident_assets.warehouse.private import close_folder, make_private, make_private_folder

logger = logging.getLogger(__name__)

EXTENSIONS = ("ducklake", "postgres_scanner", "httpfs")  # httpfs for s3:// alone


@dataclass(frozen=True)
class Lake:
    """A lake: its catalog's address as `postgres:...`, and the folder or `s3://` of its data.

    `path` is the place of what is on this machine alone: working folder, extensions, report.
    """

    path: Path
    catalog: str
    data: str

    has_file = False
    is_exclusive = False

    def __str__(self) -> str:
        return NAME

    @contextmanager
    def lock(self, timeout: float, purpose: str) -> Iterator[None]:
        """Hold the lake's lock, as the file's; before each commit of ours it is asked for."""
        with make_private(), reach(self.catalog) as session:
            make_private_folder(self.path.parent)
            close_folder(self.path.parent, self.path.name.partition(".")[0])
            with hold_lock(session, timeout, purpose):
                yield

    def find_last_use(self) -> float | None:
        """Return when the lock was last taken or given back, as for the file; None while held."""
        with reach(self.catalog) as session:
            return find_last_use(session)

    @contextmanager
    def open(
        self, timeout: float, purpose: str, read_only: bool = False
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the lake and close it, locked unless it is for reading."""
        if read_only:
            with self.explain_failures(), self._opened(timeout, True) as connection:
                yield connection
            return
        with (
            self.lock(timeout, purpose),
            self.explain_failures(),
            self._opened(timeout, False) as connection,
        ):
            yield connection

    @contextmanager
    def _opened(self, timeout: float, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = self.connect(timeout, read_only)
        try:
            yield connection
        finally:
            connection.close()

    def connect(
        self,
        timeout: float,
        read_only: bool = False,
        config: Mapping[str, Any] | None = None,
        options: str = "",
    ) -> duckdb.DuckDBPyConnection:
        """Open the lake, as the database that a connection's names are of; make it where none is.

        `options` are of the connection to PostgreSQL. Raises DatabaseError.
        """
        stored = self._read_data_path()
        if stored is None and read_only:
            raise DatabaseError(f"there is no lake yet at {LAKE}: sync first, which makes it")
        if stored is not None and _end(stored) != self.place:
            raise DatabaseError(
                f"the lake at {LAKE} keeps its data in {stored}, but {LAKE_DATA} leads to "
                f"{self.place}: set it to where the data is, or give this lake a PostgreSQL "
                "database of its own"
            )
        settings = self._find_extensions() | {
            "temp_directory": str(self.path.absolute()) + ".tmp",
            **(config or {}),
        }
        try:
            if stored is None:
                self._make(settings)
            address = f"ducklake:{self.catalog}{' ' + options if options else ''}"
            return duckdb.connect(address, read_only, settings)
        except duckdb.Error as error:
            raise self._explain(error) from None

    def exists(self) -> bool:
        """Whether there is a lake at that address. Raises DatabaseError if it cannot be reached."""
        return self._read_data_path() is not None

    def read_stamp(self) -> object:
        """Return nothing: a lake has no published copy, so nobody has to know of others' writes."""
        return None

    @contextmanager
    def explain_failures(self) -> Iterator[None]:
        """Turn a lost server and a full disk, wherever they show in the block, into words."""
        try:
            yield
        except DatabaseError:
            raise
        except Exception as error:
            reason = find_storage_failure(error) or _find_lake_failure(error)
            if reason is None:
                raise
            raise DatabaseError(
                f"{self} or its data ({LAKE_DATA}) failed: {reason}. See to the server or make "
                "room, then run again; what the lake held before is kept"
            ) from None

    @property
    def place(self) -> str:
        """Where the data is, as the catalog says it."""
        return _end(
            self.data if "://" in self.data else str(Path(self.data).expanduser().absolute())
        )

    def _make(self, config: Mapping[str, Any]) -> None:
        if "://" not in self.place:
            try:
                make_private_folder(Path(self.place))
            except OSError as error:
                raise DatabaseError(
                    f"{self.place} ({LAKE_DATA}) cannot be made: {read_first_line(error)}. Give a "
                    "folder that can be written"
                ) from None
        with duckdb.connect(":memory:", config=dict(config)) as connection:
            for name in EXTENSIONS[:2]:
                connection.execute(f"LOAD {name}")
            # Rows that are kept in the catalog make a table of PostgreSQL each, which readers lock.
            connection.execute(
                f"ATTACH {quote_text(f'ducklake:{self.catalog}')} AS lake "
                f"(DATA_PATH {quote_text(self.place)}, DATA_INLINING_ROW_LIMIT 0)"
            )
            connection.execute("CALL lake.set_option('data_inlining_row_limit', 0)")

    def _find_extensions(self) -> dict[str, str]:
        """Return the configuration by which DuckDB finds its extensions in their packages.

        DuckDB looks for them by version and platform. Where no package fits, it looks where it
        always does, and may download them.
        """
        with duckdb.connect() as connection:
            ((platform,),) = connection.execute("PRAGMA platform").fetchall()
        version = f"v{duckdb.__version__}"
        found = {}
        for name in EXTENSIONS:
            package = find_spec(f"duckdb_extension_{name}")
            if package and package.origin:
                file = Path(package.origin).parent / "extensions" / version
                found[name] = file / f"{name}.duckdb_extension"
        if not all(name in found and found[name].exists() for name in EXTENSIONS[:2]):
            return {}
        folder = self.path.absolute().with_name(f"{self.path.name}.extensions")
        try:
            make_private_folder(folder / version / platform)
            for name, file in found.items():
                link = folder / version / platform / f"{name}.duckdb_extension"
                if not link.is_symlink() or link.readlink() != file:
                    fresh = link.with_name(f"{name}.{os.getpid()}")
                    fresh.symlink_to(file)
                    fresh.replace(link)
        except OSError as error:
            raise DatabaseError(
                f"{folder} (INCIDENT_DUCKDB_PATH) cannot be made: {read_first_line(error)}. Give a "
                "path that can be written"
            ) from None
        return {"extension_directory": str(folder), "autoinstall_known_extensions": "false"}

    def _explain(self, error: Exception) -> DatabaseError:
        text = str(error)
        if "xtension" in text:
            return DatabaseError(
                f"DuckDB {duckdb.__version__} has no extensions for a lake ({LAKE}): {INSTALL}. "
                f"{read_first_line(error)}"
            )
        return DatabaseError(
            f"{self} cannot be used: {read_first_line(error)}. See that {LAKE} leads to a "
            "database of PostgreSQL that this user may write"
        )

    def _read_data_path(self) -> str | None:
        with reach(self.catalog) as session:
            if not ask(session, "SELECT to_regclass('ducklake_metadata') IS NOT NULL")[0]:
                return None
            row = ask(session, "SELECT max(value) FROM ducklake_metadata WHERE key = 'data_path'")
            return row[0]


def _find_lake_failure(error: BaseException | None) -> str | None:
    """Return what an error says of a server that has gone, or of a commit that came second."""
    while error is not None:
        text = str(error)
        if isinstance(error, duckdb.Error) and re.search(
            "Postgres|Failed to commit DuckLake|server closed|connection .*(lost|clos)", text
        ):
            return read_first_line(error)
        error = error.__cause__ or error.__context__
    return None


def _end(place: str) -> str:
    return place.rstrip("/") + "/"
