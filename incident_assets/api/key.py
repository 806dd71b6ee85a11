"""The API key: where it is found, how it is sent, and how it is kept out of texts.

It is looked up when a request is made, never at import, and is part of no settings object.
"""

import os
from contextlib import suppress

import dlt
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import AuthConfigBase
from requests import PreparedRequest

from incident_assets.settings import SettingError

LONGEST_TEXT = 300  # characters
SHORTEST_SECRET = 8  # characters; a shorter key would blank out ordinary words


def resolve_key() -> tuple[str, str]:
    """Return the API key and where it came from. Raises SettingError that never shows the key."""
    if key := os.environ.get("INCIDENT_API_KEY", "").strip():
        origin = "INCIDENT_API_KEY"
    else:
        key, origin = _find_dlt_secret()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingError(
            f"the API key from {origin} has characters that no key has: copy it anew"
        )
    return key, origin


def _find_dlt_secret() -> tuple[str, str]:
    for provider in dlt.secrets.config_providers:
        value, found_as = provider.get_value("api_key", str, "")
        if value and str(value).strip():
            return str(value).strip(), f"dlt's secret {found_as} ({provider.name})"
    raise SettingError(
        "there is no API key: set INCIDENT_API_KEY in .env or the environment, "
        "or dlt's secret api_key"
    )


@configspec
class LazyBearerAuth(AuthConfigBase):
    """Bearer authentication that looks the key up when a request is made, never before."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {resolve_key()[0]}"
        return request


def clean_text(text: str) -> str:
    """Return text of the API as one printable line without the key, cut to a readable length."""
    with suppress(SettingError):  # no key, nothing to hide
        key = resolve_key()[0]
        if len(key) >= SHORTEST_SECRET:
            text = text.replace(key, "***")
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= LONGEST_TEXT else line[:LONGEST_TEXT] + "…"
