"""Tests: the folders mirror `incident_assets`; the bundled API is the counterpart of each."""
