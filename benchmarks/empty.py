"""As many empty assets and checks as `sync_live` has, in as many steps: what Dagster itself takes.

What the project's own job does beside that is measured by the way `live`.
"""

import gc
from collections.abc import Iterator, Mapping, Set
from typing import Any

import dagster as dg

from incident_assets import definitions

JOB = "sync_live"


def build_empty_definitions() -> dg.Definitions:
    """Return a job of that name, whose steps yield what those of ours do and do nothing else."""
    ours = definitions.defs
    # What of an op a job has selected is said nowhere else.
    layer = ours.resolve_job_def(JOB).asset_layer
    empty: list[Any] = []
    for each in (*(ours.assets or ()), *(ours.asset_checks or ())):
        if not isinstance(each, dg.AssetsDefinition):
            continue
        keys = each.keys & set(layer.selected_asset_keys)
        checks = [x for x in each.check_specs if x.key in layer.asset_graph.asset_check_keys]
        if each.keys and not keys:
            continue
        wanted = keys or {check.asset_key for check in checks} & set(layer.selected_asset_keys)
        checks = [x for x in checks if x.asset_key in wanted and x.name != "freshness"]
        if wanted:
            deps = {key: each.asset_deps[key] & set(layer.selected_asset_keys) for key in keys}
            empty.append(_build_empty(each.op.name, deps, checks))
    return dg.Definitions(
        assets=[x for x in empty if not isinstance(x, dg.AssetChecksDefinition)],
        asset_checks=[x for x in empty if isinstance(x, dg.AssetChecksDefinition)],
        jobs=[dg.define_asset_job("empty", dg.AssetSelection.all())],
        executor=dg.in_process_executor,
    )


def _build_empty(
    name: str, deps: Mapping[dg.AssetKey, Set[dg.AssetKey]], checks: list[dg.AssetCheckSpec]
) -> Any:
    bare = [dg.AssetCheckSpec(x.name, asset=x.asset_key) for x in checks]

    def run() -> Iterator[Any]:
        yield from (dg.MaterializeResult(key) for key in deps)
        for check in bare:
            yield dg.AssetCheckResult(passed=True, asset_key=check.asset_key, check_name=check.name)

    if not deps:
        return dg.multi_asset_check(name=name, specs=bare)(run)
    specs = [dg.AssetSpec(key, deps=[*above - {*deps}]) for key, above in deps.items()]
    return dg.multi_asset(name=name, specs=specs, check_specs=bare)(run)


defs = build_empty_definitions()
gc.freeze()  # as `incident_assets.definitions` does
