"""Forgetting as a whole: rows, then what was made of them, then every byte of before.

What rows are deleted is in `sync.forgetting`.
"""

import os
from collections.abc import Collection

import duckdb

from incident_assets.models.building import build_model, find_missing
from incident_assets.models.catalog import MODEL_SCHEMA, read_models
from incident_assets.report.marts import MARTS, read_marts
from incident_assets.report.writing import write_report
from incident_assets.settings import Settings
from incident_assets.sync.forgetting import Forgotten, forget_rows
from incident_assets.sync.log import write_newest_rows
from incident_assets.sync.renewal import renew_database
from incident_assets.warehouse.file import DatabaseError, has_table
from incident_assets.warehouse.held import hold_database
from incident_assets.warehouse.place import find_warehouse


def forget(
    settings: Settings, incidents: Collection[str], users: Collection[str], history: bool
) -> Forgotten:
    """Forget incidents and users, by their ids, and all versions of rows with `history`.

    Models are built again, and the file, its copy and a report that is there are made anew. Raises
    DatabaseError, DatabaseBusy, and SettingError where a setting of models is wrong; what was
    deleted then stays so, and the next sync makes the rest anew.
    """
    warehouse, run = find_warehouse(settings), f"pid-{os.getpid()}"
    had_report = settings.report_page.exists()
    if not warehouse.exists():
        raise DatabaseError(f"{warehouse} holds nothing yet, so there is nothing to forget")
    with hold_database(warehouse, run, f"forget {run}") as database:
        with database.session(settings.lock_timeout) as connection:
            done = forget_rows(connection, settings, incidents, users, history)
        with database.session(settings.lock_timeout) as connection:
            _build_models(connection, settings)
            if warehouse.has_file:  # whose newest rows of the log hold texts of the API too
                write_newest_rows(connection, settings.database)
        renew_database(settings, database)
        # It is gone where it was a report.
        if had_report and not settings.report_page.exists():
            with database.cursor(settings.lock_timeout) as connection:
                _write_report(connection, settings)
    return done


def _write_report(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    if all(has_table(connection, f"{MODEL_SCHEMA}.{mart}") for mart in MARTS.values()):
        write_report(settings, read_marts(connection))


def _build_models(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    for model in read_models().values():
        if not find_missing(connection, model):
            build_model(connection, model, settings)
