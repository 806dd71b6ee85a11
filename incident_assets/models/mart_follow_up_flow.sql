-- Follow-ups per week: opened, done, opened again, handed over.
-- Grain: week
-- Source: opened is created_at; the others are changes between versions that are kept, at their
-- updated_at, else when a sync saw them. What was completed when first seen was so at completed_at.
-- Caveat: counted are follow-ups as in mart_follow_up_ageing, without those that are deleted or not
-- to be done.
-- Caveat: reopened and handed over are known since history is kept.
-- Caveat: handed over is from one user to another; a first assignee is none, nor is nobody.
WITH versions AS (
    SELECT id, status, assignee, completed_at, updated_at, _valid_from
    FROM incident_history.follow_ups
    WHERE _deleted_at IS NULL AND _valid_to IS NOT NULL
    UNION ALL
    SELECT id, status, assignee, completed_at, updated_at, _valid_from
    FROM incident_api.follow_ups
    WHERE _deleted_at IS NULL
),

ordered AS (
    SELECT
        *,
        json_extract_string(assignee, '$.id') AS user_id,
        row_number() OVER versions AS version,
        lag(status) OVER versions AS status_before,
        lag(json_extract_string(assignee, '$.id')) OVER versions AS user_before,
        CASE
            WHEN updated_at IS DISTINCT FROM lag(updated_at) OVER versions
                THEN coalesce(updated_at, _valid_from)
            ELSE _valid_from
        END AS changed_at
    FROM versions
    WINDOW versions AS (PARTITION BY id ORDER BY _valid_from)
),

events AS (
    SELECT follow_up_id, 'opened' AS event, created_at AS at
    FROM incident_analytics.fct_follow_up
    UNION ALL
    SELECT id, 'done', CASE WHEN version = 1 THEN completed_at ELSE changed_at END
    FROM ordered
    WHERE status = 'completed' AND (version = 1 OR status_before IS DISTINCT FROM 'completed')
    UNION ALL
    SELECT id, 'reopened', changed_at
    FROM ordered
    WHERE version > 1 AND status_before = 'completed' AND status <> 'completed'
    UNION ALL
    SELECT id, 'handed over', changed_at
    FROM ordered
    WHERE version > 1 AND user_before <> user_id
)

SELECT
    CAST(
        date_trunc('week', timezone(z.time_zone, e.at)) AS DATE
    ) AS week, -- Monday of the week, by INCIDENT_TIME_ZONE
    count(f.follow_up_id) FILTER (WHERE e.event = 'opened') AS opened, -- Follow-ups created
    count(f.follow_up_id) FILTER (WHERE e.event = 'done') AS done, -- Times that one was completed
    count(f.follow_up_id)
        FILTER (WHERE e.event = 'reopened') AS reopened, -- Times that a completed one was opened
    count(f.follow_up_id)
        FILTER (WHERE e.event = 'handed over') AS handed_over -- Times that another user got one
FROM events AS e
INNER JOIN incident_analytics.fct_follow_up AS f ON e.follow_up_id = f.follow_up_id
INNER JOIN incident_analytics.fct_incident AS i ON f.incident_id = i.incident_id
CROSS JOIN setting_calendar AS z
WHERE i.is_counted AND coalesce(f.status, '') NOT IN ('deleted', 'not_doing') AND e.at IS NOT NULL
GROUP BY date_trunc('week', timezone(z.time_zone, e.at))
