"""Every setting, once: its environment variable, its default and what it means.

Settings are read when a run or a command starts, but for those that the definitions follow from
(`SHOWN`). The API key is not among them: a run or command looks it up when it begins.
docs/settings.md is made from the fields below.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from incident_assets import values
from incident_assets.values import (
    DATABASE,
    HISTORY,
    LAKE,
    LAKE_DATA,
    OWNERS,
    PERSONAL,
    PERSONAL_KEY,
    PUBLISHED,
    SCHEDULES,
    SHORTEST_KEY,
    WEBHOOK,
    SettingError,
)

DROP_FIELDS = "INCIDENT_DROP_FIELDS"
REPORT_TITLE = "Incident reliability report"  # by which a page of ours is known
# What the definitions follow from, rather than a run.
SHOWN = (WEBHOOK, OWNERS, SCHEDULES, LAKE, LAKE_DATA)


def _setting(
    name: str,
    default: object,
    meaning: str,
    secret: bool = False,
    zero: bool = False,
    unit: str = "seconds",
) -> Any:
    metadata = {"env": name, "meaning": meaning, "zero": zero, "unit": unit}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The settings of one run. Numbers are floats; paths are relative to the working directory.

    Raises SettingError where a number makes no sense, a path is none, or two lead to one file.
    """

    base_url: str = _setting(
        "INCIDENT_API_BASE_URL", "", "Address of the API, such as https://api.example.com"
    )
    duckdb_path: str = _setting(
        "INCIDENT_DUCKDB_PATH", "data/incidents.duckdb", "DuckDB database that is written"
    )
    lake_catalog: str = _setting(
        LAKE,
        "",
        "PostgreSQL database of a lake, in place of the file: `postgres:dbname=x host=...`; "
        "the password is in PGPASSWORD or ~/.pgpass",
    )
    lake_data: str = _setting(
        LAKE_DATA, "", "Where the lake keeps its tables: a folder on shared storage, or `s3://...`"
    )
    published: str = _setting(
        "INCIDENT_PUBLISHED_PATH", "", "Copy to read from; unset, beside the database"
    )
    report: str = _setting(
        "INCIDENT_REPORT_PATH", "", "HTML file of the report; unset, beside the database"
    )
    alert_webhook: str = _setting(
        WEBHOOK,
        "",
        "Where failures and recoveries are posted, as Slack takes them; a secret",
        secret=True,
    )
    owners: str = _setting(
        OWNERS, "", "Whose the assets are, in the Dagster UI: `team:reliability,ana@example.com`"
    )
    schedules: str = _setting(
        SCHEDULES,
        "",
        "Minutes from run to run, which divide an hour, of jobs whose schedules are then on from "
        "the start: `sync_live=15,sync_reference=60`; freshness goes by them. Unset, as usual, and "
        "off until switched on",
    )
    timestamps: str = _setting(
        "INCIDENT_TIMESTAMPS",
        "",
        "Moments under other names: `accepted=Acknowledged,fixed=01ABC...` (name or id); "
        "`documented=none`, not recorded",
    )
    statuses: str = _setting(
        "INCIDENT_STATUSES", "", "Statuses in another category: `Monitoring=closed` (name or id)"
    )
    follow_up_sla: str = _setting(
        "INCIDENT_FOLLOW_UP_SLA",
        "",
        "Days that a follow-up may take, by priority: `Urgent=7,High=14`; unset, no limit",
    )
    personal_data: str = _setting(
        PERSONAL,
        "keep",
        "What becomes of names, addresses and chat ids of people: `keep`, `hash` or `drop` "
        "([personal data](personal-data.md))",
    )
    personal_data_key: str = _setting(
        PERSONAL_KEY,
        "",
        f"Key of the hashes, at least {SHORTEST_KEY} characters; a secret",
        secret=True,
    )
    drop_fields: str = _setting(
        DROP_FIELDS,
        "",
        "Columns that are left empty, such as free text: "
        "`incident_updates.message,incidents.summary`",
    )
    time_zone: str = _setting(
        "INCIDENT_TIME_ZONE",
        "UTC",
        "Whose days, weeks and months the marts and the report count in, such as Europe/Berlin",
    )
    keep_history: str = _setting(
        HISTORY,
        "on",
        "Whether versions of rows that have ended are kept: `on`, `off` (what is there stays), or "
        "for how many days",
    )
    lock_timeout: float = _setting(
        "INCIDENT_LOCK_TIMEOUT", 300.0, "Seconds to wait for a database that is in use", zero=True
    )
    connect_timeout: float = _setting(
        "INCIDENT_CONNECT_TIMEOUT", 5.0, "Seconds to wait for a connection to the API"
    )
    read_timeout: float = _setting(
        "INCIDENT_READ_TIMEOUT", 30.0, "Seconds of silence after which a response is given up"
    )
    request_timeout: float = _setting(
        "INCIDENT_REQUEST_TIMEOUT", 120.0, "Seconds after which a response still coming is cut off"
    )
    sync_deadline: float = _setting(
        "INCIDENT_SYNC_DEADLINE", 14400.0, "Seconds after which what is not whole yet is given up"
    )
    body_limit: float = _setting(
        "INCIDENT_BODY_LIMIT",
        128.0,
        "Megabytes of a decoded response, beyond which it is refused",
        unit="megabytes",
    )
    backoff: float = _setting(
        "INCIDENT_RETRY_BACKOFF",
        2.0,
        "Seconds before the first of three retries, then doubled",
        zero=True,
    )
    keep_runs_days: float = _setting(
        "INCIDENT_KEEP_RUNS_DAYS",
        30.0,
        "Days after which Dagster's runs are deleted, but the latest of each asset and check; 0, "
        "those too",
        zero=True,
        unit="days",
    )
    lake_keep_days: float = _setting(
        "INCIDENT_LAKE_KEEP_DAYS", 30.0, "Days for which a lake can be read as it was", unit="days"
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            if isinstance(setting.default, float):
                values.check_number(getattr(self, setting.name), setting.metadata)
        values.check_time_zone(self.time_zone)
        values.check_history(self.keep_history)
        values.check_personal(self.personal_data, self.personal_data_key)
        values.check_lake(self.lake_catalog, self.lake_data)
        for name, path in ((DATABASE, self.database), (PUBLISHED, self.published_copy)):
            values.check_database(name, path)
        values.refuse_shared_files(self._list_files())

    @property
    def database(self) -> Path:
        """Path of the DuckDB database."""
        return values.read_path(DATABASE, self.duckdb_path)

    @property
    def database_name(self) -> str:
        """What is written, as messages call it."""
        return "the lake" if self.lake_catalog else self.duckdb_path

    @property
    def database_setting(self) -> str:
        """The setting that says what is written."""
        return LAKE if self.lake_catalog else DATABASE

    @property
    def masks_people(self) -> bool:
        """Whether names, addresses and chat ids are kept out."""
        return self.personal_data != "keep"

    @property
    def history_days(self) -> float | None:
        """For how many days versions of rows are kept; None for all of them, 0 for none more."""
        known: dict[str, float | None] = {"on": None, "off": 0.0}
        return known[x] if (x := self.keep_history) in known else float(x)

    @property
    def published_copy(self) -> Path:
        """Path of the copy to read from: `<name>.published.duckdb` unless it is set."""
        if self.published:
            return values.read_path(PUBLISHED, self.published)
        return self.database.with_name(f"{self.database.stem}.published{self.database.suffix}")

    @property
    def previous_copy(self) -> Path:
        """Path of the copy of before: `<name of the published copy>.previous.duckdb`."""
        copy = self.published_copy
        return copy.with_name(f"{copy.stem}.previous{copy.suffix}")

    @property
    def report_page(self) -> Path:
        """Path of the reliability report: `<name>.report.html` unless it is set."""
        if self.report:
            return values.read_path("INCIDENT_REPORT_PATH", self.report)
        return self.database.with_name(f"{self.database.stem}.report.html")

    def find_today(self) -> date:
        """Return the calendar's day, in the time zone of marts and report."""
        return datetime.now(ZoneInfo(self.time_zone)).date()

    def _list_files(self) -> Iterator[tuple[str, Path]]:
        """Yield what is written and what may lie beside it, without links, with its setting."""
        for path in (self.database, values.resolve(self.database)):
            for ending in ("", ".wal", ".tmp", ".lock"):
                yield DATABASE, values.resolve(path.with_name(path.name + ending))
        # Made anew, wherever a link of that name leads.
        for ending in (".holder", ".work", ".newest.json", ".extensions"):
            path = self.database.with_name(self.database.name + ending)
            yield DATABASE, values.resolve(path.parent) / path.name
        for copy in (self.published_copy, self.previous_copy):
            for ending in ("", ".wal"):
                yield PUBLISHED, values.resolve(copy.with_name(copy.name + ending))
        yield "INCIDENT_REPORT_PATH", values.resolve(self.report_page)

    def require_base_url(self) -> str:
        """Return the base URL without a trailing slash. Raises SettingError if it cannot be one."""
        return values.parse_base_url(self.base_url)

    def find_webhook(self) -> str:
        """Return where alerts go, or ''. Raises SettingError if that is no address."""
        if self.alert_webhook:
            values.split_address(WEBHOOK, self.alert_webhook, "https://hooks.example.com/...")
        return self.alert_webhook

    def list_owners(self) -> list[str]:
        """Return whose the assets are. Raises SettingError for what can be no owner."""
        return values.parse_owners(self.owners)

    def find_schedules(self) -> dict[str, int]:
        """Return the minutes of jobs by name. Raises SettingError where it is no such list."""
        return values.parse_schedules(self.schedules)


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an environment (the process's own if None).

    An empty variable counts as unset. Raises SettingError naming a variable that does not parse, or
    makes no sense.
    """
    environment = os.environ if environment is None else environment
    names = [setting.metadata["env"] for setting in fields(Settings)]
    texts = tuple(environment.get(name, "").strip() for name in names)
    return _parse(texts, values.find_folder(), os.environ.get("HOME"))


@lru_cache(maxsize=4)  # settings are read at every step, and each time files would be looked for
def _parse(texts: tuple[str, ...], *_: str | None) -> Settings:
    given: dict[str, Any] = {}
    for setting, text in zip(fields(Settings), texts, strict=True):
        try:
            if text:
                given[setting.name] = float(text) if isinstance(setting.default, float) else text
        except ValueError:
            name = setting.metadata["env"]
            raise SettingError(f"{name} is {text!r}: it should be a number") from None
    return Settings(**given)


def read_shown() -> Settings:
    """Return the settings that definitions are made from; the others are as by default."""
    return read_settings({name: os.environ.get(name, "") for name in SHOWN})
