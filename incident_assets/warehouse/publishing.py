"""A copy of the database that is safe to keep open: made whole, then put in place at once.

Readers of the copy never meet a writer: the file they opened is never written again.
"""

import shutil
from pathlib import Path

from incident_assets.settings import SettingError, Settings
from incident_assets.warehouse.file import (
    DatabaseError,
    explain_storage_failures,
    read_first_line,
    replace_file,
)
from incident_assets.warehouse.held import HeldDatabase


def publish_database(settings: Settings, database: HeldDatabase) -> int:
    """Copy the database to `settings.published_copy` and return the bytes copied.

    Whoever opens the copy sees all of the old or all of the new one; it is for reading only.
    Raises SettingError if both are one file, DatabaseBusy, and DatabaseError where the copy cannot
    be written: then the copy that was there stays.
    """
    path, target = settings.database, settings.published_copy
    if path.absolute() == target.absolute() or (target.exists() and target.samefile(path)):
        raise SettingError(
            f"INCIDENT_PUBLISHED_PATH is the database itself ({path}): give the copy another path, "
            "or leave it unset"
        )

    def copy(fresh: Path) -> None:
        shutil.copyfile(path, fresh)
        target.with_name(target.name + ".wal").unlink(missing_ok=True)

    with explain_storage_failures(path), database.cursor(settings.lock_timeout) as connection:
        connection.execute("CHECKPOINT")
    # Closed before it is read: closing another handle of the file would drop DuckDB's own lock.
    with database.released(settings.lock_timeout):
        try:
            # Read-only, or a curious writer would leave a log beside it that fits no later copy.
            return replace_file(target, copy, mode=0o400)
        except OSError as error:
            raise DatabaseError(
                f"cannot publish to {target} (INCIDENT_PUBLISHED_PATH): {read_first_line(error)}. "
                "Make room or choose another path, then sync again; the copy of before is kept"
            ) from None
