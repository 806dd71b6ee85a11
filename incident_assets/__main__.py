"""`incident-assets`, or `python -m incident_assets`: the command, its options and exit codes.

What a subcommand does is in the rooms, which are imported when it is run: `--help` waits for
neither dlt nor DuckDB nor Dagster (that of `explain` reads the marts).
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.settings import SettingError, Settings, read_settings

PATIENCE = 4.0  # seconds that an interrupted sync may take to let go of everything
NAMES = [endpoint.name for endpoint in ENDPOINTS]


@click.group(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def command() -> None:
    """Your incident history in a DuckDB database that you control.

    \b
    incident-assets demo     loads a made-up account: no key, no network
    incident-assets init     writes .env and Dagster's files into a folder of yours
    incident-assets check    says whether your own account is ready
    incident-assets sync     loads it
    incident-assets explain  shows the rows behind a figure
    incident-assets export   writes it into a folder: a backup, or on its way to a lake
    incident-assets import   fills an empty database or lake from such a folder
    incident-assets forget   deletes an incident, a user or all history, to the last byte

    Settings are environment variables. A file .env in the working directory may hold them, and
    beats the shell's. Two are needed, INCIDENT_API_BASE_URL and INCIDENT_API_KEY; the database is
    INCIDENT_DUCKDB_PATH, data/incidents.duckdb if unset. docs/settings.md lists them all.

    Exit codes: 0 done, 1 something failed, 2 bad input.
    """


def _read_resources(_: click.Context, __: click.Parameter, given: Sequence[str]) -> list[str]:
    chosen = [name.strip() for names in given for name in names.split(",")]
    if unknown := [name for name in chosen if name not in NAMES]:
        raise click.BadParameter(f"no {unknown[0]!r}; the resources are {', '.join(NAMES)}")
    return chosen


@command.command()
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
            _read_settings(),
            names or NAMES,
            changes=listing == "changes",
            full_refresh=full_refresh,
            accept_loss=accepted,
            watch=show_bars if sys.stderr.isatty() else log_progress,
        )
    except (SettingError, DatabaseError) as error:
        return _refuse(error)
    click.echo(format_outcomes(outcomes))
    return 1 if any(outcome.failure for outcome in outcomes) else 0


@command.command()
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
        return _refuse(error)
    for name, is_new in written.items():
        click.echo(f"{folder / name}: {'written' if is_new else 'there already, left as it is'}")
    click.echo(
        f"Next, in {folder.absolute()}: fill in .env, then `incident-assets check`, then\n"
        '`incident-assets sync`, or `DAGSTER_HOME="$PWD" dagster dev` for the UI and schedules.'
    )
    return 0


@command.command()
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
        found = list(examine(_read_settings(), accept_account))
    except SettingError as error:
        return _refuse(error)
    rows = [
        ("NO" if not x.ready else "warning" if x.warns else "ok", x.subject, x.detail)
        for x in found
    ]
    click.echo(format_table(("", "subject", "finding"), rows))
    return 0 if all(x.ready for x in found) else 1


@command.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
def export_(folder: Path) -> int:
    """Write the account that the database or lake holds into FOLDER, as Parquet files.

    FOLDER must be missing or empty, and is there as a whole or not at all. Models are left out:
    they are built from the rest.
    """
    from incident_assets.warehouse.moving import export_account

    return _move(export_account, folder)


@command.command("import")
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
        moved = move(_read_settings(), folder)
    except (SettingError, DatabaseError) as error:
        return _refuse(error)
    account = moved.account["dashboard_url"] or moved.account["host"]
    rows = sum(table.rows for table in moved.tables)
    click.echo(f"{folder}: {len(moved.tables)} tables with {rows:,} rows of {account}")
    return 0


@command.command()
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
        done = forget_all(_read_settings(), incidents, users, history)
    except (SettingError, DatabaseError) as error:
        return _refuse(error)
    click.echo(f"{done.rows:,} rows and {done.versions:,} versions of rows are forgotten")
    return 0


class _Explain(click.Command):
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        # An option for each key of a mart, so that a new mart needs no second description.
        from incident_assets.models.catalog import read_models

        marts: dict[str, list[str]] = {}
        for model in read_models().values():
            for column in model.grain if model.name.startswith("mart_") else ():
                marts.setdefault(column, []).append(model.name)
        options = [
            click.Option(
                ["--" + column.removesuffix("_id").replace("_", "-"), column],
                help=f"In {', '.join(names)}.",
            )
            for column, names in marts.items()
        ]
        *given, helping = super().get_params(ctx)
        return [*given, *options, helping]


@command.command(cls=_Explain)
@click.argument("mart", required=False)
@click.argument("metric", required=False)
def explain(mart: str | None, metric: str | None, **chosen: str | None) -> int:
    """Show where a figure comes from, row by row.

    METRIC is a column of the table MART, such as mttr_median of mart_incident_weekly; without it,
    or without both, what there is is listed. The options say which of the mart's rows, by name or
    id. Prints the definition, the SQL, the rows behind the figure, and the figure worked out from
    them again: exit code 1 if it is another one. Where the demo's database is the only one, it is
    asked.

    \b
    incident-assets explain mart_incident_weekly mttr_median --week 2026-W40 --severity Major
    """
    from incident_assets.models.explain import Unknown, run, write_figures, write_marts

    try:
        if mart is None or metric is None:
            click.echo(write_marts() if mart is None else write_figures(mart))
            return 0
        _read_env_file()
        settings = _find_database()
    except (Unknown, SettingError) as error:
        return _refuse(error)
    return run(mart, metric, {name: value for name, value in chosen.items() if value}, settings)


def _find_database() -> Settings:
    """Return the settings of the user's database; of the demo's, where that is the only one."""
    settings = read_settings()
    is_default = settings.duckdb_path == Settings.duckdb_path and not settings.lake_catalog
    if not is_default or settings.database.exists():
        return settings
    from incident_assets.demo.place import DATABASE, FOLDER

    demo = Settings(duckdb_path=str(FOLDER / DATABASE))
    if settings.published_copy.exists() or not demo.database.exists():
        return settings
    click.echo(f"There is no {settings.database}, so this is the demo's.", err=True)
    return demo


@command.group(invoke_without_command=True)
@click.pass_context
def demo(context: click.Context) -> int | None:
    """Load everything once from the bundled API, into data/demo.

    No key, no network, and your own settings and database are left alone. `ui` opens the Dagster
    UI on it, while its account lives on, and `chaos` breaks something there; `serve` is the
    bundled API by itself.
    """
    if context.invoked_subcommand:
        return None
    from incident_assets.demo.load import load

    return load()


@demo.command(context_settings={"show_default": True})
@click.option(
    "--day-minutes",
    type=click.FloatRange(0, 24 * 60, min_open=True),
    default=10.0,
    help="In which a day of the account passes, until it has come to the present.",
)
def ui(day_minutes: float) -> int:
    """Open the Dagster UI on the demo, whose account lives on; schedules are on."""
    from incident_assets.demo.ui import open_ui

    return open_ui(day_minutes)


@demo.command(context_settings={"show_default": True})
@click.argument("kind", required=False)
@click.option("--seconds", type=click.FloatRange(0), default=300.0, help="Until it is healed.")
def chaos(kind: str | None, seconds: float) -> int:
    """Break something in the demo that `ui` runs, and heal it after a while.

    Without KIND, what can break is listed.
    """
    from incident_assets.demo.chaos import TROUBLES, ask_for
    from incident_assets.demo.place import FOLDER
    from incident_assets.sync.terminal import format_table

    if kind is None or kind not in TROUBLES:
        rows = [(name, trouble.breaks) for name, trouble in TROUBLES.items()]
        click.echo(format_table(("kind", "what breaks"), rows), err=kind is not None)
        return 0 if kind is None else 2
    told = ask_for(FOLDER, kind, seconds)
    click.echo(told or "No demo is running here: start `make demo-ui` first.", err=told is None)
    return 0 if told else 2


@demo.command(context_settings={"show_default": True})
@click.option("--port", default=8099, help="0 picks a free one.")
@click.option("--incidents", default=1000, help="How many there are.")
@click.option("--seed", default=1, help="Another one makes another account.")
@click.option("--latency-ms", default=0.0, help="How long each answer waits.")
@click.option("--rate-limit/--no-rate-limit", default=True, help="Answer 429 beyond the limits.")
@click.option("--key", default="demo-key", help="The only key that is let in.")
@click.option("--prefix", default="", help="Path in front of every endpoint.")
@click.option(
    "--calendar",
    type=click.Choice(["before", "now", "2027"]),
    default="now",
    help="Whose paths there are: those of August 2026, both versions, or 2027, some gone.",
)
@click.option(
    "--gone",
    type=click.Choice(["404", "410", "redirect", "empty"]),
    default="404",
    help="What paths that are gone answer in 2027.",
)
def serve(incidents: int, seed: int, port: int, **options: Any) -> int:
    """Serve the bundled API alone, for pointing anything at it, until interrupted."""
    from incident_assets.demo.serve import serve_alone

    return serve_alone(incidents, seed, port, **options)


def _read_env_file() -> None:
    from dotenv import load_dotenv

    # As Dagster does: a .env in the working directory beats the shell.
    load_dotenv(".env", override=True)


def _read_settings() -> Settings:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("incident_assets").setLevel(logging.INFO)
    _read_env_file()
    return read_settings()


def _refuse(error: Exception) -> int:
    click.echo(error, err=True)
    return 2


def main() -> NoReturn:
    """Run the command and end the process: 0 done, 1 something failed, 2 bad input.

    After a signal it is 128 and its number: 130 for Ctrl-C, 143 for SIGTERM.
    """
    os.umask(0o077)  # what any of it writes, and any process that it starts, is for its owner alone
    received = [signal.SIGINT]

    def interrupt(number: int, _: object) -> NoReturn:
        received.append(signal.Signals(number))
        context = click.get_current_context(silent=True)
        if context and context.command is sync:
            # DuckDB may lose an interrupt. What is cut off here is as safe as after a kill.
            hard_end = threading.Timer(PATIENCE, os._exit, [128 + number])
            hard_end.daemon = True
            hard_end.start()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        code = command.main(prog_name="incident-assets", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 128 + received[-1]
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing is open any more; taking a quarter of a million objects apart would only take time.
    os._exit(code or 0)


if __name__ == "__main__":
    main()
