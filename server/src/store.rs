//! The store: one RocksDB database, a column family per concern. Only here is RocksDB named.
//!
//! The way in is [`Store::append`] (the embedded log) and [`Store::commit`] (one epoch, one synced
//! batch); the way out is [`Store::view`]: a snapshot published by the committer, with the `as_of`
//! that it is good for. What lies where is in `store/keys.rs`; what a value looks like stands at the top of
//! the file that writes it. Every value begins with the version of its codec.

mod bytes;
mod catalog;
mod changes;
mod clock;
pub mod commit;
mod committer;
mod db;
mod error;
mod family;
mod fold;
mod groups;
mod hot;
mod journal;
mod keys;
mod log;
mod nested;
mod numbered;
mod online;
mod outbox;
mod producers;
mod quarantine;
mod reserve;
mod row;
mod scalar;
mod schemas;
mod signal;
mod sinks;
mod state;
mod view;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use millpond_engine::time::Micros;
use parking_lot::Mutex;
use uuid::Uuid;

pub use catalog::Kind;
pub use changes::{changes_schema, read_changes};
pub use clock::{WallClock, system_clock};
pub use db::FORMAT;
pub use error::Error;
pub use groups::{OutboxStats, VERSIONS};
pub use log::{Appended, NewRecord};
pub use nested::Nested;
pub use numbered::{Intent, Standing};
pub use outbox::offline_schema;
pub use producers::ProducerBatch;
pub use quarantine::{DeadLetter, LateEntry};
pub use row::Layout;
pub use scalar::Scalar;
pub use schemas::{SchemaChange, SubjectEntry};
pub use signal::Signal;
pub use sinks::{Planned, SinkProgress};
pub use view::{OnlineVersions, ReadView, RowRef};

use self::bytes::{Bytes, VERSION};
use self::clock::CommitClock;
use self::db::{Db, Family};
use self::groups::Groups;
use self::log::Logs;
use self::reserve::Reserver;
use self::view::Published;

/// How the store is opened.
#[derive(Clone)]
pub struct Options {
    /// Bytes of RocksDB's block cache.
    pub block_cache: usize,
    /// Bytes of a column family's memtable.
    pub memtable: usize,
    /// The time of day.
    pub clock: WallClock,
}

impl Default for Options {
    fn default() -> Self {
        Self { block_cache: 64 << 20, memtable: 16 << 20, clock: system_clock() }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("block_cache", &self.block_cache)
            .field("memtable", &self.memtable)
            .finish_non_exhaustive()
    }
}

/// The open store. Shared; all operations may be called from any thread, and block for as long as
/// RocksDB does.
pub struct Store {
    db: Arc<Db>,
    uuid: Uuid,
    clock: Arc<CommitClock>,
    reserver: Reserver,
    published: ArcSwap<Published>,
    /// One commit at a time.
    committer: Mutex<()>,
    groups: Groups,
    logs: Logs,
    last_id: Mutex<u32>,
}

impl Store {
    /// Opens the store in a directory, or makes one.
    ///
    /// # Errors
    /// [`Error::InUse`] names the process that has it; [`Error::Newer`] if a newer release wrote it.
    pub fn open(dir: &Path, options: &Options) -> Result<Arc<Self>, Error> {
        let db = Arc::new(Db::open(dir, options)?);
        let uuid = identity(&db)?;
        let last_id = match db.get(Family::Meta, b"last_id")? {
            Some(value) => Bytes::open("meta", &value)?.u32()?,
            None => 0,
        };
        let floor = instant(&db, committer::CLOCK_KEY)?.max(instant(&db, reserve::KEY)?);
        let clock = Arc::new(CommitClock::new(Arc::clone(&options.clock), floor));
        producers::purge(&db, clock.wall())?;
        let schemas = Arc::new(groups::row_schemas(&db)?);
        let clocks = Arc::new(journal::clocks(&db)?);
        let reserver = Reserver::start(Arc::clone(&db), Arc::clone(&clock))?;
        Ok(Arc::new(Self {
            published: ArcSwap::from_pointee(Published::now(&db, floor, clocks, schemas)),
            db,
            uuid,
            clock,
            reserver,
            committer: Mutex::new(()),
            groups: Groups::default(),
            logs: Logs::default(),
            last_id: Mutex::new(last_id),
        }))
    }

    /// Ends a session in good order: the commit clock is kept exactly. (Without it the next session's
    /// clock begins up to a second later; nothing else is lost.) The database itself closes with the
    /// last handle and view.
    pub fn close(&self) -> Result<(), Error> {
        self.reserver.close()
    }

    /// The store's identity, part of each Delta table's application id.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }
}

fn identity(db: &Db) -> Result<Uuid, Error> {
    if let Some(value) = db.get(Family::Meta, b"uuid")? {
        return Ok(Uuid::from_bytes(Bytes::open("meta", &value)?.array()?));
    }
    let uuid = Uuid::new_v4();
    db.put(Family::Meta, b"uuid", &[&[VERSION][..], uuid.as_bytes()].concat())?;
    Ok(uuid)
}

fn instant(db: &Db, key: &[u8]) -> Result<Micros, Error> {
    match db.get(Family::Meta, key)? {
        Some(value) => Ok(Micros(Bytes::open("meta", &value)?.i64()?)),
        None => Ok(Micros(0)),
    }
}

#[cfg(test)]
mod tests;
