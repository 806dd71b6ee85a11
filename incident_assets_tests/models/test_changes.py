"""What history answers, computed a second time from what the API said at each sync, in Python.

An account changes between syncs. Versions and macros themselves are tested with the sync.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import duckdb
import pytest

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.models.building import build_model, find_missing
from incident_assets.models.catalog import read_models
from incident_assets.models.explain import explain
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets.warehouse.file import open_database
from incident_assets.warehouse.versions import note_version
from incident_assets_tests.conftest import KEY, NAMES, read_rows
from incident_assets_tests.modelling import build_all, make_near, read_model
from incident_assets_tests.models.test_independent import is_counted, sort_updates

SEEN = ("incidents", "follow_ups", "schedules")
POSTED = "Posted by the tests"
Row = dict[str, Any]


class Told(NamedTuple):
    """When a sync ended, and what the API had then: rows by id, by resource."""

    at: datetime
    rows: dict[str, dict[str, Row]]


class Played(NamedTuple):
    """An account that has changed, its database with every model, and what each sync was told."""

    api: DemoApi
    path: Path
    told: list[Told]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    path = tmp_path_factory.mktemp("changes") / "incidents.duckdb"
    told: list[Told] = []
    with (
        DemoApi(generate_account(60), key=KEY) as api,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("INCIDENT_API_KEY", KEY)
        gone: list[Row] = []
        for step in (prepare, change, change_again):
            step(api, gone)
            outcomes = run_sync(Settings(api.url, str(path)), NAMES, accept_loss=NAMES)
            assert not any(x.failure for x in outcomes)
            sql = "SELECT max(finished_at) AS at FROM incident_sync.log"
            at = read_rows(sql, str(path))[0]["at"].astimezone(UTC)
            rows = {name: {r["id"]: deepcopy(r) for r in api.rows(name)} for name in SEEN}
            told.append(Told(at, rows))
        build_all(path, datetime.now(UTC).date())
        yield Played(api, path, told)


def prepare(api: DemoApi, _: list[Row]) -> None:
    """Before history begins, an update raises a severity, and another one while it begins."""
    low, high = find_severities(api)
    rows, updates = choose(api), sort_updates(api)
    for row in (rows[0], rows[7], rows[10]):
        api.change("incidents", row["id"], severity=low)
        for update in updates[row["id"]]:
            api.change("incident_updates", update["id"], new_severity=low)
    api.change("incident_updates", updates[rows[0]["id"]][-1]["id"], new_severity=high)
    api.change("incidents", rows[0]["id"], severity=high)
    # Posted while the first sync goes on, which has listed the incidents already.
    post(api, rows[7], high)
    post(api, rows[10], high)
    for schedule in api.rows("schedules"):
        api.change("schedules", schedule["id"], next_shifts=[make_shift("U1", 4, 11)])


def change(api: DemoApi, gone: list[Row]) -> None:
    low, high = find_severities(api)
    rows = choose(api)
    api.change("incidents", rows[0]["id"], severity=low, name="Another name")
    at = rows[1]["updated_at"]
    api.change("incidents", rows[1]["id"], severity=high, updated_at=at, summary="Edited")
    api.change("incidents", rows[2]["id"], incident_status=rows[3]["incident_status"])
    api.change("incidents", rows[3]["id"], incident_role_assignments=[])
    api.change("incidents", rows[4]["id"], custom_field_entries=[])
    seen, deleted = (x for x in api.rows("incident_updates") if x["message"] == POSTED)
    api.change("incidents", rows[7]["id"], severity=high, updated_at=seen["created_at"])
    api.remove("incident_updates", deleted["id"])
    # As the product does it: the incident changes, and an update tells of it.
    other = high if rows[8]["severity"] == low else low
    api.change("incidents", rows[8]["id"], severity=other)
    post(api, rows[8], other)
    # Taken back before a sync could see it.
    for severity in (other, rows[9]["severity"]):
        post(api, rows[9], severity)
    # What things are called is no change of the incident.
    renamed = rows[5]["severity"] | {"name": "Renamed"}
    api.change("incidents", rows[5]["id"], severity=renamed)
    gone.append(rows[6])
    api.remove("incidents", rows[6]["id"])
    users = api.rows("users")
    tasks = choose_tasks(api)
    api.change("follow_ups", tasks[0]["id"], status="completed")
    api.change("follow_ups", tasks[1]["id"], assignee=embed(users[0]))
    api.change("follow_ups", tasks[2]["id"], status="outstanding", assignee=embed(users[1]))
    kept, taken, moved = api.rows("schedules")[:3]
    api.change("schedules", kept["id"], current_shifts=[make_shift("U2", -1, 3)])
    api.change("schedules", taken["id"], next_shifts=[make_shift("U3", 5, 8)])
    api.change("schedules", moved["id"], next_shifts=[make_shift("U1", 4, 20)])


def change_again(api: DemoApi, gone: list[Row]) -> None:
    low, high = find_severities(api)
    rows = choose(api)
    api.change("incidents", rows[0]["id"], severity=high)
    api.change("incidents", rows[1]["id"], severity=low, summary="Edited again")
    api.change("incidents", rows[3]["id"], name="Twice", severity=high)
    api.add("incidents", gone[0] | {"severity": high, "name": "Is back"})
    users = api.rows("users")
    tasks = choose_tasks(api)
    api.change("follow_ups", tasks[0]["id"], status="outstanding")
    api.change("follow_ups", tasks[1]["id"], assignee=embed(users[1]))
    api.change("follow_ups", tasks[2]["id"], status="completed", assignee=embed(users[2]))
    kept = api.rows("schedules")[0]
    api.change("schedules", kept["id"], current_shifts=[], next_shifts=[make_shift(None, 1, 2)])


def post(api: DemoApi, incident: Row, severity: Row) -> None:
    fields = {"message": POSTED, "incident_id": incident["id"], "new_severity": severity}
    api.add("incident_updates", new_incident_status=incident["incident_status"], **fields)


def choose(api: DemoApi) -> list[Row]:
    """Return counted incidents that have a severity and several updates; the same ones always."""
    updates = sort_updates(api)
    return [
        row
        for row in sorted(api.rows("incidents"), key=lambda row: str(row["id"]))
        if row["mode"] == "standard" and is_counted(row) and len(updates[row["id"]]) > 1
    ]


def choose_tasks(api: DemoApi) -> list[Row]:
    counted = {row["id"] for row in choose(api)}
    rows = [row for row in api.rows("follow_ups") if row["incident_id"] in counted]
    return sorted(rows, key=lambda row: str(row["id"]))


def find_severities(api: DemoApi) -> tuple[Row, Row]:
    rows = sorted(api.rows("severities"), key=lambda row: int(row["rank"]))
    return rows[1], rows[2]


def embed(user: Row) -> Row:
    return {name: user[name] for name in ("id", "name", "email", "role") if name in user}


def make_shift(user: str | None, start: int, end: int) -> Row:
    """Return a shift by its days from today on."""
    today = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)
    times = {
        name: f"{today + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
        for name, days in (("start_at", start), ("end_at", end))
    }
    return {"rotation_id": "r1", **times} | ({"user": {"id": user}} if user else {})


def describe_incident(row: Row) -> dict[str, tuple[str, Any, Any, Any]]:
    """Return of each field its name, what is compared, its id and the value that people read."""
    severity, status = row.get("severity", {}), row["incident_status"]
    held = [
        x["assignee"]
        for x in row["incident_role_assignments"]
        if x["role"]["role_type"] == "lead" and "assignee" in x
    ]
    ids, names = (", ".join(sorted({x[k] for x in held})) or None for k in ("id", "name"))
    fields = {
        "severity": ("severity", severity.get("id"), severity.get("id"), severity.get("name")),
        "status": ("status", status["id"], status["id"], status["name"]),
        "lead": ("lead", ids, ids, names),
        "name": ("name", row["name"], None, row["name"]),
        "summary": ("summary", row.get("summary"), None, None),
    }
    for entry in row["custom_field_entries"]:
        field, keys, texts = entry["custom_field"], set(), set()
        for value in entry["values"]:
            known = value.get("value_option") or value.get("value_catalog_entry") or {}
            text = known.get("value") or known.get("name")
            plain = [value.get(f"value_{kind}") for kind in ("text", "link", "numeric")]
            texts.add(text or next(x for x in plain if x is not None))
            keys.add(known.get("id") or next((x for x in plain if x is not None), None))
        if keys:
            text, key = ", ".join(sorted(texts)), ", ".join(sorted(keys))
            fields[field["id"]] = (f"custom field {field['name']}", key, None, text)
    return fields


def walk(told: list[Told], name: str, live: set[str]) -> Iterator[tuple[Row, Row, datetime, Any]]:
    """Yield each row as it was, as it became, when a sync saw that, and when it was changed."""
    before: dict[str, Row] = {}
    for at, rows in told:
        for key, row in rows[name].items():
            was = before.get(key)
            if was is not None and was != row and key in live:
                is_moved = was.get("updated_at") != row.get("updated_at")
                yield was, row, at, datetime.fromisoformat(row["updated_at"]) if is_moved else at
        before |= rows[name]


def compute_changes(played: Played) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    live = {row["id"] for row in played.api.rows("incidents")}
    for was, row, at, changed_at in walk(played.told, "incidents", live):
        old, new = describe_incident(was), describe_incident(row)
        for field in {*old, *new}:
            name = (new.get(field) or old[field])[0]
            (_, key, ident, text), (_, key_to, ident_to, text_to) = (
                side.get(field, (None, None, None, None)) for side in (old, new)
            )
            if key != key_to:
                values = (ident, text, ident_to, text_to, changed_at, at, "history")
                rows.append((row["id"], field, name, *values))
    first = played.told[0]
    seen = {(row[0], row[1], row[5]) for row in rows}
    for incident, updates in sort_updates(played.api).items():
        for field, path in (("severity", "new_severity"), ("status", "new_incident_status")):
            last: Row = {}
            for n, update in enumerate(updates):
                if not (now := update.get(path)):
                    continue
                at = datetime.fromisoformat(update["created_at"])
                if n and now["id"] != last.get("id") and incident in live and at <= first.at:
                    listed = datetime.fromisoformat(first.rows["incidents"][incident]["updated_at"])
                    if at <= listed or (incident, field, now["id"]) not in seen:
                        values = (last.get("id"), last.get("name"), now["id"], now["name"], at)
                        rows.append((incident, field, field, *values, first.at, "updates"))
                last = now
    return rows


def sort_rows(rows: Any) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


def normalise(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def test_changes_of_incidents_are_those_between_what_syncs_were_told(played: Played) -> None:
    columns = "incident_id field_id field from_id from_value to_id to_value changed_at seen_at "
    columns += "source"
    found = read_model("fct_incident_change", played.path).values()
    rows = [tuple(normalise(row[name]) for name in columns.split()) for row in found]
    expected = compute_changes(played)
    assert sort_rows(rows) == sort_rows(expected)
    fields = {row[2].split(" ")[0] for row in rows if row[-1] == "history"}
    assert fields == {"severity", "status", "lead", "name", "summary", "custom"}
    assert {row[2] for row in rows if row[-1] == "updates"} == {"severity", "status"}


def test_shifts_accrue(played: Played) -> None:
    expected: dict[tuple[str, str, datetime], tuple[datetime, str]] = {}
    last = len(played.told) - 1
    for n, (_, rows) in enumerate(played.told):
        for schedule in rows["schedules"].values():
            for period in ("current", "next"):
                for shift in schedule[f"{period}_shifts"]:
                    start, end = (
                        datetime.fromisoformat(shift[f"{x}_at"]) for x in ("start", "end")
                    )
                    # Whatever is shown no more in a later sync, was seen to go by the next one.
                    has_begun = n == last or start <= played.told[n + 1].at
                    key = (schedule["id"], shift.get("user", {}).get("id", ""), start)
                    expected.pop(key, None)
                    if (
                        has_begun
                        or shift
                        in played.told[last].rows["schedules"][schedule["id"]][f"{period}_shifts"]
                    ):
                        expected[key] = (end, period if n == last else "past")
    found = read_model("fct_on_call_shift", played.path)
    assert {
        (s, u, normalise(at)): (normalise(row["end_at"]), row["period"])
        for (s, u, at), row in found.items()
    } == expected
    assert {row["period"] for row in found.values()} == {"past", "current", "next"}
    assert not any(user == "U3" and row["period"] == "past" for (_, user, _), row in found.items())


def find_week(at: datetime) -> date:
    day = at.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def test_severities_are_raised_and_lowered(played: Played) -> None:
    ranks = {row["id"]: row["rank"] for row in played.api.rows("severities")}
    incidents = {row["id"]: row for row in filter(is_counted, played.api.rows("incidents"))}
    weeks: dict[date, list[tuple[str, int, float]]] = {}
    for incident, field, _, was, _, now, _, at, *_ in compute_changes(played):
        if field == "severity" and was and incident in incidents:
            begun = datetime.fromisoformat(incidents[incident]["created_at"])
            step = (incident, ranks[now] - ranks[was], (at - begun).total_seconds())
            weeks.setdefault(find_week(at), []).append(step)
    expected = {}
    for week, steps in weeks.items():
        up, down = [x[2] for x in steps if x[1] > 0], [x[2] for x in steps if x[1] < 0]
        expected[week,] = {
            "week": week,
            "incidents": len({x[0] for x in steps}),
            "raised": len(up),
            "lowered": len(down),
            "raised_after_median": make_near(median(up)) if up else None,
            "lowered_after_median": make_near(median(down)) if down else None,
        }
    found = read_model("mart_severity_changes", played.path)
    assert found == expected
    assert all(sum(row[kind] for row in found.values()) > 1 for kind in ("raised", "lowered"))
    with duckdb.connect(str(played.path), read_only=True) as connection:
        for (week,), row in found.items():
            for metric in list(row)[1:]:
                _, told = explain(connection, "mart_severity_changes", metric, {"week": str(week)})
                assert told.figure == make_near(row[metric])


def test_follow_ups_flow(played: Played) -> None:
    counted = {row["id"] for row in filter(is_counted, played.api.rows("incidents"))}
    live = {
        row["id"]
        for row in played.api.rows("follow_ups")
        if row["incident_id"] in counted and row["status"] not in ("deleted", "not_doing")
    }
    events = [
        (datetime.fromisoformat(row["created_at"]), "opened")
        for row in played.api.rows("follow_ups")
        if row["id"] in live
    ]
    for key, row in played.told[0].rows["follow_ups"].items():
        if key in live and row["status"] == "completed" and "completed_at" in row:
            events.append((datetime.fromisoformat(row["completed_at"]), "done"))
    for was, row, _, at in walk(played.told, "follow_ups", live):
        statuses = (was["status"] == "completed", row["status"] == "completed")
        events += [(at, "done")] * (statuses == (False, True))
        events += [(at, "reopened")] * (statuses == (True, False))
        users = [x.get("assignee", {}).get("id") for x in (was, row)]
        events += [(at, "handed_over")] * (None not in users and users[0] != users[1])
    kinds = ("opened", "done", "reopened", "handed_over")
    expected: dict[Any, Row] = {}
    for at, kind in events:
        start = {"week": find_week(at), **dict.fromkeys(kinds, 0)}
        expected.setdefault((find_week(at),), start)[kind] += 1
    found = read_model("mart_follow_up_flow", played.path)
    assert found == expected
    assert all(sum(row[kind] for row in found.values()) for kind in kinds)


def test_a_model_of_history_is_built_again_when_there_is_more_or_less_of_it(played: Played) -> None:
    model, today = read_models()["fct_incident_change"], datetime.now(UTC).date()
    with open_database(played.path, 20, "a test") as connection:

        def is_unchanged() -> bool:
            return build_model(connection, model, Settings(), today).is_unchanged

        for table in ("incidents", "incident_updates"):
            note_version(connection, f"incident_api.{table}")
        assert [is_unchanged(), is_unchanged()] == [False, True]
        # As when versions grow too old, or are to be forgotten.
        connection.execute("DELETE FROM incident_history.incidents WHERE _ended = 'came back'")
        assert [is_unchanged(), is_unchanged()] == [False, True]
        note_version(connection, "incident_api.incidents")
        assert [is_unchanged(), is_unchanged()] == [False, True]
        connection.execute("DROP TABLE incident_history.incidents")
        assert find_missing(connection, model) == ["incident_history.incidents"]


def test_without_history_models_tell_what_the_api_tells(api: DemoApi, settings: Settings) -> None:
    row = api.rows("incidents")[0]["id"]
    for name in ("first", "second"):
        api.change("incidents", row, name=name)
        run_sync(replace(settings, keep_history="off"), NAMES)
    build_all(settings.database, datetime.now(UTC).date())
    changes = read_model("fct_incident_change", settings.database).values()
    assert {row["source"] for row in changes} == {"updates"}
    periods = {x["period"] for x in read_model("fct_on_call_shift", settings.database).values()}
    assert periods == {"current", "next"}
    assert sum(x["opened"] for x in read_model("mart_follow_up_flow", settings.database).values())
