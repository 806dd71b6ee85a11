"""The SQL models, one `.sql` file each, and what is read from them without Dagster.

A file begins with a comment: meaning, `Grain:` (the columns of its key), `Source:` of the
definition and any `Caveat:`. It holds one plain SELECT, whose output columns are described by
trailing comments, from raw tables (`incident_api`), other models (`incident_analytics`) and the
settings (`setting_...`); what a status category means it asks by functions (`is_over(category)`),
which are made from `incident_assets.api.categories`. Adding a model is adding a file, and a mart
can be explained as it stands. Fractions are added in order (`avg(x ORDER BY x)`), so that the same
rows give the same digits in every build.
"""
