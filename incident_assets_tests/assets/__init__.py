"""Tests of `incident_assets.assets`."""
