-- Shifts of on-call schedules: those that were, those going on and those after the next handover.
-- Grain: schedule_id, user_id, start_at
-- Source: the current and next shifts that the API shows on a schedule, now and in every version of
-- it that is kept. Where a shift was changed, the last version that shows it counts; one that was
-- taken away before it began is none.
-- Caveat: the API shows no past shifts, so they are there since history is kept, and as far as a
-- sync saw them; shifts of deleted schedules are left out, and those without a beginning.
-- Caveat: of shifts of one user that begin at once in several rotations, the longest is told.
WITH versions AS (
    SELECT id, current_shifts, next_shifts, _valid_from, _valid_to
    FROM incident_history.schedules
    WHERE _deleted_at IS NULL AND _valid_to IS NOT NULL
    UNION ALL
    SELECT id, current_shifts, next_shifts, _valid_from, NULL AS _valid_to
    FROM incident_api.schedules
    WHERE _deleted_at IS NULL
),

parsed AS (
    SELECT
        id,
        'current' AS period,
        _valid_from,
        _valid_to,
        unnest(from_json(
            current_shifts,
            '[{"start_at": "TIMESTAMPTZ", "end_at": "TIMESTAMPTZ", "rotation_id": "VARCHAR",
               "user": {"id": "VARCHAR"}}]'
        )) AS shift
    FROM versions
    UNION ALL
    SELECT
        id,
        'next' AS period,
        _valid_from,
        _valid_to,
        unnest(from_json(
            next_shifts,
            '[{"start_at": "TIMESTAMPTZ", "end_at": "TIMESTAMPTZ", "rotation_id": "VARCHAR",
               "user": {"id": "VARCHAR"}}]'
        )) AS shift
    FROM versions
),

last_told AS (
    SELECT p.*
    FROM parsed AS p
    SEMI JOIN (SELECT id FROM incident_api.schedules WHERE _deleted_at IS NULL) AS live
        ON p.id = live.id
    WHERE isfinite(p.shift.start_at)
    QUALIFY row_number() OVER (
        PARTITION BY p.id, coalesce(p.shift.user.id, ''), p.shift.start_at
        ORDER BY
            p._valid_to DESC NULLS FIRST, p._valid_from DESC, p.shift.end_at DESC NULLS LAST,
            p.period, p.shift.rotation_id
    ) = 1
)

SELECT
    id AS schedule_id, -- Schedule
    coalesce(shift.user.id, '') AS user_id, -- User who is on call, '' if nobody is
    shift.start_at AS start_at, -- When it begins (UTC)
    CASE WHEN isfinite(shift.end_at) THEN shift.end_at END AS end_at, -- When it ends (UTC)
    shift.rotation_id AS rotation_id, -- Rotation that the shift belongs to
    CASE
        WHEN _valid_to IS NULL THEN period ELSE 'past'
    END AS period -- current or next, as the API shows it; past where it shows it no more
FROM last_told
WHERE _valid_to IS NULL OR shift.start_at <= _valid_to
