//! One record of the embedded log.
//!
//! ```text
//! log        version u8 (2) · appended i64 · kind u8 (0 event, 1 tombstone, 2 heartbeat, 3 heartbeat
//!            without a time) · key length u32 (0xFFFFFFFF: no key) · key · heartbeat: time i64 · event: value
//! ```
//!
//! Version 1 had no `appended`: when such a record was appended is not known, only that it was before
//! every record that says it. Within a partition `appended` never goes back, whatever the wall clock does.

use std::ops::Range;

use millpond_engine::time::Micros;

use crate::log::{Kind, RecordRef, Records};
use crate::store::Error;
use crate::store::bytes::Bytes;

const NO_KEY: u32 = u32::MAX;

/// The codec version of what is written: with the time of the append.
const TIMED: u8 = 2;

/// Bytes in front of the value of an event without a key.
pub(super) const HEAD: usize = 14;

/// Where that time stands in a record.
const APPENDED: Range<usize> = 1..9;

/// A record to append.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// What it is. A heartbeat's time stands here, not in `value`.
    pub kind: Kind,
    /// The message key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value of an event.
    pub value: &'a [u8],
}

/// Writes a record; the time of its append is filled in once it has its offset.
pub(super) fn put_record(record: &NewRecord<'_>, out: &mut Vec<u8>) {
    let (kind, time) = match record.kind {
        Kind::Event => (0, None),
        Kind::Tombstone => (1, None),
        Kind::Heartbeat(Some(time)) => (2, Some(time)),
        Kind::Heartbeat(None) => (3, None),
    };
    out.push(TIMED);
    out.extend_from_slice(&Micros::MIN.0.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&record.key.map_or(NO_KEY, |k| k.len() as u32).to_le_bytes());
    out.extend_from_slice(record.key.unwrap_or_default());
    match (record.kind, time) {
        (Kind::Event, _) => out.extend_from_slice(record.value),
        (_, Some(time)) => out.extend_from_slice(&time.0.to_le_bytes()),
        _ => {}
    }
}

/// Fills in when a record was appended.
pub(super) fn stamp(record: &mut [u8], appended: Micros) {
    if let Some(time) = record.get_mut(APPENDED) {
        time.copy_from_slice(&appended.0.to_le_bytes());
    }
}

/// When a stored record was appended, if it says so.
pub(super) fn appended(value: &[u8]) -> Result<Option<Micros>, Error> {
    Ok(open(value)?.1)
}

/// A stored record after its time; `None`: of version 1.
fn open(value: &[u8]) -> Result<(Bytes<'_>, Option<Micros>), Error> {
    if value.first() != Some(&TIMED) {
        return Ok((Bytes::open("log", value)?, None));
    }
    let mut b = Bytes::plain("log", value);
    b.u8()?;
    let appended = Micros(b.i64()?);
    Ok((b, Some(appended)))
}

/// Appends a stored record to the buffer.
pub(super) fn read_record(
    partition: u32,
    offset: i64,
    value: &[u8],
    into: &mut Records,
) -> Result<(), Error> {
    let (mut b, _) = open(value)?;
    let kind = b.u8()?;
    let key = match b.u32()? {
        NO_KEY => None,
        n => Some(b.take(n as usize)?),
    };
    let kind = match kind {
        0 => Kind::Event,
        1 => Kind::Tombstone,
        2 => Kind::Heartbeat(Some(Micros(b.i64()?))),
        3 => Kind::Heartbeat(None),
        _ => return Err(b.bad("a record is of no known kind")),
    };
    let start = into.bytes.len();
    into.bytes.extend_from_slice(key.unwrap_or_default());
    let middle = into.bytes.len();
    into.bytes.extend_from_slice(b.rest());
    let (key, value) = (key.map(|_| start..middle), middle..into.bytes.len());
    into.records.push(RecordRef { partition, offset, kind, key, value });
    Ok(())
}
