"""Tests of `incident_assets.api`."""
