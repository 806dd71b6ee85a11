"""`Life`: the bundled account as it is at a moment, which moves on; and the clock it moves by.

The account is generated whole, some weeks beyond the moment; what is later is not shown yet. So it
is the same function of seed and moment whether it got there in steps or at once, and a demo that
was stopped goes on where it was. Nothing is later than the real clock, by which syncs are stamped.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

from incident_assets.demo.account import Account, Item, embed_user, measure_durations

WEEK = timedelta(days=7)
TASKS = ("actions", "follow_ups")
REVEALED = ("incidents", "incident_updates", *TASKS)
UNKNOWN_BEFORE_THE_END = (
    "debriefs",
    "postmortem_document_url",
    "workload_minutes_working",
    "workload_minutes_late",
    "workload_minutes_sleeping",
    "workload_minutes_total",
)
UNKNOWN_IN_TRIAGE = ("severity", "incident_type", "duration_metrics")

_parse = cache(datetime.fromisoformat)  # each text is looked at again and again


class Clock:
    """A time that begins at a moment and passes `pace` times as fast as the real one, up to it."""

    def __init__(self, start: datetime, pace: float, wall: Callable[[], float] = time.time):
        self._start, self._pace, self._wall = start, pace, wall
        self._begun = wall()

    def __call__(self) -> datetime:
        now = self._wall()
        passed = timedelta(seconds=(now - self._begun) * self._pace)
        return min(self._start + passed, datetime.fromtimestamp(now, UTC))


class Life:
    """What there is of a whole account at the moment `at`: `account`, to be served.

    `ends` is the `until` that the whole account was generated with.
    """

    def __init__(self, whole: Account, ends: datetime, at: datetime):
        self.ends, self.at = ends, at
        self._rows = whole.rows
        self._first_shift = ends - 10 * WEEK
        self._updates: dict[str, list[Item]] = {}
        for update in whole.rows["incident_updates"].values():
            self._updates.setdefault(update["incident_id"], []).append(update)
        self._events = sorted(self._list_events(ends))
        self._next = 0
        rows = {n: {} if n in REVEALED else dict(whole.rows[n]) for n in whole.rows}
        self.account = Account(rows, whole.modes, whole.identity)
        for resource, row in self.advance(at):
            rows[resource][row["id"]] = row

    def advance(self, at: datetime) -> list[tuple[str, Item]]:
        """Return the rows that are new or other at a later moment, in the order of that."""
        self.at, first = at, self._next
        while self._next < len(self._events) and self._events[self._next][0] <= at:
            self._next += 1
        changed = dict.fromkeys(event[1:] for event in self._events[first : self._next])
        return [(resource, self._show(resource, row, at)) for resource, row in changed]

    def _list_events(self, ends: datetime) -> Iterator[tuple[datetime, str, str]]:
        for incident in self._rows["incidents"].values():
            created = _parse(incident["created_at"])
            for moment in self._list_times(incident):
                yield max(_parse(moment), created), "incidents", incident["id"]
            for update in self._updates.get(incident["id"], ()):
                yield max(_parse(update["created_at"]), created), "incident_updates", update["id"]
        for resource in TASKS:
            for task in self._rows[resource].values():
                for name in ("created_at", "completed_at"):
                    if name in task:
                        yield _parse(task[name]), resource, task["id"]
        for number, schedule in enumerate(self._rows["schedules"].values()):
            start = self._first_shift + timedelta(days=number % 7)
            while start < ends:
                yield start, "schedules", schedule["id"]
                start += WEEK

    def _list_times(self, incident: Item) -> Iterator[str]:
        yield incident["created_at"]
        for moment in incident["incident_timestamp_values"]:
            if "value" in moment:
                yield moment["value"]["value"]
        for update in self._updates.get(incident["id"], ()):
            yield update["created_at"]

    def _show(self, resource: str, identifier: str, at: datetime) -> Item:
        row = self._rows[resource][identifier]
        if resource == "incidents":
            return self._show_incident(row, at)
        if resource == "schedules":
            return self._show_schedule(row, at)
        if "completed_at" in row and _parse(row["completed_at"]) > at:
            row = _leave_out(row, "completed_at")
            return row | {"status": "outstanding", "updated_at": row["created_at"]}
        return row

    def _show_incident(self, row: Item, at: datetime) -> Item:
        times = list(self._list_times(row))
        past = [text for text in times if _parse(text) <= at]
        newest = max(past, key=_parse)
        row = row | {"updated_at": newest, "last_activity_at": newest}
        if len(past) == len(times):
            return row
        told = [x for x in self._updates[row["id"]] if _parse(x["created_at"]) <= at]
        triage = next(iter(self._rows["incident_statuses"].values()))
        told.sort(key=lambda update: _parse(update["created_at"]))
        status = told[-1]["new_incident_status"] if told else triage
        values = [
            _leave_out(moment, "value") if _is_later(moment, at) else moment
            for moment in row["incident_timestamp_values"]
        ]
        row = _leave_out(row, *UNKNOWN_BEFORE_THE_END)
        row |= {"incident_status": status, "incident_timestamp_values": values}
        row |= {"has_debrief": False}
        if status["category"] == "triage":
            return _leave_out(row, *UNKNOWN_IN_TRIAGE)
        if told and "new_severity" in told[-1]:
            row["severity"] = told[-1]["new_severity"]
        if "duration_metrics" in row:
            known = {
                moment["incident_timestamp"]["name"]: _parse(moment["value"]["value"])
                for moment in values
                if "value" in moment
            }
            row["duration_metrics"] = measure_durations(known)
        return row

    def _show_schedule(self, row: Item, at: datetime) -> Item:
        number = list(self._rows["schedules"]).index(row["id"])
        users = list(self._rows["users"].values())
        first = self._first_shift + timedelta(days=number % 7)
        turn = (at - first) // WEEK

        def shift(turn: int) -> Item:
            start = first + turn * WEEK
            ids = {"entry_id": f"e{number}-{turn}", "fingerprint": f"f{number}-{turn}"}
            times = {"start_at": _format(start), "end_at": _format(start + WEEK)}
            user = embed_user(users[(number + turn) % len(users)])
            return {"user": user, "layer_id": "l1", "rotation_id": "r1", **ids, **times}

        shifts = {"current_shifts": [shift(turn)], "next_shifts": [shift(turn + 1)]}
        return row | shifts | {"updated_at": _format(first + turn * WEEK)}


def _is_later(moment: Item, at: datetime) -> bool:
    return "value" in moment and _parse(moment["value"]["value"]) > at


def _format(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _leave_out(row: Item, *names: str) -> Item:
    return {name: value for name, value in row.items() if name not in names}
