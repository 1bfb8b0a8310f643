//! The keys of every column family: what is written here is the storage schema.
//!
//! Integers are big-endian, signed ones with the sign bit flipped, so that RocksDB's order of bytes is
//! the order of the numbers.
//!
//! | column family | key |
//! | --- | --- |
//! | `meta` | name as text; `group/` + group u32; `rows/` + row-schema id u32; `sink/` + group u32, sink u32 (0: Delta) |
//! | `catalog` | kind u8, name, 0, version u32 |
//! | `schemas` | registry, 0, `i`, id u32 · registry, 0, `f`, id u32 · registry, 0, `s`, subject, 0, version u32 · registry, 0, `c`, subject |
//! | `log` | stream u32, partition u32, offset i64 |
//! | `producers` | stream u32, producer id |
//! | `positions` | pipeline u32, source u16, partition u32 |
//! | `journal` | pipeline u32, epoch u64 |
//! | `state` | pipeline u32, operator u16, `slice_end` i64, `key_group` u8, key |
//! | `online` | group u32, key |
//! | `outbox` | group u32, sequence u64 |
//! | `quarantine` | stream u32, partition u32, offset i64, pipeline u32 |
//! | `late` | pipeline u32, epoch u64, ordinal u32 |

use millpond_engine::state::StateKey;
use millpond_engine::time::Micros;

use super::Error;
use super::bytes::Bytes;
use super::commit::PartitionKey;
use crate::catalog::{GroupId, StreamId};

pub(super) fn number(id: u32) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn signed(v: i64) -> [u8; 8] {
    (v ^ i64::MIN).to_be_bytes()
}

fn read_u32(b: &mut Bytes<'_>) -> Result<u32, Error> {
    b.array().map(u32::from_be_bytes)
}

fn read_signed(b: &mut Bytes<'_>) -> Result<i64, Error> {
    Ok(i64::from_be_bytes(b.array()?) ^ i64::MIN)
}

/// Beginning of all keys of [`group_record`].
pub(super) const GROUP_RECORDS: &[u8] = b"group/";
/// Beginning of all keys of [`row_schema`].
pub(super) const ROW_SCHEMAS: &[u8] = b"rows/";

pub(super) fn group_record(group: GroupId) -> Vec<u8> {
    join(&[GROUP_RECORDS, &group.0.to_be_bytes()])
}

/// The group in a key of [`group_record`].
pub(super) fn group_of_record(key: &[u8]) -> Result<GroupId, Error> {
    let mut b = Bytes::plain("meta", key);
    b.take(GROUP_RECORDS.len())?;
    read_u32(&mut b).map(GroupId)
}

pub(super) fn row_schema(id: u32) -> Vec<u8> {
    join(&[ROW_SCHEMAS, &id.to_be_bytes()])
}

/// The id in a key of [`row_schema`].
pub(super) fn row_schema_id(key: &[u8]) -> Result<u32, Error> {
    let mut b = Bytes::plain("meta", key);
    b.take(ROW_SCHEMAS.len())?;
    read_u32(&mut b)
}

/// Beginning of the keys of a group's sinks.
pub(super) fn sinks(group: GroupId) -> Vec<u8> {
    join(&[b"sink/", &group.0.to_be_bytes()])
}

/// A sink of a group; 0 is Delta.
pub(super) fn sink(group: GroupId, sink: u32) -> Vec<u8> {
    join(&[&sinks(group), &sink.to_be_bytes()])
}

/// The sink in a key of [`sink`].
pub(super) fn sink_number(key: &[u8]) -> Result<u32, Error> {
    let number = key.last_chunk::<4>().ok_or_else(|| Error::corrupt("meta", "a key is not a sink's"))?;
    Ok(u32::from_be_bytes(*number))
}

pub(super) fn definition(kind: u8, name: &str, version: u32) -> Vec<u8> {
    join(&[&[kind], name.as_bytes(), &[0], &version.to_be_bytes()])
}

/// Beginning of all keys of `schemas` that belong to a registry; `what` is `i`, `f`, `s` or `c`.
pub(super) fn registry(registry: &str, what: u8) -> Vec<u8> {
    join(&[registry.as_bytes(), &[0, what]])
}

pub(super) fn schema(registry_id: &str, id: u32) -> Vec<u8> {
    join(&[&registry(registry_id, b'i'), &id.to_be_bytes()])
}

pub(super) fn subject_version(registry_id: &str, subject: &str, version: u32) -> Vec<u8> {
    join(&[&registry(registry_id, b's'), subject.as_bytes(), &[0], &version.to_be_bytes()])
}

pub(super) fn schema_facets(registry_id: &str, id: u32) -> Vec<u8> {
    join(&[&registry(registry_id, b'f'), &id.to_be_bytes()])
}

/// Subject and version in a key of [`subject_version`].
pub(super) fn parse_subject_version(prefix: &[u8], key: &[u8]) -> Result<(String, u32), Error> {
    let bad = || Error::corrupt("schemas", "a key is not a subject and its version");
    let rest = key.strip_prefix(prefix).ok_or_else(bad)?;
    let (subject, version) = rest.split_last_chunk::<4>().ok_or_else(bad)?;
    let subject = subject.strip_suffix(&[0]).ok_or_else(bad)?;
    let subject = std::str::from_utf8(subject).map_err(|_| bad())?;
    Ok((subject.to_owned(), u32::from_be_bytes(*version)))
}

pub(super) fn subject_config(registry_id: &str, subject: &str) -> Vec<u8> {
    join(&[&registry(registry_id, b'c'), subject.as_bytes()])
}

pub(super) fn log(stream: StreamId, partition: u32, offset: i64) -> [u8; 16] {
    let mut key = [0; 16];
    let (ids, tail) = key.split_at_mut(8);
    let (first, second) = ids.split_at_mut(4);
    first.copy_from_slice(&stream.0.to_be_bytes());
    second.copy_from_slice(&partition.to_be_bytes());
    tail.copy_from_slice(&signed(offset));
    key
}

/// The offset in a key of [`log`].
pub(super) fn log_offset(key: &[u8]) -> Result<i64, Error> {
    let mut b = Bytes::plain("log", key);
    b.take(8)?;
    read_signed(&mut b)
}

pub(super) fn producer(stream: StreamId, id: &str) -> Vec<u8> {
    join(&[&stream.0.to_be_bytes(), id.as_bytes()])
}

pub(super) fn position(group: GroupId, p: PartitionKey) -> Vec<u8> {
    join(&[&group.0.to_be_bytes(), &p.source.to_be_bytes(), &p.partition.to_be_bytes()])
}

pub(super) fn parse_position(key: &[u8]) -> Result<PartitionKey, Error> {
    let mut b = Bytes::plain("positions", key);
    read_u32(&mut b)?;
    Ok(PartitionKey { source: u16::from_be_bytes(b.array()?), partition: read_u32(&mut b)? })
}

/// `journal` and `outbox`: a group and a number.
pub(super) fn numbered(group: GroupId, n: u64) -> Vec<u8> {
    join(&[&group.0.to_be_bytes(), &n.to_be_bytes()])
}

/// The number in a key of [`numbered`].
pub(super) fn parse_numbered(family: &'static str, key: &[u8]) -> Result<u64, Error> {
    let mut b = Bytes::plain(family, key);
    read_u32(&mut b)?;
    b.array().map(u64::from_be_bytes)
}

/// What the entries of a slice begin with.
pub(super) fn slice(group: GroupId, operator: u16, slice_end: Micros) -> Vec<u8> {
    join(&[&group.0.to_be_bytes(), &operator.to_be_bytes(), &signed(slice_end.0)])
}

/// The same, of those of one key group.
pub(super) fn key_group(group: GroupId, operator: u16, slice_end: Micros, key_group: u8) -> Vec<u8> {
    join(&[&slice(group, operator, slice_end), &[key_group]])
}

pub(super) fn state(group: GroupId, k: &StateKey) -> Vec<u8> {
    join(&[&key_group(group, k.operator, k.slice_end, k.key_group), &k.key])
}

pub(super) fn parse_state(key: &[u8]) -> Result<StateKey, Error> {
    let mut b = Bytes::plain("state", key);
    read_u32(&mut b)?;
    Ok(StateKey {
        operator: u16::from_be_bytes(b.array()?),
        slice_end: Micros(read_signed(&mut b)?),
        key_group: b.u8()?,
        key: b.rest().to_vec(),
    })
}

pub(super) fn online(group: GroupId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_online(group, key, &mut out);
    out
}

/// The same into a buffer that is used again.
pub(super) fn write_online(group: GroupId, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&group.0.to_be_bytes());
    out.extend_from_slice(key);
}

pub(super) fn quarantine(stream: StreamId, partition: u32, offset: i64, group: GroupId) -> Vec<u8> {
    join(&[&log(stream, partition, offset), &group.0.to_be_bytes()])
}

/// Partition, offset and group in a key of [`quarantine`].
pub(super) fn parse_quarantine(key: &[u8]) -> Result<(u32, i64, GroupId), Error> {
    let mut b = Bytes::plain("quarantine", key);
    read_u32(&mut b)?;
    Ok((read_u32(&mut b)?, read_signed(&mut b)?, GroupId(read_u32(&mut b)?)))
}

pub(super) fn late(group: GroupId, epoch: u64, ordinal: u32) -> Vec<u8> {
    join(&[&numbered(group, epoch), &ordinal.to_be_bytes()])
}

/// Epoch and ordinal in a key of [`late`].
pub(super) fn parse_late(key: &[u8]) -> Result<(u64, u32), Error> {
    let mut b = Bytes::plain("late", key);
    read_u32(&mut b)?;
    Ok((b.array().map(u64::from_be_bytes)?, read_u32(&mut b)?))
}

/// The least key after all keys that begin with `prefix`; `None` where there is none.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat()
    }

    #[test]
    fn golden_keys() {
        let (group, stream) = (GroupId(7), StreamId(9));
        let p = PartitionKey { source: 1, partition: 2 };
        let state_key = StateKey { operator: 1, slice_end: Micros(-1), key_group: 63, key: vec![0xAB] };
        assert_eq!(hex(&group_record(group)), "67726f75702f00000007");
        assert_eq!(hex(&row_schema(3)), "726f77732f00000003");
        assert_eq!(hex(&sink(group, 2)), "73696e6b2f0000000700000002");
        assert_eq!(hex(&definition(1, "ctr", 2)), "016374720000000002");
        assert_eq!(hex(&schema("e", 5)), "65006900000005");
        assert_eq!(hex(&schema_facets("e", 5)), "65006600000005");
        assert_eq!(hex(&subject_version("e", "s-value", 1)), "650073732d76616c75650000000001");
        assert_eq!(hex(&subject_config("e", "s")), "65006373");
        assert_eq!(hex(&log(stream, 2, 3)), "00000009000000028000000000000003");
        assert_eq!(hex(&producer(stream, "p")), "0000000970");
        assert_eq!(hex(&position(group, p)), "00000007000100000002");
        assert_eq!(hex(&numbered(group, 4)), "000000070000000000000004");
        assert_eq!(hex(&state(group, &state_key)), "0000000700017fffffffffffffff3fab");
        assert_eq!(hex(&online(group, b"k")), "000000076b");
        assert_eq!(hex(&quarantine(stream, 2, -3, group)), "00000009000000027ffffffffffffffd00000007");
        assert_eq!(hex(&late(group, 4, 5)), "00000007000000000000000400000005");
    }

    #[test]
    fn after_a_prefix() {
        assert_eq!(after(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after(&[1, 255]), Some(vec![2]));
        assert_eq!(after(&[255, 255]), None);
    }

    fn state_key() -> impl Strategy<Value = StateKey> {
        (any::<u16>(), any::<i64>(), any::<u8>(), any::<Vec<u8>>()).prop_map(
            |(operator, end, key_group, key)| StateKey { operator, slice_end: Micros(end), key_group, key },
        )
    }

    proptest! {
        #[test]
        fn keys_come_back(k in state_key(), g in any::<u32>(), o in any::<i64>(), p in any::<u32>(), n in any::<u64>()) {
            let group = GroupId(g);
            prop_assert_eq!(parse_state(&state(group, &k)).unwrap(), k);
            prop_assert_eq!(log_offset(&log(StreamId(g), p, o)).unwrap(), o);
            prop_assert_eq!(parse_numbered("journal", &numbered(group, n)).unwrap(), n);
            prop_assert_eq!(parse_late(&late(group, n, p)).unwrap(), (n, p));
            prop_assert_eq!(parse_quarantine(&quarantine(StreamId(p), p, o, group)).unwrap(), (p, o, group));
            let at = PartitionKey { source: g as u16, partition: p };
            prop_assert_eq!(parse_position(&position(group, at)).unwrap(), at);
            prop_assert_eq!(row_schema_id(&row_schema(g)).unwrap(), g);
            prop_assert_eq!(sink_number(&sink(group, p)).unwrap(), p);
        }

        #[test]
        fn subjects_come_back(subject in "[^\\x00]{0,9}", version in any::<u32>()) {
            let prefix = registry("r", b's');
            let key = subject_version("r", &subject, version);
            prop_assert_eq!(parse_subject_version(&prefix, &key).unwrap(), (subject, version));
        }

        #[test]
        fn keys_are_ordered_as_their_parts(a in state_key(), b in state_key(), x in any::<(u32, u32, i64)>(), y in any::<(u32, u32, i64)>()) {
            prop_assert_eq!(state(GroupId(1), &a).cmp(&state(GroupId(1), &b)), a.cmp(&b));
            prop_assert_eq!(log(StreamId(x.0), x.1, x.2).cmp(&log(StreamId(y.0), y.1, y.2)), x.cmp(&y));
        }

        #[test]
        fn a_prefix_ends_where_it_says(prefix in any::<Vec<u8>>(), tail in any::<Vec<u8>>()) {
            let key = [prefix.as_slice(), &tail].concat();
            prop_assert!(after(&prefix).is_none_or(|end| key < end));
        }
    }
}
