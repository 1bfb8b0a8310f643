//! What operators over windows do to the rows of their input: the slice, the key, the arguments of the functions.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use datafusion::error::DataFusionError;

use super::evaluate::column;
use super::plan::Plan;
use super::records::{Rows, Verdicts};
use super::{Error, Reason, stage};
use crate::window::{Split, split};

impl Plan {
    /// Puts each row into its slice, and adds the window's columns where they are expected.
    pub(super) fn assign(&self, rows: &mut Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        let shape = &self.shape;
        let Some(times) = rows.batch.columns().get(shape.time.column).cloned() else {
            return Err(Error::Contract(format!("there is no time column {}", shape.time.column)));
        };
        let Some(typed) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(Error::Contract(format!("event times of type {}", times.data_type())));
        };
        if typed.null_count() > 0 {
            rows.remove(
                |row| typed.is_null(row),
                |at| verdicts.reject(at, Reason::NoEventTime, "the event time is null".into()),
            )?;
            return self.assign(rows, verdicts);
        }
        self.layout.assign(typed.values(), &mut rows.starts);
        if self.keeps_time {
            rows.keys = vec![Arc::clone(&times)];
        }
        if self.reads_window {
            let size = self.layout.slice().0;
            let shifted = |by: i64| -> ArrayRef {
                let values = rows.starts.iter().map(|s| s.saturating_add(by));
                let values = TimestampMicrosecondArray::from_iter_values(values);
                Arc::new(values.with_data_type(times.data_type().clone()))
            };
            let mut columns = rows.batch.columns().to_vec();
            columns.extend([shifted(0), shifted(size), shifted(size.saturating_sub(1))]);
            let mut fields = rows.batch.schema().fields().to_vec();
            for name in ["window_start", "window_end", "window_time"] {
                fields.push(Arc::new(Field::new(name, times.data_type().clone(), false)));
            }
            rows.batch = stage::batch(&Arc::new(Schema::new(fields)), columns, rows.starts.len())?;
        }
        Ok(())
    }

    /// Evaluates the key, into the first of the rows' key columns; what is null in one of them is rejected.
    pub(super) fn key(&self, rows: &mut Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        let keys = rows.evaluate(verdicts, &|batch| {
            self.keys
                .iter()
                .zip(self.key_schema.fields())
                .map(|(key, field)| cast(&column(key.as_ref(), batch)?, field.data_type()))
                .collect()
        })?;
        let Some(keys) = keys else { return Ok(()) };
        // The event time goes with the keys, behind them.
        rows.keys.splice(0..0, keys);
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
        Ok(())
    }

    /// Evaluates all functions' filters and arguments; what comes back lies function after function.
    /// `None`: no row is left.
    pub(super) fn arguments(
        &self,
        rows: &mut Rows,
        verdicts: &mut Verdicts<'_>,
    ) -> Result<Option<Vec<ArrayRef>>, Error> {
        let functions = self.functions.get(..self.query_functions()).unwrap_or_default();
        if rows.len() == 0 {
            return Ok(None);
        }
        let columns = rows.evaluate(verdicts, &|batch| {
            let mut columns = Vec::new();
            for function in functions {
                let filter = match &function.filter {
                    Some(filter) => Some(selection(&column(filter.as_ref(), batch)?)?),
                    None => None,
                };
                for argument in &function.arguments {
                    columns.push(match (column(argument.as_ref(), batch), &filter) {
                        // What fails only on records that FILTER leaves out does not fail.
                        (Err(_), Some(filter)) => {
                            argument.evaluate_selection(batch, filter)?.into_array(batch.num_rows())?
                        }
                        (column, _) => column?,
                    });
                }
                columns.extend(filter.map(|f| Arc::new(f) as ArrayRef));
            }
            Ok(columns)
        })?;
        match columns {
            Some(columns) if self.by_time => self.standing(rows, verdicts, columns).map(Some),
            columns => Ok(columns),
        }
    }

    /// Adds where each row stands to the arguments of the functions that ask for it.
    fn standing(
        &self,
        rows: &Rows,
        verdicts: &Verdicts<'_>,
        columns: Vec<ArrayRef>,
    ) -> Result<Vec<ArrayRef>, Error> {
        let times = rows.keys.get(self.keys.len());
        let Some(times) = times.and_then(|t| t.as_primitive_opt::<TimestampMicrosecondType>()) else {
            return Err(Error::Contract("the event time is not with the key".into()));
        };
        let standing = rows.standing(times.values(), verdicts);
        let mut columns = columns.into_iter();
        let mut all = Vec::new();
        for function in &self.functions {
            all.extend(columns.by_ref().take(function.arguments.len()));
            if function.by_time {
                all.extend(standing.iter().cloned());
            }
            all.extend(columns.by_ref().take(usize::from(function.filter.is_some())));
        }
        Ok(all)
    }
}

/// Hands rows over slice by slice, each with its start, its columns and how many rows they have. Rows of
/// one slice are not copied.
pub(super) fn by_slice(
    starts: &[i64],
    columns: &[ArrayRef],
    take: &mut dyn FnMut(i64, &[ArrayRef], usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let slices = match split(starts) {
        None => return Ok(()),
        Some(Split::One(start)) => return take(start, columns, starts.len()),
        Some(Split::Many(slices)) => slices,
    };
    for (start, members) in slices {
        let members = UInt32Array::from(members);
        let taken = columns.iter().map(|c| arrow::compute::take(c, &members, None));
        let taken = taken.collect::<Result<Vec<_>, _>>().map_err(DataFusionError::from)?;
        take(start, &taken, members.len())?;
    }
    Ok(())
}

/// A column as another type; a value that does not fit is an error, never NULL.
pub(super) fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, DataFusionError> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    Ok(arrow::compute::cast_with_options(column, to, &options)?)
}

/// FILTER's column as a mask without nulls.
pub(super) fn selection(mask: &ArrayRef) -> Result<BooleanArray, DataFusionError> {
    let Some(mask) = mask.as_boolean_opt() else {
        return Err(DataFusionError::Execution(format!("FILTER of type {}", mask.data_type())));
    };
    Ok(if mask.null_count() > 0 { arrow::compute::prep_null_mask_filter(mask) } else { mask.clone() })
}
