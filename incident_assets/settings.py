"""Every setting, once: its environment variable, its default and what it means.

Settings are read when a run or a command starts, but for those that the definitions follow from
(`SHOWN`). The API key is not among them: a run or command looks it up when it begins.
docs/settings.md is made from the fields below.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, available_timezones

LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}
HOST = re.compile(r"(?=.{1,253}$)([\w-]{1,63}\.)*[\w-]{1,63}\.?|[0-9a-f:.]*:[0-9a-f:.]*(%\w+)?")
OWNER = re.compile(r"team:\S+|[^\s@:]+@[^\s@]+\.[a-zA-Z]{2,}")
# A password in an address or in the words that PostgreSQL takes, quoted or not.
PASSWORD = re.compile(r"(^|\s|[?&])(ssl)?password\s*=|://[^/@\s]*:[^/@\s]*@", re.IGNORECASE)
LONGEST = 30 * 86400.0  # seconds; beyond some centuries, clocks and timers overflow
MOST_DAYS = 36500.0
# DuckDB calls a database after its file, and cannot tell it from a schema of that name.
SCHEMA_NAME = re.compile(
    r"incident_(api|history|sync|analytics)(_refresh|_staging)*", re.IGNORECASE
)
DATABASE, PUBLISHED = "INCIDENT_DUCKDB_PATH", "INCIDENT_PUBLISHED_PATH"
LAKE, LAKE_DATA = "INCIDENT_LAKE_CATALOG", "INCIDENT_LAKE_DATA"
HISTORY = "INCIDENT_KEEP_HISTORY"
WEBHOOK, OWNERS = "INCIDENT_ALERT_WEBHOOK", "INCIDENT_OWNERS"
SCHEDULES = "INCIDENT_SCHEDULES"
PERSONAL, PERSONAL_KEY = "INCIDENT_PERSONAL_DATA", "INCIDENT_PERSONAL_DATA_KEY"
DROP_FIELDS = "INCIDENT_DROP_FIELDS"
PERSONAL_MODES = ("keep", "hash", "drop")
REPORT_TITLE = "Incident reliability report"  # by which a page of ours is known
SHORTEST_KEY = 16  # characters; whoever guesses it can tell whose name a hash is
# What the definitions follow from, rather than a run.
SHOWN = (WEBHOOK, OWNERS, SCHEDULES, LAKE, LAKE_DATA)


class SettingError(Exception):
    """A setting is missing or wrong; the text names it and says what to do."""


def _setting(
    name: str,
    default: object,
    meaning: str,
    secret: bool = False,
    zero: bool = False,
    days: bool = False,
) -> Any:
    metadata = {"env": name, "meaning": meaning, "zero": zero, "days": days}
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
        "Minutes from run to run of jobs whose schedules are then on from the start: "
        "`sync_live=15,sync_reference=60`; unset, as usual, and off until switched on",
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
        days=True,
    )
    lake_keep_days: float = _setting(
        "INCIDENT_LAKE_KEEP_DAYS",
        30.0,
        "Days for which a lake can be read as it was then",
        days=True,
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            if isinstance(setting.default, float):
                _check_number(getattr(self, setting.name), setting.metadata)
        if self.time_zone not in _list_time_zones():
            raise SettingError(
                f"INCIDENT_TIME_ZONE is {self.time_zone!r}: it should be the name of a time zone, "
                "such as Europe/Berlin or America/New_York"
            )
        _check_history(self.keep_history)
        _check_personal(self.personal_data, self.personal_data_key)
        _check_lake(self.lake_catalog, self.lake_data)
        for name, path in ((DATABASE, self.database), (PUBLISHED, self.published_copy)):
            _check_database(name, path)
        _refuse_shared_files(self._list_files())

    @property
    def database(self) -> Path:
        """Path of the DuckDB database."""
        return _read_path(DATABASE, self.duckdb_path)

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
            return _read_path(PUBLISHED, self.published)
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
            return _read_path("INCIDENT_REPORT_PATH", self.report)
        return self.database.with_name(f"{self.database.stem}.report.html")

    def find_today(self) -> date:
        """Return the calendar's day, in the time zone of marts and report."""
        return datetime.now(ZoneInfo(self.time_zone)).date()

    def _list_files(self) -> Iterator[tuple[str, Path]]:
        """Yield what is written and what may lie beside it, without links, with its setting."""
        for path in (self.database, _resolve(self.database)):
            for ending in ("", ".wal", ".tmp", ".lock"):
                yield DATABASE, _resolve(path.with_name(path.name + ending))
        # Made anew, wherever a link of that name leads.
        for ending in (".holder", ".work", ".newest.json", ".extensions"):
            path = self.database.with_name(self.database.name + ending)
            yield DATABASE, _resolve(path.parent) / path.name
        for copy in (self.published_copy, self.previous_copy):
            for ending in ("", ".wal"):
                yield PUBLISHED, _resolve(copy.with_name(copy.name + ending))
        yield "INCIDENT_REPORT_PATH", _resolve(self.report_page)

    def require_base_url(self) -> str:
        """Return the base URL without a trailing slash. Raises SettingError if it cannot be one."""
        url = self.base_url.strip().rstrip("/")
        if not url:
            raise SettingError(
                "INCIDENT_API_BASE_URL is not set: give the address of the incident API, such as "
                "https://api.example.com, in .env or the environment (no account? "
                "`incident-assets demo`)"
            )
        parts = _split_address("INCIDENT_API_BASE_URL", url, "https://api.example.com")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise SettingError(
                "INCIDENT_API_BASE_URL holds more than an address: leave out user, password, "
                "query and fragment; the key goes into INCIDENT_API_KEY"
            )
        if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
            raise SettingError(
                "INCIDENT_API_BASE_URL is plain http, which would send the key unencrypted: "
                "use https (plain http is for this machine alone)"
            )
        return url

    def find_webhook(self) -> str:
        """Return where alerts go, or ''. Raises SettingError if that is no address."""
        if self.alert_webhook:
            example = "https://hooks.example.com/services/..."
            _split_address(WEBHOOK, self.alert_webhook, example)
        return self.alert_webhook

    def list_owners(self) -> list[str]:
        """Return whose the assets are. Raises SettingError for what can be no owner."""
        owners = [name.strip() for name in self.owners.split(",") if name.strip()]
        for name in owners:
            if not OWNER.fullmatch(name):
                raise SettingError(
                    f"{OWNERS} has {name!r}: an owner is an e-mail address, or a team as "
                    "team:reliability"
                )
        return owners

    def find_schedules(self) -> dict[str, int]:
        """Return the minutes of jobs by name. Raises SettingError where it is no such list."""
        found = {}
        for part in filter(None, map(str.strip, self.schedules.split(","))):
            job, _, minutes = part.partition("=")
            if not (minutes.strip().isdecimal() and 1 <= int(minutes) <= 60):
                raise SettingError(
                    f"{SCHEDULES} has {part!r}: it should be a job and 1 to 60 minutes, such as "
                    "sync_live=15"
                )
            found[job.strip()] = int(minutes)
        return found


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an environment (the process's own if None).

    An empty variable counts as unset. Raises SettingError naming a variable that does not parse, or
    makes no sense.
    """
    environment = os.environ if environment is None else environment
    given: dict[str, Any] = {}
    for setting in fields(Settings):
        name = setting.metadata["env"]
        if not (raw := environment.get(name, "").strip()):
            continue
        if isinstance(setting.default, float):
            try:
                given[setting.name] = float(raw)
            except ValueError:
                raise SettingError(f"{name} is {raw!r}: it should be a number") from None
        else:
            given[setting.name] = raw
    return Settings(**given)


def read_shown() -> Settings:
    """Return the settings that definitions are made from; the others are as by default."""
    return read_settings({name: os.environ.get(name, "") for name in SHOWN})


@cache
def _list_time_zones() -> set[str]:
    # Looked up in a thousand files; settings are read at every step.
    return available_timezones() - {"localtime"}


def _check_number(value: float, about: Mapping[str, Any]) -> None:
    most = MOST_DAYS if about["days"] else LONGEST
    # A comparison with nan is never true.
    if not (0 < value <= most or (about["zero"] and value == 0)):
        lowest = "0 or more" if about["zero"] else "above 0"
        unit = "days" if about["days"] else "seconds"
        longest = "" if about["days"] else f" ({LONGEST / 86400:.0f} days)"
        raise SettingError(
            f"{about['env']} is {value}: it should be a number of {unit}, {lowest} and at most "
            f"{most:.0f}{longest}"
        )


def _split_address(name: str, url: str, example: str) -> SplitResult:
    """Return the parts of a web address that can be asked; the text may be a secret."""
    # Late, since `--help` waits for no library.
    from requests import PreparedRequest

    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in ("http", "https")
            and HOST.fullmatch(parts.hostname or "")
            and parts.port != 0
        )
        PreparedRequest().prepare_url(url, None)  # what else the client refuses, such as no IDNA
    except ValueError:
        usable = None
    if not usable:
        raise SettingError(
            f"{name} is no web address (scheme, host, and a port from 1 to 65535 if there is one): "
            f"it should look like {example}"
        )
    return parts


def _read_path(name: str, text: str) -> Path:
    path = Path(os.path.expanduser(text))
    if "://" in text or "\0" in text or path.name in ("", ".."):
        raise SettingError(f"{name} is {text!r}: it should be the path of a file on this machine")
    return path


def _check_database(name: str, path: Path) -> None:
    called = re.split(r"[.?]", path.name)[0]
    if SCHEMA_NAME.fullmatch(called):
        raise SettingError(
            f"{name} is {str(path)!r}: DuckDB would take the name {called} for that of a schema in "
            "it; call the file something else, such as incidents.duckdb"
        )
    for place in (path.absolute(), _resolve(path.parent) / path.name):
        for sign, called in (("%", "percent sign"), ("?", "question mark")):
            if name == DATABASE and sign in str(place):
                raise SettingError(
                    f"{name} leads to {str(place)!r}: dlt and DuckDB cannot work beside a database "
                    f"whose path has a {called}; give a path without one"
                )


def _check_history(value: str) -> None:
    with suppress(ValueError):
        if value in ("on", "off") or 0 < float(value) <= MOST_DAYS:
            return
    raise SettingError(
        f"{HISTORY} is {value!r}: it should be on, off, or a number of days, above 0 and at most "
        f"{MOST_DAYS:.0f}"
    )


def _check_personal(mode: str, key: str) -> None:
    if mode not in PERSONAL_MODES:
        raise SettingError(
            f"{PERSONAL} is {mode!r}: it should be keep, hash or drop (docs/personal-data.md)"
        )
    if mode == "hash" and len(key) < SHORTEST_KEY:
        is_short = f"has {len(key)} characters" if key else "is not set"
        raise SettingError(
            f"{PERSONAL} is hash and {PERSONAL_KEY} {is_short}: give at least {SHORTEST_KEY}, such "
            "as those of `openssl rand -hex 32`, and keep them where the API key is kept"
        )


def _check_lake(catalog: str, data: str) -> None:
    if PASSWORD.search(catalog):
        raise SettingError(
            f"{LAKE} holds a password: leave it out and set PGPASSWORD, or write it into ~/.pgpass"
        )
    if bool(catalog) != bool(data):
        there, missing = (LAKE, LAKE_DATA) if catalog else (LAKE_DATA, LAKE)
        raise SettingError(f"{there} is set and {missing} is not: a lake needs both")
    if catalog and not re.match(r"postgres:\s*\S", catalog):
        raise SettingError(
            f"{LAKE} is {catalog!r}: it should look like `postgres:dbname=incidents host=...`"
        )
    if "\0" in data or ("://" in data and not re.match(r"s3://[^/]", data)):
        raise SettingError(f"{LAKE_DATA} is {data!r}: it should be a folder, or s3://bucket/folder")


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _refuse_shared_files(files: Iterable[tuple[str, Path]]) -> None:
    """Raise SettingError where two settings lead to one file, or one into the other's folder."""
    seen: dict[object, str] = {}
    for name, path in files:
        marks: list[object] = [path]
        with suppress(OSError):  # not there yet, or refused by whoever opens it
            marks.append(path.lstat()[1:3])  # hard links have one inode and device
        for mark in (*marks, *path.parents):
            if (other := seen.get(mark, name)) != name:
                raise SettingError(
                    f"{name} and {other} lead to one file ({path}): give each a path of its own"
                )
        seen.update(dict.fromkeys(marks, name))
