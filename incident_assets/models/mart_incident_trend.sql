-- Incidents of four weeks at a time, all severities together, with the times to detect,
-- acknowledge, mitigate and resolve.
-- Grain: week
-- Source: the definitions of mart_incident_weekly, over the incidents of the week and the three
-- before it; the _week_median columns are of the week alone.
-- Caveat: the caveats of mart_incident_weekly hold here too.
-- Caveat: an incident is in four rows: counts to add up are those of mart_incident_weekly.
-- Caveat: a week without an incident in it or in the three before it has no row, and that in which
-- this was built is not over.
WITH weeks AS (
    SELECT DISTINCT unnest([i.week, i.week + 7, i.week + 14, i.week + 21]) AS week
    FROM incident_analytics.fct_incident AS i
    WHERE i.is_counted AND i.week IS NOT NULL
)

SELECT
    w.week, -- Monday of the last of the four weeks
    count(i.incident_id) AS incidents, -- Incidents that began in the four weeks
    count(i.mttd_seconds) AS mttd_incidents, -- Incidents that have a time to detect
    avg(i.mttd_seconds ORDER BY i.mttd_seconds)
        AS mttd_mean, -- Mean time to detect, in seconds
    median(i.mttd_seconds) AS mttd_median, -- Median time to detect, in seconds
    quantile_cont(i.mttd_seconds, 0.9) AS mttd_p90, -- 90th percentile of it, in seconds
    count(i.mttd_seconds)
        FILTER (WHERE i.mttd_negative) AS mttd_negative, -- Times to detect below zero
    median(i.mttd_seconds)
        FILTER (WHERE i.week = w.week) AS mttd_week_median, -- Median of the week alone, in seconds
    count(i.mtta_seconds) AS mtta_incidents, -- Incidents that have a time to acknowledge
    avg(i.mtta_seconds ORDER BY i.mtta_seconds)
        AS mtta_mean, -- Mean time to acknowledge, in seconds
    median(i.mtta_seconds) AS mtta_median, -- Median time to acknowledge, in seconds
    quantile_cont(i.mtta_seconds, 0.9) AS mtta_p90, -- 90th percentile of it, in seconds
    count(i.mtta_seconds)
        FILTER (WHERE i.mtta_negative) AS mtta_negative, -- Times to acknowledge below zero
    median(i.mtta_seconds)
        FILTER (WHERE i.week = w.week) AS mtta_week_median, -- Median of the week alone, in seconds
    count(i.mttm_seconds) AS mttm_incidents, -- Incidents that have a time to mitigate
    avg(i.mttm_seconds ORDER BY i.mttm_seconds)
        AS mttm_mean, -- Mean time to mitigate, in seconds
    median(i.mttm_seconds) AS mttm_median, -- Median time to mitigate, in seconds
    quantile_cont(i.mttm_seconds, 0.9) AS mttm_p90, -- 90th percentile of it, in seconds
    count(i.mttm_seconds)
        FILTER (WHERE i.mttm_negative) AS mttm_negative, -- Times to mitigate below zero
    median(i.mttm_seconds)
        FILTER (WHERE i.week = w.week) AS mttm_week_median, -- Median of the week alone, in seconds
    count(i.mttr_seconds) AS mttr_incidents, -- Incidents that have a time to resolve
    avg(i.mttr_seconds ORDER BY i.mttr_seconds)
        AS mttr_mean, -- Mean time to resolve, in seconds
    median(i.mttr_seconds) AS mttr_median, -- Median time to resolve, in seconds
    quantile_cont(i.mttr_seconds, 0.9) AS mttr_p90, -- 90th percentile of it, in seconds
    count(i.mttr_seconds)
        FILTER (WHERE i.mttr_negative) AS mttr_negative, -- Times to resolve below zero
    median(i.mttr_seconds)
        FILTER (WHERE i.week = w.week) AS mttr_week_median -- Median of the week alone, in seconds
FROM weeks AS w
CROSS JOIN setting_clock AS c
INNER JOIN incident_analytics.fct_incident AS i
    ON i.is_counted AND i.week BETWEEN w.week - 21 AND w.week
WHERE w.week <= c.today
GROUP BY w.week
