//! What is let go of takes no memory, and is there when it is wanted.

use super::super::*;
use super::drive::workers;
use super::{Event, SECOND, addresses, assert_same_rows, query, rows};
use crate::sql::{self, Table};
use crate::state::view::tests::Stored;

/// An engine over a store, with what it did so far.
struct Pipeline {
    engine: Engine,
    query: Arc<FeatureQuery>,
    stored: Stored,
    offset: i64,
}

impl Pipeline {
    fn new(query: Arc<FeatureQuery>, emission: Emission) -> Self {
        let stored = Stored::default();
        let state = Arc::new(stored.clone());
        let engine = Engine::resume(workers(2), query.clone(), emission, Micros::MIN, state).unwrap();
        Self { engine, query, stored, offset: 0 }
    }

    /// Takes events of (key, second) in, in an epoch with a checkpoint.
    fn take(&mut self, events: &[(&'static str, i64)], watermark: i64) -> Output {
        let event = |(name, second): &(&'static str, i64)| Event {
            partition: 0,
            time: second * SECOND,
            name: Some(*name),
            kind: "view",
            clicks: Some(1),
            price: Some(0.1),
            note: None,
        };
        let events: Vec<Event> = events.iter().map(event).collect();
        let rows = rows(&self.query, &events.iter().collect::<Vec<_>>());
        let offsets = (self.offset..).take(events.len()).collect();
        self.offset += events.len() as i64;
        let batches = [SourceBatch { source: 0, partition: 0, offsets, rows }];
        let input = Input {
            batches: &batches,
            deletes: &[],
            watermark: Micros(watermark * SECOND),
            finished: false,
            cursor: None,
            max_rows: usize::MAX,
            checkpoint: true,
        };
        let output = self.engine.apply(&input).unwrap();
        self.stored.apply(&output.state);
        output
    }

    fn in_memory(&self) -> usize {
        self.engine.open().1
    }
}

fn rolling() -> Arc<FeatureQuery> {
    let sql = "SELECT name, ts, COUNT(*) OVER w AS n, SUM(price) OVER w AS total FROM events
        WINDOW w AS (PARTITION BY name ORDER BY ts RANGE BETWEEN INTERVAL '100' SECONDS PRECEDING AND CURRENT ROW)";
    let table = Table { name: "events", schema: super::schema(), event_time: "ts" };
    Arc::new(sql::plan(sql, &[table]).unwrap())
}

/// Nothing is in memory between two epochs but what falls due soon; what comes out is the same.
#[test]
fn only_what_is_wanted_is_in_memory() {
    let sessions = query("SESSION(events, DESCRIPTOR(ts), INTERVAL '100' SECONDS)");
    let hop = query("HOP(events, DESCRIPTOR(ts), INTERVAL '20' SECONDS, INTERVAL '100' SECONDS)");
    let queries = [sessions, hop, rolling()];
    for (query, lateness) in queries.iter().flat_map(|query| [(query, 0), (query, 70)]) {
        let emission = Emission { allowed_lateness: Span(lateness * SECOND), on_update: false };
        let (mut one, mut other) =
            (Pipeline::new(query.clone(), emission), Pipeline::new(query.clone(), emission));
        let mut rows = 0;
        let steps: [(&[(&str, i64)], i64, &[usize]); 7] = [
            (&[("ann", 10), ("bob", 30), ("cat", 60), ("dan", 95)], 0, &[0]),
            (&[("bob", 90)], 5, &[0]),
            // The session of ann ends at 110, the row of cat stands at 60, the frame of ann is empty from 110 on.
            (&[], 50, &[0]),
            (&[("ann", 100)], 60, &[0, 1]),
            (&[], 188, &[0, 1]),
            (&[("cat", 161)], 250, &[0, 1, 2, 3, 4]),
            (&[], 1_000, &[0]),
        ];
        for (events, watermark, left) in steps {
            let (expected, found) = (one.take(events, watermark), other.take(events, watermark));
            assert_same_rows(&expected, &found);
            assert_eq!(one.stored.rows(), other.stored.rows());
            rows += addresses(&found).len();
            let before = other.in_memory();
            other.engine.evict(0).unwrap();
            assert_eq!(other.engine.memory().evictable, 0);
            assert!(left.contains(&other.in_memory()), "{} at {watermark}", other.in_memory());
            assert!(other.in_memory() <= before);
        }
        assert!(rows >= 3, "{rows} rows");
        assert_eq!(one.stored.rows(), [], "lateness {lateness}");
        assert_eq!((one.engine.open(), other.engine.open()), ((0, 0), (0, 0)));
    }
}
