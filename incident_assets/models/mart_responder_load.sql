-- Who carries the load: incidents, leads and minutes per week and user.
-- Grain: week, user_id
-- Source: the usual published definition: the API's workload minutes, summed, and assignments of
-- roles of the type lead.
-- Caveat: minutes are those of the incidents that a user led, split evenly between several leads,
-- so a sum over users counts each incident once; those of incidents without a lead are in no row.
WITH held AS (
    SELECT
        incident_id,
        user_id,
        count(role_id) FILTER (WHERE role_type = 'lead') AS lead_assignments
    FROM incident_analytics.fct_role_assignment
    GROUP BY incident_id, user_id
),

shared AS (
    SELECT
        i.week,
        h.user_id,
        h.incident_id,
        h.lead_assignments,
        CASE WHEN h.lead_assignments > 0 THEN i.workload_minutes_total / i.leads END AS total,
        CASE WHEN h.lead_assignments > 0 THEN i.workload_minutes_working / i.leads END AS working,
        CASE WHEN h.lead_assignments > 0 THEN i.workload_minutes_late / i.leads END AS late,
        CASE WHEN h.lead_assignments > 0 THEN i.workload_minutes_sleeping / i.leads END AS sleeping
    FROM held AS h
    INNER JOIN incident_analytics.fct_incident AS i ON h.incident_id = i.incident_id
    WHERE i.is_counted AND i.week IS NOT NULL
)

SELECT
    s.week, -- Monday of the week in which the incidents began
    s.user_id, -- User
    max(u.name) AS user_name, -- Name of the user, NULL if the account does not know the id
    count(s.incident_id) AS incidents, -- Incidents in which the user held any role
    CAST(sum(s.lead_assignments) AS BIGINT) AS lead_assignments, -- Roles of the type lead held
    coalesce(sum(s.total ORDER BY s.total), 0)
        AS minutes_total, -- Workload of the incidents led, in minutes
    coalesce(sum(s.working ORDER BY s.working), 0)
        AS minutes_working, -- Of that in working hours, in minutes
    coalesce(sum(s.late ORDER BY s.late), 0)
        AS minutes_late, -- Of that in late hours, in minutes
    coalesce(sum(s.sleeping ORDER BY s.sleeping), 0)
        AS minutes_sleeping -- Of that in sleeping hours, in minutes
FROM shared AS s
LEFT JOIN incident_analytics.dim_user AS u ON s.user_id = u.user_id
GROUP BY s.week, s.user_id
