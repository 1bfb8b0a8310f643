//! What happens in the streams, epoch by epoch.

use super::dice::Dice;
use super::grow::{SYMBOLS, TEXTS};
use super::relation::{STREAMS, Stream};
use super::value::{Kind, Value};

#[derive(Debug, Clone)]
pub struct Course {
    /// Of each stream.
    pub logs: Vec<Log>,
    pub epochs: Vec<Epoch>,
}

#[derive(Debug, Clone)]
pub struct Log {
    /// The watermark's delay.
    pub delay: i64,
    pub partitions: Vec<Vec<Entry>>,
}

/// What stands at an offset, and the epoch that reads it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub epoch: usize,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// The cells of an event.
    Event(Vec<Value>),
    Heartbeat(i64),
    /// The partition has been quiet for so long that nobody waits for it.
    Idle,
}

#[derive(Debug, Clone)]
pub struct Epoch {
    /// The sources come past their finish offsets.
    pub finished: bool,
    /// The clock of a live stream.
    pub clock: Option<i64>,
}

impl Entry {
    /// How far the partition's time comes with it.
    pub fn time(&self, stream: &Stream) -> Option<i64> {
        match &self.what {
            What::Event(cells) => match cells[stream.time] {
                Value::Time(time) => Some(time),
                _ => None,
            },
            What::Heartbeat(time) => Some(*time),
            What::Idle => None,
        }
    }
}

impl Course {
    /// The entries of a partition that an epoch reads, with their offsets.
    pub fn read(&self, stream: usize, partition: usize, epoch: usize) -> impl Iterator<Item = (i64, &Entry)> {
        let entries = &self.logs[stream].partitions[partition];
        (0..).zip(entries).filter(move |(_, entry)| entry.epoch == epoch)
    }

    /// Without the entries of which `gone` says so, counted through all partitions; the last of each stays.
    pub fn without(&self, gone: impl Fn(usize) -> bool) -> Self {
        let (mut course, mut number) = (self.clone(), 0);
        for partition in course.logs.iter_mut().flat_map(|log| &mut log.partitions) {
            let last = partition.len() - 1;
            let mut at = 0;
            partition.retain(|_| {
                let keep = at == last || !gone(number);
                (at, number) = (at + 1, number + 1);
                keep
            });
        }
        course
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.logs.iter().flat_map(|log| &log.partitions).map(Vec::len).sum()
    }

    /// For people.
    pub fn described(&self) -> String {
        let mut lines = Vec::new();
        for (stream, log) in STREAMS.iter().zip(&self.logs) {
            lines.push(format!("stream {}, delay {} µs", stream.name, log.delay));
        }
        for (number, epoch) in self.epochs.iter().enumerate() {
            lines.push(format!("epoch {number} {epoch:?}"));
            for (stream, log) in STREAMS.iter().zip(&self.logs) {
                for (partition, entries) in log.partitions.iter().enumerate() {
                    let own = entries.iter().filter(|entry| entry.epoch == number);
                    lines.extend(own.map(|entry| format!("  {} p{partition} {:?}", stream.name, entry.what)));
                }
            }
        }
        lines.join("\n")
    }
}

/// A course whose lengths of time are counted in `unit`s.
pub fn course(dice: &mut Dice, unit: i64) -> Course {
    const MAY_2025: i64 = 1_746_057_600_000_000;
    let span = dice.within(8..=70);
    let base = *dice.pick(&[MAY_2025, -span / 2 * unit, -86_400_000_000 * 365 * 20, 0]);
    let epochs = dice.within(2..=11) as usize;
    let events = *dice.pick(&[12, 30, 60, 110]);
    let line = Line { base, unit, span, epochs };
    let logs = STREAMS.iter().map(|stream| log(dice, stream, &line, events)).collect();
    let is_live = dice.chance(20);
    let finish = dice.chance(30).then(|| dice.below(epochs));
    let epoch = |number: usize| {
        let clock = base + (span * (number as i64 + 1) / epochs as i64 + dice.within(-6..=10)) * unit;
        Epoch { finished: finish == Some(number), clock: is_live.then_some(clock) }
    };
    let mut epochs: Vec<Epoch> = (0..epochs).map(epoch).collect();
    // What closes everything.
    epochs.push(Epoch { finished: false, clock: None });
    Course { logs, epochs }
}

struct Line {
    base: i64,
    unit: i64,
    span: i64,
    epochs: usize,
}

fn log(dice: &mut Dice, stream: &Stream, line: &Line, events: usize) -> Log {
    let Line { base, unit, span, epochs } = *line;
    let mut partitions: Vec<Vec<Entry>> = vec![Vec::new(); dice.below(3) + 1];
    let lag: Vec<usize> = partitions.iter().map(|_| *dice.pick(&[0, 0, 1, 2])).collect();
    let count = events / 2 + dice.below(events);
    for number in 0..count {
        let at = span * unit / count as i64 * number as i64;
        let partition = dice.below(partitions.len());
        let late = if dice.chance(12) { dice.within(-30..=0) } else { dice.within(-3..=1) };
        let time = base + at / unit * unit + late * unit;
        let time = time
            + match dice.below(10) {
                0..=4 => 0,
                5 => 1,
                6 => -1,
                _ => dice.within(0..=unit - 1),
            };
        let what = match dice.below(100) {
            0..=3 => What::Heartbeat(time),
            4..=6 => What::Idle,
            _ => What::Event(cells(dice, stream, time)),
        };
        let previous = partitions[partition].last().map_or(0, |entry| entry.epoch);
        let epoch = (number * epochs / count + lag[partition]).min(epochs - 1);
        partitions[partition].push(Entry { epoch: epoch.max(previous), what });
    }
    for partition in &mut partitions {
        partition.push(Entry { epoch: epochs, what: What::Heartbeat(base + 100_000 * unit) });
    }
    Log { delay: *dice.pick(&[0, 0, 1, 3, 8]) * unit, partitions }
}

fn cells(dice: &mut Dice, stream: &Stream, time: i64) -> Vec<Value> {
    let mut texts = 0;
    let cell = |(_, kind, _): &(&str, Kind, bool)| match kind {
        Kind::Time => Value::Time(time),
        Kind::Text => {
            // The first is what most keys are made of.
            let nulls = [5, 15][texts];
            texts += 1;
            match dice.below(100) {
                n if n < nulls => Value::Null,
                98 => Value::text("d\0e"),
                99 => Value::text("żaba"),
                _ => Value::text(dice.pick::<&str>(&TEXTS)),
            }
        }
        _ if dice.chance(10) => Value::Null,
        Kind::Symbol => Value::text(dice.pick::<&str>(&SYMBOLS)),
        Kind::Int => Value::Int(dice.within(-4..=6)),
        Kind::Float if dice.chance(4) => Value::float(1024.0),
        Kind::Float => Value::float(dice.within(-8..=24) as f64 * 0.25),
        Kind::Bool => Value::Bool(dice.chance(50)),
        Kind::List => unreachable!(),
    };
    stream.columns.iter().map(cell).collect()
}
