"""The entry point that Dagster loads; what it is made of is in `build`."""

import gc

# What a process starts with stays until it ends: looking through that for garbage, again and again
# and once more at the end, takes a second of every run.
gc.freeze()

from incident_assets.build import build_definitions  # noqa: E402

defs = build_definitions()
gc.freeze()
