//! Every way to die or to be lied to, one and two at a time, against a table in memory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::executor::block_on;
use parking_lot::Mutex;

use super::*;

/// What happens at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The process dies before the operation does anything.
    KillBefore,
    /// The process dies after it.
    KillAfter,
    /// The power goes after it: what is visible and not synced is lost.
    PowerCutAfter,
    /// An error, and nothing was done.
    ErrorBefore,
    /// An error, but it was done: the reply was lost.
    ErrorAfter,
    /// An error, nothing was done, and the request lands before the next operation (commits only).
    LandsLate,
    /// As `LandsLate`, but it lands only after the next operation.
    LandsLater,
}

const FAULTS: [Fault; 7] = [
    Fault::KillBefore,
    Fault::KillAfter,
    Fault::PowerCutAfter,
    Fault::ErrorBefore,
    Fault::ErrorAfter,
    Fault::LandsLate,
    Fault::LandsLater,
];

#[derive(Debug, Clone)]
struct Commit {
    rows: Vec<i64>,
    transaction: Option<u64>,
    durable: bool,
}

#[derive(Debug, Default)]
struct World {
    table: Vec<Commit>,
    outbox: BTreeMap<u64, Vec<i64>>,
    issued: u64,
    /// A commit request that is still under way: (version it wants to be, operations to wait, commit).
    under_way: Option<(usize, u8, Commit)>,
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
    fn step<T>(
        &mut self,
        commit: bool,
        act: impl FnOnce(&mut World) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        if self.dead {
            return Err(Failed);
        }
        self.land();
        let here = self.operation;
        self.operation += 1;
        let Some((_, fault)) = self.faults.iter().find(|(at, _)| *at == here).copied() else {
            return act(self);
        };
        self.hit += 1;
        match fault {
            Fault::KillBefore => self.dead = true,
            Fault::KillAfter => {
                let _ = act(self);
                // A process that dies inside a commit may leave a name that is not synced.
                if let (true, Some(last)) = (commit, self.table.last_mut()) {
                    last.durable = false;
                }
                self.dead = true;
            }
            Fault::PowerCutAfter => {
                let _ = act(self);
                self.power_cut();
                self.dead = true;
            }
            Fault::ErrorBefore => {}
            Fault::ErrorAfter => drop(act(self)?),
            Fault::LandsLate | Fault::LandsLater if commit => {
                let (version, before) = (self.table.len(), self.table.clone());
                if act(self).is_ok() && self.table.len() > before.len() {
                    let wait = u8::from(fault == Fault::LandsLater);
                    self.under_way = self.table.pop().map(|landed| (version, wait, landed));
                }
            }
            Fault::LandsLate | Fault::LandsLater => {}
        }
        Err(Failed)
    }

    /// A request that was under way arrives: it makes its version or finds that it is taken.
    fn land(&mut self) {
        match self.under_way.take() {
            Some((version, 0, commit)) if self.table.len() == version => self.table.push(commit),
            Some((_, 0, _)) | None => {}
            Some((version, wait, commit)) => self.under_way = Some((version, wait - 1, commit)),
        }
    }

    fn power_cut(&mut self) {
        while self.table.last().is_some_and(|c| !c.durable) {
            self.table.pop();
        }
    }

    fn rows(&self) -> Vec<i64> {
        self.table.iter().flat_map(|c| c.rows.clone()).collect()
    }
}

type Shared = Arc<Mutex<World>>;
struct Log(Shared);
struct Owing(Shared);

impl DeltaLog for Log {
    type Files = Vec<i64>;
    type Error = Failed;

    async fn load(&mut self) -> Result<Snapshot, Failed> {
        self.0.lock().step(false, |w| {
            if w.table.is_empty() {
                w.table.push(Commit { rows: vec![], transaction: None, durable: true });
            }
            let transaction = w.table.iter().filter_map(|c| c.transaction).next_back();
            Ok(Snapshot { version: w.table.len() as u64 - 1, transaction })
        })
    }

    async fn settle(&mut self) -> Result<(), Failed> {
        self.0.lock().step(false, |w| {
            w.table.iter_mut().for_each(|c| c.durable = true);
            Ok(())
        })
    }

    async fn write(&mut self, rows: Vec<RecordBatch>) -> Result<Vec<i64>, Failed> {
        let values =
            rows.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        self.0.lock().step(false, |_| Ok(values))
    }

    async fn commit(&mut self, from: u64, files: Vec<i64>, transaction: u64) -> Result<(), Failed> {
        self.0.lock().step(true, |w| {
            if w.table.len() as u64 != from + 1 {
                return Err(Failed);
            }
            w.table.push(Commit { rows: files, transaction: Some(transaction), durable: true });
            Ok(())
        })
    }
}

impl Outbox for Owing {
    type Error = Failed;

    fn owed(&self) -> Result<Owed, Failed> {
        let mut world = self.0.lock();
        world.step(false, |w| Ok(Owed { issued: w.issued, first: w.outbox.keys().next().copied() }))
    }

    fn after(&self, sequence: u64, rows: usize) -> Result<Vec<OutboxEntry>, Failed> {
        let mut world = self.0.lock();
        world.step(false, |w| {
            let mut count = 0;
            let mut entries = Vec::new();
            for (sequence, values) in w.outbox.range(sequence + 1..) {
                if count >= rows {
                    break;
                }
                count += values.len();
                entries.push(OutboxEntry { sequence: *sequence, epoch: *sequence, rows: batch(values) });
            }
            Ok(entries)
        })
    }

    fn delete(&self, through: u64) -> Result<u64, Failed> {
        let mut world = self.0.lock();
        world.step(false, |w| {
            let before: usize = w.outbox.values().map(Vec::len).sum();
            w.outbox.retain(|sequence, _| *sequence > through);
            Ok((before - w.outbox.values().map(Vec::len).sum::<usize>()) as u64)
        })
    }
}

fn batch(values: &[i64]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
}

/// A world that owes five entries, and drains of at most two rows a commit.
fn world(faults: Vec<(usize, Fault)>) -> Shared {
    let mut world = World { faults, ..World::default() };
    for n in 0..5 {
        world.owe(vec![n * 10, n * 10 + 1]);
    }
    Arc::new(Mutex::new(world))
}

/// Drains until a drain succeeds, restarting what died; more rows come in between. Returns the rows
/// that the drains say they brought over.
fn settle_down(shared: &Shared) -> u64 {
    let mut drained = Drained::default();
    for attempt in 0..12 {
        let (mut log, outbox) = (Log(Arc::clone(shared)), Owing(Arc::clone(shared)));
        let result = block_on(drain(&mut log, &outbox, 4, &mut drained));
        let mut world = shared.lock();
        world.dead = false;
        // Nothing is in neither place, whenever the power goes.
        let mut kept: Vec<i64> =
            world.table.iter().filter(|c| c.durable).flat_map(|c| c.rows.clone()).collect();
        kept.extend(world.outbox.values().flatten());
        for sequence in 0..world.issued as i64 {
            assert!(kept.contains(&(sequence * 10)), "entry {sequence} is lost: {world:?}");
        }
        match result {
            Ok(()) if world.under_way.is_none() => return drained.rows,
            Ok(()) | Err(Interrupted::Table(_) | Interrupted::Outbox(_)) => {
                if attempt == 0 {
                    let n = world.issued as i64;
                    world.owe(vec![n * 10, n * 10 + 1]);
                }
            }
            Err(Interrupted::Halt(halt)) => panic!("{halt}: {world:?}"),
        }
    }
    panic!("never settles: {:?}", shared.lock());
}

fn assert_exactly_once(shared: &Shared, what: &str) {
    let world = shared.lock();
    let expected: Vec<i64> = (0..world.issued as i64).flat_map(|n| [n * 10, n * 10 + 1]).collect();
    assert_eq!(world.rows(), expected, "{what}");
    assert!(world.outbox.is_empty(), "{what}");
    assert!(world.table.iter().all(|c| c.durable), "{what}");
}

#[test]
fn every_crash_point_and_every_pair_of_them_is_exactly_once() {
    let clean = world(vec![]);
    settle_down(&clean);
    assert_exactly_once(&clean, "no fault");
    let operations = clean.lock().operation;
    assert!(operations > 20, "the run is long enough to be worth enumerating: {operations}");

    let (mut runs, mut both) = (0, 0);
    for first in 0..operations {
        for one in FAULTS {
            let shared = world(vec![(first, one)]);
            let counted = settle_down(&shared);
            assert_exactly_once(&shared, &format!("{one:?} at {first}"));
            if matches!(one, Fault::ErrorBefore | Fault::LandsLate | Fault::LandsLater) {
                let brought = shared.lock().rows().len() as u64;
                assert_eq!(counted, brought, "rows counted: {one:?} at {first}");
            }
            assert_eq!(shared.lock().hit, 1);
            for second in first + 1..operations + 10 {
                for other in FAULTS {
                    let shared = world(vec![(first, one), (second, other)]);
                    settle_down(&shared);
                    assert_exactly_once(&shared, &format!("{one:?} at {first}, {other:?} at {second}"));
                    runs += 1;
                    both += usize::from(shared.lock().hit == 2);
                }
            }
        }
    }
    assert!(both * 2 > runs, "most pairs were really met: {both} of {runs}");
}

#[test]
fn the_witness_is_the_table_and_not_the_reply() {
    // owed, load, owed, after, write, and then the commit: its reply is lost.
    let shared = world(vec![(5, Fault::ErrorAfter)]);
    let mut drained = Drained::default();
    let (mut log, outbox) = (Log(Arc::clone(&shared)), Owing(Arc::clone(&shared)));
    block_on(drain(&mut log, &outbox, 4, &mut drained)).unwrap();
    assert_eq!(
        (drained.rows, drained.commits),
        (10, 3),
        "the drain went on: the table said that it had worked"
    );
    assert_exactly_once(&shared, "a lost reply");
}

#[test]
fn a_store_or_table_that_went_back_halts() {
    let table = |transaction| Snapshot { version: 7, transaction };
    assert_eq!(
        decide(table(Some(9)), Owed { issued: 8, first: None }),
        Step::Halt(Halt::StoreRolledBack { table: 9, issued: 8 })
    );
    assert_eq!(
        decide(table(Some(3)), Owed { issued: 8, first: Some(6) }),
        Step::Halt(Halt::TableRolledBack { table: 3, first: 6 })
    );
    assert_eq!(
        decide(table(None), Owed { issued: 8, first: None }),
        Step::Halt(Halt::TableRolledBack { table: 0, first: 9 })
    );
    assert_eq!(decide(table(None), Owed::default()), Step::Done);
    assert_eq!(decide(table(Some(8)), Owed { issued: 8, first: None }), Step::Done);
    assert_eq!(decide(table(Some(5)), Owed { issued: 8, first: Some(4) }), Step::Forget(5));
    assert_eq!(decide(table(Some(5)), Owed { issued: 8, first: Some(6) }), Step::Append(5));
}
