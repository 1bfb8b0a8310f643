SELECT user_id,
       SUM(clicks) AS clicks,
       SUM(impressions) AS impressions,
       COUNT(*) AS events,
       window_end
FROM TABLE(HOP(TABLE events, DESCRIPTOR(`timestamp`), INTERVAL '1' MINUTES, INTERVAL '5' MINUTES))
GROUP BY user_id, window_start, window_end
