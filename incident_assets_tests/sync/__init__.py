"""Tests of `incident_assets.sync`."""
