"""The DuckDB file: one writer at a time, opened so that it is always closed, errors in words.

The lock is an OS file lock beside the database, which the kernel frees when its holder dies.
What is written into the file is decided elsewhere.
"""

import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

POLL = 0.2  # seconds between two tries
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)


class DatabaseError(Exception):
    """The database cannot be used; the text names the file, the cause and what to do."""


class DatabaseBusy(DatabaseError):
    """Another process has the database, and kept it for longer than we were told to wait."""


@contextmanager
def lock_database(path: Path, timeout: float, purpose: str) -> Iterator[None]:
    """Hold the lock of a database; `purpose` tells those who wait what we are doing.

    Raises DatabaseBusy after `timeout` seconds, naming the holder, and DatabaseError where the lock
    cannot be made.
    """
    try:
        make_private_folder(path.parent)
        lock = FileLock(f"{path}.lock", mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info(
                "waiting up to %g s for %s, in use by %s", timeout, path, _find_holder(path)
            )
            lock.acquire(timeout=timeout, poll_interval=POLL)
    except Timeout:
        raise DatabaseBusy(
            f"{path} (INCIDENT_DUCKDB_PATH) is in use by {_find_holder(path)}, for more than "
            f"{timeout:g} s (INCIDENT_LOCK_TIMEOUT): wait for it to end, then try again"
        ) from None
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        _write_holder(path, purpose)
        yield
    finally:
        _holder_path(path).unlink(missing_ok=True)
        lock.release()


@contextmanager
def open_database(
    path: Path, timeout: float, purpose: str, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Lock and open a database; close it and free the lock whatever happens.

    Raises DatabaseBusy if others keep it for longer than `timeout` seconds, and DatabaseError if
    it is no DuckDB database or cannot be written.
    """
    with lock_database(path, timeout, purpose):
        connection = connect_database(path, timeout, read_only)
        try:
            yield connection
        finally:
            connection.close()


def connect_database(
    path: Path, timeout: float, read_only: bool = False, config: Mapping[str, Any] | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a database whose lock we hold. Raises as `open_database` does."""
    deadline = time.monotonic() + timeout
    waited = False
    while True:
        try:
            connection = duckdb.connect(str(path), read_only, dict(config or {}))
        except duckdb.Error as error:
            # A program that knows nothing of our lock has the file open.
            if "Could not set lock" not in str(error):
                raise _unusable(path, error) from None
            if time.monotonic() >= deadline:
                raise DatabaseBusy(
                    f"{path} (INCIDENT_DUCKDB_PATH) is open in another program for more than "
                    f"{timeout:g} s (INCIDENT_LOCK_TIMEOUT): close it there, then try again. "
                    f"{read_first_line(error)}"
                ) from None
            if not waited:
                logger.info("waiting up to %g s for %s: %s", timeout, path, read_first_line(error))
            waited = True
            time.sleep(POLL)
        else:
            if not read_only:
                path.chmod(0o600)
            return connection


@contextmanager
def explain_storage_failures(path: Path) -> Iterator[None]:
    """Turn a full or failing disk, wherever it shows in the block, into one DatabaseError."""
    try:
        yield
    except Exception as error:
        reason = find_storage_failure(error)
        if reason is None:
            raise
        raise DatabaseError(
            f"the disk of {path} (INCIDENT_DUCKDB_PATH) or of its working folder failed: "
            f"{reason}. Make room or repair it, then sync again; what the "
            "database held before is kept"
        ) from None


def find_storage_failure(error: BaseException | None) -> str | None:
    """Return what an error says of a full or failing disk, None if it says nothing of one."""
    # dlt wraps what went wrong in several errors of its own, some of which keep only the text.
    found = None
    while error is not None:
        if isinstance(error, duckdb.IOException):
            found = read_first_line(error)
        for reason in map(os.strerror, DISK_ERRORS):
            lines = [line for line in str(error).splitlines() if reason in line]
            found = lines[-1].strip() if lines else found
        error = error.__cause__ or error.__context__
    return found


def has_table(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether a table is there; asking the catalog itself takes ten times as long."""
    try:
        connection.execute(f"SELECT 1 FROM {table} LIMIT 0")
    # Where there is no such table, DuckDB looks for a Python variable of its name.
    except (duckdb.CatalogException, duckdb.InvalidInputException):
        return False
    return True


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner can enter; one that exists is left as it is."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def replace_file(target: Path, write: Callable[[Path], object], mode: int = 0o600) -> int:
    """Put a file in place at once that `write` fills, for its owner alone; return its bytes.

    Raises OSError; then the file of before stays.
    """
    make_private_folder(target.parent)
    # In the target's folder, since only there a rename is atomic; a dead run's is overwritten.
    fresh = target.with_name(f".{target.name}.fresh")
    fresh.unlink(missing_ok=True)
    try:
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        write(fresh)
        _sync_to_disk(fresh)
        fresh.chmod(mode)
        fresh.replace(target)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some file systems cannot; the rename itself has happened
        _sync_to_disk(target.parent)
    return target.stat().st_size


def _sync_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: Exception) -> DatabaseError:
    return DatabaseError(
        f"{path} (INCIDENT_DUCKDB_PATH) cannot be used as a database: {read_first_line(error)}. "
        "Give a path that can be written, to a DuckDB database or to nothing yet"
    )


def read_first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without its full stop."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)


def _holder_path(path: Path) -> Path:
    return path.with_name(path.name + ".holder")


def _write_holder(path: Path, purpose: str) -> None:
    holder = {
        "pid": os.getpid(),
        "purpose": purpose,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    descriptor = os.open(_holder_path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(holder, file)


def _find_holder(path: Path) -> str:
    try:
        holder = json.loads(_holder_path(path).read_text())
        return f"process {holder['pid']} ({holder['purpose']}, since {holder['since']})"
    except (OSError, ValueError, LookupError):
        return "another process"
