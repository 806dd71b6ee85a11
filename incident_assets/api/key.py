"""The API key: where it is found, and how it is sent. `failures` keeps it out of texts.

It is looked up when a run or a command needs it, never at import, and is part of no settings
object.
"""

import os
from dataclasses import dataclass, field

import dlt
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import AuthConfigBase
from requests import PreparedRequest

from incident_assets.values import SettingError


@dataclass(frozen=True)
class Key:
    """The API key and where it came from; shown, it is only the latter."""

    secret: str = field(repr=False)
    origin: str


def resolve_key() -> Key:
    """Look the API key up. Raises SettingError, which never shows it."""
    if secret := os.environ.get("INCIDENT_API_KEY", "").strip():
        key = Key(secret, "INCIDENT_API_KEY")
    else:
        key = _find_dlt_secret()
    if not (key.secret.isascii() and key.secret.isprintable()) or " " in key.secret:
        raise SettingError(
            f"the API key from {key.origin} has characters that no key has: copy it anew"
        )
    return key


def _find_dlt_secret() -> Key:
    for provider in dlt.secrets.config_providers:
        value, found_as = provider.get_value("api_key", str, "")
        if value and str(value).strip():
            return Key(str(value).strip(), f"dlt's secret {found_as} ({provider.name})")
    raise SettingError(
        "there is no API key: set INCIDENT_API_KEY in .env or the environment, "
        "or dlt's secret api_key"
    )


@configspec(init=False)
class LazyBearerAuth(AuthConfigBase):
    """Bearer authentication; without a key, it is looked up when the first request is made."""

    def __init__(self, key: Key | None = None):
        super().__init__()
        self._key = key

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        self._key = self._key or resolve_key()
        request.headers["Authorization"] = f"Bearer {self._key.secret}"
        return request
