"""Tests of `incident_assets.defs`."""
