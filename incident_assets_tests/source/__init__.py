"""Tests of `incident_assets.source`."""
