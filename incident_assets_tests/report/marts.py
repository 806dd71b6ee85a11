"""Made-up marts with the columns that the models promise: plausible, degenerate and hostile ones.

They are worked out from made-up incidents here, so that a test knows the true figures.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from incident_assets.report.marts import Marts
from incident_assets.report.numbers import find_week

AS_OF = date(2026, 8, 12)
METRICS = {"mttd": 9, "mtta": 6, "mttm": 70, "mttr": 150}  # minutes, median of the least severe
SEVERITIES = ["Minor", "Moderate", "Major", "Critical"]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "![](http://evil.example/x)",
    "[click](javascript:alert(1))",
    "$x^2$ and $\\frac{1}{",
    "</text></svg><iframe src=//evil.example>",
    "url(http://evil.example/x) --> ]]> &amp; \x00\x1b[31m",
    "‮مرحبا بالعالم‬ שלום",
    "障害対応チーム 東京・大阪担当",
    "👩🏽‍🚒 Zoë 🔥🔥",
    "A" * 400,
    "",
]

Durations = dict[str, list[float]]  # seconds by metric
TEXT, COUNT, AMOUNT = pa.string(), pa.int64(), pa.float64()
DURATION = {"incidents": COUNT, "mean": AMOUNT, "median": AMOUNT, "p90": AMOUNT, "negative": COUNT}
SCHEMAS = {
    "weekly": {
        "week": pa.date32(),
        "severity_id": TEXT,
        "severity": TEXT,
        "severity_rank": COUNT,
        "incidents": COUNT,
        **{f"{m}_{part}": kind for m in METRICS for part, kind in DURATION.items()},
    },
    "trend": {
        "week": pa.date32(),
        "incidents": COUNT,
        **{f"{m}_{part}": kind for m in METRICS for part, kind in DURATION.items()},
        **{f"{m}_week_median": AMOUNT for m in METRICS},
    },
    "stays": {
        "category": TEXT,
        "stays": COUNT,
        **{f"seconds_{part}": AMOUNT for part in ("mean", "median", "p90")},
        "incidents": COUNT,
        "reopened": COUNT,
        "reopen_rate": AMOUNT,
        "since": pa.date32(),
        "as_of": pa.date32(),
    },
    "changes": {
        "week": pa.date32(),
        "incidents": COUNT,
        "raised": COUNT,
        "lowered": COUNT,
        "raised_after_median": AMOUNT,
        "lowered_after_median": AMOUNT,
    },
    "load": {
        "week": pa.date32(),
        "user_id": TEXT,
        "user_name": TEXT,
        "incidents": COUNT,
        "lead_assignments": COUNT,
        **{f"minutes_{part}": AMOUNT for part in ("total", "working", "late", "sleeping")},
    },
    "ageing": {
        "priority": TEXT,
        "priority_rank": COUNT,
        "age_bucket": TEXT,
        "age_bucket_order": COUNT,
        "open": COUNT,
        "completed": COUNT,
        **{f"{s}_age_{part}": AMOUNT for s in ("open", "completed") for part in ("median", "p90")},
        "sla_days": AMOUNT,
        "open_over_sla": COUNT,
        "completed_over_sla": COUNT,
        "as_of": pa.date32(),
    },
    "flow": {
        "week": pa.date32(),
        "opened": COUNT,
        "done": COUNT,
        "reopened": COUNT,
        "handed_over": COUNT,
    },
    "moments": {
        "moment": TEXT,
        "usual_name": TEXT,
        "timestamp_id": TEXT,
        "name": TEXT,
        "is_missing": pa.bool_(),
    },
}


def make_marts(**rows: list[dict[str, Any]]) -> Marts:
    """Return marts of these rows; a mart that is not given is empty."""
    return Marts(
        **{
            name: pa.Table.from_pylist(rows.get(name, []), schema=pa.schema(list(schema.items())))
            for name, schema in SCHEMAS.items()
        }
    )


def make_busy_marts(
    names: list[str] | None = None, users: int = 40, rate: float = 14, seed: int = 1
) -> Marts:
    """Return eighteen months of an account; `names` replace those of all things named."""
    chance = random.Random(seed)
    first = find_week(AS_OF) - timedelta(weeks=77)
    weeks = [first + timedelta(weeks=n) for n in range(78)]
    given = names or []
    severities = (given + SEVERITIES)[:4] if names else SEVERITIES
    people = [f"{x} {y}" for x in FIRST for y in LAST]
    people = given + people
    lived = {w: list(_live_week(chance, w, severities, rate)) for w in weeks}
    return make_marts(
        weekly=[row | _describe_all(values) for rows in lived.values() for row, values in rows],
        trend=[_look_back(lived, w) for w in weeks],
        stays=list(_leave_statuses(chance, given)),
        load=[row for w in weeks for row in _carry(chance, w, people, users)],
        ageing=list(_age(chance, given)),
        changes=[row for w in weeks[::2] for row in _change_severities(chance, w)],
        flow=[_work_off(chance, w) for w in weeks],
    )


FIRST = (
    "Ada Amara Bo Chen Dagny Elif Farah Goran Hana Ines Jonas Kofi Lena Mateo Noor Oskar".split()
)
LAST = "Abiola Berg Castellanos-Villanueva Dube Eriksen Fischer Gupta Haddad Ito Jansen".split()


def describe(values: list[float]) -> dict[str, Any]:
    """Return count, mean, median, p90 and number of negative ones, as the models do."""
    if not values:
        return dict.fromkeys(DURATION) | {"incidents": 0, "negative": 0}
    median, p90 = (float(x) for x in np.quantile(values, [0.5, 0.9]))
    mean, negative = sum(values) / len(values), sum(x < 0 for x in values)
    figures = {"mean": mean, "median": median, "p90": p90}
    return {"incidents": len(values), "negative": negative, **figures}


def _describe_all(values: Durations) -> dict[str, Any]:
    return {f"{m}_{part}": v for m in METRICS for part, v in describe(values[m]).items()}


def _join(cells: "list[tuple[dict[str, Any], Durations]]") -> Durations:
    return {m: [value for _, values in cells for value in values[m]] for m in METRICS}


def _look_back(
    lived: "dict[date, list[tuple[dict[str, Any], Durations]]]", week: date
) -> "dict[str, Any]":
    cells = [cell for n in range(4) for cell in lived.get(week - timedelta(weeks=n), [])]
    row = {"week": week, "incidents": sum(row["incidents"] for row, _ in cells)}
    medians = {f"{m}_week_median": describe(v)["median"] for m, v in _join(lived[week]).items()}
    return row | _describe_all(_join(cells)) | medians


def _draw_duration(chance: random.Random, minutes: float) -> float:
    return 60 * chance.lognormvariate(float(np.log(minutes)), 1.1)


def _live_week(
    chance: random.Random, week: date, severities: list[str], rate: float
) -> "Iterator[tuple[dict[str, Any], Durations]]":
    age = (AS_OF - week).days / 546
    if week.isocalendar().week in (52, 1):
        rate /= 4
    if age < 0.02:
        rate /= 2
    shares = [0.45, 0.33, 0.16, 0.06]
    for rank, (name, share) in enumerate(zip(severities, shares, strict=True)):
        incidents = _draw_count(chance, rate * share * (0.7 + 0.6 * age))
        if not incidents:
            continue
        row = {"week": week, "severity_id": f"S{rank}", "severity": name, "severity_rank": rank}
        row["incidents"] = incidents
        durations = {}
        for metric, minutes in METRICS.items():
            faster = minutes * (0.55 + 0.7 * age) / (1 + rank)
            values = [_draw_duration(chance, faster) for _ in range(incidents)]
            durations[metric] = [-60.0 if chance.random() < 0.01 else v for v in values]
        yield row, durations
    if chance.random() < 0.2 or week > AS_OF - timedelta(weeks=2):
        row = {"week": week, "severity_id": "", "severity": "None yet", "severity_rank": None}
        row["incidents"] = 1
        yield row, {m: [] for m in METRICS}


def _draw_count(chance: random.Random, mean: float) -> int:
    return sum(chance.random() < mean / 50 for _ in range(50))


def _leave_statuses(chance: random.Random, given: list[str]) -> "Any":
    usual = {"triage": 8, "live": 130, "learning": 60 * 60, "paused": 900, "closed": 60 * 24 * 9}
    for category, minutes in [*usual.items(), *((name, 30) for name in given)]:
        stays = 2 + _draw_count(chance, {"paused": 1, "closed": 2}.get(category, 25))
        figures = describe([_draw_duration(chance, minutes) for _ in range(stays)])
        reopened = sum(chance.random() < 0.04 for _ in range(stays))
        returns = category in ("learning", "closed")
        yield {
            "category": category,
            "stays": stays,
            **{f"seconds_{part}": figures[part] for part in ("mean", "median", "p90")},
            "incidents": stays,
            "reopened": reopened if returns else 0,
            "reopen_rate": reopened / stays if returns else None,
            "since": date(2026, 3, 1),
            "as_of": AS_OF,
        }


def _carry(
    chance: random.Random, week: date, people: list[str], users: int
) -> "list[dict[str, Any]]":
    rows = defaultdict(lambda: [0.0, 0.0, 0.0, 0])
    for _ in range(_draw_count(chance, 13)):
        row = rows[min(int(chance.expovariate(1 / 5)), users - 1)]
        minutes = chance.lognormvariate(4.2, 0.9)
        late, asleep = (minutes * chance.random() * x for x in (0.3, 0.25))
        for n, part in enumerate((minutes - late - asleep, late, asleep, 1)):
            row[n] += part
    return [
        {
            "week": week,
            "user_id": f"U{n:03}",
            "user_name": people[n % len(people)] or None,
            "incidents": int(leads) + 1,
            "lead_assignments": int(leads),
            "minutes_total": working + late + asleep,
            "minutes_working": working,
            "minutes_late": late,
            "minutes_sleeping": asleep,
        }
        for n, (working, late, asleep, leads) in rows.items()
    ]


def _change_severities(chance: random.Random, week: date) -> "Iterator[dict[str, Any]]":
    raised, lowered = (_draw_count(chance, mean) for mean in (2, 1))
    if raised + lowered:
        yield {
            "week": week,
            "incidents": raised + lowered,
            "raised": raised,
            "lowered": lowered,
            "raised_after_median": _draw_duration(chance, 40) if raised else None,
            "lowered_after_median": _draw_duration(chance, 90) if lowered else None,
        }


def _work_off(chance: random.Random, week: date) -> dict[str, Any]:
    means = {"opened": 12, "done": 10, "reopened": 0.5, "handed_over": 1}
    return {"week": week} | {name: _draw_count(chance, mean) for name, mean in means.items()}


BUCKETS = {"0-7 d": 4, "8-30 d": 19, "31-90 d": 55, "91+ d": 150}


def _age(chance: random.Random, given: list[str]) -> "Any":
    priorities = [
        ("Urgent", 0, 7.0),
        ("High", 1, 30.0),
        ("Low", 2, 90.0),
        ("No priority", None, None),
    ]
    priorities += [(name, 3 + n, 14.0) for n, name in enumerate(given)]
    for priority, rank, sla in priorities:
        for order, (bucket, days) in enumerate(BUCKETS.items(), 1):
            count = _draw_count(chance, (3, 8, 9, 5)[order - 1] * (1 + (rank or 1)))
            over = 0 if sla is None else count * (days > sla)
            yield {
                "priority": priority,
                "priority_rank": rank,
                "age_bucket": bucket,
                "age_bucket_order": order,
                "open": count,
                "completed": 20,
                "open_age_median": days * 86400.0 if count else None,
                "open_age_p90": days * 86400.0 if count else None,
                "completed_age_median": days * 86400.0,
                "completed_age_p90": days * 86400.0,
                "sla_days": sla,
                "open_over_sla": over,
                "completed_over_sla": 0,
                "as_of": AS_OF,
            }
