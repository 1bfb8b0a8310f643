//! The merge against the rule, written down naively: every label looks at every row.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use millpond_engine::time::Span;
use proptest::prelude::*;

use super::super::merge::{AT, FROM, KEY, ROW, label_schema, merge, row_schema};
use super::super::sort::Workspace;

#[derive(Debug, Clone)]
struct Row {
    key: u8,
    event_time: i64,
    available_at: i64,
    commit: i64,
    delete: bool,
    value: Option<i64>,
}

fn features() -> Schema {
    Schema::new(vec![Field::new("value", DataType::Int64, true), Field::new("payload", DataType::Utf8, true)])
}

fn naive(labels: &[(u8, i64)], rows: &[Row], ttl: Option<i64>) -> Vec<Option<i64>> {
    let pick = |key: u8, t: i64| {
        let mut best: Option<&Row> = None;
        for row in rows.iter().filter(|r| r.key == key && r.available_at <= t && r.event_time <= t) {
            let newer = |b: &Row| (row.event_time, row.commit) > (b.event_time, b.commit);
            if best.is_none_or(newer) {
                best = Some(row);
            }
        }
        let best = best.filter(|b| !b.delete && ttl.is_none_or(|ttl| t - b.event_time <= ttl));
        best.and_then(|b| b.value)
    };
    labels.iter().map(|(key, t)| pick(*key, *t)).collect()
}

/// In small batches, so that keys span several.
fn stream(schema: SchemaRef, columns: Vec<ArrayRef>, size: usize) -> SendableRecordBatchStream {
    let all = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let starts = (0..all.num_rows()).step_by(size);
    let batches: Vec<_> = starts.map(|at| Ok(all.slice(at, size.min(all.num_rows() - at)))).collect();
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches)))
}

fn longs(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

async fn joined(
    labels: &[(u8, i64)],
    rows: &[Row],
    ttl: Option<i64>,
    size: usize,
    payload: usize,
    memory: usize,
    spill: &Path,
) -> Vec<Option<i64>> {
    let workspace = Workspace::new(memory, spill).unwrap();
    let label_columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_iter_values(labels.iter().map(|(key, _)| [*key]))),
        longs(labels.iter().map(|(_, t)| *t)),
        longs(0..labels.len() as i64),
    ];
    let row_columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|r| [r.key]))),
        longs(rows.iter().map(|r| r.event_time.max(r.available_at))),
        longs(rows.iter().map(|r| r.event_time)),
        longs(rows.iter().map(|r| r.available_at)),
        longs(rows.iter().map(|r| r.commit)),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.delete)))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.value))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| format!("{:payload$}", r.commit)))),
    ];
    let labels = workspace.sorted(stream(label_schema(), label_columns, size), &[KEY, AT]).unwrap();
    let rows = workspace.sorted(stream(row_schema(&features()), row_columns, size), &[KEY, FROM]).unwrap();
    let out = workspace.sorted(merge(labels, rows, &features(), ttl.map(Span)), &[ROW]).unwrap();
    let schema = out.schema();
    let batches: Vec<RecordBatch> = out.try_collect().await.unwrap();
    let out = concat_batches(&schema, &batches).unwrap();
    let places: Vec<i64> = out.column(0).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(places, (0..places.len() as i64).collect::<Vec<_>>(), "one row per label, in their order");
    out.column(1).as_primitive::<Int64Type>().iter().collect()
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0..4_u8, -5..40_i64, -5..40_i64, any::<bool>(), prop::option::of(0..100_i64));
    prop::collection::vec(row, 0..120).prop_map(|rows| {
        let row = |(at, (key, event_time, available_at, delete, value)): (usize, _)| Row {
            key,
            event_time,
            available_at,
            commit: at as i64,
            delete,
            value,
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

proptest! {
    #[test]
    fn the_merge_follows_the_rule(
        rows in rows(),
        labels in prop::collection::vec((0..5_u8, -6..45_i64), 0..60),
        ttl in prop::option::of(0..20_i64),
        size in 1..20_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let out = runtime.block_on(joined(&labels, &rows, ttl, size, 0, 64 << 20, folder.path()));
        prop_assert_eq!(out, naive(&labels, &rows, ttl));
    }
}

/// Forty megabytes through eight: what does not fit is on disk, and the result is the same.
#[tokio::test]
async fn what_does_not_fit_in_memory_is_joined_all_the_same() {
    let n = 150_000_i64;
    let scatter = |i: i64| (i * 7919) % n;
    let rows: Vec<Row> = (0..n)
        .map(|i| Row {
            key: (scatter(i) % 200) as u8,
            event_time: scatter(i),
            available_at: scatter(i) + 3,
            commit: i,
            delete: i % 50 == 0,
            value: Some(i),
        })
        .collect();
    let labels: Vec<(u8, i64)> = (0..2_000).map(|i| ((i % 200) as u8, (i * 131) % n)).collect();
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (8 << 20, 1 << 30);
    let spilled = joined(&labels, &rows, Some(10_000), 4096, 200, small, folder.path()).await;
    let in_memory = joined(&labels, &rows, Some(10_000), 4096, 200, large, folder.path()).await;
    assert!(spilled.iter().flatten().count() > 1_000);
    assert_eq!(spilled, in_memory);
    // Without a place to spill to the small share fails: so it did spill.
    let (labels, rows) = (labels.clone(), rows.clone());
    let nowhere = tokio::spawn(async move {
        joined(&labels, &rows, None, 4096, 200, small, Path::new("/dev/null/nowhere")).await
    });
    assert!(nowhere.await.is_err());
}
