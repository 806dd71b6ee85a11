"""What the definitions hold, as a text to compare: so that a lost asset or cron shows in review.

`python -m incident_assets_tests.pages` writes it. What the definitions have to hold, and why, is
asserted in `test_definitions`.
"""

from collections.abc import Iterable, Iterator

import dagster as dg

from incident_assets.build import build_definitions

HEADER = "Made by `python -m incident_assets_tests.pages`; a line is an asset and its checks.\n"


def render_definitions() -> str:
    """Return assets by group, jobs with what they run, schedules and sensors, one a line."""
    definitions = build_definitions()
    graph = definitions.resolve_asset_graph()
    lines = [HEADER]
    keys, checks = graph.get_all_asset_keys(), graph.asset_check_keys
    groups = {graph.get(key).group_name for key in keys}
    for group in sorted(groups):
        lines.append(f"group {group}")
        members = {key for key in keys if graph.get(key).group_name == group}
        lines += [*_list_assets(members, {x for x in checks if x.asset_key in members}), ""]
    for name in sorted(job.name for job in definitions.jobs or ()):
        layer = definitions.resolve_job_def(name).asset_layer
        lines.append(f"job {name}")
        checked = layer.asset_graph.asset_check_keys
        lines += [*_list_assets(layer.executable_asset_keys, checked), ""]
    for schedule in definitions.schedules or ():
        found = definitions.resolve_schedule_def(schedule.name)
        zone = found.execution_timezone or "UTC"
        status = found.default_status.value
        lines.append(
            f"schedule {found.name}: {found.cron_schedule} {zone}, {found.job_name}, {status}"
        )
    for sensor in definitions.sensors or ():
        lines.append(f"sensor {sensor.name}: {sensor.default_status.value}")
    return "\n".join(lines) + "\n"


def _list_assets(keys: Iterable[dg.AssetKey], checks: Iterable[dg.AssetCheckKey]) -> Iterator[str]:
    names: dict[str, list[str]] = {key.to_user_string(): [] for key in keys}
    for check in checks:
        names.setdefault(check.asset_key.to_user_string(), []).append(check.name)
    for asset, its in sorted(names.items()):
        yield f"  {asset}: {', '.join(sorted(its))}" if its else f"  {asset}"
