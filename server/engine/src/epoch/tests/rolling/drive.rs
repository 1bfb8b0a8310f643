//! An engine with rolling features, driven as a pipeline drives it, beside the recomputation.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::*;
use super::super::drive::{Course, bit, spill, workers_at};
use super::super::{Event, SECOND, assert_same, rows};
use super::naive::Naive;
use super::{Definition, Epochs, emitted};
use crate::state::StateKey;
use crate::state::view::tests::Stored;

/// Applies what a checkpoint says.
pub(super) fn store(stored: &mut BTreeMap<StateKey, Vec<u8>>, output: &Output) {
    let mut last = None;
    for change in &output.state {
        match change {
            StateChange::DropSlice { operator, slice_end, key_groups } => {
                assert!(last.is_none(), "slices are dropped first");
                let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
                stored.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
            }
            StateChange::Put(row) => {
                assert!(last.as_ref().is_none_or(|l| *l < row.key), "puts come sorted, each once");
                last = Some(row.key.clone());
                assert!(
                    stored.insert(row.key.clone(), row.value.clone()).is_none(),
                    "records are written once"
                );
            }
            #[allow(unreachable_patterns)]
            other @ StateChange::Delete(_) => unreachable!("{other:?}"),
        }
    }
}

/// Batches of an epoch, `chunk` rows at a time, with the records in their order.
pub(super) fn batches(
    query: &FeatureQuery,
    events: &[Event],
    chunk: usize,
    next: &mut [i64; 3],
) -> (Vec<SourceBatch>, Vec<(RecordId, Event)>) {
    let (mut batches, mut records) = (Vec::new(), Vec::new());
    for (partition, next) in (0..).zip(next) {
        let own: Vec<&Event> = events.iter().filter(|e| e.partition == partition).collect();
        for part in own.chunks(chunk) {
            let offsets: Vec<i64> = (*next..*next + part.len() as i64).collect();
            *next += part.len() as i64;
            let ids = offsets.iter().map(|offset| RecordId { source: 0, partition, offset: *offset });
            records.extend(ids.zip(part.iter().map(|e| (*e).clone())));
            batches.push(SourceBatch { source: 0, partition, offsets, rows: rows(query, part) });
        }
    }
    (batches, records)
}

/// What an epoch was given, to be given once more, and what came out.
pub(super) struct Given {
    pub(super) batches: Vec<SourceBatch>,
    pub(super) watermark: Micros,
    pub(super) cursor: Option<CloseCursor>,
    pub(super) max_rows: usize,
    pub(super) checkpoint: bool,
}

impl Given {
    pub(super) fn apply(&self, engine: &mut Engine) -> Output {
        let input = Input {
            batches: &self.batches,
            deletes: &[],
            watermark: self.watermark,
            finished: false,
            cursor: self.cursor.clone(),
            max_rows: self.max_rows,
            checkpoint: self.checkpoint,
        };
        engine.apply(&input).unwrap()
    }
}

/// Whatever the frames, the checkpoints, the restarts, the threads, the size of a close and of batches, and what of the
/// state is in memory.
pub(super) fn check(definition: Definition, epochs: &Epochs, how: Course) {
    let query = definition.query();
    let max_rows = how.max_rows;
    let stored = Stored::default();
    let mut stored_at = Micros::MIN;
    let resume = |step, at| {
        let (workers, state) = (workers_at(how.threads, step), Arc::new(stored.clone()));
        Engine::resume(workers, query.clone(), how.emission, at, state).unwrap()
    };
    let mut engine = resume(0, stored_at);
    let mut since: Vec<(Given, Output)> = Vec::new();
    let mut naive =
        Naive { definition, taken: BTreeMap::new(), emptied: BTreeSet::new(), watermark: -1_000 * SECOND };
    let (mut next, mut number) = ([0; 3], 0);
    let last = (Vec::new(), 10_000);
    for (events, watermark) in epochs.iter().chain([&last]) {
        let (mut batches, records) = batches(&query, events, how.chunk, &mut next);
        let (mut outputs, mut cursor): (Vec<Output>, Option<CloseCursor>) = (Vec::new(), None);
        loop {
            if bit(how.restarts, number) {
                engine = resume(number, stored_at);
                for (given, output) in &since {
                    assert_same(&given.apply(&mut engine), output);
                }
            }
            let checkpoint = bit(how.checkpoints, number) || *watermark == last.1;
            let given = Given {
                batches: std::mem::take(&mut batches),
                watermark: Micros(*watermark * SECOND),
                cursor: cursor.clone(),
                max_rows,
                checkpoint,
            };
            let output = given.apply(&mut engine);
            cursor.clone_from(&output.cursor);
            number += 1;
            let again = given.apply_is_bounded(&output, definition);
            assert!(again, "a close goes through {max_rows} rows");
            outputs.push(output);
            let output = outputs.last().unwrap();
            if checkpoint {
                stored.change(|rows| store(rows, output));
                stored_at = output.watermark;
                since.clear();
                if bit(how.spills, number - 1) {
                    spill(&mut engine, how.budget);
                }
            } else {
                assert_eq!(output.state, [], "state outside of a checkpoint");
                since.push((given, output.clone()));
            }
            if cursor.is_none() {
                break;
            }
        }
        let (expected, counts, late) = naive.epoch(&records, *watermark * SECOND);
        assert_eq!(outputs[0].counts[0], counts);
        assert_eq!(outputs[0].late, late);
        let instants =
            |e: &Emitted| -> Vec<_> { e.event_times.iter().copied().zip(e.keys.clone()).collect() };
        for output in &outputs {
            let order: Vec<_> = output.rows.iter().flat_map(instants).collect();
            assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "rows come in order, each once");
        }
        let mut found = emitted(&outputs);
        found.sort_by_key(|row| (row.0, row.1));
        assert_eq!(found, expected);
    }
    assert!(stored.rows().is_empty(), "state of what nothing looks back on is left");
    assert_eq!(engine.open(), (0, 0));
}

impl Given {
    /// Without on_update and without late records all rows are those of the close.
    fn apply_is_bounded(&self, output: &Output, definition: Definition) -> bool {
        let rows: usize = output.rows.iter().map(|r| r.keys.len()).sum();
        definition.on_update || definition.lateness > 0 || rows <= self.max_rows
    }
}
