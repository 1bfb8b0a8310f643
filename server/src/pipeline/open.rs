//! Opens a pipeline where its last commit left it: positions, journal entry and state from the store.

use std::sync::Arc;
use std::time::Instant;

use millpond_engine::epoch::{Emission, Engine, Upsert};
use millpond_engine::time::{Micros, Span};
use millpond_engine::workers::Workers;

use super::checkpoint::Checkpoints;
use super::commits::{Commits, Observe};
use super::cut::Limits;
use super::decode::Decode;
use super::halt::{Halt, Stop};
use super::intake::{Intake, Surroundings};
use super::journal::Committed;
use super::memory::Share;
use super::partition::Boundary;
use super::replay::{Again, replay};
use super::runner::Pipeline;
use super::schemas::Lookup;
use super::source::Source;
use crate::catalog::{Emit, GroupEntry, Stream};
use crate::log::Reader;
use crate::store::Store;

/// Opens the log of a stream.
pub type OpenLog<'a> = &'a dyn Fn(&Stream) -> Result<Box<dyn Reader>, crate::log::Error>;

/// What a pipeline is made of.
pub struct Parts<'a> {
    /// The group with its plan.
    pub group: &'a GroupEntry,
    /// Its streams, in the order of its sources.
    pub streams: &'a [Arc<Stream>],
    /// Opens the log of a stream.
    pub open_log: OpenLog<'a>,
    /// Where everything is committed.
    pub store: &'a Arc<Store>,
    /// What windows are computed on.
    pub workers: &'a Arc<Workers>,
    /// How large epochs become.
    pub limits: Limits,
    /// A close goes through at most this many keys in one epoch.
    pub max_rows: usize,
    /// When the engine's state is written.
    pub checkpoints: Checkpoints,
    /// What the engine's state may take of the memory.
    pub memory: Share,
    /// How long each epoch has a journal entry of its own.
    pub journal_age: Span,
    /// Everything outside.
    pub surroundings: Surroundings,
    /// Told what happens.
    pub observe: Observe,
}

/// Opens the pipeline of a group.
pub fn open(parts: Parts<'_>) -> Result<Pipeline, Stop> {
    let Parts { group, streams, store, .. } = parts;
    let id = group.def.id;
    let last = store.last_epoch(id)?;
    if let Some(entry) = last.as_ref().filter(|entry| entry.semantics != millpond_engine::sql::SEMANTICS) {
        return Err(other_semantics(entry.semantics).into());
    }
    let committed = Committed::restore(last.as_ref(), store.positions(id)?, streams.len());
    let mut surroundings = parts.surroundings;
    let mut checkpoints = parts.checkpoints;
    let (open_log, lookup) = (parts.open_log, &mut *surroundings.lookup);
    let engine = engine(group, streams, open_log, store, parts.workers, lookup, &mut checkpoints)?;
    let now = (surroundings.clock)();
    let mut sources = Vec::with_capacity(streams.len());
    for (index, stream) in (0u16..).zip(streams) {
        let (mut reader, start) = (parts.open_log)(stream).map(|reader| (reader, start(group, index)))?;
        if group.query.is_none() || !reader.is_replayable()? {
            checkpoints = checkpoints.always();
        }
        let decode = decode(group, index, stream).ok_or_else(|| unplanned(stream))?;
        let positions = committed.of_source(index);
        sources.push(Source::open(index, Arc::clone(stream), reader, decode, &positions, start, now)?);
    }
    let ends = group.def.sources.iter().map(|source| Boundary(source.backfill_end.clone())).collect();
    let intake = Intake::new(sources, group.def.time, ends, &committed, parts.limits, surroundings);
    let (ahead, cost) = (intake.ahead(), intake.cost());
    let mut pipeline = Pipeline {
        commits: Commits {
            group: id,
            time: group.def.time,
            ingested: group.query.is_none(),
            streams: streams.to_vec(),
            engine,
            computed: committed.clone(),
            committed,
            writer: None,
            is_writing: false,
            is_behind: false,
            store: Arc::clone(store),
            max_rows: parts.max_rows,
            checkpoints,
            memory: parts.memory,
            min_age: parts.limits.min_age,
            observe: parts.observe,
            last_commit: Instant::now(),
            standing: Vec::new(),
            backfilling: false,
            ahead,
            cost,
            journal_age: parts.journal_age,
            last_fold: Instant::now(),
        },
        intake,
    };
    pipeline.commits.standing = pipeline.intake.standing();
    pipeline.commits.backfilling = pipeline.intake.is_backfilling();
    Ok(pipeline)
}

/// The engine at the state that the last epoch committed: that of the last checkpoint, and what came since.
fn engine(
    group: &GroupEntry,
    streams: &[Arc<Stream>],
    open_log: OpenLog<'_>,
    store: &Arc<Store>,
    workers: &Arc<Workers>,
    lookup: &mut dyn FnMut(u32) -> Lookup,
    checkpoints: &mut Checkpoints,
) -> Result<Engine, Stop> {
    let entries = store.since_checkpoint(group.def.id)?;
    let Some(query) = &group.query else {
        let watermark = entries.last().map_or(Micros::MIN, |entry| entry.watermark);
        return Ok(Engine::ingest(ingested(group).ok_or_else(unreadable)?, watermark)?);
    };
    // Before the first checkpoint there is no state: everything is applied again.
    let (checkpoint, since) = match entries.split_first() {
        Some((first, since)) if first.checkpoint => (Some(first), since),
        _ => (None, &entries[..]),
    };
    let watermark = checkpoint.map_or(Micros::MIN, |entry| entry.watermark);
    let on_update = group.def.emit == Emit::OnUpdate;
    let emission = Emission { allowed_lateness: group.def.allowed_lateness, on_update };
    let state = store.state(group.def.id);
    let mut engine = Engine::resume(workers, Arc::clone(query), emission, watermark, state)?;
    if !since.is_empty() {
        let again = |(index, stream): (u16, &Arc<Stream>)| {
            let decode = decode(group, index, stream).ok_or_else(|| unplanned(stream))?;
            Ok(Again { stream: Arc::clone(stream), reader: open_log(stream)?, decode })
        };
        let mut sources = (0..).zip(streams).map(again).collect::<Result<Vec<_>, Stop>>()?;
        let cursor = checkpoint.and_then(|entry| entry.close_cursor.clone());
        replay(&mut engine, &mut sources, since, cursor, lookup)?;
        let records = since.iter().flat_map(|entry| &entry.counts).map(|counts| counts.read).sum();
        checkpoints.replayed(since.len() as u64, records);
    }
    Ok(engine)
}

/// An ingested group's rows are its records: which columns are the key, the event time, the features.
fn ingested(group: &GroupEntry) -> Option<Upsert> {
    let reader = group.readers.first()?;
    let position = |name: &str| reader.arrow().index_of(name).ok();
    let features = group.schema.fields().iter().map(|f| position(f.name())).collect::<Option<Vec<_>>>()?;
    let key = group.key.iter().map(|at| features.get(*at).copied()).collect::<Option<Vec<_>>>()?;
    Some(Upsert { key, event_time: reader.event_time()?, features, output: Arc::clone(&group.schema) })
}

fn decode(group: &GroupEntry, index: u16, stream: &Stream) -> Option<Decode> {
    let at = usize::from(index);
    let reader = group.readers.get(at)?;
    let (columns, event_time, key) = match &group.query {
        Some(query) => query.sources.get(at).map(|s| (s.columns.clone(), s.event_time, None))?,
        None => {
            let all = (0..reader.arrow().fields().len()).collect();
            (all, reader.event_time()?, Some(group.key_schema()))
        }
    };
    Some(Decode::new(reader, &columns, event_time, stream.max_future_skew, key, stream.format))
}

fn start(group: &GroupEntry, index: u16) -> &[i64] {
    group.def.sources.get(usize::from(index)).map_or(&[], |source| &source.start)
}

fn unplanned(stream: &Stream) -> Stop {
    Halt::new(
        format!("the group's plan does not read stream {}", stream.name),
        "this is a defect: report it with the group's definition",
    )
    .into()
}

fn unreadable() -> Stop {
    Halt::new(
        "the group's columns are not in the schema of its log",
        "drop the group and create it again with columns that its schema has",
    )
    .into()
}

fn other_semantics(was: u32) -> Halt {
    Halt::new(
        format!(
            "the group was computed by version {was} of the engine's semantics, this is version {}",
            millpond_engine::sql::SEMANTICS
        ),
        "create a new version of the feature group: it computes everything anew",
    )
}
