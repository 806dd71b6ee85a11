"""The reliability report: from Arrow tables of the marts to plots and one HTML page, no Dagster.

`build.build_report` is the way in. What a metric means is decided in the models, not here. What
ends in a new page is here too, since no room is above it but the commands (`forgetting`).
"""
