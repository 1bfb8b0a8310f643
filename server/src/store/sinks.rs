//! How far the sinks of a group have come with its outbox.
//!
//! ```text
//! meta, sink/…   version u8 · through u64 · planned u64 (0: nothing) · planned_at i64
//! ```
//!
//! Number 0 is Delta, kept only for groups with sinks: without them the outbox itself begins where
//! Delta ends.

use std::collections::BTreeMap;

use millpond_engine::time::Micros;

use super::bytes::{Bytes, VERSION};
use super::db::{Batch, Db, Family};
use super::{Error, OutboxStats, Store, keys};
use crate::catalog::{GroupId, SinkId};

/// Delta among a group's sinks.
const DELTA: u32 = 0;

/// How far a sink has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinkProgress {
    /// It has the outbox entries up to this sequence, durably.
    pub through: u64,
    /// What is being written: the entries after `through`, up to and with this one. Kept before the
    /// first byte is written, so that whoever comes after a crash writes the same ones or none.
    pub planned: Option<Planned>,
}

/// A write that was decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The last sequence of it.
    pub last: u64,
    /// When it was decided, by the wall clock.
    pub at: Micros,
}

fn encode(progress: &SinkProgress) -> Vec<u8> {
    let (planned, at) = progress.planned.map_or((0, 0), |p| (p.last, p.at.0));
    let mut out = vec![VERSION];
    out.extend_from_slice(&progress.through.to_le_bytes());
    out.extend_from_slice(&planned.to_le_bytes());
    out.extend_from_slice(&at.to_le_bytes());
    out
}

fn decode(value: &[u8]) -> Result<SinkProgress, Error> {
    let mut b = Bytes::open("meta", value)?;
    let (through, last, at) = (b.u64()?, b.u64()?, Micros(b.i64()?));
    Ok(SinkProgress { through, planned: (last > 0).then_some(Planned { last, at }) })
}

/// Where Delta stands, and each sink.
pub(super) fn read(group: GroupId, db: &Db) -> Result<(u64, BTreeMap<SinkId, SinkProgress>), Error> {
    let mut drained = 0;
    let mut sinks = BTreeMap::new();
    let mut scan = db.scan(Family::Meta, &keys::sinks(group), None)?;
    while let Some((key, value)) = scan.advance()? {
        match (keys::sink_number(key)?, decode(value)?) {
            (DELTA, progress) => drained = progress.through,
            (number, progress) => {
                sinks.insert(SinkId(number), progress);
            }
        }
    }
    Ok((drained, sinks))
}

/// Keeps where Delta stands.
pub(super) fn put_drained(batch: &mut Batch<'_>, group: GroupId, through: u64) -> Result<(), Error> {
    batch.put(Family::Meta, &keys::sink(group, DELTA), &encode(&SinkProgress { through, planned: None }))
}

impl Store {
    /// Makes a sink known, before the group's first commit: from then on nothing is deleted from the
    /// outbox that the sink does not have. One that is known stays where it is.
    pub fn register_sink(&self, group: GroupId, sink: SinkId) -> Result<(), Error> {
        let state = self.group(group)?;
        let mut state = state.lock();
        if state.sinks.contains_key(&sink) {
            return Ok(());
        }
        let progress = SinkProgress::default();
        self.db.put(Family::Meta, &keys::sink(group, sink.0), &encode(&progress))?;
        state.sinks.insert(sink, progress);
        Ok(())
    }

    /// The sinks of a group that are known.
    pub fn sinks(&self, group: GroupId) -> Result<Vec<SinkId>, Error> {
        Ok(self.group(group)?.lock().sinks.keys().copied().collect())
    }

    /// The time of day, as the store has it.
    pub fn wall(&self) -> Micros {
        self.clock.wall()
    }

    /// How far a sink has come; from the beginning where it is not known.
    pub fn sink_progress(&self, group: GroupId, sink: SinkId) -> Result<SinkProgress, Error> {
        Ok(self.group(group)?.lock().sinks.get(&sink).copied().unwrap_or_default())
    }

    /// What a sink does not have yet.
    pub fn sink_stats(&self, group: GroupId, sink: SinkId) -> Result<OutboxStats, Error> {
        let state = self.group(group)?;
        let state = state.lock();
        let through = state.sinks.get(&sink).map_or(0, |s| s.through);
        Ok(state.owed_after(through))
    }

    /// Keeps how far a sink has come, synced, and deletes what nobody wants any more from the outbox.
    /// Returns the rows that the sink has now and did not have before. A sink that was dropped stays so.
    pub fn put_sink_progress(
        &self,
        group: GroupId,
        sink: SinkId,
        progress: SinkProgress,
    ) -> Result<u64, Error> {
        let state = self.group(group)?;
        let mut state = state.lock();
        let Some(before) = state.sinks.get(&sink).copied() else { return Ok(0) };
        let mut batch = Batch::new(&self.db);
        batch.put(Family::Meta, &keys::sink(group, sink.0), &encode(&progress))?;
        let rows = state.rows_between(before.through, progress.through);
        self.trim(group, &mut state, batch, |state| {
            state.sinks.insert(sink, progress);
        })?;
        Ok(rows)
    }

    /// Forgets a sink; what only it wanted goes from the outbox.
    pub fn drop_sink(&self, group: GroupId, sink: SinkId) -> Result<(), Error> {
        let state = self.group(group)?;
        let mut state = state.lock();
        let mut batch = Batch::new(&self.db);
        batch.delete(Family::Meta, &keys::sink(group, sink.0))?;
        if state.sinks.len() == 1 && state.sinks.contains_key(&sink) {
            // What is left in the outbox begins where Delta ends again.
            batch.delete(Family::Meta, &keys::sink(group, DELTA))?;
        }
        self.trim(group, &mut state, batch, |state| {
            state.sinks.remove(&sink);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_progress() {
        let planned = Some(Planned { last: 5, at: Micros(-2) });
        for (progress, hex) in [
            (SinkProgress { through: 3, planned }, "0103000000000000000500000000000000feffffffffffffff"),
            (SinkProgress::default(), "01000000000000000000000000000000000000000000000000"),
        ] {
            let value = encode(&progress);
            assert_eq!(value.iter().map(|b| format!("{b:02x}")).collect::<String>(), hex);
            assert_eq!(decode(&value).unwrap(), progress);
        }
        assert!(decode(&[1, 2]).is_err());
    }
}
