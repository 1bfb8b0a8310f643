//! The durable form of the versions that are looked up: for each key a list of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::error::DataFusionError;

use super::Lookup;
use crate::epoch::{Error, stage};
use crate::key;
use crate::lookup::Version;
use crate::state::{StateChange, StateKey, StateRow, codec};
use crate::time::Micros;

/// Keys of one lookup are all in one slice: they do not go by time.
const SLICE: Micros = Micros(0);
/// Keys that are written at a time.
const SAVED: usize = 1 << 14;
/// Columns of a version in front of those that are looked up.
const STAMP: [(&str, DataType); 4] = [
    ("from", DataType::Int64),
    ("event_time", DataType::Int64),
    ("commit", DataType::Int64),
    ("delete", DataType::Boolean),
];

/// The list of a key's versions, with these columns.
pub(super) fn column(columns: &Schema) -> Result<codec::Column, Error> {
    let stamp = STAMP.into_iter().map(|(name, data_type)| Field::new(name, data_type, false));
    let own = columns.fields().iter().enumerate();
    let own = own.map(|(at, field)| Field::new(at.to_string(), field.data_type().clone(), true));
    let version = Field::new("version", DataType::Struct(stamp.chain(own).collect()), false);
    let column = codec::Column::plain(DataType::List(Arc::new(version)));
    codec::decode(std::slice::from_ref(&column), std::iter::empty())
        .map_err(|e| Error::Contract(e.to_string()))?;
    Ok(column)
}

impl Lookup {
    /// The keys that changed since the last checkpoint.
    pub(super) fn save_versions(
        &mut self,
        gone: &mut Vec<StateChange>,
        put: &mut Vec<StateChange>,
    ) -> Result<(), Error> {
        let operator = self.operator;
        let of_key = |key: &[u8]| {
            let (key_group, key) = (key::key_group(key), key.to_vec());
            StateKey { operator, slice_end: SLICE, key_group, key }
        };
        let mut changed: Vec<_> = self.versions.changed().map(|c| (of_key(c.key), c.versions)).collect();
        changed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let (kept, empty): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(_, versions)| !versions.is_empty());
        gone.extend(empty.into_iter().map(|(key, _)| StateChange::Delete(key)));
        for part in kept.chunks(SAVED) {
            let list = self.list(part)?;
            let values = codec::encode([(&self.state, &list)], part.len())
                .map_err(|e| Error::Contract(e.to_string()))?;
            let rows = part.iter().enumerate().map(|(row, (key, _))| {
                StateChange::Put(StateRow { key: key.clone(), value: values.value(row).to_vec() })
            });
            put.extend(rows);
        }
        self.versions.saved();
        Ok(())
    }

    /// The versions of each of these keys.
    fn list(&self, keys: &[(StateKey, Vec<(Version, Option<u32>)>)]) -> Result<ArrayRef, Error> {
        let arrow = |e| Error::DataFusion(DataFusionError::from(e));
        let all = || keys.iter().flat_map(|(_, versions)| versions);
        let long = |of: fn(&Version) -> i64| -> ArrayRef {
            Arc::new(all().map(|(version, _)| Some(of(version))).collect::<Int64Array>())
        };
        let deletes: BooleanArray = all().map(|(version, _)| Some(version.is_delete)).collect();
        let mut columns =
            vec![long(|v| v.from), long(|v| v.event_time), long(|v| v.commit), Arc::new(deletes) as ArrayRef];
        columns.extend(self.versions.columns(all().map(|(_, row)| *row)).map_err(arrow)?);
        let DataType::List(version) = &self.state.data_type else {
            return Err(Error::Contract("versions are stored as a list".into()));
        };
        let DataType::Struct(fields) = version.data_type() else {
            return Err(Error::Contract("a version is stored as a struct".into()));
        };
        let versions = StructArray::try_new(fields.clone(), columns, None).map_err(arrow)?;
        let offsets = OffsetBuffer::from_lengths(keys.iter().map(|(_, versions)| versions.len()));
        let list = ListArray::try_new(Arc::clone(version), offsets, Arc::new(versions), None);
        Ok(Arc::new(list.map_err(arrow)?))
    }

    /// Puts stored keys back.
    pub(super) fn restore_versions(&mut self, rows: &[StateRow]) -> Result<(), Error> {
        let refuse = |detail: String| Error::State { window_end: SLICE, detail };
        let values = rows.iter().map(|row| row.value.as_slice());
        let lists = codec::decode(std::slice::from_ref(&self.state), values);
        let lists = lists.map_err(|e| refuse(e.to_string()))?;
        let list = lists.first().and_then(|l| l.as_list_opt::<i32>());
        let versions = list.and_then(|l| l.values().as_struct_opt());
        let (Some(list), Some(versions)) = (list, versions) else {
            return Err(refuse("an entry is no list of versions".into()));
        };
        let (stamp, columns) = versions.columns().split_at_checked(STAMP.len()).unwrap_or((&[], &[]));
        let long = |at: usize| stamp.get(at).and_then(|c: &ArrayRef| c.as_primitive_opt::<Int64Type>());
        let (Some(from), Some(event_times), Some(commits), Some(deletes)) =
            (long(0), long(1), long(2), stamp.get(3).and_then(|c| c.as_boolean_opt()))
        else {
            return Err(refuse("a version without its stamp".into()));
        };
        let batch = stage::batch(&self.columns, columns.to_vec(), versions.len())?;
        let keys = rows.iter().zip(list.offsets().windows(2)).flat_map(|(row, place)| {
            let length = match place {
                [from, to] => usize::try_from(to - from).unwrap_or_default(),
                _ => 0,
            };
            std::iter::repeat_n(row.key.key.as_slice(), length)
        });
        let versions = (0..versions.len()).map(|row| Version {
            from: from.value(row),
            event_time: event_times.value(row),
            commit: commits.value(row),
            is_delete: deletes.value(row),
        });
        let versions: Vec<Version> = versions.collect();
        Ok(self.versions.restore(batch, keys.zip(versions)).map_err(DataFusionError::from)?)
    }
}
