"""`DemoApi`: the bundled API over HTTP, with keys, permissions, rate limits, state and a log.

Which rows a request gets is decided in `listings`, what goes wrong on purpose in `faults`.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import parse_qs, urlsplit

import orjson

from incident_assets.demo.account import Account, Row, make_id
from incident_assets.demo.faults import Answer, Fault, error_body
from incident_assets.demo.listings import (
    PATHS,
    InvalidRequest,
    Query,
    Selection,
    build_selection,
    cut_page,
    group_rows,
    select_rows,
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


class Bucket:
    """A token bucket that refills evenly over its window of so many seconds."""

    def __init__(self, size: int, window: float, clock: Callable[[], float]):
        self.size, self.window, self.tokens = size, window, float(size)
        self._clock, self._at = clock, clock()

    def take(self) -> bool:
        """Take a token if there is one."""
        now = self._clock()
        self.tokens = min(self.size, self.tokens + (now - self._at) * self.size / self.window)
        self._at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def seconds_to_next(self) -> float:
        """Return the time until a token is there again."""
        return max(0.0, (1 - self.tokens) * self.window / self.size)


class DemoApi:
    """The bundled API on a port of 127.0.0.1 (0: a free one), serving in threads of its own.

    A context manager. State changes and faults take effect from the next request on.
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
        self.buckets = {
            "key": Bucket(1200, rate_window, clock),
            "incidents": Bucket(60, rate_window, clock),
        }
        self._rate_limit = rate_limit
        self._latency = latency_ms / 1000
        self._prefix = prefix
        self._lock = threading.RLock()
        self._pages: dict[tuple[str, str, bool], bytes] = {}
        self._selections: dict[tuple[str, str, bool], Selection] = {}
        self._by_incident: dict[bool, dict[str, list[Row]]] = {}
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

    def inject(self, fault: Fault) -> None:
        """Add a fault; the first one that hits a request wins."""
        self.faults.append(fault)

    def heal(self) -> None:
        """Remove all faults."""
        self.faults.clear()

    def rows(self, resource: str) -> list[Row]:
        """Return all rows of a resource, oldest first, whoever may see them."""
        return list(self.account.rows[resource].values())

    def change(self, resource: str, identifier: str, **fields: Any) -> Row:
        """Set fields of a row (`...` removes one) and, unless given, its updated_at."""
        with self._lock:
            row = dict(self.account.rows[resource][identifier])
            if "updated_at" in row:
                row["updated_at"] = self._now()
            row |= fields
            self.account.rows[resource][identifier] = {
                name: value for name, value in row.items() if value is not ...
            }
            self._forget()
            return self.account.rows[resource][identifier]

    def remove(self, resource: str, identifier: str) -> None:
        """Delete a row, which the API announces nowhere."""
        with self._lock:
            del self.account.rows[resource][identifier]
            self._forget()

    def empty(self, resource: str) -> None:
        """Delete all rows of a resource."""
        with self._lock:
            self.account.rows[resource].clear()
            self._forget()

    def add(self, resource: str, row: Row | None = None, **fields: Any) -> Row:
        """Add a row; without one, a copy of the newest with an id of its own and created now."""
        with self._lock:
            rows = self.account.rows[resource]
            if row is None:
                self._number += 1
                row = dict(next(reversed(rows.values())))
                row["id"] = make_id(resource, 1_000_000 + self._number)
                row |= {n: self._now() for n in ("created_at", "updated_at") if n in row}
            rows[row["id"]] = row | fields
            self._forget()
            return rows[row["id"]]

    def _forget(self) -> None:
        self._by_incident.clear()
        self._pages.clear()
        self._selections.clear()

    def _now(self) -> str:
        return f"{datetime.fromtimestamp(self.clock(), UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

    def answer(self, path: str, query: str, authorization: str | None) -> tuple[str | None, Answer]:
        """Return the resource asked for, if it is one, and the answer without faults."""
        if self._latency:
            time.sleep(self._latency)
        path = path.removeprefix(self._prefix) if path.startswith(self._prefix) else ""
        resource = PATHS.get(path)
        limits, refused = self._limit(resource)
        answer = refused or self._authorize(authorization) or self._find(path, resource, query)
        answer.headers |= limits
        return resource, answer

    def _authorize(self, authorization: str | None) -> Answer | None:
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
            return _error(404, "not_found", "resource_not_found", "there is nothing here")
        if resource in self.forbidden:
            scope, message = f"{resource}.view", f"the key may not view {resource}"
            return _error(403, "resource_forbidden", "missing_required_scope", message, scope=scope)
        try:
            with self._lock:
                return Answer(200, self._render(resource, query))
        except InvalidRequest as error:
            return _error(422, "validation_error", "invalid_value", str(error))

    def _render(self, resource: str, query: str) -> bytes:
        key = (resource, query, self.sees_private)
        if key not in self._pages:
            page = cut_page(resource, self._select(resource, parse_qs(query)), parse_qs(query))
            body: Row = {resource: page.rows}
            if page.meta is not None:
                body["pagination_meta"] = page.meta
            try:
                self._pages[key] = orjson.dumps(body)
            except TypeError:  # numbers beyond 64 bits, or half a character
                self._pages[key] = json.dumps(body).encode()
        return self._pages[key]

    def _select(self, resource: str, query: Query) -> Selection:
        # A walk asks for the same rows page after page.
        filters = {n: v for n, v in query.items() if n not in ("after", "page_size")}
        key = (resource, str(filters), self.sees_private)
        if key not in self._selections:
            if resource == "incident_updates" and filters.keys() == {"incident_id"}:
                # One look at all updates serves every incident.
                if self.sees_private not in self._by_incident:
                    listed = self._select(resource, {}).rows
                    self._by_incident[self.sees_private] = group_rows(listed, "incident_id")
                groups = self._by_incident[self.sees_private]
                return build_selection(groups.get(filters["incident_id"][0], []))
            self._selections[key] = select_rows(self.account, resource, filters, self.sees_private)
        return self._selections[key]

    def _limit(self, resource: str | None) -> tuple[dict[str, str], Answer | None]:
        with self._lock:
            names = ["key", "incidents"] if resource == "incidents" else ["key"]
            used = [self.buckets[name] for name in names]
            empty = [b for b in used if not b.take()] if self._rate_limit else []
            tight = used[-1]
            left = int(tight.tokens)
            headers = {
                "X-RateLimit-Limit": f"{tight.size}, "
                + ", ".join(f"{bucket.size};window={bucket.window:g}" for bucket in used),
                "X-RateLimit-Remaining": str(left),
                "X-RateLimit-Used": str(tight.size - left),
                "X-RateLimit-Reset": str(
                    int(self.clock() + (tight.size - left) * tight.window / tight.size)
                ),
            }
            if not empty:
                return headers, None
            wait = max(1, round(max(bucket.seconds_to_next() for bucket in empty) + 0.5))
            when = datetime.fromtimestamp(self.clock(), UTC) + timedelta(seconds=wait)
            as_date = format_datetime(when, usegmt=True)
            headers["Retry-After"] = as_date if self.retry_after_as_date else str(wait)
            return headers, _error(429, "too_many_requests", "rate_limited", "too many requests")

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
