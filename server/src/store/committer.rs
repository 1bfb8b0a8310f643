//! The commit of an epoch (invariant 1): everything encoded first, then one stamp, one synced batch.

use std::sync::Arc;

use arrow::compute::concat_batches;
use millpond_engine::epoch::{Emitted, Op};
use millpond_engine::state::StateChange;
use millpond_engine::time::Micros;
use parking_lot::MutexGuard;

use super::bytes;
use super::commit::{Availability, Committed, EpochCommit};
use super::db::{Batch, Family, UNSTAMPED};
use super::groups::{GroupState, Owed, Registered};
use super::hot::{Merges, SMALL};
use super::journal::GroupRecord;
use super::log::Place;
use super::view::Published;
use super::{Error, Store, changes, journal, keys, online, outbox, quarantine, row};

/// The stamp of the last commit, in `meta`.
pub(super) const CLOCK_KEY: &[u8] = b"clock";

impl Store {
    /// Commits one epoch: one atomic, synced batch. Returns when its rows became available: the live
    /// stamp, or the group's modelled clock.
    ///
    /// # Errors
    /// [`Error::Epoch`] if it is not the group's next one, [`Error::Rows`] if the parts do not fit:
    /// nothing was written. [`Error::Fatal`]: unknown what was written; open the store again.
    pub fn commit(&self, commit: &EpochCommit) -> Result<Committed, Error> {
        let group = self.group(commit.group)?;
        let mut state = group.lock();
        let (batch, record, owed, changes) = encode(self, commit, &mut state)?;
        let batch = batch.seal();

        let committer = self.committer.lock();
        let last = self.published.load().stamp;
        // The clock of a backfill that ends here was given as `as_of`: no stamp at or before it.
        let backfilled_to = state.record.clock.map_or(Micros::MIN, Micros::next);
        let floor = match commit.availability {
            Availability::Live => commit.journal.opened_at.max(backfilled_to),
            Availability::Modelled { .. } => commit.journal.opened_at,
        };
        let stamp = self.clock.begin(last, floor);
        self.db.write_stamped(batch, stamp.0, CLOCK_KEY)?;
        // Whoever sees the view finds the changes that belong to it.
        if let Some(changes) = changes {
            changes.written();
        }
        self.publish(&committer, |view| {
            view.stamp = stamp;
            if view.clocks.get(&commit.group) != record.clock.as_ref() {
                let mut clocks = view.clocks.as_ref().clone();
                match record.clock {
                    Some(clock) => clocks.insert(commit.group, clock),
                    None => clocks.remove(&commit.group),
                };
                view.clocks = Arc::new(clocks);
            }
        });
        self.clock.end();
        drop(committer);

        let available_at = match commit.availability {
            Availability::Live => stamp,
            Availability::Modelled { clock, .. } => clock,
        };
        state.record = record;
        if let Some(owed) = owed {
            state.owe(Owed { available_at, ..owed });
        }
        Ok(Committed { available_at })
    }

    /// Replaces the published view with one of now, changed by `change`.
    pub(super) fn publish(&self, _committer: &MutexGuard<'_, ()>, change: impl FnOnce(&mut Published)) {
        let mut view = self.published.load().again();
        change(&mut view);
        self.published.store(Arc::new(view));
    }
}

type Encoded<'s> = (Batch<'s>, GroupRecord, Option<Owed>, Option<Place>);

fn encode<'s>(store: &'s Store, commit: &EpochCommit, state: &mut GroupState) -> Result<Encoded<'s>, Error> {
    let expected = state.record.epoch + 1;
    if commit.epoch != expected || commit.journal.epoch != expected {
        return Err(Error::Epoch { expected, found: commit.epoch });
    }
    check(commit)?;
    let mut batch = Batch::new(&store.db);
    let (group, mut record) = (commit.group, state.record.clone());
    record.epoch = commit.epoch;
    if commit.journal.checkpoint {
        record.checkpoint = Some(commit.epoch);
    } else if record.checkpoint.is_none() {
        // The state of an older release stands at its last epoch.
        record.checkpoint = Some(expected - 1);
    }
    record.count(&commit.journal.counts, commit.quarantine.iter());
    // A live commit ends a backfill: from here the store's clock is the group's.
    let modelled = match commit.availability {
        Availability::Live => None,
        Availability::Modelled { clock, .. } => Some(clock),
    };
    record.clock = modelled;

    for (at, position) in &commit.positions {
        batch.put(Family::Positions, &keys::position(group, *at), &bytes::json("positions", position)?)?;
    }
    journal::put_entry(&mut batch, group, &commit.journal, modelled)?;
    for change in &commit.state {
        match change {
            StateChange::Put(row) => batch.put(Family::State, &keys::state(group, &row.key), &row.value)?,
            StateChange::Delete(key) => batch.delete(Family::State, &keys::state(group, key))?,
            StateChange::DropSlice { operator, slice_end, key_groups } => {
                let of = |key_group| keys::key_group(group, *operator, *slice_end, key_group);
                batch.delete_range(Family::State, &of(key_groups.first), &of(key_groups.last + 1))?;
            }
        }
    }
    let mut changes = None;
    let owed = if commit.rows.iter().any(|e| !e.keys.is_empty()) {
        let rows = state.rows.as_ref().ok_or(Error::Unregistered(group))?;
        put_online(store, &mut batch, commit, rows, &mut state.merges)?;
        if let Some(stream) = state.changes {
            changes = Some(changes::put(store, &mut batch, stream, commit, rows.layout.schema())?);
        }
        record.sequence += 1;
        Some(put_outbox(&mut batch, commit, rows, record.sequence)?)
    } else {
        None
    };
    for q in &commit.quarantine {
        let stream = commit.streams.get(usize::from(q.partition.source)).ok_or_else(|| {
            Error::Rows(format!(
                "a record of source {} is set aside: there is no such source",
                q.partition.source
            ))
        })?;
        let key = keys::quarantine(*stream, q.partition.partition, q.offset, group);
        batch.put(Family::Quarantine, &key, &quarantine::encode(q))?;
    }
    for (ordinal, l) in commit.late.iter().enumerate() {
        let key = keys::late(group, commit.epoch, ordinal as u32);
        batch.put(Family::Late, &key, &quarantine::encode_late(l))?;
    }
    batch.put(Family::Meta, &keys::group_record(group), &bytes::json("meta", &record)?)?;
    Ok((batch, record, owed, changes))
}

/// The parts of the rows must be of one length, or rows and keys would be mixed up on disk.
fn check(commit: &EpochCommit) -> Result<(), Error> {
    for (i, e) in commit.rows.iter().enumerate() {
        let n = e.features.num_rows();
        let available = match &commit.availability {
            Availability::Live => n,
            Availability::Modelled { rows, .. } => rows.get(i).map_or(0, Vec::len),
        };
        if [e.keys.len(), e.event_times.len(), e.ops.len(), available] != [n; 4] {
            return Err(Error::Rows(format!("batch {i} has {n} rows, but another number of keys or times")));
        }
    }
    Ok(())
}

/// Position of a row: which batch, which row of it.
type At = (usize, usize);

/// One merge operand per key, in the order of the keys.
fn put_online(
    store: &Store,
    batch: &mut Batch<'_>,
    commit: &EpochCommit,
    rows: &Registered,
    merges: &mut Merges,
) -> Result<(), Error> {
    let encoders = commit
        .rows
        .iter()
        .map(|e| row::Encoder::new(&rows.layout, &e.features))
        .collect::<Result<Vec<_>, _>>()?;
    if rows.keep == 0 {
        return Ok(());
    }
    let mut order: Vec<(&[u8], Micros, At)> = Vec::new();
    for (b, e) in commit.rows.iter().enumerate() {
        order.extend(
            e.keys.iter().zip(&e.event_times).enumerate().map(|(r, (k, t))| (k.as_slice(), *t, (b, r))),
        );
    }
    order.sort_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));

    let stamp = match commit.availability {
        Availability::Live => Micros(i64::from_le_bytes(UNSTAMPED)),
        Availability::Modelled { clock, .. } => clock,
    };
    let family = store.db.family(Family::Online)?;
    let (mut key, mut value, mut bytes, mut stamps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for of_key in order.chunk_by(|a, b| a.0 == b.0) {
        value.clear();
        stamps.clear();
        online::Head { keep: rows.keep, stamp }.write(&mut value);
        stamps.push(online::STAMP_AT);
        for (_, event_time, (b, r)) in of_key {
            let (Some(encoder), Some(e)) = (encoders.get(*b), commit.rows.get(*b)) else { continue };
            bytes.clear();
            encoder.append(*r, &mut bytes);
            stamps.push(value.len() + online::AVAILABLE_AT);
            online::Version {
                event_time: *event_time,
                available_at: available_at(commit, *b, *r).unwrap_or(stamp),
                commit: commit.epoch,
                op: e.ops.get(*r).copied().unwrap_or(Op::Upsert),
                schema: rows.schema_id,
                row: &bytes,
            }
            .write(&mut value);
        }
        let live = matches!(commit.availability, Availability::Live);
        let Some((of_group, _, _)) = of_key.first() else { continue };
        let at: &[usize] = if live { &stamps } else { &[] };
        keys::write_online(commit.group, of_group, &mut key);
        if order.len() <= SMALL
            && merges.count(&key)
            && let Some(before) = store.db.get(Family::Online, &key)?
        {
            batch.put(Family::Online, &key, &before)?;
        }
        batch.merge(family, &key, &value, at);
    }
    Ok(())
}

/// The modelled availability of a row.
fn available_at(commit: &EpochCommit, batch: usize, row: usize) -> Option<Micros> {
    match &commit.availability {
        Availability::Live => None,
        Availability::Modelled { rows, .. } => rows.get(batch).and_then(|b| b.get(row)).copied(),
    }
}

/// The rows of the epoch as one outbox entry.
fn put_outbox(
    batch: &mut Batch<'_>,
    commit: &EpochCommit,
    rows: &Registered,
    sequence: u64,
) -> Result<Owed, Error> {
    fn flat<T: Copy>(rows: &[Emitted], part: impl Fn(&Emitted) -> &[T]) -> Vec<T> {
        rows.iter().flat_map(|e| part(e).iter().copied()).collect()
    }
    let event_times = flat(&commit.rows, |e| &e.event_times);
    let ops = flat(&commit.rows, |e| &e.ops);
    let schema = rows.layout.schema();
    let features = concat_batches(schema, commit.rows.iter().map(|e| &e.features))
        .map_err(|e| Error::Rows(e.to_string()))?;
    let modelled = match &commit.availability {
        Availability::Live => None,
        Availability::Modelled { clock, rows } => Some((*clock, rows.concat())),
    };
    let value = outbox::encode(&outbox::Rows {
        epoch: commit.epoch,
        event_times: &event_times,
        ops: &ops,
        modelled: modelled.as_ref().map(|(clock, rows)| outbox::Modelled { clock: *clock, rows }),
        features: &features,
    })?;
    let key = keys::numbered(commit.group, sequence);
    match modelled {
        Some(_) => batch.put(Family::Outbox, &key, &value)?,
        None => batch.put_stamped(Family::Outbox, &key, &value, outbox::AVAILABLE_AT)?,
    }
    Ok(Owed { sequence, rows: event_times.len() as u64, rows_so_far: 0, available_at: Micros::MIN })
}
