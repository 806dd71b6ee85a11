"""The source: the API's resources, how they are fetched, and how they become typed tables.

Nothing in this folder imports Dagster, so it loads alone: `python -m incident_assets.source`.
"""
