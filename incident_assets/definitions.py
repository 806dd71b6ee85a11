"""The entry point that Dagster loads; what it is made of is in `build`."""

from incident_assets.build import build_definitions

defs = build_definitions()
