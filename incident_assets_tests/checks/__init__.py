"""Tests of `incident_assets.checks`."""
