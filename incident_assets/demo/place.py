"""The demo's own place: its folder, environment and bundled API, apart from the user's settings.

Nothing here reads the user's .env or database, and nothing outside data/demo is written. How the
account moves on is in `life`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from incident_assets.demo.account import generate_account
from incident_assets.demo.life import Life
from incident_assets.demo.server import DemoApi
from incident_assets.warehouse.private import close_folder, make_private_folder, replace_file

FOLDER = Path("data/demo")
DATABASE = "incidents.duckdb"
STATE = "account.json"  # until when the account is generated, and the moment that it shows

INCIDENTS = 1120  # of which about 1,000 have happened when the demo begins
SPARE = timedelta(days=7)  # by which the account is behind then, to be able to go faster than time
AHEAD = timedelta(days=60)
OPEN_ENDED = timedelta(days=5)  # before the end incidents are left as they are

INSTANCE = """\
telemetry:
  enabled: false
nux:
  enabled: false
python_logs:
  managed_python_loggers: [incident_assets]
  python_log_level: {log_level}
run_coordinator:
  module: incident_assets.defs.writers
  class: QueuedWriters
concurrency:
  runs:
    tag_concurrency_limits:
      - key: incident_assets/writer
        value: queued
        limit: 1
run_monitoring:
  enabled: true
"""
# The project's own name of the code location: runs and schedules are kept under it.
WORKSPACE = """\
load_from:
  - python_module:
      module_name: incident_assets.definitions
      location_name: incident_assets
"""


def prepare_folder(folder: Path = FOLDER, log_level: str = "INFO") -> Path:
    """Make the demo's folder with a Dagster home in it; return its absolute path."""
    folder = folder.absolute()
    home = folder / "dagster_home"
    make_private_folder(home)
    for path in (home, folder):
        close_folder(path)
    close_folder(folder.parent, Path(DATABASE).stem)
    (home / "dagster.yaml").write_text(INSTANCE.format(log_level=log_level))
    (folder / "workspace.yaml").write_text(WORKSPACE)
    return folder


def build_environment(folder: Path, api: DemoApi) -> dict[str, str]:
    """Return this process's environment with every setting of ours replaced by the demo's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INCIDENT_")}
    return kept | {
        "DAGSTER_HOME": str(folder / "dagster_home"),
        "INCIDENT_API_BASE_URL": api.url,
        "INCIDENT_API_KEY": api.key,
        "INCIDENT_DUCKDB_PATH": str(folder / DATABASE),
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def serve_account(folder: Path) -> Iterator[tuple[DemoApi, Life]]:
    """Serve the demo's account on a free port until the block ends."""
    ends, at = _read_state(folder)
    life = Life(generate_account(INCIDENTS, until=ends), ends, at)
    with DemoApi(life.account, rate_limit=True) as api:
        yield api, life


def describe_account(life: Life) -> str:
    """Return how many incidents there are, and up to when."""
    incidents = len(life.account.rows["incidents"])
    return f"{incidents:,} incidents up to {life.at:%Y-%m-%d %H:%M} UTC"


def keep_state(folder: Path, ends: datetime, at: datetime) -> None:
    """Note which account it is and the moment that it shows, for the next time it is served."""
    state = json.dumps({"ends": ends.isoformat(), "at": at.isoformat()})
    replace_file(folder / STATE, lambda fresh: fresh.write_text(state))


def _read_state(folder: Path) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    with suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads((folder / STATE).read_text())
        ends, at = (datetime.fromisoformat(state[name]) for name in ("ends", "at"))
        if at <= now < ends - OPEN_ENDED:
            return ends, at
    at = now.replace(minute=0, second=0, microsecond=0) - SPARE
    keep_state(folder, at + AHEAD, at)
    return at + AHEAD, at


@contextmanager
def run_dagster(
    arguments: list[str], folder: Path, environment: dict[str, str], **options: object
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a dagster command in the demo's folder; it is stopped when the block ends."""
    command = [sys.executable, "-m", "dagster", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
