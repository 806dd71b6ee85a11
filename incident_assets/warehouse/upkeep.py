"""Upkeep of a lake: old snapshots expire, small files are merged, what nobody reads is deleted.

Without it each sync leaves files and rows of the catalog behind. When it is done is decided
elsewhere.
"""

from dataclasses import dataclass

import duckdb

from incident_assets.settings import Settings
from incident_assets.warehouse.commits import assure_locks
from incident_assets.warehouse.file import DatabaseBusy
from incident_assets.warehouse.lake import Lake

GRACE = "1 day"  # for readers that began before a file was replaced; as SQL
# Seconds to wait for a table of the catalog that a reader's transaction has open.
CATALOG_PATIENCE = 10


@dataclass(frozen=True)
class Upkeep:
    """What was done: snapshots `expired`, files of data before and after, files `deleted`."""

    expired: int
    before: int
    after: int
    deleted: int


def keep_lake(lake: Lake, settings: Settings, purpose: str, grace: str = GRACE) -> Upkeep:
    """Let go of what is older than `settings.lake_keep_days`, and merge what is small.

    Files that are no longer read stay for the `grace`, so that nobody's query loses them. Raises
    DatabaseBusy if others keep the lake, or a reader its catalog, for too long.
    """
    options = f"options='-c lock_timeout={CATALOG_PATIENCE}s'"
    with (
        lake.lock(settings.lock_timeout, purpose),
        lake.explain_failures(),
        lake.connect(settings.lock_timeout, options=options) as connection,
    ):
        try:
            return _keep(connection, settings.lake_keep_days, grace)
        except duckdb.Error as error:
            if "lock timeout" not in str(error):
                raise
            raise DatabaseBusy(
                f"a reader has kept the catalog of {lake} for more than {CATALOG_PATIENCE} s in "
                "one transaction: the upkeep does the rest the next time"
            ) from None


def forget_past(connection: duckdb.DuckDBPyConnection) -> None:
    """Let go of all that a lake was, at once, and delete the files of it, whoever reads them.

    For what must be nowhere any more. The lock is the caller's.
    """
    ((name,),) = connection.execute("SELECT current_database()").fetchall()
    assure_locks()
    # Rows that were replaced leave their files first, so that those are old too.
    connection.execute("CALL ducklake_rewrite_data_files(?, delete_threshold => 0)", [name])
    connection.execute("CALL ducklake_expire_snapshots(?, older_than => now())", [name])
    connection.execute("CALL ducklake_cleanup_old_files(?, cleanup_all => true)", [name])


def _keep(connection: duckdb.DuckDBPyConnection, days: float, grace: str) -> Upkeep:
    name = connection.execute("SELECT current_database()").fetchall()[0][0]

    def call(function: str, options: str = "") -> int:
        assure_locks()
        sql = f"SELECT count(*) FROM {function}(?{', ' + options if options else ''})"
        return int(connection.execute(sql, [name]).fetchall()[0][0])

    def count() -> int:
        sql = "SELECT coalesce(sum(file_count + delete_file_count), 0) FROM ducklake_table_info(?)"
        return int(connection.execute(sql, [name]).fetchall()[0][0])

    before = count()
    old = f"older_than => now() - INTERVAL '{round(days * 86400)} seconds'"
    expired = call("ducklake_expire_snapshots", old)
    # Rows that were replaced or deleted go from their files first, so that less is merged.
    call("ducklake_rewrite_data_files")
    call("ducklake_merge_adjacent_files")
    deleted = call("ducklake_cleanup_old_files", f"older_than => now() - INTERVAL '{grace}'")
    return Upkeep(expired, before, count(), deleted)
