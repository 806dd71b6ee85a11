"""Which paths the bundled API has in which year, and what their answers leave out of a row.

A row has the columns of all versions and years; which rows a request gets is `listings`'.
"""

from typing import Any, Literal

import orjson

from incident_assets.demo.account import RESOURCES, Item
from incident_assets.demo.faults import Answer, error_body

Calendar = Literal["before", "now", "2027"]
Gone = Literal["404", "410", "redirect", "empty"]

V1 = ("incident_roles", "incident_statuses", "severities")
AUGUST = {f"/{'v1' if name in V1 else 'v2'}/{name}": name for name in RESOURCES}
SUCCESSORS = {
    "/v3/actions": "actions",
    "/v3/follow_ups": "follow_ups",
    "/v3/catalog_types": "catalog_types",
    "/v2/incident_roles": "incident_roles",
}
REMOVED = ("/v2/actions", "/v2/follow_ups")
PATHS: dict[Calendar, dict[str, str]] = {
    "before": AUGUST,
    "now": AUGUST | SUCCESSORS,
    "2027": {p: name for p, name in (AUGUST | SUCCESSORS).items() if p not in REMOVED},
}
LACKS = {
    "/v2/incident_roles": ("required",),
    "/v2/follow_ups": ("category",),
    "/v2/catalog_types": (
        "engine_resource_type",
        "use_name_as_identifier",
        "is_team_type",
        "owning_team_ids",
    ),
    "/v3/catalog_types": ("semantic_type",),
}
CAME_AFTER_AUGUST = {
    "/v2/incidents": (
        "team_ids",
        "last_activity_at",
        "slack_channel_url",
        "ms_teams_channel_url",
        "debriefs",
    ),
    "/v2/workflows": ("auto_run_mode",),
}
WENT_AFTER_AUGUST = {"/v2/schedules": ("current_shifts.layer_id", "next_shifts.layer_id")}


def show_row(row: Item, path: str, calendar: Calendar) -> Item:
    """Return a row as this path shows it in this year."""
    others = CAME_AFTER_AUGUST if calendar == "before" else WENT_AFTER_AUGUST
    for name in (*LACKS.get(path, ()), *others.get(path, ())):
        row = _leave_out(row, name)
    return _rename_modes(row) if path == "/v3/catalog_types" else row


def answer_gone(path: str, gone: Gone) -> Answer:
    """Return what a path answers that was removed."""
    if gone == "empty":
        return Answer(200, orjson.dumps({AUGUST[path]: []}))
    if gone == "redirect":
        return Answer(302, b"", {"Location": "/docs/api-versions"})
    return answer_missing(410 if gone == "410" else 404)


def answer_missing(status: int = 404) -> Answer:
    """Return the error of a path that is not there."""
    message = "there is nothing here"
    return Answer(
        status, orjson.dumps(error_body(status, "not_found", "resource_not_found", message))
    )


def _leave_out(value: Any, name: str) -> Any:
    """Return a value without a field, `outer.inner` for one of the objects in a column."""
    if isinstance(value, list):
        return [_leave_out(item, name) for item in value]
    outer, _, inner = name.partition(".")
    # Tests put anything into a row.
    if not isinstance(value, dict) or outer not in value:
        return value
    if inner:
        return value | {outer: _leave_out(value[outer], inner)}
    return {key: item for key, item in value.items() if key != outer}


def _rename_modes(row: Item) -> Item:
    """Return a catalog type as v3 shows it: `manual` became `api` and `dashboard` there."""
    schema = row.get("schema")
    if not isinstance(schema, dict) or not isinstance(schema.get("attributes"), list):
        return row
    attributes = [
        attribute | {"mode": "dashboard"} if attribute.get("mode") == "manual" else attribute
        for attribute in schema["attributes"]
    ]
    return row | {"schema": schema | {"attributes": attributes}}
