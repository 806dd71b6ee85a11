"""The session that all requests of a run share: timeouts, retries, and who asks for what.

One attempt on the wire is the adapter's, what an answer has to look like is in `pages`, failures in
words are in `failures`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from dlt.sources.helpers.requests import Client, Session
from requests import PreparedRequest, Response
from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,
    ContentDecodingError,
    RequestException,
    Timeout,
)
from tenacity.nap import sleep_using_event

from incident_assets.api.adapter import PacedAdapter, Traffic
from incident_assets.api.cut_off import Stop
from incident_assets.api.failures import clean_text
from incident_assets.api.key import Key, LazyBearerAuth
from incident_assets.api.pages import RetryablePage, refuse_redirect
from incident_assets.api.retries import ATTEMPTS, LONGEST_WAIT, may_pass
from incident_assets.settings import Settings

RETRIED_ERRORS = (
    ConnectionError,
    Timeout,
    ChunkedEncodingError,
    ContentDecodingError,
    RetryablePage,
)


def build_session(
    settings: Settings,
    traffic: Mapping[str, Traffic],
    attempts: int = ATTEMPTS,
    stop: Stop | None = None,
) -> Session:
    """Return the session that all listings share; `traffic` is by the path of prepared requests.

    `stop` ends what it is doing.

    Retries 408, 429, 403 with Retry-After, 5xx but 501, connection errors, timeouts and bodies that
    are no page up to three times after 2, 4 and 8 s (times `backoff` / 2), or as Retry-After says.
    """
    session = Client(
        request_timeout=(settings.connect_timeout, settings.read_timeout),
        raise_for_status=False,
        status_codes=(),
        retry_condition=lambda response, _: response is not None and may_pass(response),
        exceptions=RETRIED_ERRORS,
        request_max_attempts=attempts,
        request_backoff_factor=settings.backoff,
        request_max_retry_delay=min(LONGEST_WAIT, settings.sync_deadline),
    ).session
    stop = stop or Stop()
    # dlt's Client hangs tenacity's retrying on the function, and gives no setting for its sleep.
    cast(Any, session.send).retry.sleep = sleep_using_event(stop.event)
    adapter = PacedAdapter(settings, traffic, stop, pool_maxsize=max(len(traffic), 1))
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    _read_environment(session, settings.require_base_url())
    return session


def _read_environment(session: Session, url: str) -> None:
    # Proxies and certificates, once: requests would search the whole environment at each request.
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify = found["proxies"], found["verify"]
    session.trust_env = False


def find_path(url: str) -> str:
    """Return the path of a URL as requests writes it: `%7E`, accents and `..` look different."""
    prepared = PreparedRequest()
    prepared.prepare_url(url, None)
    return urlsplit(prepared.url or "").path


@dataclass(frozen=True)
class Identity:
    """Whose key it is: its name, its roles and the address of the account's dashboard."""

    name: str
    roles: tuple[str, ...]
    dashboard_url: str | None


def ask(
    settings: Settings,
    key: Key,
    path: str,
    params: Mapping[str, str] | None = None,
    attempts: int = 1,
) -> Response:
    """Return the answer to a request outside a listing. Raises RequestException if it fails."""
    url = settings.require_base_url() + path
    session = build_session(settings, {find_path(url): Traffic(path)}, attempts)
    response = session.get(url, params=params, auth=LazyBearerAuth(key), allow_redirects=False)
    refuse_redirect(response)
    response.raise_for_status()
    return response


def read_identity(settings: Settings, key: Key, attempts: int = 1) -> Identity | None:
    """Ask `/v1/identity` whose key it is; None if it does not answer as it should."""
    try:
        identity = orjson.loads(ask(settings, key, "/v1/identity", None, attempts).content)[
            "identity"
        ]
        return Identity(
            name=clean_text(str(identity.get("name") or ""), key),
            roles=tuple(clean_text(str(role), key) for role in identity.get("roles") or ()),
            dashboard_url=clean_text(str(identity.get("dashboard_url") or ""), key) or None,
        )
    except (RequestException, ValueError, LookupError, TypeError, AttributeError):
        return None
