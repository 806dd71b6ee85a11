"""The jobs: one per group of resources, one for everything, and one that checks freshness."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from incident_assets.assets.report import NIGHTLY
from incident_assets.checks.per_resource import FRESHNESS_KEYS

GROUPS = {
    "sync_live": ("live",),
    "sync_reference": ("reference",),
    "sync_all": ("live", "reference"),
}
NIGHTLY_JOB = "sync_all"


def build_jobs() -> Sequence[Any]:
    """Return the jobs.

    Each sync job takes along what is built on its groups, the operations, and the checks of what
    it loads; only the nightly one takes along what is tagged so. Freshness is not among them: it
    has a job that needs neither key nor network.
    """
    freshness = dg.AssetSelection.checks(*FRESHNESS_KEYS)
    nightly = dg.AssetSelection.tag(*next(iter(NIGHTLY.items())))
    syncs = [
        dg.define_asset_job(
            name,
            selection=(
                dg.AssetSelection.groups(*groups).downstream()
                | dg.AssetSelection.groups("operations")
            )
            - (freshness if name == NIGHTLY_JOB else freshness | nightly),
            description=f"Sync {' and '.join(groups)} resources and what is built on them.",
        )
        for name, groups in GROUPS.items()
    ]
    check = dg.define_asset_job(
        "check_freshness",
        selection=freshness,
        description="Compare the age of every table with its cadence.",
    )
    return [*syncs, check]
