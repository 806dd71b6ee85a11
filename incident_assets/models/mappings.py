"""What models read beside tables: which timestamp is which moment, statuses, days, time zone.

Each setting becomes a small relation of the connection (`setting_...`), so that no text of a user
is ever part of the SQL; what a status category means becomes functions (`is_over(category)`). Which
environment variables there are is in `incident_assets.settings`.
"""

import math
from collections.abc import Iterable
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from incident_assets.api.categories import CATEGORIES, STATUS_CATEGORIES, Category
from incident_assets.api.names import MOMENTS, Known, find_moments, pick_named, split_pairs
from incident_assets.settings import Settings
from incident_assets.values import SettingError
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.schemas import RAW_SCHEMA, name_table

# Relations and their columns.
SETTINGS = {
    "setting_moment": {
        "moment": pa.string(),
        "timestamp": pa.string(),
        "usual_name": pa.string(),
    },
    "setting_status": {"status": pa.string(), "category": pa.string()},
    "setting_follow_up_sla": {"priority": pa.string(), "days": pa.float64()},
    "setting_calendar": {"time_zone": pa.string()},
    "setting_clock": {"today": pa.date32()},
}


def register_settings(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    names: Iterable[str],
    today: date | None = None,
) -> None:
    """Give the connection these relations (see `SETTINGS`); `today` is the calendar's day.

    Raises SettingError naming the variable if a mapping is none, or names what is unknown: of
    timestamps and statuses, whatever the account does not have, once it has any.
    """
    for name in names:
        if name == "setting_moment":
            moments = find_moments(settings, _read_names(connection, "incident_timestamps"))
            columns: dict[str, list[Any]] = {"moment": [*moments], "timestamp": [*moments.values()]}
            columns["usual_name"] = [MOMENTS[moment] for moment in moments]
        elif name == "setting_status":
            statuses = _read_statuses(settings)
            if known := _read_names(connection, "incident_statuses"):
                for status in statuses:
                    pick_named("INCIDENT_STATUSES", status, known, "incident_statuses")
            columns = {"status": [*statuses], "category": [*statuses.values()]}
        elif name == "setting_follow_up_sla":
            limits = _read_limits(settings)
            columns = {"priority": [*limits], "days": [*limits.values()]}
        elif name == "setting_calendar":
            columns = {"time_zone": [settings.time_zone]}
        else:
            columns = {"today": [today or settings.find_today()]}
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


def _read_names(connection: duckdb.DuckDBPyConnection, table: str) -> Known:
    if not has_table(connection, name_table(table)):
        return []
    return connection.execute(
        f"SELECT id, name FROM {RAW_SCHEMA}.{table} WHERE _deleted_at IS NULL ORDER BY rank, id"
    ).fetchall()


def _read_statuses(settings: Settings) -> dict[str, str]:
    pairs = split_pairs("INCIDENT_STATUSES", settings.statuses, "Monitoring=closed")
    statuses = {status: category.lower() for status, category in pairs}
    for category in set(statuses.values()) - set(STATUS_CATEGORIES):
        raise SettingError(
            f"INCIDENT_STATUSES has the unknown category {category!r}: there are "
            f"{', '.join(STATUS_CATEGORIES)}"
        )
    return statuses


def _read_limits(settings: Settings) -> dict[str, float]:
    pairs = split_pairs("INCIDENT_FOLLOW_UP_SLA", settings.follow_up_sla, "Urgent=7,High=14")
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
