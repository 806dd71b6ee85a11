-- Fields that the account has added to its incidents.
-- Grain: custom_field_id
-- Source: the API's custom fields, as they are.
SELECT
    id AS custom_field_id, -- Identifier of the field
    name, -- Name that people read
    description, -- What the field is for
    field_type, -- single_select, multi_select, text, link or numeric
    catalog_type_id, -- Catalog type that the options come from, if any
    created_at, -- When it was created (UTC)
    updated_at -- When it was last changed (UTC)
FROM incident_api.custom_fields
WHERE _deleted_at IS NULL
