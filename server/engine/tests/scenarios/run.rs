//! A scenario through the engine, in the way a pipeline drives it: event times and heartbeats move the
//! partitions, the pipeline's watermark is the least of them, and an epoch commits it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use millpond_engine::epoch::{CloseCursor, Emission, Engine, Input, Output, RecordId, SourceBatch, Upsert};
use millpond_engine::query::{FeatureQuery, Source};
use millpond_engine::sql::{self, CHANGES, Group, Table};
use millpond_engine::time::{Micros, Span};
use millpond_engine::watermark::{self, PartitionTime};
use millpond_engine::workers::Workers;

use super::lines::described;
use super::parse::{Happening, Lookup, Scenario, Setting, instant, normal, types};
use super::state::State;

/// What the group is made of: enough to make its engine again.
enum Definition {
    Derived(Arc<FeatureQuery>, Emission),
    Ingested(Upsert),
}

/// What a pipeline keeps across a restart.
#[derive(Default)]
struct Store {
    /// As of the last checkpoint.
    state: State,
    state_at: Option<Micros>,
    /// The epochs since.
    journal: Vec<Journalled>,
    watermark: Option<Micros>,
    cursor: Option<CloseCursor>,
}

/// What an epoch was given.
struct Journalled {
    batches: Vec<SourceBatch>,
    /// Of each source.
    sources: Vec<Micros>,
    watermark: Micros,
    finished: bool,
    cursor: Option<CloseCursor>,
    max_rows: usize,
    checkpoint: bool,
}

impl Journalled {
    fn apply(&self, engine: &mut Engine) -> Result<Output, millpond_engine::epoch::Error> {
        engine.look_up_to(&self.sources);
        engine.apply(&self.input())
    }

    fn input(&self) -> Input<'_> {
        Input {
            batches: &self.batches,
            deletes: &[],
            watermark: self.watermark,
            finished: self.finished,
            cursor: self.cursor.clone(),
            max_rows: self.max_rows,
            checkpoint: self.checkpoint,
        }
    }
}

/// How a scenario is run.
#[derive(Clone, Copy)]
pub struct Manner {
    pub what: &'static str,
    /// The engine is restored before every epoch, not only where the scenario says so.
    pub restarts: bool,
    /// A checkpoint is taken in every epoch of this many.
    pub checkpoints: usize,
    /// After a checkpoint all that need not be in memory is let go of.
    pub spills: bool,
    /// How many threads the engine that is made before an epoch computes on.
    pub threads: fn(usize) -> usize,
}

pub fn run(scenario: &Scenario, manner: Manner) -> Result<(), String> {
    let setting = &scenario.setting;
    let schema = schema(setting)?;
    let definition = definition(setting, &schema)?;
    let mut store = Store::default();
    let mut engine = restore(&definition, &store, (manner.threads)(0))?;
    let mut partitions = vec![PartitionTime::default(); setting.partitions as usize];
    let mut texts: BTreeMap<RecordId, String> = BTreeMap::new();
    let mut known = None;
    for (number, epoch) in scenario.epochs.iter().enumerate() {
        if manner.restarts || epoch.restart {
            engine = restore(&definition, &store, (manner.threads)(number))?;
        }
        let (mut clock, mut finished, mut columns) =
            (None, false, vec![Vec::new(); setting.partitions as usize]);
        let mut changes = Vec::new();
        for happening in &epoch.happenings {
            match happening {
                Happening::Event(partition, cells) => columns[*partition as usize].push(cells.clone()),
                Happening::Heartbeat(partition, time) => advance(&mut partitions[*partition as usize], *time),
                Happening::Idle(partition) => partitions[*partition as usize].idle = true,
                Happening::Finish => finished = true,
                Happening::Change(cells) => changes.push(cells.clone()),
                Happening::Known(time) => known = known.max(Some(Micros(*time))),
                Happening::Clock(time) => clock = Some(Micros(*time)),
            }
        }
        let mut batches = batches(setting, &schema, columns, &mut partitions, &mut texts)?;
        batches.extend(changed(setting, &schema, &changes, number)?);
        let of_source = watermark::of_source(&partitions, Span(setting.delay));
        let previous = store.watermark.unwrap_or(Micros::MIN);
        let of_sources = if setting.lookup.is_some() { vec![of_source, known] } else { vec![of_source] };
        let given = Journalled {
            batches,
            sources: sources(setting, &schema, of_source, known)?,
            watermark: watermark::of_pipeline(previous, &of_sources, clock),
            finished,
            cursor: store.cursor.clone(),
            max_rows: setting.max_rows,
            checkpoint: (number + 1).is_multiple_of(manner.checkpoints),
        };
        let output = given.apply(&mut engine).map_err(|e| format!("  line {}: {e}", epoch.line))?;
        let mut actual = described(&output, &texts);
        let is_durable = given.checkpoint;
        store.commit(&output, given);
        if manner.spills && is_durable {
            engine.evict(0).map_err(|e| format!("  line {}: {e}", epoch.line))?;
        }
        if store.state.is_empty() {
            actual.push("state empty".into());
        }
        // Watermark and state are compared where the scenario speaks of them.
        let of_state = |l: &str| l.starts_with("state ");
        let expected: Vec<String> =
            epoch.expected.iter().filter(|l| manner.checkpoints == 1 || !of_state(l)).cloned().collect();
        let spoken_of = |word: &str| expected.iter().any(|l| l.starts_with(word));
        actual.retain(|l| {
            (!l.starts_with("watermark ") || spoken_of("watermark "))
                && (!l.ends_with(" written") || spoken_of("state "))
                && (l != "state empty" || spoken_of("state empty"))
        });
        if actual != expected {
            let listed = |lines: &[String]| lines.iter().map(|l| format!("    {l}\n")).collect::<String>();
            return Err(format!(
                "  epoch of line {}\n  expected:\n{}  got:\n{}",
                epoch.line,
                listed(&expected),
                listed(&actual)
            ));
        }
    }
    Ok(())
}

impl Store {
    fn commit(&mut self, output: &Output, given: Journalled) {
        self.watermark = Some(output.watermark);
        self.cursor.clone_from(&output.cursor);
        if !given.checkpoint {
            assert!(output.state.is_empty(), "state outside of a checkpoint");
            self.journal.push(given);
            return;
        }
        self.journal.clear();
        self.state_at = self.watermark;
        self.state.apply(&output.state);
    }
}

fn restore(definition: &Definition, store: &Store, threads: usize) -> Result<Engine, String> {
    let watermark = store.state_at.unwrap_or(Micros::MIN);
    let mut engine = match definition {
        Definition::Derived(query, emission) => {
            let workers = Arc::new(Workers::eager(threads));
            Engine::resume(&workers, query.clone(), *emission, watermark, Arc::new(store.state.clone()))
        }
        Definition::Ingested(group) => Engine::ingest(group.clone(), watermark),
    }
    .map_err(|e| format!("  restore: {e}"))?;
    for epoch in &store.journal {
        epoch.apply(&mut engine).map_err(|e| format!("  applied again: {e}"))?;
    }
    Ok(engine)
}

fn schema(setting: &Setting) -> Result<SchemaRef, String> {
    fields(&setting.columns, &setting.time)
}

fn fields(columns: &[(String, String)], never_null: &str) -> Result<SchemaRef, String> {
    let types = types();
    let fields = columns
        .iter()
        .map(|(name, kind)| {
            let data_type = types.get(kind.as_str()).ok_or(format!("  no type {kind}"))?;
            Ok(Field::new(name, data_type.clone(), *name != never_null))
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn definition(setting: &Setting, schema: &SchemaRef) -> Result<Definition, String> {
    let position = |name: &String| schema.index_of(name).map_err(|e| format!("  {e}"));
    if let Some(key) = &setting.ingest {
        let plain = |f: &Arc<Field>| match f.data_type() {
            DataType::Dictionary(_, value) => f.as_ref().clone().with_data_type(value.as_ref().clone()),
            _ => f.as_ref().clone(),
        };
        return Ok(Definition::Ingested(Upsert {
            key: key.iter().map(position).collect::<Result<_, _>>()?,
            event_time: position(&setting.time)?,
            features: (0..schema.fields().len()).collect(),
            output: Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>())),
        }));
    }
    let table = Table { name: "events", schema: schema.clone(), event_time: &setting.time };
    let groups = setting.lookup.iter().map(|lookup| {
        let changes = Table { name: CHANGED, schema: changes(lookup)?, event_time: CHANGES[1] };
        let ttl = lookup.ttl.map(Span);
        Ok(Group { names: vec![lookup.name.clone()], changes, key: &lookup.key, ttl })
    });
    let groups = groups.collect::<Result<Vec<_>, String>>()?;
    let query = sql::plan_with(&setting.sql, &[table], &groups).map_err(|e| format!("  {e}"))?;
    let emission = Emission { allowed_lateness: Span(setting.lateness), on_update: setting.on_update };
    Ok(Definition::Derived(Arc::new(query), emission))
}

fn advance(partition: &mut PartitionTime, time: i64) {
    partition.idle = false;
    partition.max_event_time = partition.max_event_time.max(Some(Micros(time)));
}

/// One batch per partition with the columns that the query reads; moves the partitions on.
fn batches(
    setting: &Setting,
    schema: &SchemaRef,
    events: Vec<Vec<Vec<String>>>,
    partitions: &mut [PartitionTime],
    texts: &mut BTreeMap<RecordId, String>,
) -> Result<Vec<SourceBatch>, String> {
    // A stream that is mentioned twice is two sources.
    let projections: Vec<Option<Vec<usize>>> = match definition(setting, schema)? {
        Definition::Derived(query, _) => {
            let columns = |s: &Source| (s.stream != CHANGED).then(|| s.columns.clone());
            query.sources.iter().map(columns).collect()
        }
        Definition::Ingested(_) => vec![Some((0..schema.fields().len()).collect())],
    };
    let mut batches = Vec::new();
    for (partition, events) in events.into_iter().enumerate().filter(|(_, e)| !e.is_empty()) {
        let of_partition = |r: &&RecordId| r.source == 0 && r.partition == partition as u32;
        let known = texts.keys().filter(of_partition).count() as i64;
        let offsets: Vec<i64> = (known..known + events.len() as i64).collect();
        for (offset, cells) in offsets.iter().zip(&events) {
            for source in 0..projections.len() as u16 {
                let record = RecordId { source, partition: partition as u32, offset: *offset };
                texts.insert(record, normal(&format!("p{partition} | {}", cells.join(" | "))));
            }
        }
        let columns = (0..schema.fields().len())
            .map(|i| column(schema.field(i).data_type(), events.iter().map(|cells| cells.get(i))))
            .collect::<Result<Vec<_>, String>>()?;
        let times =
            columns[schema.index_of(&setting.time).unwrap()].as_primitive::<TimestampMicrosecondType>();
        times.iter().flatten().for_each(|t| advance(&mut partitions[partition], t));
        let rows = RecordBatch::try_new(schema.clone(), columns).map_err(|e| format!("  {e}"))?;
        for (source, projection) in (0..).zip(&projections) {
            let Some(projection) = projection else { continue };
            let rows = rows.project(projection).map_err(|e| format!("  {e}"))?;
            batches.push(SourceBatch { source, partition: partition as u32, offsets: offsets.clone(), rows });
        }
    }
    batches.sort_by_key(|b| (b.source, b.partition));
    Ok(batches)
}

/// The stream of the changes of what is looked up.
const CHANGED: &str = "changes";

fn changes(lookup: &Lookup) -> Result<SchemaRef, String> {
    let stamp = CHANGES.iter().zip(["timestamp", "timestamp", "long", "string"]);
    let stamp = stamp.map(|(name, kind)| ((*name).to_owned(), kind.to_owned()));
    fields(&lookup.columns.iter().cloned().chain(stamp).collect::<Vec<_>>(), CHANGES[1])
}

/// Rows of what is looked up, for each source that reads them; the epoch is their commit.
fn changed(
    setting: &Setting,
    schema: &SchemaRef,
    rows: &[Vec<String>],
    epoch: usize,
) -> Result<Vec<SourceBatch>, String> {
    let (Some(lookup), Definition::Derived(query, _)) = (&setting.lookup, definition(setting, schema)?)
    else {
        return Ok(Vec::new());
    };
    let of = changes(lookup)?;
    let width = lookup.columns.len();
    let full: Vec<Vec<String>> = rows
        .iter()
        .map(|cells| {
            let op = cells.get(width + 2).map_or("upsert", |op| op.as_str());
            cells.iter().take(width + 2).cloned().chain([epoch.to_string(), op.to_owned()]).collect()
        })
        .collect();
    let columns =
        (0..of.fields().len()).map(|i| column(of.field(i).data_type(), full.iter().map(|c| c.get(i))));
    let columns = columns.collect::<Result<Vec<_>, String>>()?;
    let rows = RecordBatch::try_new(of, columns).map_err(|e| format!("  {e}"))?;
    let offsets = vec![epoch as i64; rows.num_rows()];
    let reading = (0..).zip(&query.sources).filter(|(_, s)| s.stream == CHANGED && !offsets.is_empty());
    let batch = |(source, of): (u16, &Source)| {
        let rows = rows.project(&of.columns).map_err(|e| format!("  {e}"))?;
        Ok(SourceBatch { source, partition: 0, offsets: offsets.clone(), rows })
    };
    reading.map(batch).collect()
}

/// How far each source is.
fn sources(
    setting: &Setting,
    schema: &SchemaRef,
    events: Option<Micros>,
    known: Option<Micros>,
) -> Result<Vec<Micros>, String> {
    let Definition::Derived(query, _) = definition(setting, schema)? else { return Ok(Vec::new()) };
    let of = |s: &Source| if s.stream == CHANGED { known } else { events };
    Ok(query.sources.iter().map(|s| of(s).unwrap_or(Micros::MIN)).collect())
}

fn column<'c>(
    data_type: &DataType,
    cells: impl Iterator<Item = Option<&'c String>>,
) -> Result<ArrayRef, String> {
    let cells: Vec<Option<&str>> = cells.map(|c| c.map(String::as_str).filter(|c| *c != "null")).collect();
    if let DataType::Timestamp(_, zone) = data_type {
        let times = cells
            .iter()
            .map(|c| c.map(|c| instant(c).ok_or(format!("  {c} is not a time"))).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        return Ok(Arc::new(TimestampMicrosecondArray::from(times).with_timezone_opt(zone.clone())));
    }
    let text: ArrayRef = Arc::new(StringArray::from(cells));
    let strict = arrow::compute::CastOptions { safe: false, ..Default::default() };
    arrow::compute::cast_with_options(&text, data_type, &strict).map_err(|e| format!("  {e}"))
}
