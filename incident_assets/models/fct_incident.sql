-- Incidents of every mode and category, with their moments, durations, lead and workload.
-- Grain: incident_id
-- Source: the API's incidents. Durations follow the usual published definitions: to detect is
-- Identified - Impact started; to acknowledge is Accepted - Reported, else the first update out of
-- triage - Reported; to mitigate is Fixed - Impact started (else Reported); to resolve is Fixed
-- (else Resolved) - Impact started (else Reported), for incidents with Resolved set.
-- Caveat: the updates of a retrospective incident are data entry and acknowledge nothing.
-- Caveat: a negative duration is kept and flagged, since it shows a moment that was set wrong.
WITH parsed AS (
    SELECT
        *,
        from_json(
            incident_status, '{"id": "VARCHAR", "name": "VARCHAR", "category": "VARCHAR"}'
        ) AS now_in,
        from_json(severity, '{"id": "VARCHAR", "name": "VARCHAR", "rank": "BIGINT"}') AS level,
        from_json(incident_type, '{"id": "VARCHAR", "name": "VARCHAR"}') AS kind,
        json_extract_string(
            creator, ['$.user.id', '$.api_key.id', '$.workflow.id', '$.alert.id']
        ) AS author,
        from_json(
            duration_metrics,
            '[{"duration_metric": {"name": "VARCHAR"}, "status": "VARCHAR",
               "value_seconds": "DOUBLE"}]'
        ) AS metrics
    FROM incident_api.incidents
    WHERE _deleted_at IS NULL
),

happened AS (
    SELECT incident_id, unnest(moments) AS moment, occurred_at
    FROM incident_analytics.fct_incident_timestamp
),

moment AS (
    SELECT
        incident_id,
        min(occurred_at) FILTER (WHERE moment = 'reported') AS reported_at,
        min(occurred_at) FILTER (WHERE moment = 'accepted') AS accepted_at,
        min(occurred_at) FILTER (WHERE moment = 'declined') AS declined_at,
        min(occurred_at) FILTER (WHERE moment = 'merged') AS merged_at,
        min(occurred_at) FILTER (WHERE moment = 'canceled') AS canceled_at,
        min(occurred_at) FILTER (WHERE moment = 'resolved') AS resolved_at,
        min(occurred_at) FILTER (WHERE moment = 'impact_started') AS impact_started_at,
        min(occurred_at) FILTER (WHERE moment = 'identified') AS identified_at,
        min(occurred_at) FILTER (WHERE moment = 'fixed') AS fixed_at,
        min(occurred_at) FILTER (WHERE moment = 'documented') AS documented_at,
        min(occurred_at) FILTER (WHERE moment = 'reviewed') AS reviewed_at,
        min(occurred_at) FILTER (WHERE moment = 'closed') AS closed_at
    FROM happened
    GROUP BY incident_id
),

progress AS (
    SELECT incident_id, min(entered_at) FILTER (WHERE is_taken_on(category)) AS out_of_triage_at
    FROM incident_analytics.fct_status_transition
    GROUP BY incident_id
),

lead_role AS (
    SELECT incident_id, min(user_id) AS user_id, count(DISTINCT user_id) AS users
    FROM incident_analytics.fct_role_assignment
    WHERE role_type = 'lead'
    GROUP BY incident_id
),

timed AS (
    SELECT
        i.*,
        m.* EXCLUDE (incident_id),
        CASE WHEN s.is_mapped THEN s.category ELSE i.now_in.category END AS category,
        coalesce(s.name, i.now_in.name) AS status,
        u.out_of_triage_at,
        coalesce(
            m.accepted_at,
            CASE WHEN i.mode IS DISTINCT FROM 'retrospective' THEN u.out_of_triage_at END
        ) AS acknowledged_at,
        coalesce(m.impact_started_at, m.reported_at) AS began_at,
        l.user_id AS lead_id,
        coalesce(l.users, 0) AS leads
    FROM parsed AS i
    LEFT JOIN moment AS m ON i.id = m.incident_id
    LEFT JOIN progress AS u ON i.id = u.incident_id
    LEFT JOIN lead_role AS l ON i.id = l.incident_id
    LEFT JOIN incident_analytics.dim_status AS s ON i.now_in.id = s.status_id
),

measured AS (
    SELECT
        *,
        CASE
            WHEN mode = 'retrospective' THEN coalesce(began_at, created_at) ELSE created_at
        END AS started_at,
        (epoch_us(identified_at) - epoch_us(impact_started_at)) / 1e6 AS mttd_seconds,
        (epoch_us(acknowledged_at) - epoch_us(reported_at)) / 1e6 AS mtta_seconds,
        (epoch_us(fixed_at) - epoch_us(began_at)) / 1e6 AS mttm_seconds,
        CASE
            WHEN resolved_at IS NOT NULL
                THEN (epoch_us(coalesce(fixed_at, resolved_at)) - epoch_us(began_at)) / 1e6
        END AS mttr_seconds
    FROM timed
)

SELECT
    id AS incident_id, -- Identifier of the incident
    reference, -- Short reference such as INC-123
    name, -- What is wrong, in a line
    mode, -- standard, retrospective, test or tutorial
    visibility, -- public or private
    now_in.id AS status_id, -- Identifier of the status
    status, -- Name of the status
    category, -- Category of the status, by INCIDENT_STATUSES where it says so
    coalesce(mode IN ('standard', 'retrospective'), FALSE)
    AND coalesce(is_counted(category), TRUE)
        AS is_counted, -- Whether marts count it: standard or retrospective, and not called off
    level.id AS severity_id, -- Identifier of the severity, NULL before there is one
    level.name AS severity, -- Name of the severity, as the incident shows it
    level.rank AS severity_rank, -- Rank of the severity, higher is more severe
    kind.id AS incident_type_id, -- Identifier of the incident's type
    kind.name AS incident_type, -- Name of the incident's type
    CASE
        WHEN author[1] IS NOT NULL THEN 'user'
        WHEN author[2] IS NOT NULL THEN 'api_key'
        WHEN author[3] IS NOT NULL THEN 'workflow'
        WHEN author[4] IS NOT NULL THEN 'alert'
    END AS creator_kind, -- Who declared it: user, api_key, workflow or alert
    author[1] AS creator_id, -- User who declared it, if a user did
    lead_id, -- User who leads it; of several, the one with the lowest id
    leads, -- How many users lead it
    created_at, -- When it was created (UTC)
    updated_at, -- When it was last changed (UTC)
    started_at, -- created_at; of a retrospective one Impact started, else Reported, if set (UTC)
    CAST(
        date_trunc('week', timezone(time_zone, started_at)) AS DATE
    ) AS week, -- Monday of started_at, by INCIDENT_TIME_ZONE
    reported_at, -- Moment Reported (UTC)
    accepted_at, -- Moment Accepted (UTC)
    declined_at, -- Moment Declined (UTC)
    merged_at, -- Moment Merged (UTC)
    canceled_at, -- Moment Canceled (UTC)
    resolved_at, -- Moment Resolved (UTC)
    impact_started_at, -- Moment Impact started (UTC)
    identified_at, -- Moment Identified (UTC)
    fixed_at, -- Moment Fixed (UTC)
    documented_at, -- Moment Documented (UTC)
    reviewed_at, -- Moment Reviewed (UTC)
    closed_at, -- Moment Closed (UTC)
    out_of_triage_at, -- First update to a status outside triage (UTC)
    acknowledged_at, -- Accepted, else out_of_triage_at unless it is retrospective (UTC)
    mttd_seconds, -- Time to detect: Identified - Impact started, in seconds
    mtta_seconds, -- Time to acknowledge: acknowledged_at - Reported, in seconds
    mttm_seconds, -- Time to mitigate: Fixed - Impact started, else Reported, in seconds
    mttr_seconds, -- Time to resolve: see the source, in seconds
    mttd_seconds IS NULL AS mttd_missing, -- Whether a moment of the time to detect is missing
    mtta_seconds IS NULL AS mtta_missing, -- Whether a moment of the time to acknowledge is missing
    mttm_seconds IS NULL AS mttm_missing, -- Whether a moment of the time to mitigate is missing
    mttr_seconds IS NULL AS mttr_missing, -- Whether a moment of the time to resolve is missing
    coalesce(mttd_seconds < 0, FALSE) AS mttd_negative, -- Whether the time to detect is negative
    coalesce(mtta_seconds < 0, FALSE) AS mtta_negative, -- Whether it is negative to acknowledge
    coalesce(mttm_seconds < 0, FALSE) AS mttm_negative, -- Whether the time to mitigate is negative
    coalesce(mttr_seconds < 0, FALSE) AS mttr_negative, -- Whether the time to resolve is negative
    list_transform(
        list_filter(metrics, lambda x: x.status = 'success'),
        lambda x: {'name': x.duration_metric.name, 'seconds': x.value_seconds}
    ) AS api_durations, -- Durations that the API itself computed, where it says success
    workload_minutes_total, -- Time people spent on it, in minutes
    workload_minutes_working, -- Of that in working hours, in minutes
    workload_minutes_late, -- Of that in late hours, in minutes
    workload_minutes_sleeping, -- Of that in sleeping hours, in minutes
    has_debrief, -- Whether a debrief was held
    permalink -- Address in the product
FROM measured
CROSS JOIN setting_calendar
