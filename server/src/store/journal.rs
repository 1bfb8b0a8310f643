//! What a pipeline keeps of itself: positions, journal, and one record of running sums.
//!
//! | family | value |
//! | --- | --- |
//! | `positions` | version, JSON of [`Position`] |
//! | `journal` | version, `available_at` i64 (filled in at the commit), JSON of [`JournalEntry`] |
//! | `meta`, `group/…` | version, JSON of [`GroupRecord`] |

use std::collections::BTreeMap;

use millpond_engine::epoch::Reason;
use millpond_engine::time::Micros;
use serde::{Deserialize, Serialize};

use super::bytes::{self, Bytes, VERSION};
use super::commit::{Accounting, JournalEntry, PartitionKey, Position, Quarantined, Totals};
use super::db::{Batch, Db, Family, UNSTAMPED};
use super::{Error, Store, keys};
use crate::catalog::GroupId;

/// What grows with every epoch of a group, kept in the same batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupRecord {
    /// The last epoch committed; 0: none.
    pub epoch: u64,
    /// The last outbox sequence issued; 0: none. It stays when drained rows are deleted.
    pub sequence: u64,
    /// The group's modelled clock `C_e`.
    pub clock: Option<Micros>,
    /// Sums of the accounting.
    pub totals: Totals,
    /// Dead letters by reason.
    pub quarantined: BTreeMap<String, u64>,
    /// Those of them that are of another source than the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined_of: BTreeMap<u16, BTreeMap<String, u64>>,
    /// The last epoch that wrote the durable state. `None`: the last epoch did, as all of the first releases did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// The last epoch whose journal entry stands for several ([`super::fold`]); 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub folded: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants a reference
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl GroupRecord {
    /// Adds one epoch's counts.
    pub fn count<'q>(&mut self, counts: &[Accounting], letters: impl Iterator<Item = &'q Quarantined>) {
        for (source, c) in counts.iter().enumerate() {
            self.totals.entry(source as u16).or_default().add(c);
        }
        for letter in letters {
            let (source, reason) = (letter.partition.source, reason_name(letter.reason));
            if source > 0 {
                *self.quarantined_of.entry(source).or_default().entry(reason.clone()).or_default() += 1;
            }
            *self.quarantined.entry(reason).or_default() += 1;
        }
    }

    /// Dead letters of one source by reason.
    fn letters_of(&self, source: u16) -> BTreeMap<String, u64> {
        if source > 0 {
            return self.quarantined_of.get(&source).cloned().unwrap_or_default();
        }
        let mut first = self.quarantined.clone();
        for (reason, n) in self.quarantined_of.values().flatten() {
            if let Some(all) = first.get_mut(reason) {
                *all = all.saturating_sub(*n);
            }
        }
        first.retain(|_, n| *n > 0);
        first
    }
}

/// The name of a reason, as in JSON.
pub(super) fn reason_name(reason: Reason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{reason:?}"),
    }
}

pub(super) fn reason_of(name: &str) -> Result<Reason, Error> {
    serde_json::from_value(serde_json::Value::from(name))
        .map_err(|_| Error::corrupt("quarantine", format!("'{name}' is not a reason")))
}

/// Where `available_at` stands in a journal value.
const AVAILABLE_AT: usize = 1;

/// Puts the journal entry; `available_at` is the modelled clock, or filled in at the commit.
pub(super) fn put_entry(
    batch: &mut Batch<'_>,
    group: GroupId,
    entry: &JournalEntry,
    modelled: Option<Micros>,
) -> Result<(), Error> {
    let key = keys::numbered(group, entry.epoch);
    let mut value = vec![VERSION];
    value.extend_from_slice(&modelled.map_or(UNSTAMPED, |clock| clock.0.to_le_bytes()));
    serde_json::to_writer(&mut value, entry).map_err(|e| Error::corrupt("journal", e.to_string()))?;
    match modelled {
        Some(_) => batch.put(Family::Journal, &key, &value),
        None => batch.put_stamped(Family::Journal, &key, &value, AVAILABLE_AT),
    }
}

fn read_entry(value: &[u8]) -> Result<JournalEntry, Error> {
    let mut b = Bytes::open("journal", value)?;
    let available_at = Micros(b.i64()?);
    let mut entry: JournalEntry =
        serde_json::from_slice(b.rest()).map_err(|e| Error::corrupt("journal", e.to_string()))?;
    entry.available_at = available_at;
    Ok(entry)
}

/// The modelled clocks of all groups that have one.
pub(super) fn clocks(db: &Db) -> Result<BTreeMap<GroupId, Micros>, Error> {
    let mut clocks = BTreeMap::new();
    let mut scan = db.scan(Family::Meta, keys::GROUP_RECORDS, None)?;
    while let Some((key, value)) = scan.advance()? {
        if let Some(clock) = bytes::from_json::<GroupRecord>("meta", value)?.clock {
            clocks.insert(keys::group_of_record(key)?, clock);
        }
    }
    Ok(clocks)
}

impl Store {
    /// Where a pipeline stands, by partition; empty before its first epoch.
    pub fn positions(&self, group: GroupId) -> Result<Vec<(PartitionKey, Position)>, Error> {
        self.db
            .scan(Family::Positions, &keys::number(group.0), None)?
            .map(|k, v| Ok((keys::parse_position(k)?, bytes::from_json("positions", v)?)))
            .collect()
    }

    /// The last epoch that a pipeline committed.
    pub fn last_epoch(&self, group: GroupId) -> Result<Option<JournalEntry>, Error> {
        let epoch = self.group(group)?.lock().record.epoch;
        let value = self.db.get(Family::Journal, &keys::numbered(group, epoch))?;
        value.map(|v| read_entry(&v)).transpose()
    }

    /// The epoch at which the durable state stands, and the epochs since, in order. Empty before the
    /// first epoch.
    pub fn since_checkpoint(&self, group: GroupId) -> Result<Vec<JournalEntry>, Error> {
        let (checkpoint, last) = {
            let group = self.group(group)?;
            let state = group.lock();
            (state.record.checkpoint.unwrap_or(state.record.epoch), state.record.epoch)
        };
        let epochs = usize::try_from(last + 1 - checkpoint).unwrap_or(usize::MAX);
        let entries = self.journal(group, checkpoint, epochs)?;
        let whole = entries.iter().map(|e| e.epoch).eq(checkpoint.max(1)..=last);
        if whole {
            Ok(entries)
        } else {
            Err(Error::corrupt("journal", "epochs are missing since the checkpoint"))
        }
    }

    /// Up to `limit` journal entries in order, from the one that holds epoch `from` on.
    pub fn journal(&self, group: GroupId, from: u64, limit: usize) -> Result<Vec<JournalEntry>, Error> {
        self.db
            .scan(Family::Journal, &keys::number(group.0), Some(&keys::numbered(group, from)))?
            .map(|_, v| read_entry(v))
            .take(limit)
            .collect()
    }

    /// Sums of the accounting by source, over all epochs.
    pub fn totals(&self, group: GroupId) -> Result<Totals, Error> {
        Ok(self.group(group)?.lock().record.totals.clone())
    }

    /// Dead letters by reason, over all epochs.
    pub fn quarantine_counts(&self, group: GroupId) -> Result<Vec<(Reason, u64)>, Error> {
        let group = self.group(group)?;
        let state = group.lock();
        state.record.quarantined.iter().map(|(name, n)| Ok((reason_of(name)?, *n))).collect()
    }

    /// The same of one of its sources.
    pub fn quarantine_counts_of(&self, group: GroupId, source: u16) -> Result<Vec<(Reason, u64)>, Error> {
        let counts = self.group(group)?.lock().record.letters_of(source);
        counts.into_iter().map(|(name, n)| Ok((reason_of(&name)?, n))).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millpond_engine::epoch::CloseCursor;

    use super::*;
    use crate::store::commit::JournalRange;

    fn entry() -> JournalEntry {
        JournalEntry {
            epoch: 3,
            first_epoch: None,
            opened_at: Micros(1),
            ranges: vec![JournalRange {
                partition: PartitionKey { source: 0, partition: 1 },
                from: 0,
                to: 2,
                count: 2,
                digest: u64::MAX,
            }],
            source_watermarks: vec![Micros::MIN],
            watermark: Micros(-1),
            available_at: Micros(9),
            modelled: false,
            counts: vec![Accounting { read: 2, applied: 2, ..Accounting::default() }],
            rows: 1,
            close_cursor: Some(CloseCursor { window_end: Micros(5), key: vec![1, 255] }),
            unknown_schema_ids: vec![7],
            checkpoint: true,
            max_rows: 0,
            semantics: 1,
            finishes: Vec::new(),
        }
    }

    /// Written by the first release: what it wrote is read for ever.
    const GOLDEN: &str = r#"{"epoch":3,"opened_at":1,"ranges":[{"partition":{"source":0,"partition":1},"from":0,"to":2,"count":2,"digest":18446744073709551615}],"source_watermarks":[-9223372036854775808],"watermark":-1,"available_at":0,"modelled":false,"counts":[{"read":2,"applied":2,"late":0,"filtered":0,"quarantined":0,"tombstones":0,"heartbeats":0,"superseded":0}],"rows":1,"close_cursor":{"window_end":5,"key":[1,255]},"unknown_schema_ids":[7],"checkpoint":true,"semantics":1}"#;

    #[test]
    fn golden_journal_entry() {
        let value = [&[1, 9, 0, 0, 0, 0, 0, 0, 0], GOLDEN.as_bytes()].concat();
        assert_eq!(read_entry(&value).unwrap(), entry());
        let again = JournalEntry { available_at: Micros(0), ..entry() };
        assert_eq!(serde_json::to_string(&again).unwrap(), GOLDEN);
        assert!(read_entry(b"\x02").is_err());
    }

    #[test]
    fn golden_position() {
        let position = Position {
            offset: 4,
            max_event_time: Some(Micros(-5)),
            identity: "embedded".to_owned(),
            last_record: Some((3, u64::MAX)),
        };
        let golden = b"\x01{\"offset\":4,\"max_event_time\":-5,\"identity\":\"embedded\",\"last_record\":[3,18446744073709551615]}";
        assert_eq!(bytes::json("positions", &position).unwrap(), golden);
        assert_eq!(bytes::from_json::<Position>("positions", golden).unwrap(), position);
    }

    #[test]
    fn golden_group_record() {
        let mut record =
            GroupRecord { epoch: 2, sequence: 5, clock: Some(Micros(7)), ..GroupRecord::default() };
        let counts = Accounting { read: 1, quarantined: 1, ..Accounting::default() };
        let letter = |source| Quarantined {
            partition: PartitionKey { source, partition: 0 },
            offset: 0,
            reason: Reason::BadFrame,
            detail: String::new(),
            key: None,
            value: None,
        };
        record.count(&[counts], [letter(0)].iter());
        record.count(&[counts], [letter(0)].iter());
        let golden = br#"{"epoch":2,"sequence":5,"clock":7,"totals":{"0":{"read":2,"applied":0,"late":0,"filtered":0,"quarantined":2,"tombstones":0,"heartbeats":0,"superseded":0}},"quarantined":{"bad_frame":2}}"#;
        assert_eq!(bytes::json("meta", &record).unwrap(), [&[1], &golden[..]].concat());
        assert_eq!(bytes::from_json::<GroupRecord>("meta", &[&[1], &golden[..]].concat()).unwrap(), record);

        // Of several sources: what is not of the others is of the first.
        record.count(&[counts], [letter(2), letter(0), letter(2)].iter());
        let counts = |source| record.letters_of(source).into_values().collect::<Vec<_>>();
        assert_eq!((counts(0), counts(1), counts(2)), (vec![3], vec![], vec![2]));
        let value = bytes::json("meta", &record).unwrap();
        assert!(String::from_utf8_lossy(&value).contains(r#""quarantined_of":{"2":{"bad_frame":2}}"#));
        assert_eq!(bytes::from_json::<GroupRecord>("meta", &value).unwrap(), record);
    }
}
