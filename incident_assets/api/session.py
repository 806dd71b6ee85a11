"""How requests reach the API: the session that all listings share, its retries and page checks.

A request that finally fails does not raise: its listing is given up with a reason and the walk
ends, so that one bad resource costs the others nothing. One attempt on the wire is the adapter's,
what a page has to look like is in `pagination`, failures in words are in `failures`.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import dlt
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

from incident_assets.api.adapter import CutOff, PacedAdapter
from incident_assets.api.failures import (
    ATTEMPTS,
    RETRIED_STATUSES,
    Redirected,
    describe_failure,
)
from incident_assets.api.key import LazyBearerAuth, clean_text
from incident_assets.api.pages import BadPage, Page
from incident_assets.settings import Settings
from incident_assets.sync.listing import Listing

log = logging.getLogger(__name__)

RETRIED_ERRORS = (ConnectionError, Timeout, ChunkedEncodingError, ContentDecodingError)
LONGEST_RETRY_AFTER = 300  # seconds


class PagedResponse(Response):
    """A response whose page has been read; `last` says whether it ends the listing."""

    page: Page
    last: bool


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
        if listing is None or not response.ok or response.is_redirect:
            return False
        try:
            cast(PagedResponse, response).page = listing.reader.read(response)
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
        request_max_retry_delay=min(LONGEST_RETRY_AFTER, settings.sync_deadline),
    )
    session = client.session
    adapter = PacedAdapter(settings, by_path, pool_maxsize=max(len(by_path), 1))
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    _read_environment(session, settings.require_base_url())
    send_with_retries = session.send

    def send(request: PreparedRequest, **kwargs: Any) -> Response:
        listing = by_path.get(urlsplit(cast(str, request.url)).path)
        if listing is None:
            return send_with_retries(request, **kwargs)
        if listing.failure is not None:
            return _empty_page(request, listing)
        try:
            kwargs["allow_redirects"] = False
            response = cast(PagedResponse, send_with_retries(request, **kwargs))
            if response.is_redirect:
                raise _refuse_redirect(response)
            if not hasattr(response, "page"):
                response.page = listing.reader.read(response)
            response.last = listing.follow(response.page, _name_walk(request))
            if listing.load_id is None:
                listing.load_id = dlt.current.load_package_state()["load_id"]
            # In this thread, so that no listing waits for another's page to be written.
            listing.spool(response.page)
        except (RequestException, BadPage) as error:
            listing.fail(describe_failure(error, settings))
            log.warning("%s: %s", listing.name, listing.failure)
            return _empty_page(request, listing)
        _show_cursor(response, listing)
        return response

    session.send = send  # type: ignore[method-assign]
    return session


def _read_environment(session: Session, url: str) -> None:
    # Proxies and certificates, once: requests would search the whole environment at each request.
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify = found["proxies"], found["verify"]
    session.trust_env = False


@dataclass(frozen=True)
class Identity:
    """Whose key it is: its name, its roles and the address of the account's dashboard."""

    name: str
    roles: tuple[str, ...]
    dashboard_url: str | None


def ask_once(settings: Settings, path: str, **params: str) -> Response:
    """Return the answer to one request outside a listing. Raises RequestException if it fails."""
    client = Client(
        request_timeout=(settings.connect_timeout, settings.read_timeout), request_max_attempts=1
    )
    session = client.session
    for scheme in ("http://", "https://"):
        session.mount(scheme, PacedAdapter(settings, {}))
    url = settings.require_base_url() + path
    with CutOff.after(settings.request_timeout):
        response = session.get(url, params=params, auth=LazyBearerAuth(), allow_redirects=False)
    if response.is_redirect:
        raise _refuse_redirect(response)
    return response


def read_identity(settings: Settings) -> Identity | None:
    """Ask `/v1/identity` once whose key it is; None if it does not answer as it should."""
    try:
        identity = orjson.loads(ask_once(settings, "/v1/identity").content)["identity"]
        return Identity(
            name=clean_text(str(identity.get("name") or "")),
            roles=tuple(clean_text(str(role)) for role in identity.get("roles") or ()),
            dashboard_url=clean_text(str(identity.get("dashboard_url") or "")) or None,
        )
    except (RequestException, ValueError, LookupError, TypeError, AttributeError):
        return None


def _refuse_redirect(response: Response) -> Redirected:
    target = clean_text(response.headers["Location"])
    return Redirected(f"{response.status_code}: redirected to {target}", response=response)


def _empty_page(request: PreparedRequest, listing: Listing) -> PagedResponse:
    response = PagedResponse()
    response.status_code = 200
    response.request = request
    response.url = cast(str, request.url)
    response.page = Page([], [], 0, None, None)
    response.last = True
    _show_cursor(response, listing)
    return response


def _name_walk(request: PreparedRequest) -> str:
    """Return what the pages of one walk have in common: their query without the cursor."""
    query = parse_qsl(urlsplit(cast(str, request.url)).query)
    return repr([pair for pair in query if pair[0] != "after"])


def _show_cursor(response: PagedResponse, listing: Listing) -> None:
    """Let dlt see what it needs to walk on, and no rows: those go from the page to the spool."""
    body = {listing.name: [], "pagination_meta": {"after": response.page.after}}
    response.json = lambda **_: body  # type: ignore[method-assign]
