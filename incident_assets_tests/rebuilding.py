"""API objects rebuilt from rows of a raw table, by the rules of the data alone; and upstream's."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from incident_assets.api.endpoints import LOADER_COLUMNS, Endpoint, Way
from incident_assets.demo.server import DemoApi
from incident_assets.demo.versions import PATHS, show_row

LOADERS = {column.name for column in LOADER_COLUMNS}


def load_exact(text: str | bytes) -> Any:
    """Return a JSON value with decimals for fractions, so that no digit is rounded away."""
    return json.loads(text, parse_float=Decimal)


def rebuild(endpoint: Endpoint, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object that a row was made of; absent and null are the same."""
    types = {column.name: column.type for column in endpoint.columns}
    found = {}
    for name, cell in row.items():
        if name in LOADERS or cell is None:
            continue
        kind = types.get(name, "json")
        found[name] = load_exact(cell) if kind == "json" else cell
        if kind == "double":
            found[name] = Decimal(repr(cell))
    return found | load_exact(row["_rescued"] or "{}")


def find_way(api: DemoApi, endpoint: Endpoint) -> Way:
    """Return the newest version of a resource in the API's year."""
    return next(way for way in endpoint.ways if way.path in PATHS[api.calendar])


def read_upstream(api: DemoApi, endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """Return by id what the newest path of the API's year shows, as `rebuild` gives it back."""
    path = find_way(api, endpoint).path
    rows = (show_row(row, path, api.calendar) for row in api.rows(endpoint.name))
    return {row["id"]: normalise(endpoint, row) for row in rows}


def normalise(endpoint: Endpoint, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an API object as `rebuild` gives it back: without nulls, timestamps as instants."""
    kept = load_exact(json.dumps(item))
    for column in endpoint.columns:
        value = kept.get(column.name)
        if column.type == "timestamp" and isinstance(value, str):
            kept[column.name] = parse_instant(value) or value
        if column.type == "double" and isinstance(value, int) and not isinstance(value, bool):
            kept[column.name] = Decimal(value)
    return {name: value for name, value in kept.items() if value is not None}


def parse_instant(text: str) -> datetime | None:
    """Return the instant of an RFC 3339 text; None if microseconds or Python cannot hold it."""
    head, dot, tail = text.partition(".")
    digits = tail.rstrip("Zz").split("+")[0].split("-")[0] if dot else ""
    if digits[6:].strip("0"):
        return None
    try:
        instant = datetime.fromisoformat(
            head.upper() + dot + digits[:6] + tail[len(digits) :].upper()
        )
        return instant.astimezone(UTC) if instant.tzinfo else None
    except (ValueError, OverflowError):
        return None
