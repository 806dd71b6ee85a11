"""Tests of `incident_assets.warehouse`."""
