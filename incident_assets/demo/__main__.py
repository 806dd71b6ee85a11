"""`python -m incident_assets.demo`: the bundled API alone, for pointing anything at it."""

import argparse
import signal
import sys
from typing import get_args

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi
from incident_assets.demo.versions import Calendar, Gone

CALENDAR = "whose paths it has: August 2026 and before, both versions, or without those removed"
GONE = "what the removed paths answer in 2027"


def main() -> int:
    """Serve until interrupted and return the exit code; 2 if the port is taken."""
    parser = argparse.ArgumentParser(prog="python -m incident_assets.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8099, help="0 picks a free one")
    parser.add_argument("--incidents", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate-limit", choices=("on", "off"), default="on")
    parser.add_argument("--key", default="demo-key")
    parser.add_argument("--prefix", default="", help="path in front of every endpoint")
    parser.add_argument("--calendar", choices=get_args(Calendar), default="now", help=CALENDAR)
    parser.add_argument("--gone", choices=get_args(Gone), default="404", help=GONE)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        api = DemoApi(
            generate_account(given.incidents, given.seed),
            port=given.port,
            key=given.key,
            latency_ms=given.latency_ms,
            rate_limit=given.rate_limit == "on",
            prefix=given.prefix,
            calendar=given.calendar,
            gone=given.gone,
        )
    except OSError as error:
        print(f"port {given.port} cannot be used: {error.strerror}", file=sys.stderr)
        return 2
    try:
        with api:
            settings = f"INCIDENT_API_BASE_URL={api.url} INCIDENT_API_KEY={api.key}"
            print(f"Serving {given.incidents:,} incidents at {api.url} ({settings})", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
