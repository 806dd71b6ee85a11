-- Values of custom fields, such as the services or teams that an incident hit.
-- Grain: incident_id, custom_field_id, position
-- Source: the custom field entries that the API shows on an incident; fields without a value have
-- no row.
-- Caveat: of a field that is listed twice on an incident, the last entry counts.
WITH parsed AS (
    SELECT
        id,
        from_json(
            custom_field_entries,
            '[{"custom_field": {"id": "VARCHAR", "name": "VARCHAR", "field_type": "VARCHAR"},
               "values": [{"value_text": "VARCHAR", "value_link": "VARCHAR",
                           "value_numeric": "VARCHAR",
                           "value_option": {"id": "VARCHAR", "value": "VARCHAR"},
                           "value_catalog_entry": {"id": "VARCHAR", "name": "VARCHAR"}}]}]'
        ) AS entries
    FROM incident_api.incidents
    WHERE _deleted_at IS NULL
),

placed AS (
    SELECT
        id,
        list_transform(entries, lambda entry: entry.custom_field.id) AS fields,
        generate_subscripts(entries, 1) AS place,
        unnest(entries) AS entry
    FROM parsed
),

listed AS (
    SELECT
        id,
        entry.custom_field AS field,
        generate_subscripts(entry.values, 1) AS position,
        unnest(entry.values) AS chosen
    FROM placed
    WHERE
        entry.custom_field.id IS NOT NULL
        AND NOT list_contains(fields[place + 1:], entry.custom_field.id)
)

SELECT
    id AS incident_id, -- Incident that has the value
    field.id AS custom_field_id, -- Identifier of the field
    position, -- Place of the value among the field's values, from 1
    field.name AS custom_field, -- Name of the field, as the incident shows it
    field.field_type AS field_type, -- single_select, multi_select, text, link or numeric
    coalesce(chosen.value_option.id, chosen.value_catalog_entry.id) AS option_id, -- What was chosen
    coalesce(
        chosen.value_option.value,
        chosen.value_catalog_entry.name,
        chosen.value_text,
        chosen.value_link,
        chosen.value_numeric
    ) AS value, -- The value as people read it
    try_cast(chosen.value_numeric AS DOUBLE) AS value_numeric -- The value of a numeric field
FROM listed
