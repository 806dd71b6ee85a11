"""An account with known names, addresses and chat ids wherever there may be a person.

In every place where the contract has one, and in fields that nobody knows. What is done with it
belongs to the tests.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from incident_assets.demo.account import Account, generate_account, make_id
from incident_assets.warehouse.file import quote_name


class Hostile:
    """The account, and the `secrets` that are in it: names, addresses, chat ids."""

    def __init__(self, incidents: int = 40):
        self.account: Account = generate_account(incidents)
        self.secrets: list[str] = []
        rows = self.account.rows
        known: dict[str, str] = {}
        for user in rows["users"].values():
            fresh = self.make_person(user["id"])
            known |= {user[x]: fresh[x] for x in ("name", "email", "slack_user_id") if user.get(x)}
        self.secrets = [x for x in self.secrets if x in known.values()]
        for resource in rows:
            for identifier, row in rows[resource].items():
                rows[resource][identifier] = _replace(row, known)
        self._add_to_incidents(list(rows["incidents"].values()))
        self._add_elsewhere()

    def make_name(self) -> str:
        """Return a name that is nowhere else."""
        self.secrets.append(f"Quillan {len(self.secrets):03} Ashgrove")
        return self.secrets[-1]

    def make_address(self) -> str:
        """Return an address that is nowhere else."""
        self.secrets.append(f"quillan.{len(self.secrets):03}@people.example")
        return self.secrets[-1]

    def make_chat_id(self) -> str:
        """Return a chat id that is nowhere else."""
        self.secrets.append(f"U9QUILL{len(self.secrets):03}")
        return self.secrets[-1]

    def make_person(self, identifier: str = "") -> dict[str, Any]:
        """Return a user as the API embeds them, with an id of its own."""
        return {
            "id": identifier or make_id("users", 900 + len(self.secrets)),
            "name": self.make_name(),
            "email": self.make_address(),
            "slack_user_id": self.make_chat_id(),
            "role": "viewer",
        }

    def make_named(self) -> dict[str, Any]:
        """Return what has an id and a name alone."""
        return {"id": make_id("users", 900 + len(self.secrets)), "name": self.make_name()}

    def _add_to_incidents(self, incidents: list[dict[str, Any]]) -> None:
        new = self.make_named
        incidents[0] |= {
            "commander": new(),
            "watchers": [self.make_person(), new()],
            "approved_by": self.make_name(),
            "reviewer_email": self.make_address(),
            "mentions": [self.make_chat_id()],
            "extra": {"deep": [{"role": {"id": "r", "name": "Lead"}, "holder": new()}]},
            "on_call": [new()],
            "by_address": {self.make_address(): 1},
            # What cannot be a column:
            "Escalated-To": {"user": self.make_person()},
            "_hidden": [{"assignee": new()}],
            "reported_by ": self.make_name(),
            self.make_address(): True,
        }
        incidents[1]["name"] = {"user": self.make_person()}  # of another type
        incidents[2]["incident_status"] |= {"changed_by": new(), "seen": [self.make_address()]}
        incidents[3]["external_issue_reference"] = {
            "provider": "jira",
            "issue_name": "PROJ-1",
            "issue_permalink": "https://jira.example.com/PROJ-1",
            "assignee": new(),
        }
        incidents[4]["creator"] = {"user": {**new(), "profile": {"nickname": self.make_name()}}}
        incidents[5]["incident_role_assignments"] = [
            {
                "role": {"id": make_id("incident_roles", 1), "name": "Lead", "role_type": "lead"},
                "holder": new(),
                "deputies": [self.make_person()],
            }
        ]
        incidents[6]["duration_metrics"] = [
            {
                "duration_metric": {"id": "m", "name": "Time to fix", "owner": new()},
                "status": "success",
                "value_seconds": 60,
                "measuredBy": {"displayName": self.make_name()},
            }
        ]
        field = {"id": make_id("custom_fields", 90), "field_type": "single_select"}
        entry = {"id": make_id("catalog_types", 99)}
        incidents[7]["custom_field_entries"] = [
            {
                "custom_field": {**field, "name": "Affected", "options": []},
                "values": [
                    {
                        "value_catalog_entry": {
                            **entry,
                            "name": self.make_name(),
                            "external_id": self.make_chat_id(),
                            "aliases": [self.make_address(), self.make_name()],
                        }
                    }
                ],
            },
            {
                "custom_field": {
                    **field,
                    "id": make_id("custom_fields", 91),
                    "name": "Responsible person",
                    "options": [{"id": "o", "value": self.make_name()}],
                },
                "values": [
                    {"value_option": {"id": "o", "value": self.make_name()}},
                    {"value_catalog_entry": {**entry, "name": self.make_name()}},
                ],
            },
        ]

    def _add_elsewhere(self) -> None:
        new, rows = self.make_named, self.account.rows

        def first(resource: str) -> dict[str, Any]:
            return next(iter(rows[resource].values()))

        first("users").update(
            display_name=self.make_name(),
            phone="+49 30 9999 4711 01",
            profile={"bio": self.make_name(), "pages": [self.make_address()]},
            teams_handle=self.make_name(),
        )
        self.secrets.append("+49 30 9999 4711 01")
        first("actions").update(assigned_by=new(), creator={"user": self.make_person()})
        first("follow_ups").update(assignee=self.make_person(), reviewer=self.make_person())
        first("incident_updates").update(updater={"user": self.make_person()}, seen_by=[new()])
        first("schedules").update(
            annotations={"owner": self.make_name(), "contact": self.make_address()},
            overrides=[{"user": new(), "start_at": "2026-01-01T00:00:00Z"}],
        )
        first("workflows").update(
            condition_groups=[
                {
                    "conditions": [
                        {
                            "subject": {"label": "Lead", "reference": "incident.role"},
                            "operation": {"label": "is one of", "value": "one_of"},
                            "param_bindings": [
                                {
                                    "array_value": [
                                        {
                                            "label": self.make_name(),
                                            "literal": make_id("users", 1),
                                        },
                                        {"label": "x", "literal": self.make_address()},
                                    ]
                                }
                            ],
                        }
                    ]
                }
            ]
        )
        first("catalog_types").update(annotations={"maintainer_email": self.make_address()})
        first("custom_fields").update(
            fixed_filter={"catalog_attribute_id": "a", "values": [self.make_address()]}
        )


def _replace(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replace(x, known) for name, x in value.items()}
    if isinstance(value, list):
        return [_replace(x, known) for x in value]
    return known.get(value, value) if isinstance(value, str) else value


def find_in_files(secrets: list[str], folder: Path) -> dict[str, list[str]]:
    """Return which of the secrets are in any byte of which files below a folder."""
    found: dict[str, list[str]] = {}
    for path in sorted(x for x in folder.rglob("*") if x.is_file()):
        body = path.read_bytes()
        here = [x for x in secrets if x.encode() in body or x.encode("utf-16-le") in body]
        if here:
            found[str(path.relative_to(folder))] = here
    return found


def find_in_tables(secrets: list[str], path: Path) -> dict[str, list[str]]:
    """Return which of the secrets are in which columns of a database, whatever compresses them."""
    found = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        for table, column, text in _read_texts(connection):
            if here := [x for x in secrets if x in text]:
                found[f"{table}.{column}"] = here
    return found


def _read_texts(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, str]]:
    columns = connection.execute(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE NOT internal"
    ).fetchall()
    for schema, table, column in columns:
        place = f"{quote_name(schema)}.{quote_name(table)}"
        rows = connection.execute(f"SELECT {quote_name(column)}::VARCHAR FROM {place}").fetchall()
        yield f"{schema}.{table}", column, "\n".join(row[0] for row in rows if row[0])
