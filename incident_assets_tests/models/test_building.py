"""Building: what a model survives, how settings reach it, and that a table is replaced at once."""

import dataclasses
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from incident_assets.api.categories import CATEGORIES, Category
from incident_assets.api.endpoints import ENDPOINTS, LOADER_COLUMNS
from incident_assets.api.rows import is_column_name
from incident_assets.models.building import build_model, find_missing
from incident_assets.models.catalog import Model, read_models
from incident_assets.models.mapped import check_moments, check_priorities
from incident_assets.models.mappings import define_categories
from incident_assets.settings import Settings
from incident_assets.values import SettingError
from incident_assets_tests.modelling import build_all, read_model

# Each stands once in each JSON column of each table.
MALFORMED: tuple[Any, ...] = (
    None,
    7,
    -1.5e300,
    True,
    "text",
    "",
    "\x00\u2028\x1b[31m",
    [],
    {},
    [None],
    [[]],
    [7, "text", None, {}],
    {"id": 7, "name": {"id": None}, "rank": "high", "category": ["live"]},
    {"id": None, "user": "ada"},
    [{"incident_timestamp": {"id": "T"}, "value": {"value": "infinity"}}],
    [{"incident_timestamp": {"id": "T"}, "value": {"value": "yesterday"}}],
    [{"incident_timestamp": "T", "value": "2026-01-01T00:00:00Z"}],
    [{"incident_timestamp": {"id": "T"}, "value": {"value": "2026-01-01T00:00:00Z"}}] * 2,
    [{"role": {"id": "R", "role_type": "lead"}, "assignee": [1]}, {"role": None}],
    [{"custom_field": {"id": "F"}, "values": {"value_numeric": "1e999"}}],
    [{"custom_field": {"id": "F"}, "values": [{"value_numeric": "many"}, None, 7]}],
    [{"start_at": "never", "end_at": 7, "user": "ada"}],
    [{"status": "success", "value_seconds": "long", "duration_metric": 7}],
)


def execute(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_new_fields_named_like_anything_in_the_sql_change_nothing(raw: Path) -> None:
    today = date(2026, 11, 1)
    build_all(raw, today)
    before = {name: read_model(name, raw) for name in read_models()}
    words = {w for model in read_models().values() for w in re.findall(r"\w+", model.sql)}
    for endpoint in ENDPOINTS:
        taken = {column.name for column in (*endpoint.columns, *LOADER_COLUMNS)}
        fields = ", ".join(f"'[7]'::JSON AS \"{w}\"" for w in words - taken if is_column_name(w))
        table = f"incident_api.{endpoint.name}"
        execute(raw, f"CREATE OR REPLACE TABLE {table} AS SELECT *, {fields} FROM {table}")
    build_all(raw, today)
    assert {name: read_model(name, raw) for name in read_models()} == before


def test_malformed_values_do_no_harm(raw: Path) -> None:
    with duckdb.connect(str(raw)) as connection:
        for endpoint in ENDPOINTS:
            for column in endpoint.columns:
                if column.type != "json":
                    continue
                ids = connection.execute(f"SELECT id FROM incident_api.{endpoint.name}").fetchall()
                values = [json.dumps(value) for value in MALFORMED]
                connection.executemany(
                    f'UPDATE incident_api.{endpoint.name} SET "{column.name}" = ? WHERE id = ?',
                    [[value, row[0]] for value, row in zip(values, ids, strict=False)],
                )
    built = build_all(raw)
    assert [name for name, one in built.items() if not one.grain.passed] == []
    assert built["fct_incident"].rows == 60 and built["mart_incident_weekly"].rows > 0


def test_of_a_custom_field_that_is_listed_twice_the_last_entry_counts(raw: Path) -> None:
    entries = [
        {"custom_field": {"id": field}, "values": [{"value_text": text} for text in texts]}
        for field, texts in (("F", "abc"), ("G", "d"), ("F", "ef"), ("H", "g"), ("H", ""))
    ]
    with duckdb.connect(str(raw)) as connection:
        connection.execute(
            "UPDATE incident_api.incidents SET custom_field_entries = "
            "CASE WHEN id = (SELECT min(id) FROM incident_api.incidents) THEN ?::JSON END",
            [json.dumps(entries)],
        )
    assert build_all(raw)["fct_incident_custom_field"].grain.passed
    found = read_model("fct_incident_custom_field", raw)
    assert {key[1:]: row["value"] for key, row in found.items()} == {
        ("F", 1): "e",
        ("F", 2): "f",
        ("G", 1): "d",
    }


def test_a_role_that_is_named_in_two_ways_is_held_once(raw: Path) -> None:
    held = [
        {"role": {"id": "R", "name": name, "role_type": "lead"}, "assignee": {"id": "U"}}
        for name in ("Lead", "Incident lead")
    ]
    execute(
        raw, f"UPDATE incident_api.incidents SET incident_role_assignments = '{json.dumps(held)}'"
    )
    assert build_all(raw)["fct_role_assignment"].grain.passed
    roles = read_model("fct_role_assignment", raw).values()
    assert {row["role"] for row in roles} == {"Incident lead"} and len(roles) == 60


def test_of_shifts_of_a_user_that_begin_at_once_the_longest_is_told(raw: Path) -> None:
    days = ((3, 4), (1, 3), (1, 2))
    shifts = [
        {"start_at": f"2026-01-0{start}T00:00:00Z", "end_at": f"2026-01-0{end}T00:00:00Z"}
        | {"rotation_id": "R", "user": {"id": "U"}, "layer_id": "of the API of before"}
        for start, end in days
    ]
    execute(raw, f"UPDATE incident_api.schedules SET next_shifts = '{json.dumps(shifts)}'")
    assert build_all(raw)["fct_on_call_shift"].grain.passed
    rows = read_model("fct_on_call_shift", raw)
    found = {(k[2].day, r["end_at"].day) for k, r in rows.items() if r["period"] == "next"}
    assert found == {(1, 3), (3, 4)}
    assert "layer_id" not in next(iter(rows.values()))


def test_names_are_only_ever_text(raw: Path) -> None:
    names = ("<script>alert(1)</script>", "![](http://example.com/x)", "'; DROP TABLE x; --")
    for name in names:
        execute(
            raw,
            f"UPDATE incident_api.incidents SET name = '{name.replace(chr(39), chr(39) * 2)}'",
        )
        build_all(raw)
        assert {row["name"] for row in read_model("fct_incident", raw).values()} == {name}


def test_an_empty_account_has_empty_models(raw: Path) -> None:
    execute(raw, *(f"DELETE FROM incident_api.{endpoint.name}" for endpoint in ENDPOINTS))
    mapped = {"timestamps": "fixed=Mitigated", "statuses": "Watching=closed"}
    built = build_all(raw, follow_up_sla="Urgent=7", **mapped)
    assert {name: one.rows for name, one in built.items()} == dict.fromkeys(read_models(), 0)


def test_the_same_rows_give_the_same_digits_in_any_order(raw: Path) -> None:
    today = date(2030, 1, 1)
    build_all(raw, today)
    before = {name: read_model(name, raw) for name in read_models()}
    for endpoint in ENDPOINTS:
        table = f"incident_api.{endpoint.name}"
        reverse = f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {table} ORDER BY id DESC"
        execute(raw, reverse)
    build_all(raw, today)
    assert {name: read_model(name, raw) for name in read_models()} == before


def test_rows_deleted_upstream_are_left_out(raw: Path) -> None:
    execute(raw, *(f"UPDATE incident_api.{e.name} SET _deleted_at = now()" for e in ENDPOINTS))
    assert {one.rows for one in build_all(raw).values()} == {0}


def test_renamed_timestamps_are_found_by_name_or_id(raw: Path) -> None:
    build_all(raw)
    before = read_model("mart_incident_weekly", raw)
    execute(
        raw,
        "UPDATE incident_api.incident_timestamps SET name = 'Noticed' WHERE name = 'Reported'",
        "UPDATE incident_api.incident_timestamps SET name = 'Mitigated' WHERE name = 'Fixed'",
    )
    build_all(raw)
    blind = read_model("fct_incident", raw).values()
    assert not [row for row in blind if row["reported_at"] or row["fixed_at"]]
    with duckdb.connect(str(raw)) as connection:
        query = "SELECT id FROM incident_api.incident_timestamps WHERE name = 'Mitigated'"
        ((identifier,),) = connection.execute(query).fetchall()
    build_all(raw, timestamps=f"reported = noticed, Fixed={identifier}")
    assert read_model("mart_incident_weekly", raw) == before


@pytest.mark.parametrize("suffix", [" at", " At ", "_at"])
def test_timestamps_are_found_under_their_usual_names_with_at(raw: Path, suffix: str) -> None:
    build_all(raw)
    before = read_model("fct_incident", raw)
    name = f"name || '{suffix}'"
    if suffix == "_at":
        name = f"replace({name}, ' ', '_')"
    execute(raw, f"UPDATE incident_api.incident_timestamps SET name = {name}")
    build_all(raw)
    assert read_model("fct_incident", raw) == before
    assert not any(row["is_missing"] for row in read_model("dim_moment", raw).values())


def test_of_two_usual_names_the_plain_one_counts(raw: Path) -> None:
    execute(
        raw,
        "UPDATE incident_api.incident_timestamps SET name = 'Fixed at' WHERE name = 'Identified'",
        "UPDATE incident_api.incident_timestamps SET name = 'Cancelled at' WHERE name = 'Canceled'",
    )
    build_all(raw)
    moments = read_model("dim_moment", raw)
    assert (moments["fixed",]["name"], moments["canceled",]["name"]) == ("Fixed", "Cancelled at")
    assert moments["identified",]["timestamp_id"] is None


@pytest.mark.fault(
    "no timestamp of the account stands for a moment of incidents",
    "`incident-assets check`, the check `moments` and the report name it, and INCIDENT_TIMESTAMPS",
    "every other moment",
)
def test_a_moment_without_a_timestamp_is_named_until_it_is_said_to_be_none(raw: Path) -> None:
    execute(raw, "UPDATE incident_api.incident_timestamps SET name = 'Done' WHERE name = 'Fixed'")
    build_all(raw)
    with duckdb.connect(str(raw)) as connection:
        finding = check_moments(connection, Settings())
    assert not finding.passed and finding.severity == "warning"
    assert finding.samples == {"moments without a timestamp": ["fixed"]}
    assert "stands for Fixed, so" in finding.description
    assert "INCIDENT_TIMESTAMPS (fixed=" in finding.description
    for timestamps in ("fixed=none", "Fixed at=Done"):
        build_all(raw, timestamps=timestamps)
        with duckdb.connect(str(raw)) as connection:
            assert check_moments(connection, Settings()).passed
        fixed = [r for r in read_model("fct_incident", raw).values() if r["fixed_at"]]
        assert bool(fixed) == ("Done" in timestamps)


def test_a_limit_for_a_priority_that_nobody_has_is_named(raw: Path) -> None:
    for limits, unknown in (("urgent=7", []), ("Urgent=7,Hihg=14", ["Hihg"])):
        build_all(raw, follow_up_sla=limits)
        with duckdb.connect(str(raw)) as connection:
            finding = check_priorities(connection, Settings(follow_up_sla=limits))
        assert [*finding.samples.values()] == [unknown] * bool(unknown)
        assert finding.passed == (not unknown)
    assert "INCIDENT_FOLLOW_UP_SLA" in finding.description and "'Hihg'" in finding.description


def test_a_timestamp_can_stand_for_two_moments(raw: Path) -> None:
    build_all(raw, timestamps="fixed=Resolved")
    for row in read_model("fct_incident", raw).values():
        assert row["fixed_at"] == row["resolved_at"]


def test_a_status_can_be_put_into_another_category(raw: Path) -> None:
    build_all(raw, statuses="monitoring=closed")
    for model in ("fct_status_transition", "fct_incident"):
        found = {
            row["category"]
            for row in read_model(model, raw).values()
            if row["status"] == "Monitoring"
        }
        assert found <= {"closed"}
    statuses = {row["name"]: row for row in read_model("dim_status", raw).values()}
    assert (statuses["Monitoring"]["category"], statuses["Monitoring"]["api_category"]) == (
        "closed",
        "live",
    )
    assert not statuses["Fixing"]["is_mapped"]


def test_the_sql_knows_of_a_category_what_the_table_of_categories_says() -> None:
    with duckdb.connect() as connection:
        define_categories(connection)
        for flag, usual in Category._field_defaults.items():
            names = ", ".join(f"{flag}('{category.name}')" for category in CATEGORIES)
            found = connection.execute(f"SELECT {names}, {flag}('new'), {flag}(NULL)").fetchone()
            assert found == (*(getattr(c, flag) for c in CATEGORIES), usual, None)


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({"timestamps": "mended=Fixed"}, ("INCIDENT_TIMESTAMPS", "'mended'", "fixed, documented")),
        ({"timestamps": "fixed=Mended"}, ("INCIDENT_TIMESTAMPS", "'Mended'", "Fixed (01H")),
        ({"timestamps": "fixed"}, ("INCIDENT_TIMESTAMPS", "'fixed'", "accepted=")),
        ({"statuses": "Fixing=done"}, ("INCIDENT_STATUSES", "'done'", "triage, live")),
        ({"statuses": "Watching=closed"}, ("INCIDENT_STATUSES", "'Watching'", "Monitoring (01H")),
        ({"follow_up_sla": "Urgent=soon"}, ("INCIDENT_FOLLOW_UP_SLA", "'soon'", "days")),
        ({"follow_up_sla": "Urgent=-1"}, ("INCIDENT_FOLLOW_UP_SLA", "'-1'", "days")),
    ],
)
def test_a_wrong_mapping_is_one_clear_error(
    settings: dict[str, str], texts: tuple[str, ...], raw: Path
) -> None:
    with pytest.raises(SettingError) as caught:
        build_all(raw, **settings)
    assert all(text in str(caught.value) for text in texts) and "\n" not in str(caught.value)


def replace_sql(name: str, sql: str) -> Model:
    return dataclasses.replace(read_models()[name], sql=sql)


def test_a_build_that_fails_leaves_the_old_table(raw: Path) -> None:
    build_all(raw)
    before = read_model("dim_severity", raw)
    sql = read_models()["dim_severity"].sql.replace("name,", "error('half way') AS name,")
    with duckdb.connect(str(raw)) as connection, pytest.raises(duckdb.Error, match="half way"):
        build_model(connection, replace_sql("dim_severity", sql), Settings())
    assert read_model("dim_severity", raw) == before


def test_a_reader_sees_the_old_table_until_all_of_the_new_one_is_there(raw: Path) -> None:
    build_all(raw)
    seen = []
    with duckdb.connect(str(raw)) as connection:
        reader = connection.cursor()

        def look(name: str) -> str:
            # Called by the database in the middle of the build.
            query = "SELECT count(*) FROM incident_analytics.dim_severity WHERE name <> 'new'"
            seen.extend(reader.execute(query).fetchall())
            return "new"

        connection.create_function("look", look)
        sql = read_models()["dim_severity"].sql.replace("    name,", "    look(name) AS name,")
        assert build_model(connection, replace_sql("dim_severity", sql), Settings()).grain.passed
    assert set(seen) == {(5,)}
    assert {row["name"] for row in read_model("dim_severity", raw).values()} == {"new"}


def test_a_key_that_is_there_twice_or_empty_undoes_the_build(raw: Path) -> None:
    # So that no model is empty.
    execute(
        raw,
        """INSERT INTO incident_history.incidents BY NAME
        SELECT * REPLACE ('{"id": "other"}' AS severity), now() AS _valid_to, 'changed' AS _ended
        FROM incident_api.incidents""",
    )
    execute(raw, "UPDATE incident_api.incidents SET _valid_from = now()")
    build_all(raw)
    for name, model in read_models().items():
        before = read_model(name, raw)
        table = f"incident_analytics.{name}"
        empty = ", ".join(f"NULL AS {column}" for column in model.grain)
        for sql in (
            f"SELECT * FROM {table} UNION ALL (SELECT * FROM {table} LIMIT 1)",
            f"SELECT * REPLACE ({empty}) FROM {table} LIMIT 1",
        ):
            with duckdb.connect(str(raw)) as connection:
                grain = build_model(connection, replace_sql(name, sql), Settings()).grain
            assert (grain.passed, grain.severity) == (False, "error"), name
            assert grain.counts == {"broken keys": 1}
        assert read_model(name, raw) == before


def test_tables_that_were_never_selected_are_named(raw: Path) -> None:
    execute(raw, "DROP TABLE incident_api.incident_updates")
    with duckdb.connect(str(raw)) as connection:
        missing = find_missing(connection, read_models()["fct_status_transition"])
    assert missing == ["incident_analytics.dim_status", "incident_api.incident_updates"]
