"""The data of the bundled account: eighteen months of plausible incidents, made from a seed.

Only rows are made here, as the API shows them; which of them a request gets is the server's. The
same arguments give the same bytes, and ids do not depend on the day.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from incident_assets.demo.later import add_later_columns
from incident_assets.demo.names import (
    DURATIONS,
    FIELDS,
    FIRST,
    LAST,
    MOMENTS,
    PRIORITIES,
    ROLES,
    SERVICES,
    SEVERITIES,
    STATUSES,
    SYMPTOMS,
    TEAMS,
    TYPES,
)

Item = dict[str, Any]

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RESOURCES = (
    "actions",
    "catalog_types",
    "custom_fields",
    "follow_ups",
    "incident_roles",
    "incident_timestamps",
    "incident_updates",
    "incident_statuses",
    "workflows",
    "users",
    "severities",
    "schedules",
    "incidents",
)
SPAN = timedelta(days=548)


@dataclass
class Account:
    """Rows by resource and id, oldest first; modes of actions and follow-ups; whose key it is."""

    rows: dict[str, dict[str, Item]] = field(default_factory=lambda: {r: {} for r in RESOURCES})
    modes: dict[str, str] = field(default_factory=dict)
    identity: Item = field(default_factory=dict)


def generate_account(
    incidents: int = 1000, seed: int = 1, until: datetime | None = None
) -> Account:
    """Return an account whose last incident is shortly before `until` (None: today, 0:00 UTC)."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    generator = _Generator(random.Random(seed), until or today)
    generator.add_reference(max(12, int(60 * (incidents / 1000) ** 0.5)))
    generator.add_incidents(incidents)
    teams = [make_id("catalog_types", 700 + number) for number in range(len(TEAMS))]
    add_later_columns(generator.account.rows, teams)
    return generator.account


def make_id(resource: str, number: int) -> str:
    """Return a 26-character id that grows with the number."""
    text = f"01H{RESOURCES.index(resource):02d}"
    for shift in range(20, -1, -1):
        text += ALPHABET[number >> (5 * shift) & 31] if shift < 12 else "0"
    return text


def embed_user(user: Item) -> Item:
    """Return a user as it is embedded in other rows."""
    return {k: user[k] for k in ("id", "name", "email", "slack_user_id", "role") if k in user}


def measure_durations(moments: Mapping[str, datetime]) -> list[Item]:
    """Return the duration metrics of an incident with these moments, by name."""
    measured = []
    for number, (name, start, end) in enumerate(DURATIONS):
        metric: Item = {"id": make_id("incident_timestamps", 500 + number), "name": name}
        found: Item = {"duration_metric": metric, "status": "timestamps_missing"}
        if start in moments and end in moments:
            seconds = int((moments[end] - moments[start]).total_seconds())
            # The API leaves a stale number beside every status but success.
            found |= {
                "status": "success" if seconds >= 0 else "invalid_timestamps",
                "value_seconds": abs(seconds),
            }
        measured.append(found)
    return measured


class _Generator:
    def __init__(self, chance: random.Random, until: datetime):
        self.chance = chance
        self.until = until
        self.account = Account(
            identity={
                "name": "Bundled demo key",
                "roles": ["viewer", "global_access"],
                "dashboard_url": "https://app.example.com/demo",
                "team_roles": [],
                "teams": [],
            }
        )
        self.since = until - SPAN - timedelta(days=30)

    def add(self, resource: str, row: Item, at: datetime | None = None) -> Item:
        """Give a row an id (and creation times where `at` is given) and keep it."""
        rows = self.account.rows[resource]
        row = {"id": make_id(resource, len(rows) + 1), **row}
        if at is not None:
            row["created_at"] = row["updated_at"] = self.text(at)
        rows[row["id"]] = row
        return row

    def text(self, at: datetime) -> str:
        digits = self.chance.randrange(7)
        fraction = f".{at.microsecond:06d}"[: digits + 1] if digits else ""
        return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}Z"

    def listed(self, resource: str) -> list[Item]:
        return list(self.account.rows[resource].values())

    def add_reference(self, people: int) -> None:
        base = {"id": make_id("catalog_types", 900), "name": "Member", "slug": "member"}
        for number in range(people):
            name = f"{FIRST[number % len(FIRST)]} {LAST[number * 5 % len(LAST)]}"
            user: Item = {"name": name, "role": "responder", "base_role": base, "custom_roles": []}
            user["seats"] = {
                "on_call": "none" if number % 3 else "full_access",
                "response": "full_access",
            }
            user["is_active"] = number % 10 != 7
            if number % 9:
                user["email"] = f"{name.split()[0].lower()}.{number}@example.com"
            if number % 7:
                user["slack_user_id"] = f"U{number:08d}"
            self.add("users", user)
        for rank, name in enumerate(SEVERITIES):
            self.add("severities", {"name": name, "description": "", "rank": rank}, self.since)
        for name, category, rank in STATUSES:
            status = {"name": name, "category": category, "description": "", "rank": rank}
            self.add("incident_statuses", status, self.since)
        for rank, name in enumerate(MOMENTS):
            self.add("incident_timestamps", {"name": name, "rank": rank})
        for name, kind in ROLES:
            role = {"name": name, "role_type": kind, "description": name, "instructions": ""}
            self.add("incident_roles", {**role, "shortform": name.split()[0].lower()}, self.since)
        for name in ("Service", "Team", "Customer", "Region", "Product", "Vendor"):
            self.add("catalog_types", self._catalog_type(name), self.since)
        for name, kind in FIELDS:
            definition: Item = {"name": name, "description": "", "field_type": kind}
            if name == "Owner":
                definition["catalog_type_id"] = make_id("catalog_types", 2)
            self.add("custom_fields", definition, self.since)
        for number in range(6):
            self.add("workflows", self._workflow(number))
        for number in range(28):
            self.add("schedules", self._schedule(number), self.since)

    def _catalog_type(self, name: str) -> Item:
        attribute = {"id": f"a-{name.lower()}", "name": "Owner", "type": "String", "array": False}
        return {
            "name": name,
            "type_name": f'Custom["{name}"]',
            "description": f"A {name.lower()}",
            "semantic_type": "custom",
            "icon": "box",
            "color": "blue",
            "ranked": False,
            "is_editable": True,
            "annotations": {"example.com/source": "demo"},
            "categories": ["service"],
            "schema": {"version": 1, "attributes": [{**attribute, "mode": "external"}]},
        }

    def _workflow(self, number: int) -> Item:
        return {
            "name": f"Workflow {number}",
            "state": ("active", "active", "active", "disabled", "draft", "error")[number],
            "version": number + 1,
            "trigger": {"name": "incident.updated", "label": "Incident updated"},
            "steps": [{"name": "slack.send", "label": "Post a message"}],
            "condition_groups": [],
            "expressions": [],
            "once_for": [],
            "runs_on_incidents": "newly_created",
            "runs_on_incident_modes": ["standard"],
            "continue_on_step_error": False,
            "include_private_incidents": False,
            "include_private_escalations": False,
            "private_incident_scope": "none",
        }

    def _schedule(self, number: int) -> Item:
        users = self.listed("users")

        def shift(days: int) -> Item:
            user = embed_user(users[(number + days) % len(users)])
            at = self.until + timedelta(days=days)
            times = {"start_at": self.text(at), "end_at": self.text(at + timedelta(days=7))}
            ids = {"entry_id": f"e{number}-{days}", "fingerprint": f"f{number}-{days}"}
            return {"user": user, "layer_id": "l1", "rotation_id": "r1", **ids, **times}

        return {
            "name": f"On call {number}",
            "timezone": ("Europe/London", "America/New_York", "Asia/Tokyo")[number % 3],
            "annotations": {"example.com/team": f"t{number}"},
            "team_ids": [],
            "permalink": f"https://app.example.com/demo/schedules/{number}",
            "current_shifts": [shift(-3)],
            "next_shifts": [shift(4)],
        }

    def add_incidents(self, count: int) -> None:
        for number in range(count):
            share = (number + self.chance.random()) / count
            at = self.since + timedelta(days=30) + SPAN * share
            # Nights are quieter than working hours.
            at = at.replace(hour=(at.hour + 9) % 24 if at.hour < 6 else at.hour)
            self._add_incident(number, min(at, self.until - timedelta(minutes=30)))

    def _pick_ending(self, recent: bool) -> str:
        if recent and self.chance.random() < 0.6:
            return self.chance.choice(("triage", "live", "live", "paused", "learning"))
        # Nobody leaves an incident paused for months.
        weights = {"closed": 89, "learning": 3, "declined": 4, "canceled": 2}
        kinds = [*weights, "merged"]
        return self.chance.choices(kinds, [*weights.values(), 2])[0]

    def _add_incident(self, number: int, created: datetime) -> None:
        chance = self.chance
        ending = self._pick_ending(self.until - created < timedelta(days=4))
        mode = chance.choices(("standard", "retrospective", "test", "tutorial"), (92, 4, 3, 1))[0]
        rank = chance.choices(range(5), (20, 40, 25, 12, 3))[0]
        service = chance.choice(SERVICES)
        moments = self._live_through(created, ending, rank, mode)
        last = max(at for at in moments.values())
        users, severities = self.listed("users"), self.listed("severities")
        lead = chance.choice(users)
        late = chance.randrange(0, 90)
        status = chance.choice(
            [s for s in self.listed("incident_statuses") if s["category"] == ending]
        )
        row: Item = {
            "reference": f"INC-{number + 1}",
            "name": chance.choice(SYMPTOMS).format(service).capitalize(),
            "summary": f"Alerts fired for {service}.\n" + "What we saw, and what we did. " * 20,
            "mode": mode,
            "visibility": "private" if chance.random() < 0.04 else "public",
            "incident_status": status,
            "creator": self._actor(lead),
            "incident_role_assignments": [
                {"role": self._embedded_role(role), "assignee": embed_user(person)}
                for role, person in zip(
                    self.listed("incident_roles")[:2], (lead, chance.choice(users)), strict=True
                )
            ],
            "custom_field_entries": self._field_entries(service),
            "incident_timestamp_values": [
                {
                    "incident_timestamp": moment,
                    **(
                        {"value": {"value": self.text(moments[moment["name"]])}}
                        if moment["name"] in moments
                        else {}
                    ),
                }
                for moment in self.listed("incident_timestamps")
            ],
            "has_debrief": ending == "closed" and rank > 2,
            "permalink": f"https://app.example.com/demo/incidents/{number + 1}",
            "slack_channel_id": f"C{number:08d}",
            "slack_channel_name": f"inc-{number + 1}",
            "slack_team_id": "T0000001",
        }
        if ending != "triage":
            row["severity"] = severities[rank]
            row["incident_type"] = self._incident_type(chance.choices(range(3), (80, 12, 8))[0])
            row["duration_metrics"] = measure_durations(moments)
        if rank > 2:
            row["external_issue_reference"] = self._issue(number)
            row["call_url"] = f"https://calls.example.com/{number + 1}"
        if row["has_debrief"]:
            row["postmortem_document_url"] = f"https://docs.example.com/{number + 1}"
        if chance.random() < 0.9:
            working, sleeping = chance.randrange(10, 300), chance.randrange(0, 40)
            row["workload_minutes_working"] = working
            row["workload_minutes_late"] = late
            row["workload_minutes_sleeping"] = sleeping
            row["workload_minutes_total"] = working + late + sleeping
        incident = self.add("incidents", row, created)
        incident["updated_at"] = self.text(max(last, created + timedelta(seconds=1)))
        self._add_updates(incident, moments, ending)
        # One that is still going on has had its tasks from the start.
        self._add_tasks(incident, max(last, created) if last < self.until else created)

    def _live_through(
        self, created: datetime, ending: str, rank: int, mode: str
    ) -> dict[str, datetime]:
        chance = self.chance
        # An incident imported later was reported days before it was created.
        reported = created - timedelta(
            days=chance.randrange(1, 9) if mode == "retrospective" else 0
        )
        moments = {"Reported": reported, "Impact started": reported}
        moments["Impact started"] -= timedelta(minutes=chance.randrange(0, 40))
        if ending in ("declined", "canceled", "merged"):
            moments[ending.capitalize()] = reported + timedelta(minutes=chance.randrange(5, 60))
        elif ending != "triage":
            names = [
                "Accepted",
                "Identified",
                "Fixed",
                "Resolved",
                "Documented",
                "Reviewed",
                "Closed",
            ]
            reached = {"live": 2, "paused": 2, "learning": 5, "closed": 7}[ending]
            at = reported
            for step, name in enumerate(names[:reached]):
                scale = (6, 40 - 6 * rank, 50 + 20 * rank, 30, 900, 1500, 1500)[step]
                at += timedelta(minutes=chance.expovariate(1 / scale), seconds=1)
                if step > 1 or chance.random() > 0.05:
                    moments[name] = at
            if chance.random() < 0.01:
                moments["Accepted"] = reported - timedelta(minutes=3)
        return {name: min(at, self.until) for name, at in moments.items()}

    def _actor(self, user: Item) -> Item:
        kind = self.chance.choices(("user", "api_key", "workflow", "alert"), (85, 5, 5, 5))[0]
        if kind == "user":
            return {"user": embed_user(user)}
        if kind == "alert":
            return {"alert": {"id": make_id("actions", 7), "title": "Error rate high"}}
        return {kind: {"id": make_id("workflows", 1), "name": "Automation"}}

    @staticmethod
    def _embedded_role(role: Item) -> Item:
        return role

    def _incident_type(self, number: int) -> Item:
        return {
            "id": make_id("catalog_types", 800 + number),
            "name": TYPES[number],
            "description": f"{TYPES[number]} incidents",
            "is_default": number == 0,
            "private_incidents_only": TYPES[number] == "Security",
            "create_in_triage": "optional",
            "created_at": f"{self.since:%Y-%m-%dT%H:%M:%SZ}",
            "updated_at": f"{self.since:%Y-%m-%dT%H:%M:%SZ}",
        }

    @staticmethod
    def _issue(number: int) -> Item:
        return {
            "provider": ("jira", "github", "linear")[number % 3],
            "issue_name": f"OPS-{number + 1}",
            "issue_permalink": f"https://tickets.example.com/OPS-{number + 1}",
        }

    @staticmethod
    def _team(name: str) -> Item:
        return {"id": make_id("catalog_types", 700 + TEAMS.index(name)), "name": name}

    def _field_entries(self, service: str) -> list[Item]:
        chance, definitions = self.chance, self.listed("custom_fields")

        def option(field: int, names: Sequence[str], value: str) -> Item:
            owner, key = definitions[field]["id"], names.index(value)
            chosen = {"id": f"{owner}-{key}", "custom_field_id": owner}
            return {"value_option": {**chosen, "value": value, "sort_key": key}}

        owner = TEAMS[SERVICES.index(service) % len(TEAMS)]
        hit = [owner, *chance.sample([t for t in TEAMS if t != owner], chance.randrange(3))]
        values: tuple[list[Item], ...] = (
            [option(0, SERVICES, service)],
            [option(1, TEAMS, team) for team in hit],
            [{"value_numeric": str(chance.randrange(5000))}],
            [{"value_text": "A deploy, most likely"}],
            [{"value_link": "https://tickets.example.com/1"}],
            [{"value_catalog_entry": self._team(owner)}],
        )
        entries = []
        for definition, value in zip(definitions, values, strict=True):
            custom: Item = {k: definition[k] for k in ("id", "name", "description", "field_type")}
            custom["options"] = []
            shown = value if chance.random() < 0.8 else []
            entries.append({"custom_field": custom, "values": shown})
        return entries

    def _add_updates(self, incident: Item, moments: dict[str, datetime], ending: str) -> None:
        statuses = {status["name"]: status for status in self.listed("incident_statuses")}
        steps = {
            "Reported": "Triage",
            "Accepted": "Investigating",
            "Identified": "Fixing",
            "Fixed": "Monitoring",
            "Resolved": "Documenting",
            "Closed": "Closed",
            "Declined": "Declined",
            "Canceled": "Canceled",
            "Merged": "Merged",
        }
        told = sorted((at, steps[name]) for name, at in moments.items() if name in steps)
        if ending == "closed" and self.chance.random() < 0.03:
            told.append((min(told[-1][0] + timedelta(hours=2), self.until), "Fixing"))
            told.append((min(told[-1][0] + timedelta(hours=1), self.until), "Closed"))
        guess = self._guess_severity(incident)
        for at, name in told:
            update = {
                "incident_id": incident["id"],
                "message": f"We are at “{name}”.\nNext update soon.",
                "new_incident_status": statuses[name],
                "updater": self._actor(self.chance.choice(self.listed("users"))),
            }
            if "severity" in incident and name != "Triage":
                is_guess = name == "Investigating" != told[-1][1]
                update["new_severity"] = guess if is_guess else incident["severity"]
            if name == "Merged":
                update["merged_into_incident_id"] = make_id("incidents", 1)
            self.add("incident_updates", update, at)["created_at"] = self.text(at)
        for row in self.listed_last("incident_updates", len(told)):
            del row["updated_at"]

    def _guess_severity(self, incident: Item) -> Item | None:
        """Return what an incident was first taken for: now and then less, or more, than it was."""
        severities, number = self.listed("severities"), len(self.account.rows["incidents"])
        if "severity" not in incident:
            return None
        place = severities.index(incident["severity"]) - (number % 11 == 3) + (number % 37 == 5)
        return severities[min(max(place, 0), len(severities) - 1)]

    def listed_last(self, resource: str, count: int) -> list[Item]:
        """Return the newest rows without walking the others."""
        total = len(self.account.rows[resource])
        return [
            self.account.rows[resource][make_id(resource, number)]
            for number in range(total - count + 1, total + 1)
        ]

    @staticmethod
    def _priority(number: int) -> Item:
        name = PRIORITIES[number]
        identifier = make_id("severities", 600 + number)
        return {"id": identifier, "name": name, "description": "", "rank": number}

    def _add_tasks(self, incident: Item, at: datetime) -> None:
        chance = self.chance
        for resource, count in (("actions", 2), ("follow_ups", 1)):
            for _ in range(count):
                status = chance.choices(
                    ("completed", "outstanding", "not_doing", "deleted"), (65, 25, 6, 4)
                )[0]
                person = chance.choice(self.listed("users"))
                task: Item = {
                    "incident_id": incident["id"],
                    "description": "Write down what happened, and why",
                    "status": status,
                    "creator": self._actor(person),
                }
                if chance.random() < 0.8:
                    task["assignee"] = embed_user(person)
                if resource == "follow_ups":
                    task |= {"title": "Make it impossible to happen again", "labels": ["demo"]}
                    if chance.random() < 0.7:
                        task["assignee_team"] = self._team(chance.choice(TEAMS))
                    if chance.random() < 0.5:
                        task["priority"] = self._priority(chance.randrange(len(PRIORITIES)))
                    if chance.random() < 0.4:
                        task["external_issue_reference"] = self._issue(chance.randrange(10_000))
                row = self.add(resource, task, at)
                if status == "completed":
                    done = at + timedelta(days=chance.randrange(1, 60))
                    if done > self.until:  # at some time before, not all of them at the last moment
                        done = at + (self.until - at) * (len(self.account.rows[resource]) % 97 / 97)
                    done = max(done, at + timedelta(seconds=1))
                    row["completed_at"] = row["updated_at"] = self.text(done)
                stream = chance.random() < 0.02
                self.account.modes[row["id"]] = "stream" if stream else incident["mode"]
