"""A browser, and one Dagster with daemon and code server, for all tests of this folder.

Where no browser is, they are skipped and say so; in CI they fail.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.models.catalog import read_models
from incident_assets_tests.browser.ui import Ui
from incident_assets_tests.conftest import KEY, NAMES
from incident_assets_tests.pages import ROOT
from incident_assets_tests.processes import end_group

FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run hide-scrollbars disable-sync "
    "disable-background-networking disable-component-update lang=en"
).split()
WORKSPACE = """\
load_from:
  - python_module:
      module_name: incident_assets_tests.browser.location
      location_name: incident_assets
"""
START = 120  # seconds that Dagster may take to come up


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", action="store_true", help="write the pictures of docs/ anew")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Debian's chromium, with a profile of its own, that reaches nothing but this machine."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        missing = "needs a browser: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    home = tmp_path_factory.mktemp("browser")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={home / 'profile'}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    environment = os.environ | {"HOME": str(home), "NO_PROXY": "127.0.0.1,localhost"}
    browser = Chrome(options, ChromeService(driver, env=environment))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="session")
def ui(
    browser: Chrome, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Ui]:
    """The UI of an account that nothing has been loaded of yet, as `make ui` would show it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "dagster.yaml", folder)
    (folder / "workspace.yaml").write_text(WORKSPACE)
    pictures = pytestconfig.getoption("--pictures")
    with DemoApi(generate_account(400), key=KEY) as api, _serve(folder, api) as url:
        yield Ui(browser, url, api, folder, pictures)


@pytest.fixture(scope="session")
def loaded_ui(ui: Ui) -> Ui:
    """The UI after `Materialize all`."""
    ui.open("/asset-groups")
    assets = len(NAMES) + len(read_models()) + 3  # with the log, the copy and the report
    ui.follow(ui.launch(lambda: ui.press(f"Materialize all ({assets})")), "Success")
    return ui


@contextmanager
def _serve(folder: Path, api: DemoApi) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ours = ("INCIDENT_", "DAGSTER_", "HTTP_PROXY", "HTTPS_PROXY")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {
        "DAGSTER_HOME": str(folder),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "HOME": str(folder),
        "INCIDENT_API_BASE_URL": api.url,
        "INCIDENT_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    command = f"-m dagster dev -w workspace.yaml -h 127.0.0.1 -p {port}".split()
    log = folder / "ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that nothing of it is left where it ends without its own
        )
    try:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + START
        while not _answers(url):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        end_group(process)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=2):
            return True
    except OSError:
        return False
