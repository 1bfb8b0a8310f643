WITH shown AS (
  SELECT i.campaign_id, i.impr_id, c.click_id, i.ts
  FROM ad_impressions AS i
  INNER JOIN ad_clicks AS c
    ON c.impr_id = i.impr_id
   AND c.ts BETWEEN i.ts AND i.ts + INTERVAL '15' SECOND
)
SELECT campaign_id,
       window_start,
       window_end,
       COUNT(DISTINCT impr_id) AS impressions,
       COUNT(DISTINCT click_id) AS clicks,
       CAST(COUNT(DISTINCT click_id) AS DOUBLE) / COUNT(DISTINCT impr_id) AS ctr
FROM TABLE(TUMBLE(TABLE shown, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY campaign_id, window_start, window_end
