"""The demo's own place: its folder, environment and bundled API, apart from the user's settings.

Nothing here reads the user's .env or database, and nothing outside data/demo is written.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.warehouse.private import close_folder, make_private_folder

FOLDER = Path("data/demo")
DATABASE = "incidents.duckdb"

INSTANCE = """\
telemetry:
  enabled: false
nux:
  enabled: false
python_logs:
  managed_python_loggers: [incident_assets]
  python_log_level: INFO
"""
# The project's own name of the code location: runs and schedules are kept under it.
WORKSPACE = """\
load_from:
  - python_module:
      module_name: incident_assets.definitions
      location_name: incident_assets
"""


def prepare_folder(folder: Path = FOLDER) -> Path:
    """Make the demo's folder with a Dagster home in it; return its absolute path."""
    folder = folder.absolute()
    home = folder / "dagster_home"
    make_private_folder(home)
    for path in (home, folder):
        close_folder(path)
    close_folder(folder.parent, Path(DATABASE).stem)
    (home / "dagster.yaml").write_text(INSTANCE)
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
def serve_account(incidents: int) -> Iterator[DemoApi]:
    """Serve the bundled account on a free port until the block ends."""
    with DemoApi(generate_account(incidents), rate_limit=True) as api:
        yield api


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
