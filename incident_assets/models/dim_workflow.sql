-- Automation that runs on incidents.
-- Grain: workflow_id
-- Source: the API's workflows, as they are.
SELECT
    id AS workflow_id, -- Identifier of the workflow
    name, -- Name that people read
    state, -- active, disabled, draft or error
    version, -- Revision
    json_extract_string(trigger, '$.name') AS trigger_name, -- Event that starts it
    json_array_length(steps) AS steps, -- How many steps it has
    folder, -- Folder it is kept in
    shortform, -- Short name for starting it by hand
    runs_on_incidents, -- newly_created or newly_created_and_active
    from_json(runs_on_incident_modes, '["VARCHAR"]') AS runs_on_modes, -- Modes that it runs on
    runs_from, -- Incidents created before this are left alone (UTC)
    continue_on_step_error, -- Whether it goes on after a failed step
    private_incident_scope -- Private incidents it runs on: all, owning_teams or none
FROM incident_api.workflows
WHERE _deleted_at IS NULL
