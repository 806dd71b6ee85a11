"""Faults of the bundled API, of tests and of `chaos`: which requests they hit, what happens then.

An effect gets the connection's handler and the answer that would have been sent, and returns the
answer to send instead, or None where it has dealt with the connection itself.
"""

import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Protocol

Body = dict[str, Any]


@dataclass
class Answer:
    """A response before it is sent; `announced` overrides its Content-Length."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None


class Connection(Protocol):
    """What effects need of the server's request handler."""

    connection: socket.socket
    path: str
    wfile: Any
    close_connection: bool

    def is_stopping(self) -> bool: ...


Effect = Callable[[Connection, Answer], Answer | None]


@dataclass
class Fault:
    """An effect on chosen requests: of a resource (None: any), by their number from 1, or all.

    `path` chooses requests that are of no resource.
    """

    effect: Effect
    resource: str | None = None
    path: str | None = None
    nth: int | None = None
    every: int | None = None
    first: int | None = None
    last_page: bool = False
    seen: int = 0

    def hits(self, resource: str | None, path: str, answer: Answer) -> bool:
        """Count a request and say whether the fault hits it."""
        if self.path is not None or resource is None:
            if self.path != path:
                return False
        elif self.resource not in (None, resource):
            return False
        self.seen += 1
        if self.last_page and b'"after":' in answer.body:
            return False
        if self.nth is not None:
            return self.seen == self.nth
        if self.every is not None:
            return self.seen % self.every == 0
        return self.first is None or self.seen <= self.first


def error_body(status: int, kind: str, code: str, message: str, **metadata: str) -> Body:
    """Return the API's error body, without its request id."""
    error: Body = {"code": code, "message": message}
    if metadata:
        error["metadata"] = metadata
    return {"type": kind, "status": status, "errors": [error]}


def forbidden_body(resource: str) -> Body:
    """Return the error of a key without the scope to view a resource."""
    message, scope = f"the key may not view {resource}", f"{resource}.view"
    return error_body(403, "resource_forbidden", "missing_required_scope", message, scope=scope)


def status(code: int, body: bytes | None = None, **headers: str) -> Effect:
    """Answer with a status; the body is an API error unless given."""
    error = json.dumps(error_body(code, "internal_error", "fault", "injected fault")).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _, answer: Answer(code, error if body is None else body, named)


def rate_limited(seconds: int, as_date: bool = False) -> Effect:
    """Answer 429 with Retry-After in seconds or as a date."""
    body = json.dumps(error_body(429, "too_many_requests", "too_many", "slow down")).encode()

    def effect(connection: Connection, answer: Answer) -> Answer:
        when = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        return Answer(429, body, {"Retry-After": when if as_date else str(seconds)})

    return effect


def forbidden(resource: str) -> Effect:
    """Answer 403: the key lacks the scope to view a resource."""
    return status(403, json.dumps(forbidden_body(resource)).encode())


def text(body: bytes, code: int = 200, kind: str = "text/html") -> Effect:
    """Answer with any body and content type."""
    return status(code, body, Content_Type=kind)


def where(text: str, effect: Effect) -> Effect:
    """Have an effect only on requests whose address, query included, holds a text."""
    return lambda connection, answer: (
        effect(connection, answer) if text in connection.path else answer
    )


def html() -> Effect:
    """Answer 200 with a web page."""
    return text(b"<html><body>Please log in</body></html>")


def reset() -> Effect:
    """Close the connection with a reset, without an answer."""

    def effect(connection: Connection, answer: Answer) -> None:
        linger = struct.pack("ii", 1, 0)
        connection.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close_connection = True
        connection.connection.close()

    return effect


def hang(seconds: float) -> Effect:
    """Answer after a pause."""

    def effect(connection: Connection, answer: Answer) -> Answer:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not connection.is_stopping():
            time.sleep(0.02)
        return answer

    return effect


def drip(interval: float, head: bool = True) -> Effect:
    """Send the head, unless that drips too, then a byte per interval until one side gives up."""

    def effect(connection: Connection, answer: Answer) -> None:
        connection.close_connection = True
        connection.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        connection.wfile.write(b"Content-Length: 1000000\r\n\r\n" if head else b"X-Drip: ")
        try:
            while not connection.is_stopping():
                connection.wfile.write(b" ")
                connection.wfile.flush()
                time.sleep(interval)
        except OSError:
            return

    return effect


def cut_short() -> Effect:
    """Send less than was announced, then close."""

    def effect(connection: Connection, answer: Answer) -> Answer:
        connection.close_connection = True
        half = answer.body[: len(answer.body) // 2]
        return Answer(answer.status, half, answer.headers, announced=len(answer.body))

    return effect


def unframed() -> Effect:
    """Announce a body in chunks, and send it in none."""

    def effect(connection: Connection, answer: Answer) -> None:
        connection.close_connection = True
        connection.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        connection.wfile.write(b"Transfer-Encoding: chunked\r\n\r\n" + answer.body + b"\r\n")

    return effect


def redirect(location: str) -> Effect:
    """Answer 302 to another address."""
    return status(302, b"", Location=location)


def edit(change: Callable[[Body], object]) -> Effect:
    """Change the JSON body that would have been sent, in place or by returning another."""

    def effect(_: Connection, answer: Answer) -> Answer:
        body = json.loads(answer.body)
        changed = change(body)
        body = body if changed is None else changed
        return Answer(answer.status, json.dumps(body).encode(), answer.headers)

    return effect


def _list_key(body: Body) -> str:
    return next(key for key in body if key != "pagination_meta")


def without_list() -> Effect:
    """Leave the list out of the page."""
    return edit(lambda body: {k: v for k, v in body.items() if k == "pagination_meta"})


def without_meta() -> Effect:
    """Leave pagination_meta out of the page."""
    return edit(lambda body: {k: v for k, v in body.items() if k != "pagination_meta"})


def without_id() -> Effect:
    """Take the id of the page's first item."""
    return edit(lambda body: body[_list_key(body)][0].pop("id") and None)


def repeating_cursor() -> Effect:
    """Say on every page that the same page comes next."""
    return edit(lambda body: body["pagination_meta"].update(after="again"))


def duplicate_rows() -> Effect:
    """Send the page's first item twice."""
    return edit(lambda body: body[_list_key(body)].append(body[_list_key(body)][0]))


def shrunk(share: float) -> Effect:
    """Leave all but a share of the page's items out."""

    def change(body: Body) -> None:
        rows = body[_list_key(body)]
        del rows[max(1, int(len(rows) * share)) :]

    return edit(change)


def drifted(**fields: Any) -> Effect:
    """Have the fields of each item be these."""
    return edit(lambda body: [row.update(fields) for row in body[_list_key(body)]] and None)
