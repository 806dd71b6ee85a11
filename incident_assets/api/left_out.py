"""Columns that are left out because a user wants them nowhere, by the setting that names them.

How cells are emptied is in `personal`.
"""

from collections.abc import Iterable

from incident_assets.api.endpoints import ENDPOINTS, Column, Endpoint
from incident_assets.settings import DROP_FIELDS, Settings
from incident_assets.values import SettingError


def find_dropped(
    settings: Settings, endpoints: Iterable[Endpoint] = ENDPOINTS
) -> list[tuple[str, str]]:
    """Return resource and name of the columns that are left out. Raises SettingError."""
    known = {endpoint.name: endpoint for endpoint in endpoints}
    found = []
    for part in filter(None, map(str.strip, settings.drop_fields.split(","))):
        resource, _, name = part.partition(".")
        if resource not in known:
            raise SettingError(
                f"{DROP_FIELDS} has {part!r}: it should be a resource and a column, such as "
                f"incident_updates.message; the resources are {', '.join(known)}"
            )
        columns = {column.name: column for column in known[resource].columns}
        if name not in columns:
            raise SettingError(
                f"{DROP_FIELDS} has {part!r}, and {resource} has no such column; it has "
                f"{', '.join(columns)}"
            )
        if why := _find_need(known[resource], columns[name]):
            raise SettingError(f"{DROP_FIELDS} has {part!r}, which cannot be left out: {why}")
        found.append((resource, name))
    return sorted(set(found))


def _find_need(endpoint: Endpoint, column: Column) -> str:
    if column.name == "id":
        return "rows are told apart and joined by it"
    if column.name in endpoint.needed:
        return "models are built on it"
    if column.type not in ("text", "json"):
        return f"it is no text (a {column.type}), so nobody's name is in it"
    return ""
