//! The changes of a group that others look up: every row it commits, as a record of a stream of its own,
//! written in the batch of the epoch that made it.
//!
//! ```text
//! record's value   version u8 · live u8 · available_at i64 (filled in at the commit)
//!                  Arrow IPC stream: the features, _event_time, _available_at, _commit, _op
//! ```
//!
//! Of a live commit `_available_at` is the stamp in front: the column is what it is set to on reading.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use millpond_engine::epoch::Op;
use millpond_engine::sql::CHANGES;
use millpond_engine::time::Micros;

use super::bytes::{Bytes, VERSION};
use super::commit::{Availability, EpochCommit, PartitionKey, Position};
use super::db::{Batch, UNSTAMPED};
use super::log::Place;
use super::{Error, Store};
use crate::catalog::{GroupId, StreamId, TimeMode, history};

const FAMILY: &str = "log";

/// Where the commit's stamp stands in a value.
const AVAILABLE_AT: usize = 2;

/// Rows of a history that are written as one record.
const ROWS: usize = 8192;

/// The columns of changes: the features, and the stamp of the row.
pub fn changes_schema(features: &Schema) -> SchemaRef {
    let own = history::own_columns().into_iter().filter(|field| CHANGES.contains(&field.name().as_str()));
    let features = features.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true));
    Arc::new(Schema::new(features.chain(own).collect::<Vec<_>>()))
}

/// The rows of an epoch as a record.
pub(super) fn encode(commit: &EpochCommit, features: &SchemaRef) -> Result<Vec<u8>, Error> {
    let rows = || commit.rows.iter();
    let times: TimestampMicrosecondArray = rows().flat_map(|e| &e.event_times).map(|t| Some(t.0)).collect();
    let (live, stamp, available) = match &commit.availability {
        Availability::Live => (true, UNSTAMPED, vec![Micros::MIN.0; times.len()]),
        Availability::Modelled { clock, rows } => {
            (false, clock.0.to_le_bytes(), rows.iter().flatten().map(|t| t.0).collect())
        }
    };
    let op = |op: &Op| match op {
        Op::Upsert => history::UPSERT,
        Op::Delete => history::DELETE,
    };
    let ops: StringArray = rows().flat_map(|e| &e.ops).map(|o| Some(op(o))).collect();
    let bad = |e: ArrowError| Error::Rows(e.to_string());
    let batch = concat_batches(features, rows().map(|e| &e.features)).map_err(bad)?;
    let stamps: [ArrayRef; 4] = [
        Arc::new(times.with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(available).with_timezone("UTC")),
        Arc::new(Int64Array::from(vec![commit.epoch as i64; batch.num_rows()])),
        Arc::new(ops),
    ];
    let columns = batch.columns().iter().cloned().chain(stamps).collect();
    let batch = RecordBatch::try_new(changes_schema(features), columns).map_err(bad)?;
    write(&batch, live, stamp)
}

fn write(batch: &RecordBatch, live: bool, stamp: [u8; 8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(64 + batch.get_array_memory_size());
    out.extend_from_slice(&[VERSION, u8::from(live)]);
    out.extend_from_slice(&stamp);
    let written = StreamWriter::try_new(out, &batch.schema()).and_then(|mut writer| {
        writer.write(batch)?;
        writer.finish()?;
        writer.into_inner()
    });
    written.map_err(|e| Error::Rows(e.to_string()))
}

/// The rows of a record, with the columns of [`changes_schema`].
pub fn read_changes(value: &[u8]) -> Result<RecordBatch, Error> {
    let mut b = Bytes::open(FAMILY, value)?;
    let (live, stamp) = (b.u8()? != 0, b.i64()?);
    let bad = |e: ArrowError| Error::corrupt(FAMILY, e.to_string());
    let mut reader = StreamReader::try_new(b.rest(), None).map_err(bad)?;
    let batch = reader.next().ok_or_else(|| b.bad("a record without rows"))?.map_err(bad)?;
    if !live {
        return Ok(batch);
    }
    let schema = batch.schema();
    let at = schema.index_of(history::AVAILABLE_AT).map_err(bad)?;
    let mut columns = batch.columns().to_vec();
    if let Some(column) = columns.get_mut(at) {
        let stamps = TimestampMicrosecondArray::from(vec![stamp; batch.num_rows()]);
        *column = Arc::new(stamps.with_timezone("UTC"));
    }
    RecordBatch::try_new(schema, columns).map_err(bad)
}

/// Writes the rows of an epoch behind the changes so far.
pub(super) fn put(
    store: &Store,
    batch: &mut Batch<'_>,
    stream: StreamId,
    commit: &EpochCommit,
    features: &SchemaRef,
) -> Result<Place, Error> {
    let value = encode(commit, features)?;
    let mut place = store.place(stream)?;
    let stamp = matches!(commit.availability, Availability::Live).then_some(AVAILABLE_AT);
    place.put(batch, &value, stamp)?;
    Ok(place)
}

impl Store {
    /// From the group's next commit on, its rows are written to this stream too, in the same batch. `None`:
    /// not any more. To be said anew in every process.
    pub fn follow(&self, group: GroupId, stream: Option<StreamId>) -> Result<(), Error> {
        self.group(group)?.lock().changes = stream;
        Ok(())
    }

    /// Appends rows of the group's history to the stream of its changes. What is there already may come
    /// again: a row is known by its key, event time and commit.
    pub fn append_changes(&self, group: GroupId, stream: StreamId, rows: &RecordBatch) -> Result<(), Error> {
        let columns = rows.schema();
        let names: Vec<&str> = columns.fields().iter().map(|f| f.name().as_str()).collect();
        let own = history::own_columns();
        let is_change = |name: &str| CHANGES.contains(&name) || own.iter().all(|own| own.name() != name);
        let kept: Vec<usize> =
            (0..).zip(&names).filter(|(_, name)| is_change(name)).map(|(at, _)| at).collect();
        let bad = |e: ArrowError| Error::Rows(e.to_string());
        let rows = rows.project(&kept).map_err(bad)?;
        let state = self.group(group)?;
        for start in (0..rows.num_rows()).step_by(ROWS) {
            let part = rows.slice(start, ROWS.min(rows.num_rows() - start));
            let available = part.column_by_name(history::AVAILABLE_AT);
            let available = available.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            let last = available.and_then(arrow::compute::max).unwrap_or(i64::MIN);
            let value = write(&part, false, last.to_le_bytes())?;
            // A commit of the group would take the same place.
            let _turn = state.lock();
            let (mut place, mut batch) = (self.place(stream)?, Batch::new(&self.db));
            place.put(&mut batch, &value, None)?;
            self.db.write(batch)?;
            place.written();
        }
        Ok(())
    }

    /// The instant up to which all rows are there that the group will ever have with an `_available_at` up to
    /// it: what is read of its changes after this was asked holds them. `None`: there is none yet.
    /// `backfills`: whether a live group had records to read when it was created.
    pub fn complete_to(
        &self,
        group: GroupId,
        time: TimeMode,
        backfills: bool,
    ) -> Result<Option<Micros>, Error> {
        let is_live = {
            let state = self.group(group)?;
            let record = &state.lock().record;
            // Once a commit was stamped by the clock, all are.
            if record.epoch > 0 { record.clock.is_none() } else { !backfills }
        };
        let view = self.view();
        if time == TimeMode::Live && is_live {
            return Ok(Some(view.as_of()));
        }
        Ok(view.clock(group))
    }
}

impl Store {
    /// Whether the last thing that a group's pipeline did was to act on the finish of its streams.
    pub fn is_finished(&self, group: GroupId) -> Result<bool, Error> {
        let Some(last) = self.last_epoch(group)?.filter(|last| last.close_cursor.is_none()) else {
            return Ok(false);
        };
        let finish = |at: PartitionKey| {
            let of_source = last.finishes.get(usize::from(at.source)).and_then(Option::as_ref);
            of_source.map(|offsets| offsets.get(at.partition as usize).copied().unwrap_or(0))
        };
        // Of what it looks up itself there is no finish.
        let is_past =
            |(at, position): &(PartitionKey, Position)| finish(*at).is_some_and(|end| position.offset > end);
        Ok(last.finishes.iter().any(Option::is_some) && !self.positions(group)?.iter().any(is_past))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    fn batch() -> RecordBatch {
        let features = Schema::new(vec![Field::new("user", DataType::Utf8, false)]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["a"])),
            Arc::new(TimestampMicrosecondArray::from(vec![5]).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(vec![7]).with_timezone("UTC")),
            Arc::new(Int64Array::from(vec![3])),
            Arc::new(StringArray::from(vec!["upsert"])),
        ];
        RecordBatch::try_new(changes_schema(&features), columns).unwrap()
    }

    #[test]
    fn golden_head_and_rows() {
        let value = write(&batch(), false, 7_i64.to_le_bytes()).unwrap();
        assert_eq!(value[..10], [1, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read_changes(&value).unwrap(), batch());
        for n in [0, 1, 9, 20, value.len() / 2] {
            assert!(read_changes(&value[..n]).is_err(), "{n} bytes");
        }
    }

    #[test]
    fn the_stamp_of_a_live_commit_is_read_from_the_front() {
        let mut value = write(&batch(), true, UNSTAMPED).unwrap();
        value[AVAILABLE_AT..][..8].copy_from_slice(&99_i64.to_le_bytes());
        let rows = read_changes(&value).unwrap();
        assert_eq!(rows.column(2).as_primitive::<TimestampMicrosecondType>().values(), &[99]);
        assert_eq!(rows.column(1), batch().column(1));
    }
}
