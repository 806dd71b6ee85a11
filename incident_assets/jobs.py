"""The jobs: one per group of resources and one for everything, selected by group."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

GROUPS = {
    "sync_live": ("live",),
    "sync_reference": ("reference",),
    "sync_all": ("live", "reference"),
}


def build_jobs() -> Sequence[Any]:
    """Return the sync jobs; each takes along what is built on its groups, and the operations."""
    return [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.groups(*groups).downstream()
            | dg.AssetSelection.groups("operations"),
            description=f"Sync {' and '.join(groups)} resources and what is built on them.",
        )
        for name, groups in GROUPS.items()
    ]
