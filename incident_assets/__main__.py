"""`python -m incident_assets`: sync without Dagster, or say whether an account is ready."""

import argparse
import logging
import os
import sys

from dotenv import load_dotenv

from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.settings import SettingError, Settings, read_settings
from incident_assets.sync.terminal import format_outcomes, format_table


def main() -> int:
    """Parse arguments, run, and return the exit code: 0 done, 1 something failed, 2 bad input."""
    names = [endpoint.name for endpoint in ENDPOINTS]
    parser = argparse.ArgumentParser(prog="python -m incident_assets", description=__doc__)
    parser.add_argument("--select", nargs="+", choices=names, default=names, metavar="RESOURCE")
    parser.add_argument("--listing", choices=("full", "changes"), default="full")
    parser.add_argument("--full-refresh", action="store_true", help="build the tables anew")
    parser.add_argument("--check", action="store_true", help="load nothing, say what is ready")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("incident_assets").setLevel(logging.INFO)
    # As Dagster does: a .env in the working directory beats the shell.
    load_dotenv(".env", override=True)
    try:
        settings = read_settings()
        return _check(settings) if arguments.check else _sync(settings, arguments)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2


def _check(settings: Settings) -> int:
    from incident_assets.sync.readiness import examine

    findings = list(examine(settings))
    rows = [("ok" if x.ready else "NO", x.subject, x.detail) for x in findings]
    print(format_table(("", "subject", "finding"), rows))
    return 0 if all(finding.ready for finding in findings) else 1


def _sync(settings: Settings, arguments: argparse.Namespace) -> int:
    from incident_assets.sync.progress import log_progress, show_bars
    from incident_assets.sync.run import run_sync
    from incident_assets.warehouse.file import DatabaseError

    try:
        outcomes = run_sync(
            settings,
            arguments.select,
            changes=arguments.listing == "changes",
            full_refresh=arguments.full_refresh,
            watch=show_bars if sys.stderr.isatty() else log_progress,
        )
    except DatabaseError as error:
        print(error, file=sys.stderr)
        return 2
    print(format_outcomes(outcomes))
    return 1 if any(outcome.failure for outcome in outcomes) else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing is open any more; taking a quarter of a million objects apart would only take time.
    os._exit(code)
