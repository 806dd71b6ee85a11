"""What models read beside tables: which timestamp is which moment, statuses, days to follow up.

Each setting becomes a small relation of the connection (`setting_...`), so that no text of a user
is ever part of the SQL; what a status category means becomes functions (`is_over(category)`). Which
environment variables there are is in `incident_assets.settings`.
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from incident_assets.api.categories import CATEGORIES, STATUS_CATEGORIES, Category
from incident_assets.api.failures import clean_text
from incident_assets.settings import SettingError, Settings
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.schemas import RAW_SCHEMA

# Moments of fct_incident and the names that their timestamps usually have.
MOMENTS = {
    "reported": "Reported",
    "accepted": "Accepted",
    "declined": "Declined",
    "merged": "Merged",
    "canceled": "Canceled",
    "resolved": "Resolved",
    "impact_started": "Impact started",
    "identified": "Identified",
    "fixed": "Fixed",
    "documented": "Documented",
    "reviewed": "Reviewed",
    "closed": "Closed",
}
# Relations and their columns.
SETTINGS = {
    "setting_moment": {"moment": pa.string(), "timestamp": pa.string()},
    "setting_status": {"status": pa.string(), "category": pa.string()},
    "setting_follow_up_sla": {"priority": pa.string(), "days": pa.float64()},
    "setting_clock": {"now": pa.timestamp("us", "UTC")},
}


def register_settings(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    names: Iterable[str],
    now: datetime | None = None,
) -> None:
    """Give the connection these relations (see `SETTINGS`); `now` is what the clock shows.

    Raises SettingError naming the variable if a mapping is none, or names what is unknown: of
    timestamps and statuses, whatever the account does not have, once it has any.
    """
    for name in names:
        if name == "setting_moment":
            moments = _read_moments(settings)
            _check("INCIDENT_TIMESTAMPS", moments.values(), connection, "incident_timestamps")
            moments = MOMENTS | moments
            columns: dict[str, list[Any]] = {"moment": [*moments], "timestamp": [*moments.values()]}
        elif name == "setting_status":
            statuses = _read_statuses(settings)
            _check("INCIDENT_STATUSES", statuses, connection, "incident_statuses")
            columns = {"status": [*statuses], "category": [*statuses.values()]}
        elif name == "setting_follow_up_sla":
            limits = _read_limits(settings)
            columns = {"priority": [*limits], "days": [*limits.values()]}
        else:
            columns = {"now": [now or datetime.now(UTC)]}
        schema = pa.schema(list(SETTINGS[name].items()))
        connection.register(name, pa.table(columns, schema=schema))


def define_categories(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the connection, for each flag of `Category`, a function of a category's name.

    It is NULL for no category, and what `Category` has by default for one that nobody knows.
    """
    for flag, usual in Category._field_defaults.items():
        names = ", ".join(f"'{c.name}'" for c in CATEGORIES if getattr(c, flag) != usual)
        connection.execute(
            f"CREATE OR REPLACE TEMP MACRO {flag}(category) AS "
            f"category {'NOT ' * usual}IN ({names})"
        )


def _check(
    variable: str, names: Iterable[str], connection: duckdb.DuckDBPyConnection, table: str
) -> None:
    if not (names := list(names)) or not has_table(connection, f"{RAW_SCHEMA}.{table}"):
        return
    rows = connection.execute(
        f"SELECT id, name FROM {RAW_SCHEMA}.{table} WHERE _deleted_at IS NULL ORDER BY rank, id"
    ).fetchall()
    for name in names:
        hits = [id for id, own in rows if name == id or name.lower() == (own or "").lower()]
        if rows and len(hits) != 1:
            known = ", ".join(clean_text(f"{own} ({id})") for id, own in rows)
            raise SettingError(
                f"{variable} names {name!r}, which is {len(hits) or 'none'} of the account's "
                f"{table}: give the name or the id of one of {known}"
            )


def _read_moments(settings: Settings) -> dict[str, str]:
    pairs = _split("INCIDENT_TIMESTAMPS", settings.timestamps, "accepted=Acknowledged,fixed=01ABC")
    moments = {moment.lower().replace(" ", "_"): name for moment, name in pairs}
    for moment in moments.keys() - MOMENTS:
        raise SettingError(
            f"INCIDENT_TIMESTAMPS has the unknown moment {moment!r}: there are {', '.join(MOMENTS)}"
        )
    return moments


def _read_statuses(settings: Settings) -> dict[str, str]:
    pairs = _split("INCIDENT_STATUSES", settings.statuses, "Monitoring=closed")
    statuses = {status: category.lower() for status, category in pairs}
    for category in set(statuses.values()) - set(STATUS_CATEGORIES):
        raise SettingError(
            f"INCIDENT_STATUSES has the unknown category {category!r}: there are "
            f"{', '.join(STATUS_CATEGORIES)}"
        )
    return statuses


def _read_limits(settings: Settings) -> dict[str, float]:
    pairs = _split("INCIDENT_FOLLOW_UP_SLA", settings.follow_up_sla, "Urgent=7,High=14")
    limits = {}
    for priority, days in pairs:
        try:
            limits[priority] = float(days)
        except ValueError:
            limits[priority] = -1
        if not 0 <= limits[priority] < math.inf:
            raise SettingError(
                f"INCIDENT_FOLLOW_UP_SLA gives {priority!r} {days!r}: it should be a number of days"
            )
    return limits


def _split(variable: str, text: str, example: str) -> list[tuple[str, str]]:
    pairs = []
    for part in filter(str.strip, text.split(",")):
        name, sign, value = (piece.strip() for piece in part.rpartition("="))
        if not (name and sign and value):
            raise SettingError(f"{variable} has {part.strip()!r}: it should look like {example}")
        pairs.append((name, value))
    return pairs
