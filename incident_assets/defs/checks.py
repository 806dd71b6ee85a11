"""The four checks of every resource as Dagster asset checks: one op per resource.

One op each, so that a resource that could not be read skips only its own. What a check finds is in
the module of its name.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
import duckdb as engine

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.contract import check_contract
from incident_assets.checks.finding import NEVER_LOADED, Finding
from incident_assets.checks.freshness import check_freshness
from incident_assets.checks.integrity import check_integrity
from incident_assets.checks.volume import check_volume
from incident_assets.defs.duckdb import BUSY_POLICY, DuckDBResource, explain_errors
from incident_assets.defs.translator import raw_key
from incident_assets.settings import read_settings
from incident_assets.warehouse.file import DatabaseBusy

PATIENCE = 0.2  # seconds for a database in use, where the published copy will do as well


@dataclass(frozen=True)
class CheckType:
    """A check in words: what it means, and what to do when it fails."""

    meaning: str
    remedy: str


CHECKS: Mapping[str, CheckType] = {
    "freshness": CheckType(
        "The last successful load is recent: late after two missed syncs (a warning), stale after "
        "four (an error). A listing with nothing new counts.",
        "Look whether the schedule is on and the daemon runs, then at the last run's failure. "
        "A table that was never loaded says so: select it in a sync once.",
    ),
    "integrity": CheckType(
        "Every id is there once; every id of another resource is known there; created_at is not "
        "after updated_at, and nothing is in the future.",
        "Broken keys are errors and stop what is built on the table: somebody wrote into it, so "
        "sync again, or restore it. The rest are warnings: a key without the wider role sees no "
        "private incidents, and what was deleted leaves gaps.",
    ),
    "volume": CheckType(
        "The last full listing has about as many rows as those before it: a warning when more "
        "than a fifth is missing.",
        "Look whether the key has lost a role (`make check`) or people cleaned up. If it is right, "
        "the warning ends by itself as the history follows.",
    ),
    "contract": CheckType(
        "Columns, types and values are those of the table of resources: a warning names what is "
        "new, gone, retyped or rescued, and values never seen before.",
        "Nothing is lost. Add the column or value to `api/endpoints.py`, and look at what your "
        "own queries make of it.",
    ),
}
AFTER_LOAD: Mapping[str, Callable[[engine.DuckDBPyConnection, Endpoint], Finding]] = {
    "integrity": check_integrity,
    "volume": check_volume,
    "contract": check_contract,
}
FUNCTIONS = {"freshness": check_freshness, **AFTER_LOAD}


def list_freshness_keys(endpoints: Iterable[Endpoint]) -> list[dg.AssetCheckKey]:
    """Return the keys of these resources' checks of freshness, which have a job of their own."""
    return [dg.AssetCheckKey(raw_key(endpoint.name), "freshness") for endpoint in endpoints]


def build_resource_checks(endpoints: Iterable[Endpoint]) -> list[dg.AssetChecksDefinition]:
    """Return an op per resource with its four checks; any of them can be run alone."""
    return [_build_op(endpoint) for endpoint in endpoints]


def _build_op(endpoint: Endpoint) -> dg.AssetChecksDefinition:
    asset = raw_key(endpoint.name)

    @dg.multi_asset_check(
        name=f"check_{endpoint.name}",
        specs=[
            dg.AssetCheckSpec(
                name,
                asset=asset,
                description=f"{check.meaning}\n\n{check.remedy}",
                blocking=name == "integrity",
            )
            for name, check in CHECKS.items()
        ],
        can_subset=True,
        retry_policy=BUSY_POLICY,
    )
    def run(
        context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        with explain_errors(), _open(duckdb, selected) as connection:
            findings = {
                name: check(connection, endpoint) if connection else NEVER_LOADED
                for name, check in FUNCTIONS.items()
                if name in selected
            }
        yield from (report_finding(name, asset, finding) for name, finding in findings.items())

    return run


@contextmanager
def _open(duckdb: DuckDBResource, selected: set[str]) -> Iterator[engine.DuckDBPyConnection | None]:
    """Open the database (freshness alone: its copy while a sync keeps it); None without one."""
    settings = duckdb.apply_to(read_settings())
    if not settings.database.exists():
        yield None
        return
    if selected != {"freshness"}:
        with duckdb.connect(read_only=True, purpose="checking") as connection:
            yield connection
        return
    patient = duckdb.model_copy(update={"lock_timeout": min(PATIENCE, settings.lock_timeout)})
    try:
        with patient.connect(read_only=True, purpose="checking freshness") as connection:
            yield connection
    except DatabaseBusy:
        if not settings.published_copy.exists():
            raise
        with engine.connect(str(settings.published_copy), read_only=True) as connection:
            yield connection


def report_finding(name: str, asset: dg.AssetKey, finding: Finding) -> dg.AssetCheckResult:
    """Return a finding as the result of the asset's check of that name."""
    metadata: dict[str, Any] = dict(finding.counts)
    if finding.samples:
        metadata["sample_ids"] = dict(finding.samples)
    if finding.sql:
        queries = (f"{what}\n```sql\n{sql}\n```" for what, sql in finding.sql.items())
        metadata["sql"] = dg.MetadataValue.md("\n\n".join(queries))
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset,
        passed=finding.passed,
        severity=(
            dg.AssetCheckSeverity.ERROR
            if finding.severity == "error"
            else dg.AssetCheckSeverity.WARN
        ),
        description=finding.description,
        metadata=metadata,
    )
