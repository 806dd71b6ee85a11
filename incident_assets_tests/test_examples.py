"""The examples of README and docs, run as they stand there on a database like the demo's.

Commands that start Dagster, make or a server have tests of their own (`test_commands`); that they
exist is in `test_map`, and README's new resource is run in `defs/test_endpoints`.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.models.catalog import read_models
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import KEY, NAMES, read_rows, run_command
from incident_assets_tests.killing import read_database
from incident_assets_tests.modelling import build_all
from incident_assets_tests.pages import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES = (ROOT / "docs/tables.md").read_text()
LINKS = re.findall(r"^ +(\w+) \}o--(o\||\|\|) (\w+) : (\w+)$", TABLES, re.MULTILINE)


@pytest.fixture(scope="module")
def built_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the demo's account, with every model."""
    path = tmp_path_factory.mktemp("built") / "incidents.duckdb"
    with DemoApi(generate_account(400), key=KEY) as api, pytest.MonkeyPatch.context() as patched:
        patched.setenv("INCIDENT_API_KEY", KEY)
        run_sync(Settings(base_url=api.url, duckdb_path=str(path)), NAMES)
    build_all(path)
    return path


def find_blocks(language: str, but: str = "") -> Iterator[str]:
    for page in (page for page in PAGES if page.name != but):
        yield from re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def find_explained() -> Iterator[str]:
    """Yield each command line of `explain` on the pages, from between backticks and from blocks."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for found in re.findall(r"incident-assets (explain(?: mart_[^`\n]*)?)", text):
            yield " ".join(found.split())


def name_command(example: str) -> str:
    """Return an example that calls the command of this environment."""
    return example.replace("incident-assets ", f"{sys.executable} -W ignore -m incident_assets ")


# Those of a lake need one.
@pytest.mark.parametrize("query", find_blocks("sql", but="lake.md"))
def test_a_query_of_the_docs_finds_something(query: str, built_database: Path) -> None:
    with duckdb.connect(str(built_database), read_only=True) as connection:
        assert connection.execute(query).fetchall()


def test_the_readmes_asset_of_ones_own_is_built(
    loaded: Settings, execute: Callable[..., Any]
) -> None:
    (example,) = (block for block in find_blocks("python") if "leavers" in block)
    names: dict[str, Any] = {}
    exec(example, names)
    leavers = dg.AssetSelection.assets(["mine", "leavers"])
    assert leavers.resolve(names["defs"].resolve_asset_graph())
    assert execute(select=leavers, assets=[names["leavers"]]).success
    assert read_rows("SELECT count(*) AS n FROM mine.leavers WHERE NOT is_active")[0]["n"]


def test_a_database_is_moved_to_the_format_of_the_docs(loaded: Settings) -> None:
    (example,) = (block for block in find_blocks("sh") if "before.duckdb" in block)
    command = example.replace(".venv/bin/python", sys.executable)
    with duckdb.connect(str(loaded.database)) as connection:
        connection.execute("CREATE SCHEMA mine; CREATE TABLE mine.notes AS SELECT 'x' AS text")
    build_all(loaded.database)
    before = read_database()
    subprocess.run(["sh", "-ec", command], check=True)
    assert read_database() == before
    assert not any(outcome.failure for outcome in run_sync(loaded, NAMES))
    comment = "SELECT comment FROM duckdb_tables() WHERE table_name = 'dim_user'"
    assert read_rows(comment)[0]["comment"] == read_models()["dim_user"].texts.table


def test_a_backup_is_made_and_restored_as_in_the_docs(loaded: Settings) -> None:
    (example,) = (block for block in find_blocks("sh") if "export backups" in block)
    subprocess.run(["sh", "-ec", name_command(example)], check=True)
    assert read_database("data/restored.duckdb") == read_database()


def test_there_are_ten_questions() -> None:
    assert TABLES.partition("## Ten questions")[2].count("```sql") == 10


@pytest.mark.parametrize("line", sorted({*find_explained()}))
def test_a_figure_of_the_docs_is_explained_on_the_demo(line: str, built_database: Path) -> None:
    demo = Path("data/demo/incidents.duckdb")
    demo.parent.mkdir(parents=True, mode=0o700)
    shutil.copy(built_database, demo)
    result = run_command("incident_assets", *shlex.split(line))
    assert result.returncode == 0, result.stderr
    asks = len(line.split()) > 2
    assert asks == ("so this is the demo's" in result.stderr)
    assert asks or "mart_incident_weekly  --week, --severity" in result.stdout


def test_a_database_of_ones_own_is_explained_and_not_the_demos(built_database: Path) -> None:
    for path in ("data/demo/incidents.duckdb", "data/incidents.duckdb"):
        Path(path).parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    shutil.copy(built_database, "data/demo/incidents.duckdb")
    figure = ("explain", "mart_time_in_status_recent", "stays", "--category", "live")
    elsewhere = {"INCIDENT_DUCKDB_PATH": "data/mine.duckdb"}
    result = run_command("incident_assets", *figure, environment=elsewhere)
    assert result.returncode == 2 and "there is no database data/mine.duckdb" in result.stderr
    shutil.copy(built_database, "data/incidents.duckdb")
    result = run_command("incident_assets", *figure)
    assert result.returncode == 0 and result.stderr == ""


def test_the_figures_of_a_mart_are_listed_with_their_meanings() -> None:
    result = run_command("incident_assets", "explain", "mart_responder_load")
    assert "minutes_late      Of that in late hours, in minutes" in result.stdout


@pytest.mark.parametrize(("table", "how", "other", "column"), LINKS)
def test_a_line_of_the_picture_leads_to_a_row(
    table: str, how: str, other: str, column: str, built_database: Path
) -> None:
    (key,) = read_models()[other].grain
    with duckdb.connect(str(built_database), read_only=True) as connection:
        rows, empty, lost = connection.execute(
            f"SELECT count(*), count(*) - count(t.{column}), count(t.{column}) - count(o.{key}) "
            f"FROM incident_analytics.{table} AS t "
            f"LEFT JOIN incident_analytics.{other} AS o ON t.{column} = o.{key}"
        ).fetchall()[0]
    assert rows > empty and lost == 0 and (how == "o|" or not empty)


def test_the_picture_has_every_table_that_another_one_names() -> None:
    drawn = {name for link in LINKS for name in (link[0], link[2])}
    models = {name for name in read_models() if not name.startswith("mart_")}
    assert models - drawn == {"dim_moment", "dim_workflow"}
