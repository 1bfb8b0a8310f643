//! The engine alone over decoded batches: what each operator costs an event, without a log, a
//! commit or a store. It is what profiles are made of (`perf record … millpond-bench engine --workload SESSION`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_engine::avro::{Decoder, ReaderSchema, Resolution, Unit};
use millpond_engine::epoch::{Emission, Engine, Input, SourceBatch};
use millpond_engine::query::FeatureQuery;
use millpond_engine::sql::{self, Table};
use millpond_engine::time::Micros;
use millpond_engine::workers::Workers;

use crate::Result;
use crate::corpus::{DISORDER_MS, Stream};
use crate::report::Report;
use crate::windows::{self, Workload};

/// As a topic is divided in the throughput workloads.
const PARTITIONS: usize = 4;

/// As in the server.
const MAX_ROWS: usize = 65_536;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only workloads with this in their name, and those that they are compared with
    #[arg(long, default_value = "")]
    workload: String,
    /// Events of each feed
    #[arg(long, default_value_t = 2_000_000)]
    events: usize,
    /// Users
    #[arg(long, default_value_t = 100_000)]
    users: u64,
    /// Records of an epoch
    #[arg(long, default_value_t = 65_536)]
    epoch: usize,
    /// Epochs between checkpoints
    #[arg(long, default_value_t = 61)]
    checkpoint: usize,
    /// Threads, in the place of those that the workloads say
    #[arg(long)]
    threads: Option<usize>,
    /// Rows come out on update, too
    #[arg(long)]
    on_update: bool,
    /// Leave out what workloads are compared with
    #[arg(long)]
    alone: bool,
}

/// Drives the workloads; marks are those of whole pipelines, so none is missed here.
pub fn run(options: &Options) -> Result<Vec<String>> {
    let mut report = Report::new(options.events, options.users);
    let mut costs: HashMap<String, f64> = HashMap::new();
    let feeds = windows::feeds(None);
    let is_asked = |w: &Workload| w.name.contains(&options.workload);
    let asked = feeds.iter().flat_map(|feed| &feed.workloads).filter(|w| is_asked(w));
    let beside: Vec<&String> = asked.filter_map(|w| w.beside.as_ref()).filter(|_| !options.alone).collect();
    for feed in &feeds {
        let workloads = feed.workloads.iter().filter(|w| is_asked(w) || beside.contains(&&w.name));
        let mut workloads = workloads.peekable();
        let streams = match workloads.peek() {
            Some(_) => (feed.streams)(options.events, options.users),
            None => continue,
        };
        for workload in workloads {
            let run = drive(&streams, workload, options)?;
            let (name, ns) = (format!("engine: {}", workload.name), run.ns_per_event());
            report.value(&name, "cost", ns, "ns/event");
            if let Some(base) = workload.beside.as_ref().and_then(|beside| costs.get(beside)) {
                report.value(&name, "more than the other", ns - base, "ns/event");
            }
            report.value(&name, "slowest epoch", run.slowest.as_secs_f64() * 1e3, "ms");
            report.value(&name, "rows out", run.rows as f64 / run.events as f64, "per event");
            costs.insert(workload.name.clone(), ns);
        }
    }
    Ok(Vec::new())
}

/// What the engine did.
struct Run {
    events: usize,
    rows: usize,
    busy: Duration,
    slowest: Duration,
}

impl Run {
    fn ns_per_event(&self) -> f64 {
        self.busy.as_secs_f64() * 1e9 / self.events as f64
    }
}

fn drive(streams: &[Stream], workload: &Workload, options: &Options) -> Result<Run> {
    let readers: Vec<ReaderSchema> = streams
        .iter()
        .map(|s| ReaderSchema::parse(&s.schema.to_string(), Some((s.event_time, None::<Unit>))))
        .collect::<std::result::Result<_, _>>()?;
    let tables: Vec<Table<'_>> = streams
        .iter()
        .zip(&readers)
        .map(|(s, reader)| Table { name: s.name, schema: reader.arrow().clone(), event_time: s.event_time })
        .collect();
    let query = Arc::new(sql::plan(&workload.sql, &tables)?);
    let mut sources = sources(&query, streams, &readers)?;
    let emission = Emission { on_update: options.on_update, ..Emission::default() };
    let workers = Arc::new(Workers::new(options.threads.unwrap_or(workload.threads)));
    let nothing = std::iter::empty();
    let mut engine = Engine::restore_on(&workers, Arc::clone(&query), emission, Micros::MIN, nothing)?;
    let events: usize = streams.iter().map(|s| s.corpus.len()).sum();
    let epochs = events.div_ceil(options.epoch);
    let mut run = Run { events, rows: 0, busy: Duration::ZERO, slowest: Duration::ZERO };
    for epoch in 1..=epochs {
        let mut batches = Vec::new();
        for source in &mut sources {
            // In step: each has the same share of its events behind it.
            source.read(source.stream.corpus.len() * epoch / epochs, &mut batches)?;
        }
        let watermark = sources.iter().filter_map(Source::watermark).min().unwrap_or(Micros::MIN);
        let mut input = Input {
            batches: &batches,
            deletes: &[],
            watermark,
            finished: epoch == epochs,
            cursor: None,
            max_rows: MAX_ROWS,
            checkpoint: epoch % options.checkpoint == 0,
        };
        loop {
            let start = Instant::now();
            let output = engine.apply(&input)?;
            let took = start.elapsed();
            run.busy += took;
            run.slowest = run.slowest.max(took);
            run.rows += output.rows.iter().map(|rows| rows.keys.len()).sum::<usize>();
            if output.cursor.is_none() {
                break;
            }
            input = Input { batches: &[], finished: false, cursor: output.cursor, ..input };
            input.watermark = output.watermark;
        }
    }
    Ok(run)
}

/// A source of a query, as far as it is read.
struct Source<'f> {
    number: u16,
    stream: &'f Stream,
    decoder: Decoder,
    resolution: Resolution,
    next: usize,
    /// Of each partition the greatest event time, in milliseconds.
    greatest: [i64; PARTITIONS],
}

fn sources<'f>(
    query: &FeatureQuery,
    streams: &'f [Stream],
    readers: &[ReaderSchema],
) -> Result<Vec<Source<'f>>> {
    let mut sources = Vec::new();
    for (number, source) in (0..).zip(&query.sources) {
        let stream = streams.iter().zip(readers).find(|(s, _)| s.name == source.stream);
        let (stream, reader) = stream.ok_or("a stream that is not in the feed")?;
        sources.push(Source {
            number,
            stream,
            decoder: Decoder::new(reader, &source.columns),
            resolution: Resolution::compile(&stream.schema.to_string(), reader, &source.columns)?,
            next: 0,
            greatest: [i64::MIN; PARTITIONS],
        });
    }
    Ok(sources)
}

impl Source<'_> {
    /// Decodes the events up to `to`, partition by partition.
    fn read(&mut self, to: usize, batches: &mut Vec<SourceBatch>) -> Result<()> {
        let corpus = &self.stream.corpus;
        for partition in 0..PARTITIONS {
            let mut offsets = Vec::new();
            for event in (self.next..to).filter(|event| event % PARTITIONS == partition) {
                self.decoder.push(&self.resolution, corpus.body(event))?;
                offsets.push((event / PARTITIONS) as i64);
                self.greatest[partition] = self.greatest[partition].max(corpus.time(event));
            }
            if !offsets.is_empty() {
                let (source, partition) = (self.number, partition as u32);
                batches.push(SourceBatch { source, partition, offsets, rows: self.decoder.finish() });
            }
        }
        self.next = to;
        Ok(())
    }

    /// The watermark once all partitions have events.
    fn watermark(&self) -> Option<Micros> {
        let least = self.greatest.iter().min().filter(|least| **least > i64::MIN)?;
        Some(Micros((least - DISORDER_MS) * 1_000))
    }
}
