//! Runs a definition over records: plan, one epoch, everything closed.

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray, new_null_array};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{Table, plan};
use super::events;
use crate::epoch::{Emission, Engine, Input, Output, SourceBatch};
use crate::state::{StateChange, StateKey, StateRow};
use crate::time::Micros;

/// Records of the test stream with these columns, the others null; user `u` and one second between two
/// records unless given.
pub(super) fn records(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let table = events();
    let rows = columns.first().map_or(1, |(_, column)| column.len());
    let column =
        |name: &str| columns.iter().find(|(given, _)| *given == name).map(|(_, column)| Arc::clone(column));
    let arrays =
        table.schema.fields().iter().map(|field| match (column(field.name()), field.name().as_str()) {
            (Some(column), _) => arrow::compute::cast(&column, field.data_type()).unwrap(),
            (None, "user_id") => Arc::new(arrow::array::StringArray::from(vec!["u"; rows])) as ArrayRef,
            (None, "timestamp") => {
                let seconds = (0..rows as i64).map(|row| row * 1_000_000);
                Arc::new(TimestampMicrosecondArray::from_iter_values(seconds).with_timezone("UTC"))
            }
            (None, _) => new_null_array(field.data_type(), rows),
        });
    RecordBatch::try_new(table.schema.clone(), arrays.collect()).unwrap()
}

/// What one epoch over `rows` gives when everything is closed at its end.
pub(super) fn epoch(sql: &str, table: &Table<'_>, rows: &RecordBatch) -> Output {
    let query = Arc::new(plan(sql, std::slice::from_ref(table)).unwrap_or_else(|e| panic!("{sql}\n{e:?}")));
    let rows = rows.project(&query.sources[0].columns).unwrap();
    let offsets = (0..rows.num_rows() as i64).collect();
    let batch = SourceBatch { source: 0, partition: 0, offsets, rows };
    let mut engine = Engine::restore(query, Emission::default(), Micros::MIN, std::iter::empty()).unwrap();
    let input = Input {
        batches: &[batch],
        deletes: &[],
        watermark: Micros::MIN,
        finished: true,
        cursor: None,
        max_rows: 10_000,
        checkpoint: true,
    };
    engine.apply(&input).unwrap()
}

/// The features as text, a line per row in the order of window and key.
pub(super) fn features(output: &Output) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::new().with_null("NULL");
    let mut lines = Vec::new();
    for emitted in &output.rows {
        let columns: Vec<_> = emitted
            .features
            .columns()
            .iter()
            .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..emitted.features.num_rows() {
            lines.push(
                columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | "),
            );
        }
    }
    lines
}

/// The select list `list` over one window with `rows`, grouped by nothing but the window.
pub(super) fn select(list: &str, rows: &RecordBatch) -> Output {
    let sql = format!(
        "SELECT {list} FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '1' DAY) GROUP BY window_end"
    );
    epoch(&sql, &events(), rows)
}

/// The same records in one epoch, and one epoch for each with the engine restored from its saved state in
/// between: what comes out.
pub(super) fn at_once_and_one_by_one(sql: &str, rows: &RecordBatch) -> (Vec<String>, Vec<String>) {
    let table = events();
    let query = Arc::new(plan(sql, std::slice::from_ref(&table)).unwrap());
    let rows_read = rows.project(&query.sources[0].columns).unwrap();
    let mut saved: BTreeMap<StateKey, StateRow> = BTreeMap::new();
    let mut lines = Vec::new();
    for row in 0..rows_read.num_rows() {
        let state = saved.values().cloned().collect::<Vec<_>>();
        let mut engine =
            Engine::restore(query.clone(), Emission::default(), Micros::MIN, state.into_iter()).unwrap();
        let batch =
            SourceBatch { source: 0, partition: 0, offsets: vec![row as i64], rows: rows_read.slice(row, 1) };
        let finished = row + 1 == rows_read.num_rows();
        let input = Input {
            batches: &[batch],
            deletes: &[],
            watermark: Micros::MIN,
            finished,
            cursor: None,
            max_rows: 10_000,
            checkpoint: true,
        };
        let output = engine.apply(&input).unwrap();
        for change in &output.state {
            if let StateChange::Put(put) = change {
                saved.insert(put.key.clone(), put.clone());
            }
        }
        lines.extend(features(&output));
    }
    (features(&epoch(sql, &table, rows)), lines)
}
