"""`export`, `import` and `forget`: what is kept elsewhere, and what is not kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from incident_assets.commands.given import read_given, refuse
from incident_assets.settings import Settings
from incident_assets.values import SettingError


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
def export_(folder: Path) -> int:
    """Write the account that the database or lake holds into FOLDER, as Parquet files.

    FOLDER must be missing or empty, and is there as a whole or not at all. Models are left out:
    they are built from the rest.
    """
    from incident_assets.warehouse.moving import export_account

    return _move(export_account, folder)


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
def import_(folder: Path) -> int:
    """Fill the database or lake that the settings name, and that is empty, from an export.

    The next sync goes on where the exported one ended; models are built by the next run in Dagster
    that wants them.
    """
    from incident_assets.warehouse.moving import import_account

    return _move(import_account, folder)


def _move(move: Callable[[Settings, Path], Any], folder: Path) -> int:
    from incident_assets.warehouse.file import DatabaseError

    try:
        moved = move(read_given(), folder)
    except (SettingError, DatabaseError) as error:
        return refuse(error)
    account = moved.account["dashboard_url"] or moved.account["host"]
    rows = sum(table.rows for table in moved.tables)
    click.echo(f"{folder}: {len(moved.tables)} tables with {rows:,} rows of {account}")
    return 0


@click.command()
@click.option("--incident", "incidents", multiple=True, metavar="ID", help="This incident, by id.")
@click.option("--user", "users", multiple=True, metavar="ID", help="This user, by id.")
@click.option("--history", is_flag=True, help="What rows were before: every version of all.")
def forget(incidents: tuple[str, ...], users: tuple[str, ...], history: bool) -> int:
    """Delete an incident, a user or all history, with every version, from all that is written.

    With an incident go its updates, actions and follow-ups. A user's name, address and chat id go
    from other rows too. Database and published copy are written anew, so that no byte is left, and
    models and report made again. Whoever is to be forgotten has to be so in the account first, or
    the next sync brings them back.
    """
    from incident_assets.report.forgetting import forget as forget_all
    from incident_assets.warehouse.file import DatabaseError

    try:
        if not (incidents or users or history):
            raise SettingError("nothing to forget: give --incident ID, --user ID or --history")
        done = forget_all(read_given(), incidents, users, history)
    except (SettingError, DatabaseError) as error:
        return refuse(error)
    click.echo(f"{done.rows:,} rows and {done.versions:,} versions of rows are forgotten")
    return 0
