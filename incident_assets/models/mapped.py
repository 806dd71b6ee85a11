"""Whether settings and account meet: the checks of models that depend on what things are called.

A row for each in `MODEL_CHECKS`; the asset checks and docs/checks.md follow. Each is a warning, and
stops nothing. Names that cannot be right are errors, and are found in `mappings` before a build.
"""

from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from incident_assets.api.names import say_missing
from incident_assets.checks.finding import SAMPLE, Finding
from incident_assets.models.catalog import MODEL_SCHEMA
from incident_assets.models.mappings import register_settings
from incident_assets.settings import Settings


@dataclass(frozen=True)
class ModelCheck:
    """A check of one model; `find` takes an open connection, the model's table in it, settings."""

    model: str
    name: str
    meaning: str
    remedy: str
    find: Callable[[duckdb.DuckDBPyConnection, Settings], Finding]


def check_moments(connection: duckdb.DuckDBPyConnection, _: Settings) -> Finding:
    """Look for moments that no timestamp of the account stands for."""
    sql = f"SELECT moment FROM {MODEL_SCHEMA}.dim_moment WHERE is_missing"
    missing = [moment for (moment,) in connection.execute(sql).fetchall()]
    said = say_missing(missing) or "every moment has its timestamp"
    return _find("moments without a timestamp", missing, said, sql)


def check_priorities(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Finding:
    """Look for priorities of INCIDENT_FOLLOW_UP_SLA that no follow-up has, once any has one."""
    register_settings(connection, settings, ["setting_follow_up_sla"])
    table = f"{MODEL_SCHEMA}.fct_follow_up"
    rows = connection.execute(
        f"SELECT priority FROM setting_follow_up_sla AS s WHERE EXISTS (FROM {table} "
        f"WHERE priority_id IS NOT NULL) AND NOT EXISTS (FROM {table} AS f WHERE "
        "s.priority = f.priority_id OR lower(s.priority) = lower(f.priority))"
    ).fetchall()
    unknown = [priority for (priority,) in rows]
    said = "every priority that has a limit is in use"
    if unknown:
        said = (
            f"INCIDENT_FOLLOW_UP_SLA sets days for {', '.join(map(repr, unknown))}, but no "
            "follow-up has such a priority, so the limit is nobody's: give a name or id in use"
        )
    sql = f"SELECT DISTINCT priority_id, priority FROM {table}"
    return _find("priorities that are not in use", unknown, said, sql)


def _find(what: str, found: list[str], said: str, sql: str) -> Finding:
    return Finding(
        passed=not found,
        description=said,
        counts={what: len(found)},
        samples={what: found[:SAMPLE]} if found else {},
        sql={what: sql} if found else {},
    )


MODEL_CHECKS = (
    ModelCheck(
        "dim_moment",
        "moments",
        "Each moment of an incident (reported, fixed, resolved and so on) has a timestamp of the "
        "account that stands for it. One without is empty, and so are the durations made from it.",
        "Say in INCIDENT_TIMESTAMPS which timestamp it is: `fixed=Mitigated`, by name or id. If "
        "the account does not record the moment, say so: `documented=none`.",
        check_moments,
    ),
    ModelCheck(
        "fct_follow_up",
        "priorities",
        "Each priority that INCIDENT_FOLLOW_UP_SLA gives days to is one that a follow-up has. "
        "Otherwise its limit is nobody's, and nothing is ever over it.",
        "Give the name or id as `fct_follow_up` has it, or wait until it is in use.",
        check_priorities,
    ),
)
