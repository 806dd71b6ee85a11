"""The jobs: one per group of resources, one for everything, a full refresh, and freshness.

Those that ask the API for nothing are in `history` and `upkeep`; when jobs run is in `schedules`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from incident_assets.api.endpoints import Endpoint
from incident_assets.defs.checks import list_scheduled_checks
from incident_assets.defs.outcome import list_loaded_checks
from incident_assets.defs.report import NIGHTLY
from incident_assets.defs.writers import QUEUED

GROUPS = {
    "sync_live": ("live",),
    "sync_reference": ("reference",),
    "sync_all": ("live", "reference"),
}
NIGHTLY_JOB = "sync_all"
BY_CHANGES = "sync_live"


def pace(endpoints: Iterable[Endpoint], minutes: Mapping[str, int]) -> list[Endpoint]:
    """Return the resources as often as the most frequent of these jobs brings them, by minutes."""

    def find_cadence(group: str) -> int | None:
        return min((60 * minutes[x] for x in minutes if group in GROUPS.get(x, ())), default=None)

    return [replace(endpoint, every=find_cadence(endpoint.group)) for endpoint in endpoints]


def build_jobs(endpoints: Iterable[Endpoint]) -> Sequence[Any]:
    """Return the jobs of these resources.

    Each sync job takes along what is built on its groups, the operations, and the checks of what
    it loads; only the nightly one takes along what is tagged so. Freshness is not among them: it
    has a job that needs neither key nor network.
    """
    freshness = dg.AssetSelection.checks(*list_scheduled_checks(endpoints))
    syncs = [
        dg.define_asset_job(
            name,
            selection=_select(name) - freshness,
            config=_configure(listing="changes") if name == BY_CHANGES else None,
            tags=QUEUED,
            description=f"Sync {' and '.join(groups)} resources and what is built on them."
            + (" By what changed; the nightly job sees the rest." if name == BY_CHANGES else ""),
        )
        for name, groups in GROUPS.items()
    ]
    check = dg.define_asset_job(
        "check_freshness",
        selection=freshness,
        description="Compare the age of every table with its cadence.",
    )
    refresh = dg.define_asset_job(
        "full_refresh",
        selection=dg.AssetSelection.groups(*GROUPS[NIGHTLY_JOB]).without_checks()
        | dg.AssetSelection.checks(*list_loaded_checks(endpoints))
        | _select_log_and_copy(),
        config=_configure(full_refresh=True),
        tags=QUEUED,
        description="Build the raw tables anew from full listings, without what was deleted "
        "upstream; each old table stays until its new one is whole. Select some of them in the "
        "launchpad to refresh only those.",
    )
    return [*syncs, refresh, check]


def _select(job: str) -> dg.AssetSelection:
    """Return what a sync job brings: its groups, what is built on them, the log and the copy."""
    brought = dg.AssetSelection.groups(*GROUPS[job]).downstream() | _select_log_and_copy()
    return brought if job == NIGHTLY_JOB else brought - _select_nightly()


def _select_log_and_copy() -> dg.AssetSelection:
    return dg.AssetSelection.groups("operations", "outputs") - _select_nightly()


def _select_nightly() -> dg.AssetSelection:
    return dg.AssetSelection.tag(*next(iter(NIGHTLY.items())))


def _configure(**config: Any) -> dict[str, Any]:
    return {"ops": {"sync": {"config": config}}}
