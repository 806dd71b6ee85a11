"""The project's own code location, with one sync so frequent that a test sees its schedule tick.

Dagster's processes load it, so it builds when it is imported; nothing else imports it.
"""

from incident_assets.build import build_definitions
from incident_assets.defs import schedules

# Those that are on from the start would begin runs that no test asked for.
schedules.CRONS |= {
    "sync_reference": "* * * * *",
    "check_freshness": "0 0 29 2 *",
    "prune_history": "0 0 29 2 *",
}
defs = build_definitions()
