"""Every mart on the bundled eighteen months, computed a second time from the API's JSON alone.

Plain Python, nothing of the models or the database: where the two disagree, one of them is wrong.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import KEY, NAMES
from incident_assets_tests.modelling import build_all, make_near, read_model

Mart = dict[tuple[Any, ...], dict[str, Any]]
CALLED_OFF = ("declined", "canceled", "merged")
BUCKETS = ("0-7 d", "8-30 d", "31-90 d", "91+ d")
LIMITS = {"Urgent": 7.0, "Low": 60.0}


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DemoApi, Path]]:
    """The bundled API with its thousand incidents, and a database with every model built on it."""
    path = tmp_path_factory.mktemp("bundled") / "incidents.duckdb"
    account = generate_account(1000)
    # What the bundled account never does: opened again, and completed nobody knows when.
    for row, status in zip(
        account.rows["follow_ups"].values(), ("outstanding", "completed") * 40, strict=False
    ):
        kept = {n: v for n, v in row.items() if n != "completed_at" or status == "outstanding"}
        account.rows["follow_ups"][row["id"]] = {**kept, "status": status}
    with DemoApi(account, key=KEY) as api, pytest.MonkeyPatch.context() as patched:
        patched.setenv("INCIDENT_API_KEY", KEY)
        run_sync(Settings(api.url, str(path)), NAMES)
        build_all(path, datetime.now(UTC).date(), follow_up_sla="Urgent=7,Low=60")
        yield api, path


def read_instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def read_moments(incident: dict[str, Any]) -> dict[str, datetime]:
    values = incident.get("incident_timestamp_values", [])
    return {
        value["incident_timestamp"]["name"]: datetime.fromisoformat(value["value"]["value"])
        for value in values
        if value.get("value", {}).get("value")
    }


def is_counted(incident: dict[str, Any]) -> bool:
    category = incident["incident_status"]["category"]
    return incident["mode"] in ("standard", "retrospective") and category not in CALLED_OFF


def find_week(incident: dict[str, Any]) -> date:
    moments, at = read_moments(incident), datetime.fromisoformat(incident["created_at"])
    if incident["mode"] == "retrospective":
        at = moments.get("Impact started") or moments.get("Reported") or at
    day = at.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def find_p90(values: Sequence[float]) -> float:
    ordered = sorted(values)
    whole, part = divmod(0.9 * (len(ordered) - 1), 1)
    above = ordered[min(int(whole) + 1, len(ordered) - 1)]
    return ordered[int(whole)] + part * (above - ordered[int(whole)])


def describe(values: Sequence[float]) -> list[float | None]:
    return [fmean(values), median(values), find_p90(values)] if values else [None] * 3


def sort_updates(api: DemoApi) -> dict[str, list[dict[str, Any]]]:
    updates = defaultdict(list)
    for update in api.rows("incident_updates"):
        updates[update["incident_id"]].append(update)
    for rows in updates.values():
        rows.sort(key=lambda row: (datetime.fromisoformat(row["created_at"]), row["id"]))
    return updates


def measure(incident: dict[str, Any], updates: list[dict[str, Any]]) -> dict[str, float]:
    """Return the durations of an incident in seconds, without those that have no moments."""
    at = read_moments(incident)
    began, reported = at.get("Impact started") or at.get("Reported"), at.get("Reported")
    out = next((u for u in updates if u["new_incident_status"]["category"] != "triage"), None)
    if incident["mode"] == "retrospective":
        out = None
    accepted = at.get("Accepted") or (out and datetime.fromisoformat(out["created_at"]))
    resolved = (at.get("Fixed") or at["Resolved"]) if "Resolved" in at else None
    spans = {
        "mttd": (at.get("Impact started"), at.get("Identified")),
        "mtta": (reported, accepted),
        "mttm": (began, at.get("Fixed")),
        "mttr": (began, resolved),
    }
    return {
        name: (end - start).total_seconds() for name, (start, end) in spans.items() if start and end
    }


def compute_weekly(api: DemoApi) -> Mart:
    updates, groups = sort_updates(api), defaultdict(list)
    for row in api.rows("incidents"):
        if is_counted(row):
            groups[find_week(row), row.get("severity", {}).get("id", "")].append(row)
    severities = {row["id"]: row for row in api.rows("severities")}
    mart: Mart = {}
    for (week, severity), rows in groups.items():
        known = severities.get(severity, {})
        cells = {"week": week, "severity_id": severity, "incidents": len(rows)}
        cells |= {"severity": known.get("name", "None yet"), "severity_rank": known.get("rank")}
        mart[week, severity] = cells | sum_up([measure(row, updates[row["id"]]) for row in rows])
    return mart


def sum_up(durations: list[dict[str, float]]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name in ("mttd", "mtta", "mttm", "mttr"):
        values = [found[name] for found in durations if name in found]
        cells[f"{name}_incidents"] = len(values)
        cells[f"{name}_negative"] = sum(value < 0 for value in values)
        for kind, figure in zip(("mean", "median", "p90"), describe(values), strict=True):
            cells[f"{name}_{kind}"] = figure
    return cells


def compute_trend(api: DemoApi, today: date) -> Mart:
    updates, days, mart = sort_updates(api), timedelta(days=1), Mart()
    rows = [
        (find_week(row), measure(row, updates[row["id"]]))
        for row in filter(is_counted, api.rows("incidents"))
    ]
    week = min(began for began, _ in rows)
    while week <= today:
        near = [found for began, found in rows if week - 28 * days < began <= week]
        alone = sum_up([found for began, found in rows if began == week])
        if near:
            mart[week,] = {"week": week, "incidents": len(near), **sum_up(near)}
            for name in ("mttd", "mtta", "mttm", "mttr"):
                mart[week,][f"{name}_week_median"] = alone[f"{name}_median"]
        week += 7 * days
    return mart


def compute_time_in_status(api: DemoApi, today: date | None = None) -> Mart:
    """Return the mart by month or, given the present, that of its last six months."""
    updates, groups = sort_updates(api), defaultdict(list)
    count = today.year * 12 + today.month - 6 if today else 0
    since = date(count // 12, count % 12 + 1, 1) if today else None
    for incident in filter(is_counted, api.rows("incidents")):
        rows = updates[incident["id"]]
        for row, following in zip(rows, [*rows[1:], None], strict=True):
            begun = datetime.fromisoformat(row["created_at"])
            left = following and datetime.fromisoformat(following["created_at"])
            category = row["new_incident_status"]["category"]
            month = (left or begun).astimezone(UTC).date().replace(day=1)
            then = following and following["new_incident_status"]["category"]
            seconds = left and (left - begun).total_seconds()
            period = {"month": month}
            if today and since:
                if not since <= month <= today:
                    continue
                period = {"since": since, "as_of": today}
            groups[category, *period.items()].append((incident["id"], seconds, then))
    mart: Mart = {}
    for (category, *period), stays in groups.items():
        seconds = [stay[1] for stay in stays if stay[1] is not None]
        incidents = {stay[0] for stay in stays}
        can = category in ("closed", "learning")
        reopened = {stay[0] for stay in stays if can and stay[2] == "live"}
        mean, middle, p90 = describe(seconds)
        mart[(category,) if today else (period[0][1], category)] = {
            **dict(period),
            "category": category,
            "stays": len(seconds),
            "seconds_mean": mean,
            "seconds_median": middle,
            "seconds_p90": p90,
            "incidents": len(incidents),
            "reopened": len(reopened),
            "reopen_rate": len(reopened) / len(incidents) if can else None,
        }
    return mart


def compute_load(api: DemoApi) -> Mart:
    users = {row["id"]: row["name"] for row in api.rows("users")}
    mart: Mart = {}
    for row in filter(is_counted, api.rows("incidents")):
        held = defaultdict(list)
        for assignment in row["incident_role_assignments"]:
            if "assignee" in assignment:
                held[assignment["assignee"]["id"]].append(assignment["role"]["role_type"])
        leads = [user for user, roles in held.items() if "lead" in roles]
        for user, roles in held.items():
            week = find_week(row)
            start = {"week": week, "user_id": user, "user_name": users.get(user), "incidents": 0}
            start |= {"lead_assignments": 0}
            start |= {f"minutes_{n}": 0.0 for n in ("total", "working", "late", "sleeping")}
            cells = mart.setdefault((week, user), start)
            cells["incidents"] += 1
            cells["lead_assignments"] += roles.count("lead")
            for name in ("total", "working", "late", "sleeping"):
                minutes = row.get(f"workload_minutes_{name}", 0)
                cells[f"minutes_{name}"] += minutes / len(leads) if user in leads else 0
    return mart


def compute_ageing(api: DemoApi, today: date) -> Mart:
    counted = {row["id"] for row in filter(is_counted, api.rows("incidents"))}
    groups, ranks = defaultdict(list), {}
    for row in api.rows("follow_ups"):
        if row["incident_id"] not in counted or row["status"] in ("deleted", "not_doing"):
            continue
        end, created = (
            read_instant(row.get("completed_at")),
            datetime.fromisoformat(row["created_at"]),
        )
        if row["status"] != "completed":
            end = max(datetime(today.year, today.month, today.day, tzinfo=UTC), created)
        if end is None:
            continue
        age = (end - created).total_seconds()
        days = age // 86_400
        bucket = BUCKETS[(days > 7) + (days > 30) + (days > 90)]
        priority = row.get("priority", {"name": "No priority", "rank": None})
        ranks[priority["name"]] = priority["rank"]
        groups[priority["name"], bucket].append((row["status"] == "completed", age))
    mart: Mart = {}
    for (priority, bucket), ages in groups.items():
        done = [age for completed, age in ages if completed]
        left = [age for completed, age in ages if not completed]
        limit = LIMITS.get(priority)
        late = float("inf") if limit is None else limit * 86_400
        mart[priority, bucket] = {
            "priority": priority,
            "priority_rank": ranks[priority],
            "age_bucket": bucket,
            "age_bucket_order": BUCKETS.index(bucket) + 1,
            "open": len(left),
            "completed": len(done),
            "open_age_median": describe(left)[1],
            "open_age_p90": describe(left)[2],
            "completed_age_median": describe(done)[1],
            "completed_age_p90": describe(done)[2],
            "sla_days": limit,
            "open_over_sla": sum(age > late for age in left),
            "completed_over_sla": sum(age > late for age in done),
            "as_of": today,
        }
    return mart


def test_every_mart_agrees_with_a_computation_that_never_saw_the_database(
    bundled: tuple[DemoApi, Path],
) -> None:
    api, path = bundled
    ageing = read_model("mart_follow_up_ageing", path)
    today = next(iter(ageing.values()))["as_of"]
    marts = {
        "mart_incident_weekly": compute_weekly(api),
        "mart_incident_trend": compute_trend(api, today),
        "mart_time_in_status": compute_time_in_status(api),
        "mart_time_in_status_recent": compute_time_in_status(api, today),
        "mart_responder_load": compute_load(api),
        "mart_follow_up_ageing": compute_ageing(api, today),
    }
    for name, expected in marts.items():
        found = read_model(name, path)
        assert found.keys() == expected.keys() and len(found) > 3
        for key, row in found.items():
            assert row == {n: make_near(v) for n, v in expected[key].items()}, (name, key)
