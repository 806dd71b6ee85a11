-- How long incidents stay in a status, by category, and how often they are reopened.
-- Grain: month, category
-- Source: the usual published definition: from an update of an incident to its next one that sets
-- another status; an incident is reopened when it goes from closed or learning back to live.
-- Caveat: a stay is in one status: an incident that passes three statuses of a category has three.
-- Caveat: a stay that has not ended counts among the incidents of the month in which it began,
-- or everything that was ever left as closed would be reopened; it is in no time.
-- Caveat: statuses of retrospective incidents last as they were entered, not as it happened.
SELECT
    t.month, -- First day of the month in which the status was left, or began if it lasts
    t.category, -- Category of the status, by INCIDENT_STATUSES where it says so
    count(t.seconds) AS stays, -- Stays that have ended
    avg(t.seconds ORDER BY t.seconds) AS seconds_mean, -- Mean length of a stay, in seconds
    median(t.seconds) AS seconds_median, -- Median length of a stay, in seconds
    quantile_cont(t.seconds, 0.9) AS seconds_p90, -- 90th percentile of it, in seconds
    count(DISTINCT t.incident_id) AS incidents, -- Incidents of these stays and those that last
    count(DISTINCT t.incident_id) FILTER (WHERE t.is_reopening)
        AS reopened, -- Incidents that went from this category, closed or learning, back to live
    CASE
        WHEN is_over(t.category)
            THEN count(DISTINCT t.incident_id) FILTER (WHERE t.is_reopening)
                / count(DISTINCT t.incident_id)
    END AS reopen_rate -- Share of the incidents that was reopened, NULL for other categories
FROM incident_analytics.fct_status_transition AS t
INNER JOIN incident_analytics.fct_incident AS i ON t.incident_id = i.incident_id
WHERE i.is_counted AND t.category IS NOT NULL
GROUP BY t.month, t.category
