"""`incident-assets`, or `python -m incident_assets`: the command, its options and exit codes.

Its subcommands are in `commands/`. What they do is in the rooms, which are imported when it is
done: `--help` waits for neither dlt nor DuckDB nor Dagster (that of `explain` reads the marts).
"""

import os
import signal
import sys
import threading
from typing import NoReturn

import click

from incident_assets.commands.account import check, init, sync
from incident_assets.commands.demo import demo
from incident_assets.commands.explain import explain
from incident_assets.commands.keeping import export_, forget, import_

PATIENCE = 4.0  # seconds that an interrupted sync may take to let go of everything


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


for subcommand in (check, demo, explain, export_, forget, import_, init, sync):
    command.add_command(subcommand)


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
