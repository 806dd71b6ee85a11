"""Transactions of ours, each committed after the question whether the lock is still held.

A file's lock cannot be lost; a lake's is a session with a server, which can go. What is committed
is decided elsewhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import duckdb

_GUARDS: list[Callable[[], None]] = []


@contextmanager
def guard_commits(check: Callable[[], None]) -> Iterator[None]:
    """Have `check` called before each commit in the block; it raises where there must be none."""
    _GUARDS.append(check)
    try:
        yield
    finally:
        _GUARDS.remove(check)


def assure_locks() -> None:
    """Raise DatabaseError if a lock of this process has been lost."""
    for check in tuple(_GUARDS):
        check()


def commit(connection: duckdb.DuckDBPyConnection) -> None:
    """Commit a transaction of ours. Raises DatabaseError if a lock has been lost."""
    assure_locks()
    connection.commit()


@contextmanager
def transact(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Have the block be one transaction, undone if it raises.

    Blocks that only read, too: each transaction with a lake begins with questions to its catalog.
    """
    connection.begin()
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # it has ended already
            connection.rollback()
        raise
    commit(connection)
