-- Incidents per week and severity, with the times to detect, acknowledge, mitigate and resolve.
-- Grain: week, severity_id
-- Source: the usual published definitions. Time to detect is Identified - Impact started; to
-- acknowledge, Accepted - Reported, else the first update out of triage - Reported (unless it is
-- retrospective, when updates are data entry); to mitigate, Fixed - Impact started, else Reported;
-- to resolve, Fixed (else Resolved) - Impact started (else Reported), for every incident with
-- Resolved set. MTTD, MTTA and MTTR are their means.
-- Caveat: counted are incidents of mode standard or retrospective whose category is not declined,
-- canceled or merged, and which the API key may see.
-- Caveat: an incident without the moments of a duration is left out of it; the _incidents columns
-- say how many have it.
-- Caveat: negative durations are part of every statistic, and counted in the _negative columns.
-- Caveat: the week is that of the creation; of retrospective incidents, that of Impact started,
-- else Reported, if either is set.
-- Caveat: with few incidents in a week, a 90th percentile says little more than the maximum.
SELECT
    i.week, -- Monday of the week, by INCIDENT_TIME_ZONE
    coalesce(i.severity_id, '') AS severity_id, -- Severity, '' before there is one
    coalesce(max(s.name), max(i.severity), 'None yet') AS severity, -- Name of the severity
    coalesce(max(s.rank), max(i.severity_rank)) AS severity_rank, -- Higher is more severe
    count(i.incident_id) AS incidents, -- Incidents that began in the week
    count(i.mttd_seconds) AS mttd_incidents, -- Incidents that have a time to detect
    avg(i.mttd_seconds ORDER BY i.mttd_seconds)
        AS mttd_mean, -- Mean time to detect, in seconds
    median(i.mttd_seconds) AS mttd_median, -- Median time to detect, in seconds
    quantile_cont(i.mttd_seconds, 0.9) AS mttd_p90, -- 90th percentile of it, in seconds
    count(i.mttd_seconds)
        FILTER (WHERE i.mttd_negative) AS mttd_negative, -- Times to detect below zero
    count(i.mtta_seconds) AS mtta_incidents, -- Incidents that have a time to acknowledge
    avg(i.mtta_seconds ORDER BY i.mtta_seconds)
        AS mtta_mean, -- Mean time to acknowledge, in seconds
    median(i.mtta_seconds) AS mtta_median, -- Median time to acknowledge, in seconds
    quantile_cont(i.mtta_seconds, 0.9) AS mtta_p90, -- 90th percentile of it, in seconds
    count(i.mtta_seconds)
        FILTER (WHERE i.mtta_negative) AS mtta_negative, -- Times to acknowledge below zero
    count(i.mttm_seconds) AS mttm_incidents, -- Incidents that have a time to mitigate
    avg(i.mttm_seconds ORDER BY i.mttm_seconds)
        AS mttm_mean, -- Mean time to mitigate, in seconds
    median(i.mttm_seconds) AS mttm_median, -- Median time to mitigate, in seconds
    quantile_cont(i.mttm_seconds, 0.9) AS mttm_p90, -- 90th percentile of it, in seconds
    count(i.mttm_seconds)
        FILTER (WHERE i.mttm_negative) AS mttm_negative, -- Times to mitigate below zero
    count(i.mttr_seconds) AS mttr_incidents, -- Incidents that have a time to resolve
    avg(i.mttr_seconds ORDER BY i.mttr_seconds)
        AS mttr_mean, -- Mean time to resolve, in seconds
    median(i.mttr_seconds) AS mttr_median, -- Median time to resolve, in seconds
    quantile_cont(i.mttr_seconds, 0.9) AS mttr_p90, -- 90th percentile of it, in seconds
    count(i.mttr_seconds)
        FILTER (WHERE i.mttr_negative) AS mttr_negative -- Times to resolve below zero
FROM incident_analytics.fct_incident AS i
LEFT JOIN incident_analytics.dim_severity AS s ON i.severity_id = s.severity_id
WHERE i.is_counted AND i.week IS NOT NULL
GROUP BY i.week, coalesce(i.severity_id, '')
