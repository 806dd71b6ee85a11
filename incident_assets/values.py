"""What the text of a setting may be: for each kind of value, one error that names the setting.

Which settings there are, and what follows from them, is in `settings`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from zoneinfo import available_timezones

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
DIVISORS = [x for x in range(1, 61) if 60 % x == 0]  # others would not be from run to run
DATABASE, PUBLISHED = "INCIDENT_DUCKDB_PATH", "INCIDENT_PUBLISHED_PATH"
LAKE, LAKE_DATA = "INCIDENT_LAKE_CATALOG", "INCIDENT_LAKE_DATA"
HISTORY = "INCIDENT_KEEP_HISTORY"
WEBHOOK, OWNERS = "INCIDENT_ALERT_WEBHOOK", "INCIDENT_OWNERS"
SCHEDULES = "INCIDENT_SCHEDULES"
PERSONAL, PERSONAL_KEY = "INCIDENT_PERSONAL_DATA", "INCIDENT_PERSONAL_DATA_KEY"
PERSONAL_MODES = ("keep", "hash", "drop")
SHORTEST_KEY = 16  # characters; whoever guesses it can tell whose name a hash is


class SettingError(Exception):
    """A setting is missing or wrong; the text names it and says what to do."""


def check_number(value: float, about: Mapping[str, Any]) -> None:
    """Raise SettingError unless a number is in the range of its setting, which `about` tells."""
    unit = about["unit"]
    most = MOST_DAYS if unit == "days" else LONGEST
    # A comparison with nan is never true.
    if not (0 < value <= most or (about["zero"] and value == 0)):
        lowest = "0 or more" if about["zero"] else "above 0"
        longest = f" ({LONGEST / 86400:.0f} days)" if unit == "seconds" else ""
        raise SettingError(
            f"{about['env']} is {value}: it should be a number of {unit}, {lowest} and at most "
            f"{most:.0f}{longest}"
        )


def check_time_zone(name: str) -> None:
    """Raise SettingError where no time zone is called so."""
    if name not in _list_time_zones():
        raise SettingError(
            f"INCIDENT_TIME_ZONE is {name!r}: it should be the name of a time zone, "
            "such as Europe/Berlin or America/New_York"
        )


@cache
def _list_time_zones() -> set[str]:
    # Looked up in a thousand files.
    return available_timezones() - {"localtime"}


def parse_base_url(text: str) -> str:
    """Return the base URL without a trailing slash. Raises SettingError if it cannot be one."""
    url = text.strip().rstrip("/")
    if not url:
        raise SettingError(
            "INCIDENT_API_BASE_URL is not set: give the address of the incident API, such as "
            "https://api.example.com, in .env or the environment (no account? "
            "`incident-assets demo`)"
        )
    parts = split_address("INCIDENT_API_BASE_URL", url, "https://api.example.com")
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


def parse_owners(text: str) -> list[str]:
    """Return owners as Dagster takes them. Raises SettingError for what can be none."""
    owners = [name.strip() for name in text.split(",") if name.strip()]
    for name in owners:
        if not OWNER.fullmatch(name):
            raise SettingError(
                f"{OWNERS} has {name!r}: an owner is an e-mail address, or a team as "
                "team:reliability"
            )
    return owners


def parse_schedules(text: str) -> dict[str, int]:
    """Return the minutes of jobs by name. Raises SettingError where it is no such list."""
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        job, _, minutes = part.partition("=")
        if not (minutes.strip().isdecimal() and int(minutes) in DIVISORS):
            raise SettingError(
                f"{SCHEDULES} has {part!r}: it should be a job and minutes that divide an hour "
                f"({', '.join(map(str, DIVISORS))}), such as sync_live=15"
            )
        found[job.strip()] = int(minutes)
    return found


def split_address(name: str, url: str, example: str) -> SplitResult:
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


def find_folder() -> str:
    """Return the working directory, where relative paths begin. Raises SettingError without one."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise SettingError(
            "the folder that this was started in is gone, and relative paths begin there: start it "
            "in one that is there"
        ) from None


def read_path(name: str, text: str) -> Path:
    """Return a path, with ~ resolved. Raises SettingError where a text is none."""
    path = Path(os.path.expanduser(text))
    if "://" in text or "\0" in text or path.name in ("", ".."):
        raise SettingError(f"{name} is {text!r}: it should be the path of a file on this machine")
    return path


def check_database(name: str, path: Path) -> None:
    """Raise SettingError where dlt or DuckDB cannot work with a database of this path."""
    called = re.split(r"[.?]", path.name)[0]
    if SCHEMA_NAME.fullmatch(called):
        raise SettingError(
            f"{name} is {str(path)!r}: DuckDB would take the name {called} for that of a schema in "
            "it; call the file something else, such as incidents.duckdb"
        )
    for place in (path.absolute(), resolve(path.parent) / path.name):
        for sign, called in (("%", "percent sign"), ("?", "question mark")):
            if name == DATABASE and sign in str(place):
                raise SettingError(
                    f"{name} leads to {str(place)!r}: dlt and DuckDB cannot work beside a database "
                    f"whose path has a {called}; give a path without one"
                )


def check_history(value: str) -> None:
    """Raise SettingError unless a text says for how long history is kept."""
    with suppress(ValueError):
        if value in ("on", "off") or 0 < float(value) <= MOST_DAYS:
            return
    raise SettingError(
        f"{HISTORY} is {value!r}: it should be on, off, or a number of days, above 0 and at most "
        f"{MOST_DAYS:.0f}"
    )


def check_personal(mode: str, key: str) -> None:
    """Raise SettingError for a mode that is none, or a key that is too short for it."""
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


def check_lake(catalog: str, data: str) -> None:
    """Raise SettingError where a lake lacks a part, or an address is none or has a password."""
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


def resolve(path: Path) -> Path:
    """Return a path without links."""
    return Path(os.path.realpath(path))


def refuse_shared_files(files: Iterable[tuple[str, Path]]) -> None:
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
