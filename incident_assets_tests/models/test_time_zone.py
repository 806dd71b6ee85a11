"""INCIDENT_TIME_ZONE: whose days, weeks and months the marts count in, worked out by Python too."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

import duckdb
import pytest

from incident_assets.models.catalog import read_models
from incident_assets.models.explain import explain
from incident_assets.settings import Settings
from incident_assets.values import SettingError
from incident_assets_tests.conftest import read_rows
from incident_assets_tests.modelling import build_all, make_near, read_model

NAME = "Pacific/Auckland"  # 13 hours ahead in the southern summer, 12 in winter
ZONE = ZoneInfo(NAME)
TODAY = date(2026, 11, 25)
LIMITS = {8: "0-7 d", 31: "8-30 d", 91: "31-90 d", 9999: "91+ d"}


def test_weeks_months_and_days_are_those_of_the_zone(raw: Path) -> None:
    build_all(raw, TODAY, time_zone=NAME)
    incidents = read_model("fct_incident", raw).values()
    for row in incidents:
        day = row["started_at"].astimezone(ZONE).date()
        assert row["week"] == day - timedelta(days=day.weekday())
    days = [row["started_at"].astimezone(UTC).date() for row in incidents]
    weeks = [day - timedelta(days=day.weekday()) for day in days]
    assert weeks != [row["week"] for row in incidents]  # or nothing was shown
    for row in read_model("fct_status_transition", raw).values():
        left = (row["left_at"] or row["entered_at"]).astimezone(ZONE)
        assert row["month"] == left.date().replace(day=1)
    counted = {row["incident_id"] for row in incidents if row["is_counted"]}
    opened = Counter(
        (row["created_at"].astimezone(ZONE).date(), row["incident_id"])
        for row in read_model("fct_follow_up", raw).values()
        if row["status"] not in ("deleted", "not_doing")
    )
    told = Counter(
        (row["changed_at"].astimezone(ZONE).date(), row["incident_id"])
        for row in read_model("fct_incident_change", raw).values()
        if row["field_id"] == "severity" and row["from_id"]
    )
    for mart, of_mart, events in (
        ("mart_follow_up_flow", ["opened"], opened),
        ("mart_severity_changes", ["raised", "lowered"], told),
    ):
        weekly: Counter[date] = Counter()
        for (day, incident), count in events.items():
            weekly[day - timedelta(days=day.weekday())] += count * (incident in counted)
        found = {w: sum(row[x] for x in of_mart) for (w,), row in read_model(mart, raw).items()}
        assert +Counter(found) == +weekly != Counter(), mart
    begun = datetime.combine(TODAY, datetime.min.time(), ZONE)
    ages: dict[tuple[str, str], list[float]] = {}
    for row in read_rows(
        "SELECT coalesce(priority, 'No priority') AS p, f.created_at AS at "
        "FROM incident_analytics.fct_follow_up AS f JOIN incident_analytics.fct_incident AS i "
        "USING (incident_id) WHERE i.is_counted AND f.status = 'outstanding'",
        str(raw),
    ):
        age = max((begun - row["at"]).total_seconds(), 0)
        bucket = next(n for days, n in LIMITS.items() if age < days * 86400)
        ages.setdefault((row["p"], bucket), []).append(age)
    marts = read_model("mart_follow_up_ageing", raw)
    assert ages
    for key, some in ages.items():
        assert marts[key]["open_age_median"] == make_near(median(some))


def test_a_figure_in_another_zone_is_explained_by_its_rows(raw: Path) -> None:
    build_all(raw, TODAY, time_zone=NAME)
    settings = Settings(time_zone=NAME)
    with duckdb.connect(str(raw), read_only=True) as connection:
        for mart, metric in (
            ("mart_incident_weekly", "incidents"),
            ("mart_follow_up_ageing", "open_age_median"),
            ("mart_time_in_status", "stays"),
            ("mart_follow_up_flow", "opened"),
            ("mart_severity_changes", "raised_after_median"),
        ):
            for row in list(read_model(mart, raw).values())[:5]:
                key = {name: str(row[name]) for name in read_models()[mart].grain}
                _, explanation = explain(connection, mart, metric, key, settings)
                assert explanation.figure == make_near(row[metric])


@pytest.mark.parametrize("name", ["Berlin", "+02:00", "../UTC", "europe/berlin", "localtime"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"INCIDENT_TIME_ZONE is .* such as Europe/Berlin"):
        Settings(time_zone=name)
