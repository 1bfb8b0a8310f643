//! Rows owed to Delta: what one epoch wrote, until it is drained.
//!
//! ```text
//! version u8 · modelled u8 · available_at i64 · epoch u64 · rows u32
//! event_time i64 per row · op u8 per row (0 upsert, 1 delete) · modelled only: available_at i64 per row
//! Arrow IPC stream: the features as the engine made them
//! ```
//!
//! The columns of the contract are put together on reading, so that a live commit's stamp can be filled
//! in without encoding the rows again.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use millpond_engine::epoch::Op;
use millpond_engine::time::Micros;

use super::Error;
use super::bytes::{Bytes, VERSION};
use super::commit::OutboxEntry;
use super::db::UNSTAMPED;
use crate::catalog::history::own_columns;

const FAMILY: &str = "outbox";

/// Where the commit's stamp stands in a value.
pub(super) const AVAILABLE_AT: usize = 2;

const DAY: i64 = 86_400_000_000;

/// The rows of one epoch, aligned.
pub(super) struct Rows<'a> {
    pub epoch: u64,
    pub event_times: &'a [Micros],
    pub ops: &'a [Op],
    /// `None`: live, the stamp is filled in at the commit.
    pub modelled: Option<Modelled<'a>>,
    pub features: &'a RecordBatch,
}

/// Availability of a modelled epoch.
pub(super) struct Modelled<'a> {
    pub clock: Micros,
    pub rows: &'a [Micros],
}

/// What can be known without reading the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub modelled: bool,
    pub available_at: Micros,
    pub epoch: u64,
    pub rows: u32,
}

pub(super) fn encode(rows: &Rows<'_>) -> Result<Vec<u8>, Error> {
    let n = rows.event_times.len();
    let mut out = Vec::with_capacity(64 + n * 17 + rows.features.get_array_memory_size());
    out.extend_from_slice(&[VERSION, u8::from(rows.modelled.is_some())]);
    out.extend_from_slice(&rows.modelled.as_ref().map_or(UNSTAMPED, |m| m.clock.0.to_le_bytes()));
    out.extend_from_slice(&rows.epoch.to_le_bytes());
    out.extend_from_slice(&(n as u32).to_le_bytes());
    for t in rows.event_times {
        out.extend_from_slice(&t.0.to_le_bytes());
    }
    out.extend(rows.ops.iter().map(|op| match op {
        Op::Upsert => 0,
        Op::Delete => 1,
    }));
    if let Some(m) = &rows.modelled {
        for t in m.rows {
            out.extend_from_slice(&t.0.to_le_bytes());
        }
    }
    write_ipc(rows.features, out).map_err(|e| Error::Rows(e.to_string()))
}

fn write_ipc(batch: &RecordBatch, out: Vec<u8>) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let mut writer = StreamWriter::try_new(out, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()
}

/// Reads a value's head, leaving the rows.
pub(super) fn head(value: &[u8]) -> Result<(Head, Bytes<'_>), Error> {
    let mut b = Bytes::open(FAMILY, value)?;
    let head =
        Head { modelled: b.u8()? != 0, available_at: Micros(b.i64()?), epoch: b.u64()?, rows: b.u32()? };
    Ok((head, b))
}

/// The schema of a group's rows offline: its features, then the columns of the contract.
pub fn offline_schema(features: &Schema) -> SchemaRef {
    let own = own_columns().into_iter().map(Arc::new);
    Arc::new(Schema::new(features.fields().iter().cloned().chain(own).collect::<Vec<_>>()))
}

/// Reads an entry and puts the columns of the contract beside its features.
pub(super) fn decode(sequence: u64, value: &[u8]) -> Result<OutboxEntry, Error> {
    let (head, mut b) = head(value)?;
    let n = head.rows as usize;
    let event_times = instants(&mut b, n)?;
    let mut ops = Vec::with_capacity(n);
    for op in b.take(n)? {
        ops.push(match op {
            0 => "upsert",
            1 => "delete",
            _ => return Err(b.bad("an operation is neither upsert nor delete")),
        });
    }
    let available = if head.modelled { instants(&mut b, n)? } else { vec![head.available_at.0; n] };
    let bad = |e: arrow::error::ArrowError| Error::corrupt(FAMILY, e.to_string());
    let mut reader = StreamReader::try_new(b.rest(), None).map_err(bad)?;
    let features = reader.next().ok_or_else(|| b.bad("an entry without rows"))?.map_err(bad)?;
    let dates = event_times.iter().map(|t| t.div_euclid(DAY) as i32).collect::<Vec<_>>();
    let own: [ArrayRef; 6] = [
        Arc::new(TimestampMicrosecondArray::from(event_times).with_timezone("UTC")),
        Arc::new(Date32Array::from(dates)),
        Arc::new(TimestampMicrosecondArray::from(available).with_timezone("UTC")),
        Arc::new(BooleanArray::from(vec![head.modelled; n])),
        Arc::new(Int64Array::from(vec![head.epoch as i64; n])),
        Arc::new(StringArray::from(ops)),
    ];
    let columns = features.columns().iter().cloned().chain(own).collect();
    let rows = RecordBatch::try_new(offline_schema(features.schema_ref()), columns).map_err(bad)?;
    Ok(OutboxEntry { sequence, epoch: head.epoch, rows })
}

fn instants(b: &mut Bytes<'_>, n: usize) -> Result<Vec<i64>, Error> {
    (0..n).map(|_| b.i64()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, TimestampMicrosecondType};

    use super::*;

    fn features() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("user", DataType::Utf8, false),
            Field::new("n", DataType::Int64, true),
        ]);
        let user: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        RecordBatch::try_new(Arc::new(schema), vec![user, n]).unwrap()
    }

    fn rows<'a>(features: &'a RecordBatch, modelled: Option<Modelled<'a>>) -> Vec<u8> {
        let event_times = &[Micros(-1), Micros(DAY)];
        encode(&Rows { epoch: 3, event_times, ops: &[Op::Upsert, Op::Delete], modelled, features }).unwrap()
    }

    #[test]
    fn golden_head_and_rows() {
        let features = features();
        let modelled = Modelled { clock: Micros(9), rows: &[Micros(7), Micros(8)] };
        let value = rows(&features, Some(modelled));
        let hex: String = value[..56].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
        assert_eq!(
            hex,
            "01010900000000000000030000000000000002000000\
             ffffffffffffffff0060d71d14000000\
             0001\
             07000000000000000800000000000000"
        );
        assert_eq!(
            head(&value).unwrap().0,
            Head { modelled: true, available_at: Micros(9), epoch: 3, rows: 2 }
        );
        let entry = decode(5, &value).unwrap();
        assert_eq!((entry.sequence, entry.epoch), (5, 3));
        assert_eq!(entry.rows.column(0), features.column(0));
        assert_eq!(entry.rows.column(1), features.column(1));
        assert_eq!(entry.rows.column(2).as_primitive::<TimestampMicrosecondType>().values(), &[-1, DAY]);
        assert_eq!(entry.rows.column(3).as_primitive::<Date32Type>().values(), &[-1, 1]);
        assert_eq!(entry.rows.column(4).as_primitive::<TimestampMicrosecondType>().values(), &[7, 8]);
        assert!(entry.rows.column(5).as_boolean().iter().all(|m| m == Some(true)));
        assert_eq!(entry.rows.column(6).as_primitive::<Int64Type>().values(), &[3, 3]);
        assert_eq!(
            entry.rows.column(7).as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
            ["upsert", "delete"]
        );
    }

    #[test]
    fn a_live_stamp_is_filled_in_without_encoding_again() {
        let mut value = rows(&features(), None);
        assert_eq!(value[AVAILABLE_AT..][..8], UNSTAMPED);
        value[AVAILABLE_AT..][..8].copy_from_slice(&77_i64.to_le_bytes());
        let entry = decode(1, &value).unwrap();
        assert_eq!(entry.rows.column(4).as_primitive::<TimestampMicrosecondType>().values(), &[77, 77]);
        assert!(entry.rows.column(5).as_boolean().iter().all(|m| m == Some(false)));
    }

    #[test]
    fn what_was_not_written_here_is_refused() {
        let value = rows(&features(), None);
        for n in [0, 1, 10, 30, 50, value.len() / 2] {
            assert!(decode(1, &value[..n]).is_err(), "{n} bytes");
        }
    }
}
