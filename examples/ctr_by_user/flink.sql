SELECT user_id,
       SUM(impressions) AS impressions,
       SUM(clicks) AS clicks,
       SUM(clicks) / NULLIF(SUM(impressions), 0) AS ctr,
       window_end
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(`timestamp`), INTERVAL '5' MINUTES))
GROUP BY user_id, window_start, window_end
