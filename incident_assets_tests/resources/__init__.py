"""Tests of `incident_assets.resources`."""
