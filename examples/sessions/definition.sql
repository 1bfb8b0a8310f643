SELECT user_id,
       window_start,
       window_end,
       CAST(MAX(ts) - MIN(ts) AS BIGINT) / 60000000 AS session_duration_min, -- of microseconds
       COUNT(*) FILTER (WHERE event_type = 'cart_add') AS cart_adds_session,
       COUNT(*) FILTER (WHERE event_type = 'purchase')
         / NULLIF(COUNT(*) FILTER (WHERE event_type = 'page_view'), 0) AS conversion_rate_session,
       LEAST(1.0, 0.02 * COUNT(*) + 0.05 * session_duration_min) AS engagement_score,
       cart_adds_session >= 2 AND engagement_score > 0.5 AS is_likely_purchaser
FROM SESSION(clickstream PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '30' MINUTES)
GROUP BY user_id, window_start, window_end
