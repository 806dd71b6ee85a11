"""What is known beforehand of drawn mutations: who should notice them, and which are no faults.

A module of a room without its tests, and a reason for what is not drawn any more, are found by
`test_mutants.py`. Few reasons are good ones: that the program does the same, only slower, is.
"""

from collections.abc import Mapping

# By module, the quickest first: where one fails, the rest is not run.
TESTS: Mapping[str, tuple[str, ...]] = {
    "api/adapter.py": ("api/test_limits.py", "api/test_failures.py", "sync/test_progress.py"),
    "api/cut_off.py": ("api/test_limits.py", "sync/test_interrupts.py"),
    "api/endpoints.py": ("sync/test_seed.py", "sync/test_sync.py", "sync/test_versions.py"),
    "api/exact_json.py": ("api/test_rows.py", "api/test_bad_data.py"),
    "api/failures.py": ("api/test_failures.py", "api/test_secrets.py", "sync/test_versions.py"),
    "api/key.py": ("api/test_failures.py", "api/test_secrets.py", "test_commands.py"),
    "api/names.py": ("models/test_building.py", "test_commands.py"),
    "api/outside.py": ("defs/test_endpoints.py",),
    "api/pages.py": ("api/test_failures.py", "api/test_bad_data.py", "sync/test_sync.py"),
    "api/cells.py": ("api/test_rows.py", "sync/test_sync.py", "api/test_bad_data.py"),
    "api/erasure.py": ("report/test_forgetting.py",),
    "api/left_out.py": ("sync/test_personal.py",),
    "api/people.py": ("api/test_personal.py", "sync/test_personal.py"),
    "api/personal.py": ("api/test_personal.py", "sync/test_personal.py"),
    "api/rate_limit.py": ("api/test_limits.py",),
    "api/retries.py": ("api/test_limits.py", "api/test_failures.py"),
    "api/rows.py": (
        "api/test_rows.py",
        "api/test_bad_data.py",
        "sync/test_sync.py",
        "sync/test_apart.py",
    ),
    "api/session.py": ("api/test_failures.py", "api/test_secrets.py", "sync/test_account.py"),
    "sync/account.py": ("sync/test_account.py", "api/test_failures.py", "test_commands.py"),
    "sync/fetch.py": (
        "sync/test_sync.py",
        "sync/test_listings.py",
        "sync/test_apart.py",
        "sync/test_versions.py",
        "sync/test_interrupts.py",
        "api/test_failures.py",
    ),
    "sync/forgetting.py": ("report/test_forgetting.py",),
    "sync/listing.py": ("sync/test_listings.py", "sync/test_sync.py", "sync/test_apart.py"),
    "sync/load.py": ("sync/test_sync.py", "sync/test_apart.py", "sync/test_changes.py"),
    "sync/log.py": (
        "sync/test_sync.py",
        "sync/test_loss.py",
        "warehouse/test_publishing.py",
        "checks/test_per_resource.py",
    ),
    "sync/loss.py": ("sync/test_loss.py", "sync/test_account.py", "checks/test_per_resource.py"),
    "sync/memory.py": ("sync/test_sync.py",),
    "sync/personal.py": ("sync/test_personal.py", "defs/test_personal.py"),
    "sync/plan.py": (
        "sync/test_listings.py",
        "sync/test_loss.py",
        "sync/test_versions.py",
        "sync/test_apart.py",
        "sync/test_changes.py",
    ),
    "sync/progress.py": ("sync/test_progress.py",),
    "sync/readiness.py": ("test_commands.py", "sync/test_account.py", "sync/test_versions.py"),
    "sync/describing.py": ("warehouse/test_comments.py",),
    "sync/renewal.py": ("sync/test_personal.py", "report/test_forgetting.py"),
    "sync/run.py": ("sync/test_sync.py", "sync/test_loss.py", "sync/test_changes.py"),
    "sync/stages.py": ("sync/test_listings.py", "sync/test_loss.py", "sync/test_apart.py"),
    "sync/telemetry.py": ("test_commands.py",),
    "sync/terminal.py": ("test_commands.py", "sync/test_loss.py"),
    "sync/updates.py": ("sync/test_listings.py", "sync/test_apart.py", "sync/test_changes.py"),
    "warehouse/anew.py": ("warehouse/test_anew.py", "sync/test_personal.py"),
    "warehouse/as_of.py": ("sync/test_history.py",),
    "warehouse/columns.py": ("sync/test_versions.py", "sync/test_sync.py", "sync/test_apart.py"),
    "warehouse/comments.py": ("warehouse/test_comments.py",),
    "warehouse/destination.py": ("sync/test_sync.py", "sync/test_changes.py"),
    "warehouse/commits.py": ("sync/test_apart.py", "sync/test_changes.py"),
    "warehouse/lake.py": ("lake/test_lake.py", "lake/test_lock.py", "test_settings.py"),
    "warehouse/lake_lock.py": ("lake/test_lock.py", "lake/test_lake.py"),
    "warehouse/place.py": ("sync/test_sync.py", "test_commands.py"),
    "warehouse/schemas.py": ("sync/test_sync.py",),
    "warehouse/tidying.py": ("warehouse/test_tidying.py",),
    "warehouse/upkeep.py": ("lake/test_lake.py", "lake/test_lock.py"),
    "warehouse/file.py": (
        "warehouse/test_storage.py",
        "warehouse/test_private.py",
        "defs/test_schedules.py",
        "api/test_failures.py",
        "test_commands.py",
    ),
    "warehouse/held.py": (
        "warehouse/test_publishing.py",
        "defs/test_concurrency.py",
        "defs/test_unchanged.py",
    ),
    "warehouse/history.py": ("sync/test_history.py",),
    "warehouse/interrupts.py": ("sync/test_apart.py", "sync/test_interrupts.py"),
    "warehouse/manifest.py": ("warehouse/test_moving.py",),
    "warehouse/masking.py": ("sync/test_personal.py",),
    "warehouse/merging.py": (
        "sync/test_sync.py",
        "sync/test_loss.py",
        "sync/test_changes.py",
        "sync/test_history.py",
    ),
    "warehouse/moving.py": ("warehouse/test_moving.py", "lake/test_moving.py"),
    "warehouse/private.py": (
        "warehouse/test_private.py",
        "warehouse/test_publishing.py",
        "warehouse/test_moving.py",
    ),
    "warehouse/publishing.py": ("warehouse/test_publishing.py", "defs/test_unchanged.py"),
    "warehouse/spool.py": (
        "sync/test_sync.py",
        "api/test_failures.py",
        "api/test_bad_data.py",
        "sync/test_apart.py",
    ),
    "checks/contract.py": ("checks/test_per_resource.py",),
    "checks/finding.py": ("checks/test_per_resource.py",),
    "checks/freshness.py": ("checks/test_per_resource.py",),
    "checks/integrity.py": ("checks/test_per_resource.py",),
    "checks/repeating.py": ("defs/test_unchanged.py", "checks/test_per_resource.py"),
    "checks/volume.py": ("checks/test_per_resource.py", "sync/test_loss.py"),
    "warehouse/versions.py": ("warehouse/test_versions.py", "models/test_unchanged.py"),
}

# Drawn mutations that no test notices, by name, with the reason why they are no faults.
EXPLAINED: Mapping[str, str] = {
    "warehouse/lake.py Lake._read_data_path: …lass('ducklake_metadata') IS NOT NULL\")[0]: → "
    "…lass('ducklake_metadata') IS NOT NULL\")[-1]:": "the row has one column",
    "warehouse/moving.py _write_table: …rs(table) | {'rows': row[0] if row else 0}) → "
    "…rs(table) | {'rows': row[0] if row else 1})": "COPY always tells how many rows it wrote",
    "warehouse/upkeep.py _keep.count: …tion.execute(sql, [name]).fetchall()[0][0]) → "
    "…tion.execute(sql, [name]).fetchall()[0][-1])": "the row has one column",
}
