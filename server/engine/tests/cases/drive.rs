//! A course through the engine, as a pipeline takes it there: epochs whose large closes go on, checkpoints, and starts
//! from the last of them with the epochs since applied again, each on another number of threads.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use millpond_engine::epoch::{CloseCursor, Emission, Engine, Input, Op, Output, SourceBatch};
use millpond_engine::query::FeatureQuery;
use millpond_engine::sql::{self, Table};
use millpond_engine::time::{Micros, Span};
use millpond_engine::watermark::{self, PartitionTime};
use millpond_engine::workers::Workers;

use super::course::{Course, What};
use super::coverage::Coverage;
use super::definition::Definition;
use super::dice::Dice;
use super::oracle::Row;
use super::relation::{STREAMS, Stream};
use super::state::State;
use super::value::{Kind, Value};

/// Threads for the least of work, kept from one case to the next.
static WORKERS: LazyLock<[Arc<Workers>; 4]> =
    LazyLock::new(|| std::array::from_fn(|more| Arc::new(Workers::eager(more + 1))));

/// The plan of a definition.
pub fn plan(definition: &Definition) -> Result<Arc<FeatureQuery>, String> {
    let tables = STREAMS.each_ref().map(|stream| Table {
        name: stream.name,
        schema: schema(stream),
        event_time: stream.columns[stream.time].0,
    });
    let query = sql::plan(&definition.sql, &tables).map_err(|error| format!("refused: {error:?}"))?;
    let streams: Vec<&str> = query.sources.iter().map(|source| source.stream.as_str()).collect();
    let wanted: Vec<&str> =
        definition.relation.sources().into_iter().map(|stream| STREAMS[stream].name).collect();
    if streams == wanted { Ok(Arc::new(query)) } else { Err(format!("sources {streams:?}, not {wanted:?}")) }
}

/// What an epoch was given.
struct Given {
    batches: Vec<SourceBatch>,
    watermark: Micros,
    finished: bool,
    cursor: Option<CloseCursor>,
    max_rows: usize,
    checkpoint: bool,
}

impl Given {
    fn apply(&self, engine: &mut Engine) -> Output {
        let input = Input {
            batches: &self.batches,
            deletes: &[],
            watermark: self.watermark,
            finished: self.finished,
            cursor: self.cursor.clone(),
            max_rows: self.max_rows,
            checkpoint: self.checkpoint,
        };
        engine.apply(&input).unwrap()
    }
}

/// An engine on its way through a course.
pub struct Drive<'c> {
    query: Arc<FeatureQuery>,
    emission: Emission,
    course: &'c Course,
    seed: u64,
    /// The stream of each source.
    sources: Vec<usize>,
    max_rows: usize,
    engine: Engine,
    threads: usize,
    stored: State,
    stored_at: Micros,
    /// The epochs since, and what they did.
    since: Vec<(Given, Output)>,
    partitions: Vec<Vec<PartitionTime>>,
    watermark: Micros,
    cursor: Option<CloseCursor>,
    step: u64,
}

impl<'c> Drive<'c> {
    pub fn new(definition: &Definition, query: Arc<FeatureQuery>, course: &'c Course, seed: u64) -> Self {
        let emission =
            Emission { allowed_lateness: Span(definition.lateness), on_update: definition.on_update };
        let (stored, mut dice) = (State::default(), Dice::of(seed, u64::MAX));
        let threads = dice.below(WORKERS.len());
        let engine = resume(&query, emission, threads, &stored, Micros::MIN);
        Self {
            query,
            emission,
            course,
            seed,
            sources: definition.relation.sources(),
            max_rows: *dice.pick(&[1, 2, 5, usize::MAX, usize::MAX]),
            engine,
            threads,
            stored,
            stored_at: Micros::MIN,
            since: Vec::new(),
            partitions: course
                .logs
                .iter()
                .map(|l| vec![PartitionTime::default(); l.partitions.len()])
                .collect(),
            watermark: Micros::MIN,
            cursor: None,
            step: 0,
        }
    }

    /// An epoch, and those in which its close goes on.
    pub fn epoch(&mut self, number: usize, coverage: &mut Coverage) -> Vec<Output> {
        let watermark = self.moved(number);
        let mut outputs = vec![self.step(Some(number), watermark, coverage)];
        while self.cursor.is_some() {
            coverage.add_of("a close over several epochs");
            outputs.push(self.step(None, self.watermark, coverage));
        }
        outputs
    }

    /// Everything is closed: nothing may be left.
    pub fn end(mut self, coverage: &mut Coverage) {
        while !self.since.is_empty() {
            self.step(None, self.watermark, coverage);
        }
        assert!(self.stored.is_empty(), "state is left in the store");
        assert_eq!(self.engine.open(), (0, 0), "state is left in memory");
    }

    fn step(&mut self, number: Option<usize>, watermark: Micros, coverage: &mut Coverage) -> Output {
        let mut dice = Dice::of(self.seed, self.step);
        self.step += 1;
        if dice.chance(25) {
            self.restart(&mut dice, coverage);
        }
        let chunk = *dice.pick(&[1, 3, 8, usize::MAX, usize::MAX]);
        let checkpoint = dice.chance(40);
        let given = Given {
            batches: number.map_or_else(Vec::new, |number| self.batches(number, chunk)),
            watermark,
            finished: number.is_some_and(|number| self.course.epochs[number].finished),
            cursor: self.cursor.take(),
            max_rows: self.max_rows,
            checkpoint,
        };
        let output = given.apply(&mut self.engine);
        check(&output);
        (self.watermark, self.cursor) = (output.watermark, output.cursor.clone());
        if !checkpoint {
            assert!(output.state.is_empty(), "state outside of a checkpoint");
            // What a finish moved is in the journalled watermark.
            let given = Given { watermark: output.watermark, finished: false, ..given };
            self.since.push((given, output.clone()));
            return output;
        }
        coverage.add("checkpoint");
        self.stored.apply(&output.state);
        self.stored_at = output.watermark;
        self.since.clear();
        if dice.chance(50) {
            let before = self.engine.memory();
            let bytes = *dice.pick(&[0, 0, before.bytes / 3, usize::MAX]);
            self.engine.evict(bytes).unwrap();
            if self.engine.memory().bytes < before.bytes {
                coverage.add_of("state let go of");
            }
        }
        output
    }

    fn restart(&mut self, dice: &mut Dice, coverage: &mut Coverage) {
        let threads = dice.below(WORKERS.len());
        coverage.add("restart");
        coverage.add(["on 1 thread", "on 2 threads", "on 3 threads", "on 4 threads"][threads]);
        if threads != self.threads {
            coverage.add_of("restart on another number of threads");
        }
        self.threads = threads;
        self.engine = resume(&self.query, self.emission, threads, &self.stored, self.stored_at);
        for (given, output) in &self.since {
            coverage.add("epoch applied again");
            assert_same(&given.apply(&mut self.engine), output);
        }
    }

    /// The watermark that the entries of an epoch bring.
    fn moved(&mut self, number: usize) -> Micros {
        for (stream, partitions) in self.partitions.iter_mut().enumerate() {
            for (at, partition) in partitions.iter_mut().enumerate() {
                for (_, entry) in self.course.read(stream, at, number) {
                    partition.idle = matches!(entry.what, What::Idle);
                    let time = entry.time(&STREAMS[stream]).map(Micros);
                    partition.max_event_time = partition.max_event_time.max(time);
                }
            }
        }
        let of = |stream: &usize| {
            watermark::of_source(&self.partitions[*stream], Span(self.course.logs[*stream].delay))
        };
        let of_sources: Vec<Option<Micros>> = self.sources.iter().map(of).collect();
        watermark::of_pipeline(self.watermark, &of_sources, self.course.epochs[number].clock.map(Micros))
    }

    /// The events of an epoch, at most `chunk` in a batch.
    fn batches(&self, number: usize, chunk: usize) -> Vec<SourceBatch> {
        let mut batches = Vec::new();
        for (source, stream) in (0..).zip(&self.sources) {
            for partition in 0..self.course.logs[*stream].partitions.len() {
                let events: Vec<(i64, &Vec<Value>)> = self
                    .course
                    .read(*stream, partition, number)
                    .filter_map(|(offset, entry)| match &entry.what {
                        What::Event(cells) => Some((offset, cells)),
                        What::Heartbeat(_) | What::Idle => None,
                    })
                    .collect();
                for part in events.chunks(chunk) {
                    let offsets = part.iter().map(|(offset, _)| *offset).collect();
                    let columns = &self.query.sources[usize::from(source)].columns;
                    let rows = rows(&STREAMS[*stream], part, columns);
                    batches.push(SourceBatch { source, partition: partition as u32, offsets, rows });
                }
            }
        }
        batches
    }
}

fn resume(
    query: &Arc<FeatureQuery>,
    emission: Emission,
    threads: usize,
    stored: &State,
    at: Micros,
) -> Engine {
    Engine::resume(&WORKERS[threads], Arc::clone(query), emission, at, Arc::new(stored.clone())).unwrap()
}

/// What holds of every epoch.
fn check(output: &Output) {
    let order = |rows: &millpond_engine::epoch::Emitted| {
        rows.event_times.iter().copied().zip(rows.keys.iter().cloned()).collect::<Vec<_>>()
    };
    let order: Vec<_> = output.rows.iter().flat_map(order).collect();
    assert!(order.windows(2).all(|two| two[0] < two[1]), "rows come in the order of time and key, each once");
    let sum = |of: fn(&millpond_engine::epoch::Counts) -> u64| output.counts.iter().map(of).sum::<u64>();
    assert_eq!(sum(|counts| counts.late), output.late.len() as u64);
    assert_eq!(sum(|counts| counts.quarantined), output.rejected.len() as u64);
}

/// All that leaves the engine is the same when an epoch is applied again.
fn assert_same(again: &Output, once: &Output) {
    assert_eq!(again.counts, once.counts, "applied again");
    assert_eq!(again.rejected, once.rejected, "applied again");
    assert_eq!(again.late, once.late, "applied again");
    assert_eq!((again.watermark, again.closed_to), (once.watermark, once.closed_to), "applied again");
    assert_eq!(again.cursor, once.cursor, "applied again");
    assert_eq!((again.nulled, again.lost), (once.nulled, once.lost), "applied again");
    assert_eq!(emitted(&[], again), emitted(&[], once), "applied again");
}

/// The rows of an output; `key` are the columns of the key.
pub fn emitted(key: &[usize], output: &Output) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in &output.rows {
        for row in 0..batch.keys.len() {
            let value = |at: usize| value(batch.features.column(at), row);
            let is_there = batch.ops[row] == Op::Upsert;
            rows.push(Row {
                time: batch.event_times[row].0,
                key: key.iter().map(|at| value(*at)).collect(),
                first: batch.first[row],
                values: is_there.then(|| (0..batch.features.num_columns()).map(value).collect()),
            });
        }
    }
    rows
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int32 => Value::Int(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Value::text(column.as_string::<i32>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Value::Time(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Dictionary(..) => {
            let symbols = column.as_dictionary::<Int32Type>();
            value(symbols.values(), symbols.keys().value(row) as usize)
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            Value::List((0..items.len()).map(|item| value(&items, item)).collect())
        }
        other => panic!("a feature of type {other}"),
    }
}

fn schema(stream: &Stream) -> SchemaRef {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let field = |(name, kind, is_int): &(&str, Kind, bool)| {
        let data_type = match kind {
            Kind::Bool => DataType::Boolean,
            Kind::Int if *is_int => DataType::Int32,
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Text => DataType::Utf8,
            Kind::Symbol => dictionary.clone(),
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::List => unreachable!(),
        };
        Field::new(*name, data_type, *kind != Kind::Time)
    };
    Arc::new(Schema::new(stream.columns.iter().map(field).collect::<Vec<_>>()))
}

/// Events as a batch of some of their columns.
fn rows(stream: &Stream, events: &[(i64, &Vec<Value>)], columns: &[usize]) -> RecordBatch {
    let schema = schema(stream);
    let column = |at: &usize| -> ArrayRef {
        let cells = || events.iter().map(|(_, cells)| &cells[*at]);
        let texts =
            || cells().map(|cell| if let Value::Text(text) = cell { Some(text.as_str()) } else { None });
        let ints = || cells().map(|cell| if let Value::Int(int) = cell { Some(*int) } else { None });
        match schema.field(*at).data_type() {
            DataType::Boolean => {
                let cells = cells().map(|cell| if let Value::Bool(is) = cell { Some(*is) } else { None });
                Arc::new(cells.collect::<BooleanArray>())
            }
            DataType::Int32 => Arc::new(ints().map(|int| int.map(|int| int as i32)).collect::<Int32Array>()),
            DataType::Int64 => Arc::new(ints().collect::<Int64Array>()),
            DataType::Float64 => {
                let cells = cells().map(|cell| if cell.is_null() { None } else { cell.as_float() });
                Arc::new(cells.collect::<Float64Array>())
            }
            DataType::Utf8 => Arc::new(texts().collect::<StringArray>()),
            DataType::Dictionary(..) => Arc::new(texts().collect::<DictionaryArray<Int32Type>>()),
            _ => {
                let cells = cells().map(|cell| if let Value::Time(time) = cell { Some(*time) } else { None });
                Arc::new(cells.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
        }
    };
    let of = Arc::new(schema.project(columns).unwrap());
    RecordBatch::try_new(of, columns.iter().map(column).collect()).unwrap()
}
