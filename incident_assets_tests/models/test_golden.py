"""A small account whose figures are worked out by hand, in the comments beside it."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from incident_assets.demo.account import Account, Row
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.source.sync import run_sync
from incident_assets_tests.conftest import KEY, NAMES
from incident_assets_tests.modelling import build_all, read_model

NOW = datetime(2026, 10, 20, tzinfo=UTC)
W40 = date(2026, 9, 28)
W41 = date(2026, 10, 5)
MINOR = {"id": "S1", "name": "Minor", "rank": 1, "description": ""}
MAJOR = {"id": "S2", "name": "Major", "rank": 2, "description": ""}
STATUSES = {
    name: {"id": f"ST-{name}", "name": name, "category": category, "description": "", "rank": 1}
    for name, category in (
        ("Triage", "triage"),
        ("Investigating", "live"),
        ("Fixing", "live"),
        ("Documenting", "learning"),
        ("Closed", "closed"),
        ("Declined", "declined"),
        ("Canceled", "canceled"),
        ("Merged", "merged"),
    )
}
MOMENTS = ("Reported", "Accepted", "Resolved", "Impact started", "Identified", "Fixed")
LEAD = {"id": "R1", "name": "Incident lead", "role_type": "lead"}
REPORTER = {"id": "R2", "name": "Reporter", "role_type": "reporter"}
URGENT = {"id": "P1", "name": "Urgent", "rank": 0}


def fill(account: Account, resource: str, *rows: Row) -> None:
    for row in rows:
        account.rows[resource][row["id"]] = row


def incident(
    identifier: str, created: str, status: str, severity: Row | None = MAJOR, **fields: Any
) -> Row:
    moments: dict[str, str] = fields.pop("moments", {})
    people: list[tuple[Row, str]] = fields.pop("people", [])
    row: Row = {
        "id": identifier,
        "reference": f"INC-{identifier}",
        "name": f"Incident {identifier}",
        "mode": "standard",
        "visibility": "public",
        "created_at": created,
        "updated_at": created,
        "incident_status": STATUSES[status],
        "incident_timestamp_values": [
            {
                "incident_timestamp": {"id": f"T-{name}", "name": name, "rank": 1},
                **({"value": {"value": moments[name]}} if name in moments else {}),
            }
            for name in MOMENTS
        ],
        "incident_role_assignments": [
            {"role": role, "assignee": {"id": user, "name": user}} for role, user in people
        ]
        + [{"role": {**REPORTER, "id": "R3"}}],
        **fields,
    }
    return row | ({"severity": severity} if severity else {})


def update(identifier: str, at: str, status: str) -> Row:
    number = update.count = getattr(update, "count", 0) + 1  # type: ignore[attr-defined]
    return {
        "id": f"U{number:03d}",
        "incident_id": identifier,
        "created_at": at,
        "new_incident_status": STATUSES[status],
        "updater": {"user": {"id": "ada"}},
    }


def follow_up(identifier: str, of: str, created: str, **fields: Any) -> Row:
    row = {"id": identifier, "incident_id": of, "title": identifier, "status": "outstanding"}
    return {**row, "created_at": created, "updated_at": created, **fields}


def make_account() -> Account:
    account = Account()
    fill(account, "severities", MINOR, MAJOR)
    fill(account, "incident_statuses", *STATUSES.values())
    fill(account, "incident_timestamps", *({"id": f"T-{n}", "name": n, "rank": 1} for n in MOMENTS))
    fill(account, "incident_roles", LEAD, REPORTER)
    fill(account, "users", {"id": "ada", "name": "Ada"}, {"id": "ben", "name": "Ben"})
    called_off = {
        "moments": {"Reported": "2026-09-30T10:00:00Z", "Accepted": "2026-09-30T11:00:00Z"},
        "people": [(LEAD, "ada")],
        "workload_minutes_total": 1000,
    }
    fill(
        account,
        "incidents",
        # Detected after 30 min, acknowledged after 5, mitigated and resolved after 70.
        incident(
            "A",
            "2026-09-28T10:00:00Z",
            "Closed",
            moments={
                "Impact started": "2026-09-28T09:50:00Z",
                "Reported": "2026-09-28T10:00:00Z",
                "Accepted": "2026-09-28T10:05:00Z",
                "Identified": "2026-09-28T10:20:00Z",
                "Fixed": "2026-09-28T11:00:00Z",
                "Resolved": "2026-09-28T11:30:00Z",
            },
            people=[(LEAD, "ada"), (REPORTER, "ben")],
            workload_minutes_total=60,
            workload_minutes_working=40,
            workload_minutes_late=15,
            workload_minutes_sleeping=5,
        ),
        # Acknowledged by the first update out of triage (10 min), resolved after 60; two leads.
        incident(
            "B",
            "2026-09-29T12:00:00Z",
            "Closed",
            moments={"Reported": "2026-09-29T12:00:00Z", "Resolved": "2026-09-29T13:00:00Z"},
            people=[(LEAD, "ada"), (LEAD, "ben")],
            workload_minutes_total=100,
            workload_minutes_working=100,
        ),
        # The last second of the week. Acknowledged 3 min before it was reported; mitigated after
        # 20 min, but not resolved yet. Its lead is no user of the account.
        incident(
            "C",
            "2026-10-04T23:59:59.999999Z",
            "Investigating",
            moments={
                "Impact started": "2026-10-04T23:50:00Z",
                "Reported": "2026-10-04T23:59:00Z",
                "Accepted": "2026-10-04T23:56:00Z",
                "Fixed": "2026-10-05T00:10:00Z",
            },
            people=[(LEAD, "gone")],
        ),
        # Imported a week later, so it counts in the week that it was reported in.
        incident(
            "D",
            "2026-10-08T08:00:00Z",
            "Closed",
            MINOR,
            mode="retrospective",
            moments={"Reported": "2026-09-30T08:00:00Z", "Resolved": "2026-09-30T10:00:00Z"},
        ),
        # The first second of the next week, and no severity yet.
        incident("E", "2026-10-05T00:00:00Z", "Triage", None),
        # None of these counts.
        incident("F", "2026-09-30T10:00:00Z", "Closed", mode="test", **called_off),
        incident("G", "2026-09-30T10:00:00Z", "Declined", **called_off),
        incident("H", "2026-09-30T10:00:00Z", "Canceled", **called_off),
        incident("I", "2026-09-30T10:00:00Z", "Merged", **called_off),
        incident("J", "2026-09-30T10:00:00Z", "Closed", **called_off),  # deleted below
    )
    fill(
        account,
        "incident_updates",
        update("A", "2026-09-28T10:00:00Z", "Triage"),  # 300 s
        update("A", "2026-09-28T10:05:00Z", "Investigating"),  # 5,100 s
        update("A", "2026-09-28T11:30:00Z", "Documenting"),  # 3 days
        update("A", "2026-10-01T11:30:00Z", "Closed"),
        update("B", "2026-09-29T12:00:00Z", "Triage"),  # 600 s
        update("B", "2026-09-29T12:10:00Z", "Investigating"),  # 3,000 s
        update("B", "2026-09-29T12:30:00Z", "Investigating"),  # keeps the status
        update("B", "2026-09-29T13:00:00Z", "Closed"),  # 2 days and 11 hours
        update("B", "2026-10-02T00:00:00Z", "Fixing"),  # reopened; 6 hours
        update("B", "2026-10-02T06:00:00Z", "Closed"),
        update("C", "2026-10-04T23:56:00Z", "Investigating"),
        update("G", "2026-09-30T10:00:00Z", "Triage"),
        update("G", "2026-09-30T11:00:00Z", "Declined"),
        update("J", "2026-09-30T10:00:00Z", "Triage"),
        update("J", "2026-09-30T11:00:00Z", "Closed"),
    )
    done = {"status": "completed", "completed_at": "2026-10-09T00:00:00Z"}
    fill(
        account,
        "follow_ups",
        follow_up("1", "A", "2026-10-10T00:00:00Z", priority=URGENT),  # 10 days
        follow_up("2", "A", "2026-10-19T00:00:00Z", priority=URGENT),  # 1 day
        follow_up("3", "A", "2026-10-01T00:00:00Z", priority=URGENT, **done),  # took 8 days
        follow_up("4", "B", "2026-07-01T00:00:00Z"),  # 111 days
        follow_up("5", "A", "2026-10-01T00:00:00Z", status="deleted"),
        follow_up("6", "A", "2026-10-01T00:00:00Z", status="not_doing"),
        follow_up("7", "F", "2026-10-01T00:00:00Z"),
        follow_up("8", "J", "2026-10-01T00:00:00Z"),
    )
    return account


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small account, synced, one incident deleted, and every model built at NOW."""
    path = tmp_path_factory.mktemp("golden") / "incidents.duckdb"
    with DemoApi(make_account(), key=KEY) as api, pytest.MonkeyPatch.context() as patched:
        patched.setenv("INCIDENT_API_KEY", KEY)
        assert not any(x.failure for x in run_sync(Settings(api.url, str(path)), NAMES))
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE incident_api.incidents SET _deleted_at = now() WHERE id = 'J'")
    build_all(path, NOW, follow_up_sla="urgent=7")
    return path


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


def test_time_in_status(golden: Path) -> None:
    september, october = date(2026, 9, 1), date(2026, 10, 1)
    names = ("stays", "seconds_mean", "seconds_median", "seconds_p90")
    names += ("incidents", "reopened", "reopen_rate")
    expected = {
        (september, "triage"): (2, 450, 450, 570, 2, 0, None),  # 300, 600
        (september, "live"): (2, 4050, 4050, 4890, 2, 0, None),  # 3000, 5100
        (october, "learning"): (1, 259_200, 259_200, 259_200, 1, 0, 0),
        (october, "closed"): (1, 212_400, 212_400, 212_400, 2, 1, 0.5),  # B left it, A stays
        (october, "live"): (1, 21_600, 21_600, 21_600, 2, 0, None),  # B left it, C stays
    }
    rows = read_model("mart_time_in_status", golden)
    assert {key: tuple(row[n] for n in names) for key, row in rows.items()} == expected


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
        ("Urgent", "0-7 d"): (0, 1, 1, 0, day, day, None, None, 7, 0, 0, NOW),
        ("Urgent", "8-30 d"): (0, 2, 1, 1, ten, ten, eight, eight, 7, 1, 1, NOW),
        ("No priority", "91+ d"): (None, 4, 1, 0, old, old, None, None, None, 0, 0, NOW),
    }
    rows = read_model("mart_follow_up_ageing", golden)
    assert {key: tuple(row[n] for n in names) for key, row in rows.items()} == expected


def test_incidents_say_what_is_missing_or_negative(golden: Path) -> None:
    rows = read_model("fct_incident", golden)
    assert set(rows) == {(name,) for name in "ABCDEFGHI"}
    assert [name for (name,), row in rows.items() if row["is_counted"]] == list("ABCDE")
    assert [name for (name,), row in rows.items() if row["mtta_negative"]] == ["C"]
    b, c, d = rows["B",], rows["C",], rows["D",]
    assert (b["mttd_missing"], b["mtta_missing"], b["mttm_missing"]) == (True, False, True)
    assert b["acknowledged_at"] == datetime(2026, 9, 29, 12, 10, tzinfo=UTC)
    assert (b["lead_id"], b["leads"]) == ("ada", 2)
    assert c["mttr_missing"] and c["mttm_seconds"] == 1200
    assert d["week"] == W40 and d["mtta_missing"] and d["lead_id"] is None
