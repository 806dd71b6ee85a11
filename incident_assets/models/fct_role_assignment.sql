-- Who held which role in which incident.
-- Grain: incident_id, role_id, user_id
-- Source: the role assignments that the API shows on an incident; roles that nobody holds have no
-- row.
WITH parsed AS (
    SELECT
        id,
        unnest(from_json(
            incident_role_assignments,
            '[{"role": {"id": "VARCHAR", "name": "VARCHAR", "role_type": "VARCHAR"},
               "assignee": {"id": "VARCHAR"}}]'
        )) AS entry
    FROM incident_api.incidents
    WHERE _deleted_at IS NULL
)

SELECT
    id AS incident_id, -- Incident
    entry.role.id AS role_id, -- Identifier of the role
    min(entry.role.name) AS role, -- Name of the role, as the incident shows it
    min(entry.role.role_type) AS role_type, -- lead, reporter or custom
    entry.assignee.id AS user_id -- User who holds the role
FROM parsed
WHERE entry.role.id IS NOT NULL AND entry.assignee.id IS NOT NULL
GROUP BY id, entry.role.id, entry.assignee.id
