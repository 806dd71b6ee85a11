"""Failures in words: what went wrong with a resource, and what whoever is on call can do.

Texts never hold the key; what comes from the API is cleaned. Whether an answer is a page, and
whether to ask again, is decided in `pages` and `session`.
"""

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate
from pathlib import Path

import orjson
from requests import Response
from requests.exceptions import HTTPError, RequestException

from incident_assets.api.adapter import LongBody, OutOfTime
from incident_assets.api.key import Key, resolve_key
from incident_assets.api.pages import BadPage, NoPage, Redirected
from incident_assets.api.retries import ATTEMPTS, LongWait, may_pass
from incident_assets.values import SettingError

MISSING_STATUSES = (404, 405, 410, 501)
LONGEST_TEXT = 300  # characters
CODE = re.compile(r"[a-z0-9_.-]{1,100}", re.IGNORECASE)  # no words, and no address
SHORTEST_SECRET = 8  # characters; a shorter key would blank out ordinary words


@dataclass(frozen=True)
class Failure:
    """Why a resource could not be read, in words that someone on call can act on."""

    message: str
    remedy: str
    status: int | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        request = f" (request id {self.request_id})" if self.request_id else ""
        return f"{self.message}{request}. {self.remedy}"


def clean_text(text: str, key: Key | None = None) -> str:
    """Return text of the API as one printable line without the key, cut to a readable length.

    Without a key, that of this moment is left out, if there is one.
    """
    if key is None:
        with suppress(SettingError):
            key = resolve_key()
    if key is not None and len(key.secret) >= SHORTEST_SECRET:
        text = text.replace(key.secret, "***")
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= LONGEST_TEXT else line[:LONGEST_TEXT] + "…"


def quote_notice(text: str, quotes: bool = True) -> str:
    """Return what the API announces of a path's end; unless it `quotes`, a date or a word of ours.

    As in the headers Deprecation and Sunset.
    """
    if quotes or re.fullmatch(r"true|@\d{1,12}", text):
        return clean_text(text)
    date = parsedate(text)
    return f"{date[0]}-{date[1]:02}-{date[2]:02}" if date else "announced"


def find_request_error(error: BaseException) -> RequestException | BadPage | None:
    """Return what went wrong with a request, out of what dlt has wrapped it in; None if nothing."""
    return next((e for e in unwrap(error) if isinstance(e, RequestException | BadPage)), None)


def unwrap(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, the innermost last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_missing(error: Exception) -> bool:
    """Whether an answer to a first request says that nothing is at that path."""
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code in MISSING_STATUSES
    return isinstance(error, Redirected | NoPage)


def describe_failure(error: Exception, url: str, key: Key, quotes: bool = True) -> Failure:
    """Return why a listing failed for good, in one line without the key.

    Of what is no failure of a request only kind and place are told: its text may hold rows. Unless
    it `quotes`, nothing is repeated that the API says in its own words, which may name people.
    """
    if isinstance(error, BadPage):
        return Failure(
            clean_text(str(error), key),
            f"Is INCIDENT_API_BASE_URL ({url}) the API and not a web page or a mock? "
            "If so, tell the API's support",
            status=200,
        )
    if not isinstance(error, RequestException):
        return describe_surprise(error)
    if isinstance(error, OutOfTime):
        return Failure(str(error), "Give it more time, or sync fewer resources at once")
    if isinstance(error, LongWait):
        return Failure(str(error), "Sync again after that time")
    if isinstance(error, LongBody):
        return Failure(
            str(error),
            "Raise the limit if the account is that large; else tell the API's support",
        )
    if isinstance(error, Redirected):
        status = error.response.status_code if error.response is not None else None
        return Failure(
            clean_text(str(error), key) if quotes else f"{status}: redirected elsewhere",
            "Set INCIDENT_API_BASE_URL to the API's own address",
            status,
        )
    response = error.response if isinstance(error, HTTPError) else None
    if response is None:
        return Failure(
            f"cannot reach {url}: {clean_text(_find_reason(error, quotes), key)}",
            "Check INCIDENT_API_BASE_URL, the network and proxy settings, then sync again",
        )
    status, api = response.status_code, _read_error(response, key)
    if not quotes:
        api = {x: text if CODE.fullmatch(text) else "" for x, text in api.items()} | {"message": ""}
    message = f"{status} {api['type']}: {api['message']}" if api["message"] else f"status {status}"
    if not quotes and api["type"]:
        message = f"{status} {api['type']}"
    if may_pass(response):
        message += f", {ATTEMPTS} times"
        remedy = "The API is in trouble or busy: sync again later"
    else:
        remedy = _find_remedy(status, api["scope"], url, key)
    return Failure(message, remedy, status, api["request_id"])


def describe_surprise(error: BaseException) -> Failure:
    """Return the failure of a listing that nobody thought of, by its kind and place alone."""
    *_, innermost = unwrap(error)
    frame = traceback.extract_tb(innermost.__traceback__)
    place = f" in {Path(frame[-1].filename).name}:{frame[-1].lineno}" if frame else ""
    return Failure(
        f"what the API sent cannot be taken: {type(innermost).__name__}{place}",
        "Nothing of it was loaded: file an issue with this message",
    )


def describe_missing(asked: Sequence[tuple[str, Failure]], url: str) -> Failure:
    """Return the failure of a resource that is at none of its paths; `asked` has at least two."""
    answers = " nor ".join(f"{path} ({failure.message})" for path, failure in asked)
    last = asked[-1][1]
    return Failure(
        f"the API has neither {answers}", _find_successor(url), last.status, last.request_id
    )


def describe_wrong_address(url: str) -> Failure:
    """Return the failure of all resources where no path of the API is there."""
    return Failure(
        "none of the API's paths is there",
        f"Is INCIDENT_API_BASE_URL ({url}) right? It is the address in front of /v2/incidents",
        404,
    )


def _find_successor(url: str) -> str:
    return (
        f"If INCIDENT_API_BASE_URL ({url}) is right, the API has moved on: look for a newer "
        "version of incident_assets"
    )


def _find_remedy(status: int, scope: str, url: str, key: Key) -> str:
    if status == 401:
        return f"The key from {key.origin} was refused: check it or create a new one"
    if status == 403:
        return (
            f"The key lacks {scope or 'a permission'}: grant it in the account's API key settings"
        )
    if status in MISSING_STATUSES:
        return _find_successor(url)
    return "The API refused the request: if it goes on, file an issue with this message"


def _read_error(response: Response, key: Key) -> dict[str, str]:
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
    return {name: clean_text(str(found.get(name) or ""), key) for name in names}


def _find_reason(error: BaseException, quotes: bool) -> str:
    """Return what went wrong in words; of what may hold what was on the wire, its kind if need be.

    requests wraps urllib3's exceptions several times; the innermost says what happened.
    """
    for argument in (getattr(error, "reason", None), *error.args, error.__cause__):
        if isinstance(argument, BaseException):
            return _find_reason(argument, quotes)
    told = str(error) if quotes else getattr(error, "strerror", None)
    return told or type(error).__name__
