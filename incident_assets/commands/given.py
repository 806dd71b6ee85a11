"""What a subcommand is given: .env, environment, and what becomes of bad input."""

import logging
import sys

import click

from incident_assets.settings import Settings, read_settings


def read_env_file() -> None:
    """Put the .env of the working directory, if there is one, over the environment."""
    from dotenv import load_dotenv

    # As Dagster does: a .env in the working directory beats the shell.
    load_dotenv(".env", override=True)


def read_given() -> Settings:
    """Return the settings of .env and environment, and let the log be seen. Raises SettingError."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("incident_assets").setLevel(logging.INFO)
    read_env_file()
    return read_settings()


def refuse(error: Exception) -> int:
    """Say what is wrong with the input; return the exit code."""
    click.echo(error, err=True)
    return 2
