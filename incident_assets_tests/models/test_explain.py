"""Explaining a figure: the rows behind it give the same figure, and name the fields of the API."""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

import duckdb
import pytest

from incident_assets.models.catalog import read_models
from incident_assets.models.explain import Unknown, explain, list_figures, list_marts
from incident_assets_tests.conftest import run_command
from incident_assets_tests.modelling import build_all, make_near, other_models, read_model
from incident_assets_tests.models.test_independent import find_p90

RANK = "incidents.severity.rank"
WEEK = {"week": "2026-W40", "severity_id": "major"}


def work_out(metric: str, rows: list[dict[str, Any]]) -> float | None:
    """Return a figure, by plain Python, from the rows that are listed for it."""
    for statistic, summarise in (("mean", fmean), ("median", median), ("p90", find_p90)):
        if metric.endswith(statistic):
            values = [v for row in rows for name, v in row.items() if name.endswith("seconds")]
            return summarise(values) if values else None
    if metric.startswith("minutes_"):
        return sum(row[metric.removeprefix("minutes_")] for row in rows)
    if metric == "lead_assignments":
        return sum(row[metric] for row in rows)
    reopened = len({row["incident_id"] for row in rows if row.get("is_reopening") == "yes"})
    if metric == "reopen_rate":
        rated = bool(rows) and rows[0]["category"] in ("closed", "learning")
        return reopened / len({row["incident_id"] for row in rows}) if rated else None
    if metric in ("incidents", "reopened"):
        return len({row["incident_id"] for row in rows})
    return len(rows)


@pytest.mark.parametrize("mart", list_marts())
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
                rows = [dict(zip(explanation.header, r, strict=True)) for r in explanation.rows]
                assert work_out(metric, rows) == make_near(row[metric]), metric
                explained += 1
    # Nothing was ever changed in this account; in test_changes, something is.
    assert explained > 15 or mart == "mart_severity_changes"


NEW_MART = """\
-- Actions by the severity of their incident.
-- Grain: severity, kind
-- Source: made up by a test.
WITH task AS (
    SELECT action_id, incident_id, status = 'completed' AS is_done, seconds
    FROM incident_analytics.fct_action
),

busy AS (SELECT DISTINCT incident_id FROM incident_analytics.fct_action),

again AS (SELECT incident_id FROM incident_analytics.fct_action GROUP BY incident_id),

kinds AS (SELECT 'done' AS kind UNION ALL SELECT 'left' AS kind),

hard AS (
    SELECT incident_id, max(coalesce(severity_rank, 0) + 1) AS weight
    FROM incident_analytics.fct_incident
    GROUP BY incident_id
)

SELECT
    coalesce(i.severity, 'None') AS severity, -- Severity
    k.kind, -- Whether it is done
    count(a.incident_id) AS actions, -- Actions
    sum(t.seconds * h.weight) / sum(h.weight) AS seconds_mean, -- Mean time, by weight
    max(t.seconds) AS longest, -- Longest time, which is one of the rows' own
    count(*) / sum(count(*)) OVER () AS share -- Share of all
FROM task AS t
INNER JOIN busy AS b ON t.incident_id = b.incident_id
INNER JOIN again AS a ON t.incident_id = a.incident_id
INNER JOIN kinds AS k ON t.is_done = (k.kind = 'done')
INNER JOIN incident_analytics.fct_incident AS i ON t.incident_id = i.incident_id
LEFT JOIN hard AS h ON i.incident_id = h.incident_id
GROUP BY ALL
HAVING count(*) > 1
"""


@pytest.fixture
def new_mart(tmp_path: Path) -> Iterator[str]:
    """A mart more among the models."""
    with other_models(tmp_path / "models") as folder:
        (folder / "mart_actions.sql").write_text(NEW_MART)
        yield "mart_actions"


def test_a_new_mart_needs_no_second_description(raw: Path, new_mart: str) -> None:
    assert list_figures(new_mart) == ["actions", "seconds_mean"]
    build_all(raw)
    marts = read_model(new_mart, raw)
    with duckdb.connect(str(raw), read_only=True) as connection:
        for (severity, kind), row in marts.items():
            chosen = {"severity": severity, "kind": kind}
            for metric in ("actions", "seconds_mean"):
                found, explanation = explain(connection, new_mart, metric, chosen)
                assert found == row and explanation.figure == make_near(row[metric])
            fields = {
                re.sub(r"\[.*\]", "[]", str(cell))
                for cells in explanation.rows
                for name, cell in zip(explanation.header, cells, strict=True)
                if name == "API field"
            }
            # What is left to do has taken no time yet, and a time that is not there no field.
            taken = {"actions[].created_at", "actions[].completed_at"}
            assert fields <= {RANK, *(taken if kind == "done" else {""})}
            assert kind == "left" or len(fields) > 1
    assert len(marts) > 3


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
            "there are mart_follow_up_ageing, mart_follow_up_flow, mart_incident_trend",
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
    command = ("incident_assets", "explain", "mart_time_in_status", "stays")
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
