//! What a definition means, recomputed from all records that ever came: nothing here is shared with the engine, and
//! nothing is kept but the records. Each epoch is told what it reads and its clock; the watermarks follow from that.

mod flow;
mod rolling;
mod sessions;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use millpond_engine::epoch::RecordId;

use self::flow::{Flow, Item};
use self::rolling::Rolling;
use self::sessions::Sessions;
use self::windows::Windows;
use super::course::{Course, What};
use super::definition::{Definition, Shape, Window};
use super::relation::STREAMS;
use super::value::Value;

pub type Key = Vec<Value>;

/// A row that comes out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub time: i64,
    pub key: Key,
    /// None was out before.
    pub first: bool,
    /// `None`: a delete.
    pub values: Option<Vec<Value>>,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Applied,
    Filtered,
    Late,
    NullKey,
    Failed,
}

/// What an epoch does.
#[derive(Debug)]
pub struct Expected {
    /// In order.
    pub rows: Vec<Row>,
    pub verdicts: BTreeMap<RecordId, Verdict>,
    /// Rows of joins that were left out.
    pub lost: u64,
    pub watermark: i64,
}

/// A row that comes to the window or frame.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub time: i64,
    pub key: Key,
    /// The columns of the relation.
    pub row: Vec<Value>,
    /// What it is made of.
    pub records: Vec<RecordId>,
}

/// What is computed of the arrivals. Times are the operator's: behind a join later by its hold.
trait Operator {
    /// Whether a record is late, whatever else comes; `before`: the watermark of the previous epoch.
    fn is_late(&self, time: i64, before: i64) -> bool;

    /// Takes what came in an epoch; which of them are late nevertheless.
    fn take(&mut self, arrivals: Vec<Arrival>, before: i64) -> Vec<bool>;

    /// The watermark that closes all that came.
    fn last_end(&self) -> Option<i64>;

    /// The rows of the epoch, in no order.
    fn close(&mut self, before: i64, now: i64) -> Vec<Row>;
}

/// The verdicts of an epoch.
#[derive(Default)]
struct Accounts {
    verdicts: BTreeMap<RecordId, Verdict>,
    lost: u64,
}

impl Accounts {
    /// Says what becomes of an item that goes no further.
    fn end(&mut self, item: &Item, verdict: Verdict) {
        match (item.is_alone, verdict) {
            (true, _) => drop(self.verdicts.insert(item.records[0], verdict)),
            // Its records were accounted for where they were joined; WHERE loses nothing.
            (false, Verdict::Filtered) => {}
            (false, _) => self.lost += 1,
        }
    }
}

pub struct Oracle<'d> {
    definition: &'d Definition,
    flow: Flow<'d>,
    operator: Box<dyn Operator + 'd>,
    /// The stream of each source.
    sources: Vec<usize>,
    /// Of each stream and partition: how far it is, and whether it is idle.
    partitions: Vec<Vec<(Option<i64>, bool)>>,
    watermark: i64,
}

impl<'d> Oracle<'d> {
    pub fn new(definition: &'d Definition, course: &Course) -> Self {
        let operator: Box<dyn Operator + 'd> = match &definition.shape {
            Shape::Windowed(Window::Session { gap }, bounds) => {
                Box::new(Sessions::new(definition, *gap, bounds))
            }
            Shape::Windowed(window, bounds) => Box::new(Windows::new(definition, *window, bounds)),
            Shape::Rolling { frames, of, plain } => Box::new(Rolling::new(definition, frames, of, plain)),
        };
        Self {
            definition,
            flow: Flow::new(&definition.relation),
            operator,
            sources: definition.relation.sources(),
            partitions: course.logs.iter().map(|log| vec![(None, false); log.partitions.len()]).collect(),
            watermark: i64::MIN,
        }
    }

    /// What the next epoch does.
    pub fn epoch(&mut self, course: &Course, number: usize) -> Expected {
        let (epoch, before) = (&course.epochs[number], self.watermark);
        let given = self.moved(course, number);
        let mut accounts = Accounts::default();
        let arrivals = self.arrivals(course, number);
        let mut items = self.flow.take(&arrivals, before, &mut accounts);
        // What a join held back comes out with the watermark; a finish waits for no partner.
        let mut reached = given;
        items.extend(self.flow.give_up(before, reached, &mut accounts));
        while epoch.finished
            && let Some(end) = self.flow.waits_until()
        {
            reached = end;
            items.extend(self.flow.give_up(before, reached, &mut accounts));
        }
        let hold = self.definition.relation.hold;
        let behind = |watermark: i64| watermark.saturating_sub(hold);
        self.take(items, behind(before), &mut accounts);
        if epoch.finished
            && let Some(end) = self.operator.last_end()
        {
            reached = reached.max(end + hold);
        }
        let mut rows = self.operator.close(behind(before), behind(reached));
        rows.sort();
        self.watermark = reached;
        let Accounts { verdicts, lost } = accounts;
        Expected { rows, verdicts, lost, watermark: reached }
    }

    /// The events of an epoch, by source.
    fn arrivals(&self, course: &Course, number: usize) -> BTreeMap<u16, Vec<Item>> {
        let mut arrivals = BTreeMap::new();
        for (source, stream) in (0..).zip(&self.sources) {
            let mut items = Vec::new();
            for partition in 0..course.logs[*stream].partitions.len() {
                for (offset, entry) in course.read(*stream, partition, number) {
                    if let (What::Event(cells), Some(time)) = (&entry.what, entry.time(&STREAMS[*stream])) {
                        let record = RecordId { source, partition: partition as u32, offset };
                        items.push(Item { time, row: cells.clone(), records: vec![record], is_alone: true });
                    }
                }
            }
            arrivals.insert(source, items);
        }
        arrivals
    }

    /// The watermark that the entries of an epoch bring.
    fn moved(&mut self, course: &Course, number: usize) -> i64 {
        let mut least = Some(i64::MAX);
        for stream in self.sources.iter().copied().collect::<BTreeSet<_>>() {
            let partitions = &mut self.partitions[stream];
            for (at, (time, is_idle)) in partitions.iter_mut().enumerate() {
                for (_, entry) in course.read(stream, at, number) {
                    *is_idle = matches!(entry.what, What::Idle);
                    *time = (*time).max(entry.time(&STREAMS[stream]));
                }
            }
            let busy: Vec<Option<i64>> = partitions.iter().filter(|p| !p.1).map(|p| p.0).collect();
            let time = match busy.iter().min() {
                Some(slowest) => *slowest,
                None => partitions.iter().filter_map(|p| p.0).max(),
            };
            // A stream that has said nothing yet holds all back.
            least = least.zip(time).map(|(least, time)| least.min(time - course.logs[stream].delay));
        }
        let bound = course.epochs[number].clock.unwrap_or(i64::MAX);
        least.map_or(self.watermark, |least| self.watermark.max(least.min(bound)))
    }

    /// Takes what came to the window or frame.
    fn take(&mut self, items: Vec<Item>, before: i64, accounts: &mut Accounts) {
        let is_session = matches!(self.definition.shape, Shape::Windowed(Window::Session { .. }, _));
        let (mut arrivals, mut taken) = (Vec::new(), Vec::new());
        for item in items {
            let within = self.definition.within.as_ref().map_or(Ok(true), |filter| filter.holds(&item.row));
            let key: Result<Key, _> = self.definition.keys.iter().map(|key| key.on(&item.row)).collect();
            let is_late = self.operator.is_late(item.time, before);
            let fails = self.definition.fails(&item.row);
            let verdict = match (within, key) {
                (Err(_), _) => Verdict::Failed,
                (Ok(false), _) => Verdict::Filtered,
                (_, Err(_)) => Verdict::Failed,
                (_, Ok(key)) if key.contains(&Value::Null) => Verdict::NullKey,
                // What fails joins no sessions, however late it is.
                _ if fails && is_session => Verdict::Failed,
                _ if is_late => Verdict::Late,
                _ if fails => Verdict::Failed,
                (_, Ok(key)) => {
                    let Item { time, row, records, .. } = item.clone();
                    arrivals.push(Arrival { time, key, row, records });
                    taken.push(item);
                    continue;
                }
            };
            accounts.end(&item, verdict);
        }
        for (item, is_late) in taken.iter().zip(self.operator.take(arrivals, before)) {
            match (is_late, item.is_alone) {
                (true, _) => accounts.end(item, Verdict::Late),
                (false, true) => drop(accounts.verdicts.insert(item.records[0], Verdict::Applied)),
                (false, false) => {}
            }
        }
    }
}

/// The rows of arrivals in the order of (event time, source, partition, offset).
fn in_order<'a>(arrivals: impl Iterator<Item = &'a Arrival>) -> Vec<&'a [Value]> {
    let mut all: Vec<&Arrival> = arrivals.collect();
    all.sort_by(|one, other| (one.time, &one.records).cmp(&(other.time, &other.records)));
    all.into_iter().map(|arrival| arrival.row.as_slice()).collect()
}
