"""Columns that the API got after August 2026, or has in one of two versions of an endpoint only.

They follow from a row and its number: a draw from the account's random stream would change all
values behind it. Which answers lack them is decided in `versions`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

Item = dict[str, Any]
Later = Callable[[int, Item], Item]

CATEGORIES: tuple[Item, ...] = (
    {"name": "Prevention", "description": "So that it does not happen again"},
    {"name": "Detection", "description": "So that we see it sooner"},
    {"name": "Process"},
)


def add_later_columns(rows: dict[str, dict[str, Item]], teams: list[str]) -> None:
    """Give the rows of all resources their later columns; `teams` are the ids of all teams."""
    later: dict[str, Later] = {
        "incident_roles": lambda number, row: {"required": False},
        "workflows": _describe_workflow,
        "catalog_types": lambda number, row: _describe_catalog_type(number, row, teams),
        "follow_ups": _describe_follow_up,
        "incidents": _describe_incident,
    }
    for resource, describe in later.items():
        for number, row in enumerate(list(rows[resource].values())):
            # A new row, as older ones are embedded in others, which do not have these columns.
            rows[resource][row["id"]] = row | describe(number, row)


def _describe_workflow(number: int, row: Item) -> Item:
    return {"auto_run_mode": "confirm_before_running" if number % 3 == 2 else "run_automatically"}


def _describe_catalog_type(number: int, row: Item, teams: list[str]) -> Item:
    later: Item = {
        "engine_resource_type": f'CatalogEntry["{row["id"]}"]',
        "use_name_as_identifier": number % 2 == 0,
    }
    if number < 4:
        later["is_team_type"] = row["name"] == "Team"
    if number % 3 != 2:
        later["owning_team_ids"] = teams[:number]
    return later


def _describe_follow_up(number: int, row: Item) -> Item:
    if number % 4 == 3:
        return {}
    rank = number % len(CATEGORIES)
    return {"category": {"id": f"01HFC{rank:021d}", "rank": rank, **CATEGORIES[rank]}}


def _describe_incident(number: int, row: Item) -> Item:
    values = [value for entry in row["custom_field_entries"] for value in entry["values"]]
    later: Item = {
        "team_ids": [v["value_catalog_entry"]["id"] for v in values if "value_catalog_entry" in v],
        "last_activity_at": row["updated_at"],
    }
    if number % 8:
        channel = f"{row['slack_team_id']}/{row['slack_channel_id']}"
        later["slack_channel_url"] = f"https://slack.example.com/{channel}"
    if number % 8 < 2:
        later["ms_teams_channel_url"] = f"https://teams.example.com/{row['slack_channel_name']}"
    if row["has_debrief"]:
        start = datetime.fromisoformat(row["updated_at"]).replace(microsecond=0)
        times = [f"{start + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ}" for hour in (24, 25)]
        debrief = {"id": f"01HDB{row['id'][5:]}", "start_at": times[0], "end_at": times[1]}
        later["debriefs"] = [debrief]
    return later
