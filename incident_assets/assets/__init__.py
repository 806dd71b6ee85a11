"""The assets: thin Dagster wrappers around `incident_assets.source`."""
