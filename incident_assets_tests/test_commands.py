"""The commands of the README, run as their users run them."""

import ast
import dataclasses
import os
from pathlib import Path

import duckdb
import pytest

from incident_assets.demo.load import QUERIES
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets_tests.conftest import KEY, NAMES, run_command
from incident_assets_tests.pages import DOCS, PAGES


def test_the_demo_ignores_the_users_settings_and_runs_twice(tmp_path: Path) -> None:
    Path(".env").write_text(
        "INCIDENT_API_BASE_URL=https://dead.invalid\nINCIDENT_DUCKDB_PATH=mine.duckdb\n"
    )
    for _ in range(2):
        result = run_command(
            "incident_assets.demo.load",
            environment={"INCIDENT_API_BASE_URL": "https://dead.invalid"},
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert all(name in result.stdout for name in NAMES)
    assert not Path("mine.duckdb").exists()
    with duckdb.connect("data/demo/incidents.duckdb", read_only=True) as connection:
        for name in NAMES:
            rows, ids = connection.execute(
                f"SELECT count(*), count(DISTINCT id) FROM incident_api.{name}"
            ).fetchall()[0]
            assert rows == ids > 0
        for query in QUERIES.values():
            assert query in result.stdout
            assert connection.execute(query).fetchall()


def test_check_says_what_is_ready(api: DemoApi) -> None:
    result = run_command("incident_assets", "--check")
    assert result.returncode == 0, result.stdout
    assert api.account.identity["name"] in result.stdout and "INCIDENT_API_KEY" in result.stdout
    assert not Path("data").exists()
    api.forbid("workflows")
    result = run_command("incident_assets", "--check")
    assert result.returncode == 1 and "workflows.view" in result.stdout
    assert KEY not in result.stdout + result.stderr


def test_the_source_syncs_alone_and_reads_env_files(api: DemoApi) -> None:
    Path(".env").write_text(f"INCIDENT_API_BASE_URL={api.url}\nINCIDENT_API_KEY={KEY}\n")
    result = run_command(
        "incident_assets",
        "--select",
        "users",
        environment={"INCIDENT_API_BASE_URL": "https://dead.invalid"},
    )
    assert result.returncode == 0, result.stderr
    assert {request.resource for request in api.requests} == {None, "users"}


def test_no_telemetry_and_no_home_is_written(api: DemoApi) -> None:
    assert run_command("incident_assets", "--select", "users").returncode == 0
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


def test_the_readme_lists_every_setting() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for setting in dataclasses.fields(Settings):
        default = setting.default if setting.default != "" else ""
        cells = (setting.metadata["env"], f"{default}", setting.metadata["meaning"])
        row = "| {} | {} | {} |".format(*cells).replace("|  |", "| |")
        assert row in readme


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_what_the_code_says(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run python -m incident_assets_tests.pages"
