-- Moments of incidents that have happened, such as Reported or Fixed, one row each.
-- Grain: incident_id, timestamp_id
-- Source: the API's incident timestamps and their values, found by the timestamp's id; which of them
-- is which moment follows the usual names or INCIDENT_TIMESTAMPS, see dim_moment.
-- Caveat: a value that is no instant is left out, as is one that the API leaves empty.
WITH parsed AS (
    SELECT
        id,
        unnest(from_json(
            incident_timestamp_values,
            '[{"incident_timestamp": {"id": "VARCHAR"}, "value": {"value": "TIMESTAMPTZ"}}]'
        )) AS entry
    FROM incident_api.incidents
    WHERE _deleted_at IS NULL
),

happened AS (
    SELECT
        id AS incident_id,
        entry.incident_timestamp.id AS timestamp_id,
        min(entry.value.value) AS occurred_at
    FROM parsed
    WHERE isfinite(entry.value.value) AND entry.incident_timestamp.id IS NOT NULL
    GROUP BY id, entry.incident_timestamp.id
),

definition AS (
    SELECT
        t.id,
        t.name,
        t.rank,
        list(s.moment ORDER BY s.moment) FILTER (WHERE s.moment IS NOT NULL) AS moments
    FROM incident_api.incident_timestamps AS t
    LEFT JOIN setting_moment AS s ON t.id = s.timestamp
    WHERE t._deleted_at IS NULL
    GROUP BY t.id, t.name, t.rank
)

SELECT
    h.incident_id, -- Incident that it is a moment of
    h.timestamp_id, -- Identifier of the timestamp's definition
    d.name, -- Name that people read
    d.rank, -- Order in which the moments are shown
    d.moments, -- Moments of fct_incident that it stands for, NULL if none
    h.occurred_at -- When it happened (UTC); of several times, the first
FROM happened AS h
LEFT JOIN definition AS d ON h.timestamp_id = d.id
