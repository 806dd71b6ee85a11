-- Follow-ups by priority and age, open and completed, against the days they may take.
-- Grain: priority, age_bucket
-- Source: the usual published definition: age is completed_at - created_at of what is completed,
-- and of what is not the time from created_at to the start of the day (of INCIDENT_TIME_ZONE), without
-- follow-ups that are deleted or not to be done, for incidents that the marts count.
-- Caveat: what is not completed is open, also where it has a completed_at from before; what is
-- completed without one has no age, and is in no row.
-- Caveat: the days a follow-up may take are no part of the API: INCIDENT_FOLLOW_UP_SLA sets them.
WITH aged AS (
    SELECT
        f.follow_up_id,
        coalesce(f.priority, 'No priority') AS priority,
        f.priority_rank,
        f.sla_days,
        coalesce(f.status = 'completed', FALSE) AS is_completed,
        c.today,
        CASE
            WHEN f.status = 'completed' THEN epoch_us(f.completed_at) - epoch_us(f.created_at)
            ELSE greatest(
                epoch_us(timezone(z.time_zone, CAST(c.today AS TIMESTAMP)))
                - epoch_us(f.created_at), 0
            )
        END / 1e6 AS seconds
    FROM incident_analytics.fct_follow_up AS f
    INNER JOIN incident_analytics.fct_incident AS i ON f.incident_id = i.incident_id
    CROSS JOIN setting_clock AS c
    CROSS JOIN setting_calendar AS z
    WHERE
        i.is_counted
        AND coalesce(f.status, '') NOT IN ('deleted', 'not_doing')
),

placed AS (
    SELECT
        *,
        seconds > sla_days * 86400 AS is_late,
        CASE
            WHEN seconds < 8 * 86400 THEN 1
            WHEN seconds < 31 * 86400 THEN 2
            WHEN seconds < 91 * 86400 THEN 3
            ELSE 4
        END AS place
    FROM aged
    WHERE seconds IS NOT NULL
)

SELECT
    priority, -- Name of the priority
    min(priority_rank) AS priority_rank, -- Rank of the priority
    CASE place
        WHEN 1 THEN '0-7 d' WHEN 2 THEN '8-30 d' WHEN 3 THEN '31-90 d' ELSE '91+ d'
    END AS age_bucket, -- Age in whole days
    CAST(place AS BIGINT) AS age_bucket_order, -- Order of the buckets, from the youngest
    count(follow_up_id) FILTER (WHERE NOT is_completed) AS open, -- Not completed
    count(follow_up_id) FILTER (WHERE is_completed) AS completed, -- Completed
    median(seconds) FILTER (WHERE NOT is_completed) AS open_age_median, -- Median age, in seconds
    quantile_cont(seconds, 0.9)
        FILTER (WHERE NOT is_completed) AS open_age_p90, -- 90th percentile of it, in seconds
    median(seconds) FILTER (WHERE is_completed) AS completed_age_median, -- Median time it took
    quantile_cont(seconds, 0.9)
        FILTER (WHERE is_completed) AS completed_age_p90, -- 90th percentile of it, in seconds
    min(sla_days) AS sla_days, -- Days it may take, by INCIDENT_FOLLOW_UP_SLA, NULL if none
    count(follow_up_id)
        FILTER (WHERE NOT is_completed AND is_late) AS open_over_sla, -- Open for longer than that
    count(follow_up_id)
        FILTER (WHERE is_completed AND is_late) AS completed_over_sla, -- Took longer than that
    max(today) AS as_of -- Day to whose start ages are counted
FROM placed
GROUP BY priority, place
