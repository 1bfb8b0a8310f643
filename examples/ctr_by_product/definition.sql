WITH seen AS (
  SELECT product_id, 1 AS impression, 0 AS click, ts FROM impressions
  UNION ALL
  SELECT product_id, 0 AS impression, 1 AS click, ts FROM clicks
)
SELECT product_id,
       window_start,
       window_end,
       SUM(impression) AS impressions,
       SUM(click) AS clicks,
       SUM(click) / NULLIF(SUM(impression), 0) AS ctr
FROM TABLE(TUMBLE(TABLE seen, DESCRIPTOR(ts), INTERVAL '10' SECONDS))
GROUP BY product_id, window_start, window_end
