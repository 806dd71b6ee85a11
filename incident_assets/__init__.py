"""Incident history as Dagster assets: thirteen API resources, loaded by dlt into DuckDB."""
