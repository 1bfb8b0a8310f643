//! Rows with all that an operator needs of them: what comes of a batch before it matters what is kept.

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::FilterBuilder;
use datafusion::error::DataFusionError;

use super::{Error, RecordId};
use crate::key;
use crate::key::KEY_GROUPS;
use crate::state::KeyGroups;

/// Rows on their way into the state. All parts have the same length but for the doubtful ones.
pub(super) struct Keyed {
    /// Start of each row's slice; under rolling features its event time.
    pub(super) starts: Vec<i64>,
    /// Columns of the key, then what the operator takes in.
    pub(super) columns: Vec<ArrayRef>,
    /// Rows that are late if nothing else is in their session, ascending.
    pub(super) doubtful: Vec<Doubtful>,
}

/// A row that may be late.
pub(super) struct Doubtful {
    pub(super) row: u32,
    /// Not of a row of a join: its records are accounted for.
    pub(super) record: Option<RecordId>,
}

impl Keyed {
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The rows of each of so many shares of the key groups, in their order; the first `keys` columns are the key.
    pub(super) fn split(self, keys: usize, shares: usize) -> Result<Vec<Option<Self>>, Error> {
        let key = self.columns.get(..keys).unwrap_or_default();
        let groups = key::key_groups(key, self.len()).map_err(|e| Error::Contract(e.to_string()))?;
        let mut of_group = [0_usize; KEY_GROUPS as usize];
        for (group, share) in (0..).zip(&mut of_group) {
            *share = KeyGroups::share_of(group, shares);
        }
        let mut members: Vec<Vec<u32>> = vec![Vec::with_capacity(self.len() / shares + 64); shares];
        for (row, group) in (0..).zip(&groups) {
            let share = of_group.get(usize::from(*group)).copied().unwrap_or_default();
            if let Some(members) = members.get_mut(share) {
                members.push(row);
            }
        }
        if let Some(share) = members.iter().position(|members| members.len() == self.len()) {
            let mut only: Vec<Option<Self>> = (0..shares).map(|_| None).collect();
            if let Some(place) = only.get_mut(share) {
                *place = Some(self);
            }
            return Ok(only);
        }
        members.into_iter().map(|rows| self.take(rows)).collect()
    }

    /// Some of the rows, ascending.
    fn take(&self, rows: Vec<u32>) -> Result<Option<Self>, Error> {
        if rows.is_empty() {
            return Ok(None);
        }
        let starts = rows.iter().filter_map(|row| self.starts.get(*row as usize).copied()).collect();
        let doubtful = self.doubtful.iter().filter_map(|of| {
            let row = rows.binary_search(&of.row).ok()? as u32;
            Some(Doubtful { row, record: of.record })
        });
        let doubtful = doubtful.collect();
        let rows = UInt32Array::from(rows);
        let columns = self.columns.iter().map(|column| arrow::compute::take(column, &rows, None));
        let columns = columns.collect::<Result<_, _>>().map_err(DataFusionError::from)?;
        Ok(Some(Self { starts, columns, doubtful }))
    }

    /// Keeps the rows for which `keep` is true; whether they were in doubt is settled.
    pub(super) fn retain(&mut self, keep: &BooleanArray) -> Result<(), Error> {
        self.doubtful.clear();
        let mut kept = keep.values().iter();
        self.starts.retain(|_| kept.next().unwrap_or_default());
        let predicate = FilterBuilder::new(keep).optimize().build();
        for column in &mut self.columns {
            *column = predicate.filter(column).map_err(DataFusionError::from)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every row is in the share that its key's group is in, in the order in which the rows came.
        #[test]
        fn rows_go_where_their_key_group_is(
            keys in prop::collection::vec(0_i64..200, 1..80), shares in 1_usize..=64, doubts in any::<u64>(),
        ) {
            let rows = keys.len();
            let numbers: Vec<i64> = (0..rows as i64).collect();
            let record = |row: u32| RecordId { source: 0, partition: 1, offset: i64::from(row) };
            let is_doubtful = |row: u32| doubts >> (row % 64) & 1 == 1;
            let doubtful = (0..rows as u32).filter(|row| is_doubtful(*row));
            let keyed = Keyed {
                starts: numbers.iter().map(|n| n * 10).collect(),
                columns: vec![
                    Arc::new(keys.iter().map(|k| Some(format!("user {k}"))).collect::<StringArray>()),
                    Arc::new(Int64Array::from(numbers)),
                ],
                doubtful: doubtful.map(|row| Doubtful { row, record: Some(record(row)) }).collect(),
            };
            let parts = keyed.split(1, shares).unwrap();
            prop_assert_eq!(parts.len(), shares);
            let mut seen = vec![false; rows];
            for (share, part) in parts.iter().enumerate().filter_map(|(n, part)| Some((n, part.as_ref()?))) {
                let names = part.columns[0].as_string::<i32>();
                let numbers = part.columns[1].as_primitive::<Int64Type>().values();
                prop_assert!(numbers.is_sorted() && part.len() == numbers.len());
                let mut doubtful = part.doubtful.iter();
                for (at, number) in numbers.iter().enumerate() {
                    let name = format!("user {}", keys[*number as usize]);
                    prop_assert_eq!(names.value(at), &name);
                    prop_assert_eq!(part.starts[at], number * 10);
                    let group = key::key_group(&key::encode(&part.columns[..1], at).unwrap());
                    prop_assert_eq!(KeyGroups::share_of(group, shares), share);
                    prop_assert!(!std::mem::replace(&mut seen[*number as usize], true));
                    if is_doubtful(*number as u32) {
                        let of = doubtful.next().unwrap();
                        prop_assert_eq!((of.row, of.record), (at as u32, Some(record(*number as u32))));
                    }
                }
                prop_assert!(doubtful.next().is_none());
            }
            prop_assert!(seen.iter().all(|seen| *seen));
        }
    }
}
