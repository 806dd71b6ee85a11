"""Writing a database, its copies and so on anew, after rows were masked, scrubbed or forgotten.

Deleted bytes stay in a file until then. When it is due stands with how rows are masked.
"""

import logging
from pathlib import Path

from incident_assets.settings import REPORT_TITLE, Settings
from incident_assets.sync.personal import read_any_masking
from incident_assets.warehouse.anew import write_anew
from incident_assets.warehouse.file import DatabaseError
from incident_assets.warehouse.held import HeldDatabase
from incident_assets.warehouse.publishing import SETTLED, is_copy, publish_database
from incident_assets.warehouse.upkeep import forget_past

logger = logging.getLogger(__name__)


def renew_database(settings: Settings, database: HeldDatabase) -> bool:
    """Write the database, its copies and so on anew where that is due; return whether it was.

    Nothing of before is left in any byte: the published copy is made again, the copy of before that
    and the report are removed. Raises DatabaseBusy and DatabaseError; then it stays due.
    """
    if not database.warehouse.exists():
        return False
    with database.cursor(settings.lock_timeout) as connection:
        if not read_any_masking(connection).is_due:
            return False
        if not database.warehouse.has_file:
            forget_past(connection)
    if database.warehouse.has_file:
        with database.released(settings.lock_timeout) as path:
            size = write_anew(path)
        logger.info("%s was written anew: %.1f MB", path, size / 1e6)
        _publish_anew(settings, database)
    _remove_report(settings.report_page)
    with database.cursor(settings.lock_timeout) as connection:
        connection.execute(SETTLED)
    return True


def _publish_anew(settings: Settings, database: HeldDatabase) -> None:
    """Make the published copy again, where there is one, and remove the one of before it."""
    copy, previous = settings.published_copy, settings.previous_copy
    try:
        if copy.exists():
            publish_database(settings, database)
        if previous.exists() and is_copy(settings, database, previous):
            previous.unlink()
    except (DatabaseError, OSError) as error:
        logger.warning("a copy of before is left, with what is masked since: %s", error)


def _remove_report(path: Path) -> None:
    """Remove a report of before, which names people; the next run that builds it makes it anew."""
    try:
        if path.is_file() and REPORT_TITLE.encode() in path.read_bytes()[:2000]:
            path.unlink()
            logger.info("%s was removed: the next nightly run makes it anew", path)
    except OSError as error:
        logger.warning("%s may name people, and cannot be removed: %s", path, error.strerror)
