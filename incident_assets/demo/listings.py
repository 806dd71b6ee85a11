"""What a list request returns: filters, default omissions, order and pages, as the API has them.

Pure functions over rows; HTTP, keys and limits are the server's.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from incident_assets.demo.account import Account, Item

Query = dict[str, list[str]]

LARGEST_PAGE = {
    "/v2/incidents": 500,
    "/v2/incident_updates": 250,
    "/v2/users": 10000,
    "/v2/schedules": 10000,
    "/v3/actions": 250,
    "/v3/follow_ups": 250,
}
INCIDENTS_SERVED = 250  # whatever was asked for
DEFAULT_PAGE = 25
MODES = ("standard", "retrospective", "test", "tutorial")
TASK_MODES = (*MODES, "stream")
CATEGORIES = (
    "triage",
    "live",
    "learning",
    "paused",
    "closed",
    "declined",
    "canceled",
    "merged",
)
WITH_TOTAL = ("/v2/incidents", "/v2/schedules")
TASKS = ("actions", "follow_ups")
TASKS_V3 = ("/v3/actions", "/v3/follow_ups")
TIMES = ("created_at", "updated_at")
DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
MOMENT = DAY + r"T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"


class InvalidRequest(Exception):
    """A 422: the parameter and what is wrong with it."""


@dataclass(frozen=True)
class Selection:
    """Rows in the order they are listed in, and where each id stands."""

    rows: list[Item]
    position: dict[str, int]


@dataclass(frozen=True)
class Listed:
    """The rows of one page and, where the endpoint paginates, its pagination_meta."""

    rows: list[Item]
    meta: dict[str, Any] | None


def select_rows(account: Account, path: str, query: Query, sees_private: bool) -> Selection:
    """Return all rows that match, in order. Raises InvalidRequest as the API would."""
    resource = path.rpartition("/")[2]
    rows = _see(account, resource, sees_private)
    if resource in TASKS:
        rows = _filter_tasks(account, rows, query)
        if path in TASKS_V3:
            rows = sorted(_filter_times(rows, query), key=lambda row: row["id"])
    elif resource == "users":
        rows = _filter_users(rows, query)
    elif resource == "incident_updates":
        rows = list(reversed(_match(rows, query, "incident_id")))
    elif resource == "incidents":
        rows = _filter_incidents(account, rows, query)
    return build_selection(rows)


def build_selection(rows: list[Item]) -> Selection:
    """Return these rows as a selection."""
    return Selection(rows, {row["id"]: number for number, row in enumerate(rows)})


def group_rows(rows: list[Item], name: str) -> dict[str, list[Item]]:
    """Return rows by the value of a field, each group in the same order."""
    groups: dict[str, list[Item]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups


def cut_page(path: str, selected: Selection, query: Query, largest: Mapping[str, int]) -> Listed:
    """Return the page that the query asks for; `largest` page by path, where there are pages.

    Raises InvalidRequest as the API would.
    """
    rows = selected.rows
    if path not in largest:
        return Listed(rows, None)
    size = _read_size(path, query, largest[path])
    start = 0
    if after := query.get("after"):
        if after[0] not in selected.position:
            raise InvalidRequest("after: no such cursor")
        start = selected.position[after[0]] + 1
    page = rows[start : start + size]
    meta: dict[str, Any] = {"page_size": size}
    if path in WITH_TOTAL:
        meta["total_record_count"] = len(rows)
    # v3 does not look beyond a full page, so that the last one may be empty.
    if len(page) == size and (path in TASKS_V3 or start + size < len(rows)):
        meta["after"] = page[-1]["id"]
    if path == "/v2/schedules" and size > DEFAULT_PAGE:
        page = [{k: v for k, v in row.items() if k != "next_shifts"} for row in page]
    return Listed(page, meta)


def _see(account: Account, resource: str, sees_private: bool) -> list[Item]:
    rows = list(account.rows[resource].values())
    if sees_private:
        return rows
    hidden = {i for i, row in account.rows["incidents"].items() if row["visibility"] == "private"}
    return [row for row in rows if row["id"] not in hidden and row.get("incident_id") not in hidden]


def _read_size(path: str, query: Query, largest: int) -> int:
    raw = query.get("page_size", [str(min(DEFAULT_PAGE, largest))])[0]
    if not raw.isdigit() or not 1 <= int(raw) <= largest:
        raise InvalidRequest(f"page_size: must be a number from 1 to {largest}")
    return min(int(raw), INCIDENTS_SERVED) if path == "/v2/incidents" else int(raw)


def _match(rows: list[Item], query: Query, name: str) -> list[Item]:
    return [row for row in rows if row.get(name) == query[name][0]] if name in query else rows


def _filter_tasks(account: Account, rows: list[Item], query: Query) -> list[Item]:
    wanted = query.get("incident_mode", ["standard", "retrospective"])
    _require("incident_mode", wanted, TASK_MODES)
    if team := query.get("assignee_team_id"):
        rows = [row for row in rows if row.get("assignee_team", {}).get("id") == team[0]]
    rows = [row for row in rows if account.modes.get(row["id"], "standard") in wanted]
    return _match(rows, query, "incident_id")


def _filter_times(rows: list[Item], query: Query) -> list[Item]:
    for parameter, values in query.items():
        name, _, operator = parameter.partition("[")
        if name in TIMES and operator:
            operator = operator.rstrip("]")
            _check_time(name, operator, values[0], query, (DAY, MOMENT))
            rows = [row for row in rows if _lies_in(row[name], operator, values[0])]
    return rows


def _filter_users(rows: list[Item], query: Query) -> list[Item]:
    if query.get("include_inactive", ["false"])[0] != "true":
        rows = [row for row in rows if row.get("is_active")]
    return _match(_match(rows, query, "email"), query, "slack_user_id")


def _filter_incidents(account: Account, rows: list[Item], query: Query) -> list[Item]:
    order = query.get("sort_by", ["created_at_newest_first"])[0]
    _require("sort_by", [order], ("created_at_newest_first", "created_at_oldest_first"))
    _require("filter_mode", query.get("filter_mode", ["all"]), ("all", "any"))
    modes = query.get("mode[one_of]", ["standard", "retrospective"])
    _require("mode", modes, MODES)
    if not any(name.startswith("status") for name in query):
        query = {**query, "status_category[one_of]": list(CATEGORIES[:5])}
    ranks = {i: row["rank"] for i, row in account.rows["severities"].items()}
    tests = [
        (name.partition("[")[0], name.partition("[")[2].rstrip("]"), values)
        for name, values in query.items()
        if "[" in name and not name.startswith("mode[")
    ]
    own = {row["category"] for row in account.rows["incident_statuses"].values()}
    for name, operator, values in tests:
        _check_test(name, operator, values, query, [*CATEGORIES, *own])
    every = all if query.get("filter_mode", ["all"])[0] == "all" else any
    kept = [
        row
        for row in rows
        if row["mode"] in modes and every(_passes(row, *test, ranks) for test in tests)
    ]
    return kept if order.endswith("oldest_first") else kept[::-1]


def _check_test(
    name: str, operator: str, values: list[str], query: Query, categories: Iterable[str]
) -> None:
    if name in TIMES:
        _check_time(name, operator, values[0], query, (DAY,))
    elif operator not in ("one_of", "not_in", "gte", "lte"):
        raise InvalidRequest(f"{name}: unknown operator {operator}")
    elif name == "status_category":
        _require(name, values, categories)


def _check_time(
    name: str, operator: str, value: str, query: Query, shapes: tuple[str, ...]
) -> None:
    if operator not in ("gte", "lte", "date_range"):
        raise InvalidRequest(f"{name}: unknown operator {operator}")
    if f"{name}[gte]" in query and f"{name}[lte]" in query:
        raise InvalidRequest(f"{name}: gte and lte cannot be combined, use date_range")
    ends = [value]
    if operator == "date_range":
        ends, shapes = value.split("~"), (DAY,)
        if len(ends) != 2:
            raise InvalidRequest(f"{name}: {value!r} is no range of two dates")
    for end in ends:
        try:
            # Python itself takes more than the API does, such as weeks.
            fits = any(re.fullmatch(shape, end) for shape in shapes)
            datetime.fromisoformat(end if fits else "")
        except ValueError:
            raise InvalidRequest(f"{name}: {end!r} is no date") from None


def _lies_in(at: str, operator: str, value: str) -> bool:
    low, _, high = value.partition("~")
    if "T" in low:
        moment, limit = datetime.fromisoformat(at), datetime.fromisoformat(low)
        return moment >= limit if operator == "gte" else moment <= limit
    day = at[:10]
    return {"gte": day >= low, "lte": day <= low, "date_range": low <= day <= high}[operator]


def _passes(row: Item, name: str, operator: str, values: list[str], ranks: dict[str, int]) -> bool:
    if name in TIMES:
        return _lies_in(row[name], operator, values[0])
    found = {
        "status": lambda: row["incident_status"]["id"],
        "status_category": lambda: row["incident_status"]["category"],
        "severity": lambda: row.get("severity", {}).get("id"),
        "incident_type": lambda: row.get("incident_type", {}).get("id"),
    }.get(name, lambda: None)()
    if operator in ("gte", "lte"):
        if found is None:
            return False
        own, other = ranks[found], ranks.get(values[0], 0)
        return own >= other if operator == "gte" else own <= other
    return (found in values) == (operator == "one_of")


def _require(name: str, values: Iterable[str], known: Iterable[str]) -> None:
    for value in values:
        if value not in known:
            raise InvalidRequest(f"{name}: {value!r} is none of {', '.join(known)}")
