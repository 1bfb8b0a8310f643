SELECT user_id,
       SUM(impressions) AS impressions,
       SUM(clicks) AS clicks,
       SUM(clicks) / NULLIF(SUM(impressions), 0) AS ctr
FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES)
GROUP BY user_id, window_end
