"""The check on the sync log that ends a run as failed when a resource could not be read.

It is a step of its own: raised in the ingestion op, the failure would keep healthy models from
being built.
"""

from collections.abc import Iterable, Iterator

import dagster as dg

from incident_assets.defs.duckdb import BUSY_POLICY, DuckDBResource, explain_errors
from incident_assets.warehouse.schemas import LOG_SCHEMA

LOG_KEY = dg.AssetKey([LOG_SCHEMA, "log"])
OUTCOME_CHECK = "every_resource_loaded"


def build_outcome_check() -> dg.AssetChecksDefinition:
    """Return the check; it fails its step, and so the run, with the reasons."""

    @dg.multi_asset_check(
        name=OUTCOME_CHECK,
        specs=[
            dg.AssetCheckSpec(
                OUTCOME_CHECK,
                asset=LOG_KEY,
                description="Every resource of the last sync could be read and has landed.",
            )
        ],
        retry_policy=BUSY_POLICY,
    )
    def every_resource_loaded(
        context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource
    ) -> Iterator[dg.AssetCheckResult]:
        with (
            explain_errors(),
            duckdb.connect(read_only=True, purpose="checking the sync log") as connection,
        ):
            rows = connection.execute(
                f"SELECT resource, error FROM {LOG_SCHEMA}.log WHERE run_id = "
                f"(SELECT max_by(run_id, finished_at) FROM {LOG_SCHEMA}.log) ORDER BY resource"
            ).fetchall()
        reasons = describe_failures(rows)
        yield dg.AssetCheckResult(
            check_name=OUTCOME_CHECK,
            asset_key=LOG_KEY,
            passed=not reasons,
            description=reasons or f"{len(rows)} resources loaded",
            metadata={"resources": len(rows), "failed": [name for name, error in rows if error]},
        )
        if reasons:
            raise dg.Failure(reasons, allow_retries=False)

    return every_resource_loaded


def describe_failures(errors: Iterable[tuple[str, object | None]]) -> str:
    """Return one line per reason with the resources it hit, or '' where nothing failed."""
    hit: dict[str, list[str]] = {}
    for resource, error in errors:
        if error:
            hit.setdefault(str(error), []).append(resource)
    if not hit:
        return ""
    count = sum(len(resources) for resources in hit.values())
    lines = [f"{', '.join(resources)}: {error}" for error, resources in hit.items()]
    return f"{count} of the resources could not be read:\n" + "\n".join(lines)
