-- On-call schedules. Who is on call is in fct_on_call_shift.
-- Grain: schedule_id
-- Source: the API's schedules, as they are.
SELECT
    id AS schedule_id, -- Identifier of the schedule
    name, -- Name that people read
    timezone, -- Time zone that shifts are planned in
    from_json(team_ids, '["VARCHAR"]') AS team_ids, -- Teams that own it
    json_array_length(config, '$.rotations') AS rotations, -- How many rotations it has
    permalink, -- Address in the product
    created_at, -- When it was created (UTC)
    updated_at -- When it was last changed (UTC)
FROM incident_api.schedules
WHERE _deleted_at IS NULL
