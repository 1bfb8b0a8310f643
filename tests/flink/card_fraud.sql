SELECT card_id, ts, txn_count_5m, amount_sum_5m, unique_countries_5m,
       LEAST(1e0, txn_count_5m / 14e0) AS velocity_score,
       high_risk_txn_ratio,
       txn_count_5m >= 10 AS is_high_velocity
FROM (
  SELECT card_id,
         ts,
         COUNT(*) OVER w AS txn_count_5m,
         SUM(amount) OVER w AS amount_sum_5m,
         COUNT(DISTINCT country) OVER w AS unique_countries_5m,
         AVG(CASE WHEN merchant_risk = 'high' THEN 1e0 ELSE 0e0 END) OVER w AS high_risk_txn_ratio
  FROM transactions
  WINDOW w AS (PARTITION BY card_id ORDER BY ts RANGE BETWEEN INTERVAL '5' MINUTES PRECEDING AND CURRENT ROW)
)
