"""A database written anew: a fresh file with all that the old one holds, put in its place at once.

What was replaced or deleted in a DuckDB file stays in its bytes for long; in a fresh one it never
was. When that is due is decided elsewhere; a lake is cleaned in `upkeep`.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from incident_assets.warehouse.file import (
    STORAGE_VERSION,
    DatabaseError,
    quote_name,
    quote_text,
    read_first_line,
)
from incident_assets.warehouse.private import name_fresh, replace_file

FRESH = "incident_assets_fresh"  # what the new file is called while it is filled


def write_anew(path: Path, statements: Sequence[str] = ()) -> int:
    """Put a fresh copy of a closed database, whose lock is ours, in its place; return its bytes.

    Everything comes along: all schemas with tables, views, macros, types, sequences, indexes,
    constraints and comments. `statements` are run in the new one before it takes the old one's
    place. Raises DatabaseError; then the old file stays as it is.
    """

    def copy(fresh: Path) -> None:
        # DuckDB gets the name of its log wrong where a path has a question mark; ours has none.
        fresh.unlink()  # DuckDB takes no empty file
        old = path.name.split(".")[0] or "old"  # as DuckDB calls it, which views may name
        with duckdb.connect(":memory:") as connection:
            # Without a memory limit of ours: rows are copied group by group.
            connection.execute(f"ATTACH {_quote(path)} AS {quote_name(old)}")
            connection.execute(
                f"ATTACH {_quote(fresh)} AS {FRESH} (STORAGE_VERSION '{STORAGE_VERSION}')"
            )
            connection.execute(f"COPY FROM DATABASE {quote_name(old)} TO {FRESH}")
            connection.execute(f"USE {FRESH}")
            for statement in statements:
                connection.execute(statement)
            connection.execute("CHECKPOINT")
        # What the old file's log held is in the new one; beside that, it would fit no more.
        _log_of(path).unlink(missing_ok=True)

    try:
        return replace_file(path, copy)
    except (OSError, duckdb.Error) as error:
        with suppress(OSError):
            _log_of(name_fresh(path)).unlink(missing_ok=True)
        raise DatabaseError(
            f"{path} (INCIDENT_DUCKDB_PATH) cannot be written anew: {read_first_line(error)}. Make "
            "room for it a second time, then sync again; the file is as it was, and what was to "
            "go is still in its bytes"
        ) from None


def _quote(path: Path) -> str:
    return quote_text(str(path.absolute()))


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")
