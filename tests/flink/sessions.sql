SELECT user_id, window_start, window_end, session_duration_min, cart_adds_session, conversion_rate_session,
       engagement_score,
       cart_adds_session >= 2 AND engagement_score > 0.5e0 AS is_likely_purchaser
FROM (
  SELECT user_id, window_start, window_end, session_duration_min, cart_adds_session,
         purchases / NULLIF(page_views, 0) AS conversion_rate_session,
         LEAST(1e0, 0.02e0 * events + 0.05e0 * session_duration_min) AS engagement_score
  FROM (
    SELECT user_id,
           window_start,
           window_end,
           (MAX(ts_ms) - MIN(ts_ms)) / 1e3 / 60e0 AS session_duration_min,
           COUNT(*) FILTER (WHERE event_type = 'cart_add') AS cart_adds_session,
           COUNT(*) FILTER (WHERE event_type = 'purchase') AS purchases,
           COUNT(*) FILTER (WHERE event_type = 'page_view') AS page_views,
           COUNT(*) AS events
    FROM TABLE(SESSION(TABLE clickstream PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '30' MINUTES))
    GROUP BY user_id, window_start, window_end
  )
)
