//! Training data: a view's features joined, point in time, to label events.
//!
//! For a label at `t` a feature has the value that serving would have given at `t`: among the key's
//! rows with `_available_at <= t` and `_event_time <= t` the greatest (`_event_time`, `_commit`), then
//! the TTL; a `delete` means "no value". The rule is [`millpond_engine::pick`], which serving follows
//! too (invariant 7), so both agree bit for bit.
//!
//! ```text
//! labels ─▶ spool ─┬─▶ (key, t, place) ─ sort ─┐
//!                  │   history ─ sort ─────────┴▶ merge ─ sort by place ─▶ spool     (per group)
//!                  └──────────────────────────────────────────▶ side by side ─▶ result
//! ```
//!
//! Every sort spills and every result of a step lies on disk, so memory is bounded whatever the size
//! of labels and history.

mod assemble;
mod error;
mod join;
mod labels;
mod merge;
pub mod sort;
mod spine;
mod spool;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use millpond_engine::time::Micros;

use self::assemble::{From, Output};
use self::join::{Join, Side};
use self::sort::Workspace;
use self::spool::Spool;
use crate::catalog::history::EVENT_TIME;
use crate::catalog::{FeatureView, ViewFeature};
use crate::offline::{self, Group, Offline, Range};
use crate::store::ReadView;

pub use error::Error;

/// How labels are joined.
#[derive(Debug, Clone, Default)]
pub struct TrainingRequest {
    /// The labels' column with the instant of each: a timestamp, a date, or RFC 3339 text.
    pub event_time: String,
    /// Rows that became available later are not seen, whatever the label's time.
    pub as_of: Option<Micros>,
    /// Put the serving keys first.
    pub primary_key: bool,
    /// Put the labels' event time after them.
    pub include_event_time: bool,
}

/// Which rows of the left-most group are joined.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchRequest {
    /// Their event time.
    pub range: Range,
    /// Put the serving keys first.
    pub primary_key: bool,
    /// Put the event time after them, under the group's name for it.
    pub event_time: bool,
}

/// Joins a view's features to labels: one row per label, in the labels' order:
/// `[keys] [event time] features… labels…`.
///
/// The view's label columns are taken from the labels, or are features of the view; a view without
/// label columns passes on all other columns of the labels. A label with a null key or time, or from
/// before the first row of its key, has null features.
pub async fn training_data(
    offline: &Arc<Offline>,
    view: &FeatureView,
    labels: SendableRecordBatchStream,
    request: TrainingRequest,
) -> Result<SendableRecordBatchStream, Error> {
    let (view, run) = (view.clone(), Arc::clone(offline));
    let made = offline.on_threads(async move { train(&run, &view, labels, request).await });
    Ok(offline.carry(made.await?)?)
}

/// A view's features for the rows of its left-most group in a range of event time, as they were when
/// each row became visible, in the order of (event time, key): `[keys] [event time] features…`.
/// A row counts in its newest revision; deleted rows do not.
pub async fn batch_data(
    offline: &Arc<Offline>,
    view: &FeatureView,
    request: BatchRequest,
) -> Result<SendableRecordBatchStream, Error> {
    let (view, run) = (view.clone(), Arc::clone(offline));
    let made = offline.on_threads(async move { batch(&run, &view, request).await });
    Ok(offline.carry(made.await?)?)
}

async fn train(
    offline: &Arc<Offline>,
    view: &FeatureView,
    labels: SendableRecordBatchStream,
    request: TrainingRequest,
) -> Result<SendableRecordBatchStream, Error> {
    let schema = labels.schema();
    require(&schema, &request.event_time, "the labels' event time".to_owned())?;
    for group in &view.groups {
        for key in &group.key {
            require(&schema, key, format!("part of the key of {} version {}", group.name, group.version))?;
        }
    }
    let mut outputs = Vec::new();
    let keys = serving_keys(view);
    if request.primary_key {
        outputs.extend(keys.iter().filter(|key| !is_feature(view, key)).map(|key| label(key)));
    }
    let known = outputs.iter().any(|output| output.name == request.event_time);
    if request.include_event_time && !known && !is_feature(view, &request.event_time) {
        outputs.push(label(&request.event_time));
    }
    let groups = groups(offline, view)?;
    let sides = sides(&groups, view);
    // What is both a label column and a feature is taken from the labels, as y.
    let in_labels = |name: &String| view.labels.contains(name) && schema.index_of(name).is_ok();
    outputs.extend(features(view, None).into_iter().filter(|output| !in_labels(&output.name)));
    for name in &view.labels {
        if schema.index_of(name).is_ok() {
            outputs.push(label(name));
        } else if !view.features.iter().any(|f| f.name == *name) {
            require(&schema, name, "a label column of the view".to_owned())?;
        }
    }
    if view.labels.is_empty() {
        let taken = |name: &String| {
            keys.contains(name) || *name == request.event_time || outputs.iter().any(|o| o.name == *name)
        };
        let others: Vec<String> =
            schema.fields().iter().map(|f| f.name().clone()).filter(|n| !taken(n)).collect();
        outputs.extend(others.iter().map(|name| label(name)));
    }
    let work = Work { offline, workspace: offline.workspace()?, view: offline.store().view() };
    let (spool, span) = work.spool(labels, &request.event_time).await?;
    work.join(&spool, &request.event_time, span, request.as_of, &sides, &outputs).await
}

async fn batch(
    offline: &Arc<Offline>,
    view: &FeatureView,
    request: BatchRequest,
) -> Result<SendableRecordBatchStream, Error> {
    let groups = groups(offline, view)?;
    let Some((left, at)) = groups.first().zip(view.groups.first()) else {
        return Err(Error::Query(DataFusionError::Plan("a view without feature groups".to_owned())));
    };
    let work = Work { offline, workspace: offline.workspace()?, view: offline.store().view() };
    let history = Arc::clone(&left.history);
    let rows = left.scan(work.workspace.session(), work.view.clone(), history, request.range).await?;
    let rows = work.workspace.sorted(spine::keyed(rows, left.def.primary_key.clone()), &spine::REVISIONS)?;
    let rows = work.workspace.sorted(spine::newest(rows), &spine::ORDER)?;
    let (spool, span) = work.spool(rows, merge::AT).await?;

    // Entries carry the left-most group's columns under the names that the view's keys have.
    let column = |name: &String| {
        let renamed = at.key.iter().position(|key| key == name).and_then(|i| left.def.primary_key.get(i));
        renamed.unwrap_or(name).clone()
    };
    let mut sides = sides(&groups, view);
    for side in sides.iter_mut().skip(1) {
        side.key = side.key.iter().map(column).collect();
        for key in &side.key {
            require(
                left.history.as_ref(),
                key,
                format!("the key of {}: not in the left-most group", side.group.label()),
            )?;
        }
    }
    let mut outputs = Vec::new();
    if request.primary_key {
        let keys = serving_keys(view);
        let keys = keys.iter().filter(|key| !is_feature(view, key));
        outputs.extend(keys.map(|key| Output { name: key.clone(), from: From::Label(column(key)) }));
    }
    let known = outputs.iter().any(|output| output.name == left.def.event_time);
    if request.event_time && !known && !is_feature(view, &left.def.event_time) {
        outputs.push(Output { name: left.def.event_time.clone(), from: From::Label(EVENT_TIME.to_owned()) });
    }
    outputs.extend(features(view, Some(0)));
    let joined: Vec<Side<'_>> = sides.into_iter().skip(1).collect();
    for output in &mut outputs {
        if let From::Side(side, _) = &mut output.from {
            *side -= 1;
        }
    }
    work.join(&spool, merge::AT, span, None, &joined, &outputs).await
}

/// One request's workspace and the state of the store that it reads.
struct Work<'a> {
    offline: &'a Arc<Offline>,
    workspace: Workspace,
    view: ReadView,
}

impl Work<'_> {
    /// Puts labels down, and finds the least and the greatest of their instants.
    async fn spool(
        &self,
        labels: SendableRecordBatchStream,
        time: &str,
    ) -> Result<(Spool, Option<(i64, i64)>), Error> {
        let mut span: Option<(i64, i64)> = None;
        let spool = Spool::write(self.offline.spill(), labels, |batch| {
            for t in instants(batch, time).map_err(|e| DataFusionError::External(Box::new(e)))? {
                span = Some(span.map_or((t, t), |(least, greatest)| (least.min(t), greatest.max(t))));
            }
            Ok(())
        });
        Ok((spool.await.map_err(unwrapped)?, span))
    }

    /// Joins side by side; one side at a time is in work.
    async fn join(
        &self,
        labels: &Spool,
        time: &str,
        span: Option<(i64, i64)>,
        as_of: Option<Micros>,
        sides: &[Side<'_>],
        outputs: &[Output],
    ) -> Result<SendableRecordBatchStream, Error> {
        let (workspace, spill) = (&self.workspace, self.offline.spill());
        let join = Join { workspace, spill, view: self.view.clone(), labels, time, span, as_of };
        let mut spools = Vec::with_capacity(sides.len());
        for side in sides {
            spools.push(join.features(side).await.map_err(|e| match e {
                Error::Query(e) => unwrapped(e),
                other => other,
            })?);
        }
        Ok(assemble::assemble(labels, &spools, outputs)?)
    }
}

/// An error of ours that came through a stream of DataFusion's.
fn unwrapped(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::Query(DataFusionError::External(other)),
        },
        other => Error::Query(other),
    }
}

fn instants(batch: &RecordBatch, time: &str) -> Result<Vec<i64>, Error> {
    let column =
        batch.column_by_name(time).ok_or_else(|| missing(&batch.schema(), time, "the labels' event time"))?;
    let times = labels::micros(column)?
        .ok_or_else(|| Error::TimeType { column: time.to_owned(), found: column.data_type().clone() })?;
    Ok(times.iter().flatten().collect())
}

fn groups(offline: &Offline, view: &FeatureView) -> Result<Vec<Arc<Group>>, offline::Error> {
    view.groups.iter().map(|group| offline.group(group.id)).collect()
}

/// The columns that each group gives to the view.
fn sides<'a>(groups: &'a [Arc<Group>], view: &FeatureView) -> Vec<Side<'a>> {
    let of = |at: usize| {
        let mut columns: Vec<String> = Vec::new();
        for feature in view.features.iter().filter(|f| f.group == at) {
            if !columns.contains(&feature.column) {
                columns.push(feature.column.clone());
            }
        }
        columns
    };
    groups
        .iter()
        .zip(&view.groups)
        .enumerate()
        .map(|(at, (group, joined))| Side { group, columns: of(at), key: joined.key.clone() })
        .collect()
}

/// The view's features; those of side `own` are the labels' own columns.
fn features(view: &FeatureView, own: Option<usize>) -> Vec<Output> {
    let from = |feature: &ViewFeature| {
        if Some(feature.group) == own {
            From::Label(feature.column.clone())
        } else {
            From::Side(feature.group, feature.column.clone())
        }
    };
    view.features.iter().map(|feature| Output { name: feature.name.clone(), from: from(feature) }).collect()
}

/// The names under which entries carry keys, each once, in the order of their first mention.
fn serving_keys(view: &FeatureView) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for key in view.groups.iter().flat_map(|group| &group.key) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

/// True for a key that the view serves as a feature too: it is not put out twice.
fn is_feature(view: &FeatureView, name: &str) -> bool {
    view.features.iter().any(|feature| feature.name == name)
}

fn label(name: &str) -> Output {
    Output { name: name.to_owned(), from: From::Label(name.to_owned()) }
}

fn require(schema: &Schema, column: &str, purpose: String) -> Result<(), Error> {
    if schema.index_of(column).is_ok() { Ok(()) } else { Err(missing(schema, column, &purpose)) }
}

fn missing(schema: &Schema, column: &str, purpose: &str) -> Error {
    let found: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    Error::Missing { column: column.to_owned(), purpose: purpose.to_owned(), found: found.join(", ") }
}

/// Batches from a file or a body, as [`training_data`] wants them.
pub fn rows(
    schema: SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
) -> SendableRecordBatchStream {
    let batches = futures::stream::iter(batches.map(|batch| batch.map_err(Into::into)));
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

#[cfg(test)]
mod tests;
