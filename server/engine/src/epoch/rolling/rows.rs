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
use crate::rolling::{Entry, Gather, Places, Records};
use crate::time::Micros;

/// Records that are gathered at a time, where the frame of a row is not longer.
const RECORDS: usize = 1 << 18;

impl Rolling {
    /// Lets rows out, those of several reasons once.
    pub(super) fn emit(&self, mut due: Vec<Due>, output: &mut Output) -> Result<(), Error> {
        if due.is_empty() {
            return Ok(());
        }
        if self.plan.is_gathering() {
            // By key, so that records in several frames are gathered once.
            due.sort_unstable_by_key(|row| (row.key, row.at, row.kind));
            due.dedup_by_key(|row| (row.key, row.at));
        } else {
            super::due::sort(&mut due, &self.keys);
        }
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
        if !self.plan.is_gathering() {
            return due.len().min(RECORDS);
        }
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
        self.keys.records(row.key).between(row.at.saturating_sub(preceding), row.at)
    }

    /// Lets rows out, which are sorted by (key, instant) where records are gathered.
    fn emit_some(&self, due: &[Due], places: &Places<'_>, output: &mut Output) -> Result<(), Error> {
        let plan = &self.plan;
        let mut bytes: Vec<Vec<u8>> = vec![Vec::new(); due.len()];
        let mut frames: Vec<Frames> = plan.frames.iter().map(|f| Frames::new(f, due.len())).collect();
        let is_plain = plan.plain.iter().any(|plain| matches!(plain, Plain::Kept(_)));
        let mut entries: Vec<Option<Entry>> = vec![None; if is_plain { due.len() } else { 0 }];
        // All that is read of a key is read at once, and by key: memory is gone through from front to back.
        for (number, place) in super::by_number(due.iter().map(|row| row.key)) {
            let Some(row) = due.get(place) else { continue };
            let records = self.keys.records(number);
            for frames in &mut frames {
                frames.set(place, row.at, number, &records);
            }
            if let Some(bytes) = bytes.get_mut(place) {
                *bytes = self.keys.bytes(number).to_vec();
            }
            if let Some(entry) = entries.get_mut(place) {
                *entry = Some(last_until(&records, row.at)?);
            }
        }
        let mut last = Gather::new(places);
        entries.into_iter().flatten().for_each(|entry| last.push(entry));
        let keys = key::decode(bytes.iter().map(Vec::as_slice), &plan.key_schema);
        let keys = keys.map_err(|e| Error::Contract(e.to_string()))?;
        let mut columns = self.plain(due, &keys, &last)?;
        for (frame, frames) in plan.frames.iter().zip(&frames) {
            let is_general = |call: &Call| call.kernel == Kernel::General;
            let mut gathered =
                frame.calls.iter().any(is_general).then(|| Gathered::new(plan, &self.keys, frames, places));
            for call in &frame.calls {
                columns.push(compute(plan, call, frames, gathered.as_mut(), &mut output.nulled)?);
            }
        }
        let computed = stage::batch(&stage::nullable(&plan.shape.schema), columns, due.len())?;
        let (rows, left) = stage::on_groups(&plan.query.after, computed, &mut output.nulled)?;
        let schema = &plan.query.output;
        let columns = rows.columns().iter().zip(schema.fields());
        let columns = columns.map(|(c, field)| cast(c, field.data_type())).collect::<Result<Vec<_>, _>>()?;
        let mut features = stage::batch(schema, columns, rows.num_rows())?;

        // Rows that come out, by their place among those due, and among the features: those that are left, then
        // the deletes.
        let mut order: Vec<(usize, Op)> = left.iter().map(|row| (*row as usize, Op::Upsert)).collect();
        let of = |row: usize| due.get(row).copied();
        if left.len() < due.len() {
            let deleted: Vec<u32> = (0..due.len() as u32)
                .filter(|row| left.binary_search(row).is_err())
                .filter(|row| of(*row as usize).is_some_and(|due| due.kind != Kind::Close))
                .collect();
            order.extend(deleted.iter().map(|row| (*row as usize, Op::Delete)));
            let deletes = deletes(plan, &keys, &deleted)?;
            features = arrow::compute::concat_batches(schema, [&features, &deletes])
                .map_err(DataFusionError::from)?;
        }
        if order.is_empty() {
            return Ok(());
        }
        let mut places: Vec<(Due, u32)> = order.iter().filter_map(|(row, _)| of(*row)).zip(0..).collect();
        let by_row = |(a, _): &(Due, u32), (b, _): &(Due, u32)| {
            a.at.cmp(&b.at).then_with(|| self.keys.order(a.key, b.key))
        };
        if !places.is_sorted_by(|one, other| by_row(one, other).is_le()) {
            places.sort_by(by_row);
            let taken = UInt32Array::from_iter_values(places.iter().map(|(_, place)| *place));
            features = arrow::compute::take_record_batch(&features, &taken).map_err(DataFusionError::from)?;
        }
        let out = || places.iter().filter_map(|(due, place)| Some((due, order.get(*place as usize)?)));
        output.rows.push(Emitted {
            event_times: out().map(|(row, _)| Micros(row.at)).collect(),
            ops: out().map(|(_, (_, op))| *op).collect(),
            first: out().map(|(row, _)| row.kind != Kind::Revision).collect(),
            keys: out().filter_map(|(_, (row, _))| bytes.get_mut(*row).map(std::mem::take)).collect(),
            features,
        });
        Ok(())
    }

    /// The input's columns, of the last record up to each row's instant.
    fn plain(&self, due: &[Due], keys: &[ArrayRef], last: &Gather<'_>) -> Result<Vec<ArrayRef>, Error> {
        let plan = &self.plan;
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
                    last.column(Plan::place(*kept), &of.data_type)?
                }
            };
            Ok(cast(&column, wanted)?)
        };
        plan.plain.iter().zip(fields).map(column).collect()
    }
}

/// The last of a key's records up to an instant.
fn last_until(records: &Records<'_>, at: i64) -> Result<Entry, Error> {
    let after = at.checked_add(1).map_or(records.len(), |after| records.before(after));
    let last = after.checked_sub(1).and_then(|record| records.get(record));
    last.ok_or_else(|| Error::Contract(format!("a row at {} without a record", Micros(at))))
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
