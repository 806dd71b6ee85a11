"""What a check finds out, and the SQL that all checks share. No Dagster here.

Each check is a function of an open connection and a row of the table of resources; its meaning,
and what to do when it fails, stand in `catalog`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.schemas import LOG_SCHEMA, name_table

SAMPLE = 5  # ids shown of what is wrong

Severity = Literal["warning", "error"]


@dataclass(frozen=True)
class Finding:
    """The result of a check: counts, ids and SQL, never a name, a text or an address.

    `sql` gives, for each thing that is wrong, a query that lists it. `is_repeated` where nothing
    that it depends on has changed since it was found.
    """

    passed: bool
    description: str
    severity: Severity = "warning"
    counts: Mapping[str, int | float] = field(default_factory=dict)
    samples: Mapping[str, list[str]] = field(default_factory=dict)
    sql: Mapping[str, str] = field(default_factory=dict)
    is_repeated: bool = False


NEVER_LOADED = Finding(False, "never loaded: select it in a sync once")


def has_loaded(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> bool:
    """Whether there is anything to check of a resource."""
    return has_table(connection, name_table(endpoint.name)) and has_table(
        connection, f"{LOG_SCHEMA}.log"
    )


def read_path(path: str) -> str:
    """Return SQL for the text at a path such as `severity.id` or `shifts[].user.id`.

    Below `[]` there is a row for each element.
    """
    column, _, rest = path.partition(".")
    if not rest:
        return f'"{path}"'
    name, array, _ = column.partition("[]")
    text = f"""json_extract_string("{name}", '${"[*]" if array else ""}.{rest}')"""
    return f"unnest({text})" if array else text
