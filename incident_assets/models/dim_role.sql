-- Parts that people play in an incident.
-- Grain: role_id
-- Source: the API's incident roles, as they are.
SELECT
    id AS role_id, -- Identifier of the role
    name, -- Name that people read
    shortform, -- Short name for chat commands
    role_type, -- lead, reporter or custom
    description, -- What the role is for
    instructions, -- What its holder is told to do
    created_at, -- When it was created (UTC)
    updated_at -- When it was last changed (UTC)
FROM incident_api.incident_roles
WHERE _deleted_at IS NULL
