"""Keeping to the API's rate limit before it has to say 429: buckets fed by its X-RateLimit headers.

Waiting itself, and what is done after a 429, is the adapter's and the session's.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WINDOW = 60.0  # seconds, where the API does not say
# No longer than any limit is: a number of hundreds of digits is none that can be reckoned with.
_NUMBER = re.compile(r"\s*([0-9]{1,9})(?![0-9])")
_QUOTA = re.compile(r"([0-9]{1,9})\s*;\s*window=([0-9]{1,9})(?![0-9])")


@dataclass
class Bucket:
    """What is known of one of the API's token buckets: it refills evenly over its window.

    `tokens` below zero are requests that wait for their turn; `pending` ones are not answered yet.
    """

    size: int
    window: float
    tokens: float
    at: float
    pending: int = 0

    @property
    def rate(self) -> float:
        """Tokens that come back in a second."""
        return self.size / self.window

    def refill(self, now: float) -> None:
        """Add the tokens that came back since the last time."""
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.rate)
        self.at = now


class Pacer:
    """Tells each request how long to wait. Shared by all fetching threads.

    Resources whose answers show the same limit share a bucket; `clock` counts seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._bucket_of: dict[str, Bucket] = {}

    def reserve(self, resource: str) -> float:
        """Take a turn and return the seconds until it comes: 0 while nothing is known."""
        with self._lock:
            bucket = self._bucket_of.get(resource)
            if bucket is None:
                return 0.0
            bucket.refill(self._clock())
            bucket.tokens -= 1
            bucket.pending += 1
            return max(0.0, -bucket.tokens / bucket.rate)

    def learn(self, resource: str, headers: Mapping[str, str], retry_after: float = 0) -> None:
        """End a turn with the headers of its answer; `retry_after` are the seconds of a 429."""
        limit = headers.get("X-RateLimit-Limit", "")
        size = _NUMBER.match(limit)
        remaining = _NUMBER.match(headers.get("X-RateLimit-Remaining", ""))
        with self._lock:
            known = self._bucket_of.get(resource)
            if known is not None:
                known.pending = max(0, known.pending - 1)
            if size is None or remaining is None or int(size[1]) < 1:
                return
            bucket = self._buckets.setdefault(limit, _read_bucket(int(size[1]), limit))
            self._bucket_of[resource] = bucket
            bucket.at = self._clock()
            bucket.tokens = float(remaining[1]) - bucket.pending
            if retry_after:
                bucket.tokens = min(bucket.tokens, 1 - retry_after * bucket.rate - bucket.pending)

    def release(self, resource: str) -> None:
        """End a turn that was never answered."""
        self.learn(resource, {})

    def describe(self, resource: str) -> str:
        """Return the limit of a resource in words."""
        bucket = self._bucket_of[resource]
        return f"{bucket.size} requests in {bucket.window:g} s"


def _read_bucket(size: int, limit: str) -> Bucket:
    windows = [float(window) for quota, window in _QUOTA.findall(limit) if int(quota) == size]
    return Bucket(size, max([1.0, *windows[-1:]]) if windows else WINDOW, 0.0, 0.0)
