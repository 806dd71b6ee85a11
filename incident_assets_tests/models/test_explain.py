"""Explaining a figure: the rows behind it give the same figure, and name the fields of the API."""

from pathlib import Path

import duckdb
import pytest

from incident_assets.models.catalog import read_models
from incident_assets.models.explain import MARTS, Unknown, explain
from incident_assets_tests.conftest import run_command
from incident_assets_tests.modelling import build_all, make_near, read_model

WEEK = {"week": "2026-W40", "severity_id": "major"}


@pytest.mark.parametrize("mart", MARTS)
def test_every_figure_can_be_worked_out_again_from_its_rows(mart: str, golden: Path) -> None:
    explained = 0
    with duckdb.connect(str(golden), read_only=True) as connection:
        for row in read_model(mart, golden).values():
            chosen = {column: str(row[column]) for column in read_models()[mart].grain}
            for metric in row:
                try:
                    found, explanation = explain(connection, mart, metric, chosen)
                except Unknown:
                    assert metric in chosen or metric in {
                        *("severity", "severity_rank", "user_name", "priority_rank"),
                        *("age_bucket_order", "sla_days", "since", "as_of"),
                    }
                    continue
                assert found == row
                assert explanation.figure == make_near(row[metric]), metric
                assert all(len(r) == len(explanation.header) for r in explanation.rows)
                explained += 1
    assert explained > 15


def test_the_rows_name_the_timestamps_and_fields_that_were_used(golden: Path) -> None:
    with duckdb.connect(str(golden), read_only=True) as connection:
        _, explanation = explain(connection, "mart_incident_weekly", "mtta_mean", WEEK)
        _, resolved = explain(connection, "mart_incident_weekly", "mttr_mean", WEEK)
    field = "incidents.incident_timestamp_values[{}].value.value"
    rows = {row[0]: row[2:] for row in explanation.rows}
    assert rows["INC-A"] == (
        "2026-09-28 10:00:00Z",
        field.format("Reported"),
        "2026-09-28 10:05:00Z",
        field.format("Accepted"),
        300,
    )
    assert rows["INC-B"][2] == "2026-09-29 12:10:00Z"
    assert str(rows["INC-B"][3]).startswith("incident_updates[U")
    fields = {row[0]: (row[3], row[5]) for row in resolved.rows}
    assert fields == {
        "INC-A": (field.format("Impact started"), field.format("Fixed")),
        "INC-B": (field.format("Reported"), field.format("Resolved")),
    }


@pytest.mark.parametrize(
    ("mart", "metric", "chosen", "text"),
    [
        (
            "mart_nothing",
            "incidents",
            WEEK,
            "there are mart_follow_up_ageing, mart_incident_trend, mart_incident_weekly",
        ),
        ("mart_incident_weekly", "mttx", WEEK, "there are incidents, mttd_incidents"),
        ("mart_incident_weekly", "incidents", {"week": "2020-W01"}, "there are 2026-09-28"),
        ("mart_incident_weekly", "incidents", {"week": "soon"}, "2026-W40"),
        ("mart_incident_weekly", "incidents", {"week": "2026-W40"}, "(--severity): there are"),
        ("mart_incident_weekly", "incidents", {"category": "live"}, "--week, --severity alone"),
        ("mart_time_in_status", "stays", {"month": "13"}, "2026-10"),
    ],
)
def test_what_is_not_there_is_said_with_what_there_is(
    mart: str, metric: str, chosen: dict[str, str], text: str, golden: Path
) -> None:
    with (
        duckdb.connect(str(golden), read_only=True) as connection,
        pytest.raises(Unknown) as caught,
    ):
        explain(connection, mart, metric, chosen)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_prints_definition_sql_and_rows_in_printable_lines(raw: Path) -> None:
    command = ("incident_assets.models.explain", "mart_time_in_status", "stays")
    assert run_command(*command).returncode == 2  # no models yet
    with duckdb.connect(str(raw)) as connection:
        connection.execute("UPDATE incident_api.incidents SET reference = 'INC\x1b[31m\n<script>'")
    build_all(raw)
    (month, category), row = next(iter(read_model("mart_time_in_status", raw).items()))
    select = ("--month", f"{month:%Y-%m}", "--category", category)
    result = run_command(*command, *select)
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("mart_time_in_status", "fct_status_transition", "fct_incident"):
        assert read_models()[name].sql in result.stdout
    assert f"Worked out from them: {row['stays']}" in result.stdout
    assert "incident_updates[" in result.stdout and "\x1b" not in result.stdout
    result = run_command(*command, "--month", "2020-01")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
