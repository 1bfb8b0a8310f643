//! An engine driven as a pipeline drives it: checkpoints, restarts, batches of any size.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::super::*;
use super::{Epochs, Event, SECOND, TUMBLE, assert_same, query, rows};
use crate::state::StateKey;
use crate::state::view::tests::Stored;
use crate::workers::Workers;

/// The pipeline's part: offsets go on by partition, batches come in order, `chunk` rows at a time.
struct Feed {
    query: Arc<FeatureQuery>,
    next: [i64; 3],
}

impl Feed {
    fn batches(&mut self, events: &[Event], chunk: usize) -> (Vec<SourceBatch>, Vec<(RecordId, Event)>) {
        let (mut batches, mut records) = (Vec::new(), Vec::new());
        for partition in 0..3_u32 {
            let own: Vec<&Event> = events.iter().filter(|e| e.partition == partition).collect();
            for part in own.chunks(chunk) {
                let first = self.next[partition as usize];
                self.next[partition as usize] += part.len() as i64;
                let offsets: Vec<i64> = (first..first + part.len() as i64).collect();
                for (offset, event) in offsets.iter().zip(part) {
                    records.push((RecordId { source: 0, partition, offset: *offset }, (*event).clone()));
                }
                let rows = rows(&self.query, part);
                batches.push(SourceBatch { source: 0, partition, offsets, rows });
            }
        }
        (batches, records)
    }
}

/// Numbers of threads that engines are driven with.
pub(super) const THREADS: [usize; 4] = [1, 2, 3, 7];

/// So many threads for the least of work. They are kept from one case to the next.
pub(super) fn workers(threads: usize) -> &'static Arc<Workers> {
    static WORKERS: LazyLock<[Arc<Workers>; 8]> =
        LazyLock::new(|| std::array::from_fn(|threads| Arc::new(Workers::eager(threads))));
    &WORKERS[threads]
}

/// The threads of the engine that is there from a step on: two bits of `threads` for each.
pub(super) fn workers_at(threads: u32, step: usize) -> &'static Arc<Workers> {
    workers(THREADS[(threads >> (2 * (step % 16)) & 3) as usize])
}

/// What lies in the store after each of the outputs.
pub(super) fn stores<'o>(outputs: impl Iterator<Item = &'o Output>) -> Vec<BTreeMap<StateKey, Vec<u8>>> {
    let mut stored = BTreeMap::new();
    let after = |output: &Output| {
        output.state.iter().for_each(|change| apply(&mut stored, change));
        stored.clone()
    };
    outputs.map(after).collect()
}

fn apply(stored: &mut BTreeMap<StateKey, Vec<u8>>, change: &StateChange) {
    match change {
        StateChange::DropSlice { operator, slice_end, key_groups } => {
            let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
            stored.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
        }
        StateChange::Delete(key) => drop(stored.remove(key)),
        StateChange::Put(row) => drop(stored.insert(row.key.clone(), row.value.clone())),
    }
}

/// How an engine is treated while it runs.
pub(super) struct Treatment<'t> {
    pub(super) window: &'t str,
    pub(super) emission: Emission,
    pub(super) max_rows: usize,
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

/// As gently as can be.
pub(super) const PLAIN: Treatment<'_> = Treatment {
    window: TUMBLE,
    emission: Emission { allowed_lateness: Span(0), on_update: false },
    max_rows: usize::MAX,
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
    cursor: Option<CloseCursor>,
    max_rows: usize,
    checkpoint: bool,
}

impl Given {
    fn apply(&self, engine: &mut Engine) -> Output {
        let (watermark, cursor) = (self.watermark, self.cursor.clone());
        let (max_rows, checkpoint) = (self.max_rows, self.checkpoint);
        let input = Input {
            batches: &self.batches,
            deletes: &[],
            watermark,
            finished: false,
            cursor,
            max_rows,
            checkpoint,
        };
        engine.apply(&input).unwrap()
    }
}

/// Runs the epochs and then closes everything. Returns the outputs and the records of each epoch.
pub(super) fn run(epochs: &Epochs, how: &Treatment<'_>) -> Vec<(Output, Vec<(RecordId, Event)>)> {
    let query = query(how.window);
    let mut feed = Feed { query: query.clone(), next: [0; 3] };
    let stored = Stored::default();
    let resume = |step, at| {
        let (workers, state) = (workers_at(how.threads, step), Arc::new(stored.clone()));
        Engine::resume(workers, query.clone(), how.emission, at, state).unwrap()
    };
    let mut stored_at = Micros::MIN;
    // The epochs since the last checkpoint.
    let mut since: Vec<(Given, usize)> = Vec::new();
    let mut engine = resume(0, stored_at);
    let (mut cursor, mut results, mut number) = (None, Vec::<(Output, _)>::new(), 0);
    loop {
        let (events, watermark) = match epochs.get(number) {
            Some((events, watermark)) => (events.as_slice(), *watermark),
            None => (&[][..], 1000),
        };
        if (how.restart)(number) {
            engine = resume(number, stored_at);
            for (given, epoch) in &since {
                assert_same(&given.apply(&mut engine), &results[*epoch].0);
            }
        }
        let (batches, records) = feed.batches(events, how.chunk);
        let (watermark, max_rows) = (Micros(watermark * SECOND), how.max_rows);
        let checkpoint = (how.checkpoint)(number) || number >= epochs.len();
        let given = Given { batches, watermark, cursor, max_rows, checkpoint };
        let output = given.apply(&mut engine);
        if checkpoint {
            stored.change(|rows| store(rows, &output));
            stored_at = output.watermark;
            since.clear();
            spill(&mut engine, (how.spill)(number));
        } else {
            assert_eq!(output.state, [], "state outside of a checkpoint");
            since.push((given, number));
        }
        cursor = output.cursor.clone();
        results.push((output, records));
        number += 1;
        if number > epochs.len() && cursor.is_none() {
            assert!(stored.rows().is_empty(), "state of closed windows is left");
            assert_eq!(engine.open(), (0, 0));
            return results;
        }
    }
}

/// Lets go of state until no more than so many bytes are in memory.
pub(super) fn spill(engine: &mut Engine, bytes: usize) {
    assert!(engine.open().1 == 0 || engine.memory().bytes > 0, "keys take memory");
    engine.evict(bytes).unwrap();
    let is_left = engine.open().1 > 0 && engine.memory().evictable > 0;
    assert!(bytes > 0 || !is_left, "what could be let go of is left in memory");
}

/// Applies the changes, checking that they come sorted.
pub(super) fn store(stored: &mut BTreeMap<StateKey, Vec<u8>>, output: &Output) {
    let (mut deleted, mut last) = (None, None);
    for change in &output.state {
        match change {
            StateChange::DropSlice { operator, slice_end, key_groups } => {
                assert!(deleted.is_none() && last.is_none(), "slices are dropped first");
                let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
                stored.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
            }
            StateChange::Delete(key) => {
                assert!(last.is_none(), "entries are deleted before others are put");
                assert!(deleted.as_ref().is_none_or(|l| l < key), "deletes come sorted, each once");
                assert!(stored.remove(key).is_some(), "what is deleted was there");
                deleted = Some(key.clone());
            }
            StateChange::Put(row) => {
                assert_eq!(row.key.key_group, crate::key::key_group(&row.key.key));
                assert!(last.as_ref().is_none_or(|l| *l < row.key), "puts come sorted, each once");
                last = Some(row.key.clone());
                stored.insert(row.key.clone(), row.value.clone());
            }
        }
    }
}

/// How a course of epochs is run.
#[derive(Clone, Copy)]
pub(super) struct Course {
    pub(super) emission: Emission,
    pub(super) max_rows: usize,
    /// Rows of a batch at most.
    pub(super) chunk: usize,
    /// Of each step, by its number: is the engine restored before it, is a checkpoint taken in it, and is state let go of
    /// after that?
    pub(super) restarts: u32,
    pub(super) checkpoints: u32,
    pub(super) spills: u32,
    /// How many bytes of it stay then.
    pub(super) budget: usize,
    /// See [`workers_at`].
    pub(super) threads: u32,
}

/// Runs epochs of any records of one partition, with the watermark of each, and then closes everything: the
/// outputs of each epoch, of which a large close makes several.
pub(super) fn course(
    query: &Arc<FeatureQuery>,
    epochs: &[(RecordBatch, Micros)],
    how: Course,
) -> Vec<Vec<Output>> {
    let stored = Stored::default();
    let mut stored_at = Micros::MIN;
    let resume = |step, at| {
        let (workers, state) = (workers_at(how.threads, step), Arc::new(stored.clone()));
        Engine::resume(workers, query.clone(), how.emission, at, state).unwrap()
    };
    let mut engine = resume(0, stored_at);
    let mut since: Vec<Given> = Vec::new();
    let (mut offset, mut step, mut results) = (0, 0, Vec::new());
    for (number, (records, watermark)) in epochs.iter().enumerate() {
        let (mut outputs, mut cursor): (Vec<Output>, _) = (Vec::new(), None);
        while outputs.is_empty() || cursor.is_some() {
            if bit(how.restarts, step) {
                engine = resume(step, stored_at);
                for given in &since {
                    given.apply(&mut engine);
                }
            }
            let mut batches = Vec::new();
            for start in (0..records.num_rows()).step_by(how.chunk).filter(|_| outputs.is_empty()) {
                let rows = records.slice(start, how.chunk.min(records.num_rows() - start));
                let offsets = (offset..).take(rows.num_rows()).collect();
                offset += rows.num_rows() as i64;
                batches.push(SourceBatch { source: 0, partition: 0, offsets, rows });
            }
            let checkpoint = bit(how.checkpoints, step) || number + 1 == epochs.len();
            let (watermark, max_rows) = (*watermark, how.max_rows);
            let given = Given { batches, watermark, cursor: cursor.take(), max_rows, checkpoint };
            let output = given.apply(&mut engine);
            if checkpoint {
                stored.change(|rows| store(rows, &output));
                stored_at = output.watermark;
                since.clear();
                if bit(how.spills, step) {
                    spill(&mut engine, how.budget);
                }
            } else {
                assert_eq!(output.state, [], "state outside of a checkpoint");
                since.push(given);
            }
            cursor.clone_from(&output.cursor);
            outputs.push(output);
            step += 1;
        }
        results.push(outputs);
    }
    assert!(stored.rows().is_empty(), "state of closed windows is left");
    assert_eq!(engine.open(), (0, 0));
    results
}

/// Whether something happens in a step.
pub(super) fn bit(bits: u32, step: usize) -> bool {
    bits >> (step % 32) & 1 == 1
}
