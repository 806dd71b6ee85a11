-- Changes of an incident's status, each with how long the status then lasted.
-- Grain: update_id
-- Source: the API's incident updates; a status lasts until the next update that sets another one.
-- Caveat: the month is that of INCIDENT_TIME_ZONE.
-- Caveat: an update that keeps the status is no transition; without a readable status it is none
-- either.
WITH parsed AS (
    SELECT
        id,
        incident_id,
        created_at,
        json_extract_string(new_incident_status, ['$.id', '$.name', '$.category']) AS status,
        json_extract_string(updater, '$.user.id') AS user_id
    FROM incident_api.incident_updates
    WHERE _deleted_at IS NULL AND incident_id IS NOT NULL AND created_at IS NOT NULL
),

ordered AS (
    SELECT
        *,
        lag(status[1]) OVER (PARTITION BY incident_id ORDER BY created_at, id) AS previous_id
    FROM parsed
    WHERE status[1] IS NOT NULL
),

named AS (
    SELECT
        o.id,
        o.incident_id,
        o.created_at,
        o.user_id,
        o.status[1] AS status_id,
        coalesce(d.name, o.status[2]) AS status,
        CASE WHEN d.is_mapped THEN d.category ELSE o.status[3] END AS category
    FROM ordered AS o
    LEFT JOIN incident_analytics.dim_status AS d ON o.status[1] = d.status_id
    WHERE o.previous_id IS DISTINCT FROM o.status[1]
),

spans AS (
    SELECT
        *,
        lead(created_at) OVER changes AS left_at,
        lead(category) OVER changes AS next_category
    FROM named
    WINDOW changes AS (PARTITION BY incident_id ORDER BY created_at, id)
)

SELECT
    id AS update_id, -- Identifier of the update that set the status
    incident_id, -- Incident whose status changed
    status_id, -- Identifier of the status
    status, -- Name of the status that people read
    category, -- Category of the status, by INCIDENT_STATUSES where it says so
    created_at AS entered_at, -- When the incident came into the status (UTC)
    left_at, -- When it left the status (UTC), NULL while it lasts
    CAST(
        date_trunc('month', timezone(time_zone, coalesce(left_at, created_at))) AS DATE
    ) AS month, -- First day of the month in which it was left, or began if it lasts
    (epoch_us(left_at) - epoch_us(created_at)) / 1e6 AS seconds, -- How long it lasted, in seconds
    next_category, -- Category of the status after it
    is_over(category)
    AND coalesce(is_live(next_category), FALSE) AS is_reopening, -- From closed or learning to live
    user_id -- User who posted the update, NULL if automation did
FROM spans
CROSS JOIN setting_calendar
