-- Things to do while an incident is going on.
-- Grain: action_id
-- Source: the API's actions. A status of deleted or not_doing is kept here and left out by marts.
SELECT
    id AS action_id, -- Identifier of the action
    incident_id, -- Incident that it belongs to
    status, -- outstanding, completed, not_doing or deleted (a soft delete)
    description, -- What has to be done
    json_extract_string(assignee, '$.id') AS assignee_id, -- User who does it
    json_extract_string(creator, '$.user.id') AS creator_id, -- User who created it, if a user did
    created_at, -- When it was created (UTC)
    updated_at, -- When it was last changed (UTC)
    completed_at, -- When it was completed (UTC); stays where it is opened again
    CASE
        WHEN status = 'completed' THEN (epoch_us(completed_at) - epoch_us(created_at)) / 1e6
    END AS seconds -- Until it was completed, NULL for other statuses
FROM incident_api.actions
WHERE _deleted_at IS NULL
