"""The lock of a lake: an advisory lock of PostgreSQL, which the server frees when its holder dies.

Sessions with the catalog's server too, which nothing else of ours speaks to but DuckDB.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from incident_assets.values import LAKE
from incident_assets.warehouse.commits import guard_commits
from incident_assets.warehouse.file import POLL, DatabaseBusy, DatabaseError, read_first_line

logger = logging.getLogger(__name__)

NAME = f"the lake ({LAKE})"
LOCK = 0x1_4C1D_E475  # of PostgreSQL's advisory locks, which are a database's own
HOLDER = "incident_assets_lock"  # table of the catalog's database: who has the lock, since when
HELD = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    f"AND classid = {LOCK >> 32} AND objid = {LOCK & 0xFFFFFFFF}"
)
CONNECT_TIMEOUT = 10  # seconds
# So that the lock of a machine that has gone is free after a minute.
KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
INSTALL = (
    "install the extra `lake` from its lock file, locks/lake.txt, which has a DuckDB and the "
    "extensions that fit it"
)


@contextmanager
def reach(catalog: str) -> Iterator[Any]:
    """Give a session with the catalog's server, each statement a transaction of its own.

    Raises DatabaseError where it cannot be reached, and for what fails in the block.
    """
    try:
        import psycopg2  # late, since only a lake needs it
    except ImportError:
        raise DatabaseError(f"{LAKE} is set, but psycopg2 is missing: {INSTALL}") from None
    try:
        session = psycopg2.connect(
            catalog.removeprefix("postgres:"),
            connect_timeout=CONNECT_TIMEOUT,
            application_name="incident_assets",
            **KEEPALIVE,
        )
        session.autocommit = True
    except psycopg2.Error as error:
        raise DatabaseError(
            f"{NAME} cannot be reached: {read_first_line(error)}. See that the server runs and "
            f"that {LAKE} and PGPASSWORD or ~/.pgpass are right, then try again"
        ) from None
    try:
        yield session
    except psycopg2.Error as error:
        raise DatabaseError(
            f"{NAME} failed: {read_first_line(error)}. See to the server, then run again"
        ) from None
    finally:
        session.close()


@contextmanager
def hold_lock(session: Any, timeout: float, purpose: str) -> Iterator[None]:
    """Hold the lock during the block, by a session of its own; before each commit it is asked for.

    `timeout` is in seconds. Raises DatabaseBusy, and DatabaseError where the lock was lost.
    """
    _make_holder(session)
    deadline, waited = time.monotonic() + timeout, False
    while not ask(session, f"SELECT pg_try_advisory_lock({LOCK})")[0]:
        holder = _find_holder(session)
        if time.monotonic() >= deadline:
            raise DatabaseBusy(
                f"{NAME} is in use by {holder}, for more than {timeout:g} s "
                "(INCIDENT_LOCK_TIMEOUT): wait for it to end, then try again"
            )
        if not waited:
            logger.info("waiting up to %g s for %s, in use by %s", timeout, NAME, holder)
        waited = True
        time.sleep(min(POLL, max(0.0, deadline - time.monotonic())))
    held = f"process {os.getpid()} on {socket.gethostname()} ({purpose}, since "
    _run(session, f"UPDATE {HOLDER} SET used_at = now(), holder = %s", held)
    try:
        with guard_commits(lambda: _assure(session)):
            yield
    finally:
        # The session's end frees it, whatever state the session is in.
        with suppress(Exception):
            _run(session, f"UPDATE {HOLDER} SET used_at = now(), holder = NULL")


def find_last_use(session: Any) -> float | None:
    """Return when the lock was last taken or given back (seconds, Unix time); None while held."""
    if ask(session, f"SELECT count(*) FROM ({HELD}) AS held")[0]:
        return None
    if not ask(session, f"SELECT to_regclass('{HOLDER}') IS NOT NULL")[0]:
        return 0.0
    # By the server's clock alone, which may not be this machine's.
    ago = ask(session, f"SELECT extract(epoch FROM now() - max(used_at)) FROM {HOLDER}")[0]
    return 0.0 if ago is None else time.time() - float(ago)


def _make_holder(session: Any) -> None:
    if not ask(session, f"SELECT to_regclass('{HOLDER}') IS NOT NULL")[0]:
        with suppress(Exception):  # two at once: the other one has made it
            _run(
                session,
                f"CREATE TABLE IF NOT EXISTS {HOLDER} (used_at timestamptz, holder text)",
            )
    _run(
        session,
        f"INSERT INTO {HOLDER} SELECT NULL, NULL WHERE NOT EXISTS (SELECT 1 FROM {HOLDER})",
    )
    for name in ("idle", "interval", "count"):
        value = KEEPALIVE[f"keepalives_{name}"]
        _run(session, f"SET tcp_keepalives_{name} = {value}")


def _assure(session: Any) -> None:
    with suppress(Exception):
        if ask(session, f"SELECT count(*) FROM ({HELD} AND pid = pg_backend_pid()) AS h")[0]:
            return
    raise DatabaseError(
        f"the lock of {NAME} was lost, since the server was restarted or the connection cut: "
        "nothing more was committed, run again"
    )


def _run(session: Any, sql: str, *values: object) -> None:
    with session.cursor() as cursor:
        cursor.execute(sql, values or None)


def ask(session: Any, sql: str) -> tuple[Any, ...]:
    """Return the one row of a query."""
    with session.cursor() as cursor:
        cursor.execute(sql)
        return tuple(cursor.fetchone())


def _find_holder(session: Any) -> str:
    # The server's clock says since when, as for its last use.
    since = "to_char(used_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
    found = ask(session, f"SELECT max(holder || {since} || ' UTC)') FROM {HOLDER}")
    return found[0] or "another process"
