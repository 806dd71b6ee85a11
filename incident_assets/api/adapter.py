"""One request on the wire: its turn under the rate limit, its count, and its cut-off.

What an answer means is decided in `pages`, whether to ask again in `session`.
"""

import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException, Timeout

from incident_assets.api.cut_off import CutOff, Stop, watch_connections
from incident_assets.api.rate_limit import Pacer
from incident_assets.api.retries import LONGEST_WAIT, LongWait, may_pass, read_retry_after
from incident_assets.settings import Settings

logger = logging.getLogger(__name__)

LOG_EVERY = 10.0  # seconds between two lines that say a resource waits
PIECE = 2**20  # bytes of a body read at a time
MEGABYTE = 1_000_000
ENDING_HEADERS = ("Deprecation", "Sunset")


class OutOfTime(RequestException):
    """The sync's own deadline has passed; asking again would not help."""


class Stopped(RequestException):
    """The run was interrupted; nothing is asked any more."""


class LongBody(RequestException):
    """A body that is longer than what may be held in memory."""


@dataclass
class Traffic:
    """What a resource has asked of the API in one run; times are on the monotonic clock.

    `requests` counts every attempt, retries included. `started` is when the first one began, and
    `waiting_until` when the rate limit lets the next one go. `notice` is what the API says of the
    path's end, by header: `Deprecation` and `Sunset`. Requests are `counted_in` that of another
    resource too, for which they are made.
    """

    resource: str
    requests: int = 0
    started: float | None = None
    waiting_until: float = 0.0
    notice: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    counted_in: "Traffic | None" = None

    def begin_request(self) -> None:
        """Note that a request is about to be sent."""
        with self.lock:
            self.started = self.started or time.monotonic()
            self.requests += 1
        if self.counted_in:
            self.counted_in.begin_request()


class PageResponse(Response):
    """An answer that shows what has been read of it: `page`, and `decoded` for dlt's paginators.

    Its body has at most `limit` megabytes.
    """

    page: Any = None
    decoded: Any = None
    limit = math.inf

    @classmethod
    def adopt(cls, response: Response, limit: float) -> Self:
        """Return the answer as one of ours."""
        ours = cls()
        vars(ours).update(vars(response), limit=limit)
        return ours

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """Yield the decoded body in large pieces; requests asks for 10 KB at a time, of megabytes.

        Raises LongBody once there is more than may be.
        """
        size = 0
        for piece in super().iter_content(max(chunk_size or 1, PIECE), decode_unicode):
            size += len(piece)
            if size > self.limit * MEGABYTE:
                self.close()
                raise LongBody(f"a response is longer than {self.limit:g} MB (INCIDENT_BODY_LIMIT)")
            yield piece

    def read_body(self) -> None:
        """Read the whole body into one buffer; requests would join pieces, and hold it twice."""
        body = bytearray()
        for piece in self.iter_content(PIECE):
            body += piece
        # Nothing public sets what was read; `content` returns it.
        self._content = body  # type: ignore[assignment]

    @property
    def text(self) -> str:
        """The body as text: of JSON it is UTF-8, which requests would find out byte by byte."""
        return self.content.decode(errors="replace")

    def json(self, **_: Any) -> Any:
        """Return the page; dlt asks for it several times."""
        return super().json() if self.decoded is None else self.decoded


class PacedAdapter(HTTPAdapter):
    """Sends each attempt of a listing in its turn, counts it, and cuts it off if it drags on."""

    def __init__(
        self, settings: Settings, traffic: Mapping[str, Traffic], stop: Stop, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self._traffic = traffic
        self._stop = stop
        self._timeout = settings.request_timeout
        self._body_limit = settings.body_limit
        self._deadline = time.monotonic() + settings.sync_deadline
        self._sync_deadline = settings.sync_deadline
        self._pacer = Pacer()
        self._logged: dict[str, float] = {}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        watch_connections(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not str(proxy).lower().startswith("socks"):
            watch_connections(manager)
        return manager

    def build_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the answer as one of ours."""
        return PageResponse.adopt(super().build_response(*args, **kwargs), self._body_limit)

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send one attempt and read its whole body.

        Raises OutOfTime, Stopped, LongWait, LongBody, Timeout or as requests do.
        """
        traffic = self._traffic.get(urlsplit(cast(str, request.url)).path)
        if traffic is None:
            return super().send(request, *args, **kwargs)
        resource = traffic.resource
        self._wait_for_turn(traffic)
        traffic.begin_request()
        seconds = min(self._timeout, max(0.0, self._deadline - time.monotonic()))
        response = None
        with CutOff.after(seconds) as cut_off, self._stop.reaching(cut_off):
            try:
                response = cast(PageResponse, super().send(request, *args, **kwargs))
                response.read_body()  # here, where it can be cut off
            except RequestException:
                if not cut_off.reached:
                    self._pacer.release(resource)
                    raise
        # What was cut off may look like an answer: a head without its end is one to the parser.
        if response is None or cut_off.reached:
            self._pacer.release(resource)
            self._check_deadline()
            raise Timeout(f"no whole answer within {self._timeout:g} s (INCIDENT_REQUEST_TIMEOUT)")
        retry_after = read_retry_after(response) if may_pass(response) else None
        self._pacer.learn(resource, response.headers, retry_after or 0)
        traffic.notice |= {h: response.headers[h] for h in ENDING_HEADERS if h in response.headers}
        if retry_after is not None:
            self._prepare_wait(traffic, retry_after, f"the API answered {response.status_code}")
            response.headers["Retry-After"] = str(math.ceil(retry_after))  # as dlt can read it
        return response

    def _wait_for_turn(self, traffic: Traffic) -> None:
        self._check_deadline()
        seconds = self._pacer.reserve(traffic.resource)
        if seconds:
            limit = self._pacer.describe(traffic.resource)
            try:
                self._prepare_wait(traffic, seconds, f"rate limit of {limit}")
            except RequestException:
                self._pacer.release(traffic.resource)
                raise
            self._stop.event.wait(seconds)
            self._check_deadline()

    def _prepare_wait(self, traffic: Traffic, seconds: float, why: str) -> None:
        """Tell of a wait that is about to begin; raise where it would be too long."""
        if seconds > LONGEST_WAIT:
            raise LongWait(
                f"{why} and asks for a wait of {seconds:,.0f} s; no more than {LONGEST_WAIT:g} s "
                "are waited for"
            )
        self._check_deadline(seconds)
        if seconds:
            traffic.waiting_until = time.monotonic() + seconds
            self._log_wait(traffic.resource, why, seconds)

    def _check_deadline(self, seconds: float = 0) -> None:
        """Raise OutOfTime if the sync's time is over, or will be in so many seconds.

        Raises Stopped if the run was interrupted.
        """
        if self._stop.event.is_set():
            raise Stopped("the run was interrupted")
        if time.monotonic() + seconds >= self._deadline:
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
        logger.info("%s: %s, waiting until %s UTC", resource, why, until.strftime("%H:%M:%S"))
