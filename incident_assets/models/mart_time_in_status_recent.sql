-- How long incidents stayed in a status in the last six months together, by category.
-- Grain: category
-- Source: the definition of mart_time_in_status, over its months: this one and the five before it.
-- Caveat: the caveats of mart_time_in_status hold here too.
-- Caveat: an incident of several months counts once, so these are no sums of mart_time_in_status.
WITH period AS (
    SELECT
        today,
        CAST(date_trunc('month', today) - INTERVAL 5 MONTH AS DATE) AS since
    FROM setting_clock
)

SELECT
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
    END AS reopen_rate, -- Share of the incidents that was reopened, NULL for other categories
    min(p.since) AS since, -- First day of the six months
    max(p.today) AS as_of -- Day on which the six months end
FROM incident_analytics.fct_status_transition AS t
INNER JOIN incident_analytics.fct_incident AS i ON t.incident_id = i.incident_id
CROSS JOIN period AS p
WHERE
    i.is_counted
    AND t.category IS NOT NULL
    AND t.month BETWEEN p.since AND p.today
GROUP BY t.category
