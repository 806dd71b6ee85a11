"""`sync`, `check` and `init`: an account of yours, from its settings to its rows."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.commands.given import read_given, refuse
from incident_assets.values import SettingError

NAMES = [endpoint.name for endpoint in ENDPOINTS]


def _read_resources(_: click.Context, __: click.Parameter, given: Sequence[str]) -> list[str]:
    chosen = [name.strip() for names in given for name in names.split(",")]
    if unknown := [name for name in chosen if name not in NAMES]:
        raise click.BadParameter(f"no {unknown[0]!r}; the resources are {', '.join(NAMES)}")
    return chosen


@click.command()
@click.option(
    "--select",
    "names",
    multiple=True,
    metavar="RESOURCE",
    callback=_read_resources,
    help="Load this one alone. Give it again, or commas, for several: "
    f"{', '.join(NAMES)}. All if left out.",
)
@click.option(
    "--listing",
    type=click.Choice(["full", "changes"]),
    default="full",
    show_default=True,
    help="Ask for everything, which alone shows what was deleted, or for what changed.",
)
@click.option("--full-refresh", is_flag=True, help="Build the tables anew, without deleted rows.")
@click.option(
    "--accept-loss",
    "accepted",
    multiple=True,
    metavar="RESOURCE",
    callback=_read_resources,
    help="Its rows that a full listing lacks are gone, however many; otherwise a listing that "
    "lacks most of a table takes none away, and says so.",
)
def sync(names: list[str], listing: str, full_refresh: bool, accepted: list[str]) -> int:
    """Load your account into the database, without Dagster.

    Prints a line per resource. One that cannot be read keeps what it had, and the others land.
    """
    from incident_assets.sync.progress import log_progress, show_bars
    from incident_assets.sync.run import run_sync
    from incident_assets.sync.terminal import format_outcomes
    from incident_assets.warehouse.file import DatabaseError

    try:
        outcomes = run_sync(
            read_given(),
            names or NAMES,
            changes=listing == "changes",
            full_refresh=full_refresh,
            accept_loss=accepted,
            watch=show_bars if sys.stderr.isatty() else log_progress,
        )
    except (SettingError, DatabaseError) as error:
        return refuse(error)
    click.echo(format_outcomes(outcomes))
    return 1 if any(outcome.failure for outcome in outcomes) else 0


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> int:
    """Write .env, dagster.yaml and workspace.yaml into FOLDER, this one if left out.

    What is there already stays. With dagster.yaml there, Dagster keeps its history in the folder
    and sends no telemetry; without it, it would do neither.
    """
    from incident_assets.folder import write_files

    try:
        written = write_files(folder)
    except OSError as error:
        return refuse(error)
    for name, is_new in written.items():
        click.echo(f"{folder / name}: {'written' if is_new else 'there already, left as it is'}")
    click.echo(
        f"Next, in {folder.absolute()}: fill in .env, then `incident-assets check`, then\n"
        '`incident-assets sync`, or `DAGSTER_HOME="$PWD" dagster dev` for the UI and schedules.'
    )
    return 0


@click.command()
@click.option(
    "--accept-account",
    is_flag=True,
    help="The database belongs to the account that address and key lead to, and the key has the "
    "roles that it should have.",
)
def check(accept_account: bool) -> int:
    """Say whether address, key, permissions and database are ready.

    Asks the API once per resource, and writes nothing without --accept-account. A warning is no
    failure: it names moments of incidents that stay empty, since no timestamp of the account stands
    for them, or roles that the key has lost.
    """
    from incident_assets.sync.readiness import examine
    from incident_assets.sync.terminal import format_table

    try:
        found = list(examine(read_given(), accept_account))
    except SettingError as error:
        return refuse(error)
    rows = [
        ("NO" if not x.ready else "warning" if x.warns else "ok", x.subject, x.detail)
        for x in found
    ]
    click.echo(format_table(("", "subject", "finding"), rows))
    return 0 if all(x.ready for x in found) else 1
