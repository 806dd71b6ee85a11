"""What a sync did, as checks: `loaded` on each resource, and one on the log that ends the run.

`loaded` is yielded by the ingestion op itself: checks of an asset that was not materialised are
skipped, so nobody else could say why. The check on the log is a step of its own: raised in the
ingestion op, the failure would keep healthy models from being built.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
import duckdb as engine

from incident_assets.api.endpoints import Endpoint
from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.translator import raw_key
from incident_assets.sync.log import LOG_TABLE, Outcome
from incident_assets.warehouse.schemas import LOG_SCHEMA

LOG_KEY = dg.AssetKey([LOG_SCHEMA, "log"])
OUTCOME_CHECK = "every_resource_loaded"
LOADED_CHECK = "loaded"


def describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return the metadata of a resource's materialisation; nothing that its spec says already."""
    changed, deleted = outcome.changed, outcome.deleted
    found = {
        "dagster/row_count": outcome.table_rows,
        "unchanged": not (changed or deleted),
        "listing": outcome.listing,
        "rows_listed": outcome.rows,
        "rows_changed": changed,
        "rows_deleted": deleted,
        "requests": outcome.requests,
        "seconds": outcome.seconds,
        "path": outcome.path,
        "outcome": outcome.outcome,
    }
    if outcome.load_id:
        found["load_id"] = outcome.load_id
    if outcome.remark:
        found["remark"] = outcome.remark
    return found


def list_loaded_checks(endpoints: Iterable[Endpoint]) -> list[dg.AssetCheckKey]:
    """Return the key of each resource's check `loaded`."""
    return [dg.AssetCheckKey(raw_key(endpoint.name), LOADED_CHECK) for endpoint in endpoints]


def build_loaded_spec(name: str) -> dg.AssetCheckSpec:
    """Return the spec of a resource's check `loaded`."""
    return dg.AssetCheckSpec(
        LOADED_CHECK,
        asset=raw_key(name),
        description="The last sync that selected it could read all of it. If not, the reason says "
        "what to do; the table keeps what it had.",
    )


def report_loaded(
    context: dg.AssetExecutionContext, errors: Mapping[str, str | None]
) -> Iterator[dg.AssetCheckResult]:
    """Yield the checks `loaded` that were selected; `errors` are by resource, None where it was."""
    for key in sorted(context.selected_asset_check_keys):
        name = key.asset_key.path[-1]
        error = errors.get(name, "never loaded: select it in a sync once")
        yield dg.AssetCheckResult(
            check_name=key.name,
            asset_key=key.asset_key,
            passed=error is None,
            description=error or "read whole, and loaded",
        )


def read_last_errors(connection: engine.DuckDBPyConnection) -> dict[str, str | None]:
    """Return each resource's error in the newest row of the sync log, None where it was loaded."""
    try:
        rows = connection.execute(
            f"SELECT resource, arg_max_null(error, rowid) FROM {LOG_TABLE} GROUP BY resource"
        ).fetchall()
    except engine.CatalogException:
        return {}
    return dict(rows)


def build_outcome_check() -> dg.AssetChecksDefinition:
    """Return the check on the log; it fails its step, and so the run, with the reasons."""

    @dg.multi_asset_check(
        name=OUTCOME_CHECK,
        specs=[
            dg.AssetCheckSpec(
                OUTCOME_CHECK,
                asset=LOG_KEY,
                description="Every resource that this run asked for could be read and has landed.",
            )
        ],
    )
    def every_resource_loaded(
        context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource
    ) -> Iterator[dg.AssetCheckResult]:
        run = context.run
        with explain_errors(), duckdb.open_cursor(is_alone=False) as connection:
            rows = _read_run(connection, run.run_id)
            before = _read_run(connection, run.parent_run_id) if run.parent_run_id else []
        failed = [name for name, error in rows if error]
        reasons = describe_failures(rows)
        if not rows:
            # Dagster re-executes from the failed step, which is this one: nothing was asked for.
            failed = [name for name, error in before if error]
            reasons = (
                "this run asked the API for nothing, so it says nothing about the data: "
                f"materialise {', '.join(failed) or 'what you need'} again, or start sync_all"
            )
        yield dg.AssetCheckResult(
            check_name=OUTCOME_CHECK,
            asset_key=LOG_KEY,
            passed=not reasons,
            description=reasons or f"{len(rows)} resources loaded",
            metadata={"resources": len(rows), "failed": failed},
        )
        if reasons:
            raise dg.Failure(reasons, allow_retries=False)

    return every_resource_loaded


def _read_run(connection: engine.DuckDBPyConnection, run_id: str) -> list[tuple[str, str | None]]:
    """Return resource and error of each row that a run wrote."""
    return connection.execute(
        f"SELECT resource, error FROM {LOG_TABLE} WHERE run_id = ? ORDER BY resource", [run_id]
    ).fetchall()


def describe_failures(errors: Iterable[tuple[str, str | None]]) -> str:
    """Return one line per reason with the resources it hit, or '' where nothing failed."""
    hit: dict[str, list[str]] = {}
    for resource, error in errors:
        if error:
            hit.setdefault(error, []).append(resource)
    if not hit:
        return ""
    count = sum(len(resources) for resources in hit.values())
    lines = [f"{', '.join(resources)}: {error}" for error, resources in hit.items()]
    return f"{count} of the resources could not be read:\n" + "\n".join(lines)
