"""The DuckDB file: one writer at a time, opened so that it is always closed, errors in words.

The lock is an OS file lock beside the database, which the kernel frees when its holder dies.
What is written into the file is decided elsewhere; whom files and folders are for, in `private`.
"""

import errno
import fcntl
import glob
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from incident_assets.warehouse.private import (
    close_folder,
    make_private,
    make_private_folder,
    open_empty_folder,
    replace_file,
    write_private,
)

logger = logging.getLogger(__name__)

POLL = 0.2  # seconds between two tries
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
# DuckDB's words where its file is damaged, and where there is no room for its temporary files.
DISK_WORDS = ("orrupt", "failed to offload")
STORAGE_VERSION = "v1.2.0"  # of new databases: DuckDB 1.2 and later read it


class DatabaseError(Exception):
    """The database cannot be used; the text names the file, the cause and what to do."""


class DatabaseBusy(DatabaseError):
    """Another process has the database, and kept it for longer than we were told to wait."""


@contextmanager
def lock_database(path: Path, timeout: float, purpose: str) -> Iterator[None]:
    """Hold the lock of a database; `purpose` tells those who wait what we are doing.

    Meanwhile all that this process makes is for its owner alone, and the folder too if it is ours.
    Raises DatabaseBusy after `timeout` seconds, naming the holder, and DatabaseError where the lock
    cannot be made.
    """
    with make_private():
        try:
            make_private_folder(path.parent)
            close_folder(path.parent, path.name.partition(".")[0])
            lock = FileLock(_lock_path(path), mode=0o600, thread_local=False)
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
            # It only helps those who wait; a full disk is told by what cannot do without.
            with suppress(OSError):
                os.utime(_lock_path(path))
                _write_holder(path, purpose)
            yield
        finally:
            with suppress(OSError):
                _holder_path(path).unlink(missing_ok=True)
                os.utime(_lock_path(path))
            lock.release()


def find_last_use(path: Path) -> float | None:
    """Return when the lock of a database was last taken or given back, in seconds since the epoch.

    It is None while somebody has it, and 0 if nobody ever had. Nothing is made. Raises OSError
    where the lock cannot be looked at.
    """
    try:
        # Not by FileLock, which makes the file, and whose older versions change its time.
        descriptor = os.open(_lock_path(path), os.O_RDONLY)
    except FileNotFoundError:
        return 0.0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_mtime
    except BlockingIOError:
        return None
    finally:
        os.close(descriptor)


def find_holder(path: Path) -> int | None:
    """Return the process that has the lock of a database; None if nobody has, or it is not known.

    Raises OSError where the lock cannot be looked at.
    """
    if find_last_use(path) is not None:
        return None
    with suppress(OSError, ValueError, LookupError):
        return int(json.loads(_holder_path(path).read_text())["pid"])
    return None


@contextmanager
def open_database(
    path: Path, timeout: float, purpose: str, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Lock and open a database; close it and free the lock whatever happens.

    Raises DatabaseBusy if others keep it for longer than `timeout` seconds, and DatabaseError if
    it is no DuckDB database or cannot be written, in the block too.
    """
    with lock_database(path, timeout, purpose), explain_storage_failures(path):
        connection = connect_database(path, timeout, read_only)
        try:
            yield connection
        finally:
            connection.close()


def connect_database(
    path: Path, timeout: float, read_only: bool = False, config: Mapping[str, Any] | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a database whose lock we hold, or make it. Raises as `open_database` does."""
    deadline = time.monotonic() + timeout
    if not read_only and not path.exists():
        _make_database(path)
    waited = False
    while True:
        try:
            # A relative one might be taken for an address, as `md:x`, or begin with a tilde.
            connection = duckdb.connect(str(path.absolute()), read_only, dict(config or {}))
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


def _make_database(path: Path) -> None:
    """Make an empty database that older versions of DuckDB read too; the file keeps its format."""

    def write(fresh: Path) -> None:
        fresh.unlink()  # DuckDB takes no empty file
        place = quote_text(str(fresh.absolute()))
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"ATTACH {place} AS fresh (STORAGE_VERSION '{STORAGE_VERSION}')")

    try:
        replace_file(path, write)
    except (OSError, duckdb.Error) as error:
        raise _unusable(path, error) from None


@contextmanager
def open_working_folder(path: Path) -> Iterator[Path]:
    """Give the empty working folder of a database whose lock we hold. Raises DatabaseError."""
    # We hold the lock, so whatever is in there was left by a run that died.
    # Absolute, since libraries take a leading tilde or `ab:` for something else.
    folder = path.absolute().with_name(path.name + ".work")
    with ExitStack() as opened:
        try:
            opened.enter_context(open_empty_folder(folder))
        except OSError as error:
            raise _unusable(path, error) from None
        yield folder


@contextmanager
def explain_storage_failures(path: Path) -> Iterator[None]:
    """Turn a full or failing disk, wherever it shows in the block, into one DatabaseError."""
    try:
        yield
    except DatabaseError:  # in words already
        raise
    except Exception as error:
        reason = find_storage_failure(error, path)
        if reason is None:
            raise
        raise DatabaseError(
            f"the disk of {path} (INCIDENT_DUCKDB_PATH) or of its working folder failed: "
            f"{reason}. Make room or repair it, then run again; what the "
            "database held before is kept"
        ) from None


def find_storage_failure(error: BaseException | None, path: Path | None = None) -> str | None:
    """Return what an error says of a full or failing disk (of `path`); None if of none."""
    # dlt wraps what went wrong in several errors of its own, some of which keep only the text.
    found = None
    reasons = [*map(os.strerror, DISK_ERRORS), *DISK_WORDS]
    while error is not None:
        if isinstance(error, duckdb.IOException) and (path is None or path.name in str(error)):
            found = read_first_line(error)
        for reason in reasons:
            lines = [line for line in str(error).splitlines() if reason in line]
            found = lines[-1].strip().rstrip(".") if lines else found
        error = error.__cause__ or error.__context__
    return found


def quote_name(name: str) -> str:
    """Return the name of a schema, table or column as SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return a text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def quote_path(path: Path) -> str:
    """Return a path as SQL, for what reads files and would take some characters for a pattern."""
    return quote_text(glob.escape(str(path)))


def has_table(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether a table is there; asking the catalog itself takes ten times as long."""
    try:
        connection.execute(f"SELECT 1 FROM {table} LIMIT 0")
    # Where there is no such table, DuckDB looks for a Python variable of its name.
    except (duckdb.CatalogException, duckdb.InvalidInputException):
        return False
    return True


def _unusable(path: Path, error: Exception) -> DatabaseError:
    return DatabaseError(
        f"{path} (INCIDENT_DUCKDB_PATH) cannot be used as a database: {read_first_line(error)}. "
        "Give a path that can be written, to a DuckDB database or to nothing yet"
    )


def read_first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without its full stop."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _holder_path(path: Path) -> Path:
    return path.with_name(path.name + ".holder")


def _write_holder(path: Path, purpose: str) -> None:
    holder = {
        "pid": os.getpid(),
        "purpose": purpose,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_private(_holder_path(path), json.dumps(holder))


def _find_holder(path: Path) -> str:
    try:
        holder = json.loads(_holder_path(path).read_text())
        return f"process {holder['pid']} ({holder['purpose']}, since {holder['since']})"
    except (OSError, ValueError, LookupError):
        return "another process"
