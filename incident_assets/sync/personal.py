"""Personal data in a database: how its rows were masked, and what a change of that takes.

A database remembers mode, a fingerprint of the key, and the columns left out; rows masked otherwise
never get into it. What a mask does to a cell is the API's room; masking and copying, the
warehouse's.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.api.personal import Mask
from incident_assets.settings import Settings
from incident_assets.sync.log import LOG_TABLE
from incident_assets.warehouse.comments import Description
from incident_assets.warehouse.file import DatabaseError, has_table
from incident_assets.warehouse.masking import mask_tables
from incident_assets.warehouse.merging import read_schema
from incident_assets.warehouse.schemas import (
    FINDING_TABLE,
    HISTORY_SCHEMA,
    LOG_SCHEMA,
    MODEL_SCHEMA,
    PERSONAL_TABLE,
    RAW_SCHEMA,
    name_table,
)
from incident_assets.warehouse.versions import doubt_versions

logger = logging.getLogger(__name__)

PERSONAL_TEXTS = Description(
    "How rows were masked (docs/personal-data.md). One row.",
    {
        "mode": "keep, hash or drop",
        "key": "What tells the key of the hashes from another one, and nothing of the key itself",
        "dropped": "Columns that are left empty",
        "is_changing": "Whether a full refresh has begun to mask rows otherwise, and not ended",
        "is_due": "Whether the database has to be written anew, so that no plain byte is left",
    },
)
LEFT_OUT = "left out when personal data was masked: see the next sync"


class MaskMismatch(DatabaseError):
    """The database holds rows that were masked otherwise than the settings say."""


@dataclass(frozen=True)
class Masking:
    """How the rows of a database were masked; those of one without a memory were kept."""

    mode: str = "keep"
    key: str | None = None
    dropped: tuple[str, ...] = ()
    is_changing: bool = False
    is_due: bool = False


def read_masking(connection: duckdb.DuckDBPyConnection) -> Masking:
    """Return how the rows of a database were masked, by the table that `prepare_masking` makes."""
    return _read(connection) or Masking()


def read_any_masking(connection: duckdb.DuckDBPyConnection) -> Masking:
    """Return how rows were masked, in a database of the program before too."""
    return read_masking(connection) if has_table(connection, PERSONAL_TABLE) else Masking()


def find_masking(mask: Mask | None) -> Masking:
    """Return how rows are masked by the settings."""
    if mask is None:
        return Masking()
    dropped = tuple(sorted(f"{resource}.{column}" for resource, column in mask.dropped))
    return Masking(mask.mode, mask.fingerprint, dropped)


def find_lacking(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> set[str]:
    """Return the columns of a resource that are empty since they are masked or left out."""
    masking = read_any_masking(connection)
    names = {name.partition(".")[::2] for name in masking.dropped}
    lacking = {column for resource, column in names if resource == endpoint.name}
    return lacking | {*endpoint.personal} if masking.mode == "drop" else lacking


def prepare_masking(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    mask: Mask | None,
    endpoints: Sequence[Endpoint],
    names: Collection[str],
    full_refresh: bool,
) -> None:
    """Have the database remember how rows are masked, and change what it holds where that differs.

    That takes a full refresh of all tables there are. Part of the caller's transaction. Raises
    MaskMismatch.
    """
    _prepare_table(connection)
    stored, wanted = _read(connection), find_masking(mask)
    if stored is None:
        stored = Masking()
        _store(connection, stored)  # a lake's empty table has no statistics to be remembered
    if replace(stored, is_due=False) == wanted:
        return
    tables = _list_tables(connection)
    if not _has_rows(connection, tables):
        return _store(connection, replace(wanted, is_due=stored.is_due))
    _refuse(settings, stored, wanted, sorted({*tables}.difference(names)), full_refresh)
    logger.info("rows are masked otherwise from now on: %s, were %s", wanted.mode, stored.mode)
    known = {endpoint.name: endpoint for endpoint in endpoints}
    if _is_onward(stored, wanted):
        fresh = [x for x in wanted.dropped if x not in stored.dropped]
        pairs = [(x.partition(".")[0], x.partition(".")[2]) for x in fresh]
        # What was masked already is not masked again.
        step = mask if mask and stored.mode != wanted.mode else Mask("keep", dropped=pairs)
        mask_tables(connection, (RAW_SCHEMA, HISTORY_SCHEMA), step, known.values())
    else:
        _end_history(connection)
    forget_derived(connection)
    logger.info("models are dropped, since they hold names too: the next run builds them")
    doubt_versions(connection, [name_table(name) for name in tables])
    _store(connection, replace(wanted, is_changing=not _is_onward(stored, wanted), is_due=True))


def note_due(connection: duckdb.DuckDBPyConnection) -> None:
    """Note that the database has to be written anew. Part of the caller's transaction."""
    _prepare_table(connection)
    _store(connection, replace(read_masking(connection), is_due=True))


def conclude_masking(connection: duckdb.DuckDBPyConnection, refreshed: Collection[str]) -> None:
    """Note that all tables are masked as the settings say, where all have been `refreshed`.

    Part of the caller's transaction.
    """
    stored = read_masking(connection)
    if not stored.is_changing:
        return
    if others := sorted({*_list_tables(connection)}.difference(refreshed)):
        logger.warning(
            "%s could not be refreshed as a whole, so rows are still masked in two ways: "
            "refresh everything again",
            ", ".join(others),
        )
        return
    _store(connection, replace(stored, is_changing=False))


def _is_onward(stored: Masking, wanted: Masking) -> bool:
    """Whether stored rows can be masked as wanted where they stand."""
    return not stored.is_changing and (
        stored.mode == "keep" or (stored.mode, stored.key) == (wanted.mode, wanted.key)
    )


def _refuse(
    settings: Settings, stored: Masking, wanted: Masking, missing: Sequence[str], refresh: bool
) -> None:
    """Raise MaskMismatch unless everything is refreshed."""
    way = (
        "refresh everything once: the job full_refresh, or `incident-assets sync --full-refresh` "
        "(docs/personal-data.md)"
    )
    if not refresh:
        raise MaskMismatch(
            f"{settings.database_name} {_tell(stored, wanted)}. Set it back, or {way}"
        )
    if missing:
        raise MaskMismatch(
            f"{settings.database_name} {_tell(stored, wanted)}, and this refresh leaves out "
            f"{', '.join(missing)}: {way}; drop a table that is no resource any more"
        )


def _tell(stored: Masking, wanted: Masking) -> str:
    if stored.is_changing:
        return "has begun to be masked otherwise, and not all of it is yet"
    if stored.mode != wanted.mode:
        return (
            f"holds rows written with INCIDENT_PERSONAL_DATA={stored.mode}, and now it is "
            f"{wanted.mode}"
        )
    if stored.key != wanted.key:
        return "holds hashes of another INCIDENT_PERSONAL_DATA_KEY"
    told = [", ".join(x.dropped) or "nothing" for x in (stored, wanted)]
    return f"holds rows written with INCIDENT_DROP_FIELDS naming {told[0]}, and now {told[1]}"


def _list_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the raw tables that are there, and none of dlt's own."""
    return [x for x in read_schema(connection, RAW_SCHEMA) if not x.startswith("_dlt")]


def _has_rows(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> bool:
    return any(
        connection.execute(f'SELECT 1 FROM {RAW_SCHEMA}."{name}" LIMIT 1').fetchone()
        for name in tables
    )


def _end_history(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the history, whose hashes are of another key, or which has nothing to be hashed."""
    if not (tables := read_schema(connection, HISTORY_SCHEMA)):
        return
    connection.execute(f"DROP SCHEMA {HISTORY_SCHEMA} CASCADE")
    logger.warning(
        "history ends here and begins anew, since its rows cannot be masked otherwise: %s",
        ", ".join(sorted(tables)),
    )


def _prepare_table(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {PERSONAL_TABLE} (mode VARCHAR, key VARCHAR, "
        "dropped VARCHAR[], is_changing BOOLEAN, is_due BOOLEAN)"
    )


def forget_derived(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop what was made of the rows, and texts of the API in the log; runs make it again.

    Rows that a killed load has left beside the tables go too. Part of the caller's transaction.
    """
    for schema in (MODEL_SCHEMA, f"{RAW_SCHEMA}_staging"):
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    connection.execute(f"DROP TABLE IF EXISTS {FINDING_TABLE}")
    for column in ("error", "notice"):
        # A log of an older program has fewer columns.
        if column in read_schema(connection, LOG_SCHEMA).get(LOG_TABLE.partition(".")[2], {}):
            connection.execute(
                f"UPDATE {LOG_TABLE} SET {column} = ? WHERE coalesce({column}, '') <> ''",
                [LEFT_OUT],
            )


def _read(connection: duckdb.DuckDBPyConnection) -> Masking | None:
    row = connection.execute(
        f"SELECT mode, key, dropped, is_changing, is_due FROM {PERSONAL_TABLE}"
    ).fetchone()
    return Masking(row[0], row[1], tuple(row[2]), row[3], row[4]) if row else None


def _store(connection: duckdb.DuckDBPyConnection, masking: Masking) -> None:
    connection.execute(f"DELETE FROM {PERSONAL_TABLE}")
    connection.execute(
        f"INSERT INTO {PERSONAL_TABLE} VALUES (?, ?, ?, ?, ?)",
        [masking.mode, masking.key, [*masking.dropped], masking.is_changing, masking.is_due],
    )
