"""A copy of the database that is safe to keep open: made whole, then put in place at once.

Readers of the copy never meet a writer: the file they opened is never written again.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from incident_assets.settings import SettingError, Settings
from incident_assets.warehouse.file import (
    DatabaseError,
    explain_storage_failures,
    make_private_folder,
    read_first_line,
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
    with explain_storage_failures(path), database.cursor(settings.lock_timeout) as connection:
        connection.execute("CHECKPOINT")
    # Closed before it is read: closing another handle of the file would drop DuckDB's own lock.
    with database.released(settings.lock_timeout):
        try:
            return _replace(path, target)
        except OSError as error:
            raise DatabaseError(
                f"cannot publish to {target} (INCIDENT_PUBLISHED_PATH): {read_first_line(error)}. "
                "Make room or choose another path, then sync again; the copy of before is kept"
            ) from None


def _replace(path: Path, target: Path) -> int:
    make_private_folder(target.parent)
    # In the target's folder, since only there a rename is atomic; a dead run's is overwritten.
    fresh = target.with_name(f".{target.name}.publishing")
    fresh.unlink(missing_ok=True)
    try:
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        shutil.copyfile(path, fresh)
        _sync_to_disk(fresh)
        # Read-only, or a curious writer would leave a log beside it that fits no later copy.
        fresh.chmod(0o400)
        target.with_name(target.name + ".wal").unlink(missing_ok=True)
        fresh.replace(target)
    except OSError:
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
