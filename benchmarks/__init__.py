"""Benchmarks: this project beside bare dlt and a hand-written floor, on the bundled API.

Nothing in `incident_assets` imports from here; `make bench` and `python -m benchmarks` run it.
"""
