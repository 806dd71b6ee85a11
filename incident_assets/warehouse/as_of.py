"""Macros of SQL, one per table with a history, that give its rows as of a moment.

What a version is, and when it ends, is `history`'s.
"""

import duckdb

from incident_assets.warehouse.schemas import HISTORY_SCHEMA, PERIOD_TABLE, RAW_SCHEMA

# A text with a zone has its sign, or its name, after a colon; others are UTC, and so are dates.
_AT = """CASE
    WHEN regexp_matches(moment::VARCHAR, ':.*[-+A-Za-z]') THEN moment::VARCHAR::TIMESTAMPTZ
    ELSE timezone('UTC', moment::VARCHAR::TIMESTAMP)
END"""
# An API's field never begins with an underscore, so nothing hides these names. The moment stands in
# each condition as an expression, not as another table's value: DuckDB works it out beforehand, and
# then decodes no other column of rows in a row of which none was valid.
AS_OF = f"""CREATE OR REPLACE MACRO {HISTORY_SCHEMA}.{{name}}_as_of(moment) AS TABLE
WITH kept AS MATERIALIZED (
    SELECT CASE WHEN EXISTS (
        SELECT 1 FROM {PERIOD_TABLE}
        WHERE resource = '{{name}}' AND since <= {_AT} AND {_AT} < coalesce(until, 'infinity')
    ) THEN true ELSE error(
        'there is no history of {{name}} as of ' || timezone('UTC', {_AT}) || ' UTC: '
        || coalesce('it is kept ' || (
            SELECT string_agg(
                'since ' || timezone('UTC', since)
                || coalesce(' until ' || timezone('UTC', until), ''), ' and ' ORDER BY since
            ) FROM {PERIOD_TABLE} WHERE resource = '{{name}}'
        ), 'none is kept')
    ) END AS _is_kept
)
SELECT * FROM {RAW_SCHEMA}.{{name}}
WHERE _deleted_at IS NULL AND _valid_from <= {_AT} AND (SELECT _is_kept FROM kept)
UNION ALL BY NAME
SELECT * EXCLUDE (_valid_to, _ended) FROM {HISTORY_SCHEMA}.{{name}}
WHERE _deleted_at IS NULL AND _valid_from <= {_AT} AND _valid_to > {_AT}
AND (SELECT _is_kept FROM kept)
UNION ALL BY NAME
SELECT * EXCLUDE (_valid_to, _ended) FROM {HISTORY_SCHEMA}.{{name}}
WHERE _deleted_at IS NULL AND _valid_from <= {_AT} AND (SELECT _is_kept FROM kept)
AND _valid_to IS NULL AND id IN (SELECT id FROM {RAW_SCHEMA}.{{name}} WHERE _valid_from IS NULL)"""


def define_as_of(connection: duckdb.DuckDBPyConnection, resource: str) -> None:
    """Make the macro that gives a resource's rows as of a moment, or make it anew."""
    connection.execute(AS_OF.format(name=resource))
