"""The ingestion op: thirteen raw assets and the sync log, loaded by dlt in one run.

One op, so that a run has one load package and one lock; any subset can be materialised alone.
What a sync does is in `source.sync`.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource
from pydantic import Field

from incident_assets.api.endpoints import Endpoint
from incident_assets.defs.api import ApiResource
from incident_assets.defs.duckdb import BUSY_POLICY, DuckDBResource, explain_errors
from incident_assets.defs.outcome import LOG_KEY, OUTCOME_CHECK, describe_failures
from incident_assets.defs.translator import IncidentTranslator, build_raw_specs, raw_key
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import Sync, open_sync

LOG_SPEC = dg.AssetSpec(
    key=LOG_KEY,
    group_name="operations",
    kinds={"duckdb"},
    description="A row per run and resource: when, outcome, rows, requests, seconds, error.",
    metadata={"dagster/table_name": "incident_sync.log"},
)


class ListingMode(Enum):
    """How much is asked for: everything, or what may have changed."""

    full = "full"
    changes = "changes"


class SyncConfig(dg.Config):
    """What a run asks for, in the launchpad or in a job's configuration."""

    listing: ListingMode = Field(
        ListingMode.full,
        description="full: list everything, which alone shows deletions. changes: "
        "incidents with their updates, actions and follow-ups by what changed, the rest in full; "
        "full where nothing was loaded before. A text of an update that was edited or scrubbed, and an "
        "embedded object that changed alone, are seen by a full listing.",
    )
    full_refresh: bool = Field(
        False,
        description="Build the selected tables anew from full listings and put them in place of "
        "the old ones when they are whole; rows deleted upstream are dropped.",
    )


def build_ingestion(endpoints: Sequence[Endpoint]) -> dg.AssetsDefinition:
    """Return the op that materialises the raw assets of these resources and the sync log."""

    @dg.multi_asset(
        name="sync",
        specs=[*build_raw_specs(endpoints), LOG_SPEC],
        can_subset=True,
        retry_policy=BUSY_POLICY,
    )
    def sync(
        context: dg.AssetExecutionContext,
        config: SyncConfig,
        api: ApiResource,
        dlt: DagsterDltResource,
        duckdb: DuckDBResource,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        selected = context.selected_asset_keys
        names = [spec.key.path[-1] for spec in build_raw_specs(endpoints) if spec.key in selected]
        with (
            explain_errors(),
            open_sync(
                duckdb.apply_to(api.read_settings()),
                names,
                context.run.run_id,
                changes=config.listing is ListingMode.changes,
                full_refresh=config.full_refresh,
                endpoints=endpoints,
            ) as run,
        ):
            run.fetch()
            _load(context, dlt, run, IncidentTranslator(endpoints))
            outcomes = run.conclude()
        yield from (_report(outcome) for outcome in outcomes if not outcome.failure)
        if LOG_KEY in selected:
            failed = [outcome.resource for outcome in outcomes if outcome.failure]
            yield dg.MaterializeResult(LOG_KEY, metadata={"failed": failed, "synced": names})
        reasons = describe_failures((x.resource, x.failure) for x in outcomes)
        if reasons and not _is_judged_later(context):
            raise dg.Failure(reasons, allow_retries=False)

    return sync


def _load(
    context: dg.AssetExecutionContext,
    dlt: DagsterDltResource,
    run: Sync,
    translator: IncidentTranslator,
) -> None:
    events = dlt.run(
        context=context,
        dlt_source=run.decide(),
        dlt_pipeline=run.pipeline,
        dagster_dlt_translator=translator,
        loader_file_format="parquet",
    )
    # With the first event everything is loaded. Events are made from the outcomes instead: these
    # would report unread resources too, and describe every column once more.
    next(events, None)


def _report(outcome: Outcome) -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(
        raw_key(outcome.resource),
        metadata={
            "dagster/row_count": outcome.table_rows,
            "dagster/table_name": f"incident_api.{outcome.resource}",
            "listing": outcome.listing,
            "rows_listed": outcome.rows,
            "rows_changed": outcome.changed,
            "rows_deleted": outcome.deleted,
            "requests": outcome.requests,
            "seconds": outcome.seconds,
            "load_id": outcome.load_id or "",
            "path": outcome.path,
        },
    )


def _is_judged_later(context: dg.AssetExecutionContext) -> bool:
    """Whether the check that ends the run as failed is part of this run."""
    return context.job_def.has_node_named(OUTCOME_CHECK)
