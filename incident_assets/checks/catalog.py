"""THE checks: a row for each check that every raw table has, from which everything else follows.

The asset checks, the job of those with a schedule, and docs/checks.md are made from `CHECKS`; a new
check is one more row, and a module of its name that says how it is found. How checks run in Dagster
is not here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.contract import check_contract
from incident_assets.checks.finding import Finding, Severity
from incident_assets.checks.freshness import check_freshness
from incident_assets.checks.integrity import check_integrity
from incident_assets.checks.volume import check_volume


@dataclass(frozen=True)
class Check:
    """A check: what it means, what to do when it fails, how it is found, and when.

    `find` takes an open connection and a resource. `worst` is the most that a finding can be, and
    `blocking` whether an error stops what is built on the table. A check `on a schedule` is in no
    sync: it notices that none came, so it reads the sync log alone. One that `repeats` finds the
    same again until its table, or one that its table refers to, has changed, or the day (UTC) has.
    """

    name: str
    meaning: str
    remedy: str
    find: Callable[[duckdb.DuckDBPyConnection, Endpoint], Finding]
    runs: Literal["after each load", "on a schedule"] = "after each load"
    worst: Severity = "warning"
    blocking: bool = False
    repeats: bool = False


CHECKS: tuple[Check, ...] = (
    Check(
        name="freshness",
        meaning="The last successful load is recent: late after two missed syncs (a warning), "
        "stale after four (an error). A listing with nothing new counts.",
        remedy="Look whether the schedule is on and the daemon runs, then at the last run's "
        "failure. A table that was never loaded says so: select it in a sync once.",
        find=check_freshness,
        runs="on a schedule",
        worst="error",
    ),
    Check(
        name="integrity",
        meaning="Every id is there once; every id of another resource is known there; created_at "
        "is not after updated_at, and nothing is in the future.",
        remedy="Broken keys are errors and stop what is built on the table: somebody wrote into "
        "it, so sync again, or restore it. The rest are warnings: a key without the wider role "
        "sees no private incidents, and what was deleted leaves gaps.",
        find=check_integrity,
        worst="error",
        blocking=True,
        repeats=True,
    ),
    Check(
        name="volume",
        meaning="Full listings have taken away no more than a fifth of what was live in the last "
        "seven days, and the key sees every row that the API announces: a warning otherwise. An "
        "error when a listing would take away more than half: it is held, which means that what "
        "came is loaded and nothing is marked as deleted.",
        remedy="Look whether the key has lost a role (`incident-assets check`), the account is "
        "another one, or people cleaned up. A loss that is right is accepted by `accept_loss` in "
        "the run's config or `incident-assets sync --accept-loss`; a warning ends by itself after "
        "seven days.",
        find=check_volume,
        worst="error",
    ),
    Check(
        name="contract",
        meaning="Columns, types and values are those of the table of resources: a warning names "
        "what is new, gone, retyped or rescued, and values never seen before.",
        remedy="Nothing is lost. Add the column or value to its row (`api/endpoints.py`, or your "
        "own), and look at what your own queries make of it.",
        find=check_contract,
        repeats=True,
    ),
)
