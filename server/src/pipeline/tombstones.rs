//! Tombstones of ingested groups: a null value deletes the primary key that its message key says.
//!
//! The message key is UTF-8 text, as in `…/rows/{key}`: the value of a single column, or a JSON array of
//! the values in key order.

use arrow::array::AsArray;
use arrow::datatypes::{Schema, TimestampMicrosecondType};
use millpond_engine::epoch::{Delete, RecordId, SourceBatch};
use millpond_engine::key;
use millpond_engine::time::Micros;

use crate::log::{Kind, Records};
use crate::store::commit::PartitionKey;

/// The encoded primary key of a message key, or what is wrong with it.
pub fn key(schema: &Schema, message: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(message).map_err(|_| "the message key is not UTF-8 text".to_owned())?;
    key::from_alone(schema, text).map_err(|e| e.to_string())
}

/// When each of the keys (with the offsets of their tombstones, ascending) is deleted: at the greatest
/// event time or heartbeat that came before its tombstone.
///
/// So every row that came before is hidden, whatever its time, and an event with a later time wins. The
/// time follows from the records and the epochs alone, so a replay deletes at the same time. Where
/// nothing came before there is nothing to delete.
///
/// `seen` is the greatest time before these records, `rows` what came of them with the place of the
/// event time; heartbeats beyond `limit` are in quarantine.
pub fn deletes(
    partition: PartitionKey,
    records: &Records,
    keys: Vec<(i64, Vec<u8>)>,
    mut seen: Option<Micros>,
    rows: Option<(&SourceBatch, usize)>,
    limit: Micros,
) -> Vec<Delete> {
    let PartitionKey { source, partition } = partition;
    let mut times: Vec<(i64, Micros)> = records
        .records
        .iter()
        .filter_map(|r| match r.kind {
            Kind::Heartbeat(Some(time)) if time <= limit => Some((r.offset, time)),
            _ => None,
        })
        .collect();
    if let Some((batch, event_time)) = rows {
        let column = batch.rows.columns().get(event_time);
        let values = column.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let values = values.into_iter().flat_map(|c| c.values().iter().copied().map(Micros));
        times.extend(batch.offsets.iter().copied().zip(values));
    }
    times.sort_unstable();
    let mut before = times.into_iter().peekable();
    let delete = |(offset, key)| {
        while let Some((_, time)) = before.next_if(|(at, _)| *at < offset) {
            seen = seen.max(Some(time));
        }
        let record = RecordId { source, partition, offset };
        seen.map(|event_time| Delete { record, key, event_time })
    };
    keys.into_iter().filter_map(delete).collect()
}
