"""The commands of the README, run as their users run them."""

import ast
import os
import pkgutil
import pty
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from incident_assets.__main__ import main
from incident_assets.demo.load import PHASES, QUESTIONS
from incident_assets.demo.server import DemoApi
from incident_assets.folder import FILES
from incident_assets_tests.conftest import KEY, NAMES, run_command
from incident_assets_tests.pages import PAGES, ROOT


def run_on_a_terminal(*command: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and all that it wrote there."""
    terminal, end = pty.openpty()
    with subprocess.Popen(command, env=os.environ | environment, stdout=end, stderr=end) as process:
        os.close(end)
        written = b""
        with suppress(OSError):  # Linux's way of saying that nobody writes any more
            while read := os.read(terminal, 4096):
                written += read
    os.close(terminal)
    return process.returncode, written.decode()


@pytest.mark.slow
def test_the_demo_ignores_the_users_settings_and_runs_twice(tmp_path: Path) -> None:
    dead = {"INCIDENT_API_BASE_URL": "https://dead.invalid"}
    Path(".env").write_text(
        "INCIDENT_API_BASE_URL=https://dead.invalid\nINCIDENT_DUCKDB_PATH=mine.duckdb\n"
    )
    piped = run_command("incident_assets", "demo", environment=dead)
    assert piped.returncode == 0, piped.stdout + piped.stderr
    command = (sys.executable, "-W", "ignore", "-m", "incident_assets", "demo")
    code, shown = run_on_a_terminal(*command, environment=dead)
    assert code == 0, shown
    for output in (piped.stdout, shown):
        assert all(re.search(rf"\d/4  {phase} .*\d s\r?\n", output) for phase in PHASES), output
        assert all(f"\n{question}" in output for question in QUESTIONS)
        assert "data/demo/incidents.report.html" in output
    lines = piped.stdout.splitlines()
    assert "\r" not in piped.stdout and len(lines) < 40
    assert len({*lines} - {""}) == sum(map(bool, lines)), "a line is said twice"
    assert shown.count("\n") < 60 and "docs/tables.md" in shown
    explain = re.search(r"explain (mart_\w+ \w+ --week \S+)", shown)
    assert explain is not None
    figure = run_command("incident_assets", "explain", *explain[1].split())
    assert figure.returncode == 2, figure.stdout  # the user's own database is asked, by .env
    Path(".env").unlink()
    figure = run_command("incident_assets", "explain", *explain[1].split())
    assert figure.returncode == 0, figure.stderr
    assert not Path("mine.duckdb").exists()
    with duckdb.connect("data/demo/incidents.duckdb", read_only=True) as connection:
        for name in NAMES:
            rows, ids = connection.execute(
                f"SELECT count(*), count(DISTINCT id) FROM incident_api.{name}"
            ).fetchall()[0]
            assert rows == ids > 0
        for sql in QUESTIONS.values():
            assert "incident_api." not in sql
            for row in connection.execute(sql).fetchall():
                assert str(row[0]) in piped.stdout and str(row[0]) in shown
    with dg.DagsterInstance.from_config("data/demo/dagster_home") as instance:
        for run in instance.get_runs():
            assert run.tags[".dagster/repository"] == "__repository__@incident_assets"


@pytest.mark.slow
def test_check_says_what_is_ready(api: DemoApi) -> None:
    result = run_command("incident_assets", "check")
    assert result.returncode == 0, result.stdout
    assert api.account.identity["name"] in result.stdout and "INCIDENT_API_KEY" in result.stdout
    assert not Path("data").exists()
    assert "warning" not in result.stdout and "each has its timestamp" in result.stdout
    fixed = next(row for row in api.rows("incident_timestamps") if row["name"] == "Fixed")
    api.change("incident_timestamps", fixed["id"], name="Mitigated")
    result = run_command("incident_assets", "check")
    assert result.returncode == 0, result.stdout
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("warning"))
    assert "stands for Fixed" in line and "INCIDENT_TIMESTAMPS (fixed=" in line
    mapped = {"INCIDENT_TIMESTAMPS": "fixed=Mended"}
    result = run_command("incident_assets", "check", environment=mapped)
    assert result.returncode == 1 and "Mitigated (01H" in result.stdout
    api.forbid("workflows")
    result = run_command("incident_assets", "check")
    assert result.returncode == 1 and "workflows.view" in result.stdout
    assert KEY not in result.stdout + result.stderr


def test_the_source_syncs_alone_and_reads_env_files(api: DemoApi) -> None:
    Path(".env").write_text(f"INCIDENT_API_BASE_URL={api.url}\nINCIDENT_API_KEY={KEY}\n")
    result = run_command(
        "incident_assets",
        "sync",
        "--select",
        "users",
        environment={"INCIDENT_API_BASE_URL": "https://dead.invalid"},
    )
    assert result.returncode == 0, result.stderr
    assert {request.resource for request in api.requests} == {None, "users"}


@pytest.mark.parametrize(
    "arguments",
    [[], *([x] for x in ("sync", "check", "export", "demo")), ["demo", "serve"], ["demo", "ui"]],
)
def test_help_names_what_there_is_and_waits_for_no_library(arguments: list[str]) -> None:
    code = (
        "import sys; from incident_assets.__main__ import command\n"
        f"command.main({[*arguments, '--help']}, 'incident-assets', standalone_mode=False)\n"
        "print({'dlt', 'duckdb', 'dagster'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"Usage: {' '.join(['incident-assets', *arguments])}" in result.stdout
    assert result.stdout.endswith("set()\n")


def test_each_key_of_a_mart_is_an_option() -> None:
    shown = run_command("incident_assets", "explain", "--help").stdout
    for name in ("week", "severity", "month", "category", "user", "priority", "age-bucket"):
        assert f"--{name} " in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sync"], "INCIDENT_API_BASE_URL is not set"),
        (["sync", "--select", "users,nothing"], "no 'nothing'; the resources are actions"),
        (["sync", "--listing", "some"], "full"),
        (["explain", "mart_nothing"], "there are mart_follow_up_ageing"),
        (["nothing"], "No such command"),
    ],
)
def test_bad_input_is_said_without_a_traceback(arguments: list[str], said: str) -> None:
    result = run_command("incident_assets", *arguments)
    assert result.returncode == 2
    assert said in result.stderr and "Traceback" not in result.stderr


def test_the_installed_command_is_this_one() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert pkgutil.resolve_name(project["scripts"]["incident-assets"]) is main


def test_the_bundled_api_is_served_alone_until_interrupted() -> None:
    serve = [sys.executable, "-m", "incident_assets", "demo", "serve", "--incidents", "5"]
    with subprocess.Popen([*serve, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(
            r"INCIDENT_API_BASE_URL=(\S+) INCIDENT_API_KEY=(\S+)\)", process.stdout.readline()
        )
        assert found is not None
        settings = {"INCIDENT_API_BASE_URL": found[1], "INCIDENT_API_KEY": found[2]}
        result = run_command("incident_assets", "check", environment=settings)
        taken = subprocess.run([*serve, "--port", found[1].rpartition(":")[2]])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert result.returncode == 0, result.stdout
    assert taken.returncode == 2


def test_no_telemetry_and_no_home_is_written(api: DemoApi) -> None:
    assert run_command("incident_assets", "sync", "--select", "users").returncode == 0
    assert not list(Path(os.environ["HOME"]).rglob("*"))


@pytest.mark.parametrize("file", ["workspace.yaml", "Makefile", "setup.py", "LICENSE"])
def test_what_a_clone_needs_is_there(file: str) -> None:
    assert (Path(__file__).parents[1] / file).stat().st_size


def test_every_module_says_what_belongs_there() -> None:
    root = Path(__file__).parents[1]
    for path in root.glob("incident_assets*/**/*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_lock_files_name_no_address() -> None:
    for path in (Path(__file__).parents[1] / "locks").glob("*.txt"):
        assert "://" not in path.read_text()


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_what_the_code_says(page: str) -> None:
    assert (ROOT / page).read_text() == PAGES[page](), "run python -m incident_assets_tests.pages"


def test_init_writes_what_a_folder_needs_and_replaces_nothing(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    result = run_command("incident_assets", "init", str(place))
    assert result.returncode == 0 and result.stdout.count(": written") == len(FILES), result.stdout
    assert {path.name for path in place.iterdir()} == {*FILES.values()}
    assert (place / ".env").read_text() == (ROOT / ".env.example").read_text()
    assert [path.stat().st_mode & 0o077 for path in (place, place / ".env")] == [0, 0]
    (place / ".env").write_text("INCIDENT_API_KEY=mine\n")
    (place / "dagster.yaml").unlink()
    result = run_command("incident_assets", "init", str(place))
    assert result.stdout.count(": written") == 1 and result.stdout.count("there already") == 2
    assert (place / ".env").read_text() == "INCIDENT_API_KEY=mine\n"
    assert (place / "dagster.yaml").exists()
    result = run_command("incident_assets", "init", str(place / ".env" / "below"))
    assert result.returncode == 2 and str(place / ".env" / "below") in result.stderr
