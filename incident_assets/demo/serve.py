"""`incident-assets demo serve`: the bundled API alone, for pointing anything at it."""

import signal
import sys
from typing import Any

from incident_assets.demo.account import generate_account
from incident_assets.demo.server import DemoApi


def serve_alone(incidents: int, seed: int, port: int, **options: Any) -> int:
    """Serve until interrupted and return the exit code; 2 if the port is taken.

    `options` are further ones of `DemoApi`.
    """
    try:
        api = DemoApi(generate_account(incidents, seed), port=port, **options)
    except OSError as error:
        print(f"port {port} cannot be used: {error.strerror}", file=sys.stderr)
        return 2
    try:
        with api:
            settings = f"INCIDENT_API_BASE_URL={api.url} INCIDENT_API_KEY={api.key}"
            print(f"Serving {incidents:,} incidents at {api.url} ({settings})", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    return 0
