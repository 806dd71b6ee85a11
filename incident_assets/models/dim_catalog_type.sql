-- Kinds of thing in the catalog, such as services and teams.
-- Grain: catalog_type_id
-- Source: the API's catalog types, as they are.
SELECT
    id AS catalog_type_id, -- Identifier of the type
    name, -- Name that people read
    type_name, -- Name that other definitions refer to, never changed
    description, -- What entries of this type stand for
    is_editable, -- False where an integration owns the type
    ranked AS is_ranked, -- Whether the order of entries carries meaning
    registry_type, -- Registry that the type is synced from
    estimated_count, -- About how many entries there are
    json_array_length(schema, '$.attributes') AS attributes, -- How many attributes an entry has
    last_synced_at, -- When entries were last synced (UTC)
    created_at, -- When it was created (UTC)
    updated_at -- When it was last changed (UTC)
FROM incident_api.catalog_types
WHERE _deleted_at IS NULL
