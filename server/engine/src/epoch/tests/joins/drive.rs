//! An engine with joins, driven as a pipeline drives it.

use std::collections::BTreeMap;

use super::super::super::*;
use super::super::drive::{spill, workers_at};
use super::{Definition, Epochs, Event, SECOND, STREAMS, query, rows};
use crate::state::StateKey;
use crate::state::view::tests::Stored;

/// How an engine is treated.
pub(super) struct Treatment<'t> {
    /// Rows of a batch at most.
    pub(super) chunk: usize,
    /// Restored before this epoch?
    pub(super) restart: &'t dyn Fn(usize) -> bool,
    /// A checkpoint in this epoch?
    pub(super) checkpoint: &'t dyn Fn(usize) -> bool,
    /// After the checkpoint of this epoch, how many bytes of the state may stay in memory?
    pub(super) spill: &'t dyn Fn(usize) -> usize,
    /// Threads of the engine that is made before this epoch: see [`workers_at`].
    pub(super) threads: u32,
}

pub(super) const PLAIN: Treatment<'_> = Treatment {
    chunk: usize::MAX,
    restart: &|_| false,
    checkpoint: &|_| true,
    spill: &|_| usize::MAX,
    threads: 0,
};

/// What an epoch was given, to be given once more.
struct Given {
    batches: Vec<SourceBatch>,
    watermark: Micros,
    checkpoint: bool,
}

impl Given {
    fn apply(&self, engine: &mut Engine) -> Output {
        let input = Input {
            batches: &self.batches,
            deletes: &[],
            watermark: self.watermark,
            finished: false,
            cursor: None,
            max_rows: usize::MAX,
            checkpoint: self.checkpoint,
        };
        engine.apply(&input).unwrap()
    }
}

/// Runs the epochs; nothing may be left at the end.
pub(super) fn run(definition: &Definition, epochs: &Epochs, how: &Treatment<'_>) -> Vec<Output> {
    run_sql(&definition.sql(), epochs, how)
}

/// The same of any SQL over the streams.
pub(super) fn run_sql(sql: &str, epochs: &Epochs, how: &Treatment<'_>) -> Vec<Output> {
    let query = query(sql);
    let mut next = BTreeMap::new();
    let stored = Stored::default();
    let mut stored_at = Micros::MIN;
    let mut since: Vec<Given> = Vec::new();
    let resume = |step, at| {
        let (workers, state) = (workers_at(how.threads, step), Arc::new(stored.clone()));
        Engine::resume(workers, query.clone(), Emission::default(), at, state).unwrap()
    };
    let mut engine = resume(0, stored_at);
    let mut outputs = Vec::new();
    for (number, (events, watermark)) in epochs.iter().enumerate() {
        if (how.restart)(number) {
            engine = resume(number, stored_at);
            for given in &since {
                given.apply(&mut engine);
            }
        }
        let mut batches = Vec::new();
        for (source, of_query) in query.sources.iter().enumerate() {
            let stream = STREAMS.iter().position(|name| *name == of_query.stream).unwrap();
            for partition in 0..2 {
                let own: Vec<&Event> =
                    events.iter().filter(|e| (e.stream, e.partition) == (stream, partition)).collect();
                for part in own.chunks(how.chunk) {
                    let next = next.entry((source, partition)).or_insert(0_i64);
                    let offsets = (*next..*next + part.len() as i64).collect();
                    *next += part.len() as i64;
                    let rows = rows(part, &of_query.columns);
                    batches.push(SourceBatch { source: source as u16, partition, offsets, rows });
                }
            }
        }
        let checkpoint = (how.checkpoint)(number) || number + 1 == epochs.len();
        let given = Given { batches, watermark: Micros(watermark * SECOND), checkpoint };
        let output = given.apply(&mut engine);
        assert_eq!(output.watermark, given.watermark);
        if checkpoint {
            stored.change(|rows| store(rows, &output));
            stored_at = output.watermark;
            since.clear();
            spill(&mut engine, (how.spill)(number));
        } else {
            assert_eq!(output.state, [], "state outside of a checkpoint");
            since.push(given);
        }
        outputs.push(output);
    }
    assert!(stored.rows().is_empty(), "rows that no partner can reach are left in the store");
    assert_eq!(engine.open(), (0, 0));
    outputs
}

/// Applies the changes, checking that they come sorted.
fn store(stored: &mut BTreeMap<StateKey, Vec<u8>>, output: &Output) {
    let mut last = None;
    for change in &output.state {
        match change {
            StateChange::DropSlice { operator, slice_end, key_groups } => {
                assert!(last.is_none(), "slices are dropped first");
                let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
                stored.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
            }
            StateChange::Delete(_) => unreachable!("rows that wait go with their slice"),
            StateChange::Put(row) => {
                assert!(last.as_ref().is_none_or(|l| *l < row.key), "puts come sorted, each once");
                last = Some(row.key.clone());
                stored.insert(row.key.clone(), row.value.clone());
            }
        }
    }
}
