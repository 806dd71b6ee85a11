"""The small account's figures, worked out by hand from what `incident_assets_tests.golden` says."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from incident_assets_tests.golden import NOW
from incident_assets_tests.modelling import read_model

W40 = date(2026, 9, 28)
W41 = date(2026, 10, 5)


def spread(name: str, count: int, *figures: float | None) -> dict[str, Any]:
    """Return the expected columns of a duration: count, mean, median, p90, negative."""
    names = ("mean", "median", "p90", "negative")
    values = figures or (None, None, None, 0)
    return {
        f"{name}_incidents": count,
        **{f"{name}_{n}": v for n, v in zip(names, values, strict=True)},
    }


def test_incidents_per_week(golden: Path) -> None:
    assert read_model("mart_incident_weekly", golden) == {
        (W40, "S2"): {
            "week": W40,
            "severity_id": "S2",
            "severity": "Major",
            "severity_rank": 2,
            "incidents": 3,  # A, B, C
            **spread("mttd", 1, 1800, 1800, 1800, 0),
            **spread("mtta", 3, 240, 300, 540, 1),  # -180, 300, 600
            **spread("mttm", 2, 2700, 2700, 3900, 0),  # 1200, 4200
            **spread("mttr", 2, 3900, 3900, 4140, 0),  # 3600, 4200
        },
        (W40, "S1"): {
            "week": W40,
            "severity_id": "S1",
            "severity": "Minor",
            "severity_rank": 1,
            "incidents": 1,  # D
            **spread("mttd", 0),
            **spread("mtta", 0),
            **spread("mttm", 0),
            **spread("mttr", 1, 7200, 7200, 7200, 0),
        },
        (W41, ""): {
            "week": W41,
            "severity_id": "",
            "severity": "None yet",
            "severity_rank": None,
            "incidents": 1,  # E
            **spread("mttd", 0),
            **spread("mtta", 0),
            **spread("mttm", 0),
            **spread("mttr", 0),
        },
    }


def test_incidents_of_four_weeks(golden: Path) -> None:
    four = {
        **spread("mttd", 1, 1800, 1800, 1800, 0),
        **spread("mtta", 3, 240, 300, 540, 1),  # -180, 300, 600
        **spread("mttm", 2, 2700, 2700, 3900, 0),  # 1200, 4200
        **spread("mttr", 3, 5000, 4200, 6600, 0),  # 3600, 4200, 7200
    }
    alone = {"mttd_week_median": 1800, "mtta_week_median": 300}
    alone |= {"mttm_week_median": 2700, "mttr_week_median": 4200}
    # A to D are of W40, E is of W41, and the mart was built in W43.
    assert read_model("mart_incident_trend", golden) == {
        (W40,): {"week": W40, "incidents": 4, **four, **alone},
        **{
            (week,): {"week": week, "incidents": 5, **four, **dict.fromkeys(alone)}
            for week in (W41, date(2026, 10, 12), date(2026, 10, 19))
        },
    }


def test_time_in_status(golden: Path) -> None:
    september, october = date(2026, 9, 1), date(2026, 10, 1)
    names = ("stays", "seconds_mean", "seconds_median", "seconds_p90")
    names += ("incidents", "reopened", "reopen_rate")
    expected = {
        (september, "triage"): (2, 450, 450, 570, 2, 0, None),  # 300, 600
        (september, "live"): (2, 4050, 4050, 4890, 2, 0, None),  # 3000, 5100
        (october, "learning"): (1, 259_200, 259_200, 259_200, 2, 0, 0),  # A left it, D stays
        (october, "closed"): (1, 212_400, 212_400, 212_400, 2, 1, 0.5),  # B left it, A stays
        (october, "live"): (1, 21_600, 21_600, 21_600, 2, 0, None),  # B left it, C stays
    }
    rows = read_model("mart_time_in_status", golden)
    assert {key: tuple(row[n] for n in names) for key, row in rows.items()} == expected


def test_time_in_status_of_six_months(golden: Path) -> None:
    names = ("stays", "seconds_mean", "seconds_median", "seconds_p90")
    names += ("incidents", "reopened", "reopen_rate", "since", "as_of")
    expected = {
        ("triage",): (2, 450, 450, 570, 2, 0, None),  # 300, 600
        ("live",): (3, 9900, 5100, 18_300, 3, 0, None),  # 3000, 5100, 21600; B counts once
        ("learning",): (1, 259_200, 259_200, 259_200, 2, 0, 0),
        ("closed",): (1, 212_400, 212_400, 212_400, 2, 1, 0.5),
    }
    rows = read_model("mart_time_in_status_recent", golden)
    assert {key: tuple(row[n] for n in names) for key, row in rows.items()} == {
        key: (*row, date(2026, 5, 1), NOW) for key, row in expected.items()
    }


def test_responder_load(golden: Path) -> None:
    names = ("user_name", "incidents", "lead_assignments", "minutes_total", "minutes_working")
    names += ("minutes_late", "minutes_sleeping")
    expected = {
        (W40, "ada"): ("Ada", 2, 2, 110, 90, 15, 5),  # A, and half of B
        (W40, "ben"): ("Ben", 2, 1, 50, 50, 0, 0),  # half of B
        (W40, "gone"): (None, 1, 1, 0, 0, 0, 0),  # C
    }
    rows = read_model("mart_responder_load", golden)
    assert {key: tuple(row[n] for n in names) for key, row in rows.items()} == expected


def test_follow_up_ageing(golden: Path) -> None:
    day = 86_400
    names = ("priority_rank", "age_bucket_order", "open", "completed", "open_age_median")
    names += ("open_age_p90", "completed_age_median", "completed_age_p90")
    names += ("sla_days", "open_over_sla", "completed_over_sla", "as_of")
    ten, eight, old = 10 * day, 8 * day, 111 * day
    expected = {
        ("Urgent", "0-7 d"): (0, 1, 2, 0, 3 * day, 397_440, None, None, 7, 0, 0, NOW),  # 1, 5
        ("Urgent", "8-30 d"): (0, 2, 1, 1, ten, ten, eight, eight, 7, 1, 1, NOW),
        ("No priority", "91+ d"): (None, 4, 1, 0, old, old, None, None, None, 0, 0, NOW),
    }
    rows = read_model("mart_follow_up_ageing", golden)
    assert {key: tuple(row[n] for n in names) for key, row in rows.items()} == expected


def test_incidents_say_what_is_missing_or_negative(golden: Path) -> None:
    rows = read_model("fct_incident", golden)
    assert set(rows) == {(name,) for name in "ABCDEFGHI"}
    assert {name for (name,), row in rows.items() if row["is_counted"]} == set("ABCDE")
    assert [name for (name,), row in rows.items() if row["mtta_negative"]] == ["C"]
    b, c, d = rows["B",], rows["C",], rows["D",]
    assert (b["mttd_missing"], b["mtta_missing"], b["mttm_missing"]) == (True, False, True)
    assert b["acknowledged_at"] == datetime(2026, 9, 29, 12, 10, tzinfo=UTC)
    assert (b["lead_id"], b["leads"]) == ("ada", 2)
    assert c["mttr_missing"] and c["mttm_seconds"] == 1200
    assert d["week"] == W40 and d["mtta_missing"] and d["lead_id"] is None
    assert d["out_of_triage_at"] and d["acknowledged_at"] is None


def test_a_follow_up_takes_time_only_when_it_is_completed(golden: Path) -> None:
    rows = read_model("fct_follow_up", golden)
    assert {key: row["seconds"] for (key,), row in rows.items() if row["seconds"] is not None} == {
        "3": 8 * 86_400
    }
    assert rows["9",]["completed_at"]


def test_moments_without_a_timestamp_are_named(golden: Path) -> None:
    rows = read_model("dim_moment", golden)
    assert rows["fixed",] == {
        "moment": "fixed",
        "usual_name": "Fixed",
        "timestamp_id": "T-Fixed",
        "name": "Fixed",
        "is_missing": False,
    }
    missing = {moment for (moment,), row in rows.items() if row["is_missing"]}
    assert missing == {"declined", "merged", "canceled", "documented", "reviewed", "closed"}
