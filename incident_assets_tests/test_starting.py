"""One project under one name, and a quiet one: whatever starts Dagster, as real processes.

What the commands do is in `test_commands`; here is what several of them have in common.
"""

import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from incident_assets.demo.server import DemoApi
from incident_assets.demo.ui import _find_free_port
from incident_assets.folder import FILES
from incident_assets_tests.pages import ROOT
from incident_assets_tests.processes import BIN, ask, start, wait_for

NAME = "incident_assets"
SCHEDULE = "sync_reference_schedule"
REPOSITORY = {"repositoryLocationName": NAME, "repositoryName": "__repository__"}


class Listener:
    """Listens where Dagster would post its telemetry."""

    def __init__(self) -> None:
        self.posts = posts = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posts.append(self.path)
                self.send_response(200)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    listener = Listener()
    url = f"http://127.0.0.1:{listener.server.server_port}/actions"
    monkeypatch.setenv("DAGSTER_TELEMETRY_URL", url)
    yield listener
    listener.server.shutdown()
    listener.server.server_close()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a checkout whose folder is called something else."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / NAME).symlink_to(ROOT / NAME)
    (folder / ".venv").symlink_to(BIN.parent)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def read_recipe(target: str) -> str:
    """Return what `make` runs for a target, with what it exports; a test may not set up .venv."""
    makefile = (ROOT / "Makefile").read_text()
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found
    exports = re.findall(rf"^{target}: (export .*)", makefile, re.MULTILINE)
    text = "\n".join([*exports, *(line.strip("\t@") for line in found[1].splitlines())])
    for name, value in {
        ":=": "=",
        " =": "=",
        "= ": "=",
        "$(BIN)": str(BIN),
        "$(DAY)": "10",
    }.items():
        text = text.replace(name, value)
    return text.replace("$(CURDIR)", '"$PWD"')


def read_commands() -> list[str]:
    """Return the README's blocks of shell commands that run Dagster, but no UI."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [x for x in blocks if ".venv/bin/d" in x]


def name_locations(url: str) -> list[str]:
    query = "{ workspaceOrError { ... on Workspace { locationEntries { name } } } }"
    return [entry["name"] for entry in ask(url, query)["locationEntries"]]


def count_runs(url: str) -> dict[str, int]:
    """Return how many runs the UI shows of each job."""
    query = """query($of: RepositorySelector!) { repositoryOrError(repositorySelector: $of) {
        ... on Repository { pipelines { name runs { runId } } } } }"""
    jobs = ask(url, query, of=REPOSITORY)["pipelines"]
    return {job["name"]: len(job["runs"]) for job in jobs}


def switch_on(url: str) -> None:
    query = """mutation($of: ScheduleSelector!) { startSchedule(scheduleSelector: $of) {
        __typename } }"""
    answer = ask(url, query, of=REPOSITORY | {"scheduleName": SCHEDULE})
    assert answer["__typename"] == "ScheduleStateResult"


def is_on(url: str) -> bool:
    query = """query($of: ScheduleSelector!) { scheduleOrError(scheduleSelector: $of) {
        ... on Schedule { scheduleState { status } } } }"""
    found = ask(url, query, of=REPOSITORY | {"scheduleName": SCHEDULE})
    return bool(found["scheduleState"]["status"] == "RUNNING")


def build_package(folder: Path) -> Path:
    """Build a wheel and unpack it; return the folder that stands for site-packages."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", *FILES):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / NAME, source / NAME, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=source, check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.mark.slow
def test_one_name_everywhere_and_nobody_is_told(
    checkout: Path, api: DemoApi, listener: Listener, tmp_path: Path
) -> None:
    (block,) = read_commands()
    quick = block.replace("-j sync_all", "-j check_freshness")
    done = subprocess.run(["sh", "-ec", quick], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    home = f"DAGSTER_HOME='{checkout}'"
    port, other = _find_free_port(), _find_free_port()
    url, elsewhere = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}"
    with ExitStack() as stack:
        run = stack.enter_context
        ui = run(start(f"{read_recipe('ui')} -p {port}"))
        # What `dagster dev` asks and shows, without its daemon.
        run(start(f"{home} {BIN}/dagster-webserver -w workspace.yaml -p {other}"))
        demo = run(start(read_recipe("demo-ui")))
        assert ui.stdout and demo.stdout
        installed = build_package(tmp_path)
        (share,) = installed.glob("*.data/data/share/incident_assets")
        for name in FILES:
            assert (share / name).read_text() == (ROOT / name).read_text()
        wait_for(url)
        assert name_locations(url) == [NAME]
        assert count_runs(url)["check_freshness"] == 1
        switch_on(url)
        wait_for(elsewhere)
        assert name_locations(elsewhere) == [NAME] and is_on(elsewhere)
        lines = [demo.stdout.readline(), demo.stdout.readline()]
        found = re.search(r"http://\S+", lines[1])
        assert found and name_locations(found[0]) == [NAME], lines
        assert is_on(found[0])  # the demo's are, by a setting
    screen = ui.stdout.read().splitlines()
    assert len(screen) == 1 and "http://127.0.0.1:3000" in screen[0], screen
    assert not listener.posts
    assert not list(tmp_path.rglob("event.log"))  # where Dagster gathers what the next UI posts
