-- How often severities were raised and lowered per week, and how soon after the declaration.
-- Grain: week
-- Source: changes of severity by the ranks that the severities have now; how soon is the change -
-- the creation of the incident.
-- Caveat: counted are incidents as in mart_incident_weekly; the week is that of the change.
-- Caveat: a first severity is no change, and one to or from a deleted severity is neither raised
-- nor lowered.
-- Caveat: of changes before history began, those are known that an incident update tells.
SELECT
    CAST(
        date_trunc('week', timezone(z.time_zone, c.changed_at)) AS DATE
    ) AS week, -- Monday of the week, by INCIDENT_TIME_ZONE
    count(DISTINCT i.incident_id) AS incidents, -- Incidents whose severity was changed
    count(c.incident_id) FILTER (WHERE t.rank > f.rank) AS raised, -- Changes to a higher rank
    count(c.incident_id) FILTER (WHERE t.rank < f.rank) AS lowered, -- Changes to a lower rank
    median((epoch_us(c.changed_at) - epoch_us(i.created_at)) / 1e6) FILTER (
        WHERE t.rank > f.rank
    ) AS raised_after_median, -- Median time from declared to raised, in seconds
    median((epoch_us(c.changed_at) - epoch_us(i.created_at)) / 1e6) FILTER (
        WHERE t.rank < f.rank
    ) AS lowered_after_median -- Median time from declared to lowered, in seconds
FROM incident_analytics.fct_incident_change AS c
INNER JOIN incident_analytics.fct_incident AS i ON c.incident_id = i.incident_id
LEFT JOIN incident_analytics.dim_severity AS f ON c.from_id = f.severity_id
LEFT JOIN incident_analytics.dim_severity AS t ON c.to_id = t.severity_id
CROSS JOIN setting_calendar AS z
WHERE c.field_id = 'severity' AND c.from_id IS NOT NULL AND i.is_counted
GROUP BY date_trunc('week', timezone(z.time_zone, c.changed_at))
