"""Keeping dlt to itself: no usage data leaves unless the user asks for it.

dlt decides when it is first used, before any run, so this is called before everything else.
"""

import os


def opt_out() -> None:
    """Turn dlt's telemetry off, unless RUNTIME__DLTHUB_TELEMETRY says otherwise."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
