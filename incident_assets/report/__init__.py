"""The reliability report: from Arrow tables of the marts to plots and one HTML page, no Dagster.

`build.build_report` is the way in. What a metric means is decided in the models, not here.
"""
