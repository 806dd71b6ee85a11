"""Benchmarks: this project beside bare dlt and a hand-written floor, on the bundled API.

Nothing in `incident_assets` imports from here; `make bench` and `python -m benchmarks` run it.
`moves` stands apart: it counts how far a page and a failure travel between our files.
"""
