"""Everything that imports Dagster: assets, checks, resources, jobs, schedules, alerts."""
