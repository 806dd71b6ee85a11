"""The session that all requests of a run share: timeouts, retries, and who asks for what.

One attempt on the wire is the adapter's, what an answer has to look like is in `pages`, failures in
words are in `failures`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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

from incident_assets.api.adapter import PacedAdapter, Traffic
from incident_assets.api.cut_off import CutOff
from incident_assets.api.failures import ATTEMPTS, RETRIED_STATUSES, clean_text
from incident_assets.api.key import Key, LazyBearerAuth
from incident_assets.api.pages import RetryablePage, refuse_redirect
from incident_assets.settings import Settings

RETRIED_ERRORS = (
    ConnectionError,
    Timeout,
    ChunkedEncodingError,
    ContentDecodingError,
    RetryablePage,
)
LONGEST_RETRY_AFTER = 300  # seconds


def build_session(settings: Settings, traffic: Mapping[str, Traffic]) -> Session:
    """Return the session that all listings share; `traffic` is by the path of prepared requests.

    Retries 408, 429, 5xx but 501, connection errors, timeouts and bodies that are no page up to
    three times after 2, 4 and 8 s (times `backoff` / 2), or as Retry-After says.
    """
    session = Client(
        request_timeout=(settings.connect_timeout, settings.read_timeout),
        raise_for_status=False,
        status_codes=RETRIED_STATUSES,
        exceptions=RETRIED_ERRORS,
        request_max_attempts=ATTEMPTS,
        request_backoff_factor=settings.backoff,
        request_max_retry_delay=min(LONGEST_RETRY_AFTER, settings.sync_deadline),
    ).session
    adapter = PacedAdapter(settings, traffic, pool_maxsize=max(len(traffic), 1))
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


def ask_once(settings: Settings, key: Key, path: str, **params: str) -> Response:
    """Return the answer to one request outside a listing. Raises RequestException if it fails."""
    session = Client(
        request_timeout=(settings.connect_timeout, settings.read_timeout), request_max_attempts=1
    ).session
    for scheme in ("http://", "https://"):
        session.mount(scheme, PacedAdapter(settings, {}))
    url = settings.require_base_url() + path
    with CutOff.after(settings.request_timeout):
        response = session.get(url, params=params, auth=LazyBearerAuth(key), allow_redirects=False)
    refuse_redirect(response)
    return response


def read_identity(settings: Settings, key: Key) -> Identity | None:
    """Ask `/v1/identity` once whose key it is; None if it does not answer as it should."""
    try:
        identity = orjson.loads(ask_once(settings, key, "/v1/identity").content)["identity"]
        return Identity(
            name=clean_text(str(identity.get("name") or ""), key),
            roles=tuple(clean_text(str(role), key) for role in identity.get("roles") or ()),
            dashboard_url=clean_text(str(identity.get("dashboard_url") or ""), key) or None,
        )
    except (RequestException, ValueError, LookupError, TypeError, AttributeError):
        return None
