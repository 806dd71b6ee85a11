"""Failures in words: what went wrong with a resource, and what whoever is on call can do.

Texts never hold the key; what comes from the API is cleaned. Deciding what is a failure is the
transport's.
"""

import orjson
from requests import Response
from requests.exceptions import HTTPError, RequestException

from incident_assets.api.adapter import OutOfTime
from incident_assets.api.key import clean_text, resolve_key
from incident_assets.api.pages import BadPage
from incident_assets.settings import Settings
from incident_assets.sync.listing import Failure

ATTEMPTS = 4  # the first and three retries
RETRIED_STATUSES = (408, 429, *range(500, 600))


class Redirected(RequestException):
    """The API answered with a redirect; it is not followed, so the key goes nowhere else."""


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
    if isinstance(error, OutOfTime):
        return Failure(str(error), "Give it more time, or sync fewer resources at once")
    if isinstance(error, Redirected):
        status = error.response.status_code if error.response is not None else None
        return Failure(str(error), "Set INCIDENT_API_BASE_URL to the API's own address", status)
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


def _innermost_reason(error: BaseException) -> str:
    # requests wraps urllib3's exceptions several times; the innermost says what happened.
    for argument in (getattr(error, "reason", None), *error.args, error.__cause__):
        if isinstance(argument, BaseException):
            return _innermost_reason(argument)
    return str(error) or type(error).__name__
