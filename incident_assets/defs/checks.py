"""The checks of every resource as Dagster asset checks: one op per resource.

One op each, so that a resource that could not be read skips only its own. Which checks there are,
what they mean and find, is in `incident_assets.checks`.
"""

import re
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Any

import dagster as dg
import duckdb as engine

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.catalog import CHECKS
from incident_assets.checks.finding import NEVER_LOADED, Finding
from incident_assets.checks.repeating import find_again
from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.translator import raw_key
from incident_assets.settings import read_settings
from incident_assets.sync.log import name_newest_rows, open_newest_rows
from incident_assets.warehouse.file import DatabaseBusy

PATIENCE = 0.2  # seconds for a database in use, where the newest rows of its log will do as well
SCHEDULED = {check.name for check in CHECKS if check.runs == "on a schedule"}


def list_scheduled_checks(endpoints: Iterable[Endpoint]) -> list[dg.AssetCheckKey]:
    """Return the keys of these resources' checks that have a schedule of their own."""
    keys = [raw_key(endpoint.name) for endpoint in endpoints]
    return [dg.AssetCheckKey(key, name) for key in keys for name in sorted(SCHEDULED)]


def build_resource_checks(endpoints: Iterable[Endpoint]) -> list[dg.AssetChecksDefinition]:
    """Return an op per resource with its checks; any of them can be run alone."""
    return [_build_op(endpoint) for endpoint in endpoints]


def _build_op(endpoint: Endpoint) -> dg.AssetChecksDefinition:
    asset = raw_key(endpoint.name)

    @dg.multi_asset_check(
        name=f"check_{endpoint.name}",
        specs=[
            dg.AssetCheckSpec(
                check.name,
                asset=asset,
                description=f"{check.meaning}\n\n{check.remedy}",
                blocking=check.blocking,
            )
            for check in CHECKS
        ],
        can_subset=True,
    )
    def run(
        context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        with explain_errors(), _open(duckdb, selected) as connection:
            findings = {
                check.name: find_again(connection, check, endpoint) if connection else NEVER_LOADED
                for check in CHECKS
                if check.name in selected
            }
        yield from (report_finding(name, asset, finding) for name, finding in findings.items())

    return run


@contextmanager
def _open(duckdb: DuckDBResource, selected: Set[str]) -> Iterator[engine.DuckDBPyConnection | None]:
    """Open the database, or None without; scheduled checks alone need its newest log rows only."""
    settings = duckdb.apply_to(read_settings())
    if not duckdb.find().exists():
        yield None
        return
    if not selected <= SCHEDULED:
        with duckdb.open_cursor() as connection:
            yield connection
        return
    try:
        with duckdb.open_cursor(min(PATIENCE, settings.lock_timeout), is_alone=False) as connection:
            yield connection
    except DatabaseBusy:
        if not name_newest_rows(settings.database).exists():
            raise
        with open_newest_rows(settings.database) as connection:
            yield connection


def _show_query(what: str, sql: str) -> str:
    # Either may hold a name of the API's: signs are escaped, and no such fence is in the SQL.
    longest = max(map(len, re.findall("`+", sql)), default=0)
    fence = "`" * max(3, longest + 1)
    text = re.sub(r"([\\`*_{}\[\]<>#!|~&$@:])", r"\\\1", " ".join(what.split()))
    return f"{text}\n{fence}sql\n{sql}\n{fence}"


def report_finding(name: str, asset: dg.AssetKey, finding: Finding) -> dg.AssetCheckResult:
    """Return a finding as the result of the asset's check of that name."""
    metadata: dict[str, Any] = dict(finding.counts)
    if finding.is_repeated:  # the zeros were said before
        metadata = {name: count for name, count in finding.counts.items() if count}
        metadata["unchanged"] = True
    if finding.samples:
        metadata["sample_ids"] = dict(finding.samples)
    if finding.sql:
        queries = (_show_query(what, sql) for what, sql in finding.sql.items())
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
