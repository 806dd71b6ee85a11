-- What was changed on incidents: severity, status, lead, custom fields, name, summary.
-- Grain: incident_id, field_id, position
-- Source: the versions of an incident that are kept, each against the one before. Severity and
-- status before history began are those of the API's incident updates.
-- Caveat: changes between two syncs are one; one that was taken back between them is none.
-- Caveat: lead, custom fields, name and summary are known since history is kept.
-- Caveat: of a summary no text is told, only that it was edited.
WITH versions AS (
    SELECT
        id, name, summary, severity, incident_status, incident_role_assignments,
        custom_field_entries, updated_at, _valid_from
    FROM incident_history.incidents
    WHERE _deleted_at IS NULL AND _valid_to IS NOT NULL
    UNION ALL
    SELECT
        id, name, summary, severity, incident_status, incident_role_assignments,
        custom_field_entries, updated_at, _valid_from
    FROM incident_api.incidents
    WHERE _deleted_at IS NULL
),

ordered AS (
    SELECT
        v.*,
        row_number() OVER (PARTITION BY v.id ORDER BY v._valid_from) AS version,
        lag(v.updated_at) OVER (PARTITION BY v.id ORDER BY v._valid_from) AS updated_before
    FROM versions AS v
    SEMI JOIN (SELECT id FROM incident_api.incidents WHERE _deleted_at IS NULL) AS live
        ON v.id = live.id
),

roles AS (
    SELECT
        id,
        version,
        unnest(from_json(
            incident_role_assignments,
            '[{"role": {"role_type": "VARCHAR"}, "assignee": {"id": "VARCHAR", "name": "VARCHAR"}}]'
        )) AS entry
    FROM ordered
),

leads AS (
    SELECT
        id,
        version,
        string_agg(DISTINCT entry.assignee.id, ', ' ORDER BY entry.assignee.id) AS key,
        string_agg(DISTINCT entry.assignee.name, ', ' ORDER BY entry.assignee.name) AS label
    FROM roles
    WHERE entry.role.role_type = 'lead'
    GROUP BY id, version
),

entries AS (
    SELECT
        id,
        version,
        unnest(from_json(
            custom_field_entries,
            '[{"custom_field": {"id": "VARCHAR", "name": "VARCHAR"},
               "values": [{"value_text": "VARCHAR", "value_link": "VARCHAR",
                           "value_numeric": "VARCHAR",
                           "value_option": {"id": "VARCHAR", "value": "VARCHAR"},
                           "value_catalog_entry": {"id": "VARCHAR", "name": "VARCHAR"}}]}]'
        )) AS entry
    FROM ordered
),

chosen AS (
    SELECT
        id,
        version,
        entry.custom_field.id AS field_id,
        entry.custom_field.name AS field,
        unnest(entry.values) AS choice
    FROM entries
    WHERE entry.custom_field.id IS NOT NULL
),

called AS (
    SELECT
        id,
        version,
        field_id,
        coalesce(
            choice.value_option.id, choice.value_catalog_entry.id, choice.value_text,
            choice.value_link, choice.value_numeric
        ) AS key,
        coalesce(
            choice.value_option.value, choice.value_catalog_entry.name, choice.value_text,
            choice.value_link, choice.value_numeric
        ) AS label
    FROM chosen
),

fields AS (
    SELECT
        id,
        version,
        field_id,
        string_agg(DISTINCT key, ', ' ORDER BY key) AS key,
        string_agg(DISTINCT label, ', ' ORDER BY label) AS label
    FROM called
    GROUP BY id, version, field_id
),

-- A field without a value has no entry in some versions.
named AS (
    SELECT id, field_id, arg_max(field, version) AS field
    FROM chosen
    GROUP BY id, field_id
),

facts AS (
    SELECT
        id, version, 'severity' AS field_id, 'severity' AS field,
        json_extract_string(severity, '$.id') AS key,
        json_extract_string(severity, '$.name') AS label
    FROM ordered
    UNION ALL
    SELECT
        id, version, 'status', 'status',
        json_extract_string(incident_status, '$.id'),
        json_extract_string(incident_status, '$.name')
    FROM ordered
    UNION ALL
    SELECT o.id, o.version, 'lead', 'lead', l.key, l.label
    FROM ordered AS o
    LEFT JOIN leads AS l ON o.id = l.id AND o.version = l.version
    UNION ALL
    SELECT id, version, 'name', 'name', name, name FROM ordered
    UNION ALL
    SELECT id, version, 'summary', 'summary', summary, NULL FROM ordered
    UNION ALL
    SELECT o.id, o.version, n.field_id, 'custom field ' || coalesce(n.field, n.field_id), f.key, f.label
    FROM ordered AS o
    INNER JOIN named AS n ON o.id = n.id
    LEFT JOIN fields AS f
        ON o.id = f.id AND o.version = f.version AND n.field_id = f.field_id
),

compared AS (
    SELECT
        *,
        lag(key) OVER (PARTITION BY id, field_id ORDER BY version) AS key_before,
        lag(label) OVER (PARTITION BY id, field_id ORDER BY version) AS label_before
    FROM facts
),

seen AS (
    SELECT
        c.id,
        c.field_id,
        c.field,
        c.key_before,
        c.label_before,
        c.key,
        c.label,
        -- One that did not move tells of a change before.
        CASE
            WHEN o.updated_at IS DISTINCT FROM o.updated_before
                THEN coalesce(o.updated_at, o._valid_from)
            ELSE o._valid_from
        END AS changed_at,
        o._valid_from AS seen_at
    FROM compared AS c
    INNER JOIN ordered AS o ON c.id = o.id AND c.version = o.version
    WHERE c.version > 1 AND c.key IS DISTINCT FROM c.key_before
),

posted AS (
    SELECT
        id AS update_id, incident_id, created_at, _valid_from,
        'severity' AS field,
        json_extract_string(new_severity, '$.id') AS key,
        json_extract_string(new_severity, '$.name') AS label
    FROM incident_api.incident_updates
    WHERE _deleted_at IS NULL AND created_at IS NOT NULL
    UNION ALL
    SELECT
        id, incident_id, created_at, _valid_from,
        'status',
        json_extract_string(new_incident_status, '$.id'),
        json_extract_string(new_incident_status, '$.name')
    FROM incident_api.incident_updates
    WHERE _deleted_at IS NULL AND created_at IS NOT NULL
),

numbered AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY incident_id, field ORDER BY created_at, update_id) AS number
    FROM posted
),

told AS (
    SELECT
        *,
        lag(key) OVER (PARTITION BY incident_id, field ORDER BY number) AS key_before,
        lag(label) OVER (PARTITION BY incident_id, field ORDER BY number) AS label_before
    FROM numbered
    WHERE key IS NOT NULL
),

-- An update may have been posted while the sync that saw the first version went on.
earlier AS (
    SELECT t.*
    FROM told AS t
    INNER JOIN ordered AS o ON t.incident_id = o.id AND o.version = 1
    ANTI JOIN seen AS s
        ON
            t.incident_id = s.id AND t.field = s.field_id AND t.key = s.key
            AND t.created_at > o.updated_at
    WHERE
        t.number > 1 AND t.key IS DISTINCT FROM t.key_before AND t.created_at <= o._valid_from
),

together AS (
    SELECT
        id, field_id, field, key_before, label_before, key, label, changed_at, seen_at,
        'history' AS source
    FROM seen
    UNION ALL
    SELECT
        incident_id, field, field, key_before, label_before, key, label, created_at, _valid_from,
        'updates'
    FROM earlier
)

SELECT
    id AS incident_id, -- Incident that was changed
    field_id, -- severity, status, lead, name or summary, else the custom field's identifier
    row_number() OVER (
        PARTITION BY id, field_id ORDER BY source DESC, changed_at, seen_at, key
    ) AS position, -- Order of the changes of this field of the incident, from 1
    field, -- severity, status, lead, custom field and its name, name or summary
    CASE
        WHEN field_id IN ('severity', 'status', 'lead') THEN key_before
    END AS from_id, -- Identifier of the severity, status or user before
    label_before AS from_value, -- Value before, as people read it; NULL if none, and of a summary
    CASE
        WHEN field_id IN ('severity', 'status', 'lead') THEN key
    END AS to_id, -- Identifier of the severity, status or user after
    label AS to_value, -- Value after, as people read it; NULL if none, and of a summary
    changed_at, -- When it was changed by the API, else when a sync saw it (UTC)
    seen_at, -- When a sync saw it (UTC)
    source -- history, or updates of before it began
FROM together
