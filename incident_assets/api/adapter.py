"""One request on the wire: its turn under the rate limit, its count, and its cut-off.

What an answer means, and whether to ask again, is the transport's.
"""

import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from incident_assets.api.rate_limit import Pacer
from incident_assets.settings import Settings
from incident_assets.sync.listing import Listing

log = logging.getLogger(__name__)

LOG_EVERY = 10.0  # seconds between two lines that say a resource waits
PIECE = 2**20  # bytes of a body read at a time


class OutOfTime(RequestException):
    """The sync's own deadline has passed; asking again would not help."""


class CutOff:
    """Ends the requests of this thread that outlive it: their sockets are shut down.

    A read timeout does not do that: it starts anew with every byte.
    """

    _of_thread = threading.local()

    def __init__(self) -> None:
        self.reached = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def after(cls, seconds: float) -> Iterator["CutOff"]:
        """Cut off what this thread requests in the block after so many seconds."""
        cut_off = cls()
        timer = threading.Timer(seconds, cut_off._reach)
        timer.daemon = True
        cls._of_thread.current = cut_off
        timer.start()
        try:
            yield cut_off
        finally:
            timer.cancel()
            cls._of_thread.current = None

    @classmethod
    def watch(cls, connected: socket.socket | None) -> None:
        """Note the socket that this thread is about to use."""
        cut_off = getattr(cls._of_thread, "current", None)
        if cut_off is None or connected is None:
            return
        with cut_off._lock:
            cut_off._socket = connected
            if cut_off.reached:
                _shut_down(connected)

    def _reach(self) -> None:
        with self._lock:
            self.reached = True
            if self._socket is not None:
                _shut_down(self._socket)


def _shut_down(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _Response(Response):
    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Any:
        # `content` asks for 10 KB at a time, of bodies of many megabytes.
        return super().iter_content(max(chunk_size or 1, PIECE), decode_unicode)


class _Watched:
    sock: socket.socket | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        CutOff.watch(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        CutOff.watch(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]


class _HTTPConnection(_Watched, HTTPConnection):
    pass


class _HTTPSConnection(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class PacedAdapter(HTTPAdapter):
    """Sends each attempt of a listing in its turn, counts it, and cuts it off if it drags on."""

    def __init__(self, settings: Settings, listings: Mapping[str, Listing], **kwargs: Any):
        super().__init__(**kwargs)
        self._listings = listings
        self._timeout = settings.request_timeout
        self._deadline = time.monotonic() + settings.sync_deadline
        self._sync_deadline = settings.sync_deadline
        self._pacer = Pacer()
        self._logged: dict[str, float] = {}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _watch_connections(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not str(proxy).lower().startswith("socks"):
            _watch_connections(manager)
        return manager

    def build_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the answer as one that is read in large pieces."""
        response = super().build_response(*args, **kwargs)
        response.__class__ = _Response
        return response

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send one attempt and read its whole body. Raises OutOfTime, Timeout or as requests do."""
        listing = self._listings.get(urlsplit(cast(str, request.url)).path)
        if listing is None:
            return super().send(request, *args, **kwargs)
        self._wait_for_turn(listing)
        listing.begin_request()
        seconds = min(self._timeout, max(0.0, self._deadline - time.monotonic()))
        response = None
        with CutOff.after(seconds) as cut_off:
            try:
                response = super().send(request, *args, **kwargs)
                _ = response.content  # read here, where it can be cut off
            except RequestException:
                if not cut_off.reached:
                    self._pacer.release(listing.name)
                    raise
        # What was cut off may look like an answer: a head without its end is one to the parser.
        if response is None or cut_off.reached:
            self._pacer.release(listing.name)
            self._check_deadline()
            raise Timeout(f"no whole answer within {self._timeout:g} s (INCIDENT_REQUEST_TIMEOUT)")
        retry_after = read_retry_after(response)
        self._pacer.learn(listing.name, response.headers, retry_after)
        if retry_after:
            listing.waiting_until = time.monotonic() + retry_after
            self._log_wait(listing.name, f"the API answered {response.status_code}", retry_after)
        return response

    def _wait_for_turn(self, listing: Listing) -> None:
        self._check_deadline()
        seconds = self._pacer.reserve(listing.name)
        if seconds:
            listing.waiting_until = time.monotonic() + seconds
            self._log_wait(
                listing.name, f"rate limit of {self._pacer.describe(listing.name)}", seconds
            )
            time.sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))
            self._check_deadline()

    def _check_deadline(self) -> None:
        if time.monotonic() >= self._deadline:
            raise OutOfTime(
                f"the sync's {self._sync_deadline:g} s (INCIDENT_SYNC_DEADLINE) were over before "
                "the listing was whole"
            )

    def _log_wait(self, resource: str, why: str, seconds: float) -> None:
        now = time.monotonic()
        if now - self._logged.get(resource, -LOG_EVERY) < LOG_EVERY:
            return
        self._logged[resource] = now
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        log.info("%s: %s, waiting until %s UTC", resource, why, until.strftime("%H:%M:%S"))


def _watch_connections(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def read_retry_after(response: Response) -> float:
    """Return the seconds of a Retry-After header, given as a number or as a date; 0 without one."""
    value = response.headers.get("Retry-After")
    if response.ok or not value:
        return 0.0
    with suppress(InvalidHeader):
        return Retry().parse_retry_after(value)
    return 0.0
