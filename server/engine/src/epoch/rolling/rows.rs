//! What is in the rows that come out: the plain columns of the last record up to their instant, and the
//! functions over the frames that end there.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray, UInt32Array, new_null_array};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::DataFusionError;

use super::super::intake::cast;
use super::super::{Emitted, Error, Op, Output, stage};
use super::Rolling;
use super::due::{Due, Kind};
use super::frames::{Frames, Gathered, compute};
use super::plan::{Call, Plain, Plan};
use super::tally::Kernel;
use crate::key;
use crate::rolling::{Entry, Gather, Places};
use crate::time::Micros;

/// Records that are gathered at a time, where the frame of a row is not longer.
const RECORDS: usize = 1 << 18;

impl Rolling {
    /// Lets rows out, those of several reasons once.
    pub(super) fn emit(&self, mut due: Vec<Due>, output: &mut Output) -> Result<(), Error> {
        if due.is_empty() {
            return Ok(());
        }
        // By key, so that records in several frames are gathered once.
        due.sort_unstable_by_key(|row| (row.key, row.at, row.kind));
        due.dedup_by_key(|row| (row.key, row.at));
        let places = Places::new(&self.slices);
        let mut rest = due.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at_checked(self.fitting(rest)).unwrap_or((rest, &[]));
            self.emit_some(now, &places, output)?;
            rest = later;
        }
        Ok(())
    }

    /// How many of the rows have frames that are gathered at once.
    fn fitting(&self, due: &[Due]) -> usize {
        let mut records = 0;
        let mut last: Option<(u32, usize)> = None;
        let fits = due.iter().take_while(|row| {
            let frame = self.frame(row, self.plan.longest.0);
            let known = last.filter(|(key, _)| *key == row.key).map_or(frame.start, |(_, end)| end);
            records += frame.end.saturating_sub(known.max(frame.start));
            last = Some((row.key, frame.end));
            records <= RECORDS
        });
        fits.count().clamp(1, due.len().max(1))
    }

    /// The records in a frame, as positions among those of the key.
    fn frame(&self, row: &Due, preceding: i64) -> Range<usize> {
        self.keys.get(row.key).map_or(0..0, |key| key.between(row.at.saturating_sub(preceding), row.at))
    }

    /// Lets rows out, which are sorted by (key, instant).
    fn emit_some(&self, due: &[Due], places: &Places<'_>, output: &mut Output) -> Result<(), Error> {
        let plan = &self.plan;
        let keys = due.iter().map(|row| self.keys.bytes(row.key));
        let keys = key::decode(keys, &plan.key_schema).map_err(|e| Error::Contract(e.to_string()))?;
        let mut columns = self.plain(due, &keys, places)?;
        for frame in &plan.frames {
            let of = due.iter().map(|row| (row.key, self.frame(row, frame.preceding.0))).collect();
            let frames = Frames { keys: &self.keys, of };
            let is_general = |call: &Call| call.kernel == Kernel::General;
            let mut gathered =
                frame.calls.iter().any(is_general).then(|| Gathered::new(plan, &frames, places));
            for call in &frame.calls {
                columns.push(compute(plan, call, &frames, gathered.as_mut(), &mut output.nulled)?);
            }
        }
        let computed = stage::batch(&stage::nullable(&plan.shape.schema), columns, due.len())?;
        let (rows, left) = stage::on_groups(&plan.query.after, computed, &mut output.nulled)?;
        let schema = &plan.query.output;
        let columns = rows.columns().iter().zip(schema.fields());
        let columns = columns.map(|(c, field)| cast(c, field.data_type())).collect::<Result<Vec<_>, _>>()?;
        let mut features = stage::batch(schema, columns, rows.num_rows())?;

        // Places of the rows that come out: those that are left, then the deletes.
        let mut order: Vec<(Due, Op, u32)> = Vec::with_capacity(due.len());
        let of = |row: &u32| due.get(*row as usize).copied();
        order.extend(left.iter().filter_map(of).zip(0..).map(|(row, place)| (row, Op::Upsert, place)));
        if left.len() < due.len() {
            let deleted: Vec<u32> = (0..due.len() as u32)
                .filter(|row| left.binary_search(row).is_err())
                .filter(|row| of(row).is_some_and(|due| due.kind != Kind::Close))
                .collect();
            let first = order.len() as u32;
            order.extend(deleted.iter().filter_map(of).zip(first..).map(|(row, at)| (row, Op::Delete, at)));
            let deletes = deletes(plan, &keys, &deleted)?;
            features = arrow::compute::concat_batches(schema, [&features, &deletes])
                .map_err(DataFusionError::from)?;
        }
        if order.is_empty() {
            return Ok(());
        }
        order.sort_unstable_by(|(a, ..), (b, ..)| {
            a.at.cmp(&b.at).then_with(|| self.keys.bytes(a.key).cmp(self.keys.bytes(b.key)))
        });
        let taken = UInt32Array::from_iter_values(order.iter().map(|(.., place)| *place));
        output.rows.push(Emitted {
            keys: order.iter().map(|(row, ..)| self.keys.bytes(row.key).to_vec()).collect(),
            event_times: order.iter().map(|(row, ..)| Micros(row.at)).collect(),
            ops: order.iter().map(|(_, op, _)| *op).collect(),
            first: order.iter().map(|(row, ..)| row.kind != Kind::Revision).collect(),
            features: arrow::compute::take_record_batch(&features, &taken).map_err(DataFusionError::from)?,
        });
        Ok(())
    }

    /// The input's columns, of the last record up to each row's instant.
    fn plain(&self, due: &[Due], keys: &[ArrayRef], places: &Places<'_>) -> Result<Vec<ArrayRef>, Error> {
        let plan = &self.plan;
        let mut records = Gather::new(places);
        if plan.plain.iter().any(|plain| matches!(plain, Plain::Kept(_))) {
            for row in due {
                records.push(self.last(row)?);
            }
        }
        let instants = TimestampMicrosecondArray::from_iter_values(due.iter().map(|row| row.at));
        let fields = plan.query.input.schema.fields();
        let column = |(plain, field): (&Plain, &FieldRef)| -> Result<ArrayRef, Error> {
            let wanted = field.data_type();
            let column: ArrayRef = match plain {
                Plain::Unread => return Ok(new_null_array(wanted, due.len())),
                Plain::Time => match wanted {
                    DataType::Timestamp(_, zone) => {
                        Arc::new(instants.clone().with_timezone_opt(zone.clone()))
                    }
                    _ => Arc::new(instants.clone()),
                },
                Plain::Key(key) => match keys.get(*key) {
                    Some(key) => Arc::clone(key),
                    None => return Err(Error::Contract(format!("there is no key column {key}"))),
                },
                Plain::Kept(kept) => {
                    let Some(of) = plan.kept.get(*kept) else {
                        return Err(Error::Contract(format!("column {kept} is not kept")));
                    };
                    records.column(Plan::place(*kept), &of.data_type)?
                }
            };
            Ok(cast(&column, wanted)?)
        };
        plan.plain.iter().zip(fields).map(column).collect()
    }

    /// The last record of a row's key up to its instant.
    fn last(&self, row: &Due) -> Result<Entry, Error> {
        let key = self.keys.get(row.key);
        let last = key.and_then(|key| {
            let after = key.entries.partition_point(|entry| entry.time <= row.at);
            key.entries.get(after.checked_sub(1)?).copied()
        });
        last.ok_or_else(|| Error::Contract(format!("a row at {} without a record", Micros(row.at))))
    }
}

/// Rows with nothing but their key.
fn deletes(plan: &Plan, keys: &[ArrayRef], rows: &[u32]) -> Result<arrow::array::RecordBatch, Error> {
    let taken = UInt32Array::from_iter_values(rows.iter().copied());
    let schema = &plan.query.output;
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        match plan.query.key.iter().position(|k| *k == at).and_then(|k| keys.get(k)) {
            Some(key) => cast(&arrow::compute::take(key, &taken, None)?, field.data_type()),
            None => Ok(new_null_array(field.data_type(), rows.len())),
        }
    });
    stage::batch(schema, columns.collect::<Result<_, _>>()?, rows.len())
}
