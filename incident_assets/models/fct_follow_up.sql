-- Work that an incident leaves behind.
-- Grain: follow_up_id
-- Source: the API's follow-ups. A status of deleted or not_doing is kept here and left out by
-- marts.
WITH parsed AS (
    SELECT
        *,
        from_json(priority, '{"id": "VARCHAR", "name": "VARCHAR", "rank": "BIGINT"}') AS urgency,
        from_json(assignee_team, '{"id": "VARCHAR", "name": "VARCHAR"}') AS team
    FROM incident_api.follow_ups
    WHERE _deleted_at IS NULL
),

limits AS (
    SELECT
        p.urgency.id AS priority_id,
        min(s.days) AS days
    FROM parsed AS p
    INNER JOIN setting_follow_up_sla AS s
        ON s.priority = p.urgency.id OR lower(s.priority) = lower(p.urgency.name)
    GROUP BY p.urgency.id
)

SELECT
    p.id AS follow_up_id, -- Identifier of the follow-up
    p.incident_id, -- Incident that it belongs to
    p.title, -- What has to be done, in a line
    p.status, -- outstanding, completed, not_doing or deleted (a soft delete)
    p.urgency.id AS priority_id, -- Identifier of the priority
    p.urgency.name AS priority, -- Name of the priority, as the follow-up shows it
    p.urgency.rank AS priority_rank, -- Rank of the priority
    json_extract_string(p.assignee, '$.id') AS assignee_id, -- User who does it
    p.team.id AS team_id, -- Team that does it
    p.team.name AS team, -- Name of the team
    json_extract_string(p.creator, '$.user.id') AS creator_id, -- User who created it, if a user did
    p.created_at, -- When it was created (UTC)
    p.updated_at, -- When it was last changed (UTC)
    p.completed_at, -- When it was completed (UTC); stays where it is opened again
    CASE
        WHEN p.status = 'completed'
            THEN (epoch_us(p.completed_at) - epoch_us(p.created_at)) / 1e6
    END AS seconds, -- Until it was completed, NULL for other statuses
    l.days AS sla_days -- Days it may take, by INCIDENT_FOLLOW_UP_SLA, NULL if none
FROM parsed AS p
LEFT JOIN limits AS l ON p.urgency.id = l.priority_id
