"""Every setting, once: its environment variable, its default and what it means.

Settings are read when a run or a command starts, never at import, and the API key is not among
them: a run or command looks it up when it begins. The README's table of settings is made from the
fields below.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


class SettingError(Exception):
    """A setting is missing or wrong; the text names it and says what to do."""


def _setting(name: str, default: object, meaning: str, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"env": name, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """The settings of one run. Seconds are floats; paths are relative to the working directory."""

    base_url: str = _setting(
        "INCIDENT_API_BASE_URL", "", "Address of the API, such as https://api.example.com"
    )
    duckdb_path: str = _setting(
        "INCIDENT_DUCKDB_PATH", "data/incidents.duckdb", "DuckDB database that is written"
    )
    published: str = _setting(
        "INCIDENT_PUBLISHED_PATH", "", "Copy to read from; unset, beside the database"
    )
    report: str = _setting(
        "INCIDENT_REPORT_PATH", "", "HTML file of the report; unset, beside the database"
    )
    alert_webhook: str = _setting(
        "INCIDENT_ALERT_WEBHOOK",
        "",
        "Where failures and recoveries are posted, as Slack takes them; a secret",
        secret=True,
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
    lock_timeout: float = _setting(
        "INCIDENT_LOCK_TIMEOUT", 300.0, "Seconds to wait for a database that is in use"
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
        "INCIDENT_RETRY_BACKOFF", 2.0, "Seconds before the first of three retries, then doubled"
    )

    @property
    def database(self) -> Path:
        """Path of the DuckDB database."""
        return Path(self.duckdb_path)

    @property
    def published_copy(self) -> Path:
        """Path of the copy to read from: `<name>.published.duckdb` unless it is set."""
        if self.published:
            return Path(self.published)
        return self.database.with_name(f"{self.database.stem}.published{self.database.suffix}")

    @property
    def report_page(self) -> Path:
        """Path of the reliability report: `<name>.report.html` unless it is set."""
        return Path(self.report or self.database.with_name(f"{self.database.stem}.report.html"))

    def require_base_url(self) -> str:
        """Return the base URL without a trailing slash. Raises SettingError if it cannot be one."""
        url = self.base_url.strip().rstrip("/")
        if not url:
            raise SettingError(
                "INCIDENT_API_BASE_URL is not set: give the address of the incident API, such as "
                "https://api.example.com, in .env or the environment (no account? `make demo`)"
            )
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingError(
                "INCIDENT_API_BASE_URL is no web address: it should look like "
                "https://api.example.com"
            )
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


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an environment (the process's own if None).

    An empty variable counts as unset. Raises SettingError naming a variable that does not parse.
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
