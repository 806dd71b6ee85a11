"""`DemoApi`: the bundled API over HTTP, with keys, permissions, rate limits, state and a log.

Which rows a request gets is decided in `listings`, which paths there are and what they show in
`versions`, what goes wrong on purpose in `faults`.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import parse_qs, urlsplit

import orjson

from incident_assets.demo.account import Account, Item, make_id
from incident_assets.demo.faults import Answer, Fault, error_body, forbidden_body
from incident_assets.demo.limits import Limits
from incident_assets.demo.listings import InvalidRequest, Query
from incident_assets.demo.pages import Pages
from incident_assets.demo.versions import (
    PATHS,
    REMOVED,
    Calendar,
    Gone,
    answer_gone,
    answer_missing,
)


@dataclass(frozen=True)
class Request:
    """A request that was answered; the key itself is never kept."""

    time: float
    method: str
    path: str
    resource: str | None
    query: Query
    status: int
    authorized: bool


class DemoApi:
    """The bundled API on a port of 127.0.0.1 (0: a free one), serving in threads of its own.

    A context manager. State changes and faults take effect from the next request on. `calendar`
    is the year whose paths it has, and `gone` what those answer that were removed in 2027.
    """

    def __init__(
        self,
        account: Account,
        *,
        port: int = 0,
        key: str = "demo-key",
        latency_ms: float = 0,
        rate_limit: bool = False,
        rate_window: float = 60,
        prefix: str = "",
        calendar: Calendar = "now",
        gone: Gone = "404",
        clock: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
    ):
        self.account = account
        self.key = key
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.forbidden: set[str] = set()
        self.sees_private = True
        self.retry_after_as_date = False
        self.clock = clock
        self.calendar: Calendar = calendar
        self.gone: Gone = gone
        self._limits = Limits(rate_limit, rate_window, clock)
        self._latency = latency_ms / 1000
        self._prefix = prefix
        self._lock = threading.RLock()
        self._pages = Pages(account)
        self._added: dict[str, str] = {}
        self._announced: dict[str, dict[str, str]] = {}
        self._stopping = threading.Event()
        self._number = 0
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.api = self
        if tls is not None:
            # The handshake is each connection's own, or one client could hold all others.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}{prefix}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def is_stopping(self) -> bool:
        """Whether the server is being stopped."""
        return self._stopping.is_set()

    def count(self, resource: str | None = None, status: int | None = None) -> int:
        """Return how many requests were answered, of a resource and with a status if given."""
        return sum(
            resource in (None, request.resource) and status in (None, request.status)
            for request in self.requests
        )

    def reset_log(self) -> None:
        """Forget the requests so far."""
        self.requests.clear()

    def forbid(self, resource: str) -> None:
        """Take the permission for a resource from the key."""
        self.forbidden.add(resource)

    def permit(self, resource: str) -> None:
        """Give the permission back."""
        self.forbidden.discard(resource)

    def turn_to(self, calendar: Calendar, gone: Gone = "404") -> None:
        """Have the paths of another year from the next request on."""
        with self._lock:
            self.calendar, self.gone = calendar, gone

    def open_list(self, path: str, rows: Iterable[Item], page_size: int | None = None) -> None:
        """Have one more list, named by the end of its path; `page_size` is its largest page."""
        with self._lock:
            resource = self._added[path] = path.rpartition("/")[2]
            self.account.rows[resource] = {row["id"]: row for row in rows}
            if page_size is not None:
                self._pages.paginate(path, page_size)
            self._pages.forget()

    def announce(self, path: str, **headers: str) -> None:
        """Send these headers, such as Sunset, with every answer of a path; none ends that."""
        self._announced[path] = headers

    def inject(self, fault: Fault) -> None:
        """Add a fault; the first one that hits a request wins."""
        self.faults.append(fault)

    def heal(self) -> None:
        """Remove all faults."""
        self.faults.clear()

    def rows(self, resource: str) -> list[Item]:
        """Return all rows of a resource, oldest first, whoever may see them."""
        return list(self.account.rows[resource].values())

    def change(self, resource: str, identifier: str, **fields: Any) -> Item:
        """Set fields of a row (`...` removes one) and, unless given, its updated_at."""
        with self._lock:
            row = dict(self.account.rows[resource][identifier])
            if "updated_at" in row:
                row["updated_at"] = self._now()
            row |= fields
            self.account.rows[resource][identifier] = {
                name: value for name, value in row.items() if value is not ...
            }
            self._pages.forget()
            return self.account.rows[resource][identifier]

    def remove(self, resource: str, identifier: str) -> None:
        """Delete a row, which the API announces nowhere."""
        with self._lock:
            del self.account.rows[resource][identifier]
            self._pages.forget()

    def empty(self, resource: str) -> None:
        """Delete all rows of a resource."""
        with self._lock:
            self.account.rows[resource].clear()
            self._pages.forget()

    def add(self, resource: str, row: Item | None = None, **fields: Any) -> Item:
        """Add a row; without one, a copy of the newest with an id of its own and created now."""
        with self._lock:
            rows = self.account.rows[resource]
            if row is None:
                self._number += 1
                row = dict(next(reversed(rows.values())))
                row["id"] = make_id(resource, 1_000_000 + self._number)
                row |= {n: self._now() for n in ("created_at", "updated_at") if n in row}
            rows[row["id"]] = row | fields
            self._pages.forget()
            return rows[row["id"]]

    def _now(self) -> str:
        return f"{datetime.fromtimestamp(self.clock(), UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

    def answer(self, path: str, query: str, authorization: str | None) -> tuple[str | None, Answer]:
        """Return the resource asked for, if it is one, and the answer without faults."""
        if self._latency:
            time.sleep(self._latency)
        path = path.removeprefix(self._prefix) if path.startswith(self._prefix) else ""
        resource = PATHS[self.calendar].get(path) or self._added.get(path)
        with self._lock:
            limits, too_many = self._limits.spend(resource, self.retry_after_as_date)
        answer = self._refuse(authorization, too_many) or self._find(path, resource, query)
        answer.headers |= limits | self._announced.get(path, {})
        return resource, answer

    def _refuse(self, authorization: str | None, too_many: bool) -> Answer | None:
        if too_many:
            return _error(429, "too_many_requests", "rate_limited", "too many requests")
        kind, _, key = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            code, message = "missing_authorization_material", "no bearer token was sent"
        elif key != self.key:
            code, message = "access_token_invalid", "the token is unknown"
        else:
            return None
        return _error(401, "authentication_error", code, message)

    def _find(self, path: str, resource: str | None, query: str) -> Answer:
        if path == "/v1/identity":
            return Answer(200, orjson.dumps({"identity": self.account.identity}))
        if resource is None:
            is_gone = self.calendar == "2027" and path in REMOVED
            return answer_gone(path, self.gone) if is_gone else answer_missing()
        if resource in self.forbidden:
            return Answer(403, orjson.dumps(forbidden_body(resource)))
        try:
            with self._lock:
                body = self._pages.render(path, query, self.calendar, self.sees_private)
                return Answer(200, body)
        except InvalidRequest as error:
            return _error(422, "validation_error", "invalid_value", str(error))

    def strike(self, resource: str | None, path: str, answer: Answer) -> Fault | None:
        """Return the first fault that hits this request."""
        with self._lock:
            hit = [fault for fault in self.faults if fault.hits(resource, path, answer)]
            return hit[0] if hit else None


def _error(status: int, kind: str, code: str, message: str, **metadata: str) -> Answer:
    return Answer(status, orjson.dumps(error_body(status, kind, code, message, **metadata)))


class _Server(ThreadingHTTPServer):
    api: DemoApi
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept in `DemoApi.requests` instead."""

    def is_stopping(self) -> bool:
        return cast(_Server, self.server).api.is_stopping()

    def do_GET(self) -> None:
        api = cast(_Server, self.server).api
        parts = urlsplit(self.path)
        resource, answer = api.answer(parts.path, parts.query, self.headers.get("Authorization"))
        fault = api.strike(resource, parts.path, answer)
        sent = fault.effect(self, answer) if fault else answer
        api.requests.append(
            Request(
                time=api.clock(),
                method="GET",
                path=parts.path,
                resource=resource,
                query=parse_qs(parts.query),
                status=sent.status if sent else 0,
                authorized=answer.status != 401,
            )
        )
        if sent is not None:
            self._send(sent, f"req-{len(api.requests):06d}")

    def _send(self, answer: Answer, request_id: str) -> None:
        body = answer.body
        if answer.status >= 400 and body.startswith(b'{"type"'):
            body = orjson.dumps(orjson.loads(body) | {"request_id": request_id})
        length = len(body) if answer.announced is None else answer.announced
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        self.send_response(answer.status)
        for name, value in (headers | answer.headers | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
