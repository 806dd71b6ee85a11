"""How requests reach the API: the session, the key, retries, timeouts, and errors in words.

One pooled session serves all listings. A request that finally fails does not raise: its listing
is given up with a reason and the walk ends, so that one bad resource costs the others nothing.
What a page has to look like is in `pagination`.
"""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import dlt
import orjson
from dlt.common.configuration import configspec
from dlt.sources.helpers.requests import Client, Session
from dlt.sources.helpers.rest_client.auth import AuthConfigBase
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,
    ContentDecodingError,
    HTTPError,
    RequestException,
    Timeout,
)

from incident_assets.settings import SettingError, Settings
from incident_assets.source.listing import Failure, Listing
from incident_assets.source.pagination import BadPage, Page, read_page

log = logging.getLogger(__name__)

ATTEMPTS = 4  # the first and three retries
RETRIED_STATUSES = (408, 429, *range(500, 600))
RETRIED_ERRORS = (ConnectionError, Timeout, ChunkedEncodingError, ContentDecodingError)
LONGEST_RETRY_AFTER = 300  # seconds
LONGEST_API_MESSAGE = 300  # characters
SHORTEST_SECRET = 8  # characters; a shorter key would blank out ordinary words


class PagedResponse(Response):
    """A response whose page has been read; `last` says whether it ends the listing."""

    page: Page
    last: bool


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


class CountingAdapter(HTTPAdapter):
    """Sends requests and counts each attempt on its listing."""

    def __init__(self, listings: dict[str, Listing], **kwargs: Any):
        super().__init__(**kwargs)
        self._listings = listings

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        if listing := self._listings.get(urlsplit(cast(str, request.url)).path):
            listing.begin_request()
        return super().send(request, *args, **kwargs)


def build_session(settings: Settings, listings: Iterable[Listing]) -> Session:
    """Return the session that all listings share.

    Retries 408, 429, 5xx, connection errors, timeouts and bad bodies up to three times after 2, 4
    and 8 s (times `backoff` / 2), or as Retry-After says. Its `send` does not raise for a request
    that failed for good: it gives the listing up and answers with an empty page.
    """
    prefix = urlsplit(settings.require_base_url()).path
    by_path = {prefix + listing.endpoint.path: listing for listing in listings}

    def is_bad_page(response: Response | None, error: BaseException | None) -> bool:
        if response is None or error is not None:
            return False
        listing = by_path.get(urlsplit(cast(str, response.request.url)).path)
        if listing is None or not response.ok:
            return False
        try:
            cast(PagedResponse, response).page = read_page(listing.endpoint, response)
        except BadPage as bad:
            return bad.retryable
        return False

    client = Client(
        request_timeout=(settings.connect_timeout, settings.read_timeout),
        raise_for_status=False,
        status_codes=RETRIED_STATUSES,
        exceptions=RETRIED_ERRORS,
        request_max_attempts=ATTEMPTS,
        retry_condition=is_bad_page,
        request_backoff_factor=settings.backoff,
        request_max_retry_delay=LONGEST_RETRY_AFTER,
    )
    session = client.session
    adapter = CountingAdapter(by_path, pool_maxsize=max(len(by_path), 1))
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    send_with_retries = session.send

    def send(request: PreparedRequest, **kwargs: Any) -> Response:
        listing = by_path.get(urlsplit(cast(str, request.url)).path)
        if listing is None:
            return send_with_retries(request, **kwargs)
        if listing.failure is not None:
            return _empty_page(request, listing)
        try:
            response = cast(PagedResponse, send_with_retries(request, **kwargs))
            if not hasattr(response, "page"):
                response.page = read_page(listing.endpoint, response)
            response.last = listing.follow(response.page)
        except (RequestException, BadPage) as error:
            listing.fail(describe_failure(error, settings))
            log.warning("%s: %s", listing.name, listing.failure)
            return _empty_page(request, listing)
        body = response.page.body
        response.json = lambda **_: body  # type: ignore[method-assign]  # parsed once, exactly
        return response

    session.send = send  # type: ignore[method-assign]
    return session


@dataclass(frozen=True)
class Identity:
    """Whose key it is: its name, its roles and the address of the account's dashboard."""

    name: str
    roles: tuple[str, ...]
    dashboard_url: str | None


def read_identity(settings: Settings) -> Identity | None:
    """Ask `/v1/identity` once whose key it is; None if it does not answer as it should."""
    client = Client(
        request_timeout=(settings.connect_timeout, settings.read_timeout),
        request_max_attempts=1,
        raise_for_status=False,
    )
    try:
        response = client.get(f"{settings.require_base_url()}/v1/identity", auth=LazyBearerAuth())
        identity = orjson.loads(response.content)["identity"]
        return Identity(
            name=clean_text(str(identity.get("name") or "")),
            roles=tuple(clean_text(str(role)) for role in identity.get("roles") or ()),
            dashboard_url=clean_text(str(identity.get("dashboard_url") or "")) or None,
        )
    except (RequestException, ValueError, LookupError, TypeError, AttributeError):
        return None


def _empty_page(request: PreparedRequest, listing: Listing) -> PagedResponse:
    response = PagedResponse()
    response.status_code = 200
    response.request = request
    response.url = cast(str, request.url)
    body: dict[str, list[Any]] = {listing.name: []}
    response.json = lambda **_: body  # type: ignore[method-assign]
    response.page = Page(body, [], None, None)
    response.last = True
    return response


def describe_failure(error: Exception, settings: Settings) -> Failure:
    """Return why a request failed for good, and what to do, in one line without the key."""
    url = settings.require_base_url()
    if isinstance(error, BadPage):
        return Failure(
            str(error),
            f"Is INCIDENT_API_BASE_URL ({url}) the API and not a web page or a mock? "
            "If so, tell the API's support",
            status=200,
        )
    response = error.response if isinstance(error, HTTPError) else None
    if response is None:
        return Failure(
            f"cannot reach {url}: {clean_text(_innermost_reason(error))}",
            "Check INCIDENT_API_BASE_URL, the network and proxy settings, then sync again",
        )
    status, api = response.status_code, _read_error(response)
    message = f"{status} {api['type']}: {api['message']}" if api["message"] else f"status {status}"
    if status in RETRIED_STATUSES:
        message += f", {ATTEMPTS} times"
    return Failure(message, _find_remedy(status, api["scope"], url), status, api["request_id"])


def _find_remedy(status: int, scope: str, url: str) -> str:
    if status == 401:
        return f"The key from {resolve_key()[1]} was refused: check it or create a new one"
    if status == 403:
        return (
            f"The key lacks {scope or 'a permission'}: grant it in the account's API key settings"
        )
    if status == 404:
        return f"Is INCIDENT_API_BASE_URL ({url}) right?"
    if status in RETRIED_STATUSES:
        return "The API is in trouble or busy: sync again later"
    return "The API refused the request: if it goes on, file an issue with this message"


def _read_error(response: Response) -> dict[str, str]:
    """Return type, message, scope and request id of an API error; bodies of 5xx are anything."""
    try:
        body = orjson.loads(response.content)
        first = (body.get("errors") or [{}])[0]
        found = {
            "type": body.get("type"),
            "message": first.get("message") or first.get("code"),
            "scope": (first.get("metadata") or {}).get("scope"),
            "request_id": body.get("request_id"),
        }
    except (ValueError, AttributeError, LookupError, TypeError):
        found = {}
    found["request_id"] = found.get("request_id") or response.headers.get("X-Request-Id")
    names = ("type", "message", "scope", "request_id")
    return {name: clean_text(str(found.get(name) or "")) for name in names}


def clean_text(text: str) -> str:
    """Return text of the API as one printable line without the key, cut to a readable length."""
    with suppress(SettingError):  # no key, nothing to hide
        key = resolve_key()[0]
        if len(key) >= SHORTEST_SECRET:
            text = text.replace(key, "***")
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= LONGEST_API_MESSAGE else line[:LONGEST_API_MESSAGE] + "…"


def _innermost_reason(error: BaseException) -> str:
    # requests wraps urllib3's exceptions several times; the innermost says what happened.
    for argument in (getattr(error, "reason", None), *error.args, error.__cause__):
        if isinstance(argument, BaseException):
            return _innermost_reason(argument)
    return str(error) or type(error).__name__
