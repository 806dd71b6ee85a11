"""A small account whose figures can be worked out by hand; what they are is in the tests."""

from datetime import date
from typing import Any

from incident_assets.demo.account import Account, Item

NOW = date(2026, 10, 20)
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


def fill(account: Account, resource: str, *rows: Item) -> None:
    for row in rows:
        account.rows[resource][row["id"]] = row


def incident(
    identifier: str, created: str, status: str, severity: Item | None = MAJOR, **fields: Any
) -> Item:
    moments: dict[str, str] = fields.pop("moments", {})
    people: list[tuple[Item, str]] = fields.pop("people", [])
    row: Item = {
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


def update(identifier: str, at: str, status: str) -> Item:
    number = update.count = getattr(update, "count", 0) + 1  # type: ignore[attr-defined]
    return {
        "id": f"U{number:03d}",
        "incident_id": identifier,
        "created_at": at,
        "new_incident_status": STATUSES[status],
        "updater": {"user": {"id": "ada"}},
    }


def follow_up(identifier: str, of: str, created: str, **fields: Any) -> Item:
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
        # Imported a week later, so it counts in the week that it was reported in, and its updates
        # acknowledge nothing.
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
        update("D", "2026-10-08T08:05:00Z", "Documenting"),  # data entry
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
        # Opened again, so it is 5 days old; and one of which nobody knows when it was completed.
        follow_up(
            "9", "A", "2026-10-15T00:00:00Z", priority=URGENT, completed_at="2026-10-16T00:00:00Z"
        ),
        follow_up("10", "A", "2026-07-01T00:00:00Z", priority=URGENT, status="completed"),
    )
    return account
