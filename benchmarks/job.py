"""The project's definitions with two more jobs: the thirteen resources, bare and with checks.

Measured instead of `sync_all`, so that models and reports to come do not move the figures.
"""

import dagster as dg

from incident_assets import definitions
from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.defs.checks import list_scheduled_checks

raw = dg.AssetSelection.groups("live", "reference")
operations = dg.AssetSelection.assets("incident_sync/log", "incident_sync/published_copy")
freshness = dg.AssetSelection.checks(*list_scheduled_checks(ENDPOINTS))

defs = dg.Definitions.merge(
    definitions.defs,
    dg.Definitions(
        jobs=[
            dg.define_asset_job("thirteen", raw.without_checks()),
            dg.define_asset_job("thirteen_checked", (raw | operations) - freshness),
        ]
    ),
)
