//! The columns of rows that are kept, by number.

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

/// Batches are put together until they have this many rows, so that light traffic leaves no trail of
/// small ones.
const BATCH: usize = 8192;

/// Rows in batches, numbered through.
pub(super) struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Number of the first row of each batch.
    firsts: Vec<u32>,
    next: u32,
}

impl Rows {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: Vec::new(), firsts: Vec::new(), next: 0 }
    }

    /// How many there are, whether somebody still wants them or not.
    pub(super) fn len(&self) -> usize {
        self.next as usize
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    /// Adds rows; the number of the first.
    pub(super) fn append(&mut self, batch: RecordBatch) -> Result<u32, ArrowError> {
        let first = self.next;
        self.next += batch.num_rows() as u32;
        self.batches.push(batch);
        self.firsts.push(first);
        // Batches of like size are put together: a row is copied as often as its batch doubles.
        while let [.., one, other] = self.batches.as_slice() {
            let (before, after) = (one.num_rows(), other.num_rows());
            if before + after > BATCH || before > 2 * after {
                break;
            }
            let both = arrow::compute::concat_batches(&self.schema, [one, other])?;
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(both);
            self.firsts.pop();
        }
        Ok(first)
    }

    /// The columns of rows, NULL where there is none.
    pub(super) fn columns(
        &self,
        rows: impl Iterator<Item = Option<u32>>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        // Place 0 is NULL; batches are numbered as they are first met: most are not in question.
        let mut numbers: Vec<Option<usize>> = vec![None; self.batches.len()];
        let mut met: Vec<&RecordBatch> = Vec::new();
        let place = |row: Option<u32>| {
            let Some(row) = row else { return (0, 0) };
            let at = self.firsts.partition_point(|first| *first <= row).saturating_sub(1);
            let (Some(number), Some(batch), Some(first)) =
                (numbers.get_mut(at), self.batches.get(at), self.firsts.get(at))
            else {
                return (0, 0);
            };
            let number = *number.get_or_insert_with(|| {
                met.push(batch);
                met.len()
            });
            (number, (row - first) as usize)
        };
        let places: Vec<(usize, usize)> = rows.map(place).collect();
        let fields = self.schema.fields().iter().enumerate();
        let columns = fields.map(|(column, field)| {
            let none = new_null_array(field.data_type(), 1);
            let held = met.iter().filter_map(|batch| batch.columns().get(column)).map(AsRef::as_ref);
            let arrays: Vec<&dyn Array> = std::iter::once(none.as_ref()).chain(held).collect();
            arrow::compute::interleave(&arrays, &places)
        });
        columns.collect()
    }

    /// Keeps these rows, with the numbers 0, 1, … in their order.
    pub(super) fn keep(&mut self, rows: &[u32]) -> Result<(), ArrowError> {
        let mut kept = Self::new(self.schema.clone());
        for part in rows.chunks(BATCH) {
            let columns = self.columns(part.iter().map(|row| Some(*row)))?;
            kept.append(super::versions::batch(&self.schema, columns, part.len())?)?;
        }
        *self = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    #[test]
    fn rows_are_found_whatever_was_put_together() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let mut rows = Rows::new(schema.clone());
        let mut next = 0;
        for size in [1, 1, 5, 2, 1, 9_000, 1, 40, 3] {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(next..next + size));
            let first = rows.append(RecordBatch::try_new(schema.clone(), vec![values]).unwrap()).unwrap();
            assert_eq!(i64::from(first), next);
            next += size;
        }
        assert!(rows.batches.len() < 6, "{} batches", rows.batches.len());
        let of = |rows: &Rows, wanted: &[Option<u32>]| {
            let columns = rows.columns(wanted.iter().copied()).unwrap();
            columns[0].as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
        };
        assert_eq!(of(&rows, &[Some(9_050), None, Some(0), Some(9)]), [Some(9_050), None, Some(0), Some(9)]);
        rows.keep(&[9_051, 7]).unwrap();
        assert_eq!((rows.len(), of(&rows, &[Some(1), Some(0)])), (2, vec![Some(7), Some(9_051)]));
    }
}
