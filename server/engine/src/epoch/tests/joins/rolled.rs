//! Rolling features behind a join against a recomputation: the frames are those of the joined rows.

use super::naive::{naive, of_stream};
use super::*;
use crate::epoch::tests::joins::drive::run_sql;

/// A row: instant and key, how many rows are in the frame, and what is computed of them.
type Row = (i64, &'static str, Option<i64>, Option<i64>, Option<i64>);

fn sql(step: Step, frame: i64, on_right: bool) -> String {
    let time = if on_right { "clicks.ts" } else { "impressions.ts" };
    format!(
        "SELECT kind, ts, COUNT(*) OVER w AS rows, SUM(x) OVER w AS x, MAX(y) OVER w AS y
         FROM (SELECT impressions.kind, {time} AS ts, clicks.n AS x, impressions.n AS y FROM impressions {})
         WINDOW w AS (PARTITION BY kind ORDER BY ts RANGE BETWEEN INTERVAL '{frame}' SECONDS PRECEDING AND CURRENT ROW)
         QUALIFY rows > 0",
        step.sql("impressions", "clicks")
    )
}

fn came_out(output: &Output) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in &output.rows {
        let kinds = batch.features.column(0).as_string::<i32>();
        for row in (0..batch.keys.len()).filter(|row| batch.ops[*row] == Op::Upsert) {
            let value = |column: usize| {
                batch.features.column(column).as_primitive::<Int64Type>().iter().nth(row).unwrap()
            };
            assert!(batch.first[row], "nothing that is joined is late, so nothing is revised");
            let kind = ["k", "l"].into_iter().find(|kind| *kind == kinds.value(row)).unwrap();
            rows.push((batch.event_times[row].0, kind, value(2), value(3), value(4)));
        }
    }
    rows
}

/// By the definition: a row comes out when the watermark has passed its time and what the join holds back.
fn expected(step: Step, frame: i64, on_right: bool, epochs: &Epochs) -> Vec<Vec<Row>> {
    let mut watermarks = vec![i64::MIN / 2];
    watermarks.extend(epochs.iter().map(|(_, watermark)| *watermark));
    let (left, right) = (of_stream(0, epochs), of_stream(1, epochs));
    let (joined, left_hold, right_hold) = naive(step, 0, &left, &right, &watermarks);
    let hold = if on_right { right_hold } else { left_hold };
    let time = |row: &naive::Row| if on_right { row.other } else { row.time };
    // A row of the right time may come late: of a left row that was late and is taken nevertheless.
    let on_time = |row: &&naive::Row| time(row) >= watermarks[row.epoch] - hold;
    let rows = joined.rows.iter().filter(|row| row.kind.is_some()).filter(on_time);
    let rows: Vec<&naive::Row> = rows.collect();
    let mut results = Vec::new();
    for epoch in 0..epochs.len() {
        let due = |at: i64| watermarks[epoch] - hold <= at && at < watermarks[epoch + 1] - hold;
        let mut instants: Vec<(i64, &str)> =
            rows.iter().map(|row| (time(row), row.kind.unwrap())).filter(|(at, _)| due(*at)).collect();
        instants.sort_unstable();
        instants.dedup();
        let of = |(at, kind): (i64, &'static str)| {
            let within = rows.iter().filter(|row| {
                assert!(row.epoch <= epoch || time(row) > at || time(row) < at - frame, "all of it is there");
                row.kind == Some(kind) && (at - frame..=at).contains(&time(row))
            });
            let within: Vec<&&naive::Row> = within.collect();
            let xs: Vec<i64> = within.iter().filter_map(|row| row.cells[0]).collect();
            let x = (!xs.is_empty()).then(|| xs.iter().sum());
            (at * SECOND, kind, Some(within.len() as i64), x, within.iter().filter_map(|row| row.n).max())
        };
        results.push(instants.into_iter().map(of).collect());
    }
    results
}

proptest! {
    #[test]
    fn rolling_features_behind_a_join_are_what_their_definition_says(
        step in step(), frame in 0_i64..9, on_right: bool, epochs in epochs(),
        chunk in 1_usize..9, threads: u32, restarts: u32, checkpoints: u32, spills: u32, budget in 0_usize..10_000,
    ) {
        let on_right = on_right && !step.keeps_left;
        let sql = sql(step, frame, on_right);
        let bit = |bits: u32, n: usize| bits >> (n % 32) & 1 == 1;
        let checkpoint = |n| bit(checkpoints, n);
        let plain = run_sql(&sql, &epochs, &Treatment { checkpoint: &checkpoint, ..PLAIN });
        for (epoch, (output, wanted)) in plain.iter().zip(expected(step, frame, on_right, &epochs)).enumerate() {
            prop_assert_eq!(came_out(output), wanted, "epoch {}", epoch);
        }
        let restart = |n| bit(restarts, n);
        let spill = |n| if bit(spills, n) { budget.saturating_sub(5_000) } else { usize::MAX };
        let how = Treatment { threads, chunk, restart: &restart, checkpoint: &checkpoint, spill: &spill };
        let treated = run_sql(&sql, &epochs, &how);
        prop_assert_eq!(stores(plain.iter()), stores(treated.iter()));
        for (one, other) in plain.iter().zip(&treated) {
            prop_assert_eq!(came_out(one), came_out(other));
        }
    }
}
