//! Every way to die or to be lied to, one and two at a time, against a topic and a folder in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use parking_lot::Mutex;

use super::*;
use crate::catalog::{FileFormat, history};
use crate::sinks::Error;
use crate::sinks::files::{Files, Folder};

/// What happens at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The process dies before the operation does anything.
    KillBefore,
    /// The process dies after it.
    KillAfter,
    /// The power goes after it: names that are not synced are lost.
    PowerCutAfter,
    /// An error, and nothing was done.
    ErrorBefore,
    /// An error, but it was done: the reply was lost.
    ErrorAfter,
}

const FAULTS: [Fault; 5] =
    [Fault::KillBefore, Fault::KillAfter, Fault::PowerCutAfter, Fault::ErrorBefore, Fault::ErrorAfter];

/// A name in a folder: what a reader sees, and what would be left after a power cut.
#[derive(Debug, Clone, Default)]
struct Named {
    seen: Option<Vec<u8>>,
    durable: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct World {
    outbox: BTreeMap<u64, Vec<i64>>,
    issued: u64,
    progress: SinkProgress,
    /// Committed transactions: sequence and row.
    topic: Vec<(u64, i64)>,
    staged: BTreeMap<usize, Vec<u8>>,
    names: BTreeMap<String, Named>,
    operation: usize,
    faults: Vec<(usize, Fault)>,
    dead: bool,
    hit: usize,
}

/// An injected failure.
#[derive(Debug)]
struct Failed;

impl World {
    fn owe(&mut self, rows: Vec<i64>) {
        self.issued += 1;
        self.outbox.insert(self.issued, rows);
    }

    /// Runs one operation through the faults. `act` is its effect.
    fn step<T>(&mut self, act: impl FnOnce(&mut World) -> T) -> Result<T, Failed> {
        if self.dead {
            return Err(Failed);
        }
        let here = self.operation;
        self.operation += 1;
        let fault = self.faults.iter().find(|(at, _)| *at == here).map(|(_, fault)| *fault);
        let Some(fault) = fault else {
            let done = act(self);
            self.look();
            return Ok(done);
        };
        self.hit += 1;
        if fault != Fault::KillBefore && fault != Fault::ErrorBefore {
            act(self);
        }
        self.dead = !matches!(fault, Fault::ErrorBefore | Fault::ErrorAfter);
        if fault == Fault::PowerCutAfter {
            self.names.retain(|_, named| {
                named.seen = named.durable.clone();
                named.seen.is_some()
            });
        }
        self.look();
        Err(Failed)
    }

    /// A reader, at any moment: whole files, and no row twice.
    fn look(&self) {
        let mut rows = self.read();
        rows.sort_unstable();
        assert!(rows.windows(2).all(|pair| pair[0] != pair[1]), "a row is there twice: {rows:?}");
    }

    /// The rows of all files, in the order of their names within a folder.
    fn read(&self) -> Vec<i64> {
        let files = self.names.values().filter_map(|named| named.seen.as_ref());
        files
            .flat_map(|bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                assert!(text.ends_with('\n'), "half a file: {text:?}");
                let rows = text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap());
                rows.collect::<Vec<i64>>()
            })
            .collect()
    }
}

type Shared = Arc<Mutex<World>>;

struct Memory(Shared);

impl Ledger for Memory {
    type Error = Failed;

    fn progress(&self) -> Result<SinkProgress, Failed> {
        self.0.lock().step(|w| w.progress)
    }

    fn keep(&self, progress: SinkProgress) -> Result<u64, Failed> {
        self.0.lock().step(|w| {
            let moved = w.outbox.range(w.progress.through + 1..).take_while(|(s, _)| **s <= progress.through);
            let rows = moved.map(|(_, rows)| rows.len() as u64).sum();
            w.progress = progress;
            // Nobody else wants them.
            w.outbox.retain(|sequence, _| *sequence > progress.through);
            rows
        })
    }

    fn issued(&self) -> Result<u64, Failed> {
        self.0.lock().step(|w| w.issued)
    }

    fn entries(&self, after: u64, through: u64, rows: usize) -> Result<Vec<OutboxEntry>, Failed> {
        self.0.lock().step(|w| {
            let mut count = 0;
            let mut entries = Vec::new();
            for (sequence, values) in w.outbox.range(after + 1..).take_while(|(s, _)| **s <= through) {
                if count >= rows {
                    break;
                }
                count += values.len();
                entries.push(OutboxEntry { sequence: *sequence, epoch: *sequence, rows: batch(values) });
            }
            entries
        })
    }

    fn now(&self) -> Micros {
        Micros(1)
    }
}

struct Topic(Shared);

impl Target for Topic {
    type Error = Error;

    fn recover(&mut self, progress: SinkProgress) -> Result<Found, Error> {
        let newest = self.0.lock().step(|w| w.topic.last().map_or(0, |(sequence, _)| *sequence));
        let newest = newest.map_err(failed)?;
        Ok(match progress.planned {
            _ if newest <= progress.through => Found::Nothing,
            Some(planned) if newest == planned.last => Found::All,
            _ => Found::Beyond(newest),
        })
    }

    fn write(&mut self, entries: &[OutboxEntry]) -> Result<(), Error> {
        let rows: Vec<(u64, i64)> = entries
            .iter()
            .flat_map(|e| values(&e.rows).into_iter().map(|value| (e.sequence, value)).collect::<Vec<_>>())
            .collect();
        self.0.lock().step(|w| w.topic.extend(rows)).map_err(failed)
    }
}

#[derive(Debug)]
struct MemoryFolder(Shared);

impl Folder for MemoryFolder {
    fn clear(&mut self) -> Result<(), Error> {
        self.0.lock().step(|w| w.staged.clear()).map_err(failed)
    }

    fn stage(&mut self, number: usize, bytes: &[u8]) -> Result<(), Error> {
        self.0.lock().step(|w| drop(w.staged.insert(number, bytes.to_vec()))).map_err(failed)
    }

    fn publish(&mut self, number: usize, name: &str) -> Result<(), Error> {
        let publish = |w: &mut World| {
            let bytes = w.staged.remove(&number);
            w.names.entry(name.to_owned()).or_default().seen = bytes;
        };
        self.0.lock().step(publish).map_err(failed)
    }

    fn settle(&mut self) -> Result<(), Error> {
        let settle = |w: &mut World| w.names.values_mut().for_each(|n| n.durable = n.seen.clone());
        self.0.lock().step(settle).map_err(failed)
    }

    fn newest(&mut self) -> Result<Option<u64>, Error> {
        let last = |name: &String| name.rsplit_once('-')?.1.split_once('.')?.0.parse::<u64>().ok();
        self.0.lock().step(|w| w.names.keys().filter_map(last).max()).map_err(failed)
    }
}

fn failed(Failed: Failed) -> Error {
    Error::Rows("injected".to_owned())
}

fn columns() -> SchemaRef {
    history::schema(&features(&[]).schema())
}

fn features(values: &[i64]) -> RecordBatch {
    let key: ArrayRef = Arc::new(values.iter().map(|v| Some(format!("k{}", v % 2))).collect::<StringArray>());
    let value: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::from(StructArray::try_from(vec![("k", key), ("v", value)]).unwrap())
}

/// The rows of an outbox entry; what the history adds to them does not matter here.
fn batch(values: &[i64]) -> RecordBatch {
    let (features, schema) = (features(values), columns());
    let own = schema.fields()[2..].iter().map(|field| match field.name().as_str() {
        history::OP => Arc::new(StringArray::from(vec!["upsert"; values.len()])) as ArrayRef,
        _ => {
            let zeros: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![0; values.len()]));
            let zeros = if field.data_type() == &arrow::datatypes::DataType::Date32 {
                zeros
            } else {
                arrow::compute::cast(&zeros, &arrow::datatypes::DataType::Int64).unwrap()
            };
            arrow::compute::cast(&zeros, field.data_type()).unwrap()
        }
    });
    let arrays = features.columns().iter().cloned().chain(own.collect::<Vec<_>>()).collect();
    RecordBatch::try_new(columns(), arrays).unwrap()
}

fn values(rows: &RecordBatch) -> Vec<i64> {
    rows.column(1).as_primitive::<Int64Type>().values().to_vec()
}

/// A world that owes five entries.
fn world(faults: Vec<(usize, Fault)>) -> Shared {
    let mut world = World { faults, ..World::default() };
    for n in 0..5 {
        world.owe(vec![n * 10, n * 10 + 1]);
    }
    Arc::new(Mutex::new(world))
}

/// Which target is tried.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Topic,
    Files,
}

fn attempt(shared: &Shared, kind: Kind, moved: &mut u64) -> Result<(), Interrupted<Error, Failed>> {
    let ledger = Memory(Arc::clone(shared));
    match kind {
        Kind::Topic => drain(&mut Topic(Arc::clone(shared)), &ledger, true, 4, moved),
        Kind::Files => {
            let mut files = Files {
                folder: MemoryFolder(Arc::clone(shared)),
                format: FileFormat::Csv,
                partition_by: Some("k".to_owned()),
                history: columns(),
            };
            drain(&mut files, &ledger, true, 4, moved)
        }
    }
}

/// Drains until a drain succeeds, restarting what died; more rows come in between, so that a write done
/// again could take more than the first time. Returns the rows that the drains say they moved.
fn settle_down(shared: &Shared, kind: Kind) -> u64 {
    let mut moved = 0;
    for round in 0..12 {
        let result = attempt(shared, kind, &mut moved);
        let mut world = shared.lock();
        world.dead = false;
        match result {
            Ok(()) => return moved,
            Err(Interrupted::Target(_) | Interrupted::Ledger(_)) => {
                if round < 2 {
                    let n = world.issued as i64;
                    world.owe(vec![n * 10, n * 10 + 1]);
                }
            }
            Err(Interrupted::Halt(halt)) => panic!("{halt}: {world:?}"),
        }
    }
    panic!("never settles: {:?}", shared.lock());
}

fn assert_exactly_once(shared: &Shared, kind: Kind, what: &str) {
    let world = shared.lock();
    let expected: Vec<i64> = (0..world.issued as i64).flat_map(|n| [n * 10, n * 10 + 1]).collect();
    match kind {
        Kind::Topic => {
            let rows: Vec<i64> = world.topic.iter().map(|(_, row)| *row).collect();
            assert_eq!(rows, expected, "{what}");
        }
        Kind::Files => {
            let rows = world.read();
            for key in [0, 1] {
                // Within a folder the order of names is the order of commits.
                let of_key =
                    |rows: &[i64]| -> Vec<i64> { rows.iter().copied().filter(|v| v % 2 == key).collect() };
                assert_eq!(of_key(&rows), of_key(&expected), "{what}");
            }
            assert!(world.names.values().all(|n| n.seen == n.durable), "{what}");
            assert!(world.staged.is_empty(), "{what}");
        }
    }
    assert!(world.outbox.is_empty() && world.progress.planned.is_none(), "{what}");
    assert_eq!(world.progress.through, world.issued, "{what}");
}

#[test]
fn every_crash_point_and_every_pair_of_them_is_exactly_once() {
    for kind in [Kind::Topic, Kind::Files] {
        let clean = world(vec![]);
        assert_eq!(settle_down(&clean, kind), 10);
        assert_exactly_once(&clean, kind, "no fault");
        let operations = clean.lock().operation;
        assert!(operations > 12, "the run is long enough to be worth enumerating: {operations}");
        let mut both = 0;
        for first in 0..operations {
            for one in FAULTS {
                let shared = world(vec![(first, one)]);
                settle_down(&shared, kind);
                assert_exactly_once(&shared, kind, &format!("{kind:?}: {one:?} at {first}"));
                let longer = shared.lock().operation;
                for second in first + 1..longer {
                    for two in FAULTS {
                        let shared = world(vec![(first, one), (second, two)]);
                        settle_down(&shared, kind);
                        let what = format!("{kind:?}: {one:?} at {first}, {two:?} at {second}");
                        assert_exactly_once(&shared, kind, &what);
                        both += usize::from(shared.lock().hit == 2);
                    }
                }
            }
        }
        assert!(both > 1_000, "{both}");
    }
}

#[test]
fn a_store_that_was_rolled_back_halts_the_sink() {
    for kind in [Kind::Topic, Kind::Files] {
        let shared = world(vec![]);
        settle_down(&shared, kind);
        {
            let mut world = shared.lock();
            world.progress = SinkProgress { through: 2, planned: None };
            world.issued = 3;
            world.outbox.insert(3, vec![77]);
        }
        let result = attempt(&shared, kind, &mut 0);
        let halt = Halt::StoreRolledBack { held: 5, known: 2 };
        assert!(matches!(result, Err(Interrupted::Halt(found)) if found == halt), "{kind:?}: {result:?}");
    }
}

#[test]
fn rows_that_are_gone_halt_the_sink() {
    let shared = world(vec![]);
    shared.lock().outbox.remove(&1);
    let result = attempt(&shared, Kind::Topic, &mut 0);
    assert!(matches!(result, Err(Interrupted::Halt(Halt::Lost { through: 0 }))), "{result:?}");
}
