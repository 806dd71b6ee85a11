"""What rows were, as of any moment: versions, why they ended, and for which time they are kept."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from incident_assets.api.endpoints import find_endpoint
from incident_assets.demo.account import generate_account
from incident_assets.demo.faults import Fault, status
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync import stages
from incident_assets.sync.run import run_sync
from incident_assets.sync.stages import Sync
from incident_assets.warehouse import tidying
from incident_assets_tests.conftest import KEY, publish, read_rows

Load = Callable[..., dict[str, Any]]
INSTANT = timedelta(microseconds=1)
KINDS = "edit remove return refresh held fail field version killed cut".split()
PLAYED = ["follow_ups", "incidents", "severities"]


@pytest.fixture
def load(settings: Settings) -> Load:
    """Sync severities, or what is named; outcomes by resource. Other arguments are settings."""

    def run(
        *names: str, changes: bool = False, full_refresh: bool = False, **changed: Any
    ) -> dict[str, Any]:
        wanted = Settings(**vars(settings) | changed)
        names = names or ("severities",)
        outcomes = run_sync(wanted, names, changes, full_refresh, accept_loss=names)
        return {outcome.resource: outcome for outcome in outcomes}

    return run


def read_history(name: str = "severities") -> list[dict[str, Any]]:
    return read_rows(f"FROM incident_history.{name} ORDER BY _valid_from, _valid_to, id")


def read_as_of(moment: object, name: str = "severities") -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(f"FROM incident_history.{name}_as_of('{moment}')")}


def find_end(name: str = "severities") -> datetime:
    """Return when the last sync of a resource ended."""
    sql = f"SELECT max(finished_at) AS at FROM incident_sync.log WHERE resource = '{name}'"
    at: datetime = read_rows(sql)[0]["at"]
    return at.astimezone(UTC)


@pytest.mark.slow
def test_what_a_row_was_is_kept_with_its_time_and_why_it_ended(api: DemoApi, load: Load) -> None:
    load()
    begun, row = find_end(), api.rows("severities")[0]
    first = row["name"]
    ends = []
    for step in (
        lambda: api.change("severities", row["id"], name="Renamed"),
        lambda: api.remove("severities", row["id"]),
        lambda: api.add("severities", row),
    ):
        step()
        load()
        ends.append(find_end())
    api.remove("severities", row["id"])
    load(full_refresh=True)
    ends.append(find_end())
    told = [(x["name"], x["_valid_from"], x["_valid_to"], x["_ended"]) for x in read_history()]
    assert told == [
        (first, begun, ends[0], "changed"),
        ("Renamed", ends[0], ends[1], "deleted"),
        ("Renamed", ends[1], ends[2], "came back"),
        (row["name"], ends[2], ends[3], "dropped"),
    ]
    assert [x["_deleted_at"] is None for x in read_history()] == [True, True, False, True]
    assert [row["id"] in read_as_of(at) for at in (begun, *ends)] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert read_as_of(begun)[row["id"]]["name"] == first
    others = list(read_as_of(ends[3]).values())
    assert others and {x["_valid_from"] for x in others} == {begun}


def test_nothing_changed_writes_no_version(api: DemoApi, load: Load) -> None:
    load()
    row = api.rows("severities")[0]["id"]
    api.change("severities", row, name="Renamed")
    load()
    for full_refresh in (False, True, False):
        load(full_refresh=full_refresh)
    assert [x["id"] for x in read_history()] == [row]


@pytest.mark.slow
def test_a_column_that_comes_or_goes_is_no_change(api: DemoApi, load: Load) -> None:
    load("follow_ups", "severities")
    begun = find_end()
    for calendar in ("before", "now", "before", "now"):
        api.turn_to(calendar)
        load("follow_ups", "severities", full_refresh=calendar == "before")
    row, seen = api.rows("severities")[0]["id"], api.rows("severities")[0]["updated_at"]
    for value in (1, None, 2):
        api.change("severities", row, brand_new=value, updated_at=seen)
        load("follow_ups", "severities")
    assert read_history() == [] == read_history("follow_ups")
    assert {x["_valid_from"] for x in read_as_of(find_end()).values()} == {begun}
    api.change("severities", row, brand_new=3, updated_at=seen)
    load("follow_ups", "severities")
    assert [(x["id"], x["brand_new"]) for x in read_history()] == [(row, "2")]


def test_a_moment_is_utc_unless_it_says_otherwise(api: DemoApi, load: Load) -> None:
    load()
    row = api.rows("severities")[0]["id"]
    api.change("severities", row, name="Renamed")
    load()
    history = "incident_history.severities"
    with duckdb.connect("data/incidents.duckdb") as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        connection.execute(f"UPDATE {history} SET _valid_from = '2026-10-01 00:00:00+00'")
        connection.execute("UPDATE incident_history._period SET since = '2026-10-01 00:00:00+00'")
        moments = {
            "'2026-10-01'": 1,
            "DATE '2026-10-01'": 1,
            "TIMESTAMP '2026-10-01 00:00:00'": 1,
            "TIMESTAMPTZ '2026-10-01 00:00:00+00'": 1,
            "'2026-10-01T02:00:00+02:00'": 1,
            "'2026-09-30 20:00:00 America/New_York'": 1,
            "'2026-10-01T01:59:59+02:00'": None,
            "'2026-09-30 23:59:59Z'": None,
            "now()": 0,
        }
        for moment, old in moments.items():
            sql = f"SELECT count(*) FROM {history}_as_of({moment}) WHERE id = ? AND name <> ?"
            if old is None:
                with pytest.raises(duckdb.Error, match="since 2026-10-01 00:00:00"):
                    connection.execute(sql, [row, "Renamed"])
            else:
                assert connection.execute(sql, [row, "Renamed"]).fetchone() == (old,), moment


@pytest.mark.slow
def test_history_that_is_off_keeps_what_was_and_goes_on_later(api: DemoApi, load: Load) -> None:
    row = api.rows("severities")[0]["id"]

    def change(name: str, **settings: Any) -> datetime:
        api.change("severities", row, name=name)
        load(**settings)
        return find_end()

    kept, last = change("first"), change("second")
    off, unseen = change("third", keep_history="off"), change("fourth", keep_history="off")
    change("fifth", keep_history="off")
    again, latest = change("sixth"), change("seventh")
    for at, name in ((kept, "first"), (last, "second"), (again, "sixth"), (latest, "seventh")):
        assert read_as_of(at)[row]["name"] == name
    for at in (off, unseen, kept - INSTANT):
        with pytest.raises(duckdb.Error, match="there is no history of severities as of"):
            read_as_of(at)
    load(keep_history="0.0000001")
    assert read_history() == []
    with pytest.raises(duckdb.Error, match="there is no history of severities as of"):
        read_as_of(again)
    assert read_as_of(find_end())[row]["name"] == "seventh"


def test_without_history_there_is_none(api: DemoApi, load: Load) -> None:
    row = api.rows("severities")[0]["id"]
    for name in ("first", "second"):
        api.change("severities", row, name=name)
        load(keep_history="off")
    assert read_history() == []
    with pytest.raises(duckdb.Error, match="UTC: none is kept"):
        read_as_of(find_end())
    load()
    begun = find_end()
    api.change("severities", row, name="third")
    load()
    assert [x["name"] for x in read_history()] == ["second"]
    assert read_as_of(begun)[row]["name"] == "second"


def test_history_reaches_readers_of_the_copy(api: DemoApi, load: Load, settings: Settings) -> None:
    load()
    begun, row = find_end(), api.rows("severities")[0]
    name = row["name"]
    api.change("severities", row["id"], name="Renamed")
    load()
    publish(settings)
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{settings.published_copy}' AS copy (READ_ONLY); USE copy")
        sql = "SELECT name FROM incident_history.severities_as_of(?) WHERE id = ?"
        assert connection.execute(sql, [begun, row["id"]]).fetchall() == [(name,)]


def test_versions_are_in_order_though_the_clock_goes_back(
    api: DemoApi, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    later = find_end() + timedelta(days=1)
    with duckdb.connect("data/incidents.duckdb") as connection:
        connection.execute("UPDATE incident_sync.log SET finished_at = ?", [later])
        connection.execute("UPDATE incident_api.severities SET _valid_from = ?", [later])
    api.change("severities", api.rows("severities")[0]["id"], name="Renamed")
    load()
    (version,) = read_history()
    assert version["_valid_from"] == later < version["_valid_to"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "is_killed"), [(False, False), (True, False), (True, True), (False, True)]
)
def test_what_the_account_scrubs_is_in_no_version(
    api: DemoApi,
    load: Load,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    changes: bool,
    is_killed: bool,
) -> None:
    load("incidents", "incident_updates")
    incident = api.rows("incidents")[0]["id"]
    update, other = (api.add("incident_updates", incident_id=incident) for _ in range(2))
    secret, update = "the-name-of-a-patient", update["id"]
    for message in (f"{secret} one", f"{secret} two"):
        api.change("incident_updates", update, message=message)
        api.change("incident_updates", other["id"], message=message.replace(secret, "kept"))
        load("incident_updates")
    publish(settings)
    assert secret.encode() in settings.published_copy.read_bytes()
    api.change("incident_updates", update, message=None)
    api.change("incidents", incident)  # or nobody would ask for its updates
    if is_killed:
        with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
            dying.setattr(Sync, "conclude", _die)
            load("incident_updates")
    load("incidents", "incident_updates", changes=changes)
    assert {x["message"] for x in read_history("incident_updates") if x["id"] == update} == {None}
    kept = [x["message"] for x in read_history("incident_updates") if x["id"] == other["id"]]
    assert kept == ["kept one"]
    for file in settings.database.parent.iterdir():
        assert secret.encode() not in file.read_bytes(), file


class _Play:
    """An account, its database, and what each sync that ended has left of each table."""

    def __init__(self, api: DemoApi, folder: Path):
        self.api = api
        self.settings = Settings(
            base_url=api.url, duckdb_path=str(folder / "data" / "incidents.duckdb"), backoff=0.001
        )
        self.gone: dict[str, list[Any]] = {name: [] for name in PLAYED}
        self.left: dict[str, list[tuple[datetime, list[Any]]]] = {name: [] for name in PLAYED}
        self.calendar = 0

    def step(self, kind: str, number: int, changes: bool) -> None:
        name = PLAYED[number % 3]
        rows, options = self.api.rows(name), {}
        row = rows[number % len(rows)]
        if kind in ("edit", "killed", "cut"):
            self.api.change(name, row["id"], updated_at=self._tell_time(), name=f"{kind} {number}")
        elif kind == "remove" and len(rows) > 3:
            self.gone[name].append(row)
            self.api.remove(name, row["id"])
        elif kind == "return" and self.gone[name]:
            self.api.add(name, self.gone[name].pop())
        elif kind == "refresh":
            options["full_refresh"] = True
        elif kind == "held":
            options["accept_loss"] = ()
            self.gone[name] += rows[1:]
            for one in rows[1:]:
                self.api.remove(name, one["id"])
        elif kind == "fail":
            self.api.inject(Fault(status(403), resource=name))
        elif kind == "field":
            self.api.change(name, row["id"], unheard_of=number % 4 or None)
        elif kind == "version":
            self.calendar += 1
            self.api.turn_to(("now", "before")[self.calendar % 2])
        with pytest.MonkeyPatch.context() as dying:
            if kind == "killed":  # after dlt has written, before the sync concludes
                dying.setattr(Sync, "conclude", _die)
            elif kind == "cut":  # before dlt has written
                dying.setattr(stages, "build_source", _die)
            self.sync(dying=kind in ("killed", "cut"), changes=changes, **options)
        if kind == "held":
            for one in self.gone[name][-len(rows) + 1 :]:
                self.api.add(name, one)
                self.gone[name].remove(one)
        self.api.heal()

    def sync(self, dying: bool = False, **options: Any) -> None:
        options = {"accept_loss": PLAYED} | options
        if dying:
            with pytest.raises(KeyboardInterrupt):
                run_sync(self.settings, PLAYED, **options)
            return
        run_sync(self.settings, PLAYED, **options)
        ((at,),) = self.read("SELECT max(finished_at) FROM incident_sync.log")
        for name in PLAYED:
            self.left[name].append((at, self.read_live(name, f"incident_api.{name}")))

    def read_live(self, name: str, source: str) -> list[Any]:
        """Return rows as far as every version of the API speaks of them."""
        endpoint = find_endpoint(name)
        lacking = {column for way in endpoint.ways for column in way.lacks}
        columns = [f'"{x.name}"' for x in endpoint.columns if x.name not in lacking]
        live = "_deleted_at IS NULL"
        return self.read(f"SELECT {', '.join(columns)} FROM {source} WHERE {live} ORDER BY id")

    def compare(self) -> None:
        for name in PLAYED:
            ends = [*[at for at, _ in self.left[name]][1:], None]
            for (at, rows), end in zip(self.left[name], ends, strict=True):
                for moment in (at, end - INSTANT if end else datetime.now(UTC)):
                    as_of = f"incident_history.{name}_as_of('{moment.isoformat()}')"
                    assert self.read_live(name, as_of) == rows, (name, moment)
            before = self.left[name][0][0] - INSTANT
            with pytest.raises(duckdb.Error, match="there is no history"):
                self.read(f"FROM incident_history.{name}_as_of('{before.isoformat()}')")
            doubled = "SELECT id FROM incident_history.{} WHERE _valid_to <= _valid_from"
            assert self.read(doubled.format(name)) == []

    def read(self, sql: str) -> list[Any]:
        with duckdb.connect(str(self.settings.database), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def _tell_time(self) -> str:
        return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def play_and_compare(steps: list[tuple[str, int, bool]], folder: Path) -> None:
    with (
        DemoApi(generate_account(5), key=KEY) as api,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("INCIDENT_API_KEY", KEY)
        patched.setattr(tidying, "FEW", 1)
        play = _Play(api, folder)
        play.sync()
        for kind, number, changes in steps:
            play.step(kind, number, changes)
        with duckdb.connect(str(play.settings.database), read_only=True):  # opened once for all
            play.compare()
        play.settings.database.unlink()


STEP = st.tuples(st.sampled_from(KINDS), st.integers(0, 99), st.booleans())
PLAYING: Any = {
    "deadline": None,
    "phases": [Phase.generate],
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@pytest.mark.parametrize("first", ["edit", "remove", "held", "version", "killed"])
@given(data=st.data())
@hypothesis_settings(max_examples=5, **PLAYING)  # the long form below plays 200
def test_any_sequence_leaves_each_moment_as_it_was(
    tmp_path: Path, first: str, data: st.DataObject
) -> None:
    steps = data.draw(st.lists(STEP, min_size=1, max_size=5))
    play_and_compare([(first, 0, False), *steps], tmp_path)


@pytest.mark.long
@given(steps=st.lists(STEP, min_size=2, max_size=6))
@hypothesis_settings(max_examples=200, **PLAYING)
def test_any_of_many_sequences_leaves_each_moment_as_it_was(
    tmp_path: Path, steps: list[tuple[str, int, bool]]
) -> None:
    play_and_compare(steps, tmp_path)
