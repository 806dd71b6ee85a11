-- How bad an incident can be: the account's severities, under the names they have now.
-- Grain: severity_id
-- Source: the API's severities, as they are.
SELECT
    id AS severity_id, -- Identifier of the severity
    name, -- Name that people read
    description, -- When to choose it
    rank, -- Higher is more severe
    created_at, -- When it was created (UTC)
    updated_at -- When it was last changed (UTC)
FROM incident_api.severities
WHERE _deleted_at IS NULL
