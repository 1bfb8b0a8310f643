//! What becomes of a row of the input before it is one of a key's records: its event time, its key, whether it is
//! late, the records that it is made of, and what is kept of it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::TimestampMicrosecondType;

use super::super::evaluate::column;
use super::super::intake::{cast, selection};
use super::super::lanes::Horizon;
use super::super::records::{Rows, Verdicts};
use super::super::{Error, Reason, RecordId};
use super::plan::Plan;
use crate::join::NO_RECORD;
use crate::time::Micros;

impl Plan {
    /// The event time of each row goes where others have the start of its window.
    pub(super) fn date(&self, rows: &mut Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        let time = self.shape.time.column;
        let Some(times) = rows.batch.columns().get(time).cloned() else {
            return Err(Error::Contract(format!("there is no time column {time}")));
        };
        let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(Error::Contract(format!("event times of type {}", times.data_type())));
        };
        if times.null_count() > 0 {
            rows.remove(
                |row| times.is_null(row),
                |at| verdicts.reject(at, Reason::NoEventTime, "the event time is null".into()),
            )?;
            return self.date(rows, verdicts);
        }
        rows.starts = times.values().to_vec();
        Ok(())
    }

    /// Null keys, then lateness.
    pub(super) fn judge(
        &self,
        horizon: Horizon,
        rows: &mut Rows,
        verdicts: &mut Verdicts<'_>,
    ) -> Result<(), Error> {
        let keys = rows.evaluate(verdicts, &|batch| {
            let keys = self.shape.keys.iter().zip(self.key_schema.fields());
            keys.map(|((key, _), field)| cast(&column(key.as_ref(), batch)?, field.data_type())).collect()
        })?;
        let Some(keys) = keys else { return Ok(()) };
        rows.keys = keys;
        for (index, field) in self.key_schema.fields().iter().enumerate() {
            let nulls = rows.keys.get(index).and_then(|k| k.logical_nulls());
            if let Some(nulls) = nulls.filter(|n| n.null_count() > 0) {
                let detail = format!("'{}' is part of the primary key and is null", field.name());
                rows.remove(
                    |row| nulls.is_null(row),
                    |at| verdicts.reject(at, Reason::NullKey, detail.clone()),
                )?;
            }
        }
        let late = |time: i64| Micros(time).next() + horizon.allowed_lateness <= horizon.watermark;
        // Where the earliest is not late, none is.
        if rows.starts.iter().min().is_some_and(|time| late(*time)) {
            let times = rows.starts.clone();
            rows.remove(|row| times.get(row).is_some_and(|time| late(*time)), |at| verdicts.late(at))?;
        }
        Ok(())
    }

    /// The first record that each row is made of, and the others where there are several.
    pub(super) fn identities(
        &self,
        rows: &Rows,
        verdicts: &Verdicts<'_>,
    ) -> Result<(Vec<RecordId>, Option<ArrayRef>), Error> {
        let others = self.others;
        let mut first = Vec::with_capacity(rows.len());
        let mut bytes = BinaryBuilder::with_capacity(rows.len(), rows.len() * others * RecordId::BYTES);
        let (mut records, mut packed) = (Vec::new(), Vec::new());
        for row in 0..rows.len() {
            records.clear();
            verdicts.records(rows.origin(row), &mut records);
            records.resize(others + 1, NO_RECORD);
            let Some((one, rest)) = records.split_first().filter(|(one, _)| **one != NO_RECORD) else {
                return Err(Error::Contract("a row is made of no record".into()));
            };
            first.push(*one);
            packed.clear();
            for record in rest {
                record.put(&mut packed);
            }
            bytes.append_value(&packed);
        }
        Ok((first, (others > 0).then(|| Arc::new(bytes.finish()) as ArrayRef)))
    }

    /// What is kept of each row.
    pub(super) fn columns(
        &self,
        rows: &mut Rows,
        verdicts: &mut Verdicts<'_>,
    ) -> Result<Option<Vec<ArrayRef>>, Error> {
        rows.evaluate(verdicts, &|batch| {
            let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.kept.len());
            for kept in &self.kept {
                let filter = kept.filter.and_then(|f| columns.get(f)).and_then(|f| f.as_boolean_opt());
                let value = match (column(kept.expr.as_ref(), batch), filter) {
                    (Err(_), Some(filter)) => {
                        kept.expr.evaluate_selection(batch, filter)?.into_array(batch.num_rows())?
                    }
                    (value, _) => value?,
                };
                columns.push(if kept.is_filter {
                    Arc::new(selection(&value)?)
                } else {
                    cast(&value, &kept.data_type)?
                });
            }
            Ok(columns)
        })
    }
}
