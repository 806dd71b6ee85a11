"""Which answers may pass when they are asked for again, and how long the API asks to wait before.

Waiting itself is dlt's client's (`session`); the pace that avoids such answers is `rate_limit`'s.
"""

import re
import time
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime

from requests import Response
from requests.exceptions import RequestException

ATTEMPTS = 4  # the first and three retries
RETRIED_STATUSES = (408, 429, *(status for status in range(500, 600) if status != 501))
LONGEST_WAIT = 300.0  # seconds
FORBIDDEN = 403

_SECONDS = re.compile(r"\s*[0-9]+(\.[0-9]*)?\s*")


class LongWait(RequestException):
    """The API asks for a wait that no sync waits for."""


def may_pass(response: Response) -> bool:
    """Whether another try may succeed. A 403 that says when to come back is a limit."""
    limited = response.status_code == FORBIDDEN and "Retry-After" in response.headers
    return limited or response.status_code in RETRIED_STATUSES


def read_retry_after(response: Response) -> float | None:
    """Return the seconds that Retry-After asks for, as a number or a date; None without one.

    What is in the past or says nothing is 0.
    """
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    with suppress(ValueError, TypeError, OverflowError, LookupError):  # any text may stand there
        moment = parsedate_to_datetime(value)  # without a zone, HTTP's dates are UTC all the same
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - time.time())
    return 0.0
