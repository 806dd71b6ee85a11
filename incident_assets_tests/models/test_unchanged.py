"""A model is built when something that it reads has changed, and comes out as from nothing.

How versions of tables are noted is tested in `warehouse.test_versions`.
"""

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.models import building
from incident_assets.models.building import build_model, find_missing
from incident_assets.models.catalog import SETTING_SCHEMA, read_models
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets.sync.stages import Sync
from incident_assets.warehouse.file import open_database
from incident_assets_tests.conftest import KEY, NAMES, read_rows
from incident_assets_tests.models.test_building import replace_sql

DAY = date(2026, 11, 25)
MODELS = set(read_models())
ON_CLOCK = {
    name
    for name, model in read_models().items()
    if (SETTING_SCHEMA, "setting_clock") in model.tables
}


def build_changed(settings: Settings, today: date = DAY) -> set[str]:
    """Build what has changed, in order; return the names."""
    with open_database(settings.database, 20, "a test") as connection:
        return {
            name
            for name, model in read_models().items()
            if not find_missing(connection, model)
            and not build_model(connection, model, settings, today).is_unchanged
        }


def find_readers(*tables: str) -> set[str]:
    """Return the models that are built on raw tables, straight or through others."""
    found = {f"incident_api.{table}" for table in tables}
    for name, model in read_models().items():
        if found & {".".join(table) for table in model.tables}:
            found.add(f"incident_analytics.{name}")
    return {name.partition(".")[2] for name in found} & MODELS


@pytest.fixture
def account_settings(api: DemoApi, loaded: Settings) -> Settings:
    """The settings of a database that has been synced, and every model built."""
    assert build_changed(loaded) == MODELS
    return loaded


def test_nothing_changed_builds_nothing_and_says_so(account_settings: Settings, sync: Any) -> None:
    before = account_settings.database.read_bytes()
    assert build_changed(account_settings) == set()
    assert account_settings.database.read_bytes() == before
    sync()
    assert build_changed(account_settings) == set()


def test_one_change_builds_what_reads_its_table(
    api: DemoApi, account_settings: Settings, sync: Any
) -> None:
    api.change("severities", api.rows("severities")[0]["id"], name="Renamed")
    sync()
    assert build_changed(account_settings) == find_readers("severities") < MODELS
    api.change("follow_ups", api.rows("follow_ups")[0]["id"], title="Renamed")
    sync()
    assert build_changed(account_settings) == find_readers("follow_ups") < MODELS
    api.remove("users", api.rows("users")[0]["id"])
    sync()
    assert build_changed(account_settings) == find_readers("users") < MODELS


def test_a_new_day_builds_what_reads_the_clock(account_settings: Settings) -> None:
    assert build_changed(account_settings, date(2026, 11, 26)) == ON_CLOCK != set()
    assert build_changed(account_settings, date(2026, 11, 26)) == set()


def test_a_setting_builds_what_reads_it(account_settings: Settings) -> None:
    changed = Settings(**vars(account_settings) | {"follow_up_sla": "Urgent=1"})
    readers = {"fct_follow_up", "mart_follow_up_ageing", "mart_follow_up_flow"}
    assert build_changed(changed) == readers
    assert build_changed(changed) == set()
    elsewhere = Settings(**vars(changed) | {"time_zone": "Asia/Tokyo"})
    marts = {name for name in MODELS if name.startswith("mart_")}
    assert build_changed(elsewhere) == marts | {"fct_incident", "fct_status_transition"}
    assert build_changed(elsewhere) == set()


def test_changed_sql_builds_its_model_and_what_reads_it(account_settings: Settings) -> None:
    model = read_models()["dim_user"]
    with open_database(account_settings.database, 20, "a test") as connection:
        changed = replace_sql("dim_user", f"{model.sql}\n-- changed")
        reader = read_models()["mart_responder_load"]
        for one in (changed, reader):
            assert not build_model(connection, one, account_settings, DAY).is_unchanged
    assert build_changed(account_settings) == find_readers("users")


def test_what_another_program_did_to_a_model_is_mended(account_settings: Settings) -> None:
    with duckdb.connect(str(account_settings.database)) as connection:
        connection.execute("DELETE FROM incident_analytics.dim_user")
    assert build_changed(account_settings) == {"dim_user"}
    assert read_rows("SELECT count(*) AS n FROM incident_analytics.dim_user")[0]["n"]


def test_a_build_that_was_undone_is_tried_again(account_settings: Settings) -> None:
    broken = replace_sql("dim_severity", "SELECT NULL AS severity_id -- none")
    for _ in range(2):
        with open_database(account_settings.database, 20, "a test") as connection:
            built = build_model(connection, broken, account_settings, DAY)
        assert not built.grain.passed and not built.is_unchanged
    assert build_changed(account_settings) == set()


STEPS = st.lists(
    st.tuples(
        st.sampled_from("edit remove post sla clock sql version write killed".split()),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=6,
)


class _Play:
    """An account, its database, and what people, settings, code and kills do to them."""

    def __init__(self, api: DemoApi, settings: Settings, patched: pytest.MonkeyPatch):
        self.api, self.settings, self.patched = api, settings, patched
        self.today = DAY

    def step(self, kind: str, number: int) -> None:
        resources = ("incidents", "severities", "follow_ups", "users", "incident_statuses")
        name = resources[number % len(resources)]
        rows = self.api.rows(name)
        if kind == "edit":
            self.api.change(name, rows[number % len(rows)]["id"], name=f"Edited {number}")
        elif kind == "remove" and len(rows) > 3:
            self.api.remove(name, rows[number % len(rows)]["id"])
        elif kind == "post":
            self.api.add("incident_updates", incident_id=self.api.rows("incidents")[0]["id"])
        elif kind == "sla":
            values = vars(self.settings) | {"follow_up_sla": f"Urgent={number}"}
            self.settings = Settings(**values)
        elif kind == "clock":
            self.today = date(2026, 11, 1 + number % 28)
        elif kind == "sql":  # as another version of this code would leave a model
            self._build(
                replace_sql(
                    "dim_severity",
                    "SELECT id AS severity_id, NULL AS name, "
                    "NULL AS rank FROM incident_api.severities",
                )
            )
        elif kind == "version":
            self.patched.setattr(building, "CATEGORIES", ("another", number))
        elif kind == "write":
            self._execute(f"DELETE FROM incident_api.{name}")
        elif kind == "killed":
            self._kill(name, number)

    def _kill(self, name: str, number: int) -> None:
        """Change something and die after dlt has written, before the sync is concluded."""
        rows = self.api.rows(name)
        self.api.change(name, rows[number % len(rows)]["id"], updated_at="2026-11-24T00:00:00Z")
        with pytest.MonkeyPatch.context() as dying, pytest.raises(ZeroDivisionError):
            dying.setattr(Sync, "conclude", lambda _: 1 / 0)
            self.sync()

    def _execute(self, sql: str) -> None:
        with duckdb.connect(str(self.settings.database)) as connection:
            connection.execute(sql)

    def _build(self, model: Any) -> None:
        with open_database(self.settings.database, 20, "a test") as connection:
            build_model(connection, model, self.settings, self.today)

    def sync(self) -> None:
        run_sync(self.settings, NAMES, accept_loss=NAMES)

    def read(self) -> dict[str, list[Any]]:
        with duckdb.connect(str(self.settings.database), read_only=True) as connection:
            return {
                name: connection.execute(f"FROM incident_analytics.{name} ORDER BY ALL").fetchall()
                for name in MODELS
            }


def play_and_compare(steps: list[tuple[str, int]], folder: Path) -> None:
    """Play steps, building what has changed after each; the end is what a build from nothing is."""
    with DemoApi(generate_account(8), key=KEY) as api, pytest.MonkeyPatch.context() as patched:
        patched.setenv("INCIDENT_API_KEY", KEY)
        path = folder / "data" / "incidents.duckdb"
        play = _Play(api, Settings(base_url=api.url, duckdb_path=str(path)), patched)
        play.sync()
        build_changed(play.settings, play.today)
        for kind, number in steps:
            play.step(kind, number)
            if number % 2:
                play.sync()
            build_changed(play.settings, play.today)
        found = play.read()
        with duckdb.connect(str(path)) as connection:
            connection.execute("DROP SCHEMA incident_analytics CASCADE")
        assert build_changed(play.settings, play.today) == MODELS
        assert found == play.read()
        path.unlink()


@pytest.mark.fault(
    "between two builds anything changes a table: a sync, a setting, code, a kill, another program "
    "that adds or takes rows",
    "what reads it is built again, and what does not is left alone",
    "every model is what a build from nothing gives",
)
@given(steps=STEPS)
@hypothesis_settings(
    max_examples=2,  # the long form below plays 100
    deadline=None,
    phases=[Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_sequence_gives_the_models_of_a_build_from_nothing(
    tmp_path: Path, steps: list[tuple[str, int]]
) -> None:
    play_and_compare(steps, tmp_path)


@pytest.mark.long
@given(steps=STEPS)
@hypothesis_settings(
    max_examples=100,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_of_many_sequences_gives_the_models_of_a_build_from_nothing(
    tmp_path: Path, steps: list[tuple[str, int]]
) -> None:
    play_and_compare(steps, tmp_path)
