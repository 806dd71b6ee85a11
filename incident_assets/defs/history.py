"""What Dagster keeps of runs: the job that deletes what is old of it, and gives the room back.

The history of the data is in the database, which this job never opens. How long the ticks of
schedules and sensors are kept is in dagster.yaml.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sql

# Private: `delete_run`, the only public way, leaves evaluations of checks, the file of a run's
# events and its compute logs, and nothing public says which runs hold the latest of a partition.
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage, schema
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.runs import SqlRunStorage

from incident_assets.defs.duckdb import explain_errors
from incident_assets.settings import read_settings

FINISHED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)
EVENTS, TAGS = schema.SqlEventLogStorageTable, schema.AssetEventTagsTable
CHECKS, ASSETS = schema.AssetCheckExecutionsTable, schema.AssetKeyTable
LASTING = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION")  # types of events whose latest ones stay
RUNLESS = ""  # the run of what was reported without one
MOST_VALUES = 500  # in one statement
WORTH_IT = 10  # percent of a SQLite file that are free; the next runs use what is less


@dataclass(frozen=True)
class Pruned:
    """What was done: runs `deleted`, old ones `kept` for what is latest, bytes before and after.

    Bytes are those of SQLite's files; 0 elsewhere.
    """

    deleted: int
    kept: int
    before: int
    after: int


def build_prune_job() -> dg.JobDefinition:
    """Return the job, which needs neither key nor network nor database."""

    @dg.op(description="Delete what is older than INCIDENT_KEEP_RUNS_DAYS.")
    def prune(context: dg.OpExecutionContext) -> None:
        with explain_errors():
            days = read_settings().keep_runs_days
        before = datetime.now(UTC) - timedelta(days=days)
        done = prune_history(context.instance, before, keeps_latest=days > 0)
        context.log.info(
            f"{done.deleted} runs deleted that were older than {days:g} days "
            f"(INCIDENT_KEEP_RUNS_DAYS), {done.kept} kept for what is latest of an asset or check; "
            f"SQLite's files: {done.before / 1e6:.1f} MB before, {done.after / 1e6:.1f} MB after"
        )

    @dg.job(
        name="prune_history",
        description="Delete Dagster's runs, events, evaluations of checks and compute logs that "
        "are older than INCIDENT_KEEP_RUNS_DAYS. What is latest of each asset and check stays.",
    )
    def prune_history_job() -> None:
        prune()

    return prune_history_job


def prune_history(
    instance: dg.DagsterInstance, before: datetime, keeps_latest: bool = True
) -> Pruned:
    """Delete the runs that were created before a moment and are over, with all that is theirs.

    A run stays whole that holds the latest materialisation or observation of an asset or partition,
    the latest evaluation of a check, or the last try of an asset; unless it `keeps_latest`, those
    go too. Storage that is not Dagster's SQL, on SQLite or PostgreSQL, is left alone.
    """
    events, runs = instance.event_log_storage, instance.run_storage
    if not (isinstance(events, SqlEventLogStorage) and isinstance(runs, SqlRunStorage)):
        return Pruned(0, 0, 0, 0)
    with events.index_connection() as connection, runs.connect() as other:
        engines = (connection.engine, other.engine)
        latest = _find_latest(connection) if keeps_latest else set()
    size = _measure(engines)
    old = instance.get_run_ids(dg.RunsFilter(statuses=list(FINISHED), created_before=before))
    deleted = [run for run in old if run not in latest]
    for run in deleted:
        _delete_logs(instance.compute_log_manager, run)
        instance.delete_run(run)
    _delete_leftovers(instance, events, latest)
    _delete_runless(events, before, keeps_latest)
    if not keeps_latest:  # Dagster keeps the latest event of each beside it
        instance.wipe_assets([*instance.all_asset_keys()])
    for engine in engines:
        _give_room_back(engine, WORTH_IT if keeps_latest else 0)
    return Pruned(len(deleted), len(old) - len(deleted), size, _measure(engines))


def _find_latest(connection: sql.Connection) -> set[str]:
    """Return the runs that stay because of what they hold."""
    lasting = EVENTS.c.dagster_event_type.in_(LASTING)
    statements = (
        sql.select(EVENTS.c.run_id).where(EVENTS.c.id.in_(_select_latest_events(lasting))),
        sql.select(CHECKS.c.run_id).where(CHECKS.c.id.in_(_select_latest_checks())),
        sql.select(ASSETS.c.last_run_id),
    )
    return {row[0] for statement in statements for row in connection.execute(statement)}


def _select_latest_events(condition: sql.ColumnElement[bool]) -> sql.Select[Any]:
    kind = (EVENTS.c.asset_key, EVENTS.c.dagster_event_type, EVENTS.c.partition)
    return sql.select(sql.func.max(EVENTS.c.id)).where(condition).group_by(*kind)


def _select_latest_checks() -> sql.Select[Any]:
    """Select the latest of each check: planned, and evaluated."""
    evaluated = CHECKS.c.evaluation_event_storage_id.is_not(None)
    kind = (CHECKS.c.asset_key, CHECKS.c.check_name, CHECKS.c.partition, evaluated)
    return sql.select(sql.func.max(CHECKS.c.id)).group_by(*kind)


def _delete_logs(logs: Any, run: str) -> None:
    """Delete what the steps of a run have printed."""
    *folder, _ = logs.build_log_key_for_run(run, "step")
    logs.delete_logs(prefix=folder)
    if isinstance(logs, LocalComputeLogManager):
        with suppress(OSError):  # something else of the run is in there, or nothing ever was
            Path(logs.get_captured_local_path(folder, "out")).parent.rmdir()


def _delete_leftovers(
    instance: dg.DagsterInstance, events: SqlEventLogStorage, latest: set[str]
) -> None:
    """Delete what is left of runs that are gone, also of those deleted in the UI."""
    with events.index_connection() as connection:
        seen = set(connection.execute(sql.select(CHECKS.c.run_id).distinct()).scalars())
    shards = set(events.get_all_run_ids()) if isinstance(events, SqliteEventLogStorage) else set()
    # Last, so that none is missing that began meanwhile.
    kept = {*instance.get_run_ids(), *latest, RUNLESS, None}
    with events.index_connection() as connection:
        for chunk in _split(seen - kept):
            connection.execute(CHECKS.delete().where(CHECKS.c.run_id.in_(chunk)))
    for run in shards - kept:
        assert isinstance(events, SqliteEventLogStorage)
        for ending in ("", "-wal", "-shm", "-journal"):
            Path(events.path_for_shard(run) + ending).unlink(missing_ok=True)


def _delete_runless(events: SqlEventLogStorage, before: datetime, keeps_latest: bool) -> None:
    """Delete what was reported without a run before a moment, but the latest if that is kept."""
    moment = before.astimezone(UTC).replace(tzinfo=None)  # as Dagster stores it
    runless = EVENTS.c.run_id == RUNLESS
    old = sql.select(EVENTS.c.id).where(runless, EVENTS.c.timestamp < moment)
    old_checks = CHECKS.delete().where(
        CHECKS.c.run_id == RUNLESS, CHECKS.c.create_timestamp < moment
    )
    if keeps_latest:
        old = old.where(EVENTS.c.id.not_in(_select_latest_events(runless)))
        old_checks = old_checks.where(CHECKS.c.id.not_in(_select_latest_checks()))
    connections = [events.index_connection]
    if isinstance(events, SqliteEventLogStorage):  # a second copy, if there are any
        if not Path(events.path_for_shard(RUNLESS)).exists():
            return
        connections.append(lambda: events.run_connection(RUNLESS))
    for connect in connections:
        with connect() as connection:
            for chunk in _split(connection.execute(old).scalars()):
                connection.execute(TAGS.delete().where(TAGS.c.event_id.in_(chunk)))
                connection.execute(EVENTS.delete().where(EVENTS.c.id.in_(chunk)))
    with events.index_connection() as connection:
        connection.execute(old_checks)


def _split(values: Iterable[Any]) -> Iterator[Sequence[Any]]:
    listed = list(values)
    for first in range(0, len(listed), MOST_VALUES):
        yield listed[first : first + MOST_VALUES]


def _give_room_back(engine: sql.Engine, worth: int) -> None:
    """Shrink a SQLite file so many percent of which are free; let PostgreSQL use the room again.

    A SQLite file cannot be written meanwhile, for some seconds per GB. One that others keep busy,
    or a full disk, can wait until tomorrow.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "postgresql":
            for table in ("event_logs", "asset_check_executions", "runs", "run_tags"):
                if sql.inspect(connection).has_table(table):
                    connection.execute(sql.text(f"VACUUM {table}"))
        elif engine.dialect.name == "sqlite":
            free, pages = (
                connection.execute(sql.text(f"PRAGMA {name}")).scalar_one()
                for name in ("freelist_count", "page_count")
            )
            if free * 100 >= pages * worth:
                with suppress(sql.exc.OperationalError):
                    connection.execute(sql.text("VACUUM"))
                    connection.execute(sql.text("PRAGMA wal_checkpoint(TRUNCATE)"))


def _measure(engines: Iterable[sql.Engine]) -> int:
    """Return the bytes of SQLite's files and of those beside them."""
    databases = [Path(x.url.database or "") for x in engines if x.dialect.name == "sqlite"]
    folders = {path.parent for path in databases if path.is_file()}
    sizes = (path.stat().st_size for folder in folders for path in folder.glob("*.db*"))
    return sum(sizes)
