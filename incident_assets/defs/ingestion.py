"""The ingestion op: thirteen raw assets and the sync log, loaded by dlt in one run.

One op, so that a run has one load package and one lock; any subset can be materialised alone.
What a sync does is in `sync.stages`.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource
from pydantic import Field

from incident_assets.api.endpoints import Endpoint
from incident_assets.defs.api import ApiResource
from incident_assets.defs.duckdb import DuckDBResource, explain_errors
from incident_assets.defs.needs import build_needed_models, load_needed_tables
from incident_assets.defs.outcome import (
    LOG_KEY,
    OUTCOME_CHECK,
    build_loaded_spec,
    describe_failures,
    describe_outcome,
    read_last_errors,
    report_loaded,
)
from incident_assets.defs.translator import (
    API_KEY,
    IncidentTranslator,
    build_raw_specs,
    raw_key,
)
from incident_assets.sync.log import LOG_COLUMNS, LOG_TABLE, LOG_TEXTS, Outcome
from incident_assets.sync.renewal import renew_database
from incident_assets.sync.run import open_sync
from incident_assets.sync.stages import Sync

LOG_SPEC = dg.AssetSpec(
    key=LOG_KEY,
    deps=[API_KEY],
    group_name="operations",
    kinds={"duckdb"},
    description="A row per run and resource: when, outcome, rows, requests, seconds, error.",
    metadata={
        "dagster/table_name": LOG_TABLE,
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn(*x, LOG_TEXTS.columns[x[0]]) for x in LOG_COLUMNS.items()]
        ),
    },
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
        "full where nothing was loaded before. An edited or scrubbed text of an update, and an "
        "embedded object that changed alone, are seen by a full listing.",
    )
    full_refresh: bool = Field(
        False,
        description="Build the selected tables anew from full listings and put them in place of "
        "the old ones when they are whole; rows deleted upstream are dropped.",
    )
    accept_loss: list[str] = Field(
        [],
        description="Resources whose rows are gone where a full listing lacks them, however many. "
        "Otherwise a listing that lacks most of a table takes none away, and says so.",
    )


def build_ingestion(endpoints: Sequence[Endpoint]) -> dg.AssetsDefinition:
    """Return the op that materialises the raw assets of these resources and the sync log."""

    @dg.multi_asset(
        name="sync",
        specs=[*build_raw_specs(endpoints), LOG_SPEC],
        check_specs=[build_loaded_spec(endpoint.name) for endpoint in endpoints],
        can_subset=True,
    )
    def sync(
        context: dg.AssetExecutionContext,
        config: SyncConfig,
        api: ApiResource,
        dlt: DagsterDltResource,
        duckdb: DuckDBResource,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        names = [x.name for x in endpoints if raw_key(x.name) in context.selected_asset_keys]
        with explain_errors(), duckdb.open_session() as connection:
            if not names:  # a check alone was asked for
                yield from report_loaded(context, read_last_errors(connection))
                return
            settings = duckdb.apply_to(api.read_settings())
            load_needed_tables(context, connection, settings, names, endpoints)
            with open_sync(
                connection,
                settings,
                names,
                context.run.run_id,
                changes=config.listing is ListingMode.changes,
                full_refresh=config.full_refresh,
                accept_loss=config.accept_loss,
                endpoints=endpoints,
            ) as run:
                run.fetch()
                events = _load(context, dlt, run, IncidentTranslator(endpoints))
                outcomes = {outcome.resource: outcome for outcome in run.conclude()}
            build_needed_models(context, connection, settings)
        if run.is_due:
            with explain_errors(), duckdb.hold() as database:
                renew_database(settings, database)
        errors = yield from _report(context, config, run, events, outcomes)
        reasons = describe_failures(errors.items())
        if reasons and not _is_judged_later(context):
            raise dg.Failure(reasons, allow_retries=False)

    return sync


def _load(
    context: dg.AssetExecutionContext,
    dlt: DagsterDltResource,
    run: Sync,
    translator: IncidentTranslator,
) -> list[Any]:
    """Load what the listings change; return dlt's events, one for each table that was given rows.

    There is none where nothing can be loaded.
    """
    return run.load(
        lambda source: dlt.run(
            context=context,
            dlt_source=source,
            dlt_pipeline=run.pipeline,
            dagster_dlt_translator=translator,
            loader_file_format="parquet",
        )
    )


def _report(
    context: dg.AssetExecutionContext,
    config: SyncConfig,
    run: Sync,
    events: Iterable[Any],
    outcomes: Mapping[str, Outcome],
) -> Generator[dg.MaterializeResult[Any] | dg.AssetCheckResult, None, dict[str, str | None]]:
    """Yield what became of the tables and the log; return what failed, by resource."""
    yield from _materialise(run, events, outcomes, config)
    errors = {name: str(x.failure) if x.failure else None for name, x in outcomes.items()}
    yield from report_loaded(context, errors)
    if LOG_KEY in context.selected_asset_keys:
        failed = [name for name, error in errors.items() if error]
        asked = {"failed": failed, "synced": [*outcomes], **_tell(config)}
        yield dg.MaterializeResult(LOG_KEY, metadata=asked)
    return errors


def _materialise(
    run: Sync, events: Iterable[Any], outcomes: Mapping[str, Outcome], config: SyncConfig
) -> Iterator[dg.MaterializeResult[Any]]:
    """Yield dlt's event of each table, or one in its place, with what the sync tells."""
    told = {event.asset_key: event for event in events}
    for name, outcome in outcomes.items():
        if outcome.outcome != "failed":
            event = told.get(raw_key(name), dg.MaterializeResult(raw_key(name)))
            asked = {
                "full_refresh": config.full_refresh,
                "accept_loss": name in config.accept_loss,
            }
            yield event._replace(
                metadata=_describe(event.metadata, outcome) | asked,
                data_version=dg.DataVersion(run.versions[name]),
            )


def _tell(config: SyncConfig) -> dict[str, Any]:
    return {
        "listing": config.listing.value,
        "full_refresh": config.full_refresh,
        "accept_loss": config.accept_loss,
    }


def _describe(told: Mapping[str, Any] | None, outcome: Outcome) -> dict[str, Any]:
    """Return what dlt tells of a load, and what the sync does; what the spec says is not repeated.

    Where nothing was loaded, dlt has nothing to tell. `jobs` holds paths of this machine.
    """
    found = describe_outcome(outcome)
    if found["unchanged"]:
        return found
    return found | {
        name: value
        for name, value in (told or {}).items()
        if name != "jobs" and not name.startswith("dagster/")
    }


def _is_judged_later(context: dg.AssetExecutionContext) -> bool:
    """Whether the check that ends the run as failed is part of this run."""
    return context.job_def.has_node_named(OUTCOME_CHECK)
