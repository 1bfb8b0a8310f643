//! Event times of a batch: null, too far ahead, or good. Vectorised, for it sees every event.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use millpond_engine::epoch::Reason;
use millpond_engine::time::Micros;

/// A batch whose event times are all good.
#[derive(Debug)]
pub struct Judged {
    /// The good rows, with the event time not nullable any more.
    pub rows: RecordBatch,
    /// Their greatest event time.
    pub max_event_time: Option<Micros>,
    /// Rows of the batch given that are bad, ascending, and why.
    pub bad: Vec<(usize, Reason)>,
}

/// Judges the event times in column `column` of `batch`: none may be null or later than `limit`.
/// `schema` is the batch's with that column not nullable.
pub fn event_times(
    batch: RecordBatch,
    column: usize,
    limit: Micros,
    schema: &SchemaRef,
) -> Result<Judged, ArrowError> {
    let times =
        batch.columns().get(column).and_then(|c| c.as_any().downcast_ref::<TimestampMicrosecondArray>());
    let Some(times) = times else {
        return Err(ArrowError::SchemaError(format!("column {column} is not an event time")));
    };
    let max = arrow::compute::max(times).map(Micros);
    if times.null_count() == 0 && max.is_none_or(|max| max <= limit) {
        let (_, columns, rows) = batch.into_parts();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
        return Ok(Judged { rows, max_event_time: max, bad: Vec::new() });
    }
    let mut bad = Vec::new();
    let mut max_event_time = None;
    let good = BooleanBuffer::collect_bool(times.len(), |row| {
        let verdict = if times.is_null(row) {
            Some(Reason::NoEventTime)
        } else if times.value(row) > limit.0 {
            Some(Reason::FutureEventTime)
        } else {
            max_event_time = max_event_time.max(Some(Micros(times.value(row))));
            None
        };
        if let Some(reason) = verdict {
            bad.push((row, reason));
        }
        verdict.is_none()
    });
    let kept = filter_record_batch(&batch, &BooleanArray::new(good, None))?;
    let (_, columns, rows) = kept.into_parts();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
    Ok(Judged { rows, max_event_time, bad })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};

    use super::*;

    fn schema(nullable: bool) -> SchemaRef {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("ts", time, nullable)]))
    }

    fn judge(times: &[Option<i64>]) -> Judged {
        let times_array = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
        let n = Int64Array::from_iter_values(0..times.len() as i64);
        let batch = RecordBatch::try_new(schema(true), vec![Arc::new(n), Arc::new(times_array)]).unwrap();
        event_times(batch, 1, Micros(100), &schema(false)).unwrap()
    }

    fn kept(judged: &Judged) -> Vec<i64> {
        judged.rows.column(0).as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn good_rows_pass_whole() {
        let judged = judge(&[Some(5), Some(100), Some(-7)]);
        assert_eq!(kept(&judged), [0, 1, 2]);
        assert_eq!(judged.max_event_time, Some(Micros(100)));
        assert!(judged.bad.is_empty());
        assert!(!judged.rows.schema().field(1).is_nullable());
    }

    #[test]
    fn null_and_future_times_are_taken_out_and_move_nothing() {
        let judged = judge(&[Some(5), None, Some(101), Some(7)]);
        assert_eq!(kept(&judged), [0, 3]);
        assert_eq!(judged.max_event_time, Some(Micros(7)));
        assert_eq!(judged.bad, [(1, Reason::NoEventTime), (2, Reason::FutureEventTime)]);
    }

    #[test]
    fn nothing_left_and_nothing_given() {
        assert_eq!(judge(&[None, Some(i64::MAX)]).max_event_time, None);
        let none = judge(&[]);
        assert_eq!((none.max_event_time, none.rows.num_rows()), (None, 0));
    }
}
