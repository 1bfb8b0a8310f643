//! Reading: one snapshot of everything, and the instant it is good for.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond_engine::epoch::Op;
use millpond_engine::pick::Stamp;
use millpond_engine::time::Micros;
use rocksdb::{DB, DBPinnableSlice, ReadOptions, SnapshotWithThreadMode};
use self_cell::self_cell;

use super::commit::OutboxEntry;
use super::db::{Db, Family, Scan};
use super::groups::RowSchemas;
use super::row::Layout;
use super::scalar::Scalar;
use super::{Error, Store, keys, online, outbox};
use crate::catalog::GroupId;

type Snapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell!(
    struct OwnedSnapshot {
        owner: Arc<Db>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// What the committer publishes after each commit. Never changed, only replaced.
pub(super) struct Published {
    snapshot: OwnedSnapshot,
    /// The stamp of the last commit in the snapshot.
    pub stamp: Micros,
    /// The modelled clocks of the groups that have one.
    pub clocks: Arc<BTreeMap<GroupId, Micros>>,
    pub schemas: Arc<RowSchemas>,
}

impl Published {
    pub fn now(
        db: &Arc<Db>,
        stamp: Micros,
        clocks: Arc<BTreeMap<GroupId, Micros>>,
        schemas: Arc<RowSchemas>,
    ) -> Self {
        let snapshot = OwnedSnapshot::new(Arc::clone(db), |db| db.rocks().snapshot());
        Self { snapshot, stamp, clocks, schemas }
    }

    /// The same, seen now.
    pub fn again(&self) -> Self {
        let db = self.snapshot.borrow_owner();
        Self::now(db, self.stamp, Arc::clone(&self.clocks), Arc::clone(&self.schemas))
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.snapshot.borrow_dependent());
        options
    }

    fn scan(&self, family: Family, prefix: &[u8], from: &[u8]) -> Result<Scan<'_>, Error> {
        let db = self.snapshot.borrow_owner();
        let mut options = self.options();
        if let Some(end) = keys::after(prefix) {
            options.set_iterate_upper_bound(end);
        }
        Ok(Scan::new(db.rocks().raw_iterator_cf_opt(db.family(family)?, options), from))
    }
}

/// One consistent state of the store. Cheap to clone; holding one keeps what it sees on disk.
#[derive(Clone)]
pub struct ReadView {
    published: Arc<Published>,
    as_of: Micros,
}

impl std::fmt::Debug for ReadView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadView").field("as_of", &self.as_of).field("stamp", &self.stamp()).finish()
    }
}

impl ReadView {
    pub(super) fn new(published: Arc<Published>, as_of: Micros) -> Self {
        Self { published, as_of }
    }

    /// The instant that this view is good for, for live groups: no later commit becomes available at
    /// or before it.
    pub fn as_of(&self) -> Micros {
        self.as_of
    }

    /// The stamp of the last commit that this view sees.
    pub fn stamp(&self) -> Micros {
        self.published.stamp
    }

    /// The modelled clock of a historical (or backfilling) group, which is the `as_of` of its reads;
    /// `None` before its first modelled epoch and for live groups.
    pub fn clock(&self, group: GroupId) -> Option<Micros> {
        self.published.clocks.get(&group).copied()
    }

    /// The online rows of several keys, each `None` where the key has none. One batched read.
    pub fn multi_get(&self, wanted: &[(GroupId, &[u8])]) -> Result<Vec<Option<OnlineVersions<'_>>>, Error> {
        let db = self.published.snapshot.borrow_owner();
        let keys: Vec<Vec<u8>> = wanted.iter().map(|(group, key)| keys::online(*group, key)).collect();
        db.rocks()
            .batched_multi_get_cf_opt(db.family(Family::Online)?, &keys, false, &self.published.options())
            .into_iter()
            .map(|value| {
                value?.map(|v| OnlineVersions::new(Value::Pinned(v), &self.published.schemas)).transpose()
            })
            .collect()
    }

    /// All online rows of a group in the order of their encoded keys, those after `after` only.
    pub fn scan(
        &self,
        group: GroupId,
        after: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<(Vec<u8>, OnlineVersions<'_>), Error>> + '_, Error> {
        let prefix = keys::number(group.0);
        let from = after.map_or_else(|| prefix.clone(), |key| [&keys::online(group, key)[..], &[0]].concat());
        let scan = self.published.scan(Family::Online, &prefix, &from)?;
        Ok(scan.map(move |k, v| {
            let key = k.get(prefix.len()..).unwrap_or_default().to_vec();
            Ok((key, OnlineVersions::new(Value::Owned(v.to_vec()), &self.published.schemas)?))
        }))
    }

    /// Rows owed to Delta, in order of their sequences, those after `after` only.
    pub fn outbox(
        &self,
        group: GroupId,
        after: Option<u64>,
    ) -> Result<impl Iterator<Item = Result<OutboxEntry, Error>> + '_, Error> {
        let prefix = keys::number(group.0);
        let from = keys::numbered(group, after.map_or(0, |sequence| sequence.saturating_add(1)));
        let scan = self.published.scan(Family::Outbox, &prefix, &from)?;
        Ok(scan.map(|k, v| outbox::decode(keys::parse_numbered("outbox", k)?, v)))
    }
}

enum Value<'v> {
    Pinned(DBPinnableSlice<'v>),
    Owned(Vec<u8>),
}

impl AsRef<[u8]> for Value<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Pinned(v) => v,
            Self::Owned(v) => v,
        }
    }
}

/// What one key has online: its newest event times, and those ahead of the clock.
pub struct OnlineVersions<'v> {
    value: Value<'v>,
    schemas: &'v RowSchemas,
}

impl std::fmt::Debug for OnlineVersions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.rows(Micros(i64::MAX)).filter_map(Result::ok)).finish()
    }
}

impl<'v> OnlineVersions<'v> {
    fn new(value: Value<'v>, schemas: &'v RowSchemas) -> Result<Self, Error> {
        online::open(value.as_ref())?;
        Ok(Self { value, schemas })
    }

    /// The rows visible at `as_of`, the newest event time first: available and not ahead.
    pub fn rows(&self, as_of: Micros) -> impl Iterator<Item = Result<RowRef<'_>, Error>> {
        let versions = online::open(self.value.as_ref()).into_iter().flat_map(|(_, versions)| versions);
        versions
            .map(|version| self.row(version?))
            .filter(move |row| row.as_ref().map_or(true, |row| row.stamp().visible(as_of)))
    }

    fn row<'s>(&'s self, version: online::Version<'s>) -> Result<RowRef<'s>, Error> {
        let (_, layout) = self
            .schemas
            .get(&version.schema)
            .ok_or_else(|| Error::corrupt("online", format!("row schema {} is unknown", version.schema)))?;
        Ok(RowRef {
            event_time: version.event_time,
            available_at: version.available_at,
            commit: version.commit,
            op: version.op,
            layout,
            bytes: version.row,
        })
    }

    /// The row of the greatest event time at `as_of`. A `delete` is such a row, and means "no value".
    pub fn latest(&self, as_of: Micros) -> Result<Option<RowRef<'_>>, Error> {
        self.rows(as_of).next().transpose()
    }

    /// The row of the event time before the latest one.
    pub fn previous(&self, as_of: Micros) -> Result<Option<RowRef<'_>>, Error> {
        self.rows(as_of).nth(1).transpose()
    }
}

/// One row of one key, read in place.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'v> {
    /// `_event_time`.
    pub event_time: Micros,
    /// `_available_at`.
    pub available_at: Micros,
    /// `_commit`: the epoch.
    pub commit: u64,
    /// Whether the row is a value or its end.
    pub op: Op,
    layout: &'v Layout,
    bytes: &'v [u8],
}

impl<'v> RowRef<'v> {
    /// The columns: the group's features with its primary key, as defined.
    pub fn schema(&self) -> &'v arrow::datatypes::Schema {
        self.layout.schema()
    }

    /// What the rule of invariant 7 looks at: [`Stamp::status`] says what the row means under a TTL.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            event_time: self.event_time,
            available_at: self.available_at,
            commit: self.commit,
            op: self.op,
        }
    }

    /// The value of a column by its position in the schema.
    pub fn value(&self, column: usize) -> Result<Scalar<'v>, Error> {
        self.layout.value(self.bytes, column)
    }
}

impl Store {
    /// The state of the store now. Takes no lock: it waits for nothing but, where the store was quiet
    /// and unread for longer than a second, the clock's reservation.
    pub fn view(&self) -> ReadView {
        self.reserver.ensure();
        let (published, as_of) = self.clock.read(|| self.published.load_full(), |view| view.stamp);
        ReadView::new(published, as_of)
    }
}
