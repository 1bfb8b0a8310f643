//! The value of one key in `online`: its newest versions, merged without reading them first.
//!
//! ```text
//! version u8 · keep u8 · stamp i64 · then versions, the newest event time first:
//! event_time i64 · available_at i64 · commit u64 · op u8 (0 upsert, 1 delete) · row-schema id u32 · length u32 · row
//! ```
//!
//! A commit writes such a value as a merge operand. [`merge`] keeps, of all event times at their
//! greatest commit, the `keep` newest that are not ahead of the stamp, and all that are ahead of it.
//! It is associative: what a merge drops has `keep` newer event times at or before a stamp that only
//! grows, so no later merge can want it back.

use millpond_engine::epoch::Op;
use millpond_engine::time::Micros;

use super::Error;
use super::bytes::{Bytes, VERSION, put_sized};

const FAMILY: &str = "online";

/// Where the stamp stands in a value, to be filled in by the committer.
pub(super) const STAMP_AT: usize = 2;
/// Where `available_at` stands in a version.
pub(super) const AVAILABLE_AT: usize = 8;

/// One row of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version<'a> {
    pub event_time: Micros,
    pub available_at: Micros,
    pub commit: u64,
    pub op: Op,
    pub schema: u32,
    pub row: &'a [u8],
}

/// A value's head; its versions are read by [`Versions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub keep: u8,
    pub stamp: Micros,
}

impl Head {
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, self.keep]);
        out.extend_from_slice(&self.stamp.0.to_le_bytes());
    }
}

impl Version<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.event_time.0.to_le_bytes());
        out.extend_from_slice(&self.available_at.0.to_le_bytes());
        out.extend_from_slice(&self.commit.to_le_bytes());
        out.push(match self.op {
            Op::Upsert => 0,
            Op::Delete => 1,
        });
        out.extend_from_slice(&self.schema.to_le_bytes());
        put_sized(out, self.row);
    }
}

/// The versions of a value, the newest event time first.
pub(super) struct Versions<'a>(Bytes<'a>);

/// Reads a value's head.
pub(super) fn open(value: &[u8]) -> Result<(Head, Versions<'_>), Error> {
    let mut b = Bytes::open(FAMILY, value)?;
    let head = Head { keep: b.u8()?, stamp: Micros(b.i64()?) };
    Ok((head, Versions(b)))
}

impl<'a> Versions<'a> {
    fn read(&mut self) -> Result<Version<'a>, Error> {
        let b = &mut self.0;
        Ok(Version {
            event_time: Micros(b.i64()?),
            available_at: Micros(b.i64()?),
            commit: b.u64()?,
            op: match b.u8()? {
                0 => Op::Upsert,
                1 => Op::Delete,
                _ => return Err(b.bad("an operation is neither upsert nor delete")),
            },
            schema: b.u32()?,
            row: b.sized()?,
        })
    }
}

impl<'a> Iterator for Versions<'a> {
    type Item = Result<Version<'a>, Error>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let version = self.read();
        if version.is_err() {
            self.0 = Bytes::plain(FAMILY, &[]);
        }
        Some(version)
    }
}

/// Merges values of one key, the oldest first.
pub(super) fn merge<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, Error> {
    let mut all: Vec<Version<'a>> = Vec::with_capacity(8);
    let mut head = Head { keep: 0, stamp: Micros::MIN };
    let mut size = 0;
    for value in values {
        let (h, versions) = open(value)?;
        head = Head { keep: head.keep.max(h.keep), stamp: head.stamp.max(h.stamp) };
        size += value.len();
        for version in versions {
            all.push(version?);
        }
    }
    // The newest first; of one event time the greatest commit, and of one commit what came last.
    all.reverse();
    all.sort_by(|a, b| b.event_time.cmp(&a.event_time).then(b.commit.cmp(&a.commit)));
    all.dedup_by_key(|version| version.event_time);
    let mut out = Vec::with_capacity(size);
    head.write(&mut out);
    let mut kept = 0;
    for version in all {
        if version.event_time <= head.stamp {
            if kept == head.keep {
                break;
            }
            kept += 1;
        }
        version.write(&mut out);
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Row = (i64, u64);

    fn value(stamp: i64, rows: &[Row]) -> Vec<u8> {
        let mut out = Vec::new();
        Head { keep: 2, stamp: Micros(stamp) }.write(&mut out);
        for (event_time, commit) in rows {
            version(*event_time, stamp, *commit, &[*commit as u8]).write(&mut out);
        }
        out
    }

    fn version(event_time: i64, available_at: i64, commit: u64, row: &[u8]) -> Version<'_> {
        Version {
            event_time: Micros(event_time),
            available_at: Micros(available_at),
            commit,
            op: Op::Upsert,
            schema: 1,
            row,
        }
    }

    fn rows(value: &[u8]) -> Vec<Row> {
        open(value).unwrap().1.map(|v| v.unwrap()).map(|v| (v.event_time.0, v.commit)).collect()
    }

    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        Head { keep: 2, stamp: Micros(258) }.write(&mut out);
        Version { op: Op::Delete, ..version(-1, 258, 3, b"xy") }.write(&mut out);
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
        assert_eq!(
            hex,
            "01020201000000000000ffffffffffffffff0201000000000000030000000000000001010000000200000\
             07879"
        );
        assert_eq!(out[STAMP_AT..][..8], 258_i64.to_le_bytes());
        assert_eq!(out[10 + AVAILABLE_AT..][..8], 258_i64.to_le_bytes());
    }

    #[test]
    fn the_newest_two_and_those_ahead() {
        let merged = merge(
            [&value(10, &[(5, 1)])[..], &value(20, &[(30, 2), (15, 2)]), &value(25, &[(20, 3)])].into_iter(),
        );
        assert_eq!(rows(&merged.unwrap()), [(30, 2), (20, 3), (15, 2)]);
    }

    #[test]
    fn a_late_revision_replaces_only_its_own_event_time() {
        let merged =
            merge([&value(10, &[(5, 1)])[..], &value(20, &[(15, 2)]), &value(30, &[(5, 3)])].into_iter());
        assert_eq!(rows(&merged.unwrap()), [(15, 2), (5, 3)]);
    }

    #[test]
    fn what_was_not_written_here_is_refused() {
        let good = value(10, &[(5, 1)]);
        for n in 0..good.len() {
            if n != 10 {
                assert!(merge([&good[..n]].into_iter()).is_err(), "{n} bytes");
            }
        }
        assert!(merge([&[9; 40][..]].into_iter()).is_err());
    }

    /// What the rule of retention says, over all rows ever merged.
    fn naive(commits: &[(i64, Vec<i64>)]) -> Vec<Row> {
        let stamp = commits.iter().map(|c| c.0).max().unwrap();
        let mut newest: BTreeMap<i64, u64> = BTreeMap::new();
        for (i, (_, times)) in commits.iter().enumerate() {
            newest.extend(times.iter().map(|t| (*t, i as u64)));
        }
        let (past, ahead): (Vec<Row>, Vec<Row>) = newest.into_iter().partition(|r| r.0 <= stamp);
        ahead.into_iter().rev().chain(past.into_iter().rev().take(2)).collect()
    }

    proptest! {
        #[test]
        fn merging_is_associative_and_keeps_what_the_rule_says(
            mut commits in prop::collection::vec((0..20_i64, prop::collection::vec(0..30_i64, 0..4)), 1..9),
            splits in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            commits.sort_by_key(|c| c.0);
            let mut parts: Vec<Vec<u8>> = commits
                .iter()
                .enumerate()
                .map(|(i, (stamp, times))| {
                    let mut times = times.clone();
                    times.sort_unstable();
                    times.dedup();
                    value(*stamp, &times.iter().rev().map(|t| (*t, i as u64)).collect::<Vec<_>>())
                })
                .collect();
            // Merge neighbours in any order, as RocksDB may, then the rest.
            for split in splits {
                if parts.len() > 1 {
                    let i = split.index(parts.len() - 1);
                    let merged = merge(parts[i..i + 2].iter().map(Vec::as_slice)).unwrap();
                    parts.splice(i..i + 2, [merged]);
                }
            }
            let merged = merge(parts.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(rows(&merged), naive(&commits));
        }
    }
}
