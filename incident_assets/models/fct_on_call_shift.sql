-- Shifts of on-call schedules: those going on and those after the next handover.
-- Grain: schedule_id, period, position
-- Source: the current and next shifts that the API shows on a schedule, when it was last synced.
-- Caveat: the API shows no past shifts, so this is no history.
WITH parsed AS (
    SELECT
        id,
        'current' AS period,
        unnest(from_json(
            current_shifts,
            '[{"start_at": "TIMESTAMPTZ", "end_at": "TIMESTAMPTZ", "rotation_id": "VARCHAR",
               "user": {"id": "VARCHAR"}}]'
        )) AS shift
    FROM incident_api.schedules
    WHERE _deleted_at IS NULL
    UNION ALL
    SELECT
        id,
        'next' AS period,
        unnest(from_json(
            next_shifts,
            '[{"start_at": "TIMESTAMPTZ", "end_at": "TIMESTAMPTZ", "rotation_id": "VARCHAR",
               "user": {"id": "VARCHAR"}}]'
        )) AS shift
    FROM incident_api.schedules
    WHERE _deleted_at IS NULL
)

SELECT
    id AS schedule_id, -- Schedule
    period, -- current or next
    row_number() OVER (
        PARTITION BY id, period
        ORDER BY shift.start_at, shift.rotation_id, shift.user.id, shift.end_at
    ) AS position, -- Order of the schedule's shifts in the period, from 1
    shift.user.id AS user_id, -- User who is on call, NULL if nobody is
    shift.rotation_id AS rotation_id, -- Rotation that the shift belongs to
    CASE WHEN isfinite(shift.start_at) THEN shift.start_at END AS start_at, -- When it begins (UTC)
    CASE WHEN isfinite(shift.end_at) THEN shift.end_at END AS end_at -- When it ends (UTC)
FROM parsed
