-- Moments of incidents, and which of the account's timestamps stands for each.
-- Grain: moment
-- Source: INCIDENT_TIMESTAMPS; for what it does not name, the timestamp with the usual name, with or
-- without " at" behind it. Moments that it sets to none are left out.
-- Caveat: a moment without a timestamp is empty in every incident, as is what is computed from it.
SELECT
    s.moment, -- Moment, as a column of fct_incident without _at
    s.usual_name, -- Name that its timestamp usually has
    t.id AS timestamp_id, -- Timestamp that stands for it, NULL if none does
    t.name, -- Name of that timestamp in the account
    t.id IS NULL AS is_missing -- Whether no timestamp of the account stands for it
FROM setting_moment AS s
LEFT JOIN incident_api.incident_timestamps AS t ON s.timestamp = t.id AND t._deleted_at IS NULL
