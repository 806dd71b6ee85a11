-- Statuses that an incident moves through, with the category that the marts go by.
-- Grain: status_id
-- Source: the API's statuses; INCIDENT_STATUSES puts some of them into another category.
SELECT
    s.id AS status_id, -- Identifier of the status
    s.name, -- Name that people read
    coalesce(min(m.category), s.category) AS category, -- Category that the marts go by
    s.category AS api_category, -- Category that the API gives it
    min(m.category) IS NOT NULL AS is_mapped, -- Whether INCIDENT_STATUSES sets the category
    s.description, -- What the status means
    s.rank, -- Order of the statuses, may be negative
    s.created_at, -- When it was created (UTC)
    s.updated_at -- When it was last changed (UTC)
FROM incident_api.incident_statuses AS s
LEFT JOIN setting_status AS m ON m.status = s.id OR lower(m.status) = lower(s.name)
WHERE s._deleted_at IS NULL
GROUP BY s.id, s.name, s.category, s.description, s.rank, s.created_at, s.updated_at
