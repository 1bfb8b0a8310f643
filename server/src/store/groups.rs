//! What the store knows of each group while it runs: running sums, outbox backlog, row schema.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use millpond_engine::time::Micros;
use parking_lot::Mutex;

use super::bytes::{self, Bytes, VERSION};
use super::db::{Db, Family};
use super::hot::Merges;
use super::journal::GroupRecord;
use super::row::Layout;
use super::sinks::{self, SinkProgress};
use super::{Error, Store, keys, outbox};
use crate::catalog::{GroupId, SinkId, StreamId};

/// Event times that a key keeps online, unless the group says otherwise: latest and previous.
pub const VERSIONS: u8 = 2;

/// A group as the committer sees it. Its lock is held for the length of a commit: a group's commits
/// come one after the other anyway.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    pub record: GroupRecord,
    /// Outbox entries that somebody still wants, oldest first.
    pub backlog: VecDeque<Owed>,
    pub rows: Option<Registered>,
    /// How often keys were merged online.
    pub merges: Merges,
    /// Delta has the entries up to here.
    pub drained: u64,
    /// How far each sink has come: an entry goes when Delta and all of them have it.
    pub sinks: BTreeMap<SinkId, SinkProgress>,
    /// The stream that its rows are written to for those who look them up.
    pub changes: Option<StreamId>,
}

impl GroupState {
    /// Adds an entry that was committed.
    pub fn owe(&mut self, owed: Owed) {
        let before = self.backlog.back().map_or(0, |last| last.rows_so_far);
        self.backlog.push_back(Owed { rows_so_far: before + owed.rows, ..owed });
    }

    /// What is owed to one that has the entries up to a sequence. The backlog may be long, and those who
    /// ask are many: its sums are kept, not made.
    pub fn owed_after(&self, through: u64) -> OutboxStats {
        let oldest = self.backlog.get(self.place_after(through)).map(|o| o.available_at);
        OutboxStats { rows: self.rows_between(through, u64::MAX), oldest }
    }

    /// Rows of the entries after the first sequence, up to and with the second.
    pub fn rows_between(&self, after: u64, through: u64) -> u64 {
        let place = self.place_after(after);
        let Some(first) = self.backlog.get(place) else { return 0 };
        let last = self.place_after(through).checked_sub(1).and_then(|last| self.backlog.get(last));
        last.map_or(0, |last| (last.rows_so_far + first.rows).saturating_sub(first.rows_so_far))
    }

    /// Where in the backlog what comes after a sequence begins.
    pub fn place_after(&self, sequence: u64) -> usize {
        self.backlog.partition_point(|o| o.sequence <= sequence)
    }
}

/// One outbox entry, without its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    pub sequence: u64,
    pub rows: u64,
    /// Rows of this entry and of all before it since the store was opened.
    pub rows_so_far: u64,
    pub available_at: Micros,
}

/// How a group's rows are written.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub schema_id: u32,
    pub layout: Arc<Layout>,
    /// Event times kept by key; 0: no online rows.
    pub keep: u8,
}

/// Row schemas by id, and the group of each.
pub(super) type RowSchemas = BTreeMap<u32, (GroupId, Arc<Layout>)>;

/// Rows owed to Delta, or to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxStats {
    /// Rows.
    pub rows: u64,
    /// When the oldest became available.
    pub oldest: Option<Micros>,
}

#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<HashMap<GroupId, Arc<Mutex<GroupState>>>>);

impl Groups {
    fn of(&self, group: GroupId, db: &Db) -> Result<Arc<Mutex<GroupState>>, Error> {
        let mut groups = self.0.lock();
        if let Some(state) = groups.get(&group) {
            return Ok(Arc::clone(state));
        }
        let record = match db.get(Family::Meta, &keys::group_record(group))? {
            Some(value) => bytes::from_json("meta", &value)?,
            None => GroupRecord::default(),
        };
        let (drained, sinks) = sinks::read(group, db)?;
        let mut state = GroupState { record, drained, sinks, ..GroupState::default() };
        let mut outbox = db.scan(Family::Outbox, &keys::number(group.0), None)?;
        while let Some((key, value)) = outbox.advance()? {
            let (head, _) = outbox::head(value)?;
            let sequence = keys::parse_numbered("outbox", key)?;
            let (rows, available_at) = (head.rows.into(), head.available_at);
            state.owe(Owed { sequence, rows, rows_so_far: 0, available_at });
        }
        let state = Arc::new(Mutex::new(state));
        groups.insert(group, Arc::clone(&state));
        Ok(state)
    }

    pub fn forget(&self, group: GroupId) {
        self.0.lock().remove(&group);
    }
}

/// Reads all row schemas.
pub(super) fn row_schemas(db: &Db) -> Result<RowSchemas, Error> {
    db.scan(Family::Meta, keys::ROW_SCHEMAS, None)?
        .map(|k, v| {
            let mut b = Bytes::open("meta", v)?;
            let group = GroupId(b.u32()?);
            let reader = StreamReader::try_new(b.rest(), None).map_err(|e| b.bad(&e.to_string()))?;
            Ok((keys::row_schema_id(k)?, (group, Arc::new(Layout::new(reader.schema())?))))
        })
        .collect()
}

fn encode_schema(group: GroupId, schema: &Schema) -> Result<Vec<u8>, Error> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&group.0.to_le_bytes());
    StreamWriter::try_new(out, schema)
        .and_then(|mut writer| writer.finish().and_then(|()| writer.into_inner()))
        .map_err(|e| Error::Rows(e.to_string()))
}

impl Store {
    pub(super) fn group(&self, group: GroupId) -> Result<Arc<Mutex<GroupState>>, Error> {
        self.groups.of(group, &self.db)
    }

    /// Makes a group's row schema known, before its first commit in this process; returns its id.
    ///
    /// `features` are the features with the primary key as defined, `versions` the number of event
    /// times that each key keeps online ([`VERSIONS`]; 0 for a group without online rows).
    pub fn register_group(&self, group: GroupId, features: &SchemaRef, versions: u8) -> Result<u32, Error> {
        let state = self.group(group)?;
        let mut state = state.lock();
        let committer = self.committer.lock();
        let mut schemas = self.published.load().schemas.as_ref().clone();
        let known =
            schemas.iter().find(|(_, (of, l))| *of == group && l.schema().fields() == features.fields());
        let (schema_id, layout) = match known {
            Some((id, (_, layout))) => (*id, Arc::clone(layout)),
            None => {
                let id = schemas.last_key_value().map_or(0, |(id, _)| *id) + 1;
                let layout = Arc::new(Layout::new(Arc::clone(features))?);
                self.db.put(Family::Meta, &keys::row_schema(id), &encode_schema(group, features)?)?;
                schemas.insert(id, (group, Arc::clone(&layout)));
                self.publish(&committer, |view| view.schemas = Arc::new(schemas));
                (id, layout)
            }
        };
        state.rows = Some(Registered { schema_id, layout, keep: versions });
        Ok(schema_id)
    }

    /// What the group owes to Delta.
    pub fn outbox_stats(&self, group: GroupId) -> Result<OutboxStats, Error> {
        let state = self.group(group)?;
        let state = state.lock();
        Ok(state.owed_after(state.drained))
    }

    /// The last outbox sequence ever issued to the group, drained or not; 0: none. If Delta's txn
    /// version is beyond it, this database was rolled back.
    pub fn outbox_last_issued(&self, group: GroupId) -> Result<u64, Error> {
        Ok(self.group(group)?.lock().record.sequence)
    }

    /// The first outbox entry that Delta is not known to have.
    pub fn outbox_first_owed(&self, group: GroupId) -> Result<Option<u64>, Error> {
        let state = self.group(group)?;
        let state = state.lock();
        Ok(state.backlog.get(state.place_after(state.drained)).map(|o| o.sequence))
    }

    /// Gives outbox entries up to and with a sequence up: their Delta version is durable. They are
    /// deleted as soon as every sink of the group has them too. Returns how many rows they held.
    pub fn delete_outbox(&self, group: GroupId, through: u64) -> Result<u64, Error> {
        let state = self.group(group)?;
        let mut state = state.lock();
        let (before, mut batch) = (state.drained, super::db::Batch::new(&self.db));
        let drained = before.max(through);
        if !state.sinks.is_empty() {
            sinks::put_drained(&mut batch, group, drained)?;
        }
        let rows = state.rows_between(before, drained);
        self.trim(group, &mut state, batch, |state| state.drained = drained)?;
        Ok(rows)
    }

    /// Writes the batch, changes the state and deletes the outbox entries that nobody wants any more.
    pub(super) fn trim(
        &self,
        group: GroupId,
        state: &mut GroupState,
        mut batch: super::db::Batch<'_>,
        change: impl FnOnce(&mut GroupState),
    ) -> Result<(), Error> {
        // The write is fatal where it fails, so the state may be changed before it.
        change(state);
        let through = state.sinks.values().map(|s| s.through).fold(state.drained, u64::min);
        let unwanted = state.place_after(through);
        if unwanted > 0 {
            let end = keys::numbered(group, through.saturating_add(1));
            batch.delete_range(Family::Outbox, &keys::numbered(group, 0), &end)?;
        }
        self.db.write(batch)?;
        if unwanted > 0 {
            state.backlog.drain(..unwanted);
            // The published snapshot would keep the rows on disk as long as the store is quiet.
            self.publish(&self.committer.lock(), |_| {});
        }
        Ok(())
    }

    /// Removes everything of a group and its pipeline: online rows, state, positions, journal, late and
    /// quarantined records, what is left in the outbox. Its id is never given again.
    pub fn drop_group(&self, group: GroupId) -> Result<(), Error> {
        let state = self.group(group)?;
        let mut state = state.lock();
        let mut batch = super::db::Batch::new(&self.db);
        let prefix = keys::number(group.0);
        let families =
            [Family::Positions, Family::Journal, Family::State, Family::Online, Family::Outbox, Family::Late];
        for family in families {
            batch.delete_prefix(family, &prefix)?;
        }
        let mut letters = self.db.scan(Family::Quarantine, &[], None)?;
        while let Some((key, _)) = letters.advance()? {
            if keys::parse_quarantine(key)?.2 == group {
                batch.delete(Family::Quarantine, key)?;
            }
        }
        batch.delete(Family::Meta, &keys::group_record(group))?;
        batch.delete_prefix(Family::Meta, &keys::sinks(group))?;
        let committer = self.committer.lock();
        self.db.write(batch)?;
        *state = GroupState::default();
        self.groups.forget(group);
        self.publish(&committer, |view| {
            let mut clocks = view.clocks.as_ref().clone();
            clocks.remove(&group);
            view.clocks = Arc::new(clocks);
        });
        Ok(())
    }
}
