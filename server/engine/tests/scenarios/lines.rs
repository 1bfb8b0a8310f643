//! What an epoch did, in the words of a scenario's `then`.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millpond_engine::epoch::{Counts, Op, Output, RecordId};
use millpond_engine::state::StateChange;
use millpond_engine::time::Micros;

use super::parse::written;

/// A line for each row, then for what became of records, time and state. `texts` are the records as they are written.
pub fn described(output: &Output, texts: &BTreeMap<RecordId, String>) -> Vec<String> {
    let mut lines = Vec::new();
    for emitted in &output.rows {
        assert_eq!(emitted.keys.len(), emitted.features.num_rows());
        for row in 0..emitted.features.num_rows() {
            let how = match (emitted.ops[row], emitted.first[row]) {
                (Op::Upsert, true) => "",
                (Op::Upsert, false) => "revised ",
                (Op::Delete, true) => "delete ",
                (Op::Delete, false) => "revised delete ",
            };
            let mut cells = vec![format!("{how}{}", written(emitted.event_times[row].0))];
            cells.extend(emitted.features.columns().iter().map(|c| cell(c, row)));
            lines.push(cells.join(" | "));
        }
    }
    for rejected in &output.rejected {
        let reason = serde_json::to_value(rejected.reason).unwrap();
        lines.push(format!("rejected {} | {}", reason.as_str().unwrap(), texts[&rejected.record]));
    }
    lines.extend(output.late.iter().map(|record| format!("late | {}", texts[record])));
    let sum = |of: fn(&Counts) -> u64| output.counts.iter().map(of).sum::<u64>();
    assert_eq!(sum(|c| c.late) as usize, output.late.len());
    assert_eq!(sum(|c| c.quarantined) as usize, output.rejected.len());
    let (filtered, superseded) = (sum(|c| c.filtered), sum(|c| c.superseded));
    for (word, count) in
        [("filtered", filtered), ("superseded", superseded), ("nulled", output.nulled), ("lost", output.lost)]
    {
        if count > 0 {
            lines.push(format!("{word} {count}"));
        }
    }
    if output.cursor.is_some() {
        lines.push("to be continued".into());
    }
    lines.push(match output.watermark {
        Micros::MIN => "watermark none".into(),
        Micros(at) => format!("watermark {}", written(at)),
    });
    let puts = output.state.iter().filter(|c| matches!(c, StateChange::Put(_))).count();
    lines.push(format!("state {puts} written"));
    lines
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "null".into();
    }
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return written(times.value(row));
    }
    let options = FormatOptions::default();
    ArrayFormatter::try_new(column.as_ref(), &options).unwrap().value(row).to_string()
}
