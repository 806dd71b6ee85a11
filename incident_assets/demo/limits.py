"""The bundled API's rate limits: its token buckets, and the headers that tell of them.

What the client makes of them is the client's own.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime


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


class Limits:
    """The buckets of a key; where they are not enforced they stay full."""

    def __init__(self, enforced: bool, window: float = 60, clock: Callable[[], float] = time.time):
        self._enforced, self._clock = enforced, clock
        self._key = Bucket(1200, window, clock)
        self._incidents = Bucket(60, window, clock)

    def spend(self, resource: str | None, retry_after_as_date: bool) -> tuple[dict[str, str], bool]:
        """Spend a request; return the headers that tell of it, and whether it was too many."""
        used = [self._key, self._incidents] if resource == "incidents" else [self._key]
        empty = [b for b in used if not b.take()] if self._enforced else []
        tight = used[-1]
        left = int(tight.tokens)
        headers = {
            "X-RateLimit-Limit": f"{tight.size}, "
            + ", ".join(f"{bucket.size};window={bucket.window:g}" for bucket in used),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Used": str(tight.size - left),
            "X-RateLimit-Reset": str(
                int(self._clock() + (tight.size - left) * tight.window / tight.size)
            ),
        }
        if empty:
            wait = max(1, round(max(bucket.seconds_to_next() for bucket in empty) + 0.5))
            when = datetime.fromtimestamp(self._clock(), UTC) + timedelta(seconds=wait)
            as_date = format_datetime(when, usegmt=True)
            headers["Retry-After"] = as_date if retry_after_as_date else str(wait)
        return headers, bool(empty)
