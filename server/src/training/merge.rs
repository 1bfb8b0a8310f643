//! The point-in-time join of one group, as a merge of two sorted streams.
//!
//! Labels come sorted by (key, t), rows by (key, the instant from which they are visible). Going
//! through a key once, in time, the best row so far ([`Stamp::order`]) is the pick for each label:
//! constant memory per key, no matter how long its history. The rule itself is the engine's
//! ([`millpond_engine::pick`]), the one that serving follows.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, new_null_array,
};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use millpond_engine::epoch::Op;
use millpond_engine::pick::{Stamp, Status};
use millpond_engine::time::{Micros, Span};

/// Encoded key, on both sides.
pub const KEY: &str = "__key";
/// The label's instant.
pub const AT: &str = "__at";
/// The label's place among the labels.
pub const ROW: &str = "__row";
/// `max(_event_time, _available_at)` of a row.
pub const FROM: &str = "__from";
/// `_event_time`, `_available_at`, `_commit` of a row as integers, and whether it is a delete.
pub const STAMP: [&str; 4] = ["__event_time", "__available_at", "__commit", "__delete"];

/// Picked rows may lie in this many batches before what was picked is put out: a bound on how much
/// one batch of labels can hold on to.
const SOURCES: usize = 16;

/// The schema of sorted labels.
pub fn label_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(KEY, DataType::Binary, false),
        Field::new(AT, DataType::Int64, false),
        Field::new(ROW, DataType::Int64, false),
    ]))
}

/// The schema of sorted rows with these features.
pub fn row_schema(features: &Schema) -> SchemaRef {
    let [event_time, available_at, commit, delete] = STAMP;
    let mut fields = vec![
        Field::new(KEY, DataType::Binary, false),
        Field::new(FROM, DataType::Int64, false),
        Field::new(event_time, DataType::Int64, false),
        Field::new(available_at, DataType::Int64, false),
        Field::new(commit, DataType::Int64, false),
        Field::new(delete, DataType::Boolean, false),
    ];
    fields.extend(features.fields().iter().map(|f| f.as_ref().clone()));
    Arc::new(Schema::new(fields))
}

/// Joins: one row per label, in the labels' order: [`ROW`], then the features (null where there is no value).
pub fn merge(
    labels: SendableRecordBatchStream,
    rows: SendableRecordBatchStream,
    features: &Schema,
    ttl: Option<Span>,
) -> SendableRecordBatchStream {
    let mut fields = vec![Field::new(ROW, DataType::Int64, false)];
    fields.extend(features.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)));
    let schema = Arc::new(Schema::new(fields));
    let rows = Rows { stream: rows, batch: None, at: 0 };
    let merge =
        Merge { labels, pending: None, rows, ttl, key: None, best: None, schema: Arc::clone(&schema) };
    let joined = futures::stream::try_unfold(merge, |mut merge| async move {
        Ok(merge.next().await?.map(|batch| (batch, merge)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, joined))
}

struct Merge {
    labels: SendableRecordBatchStream,
    /// The batch of labels in work, and the next label in it.
    pending: Option<(Labels, usize)>,
    rows: Rows,
    ttl: Option<Span>,
    /// The key in work, and the best of its rows so far.
    key: Option<Vec<u8>>,
    best: Option<Best>,
    schema: SchemaRef,
}

struct Labels {
    key: BinaryArray,
    at: Int64Array,
    row: Int64Array,
}

#[derive(Clone)]
struct Best {
    stamp: Stamp,
    batch: Arc<Batch>,
    index: usize,
}

impl Merge {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let (labels, from) = match self.pending.take() {
            Some(pending) => pending,
            None => match self.labels.try_next().await? {
                Some(batch) => (Labels::of(&batch)?, 0),
                None => return Ok(None),
            },
        };
        let mut picked = Picked::new();
        let mut index = from;
        while index < labels.at.len() && picked.sources.len() < SOURCES {
            let (key, at) = (labels.key.value(index), Micros(labels.at.value(index)));
            self.advance(key, at).await?;
            let found = self.best.as_ref().filter(|best| best.stamp.status(at, self.ttl) == Status::Found);
            picked.push(found);
            index += 1;
        }
        let row: ArrayRef = Arc::new(labels.row.slice(from, index - from));
        if index < labels.at.len() {
            self.pending = Some((labels, index));
        }
        Ok(Some(picked.finish(row, &self.schema)?))
    }

    /// Takes in the rows of `key` that are visible at `at`.
    async fn advance(&mut self, key: &[u8], at: Micros) -> Result<()> {
        if self.key.as_deref() != Some(key) {
            self.key = Some(key.to_vec());
            self.best = None;
        }
        while let Some((batch, index)) = self.rows.peek().await? {
            match batch.key.value(index).cmp(key) {
                Ordering::Less => {}
                Ordering::Greater => return Ok(()),
                Ordering::Equal => {
                    let stamp = batch.stamp(index);
                    if !stamp.visible(at) {
                        return Ok(());
                    }
                    if self.best.as_ref().is_none_or(|best| stamp.order() > best.stamp.order()) {
                        self.best = Some(Best { stamp, batch: Arc::clone(batch), index });
                    }
                }
            }
            self.rows.at += 1;
        }
        Ok(())
    }
}

/// The history, one batch at a time.
struct Rows {
    stream: SendableRecordBatchStream,
    batch: Option<Arc<Batch>>,
    at: usize,
}

impl Rows {
    /// The row in turn.
    async fn peek(&mut self) -> Result<Option<(&Arc<Batch>, usize)>> {
        while self.batch.as_ref().is_none_or(|batch| self.at >= batch.key.len()) {
            match self.stream.try_next().await? {
                Some(batch) => self.batch = Some(Arc::new(Batch::of(&batch)?)),
                None => return Ok(None),
            }
            self.at = 0;
        }
        Ok(self.batch.as_ref().map(|batch| (batch, self.at)))
    }
}

struct Batch {
    key: BinaryArray,
    event_time: Int64Array,
    available_at: Int64Array,
    commit: Int64Array,
    delete: BooleanArray,
    features: Vec<ArrayRef>,
}

impl Batch {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let [event_time, available_at, commit, delete] = STAMP;
        let integers = |name| column(batch, name).map(|c| c.as_primitive::<Int64Type>().clone());
        Ok(Self {
            key: column(batch, KEY)?.as_binary::<i32>().clone(),
            event_time: integers(event_time)?,
            available_at: integers(available_at)?,
            commit: integers(commit)?,
            delete: column(batch, delete)?.as_boolean().clone(),
            features: batch.columns().iter().skip(2 + STAMP.len()).cloned().collect(),
        })
    }

    fn stamp(&self, index: usize) -> Stamp {
        Stamp {
            event_time: Micros(self.event_time.value(index)),
            available_at: Micros(self.available_at.value(index)),
            commit: self.commit.value(index) as u64,
            op: if self.delete.value(index) { Op::Delete } else { Op::Upsert },
        }
    }
}

impl Labels {
    fn of(batch: &RecordBatch) -> Result<Self> {
        Ok(Self {
            key: column(batch, KEY)?.as_binary::<i32>().clone(),
            at: column(batch, AT)?.as_primitive::<Int64Type>().clone(),
            row: column(batch, ROW)?.as_primitive::<Int64Type>().clone(),
        })
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| DataFusionError::Internal(format!("no column {name}")))
}

/// Picked rows: where each lies. Source 0 is one row of nulls.
struct Picked {
    sources: Vec<Option<Arc<Batch>>>,
    places: Vec<(usize, usize)>,
}

impl Picked {
    fn new() -> Self {
        Self { sources: vec![None], places: Vec::new() }
    }

    fn push(&mut self, best: Option<&Best>) {
        let Some(best) = best else {
            self.places.push((0, 0));
            return;
        };
        // Keys come in order, so the batch is the one used last, or a new one.
        let known =
            self.sources.last().is_some_and(|s| s.as_ref().is_some_and(|b| Arc::ptr_eq(b, &best.batch)));
        if !known {
            self.sources.push(Some(Arc::clone(&best.batch)));
        }
        self.places.push((self.sources.len() - 1, best.index));
    }

    fn finish(&self, row: ArrayRef, schema: &SchemaRef) -> Result<RecordBatch> {
        let mut columns = vec![row];
        for (i, field) in schema.fields().iter().skip(1).enumerate() {
            let nulls = new_null_array(field.data_type(), 1);
            let arrays: Vec<&dyn Array> = self
                .sources
                .iter()
                .map(|source| source.as_ref().and_then(|b| b.features.get(i)).unwrap_or(&nulls).as_ref())
                .collect();
            columns.push(interleave(&arrays, &self.places)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}
