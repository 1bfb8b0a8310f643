//! The database: opening, its format, and the few operations the codecs stand on.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::OnceLock;

use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBPinnableSlice, DBRawIterator, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::bytes::{Bytes, VERSION};
pub(super) use super::family::Family;
use super::family::{database_options, family_options};
use super::{Error, Options, keys};

/// The format of the data directory that this release writes.
pub const FORMAT: u32 = 2;

/// `MIGRATIONS[i]` brings a database from format `i + 1` to `i + 2`.
const MIGRATIONS: &[Migration] = &[sinks];

type Migration = fn(&Db) -> Result<(), Error>;

/// Format 2 has sinks. Nothing is to be rewritten; but a release that does not know them would delete
/// outbox rows that a sink still wants, so it must not open what one of them is defined in.
fn sinks(_: &Db) -> Result<(), Error> {
    Ok(())
}

/// The open database. It closes when the last handle is dropped: snapshots hold one too.
pub(super) struct Db {
    rocks: DB,
    /// Set by the first write that failed.
    failed: OnceLock<String>,
    /// Held as long as the database is open; after `rocks`, so that it is released last.
    _lock: File,
}

impl Db {
    pub fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        let io = |e: std::io::Error| Error::Io { path: dir.to_owned(), detail: e.to_string() };
        fs::create_dir_all(dir).map_err(io)?;
        let lock = lock(dir)?;
        let cache = Cache::new_lru_cache(options.block_cache);
        let mut families = Vec::with_capacity(Family::ALL.len());
        for family in Family::ALL {
            let options = family_options(family, options, &cache)?;
            families.push(ColumnFamilyDescriptor::new(family.name(), options));
        }
        let mut database = database_options();
        database.set_db_write_buffer_size(8 * options.memtable);
        let rocks = DB::open_cf_descriptors(&database, dir.join("rocksdb"), families)?;
        let db = Self { rocks, failed: OnceLock::new(), _lock: lock };
        db.migrate(dir, MIGRATIONS)?;
        Ok(db)
    }

    /// Refuses a newer format, migrates an older one, marks a new directory.
    fn migrate(&self, dir: &Path, migrations: &[Migration]) -> Result<(), Error> {
        let known = migrations.len() as u32 + 1;
        let mut format = match self.get(Family::Meta, b"format")? {
            Some(value) => Bytes::open("meta", &value)?.u32()?,
            None => return self.put_format(known),
        };
        if format > known {
            return Err(Error::Newer { dir: dir.to_owned(), found: format, known });
        }
        for migration in migrations.iter().skip(format.saturating_sub(1) as usize) {
            migration(self)?;
            format += 1;
            self.put_format(format)?;
        }
        Ok(())
    }

    fn put_format(&self, format: u32) -> Result<(), Error> {
        let value = [&[VERSION][..], &format.to_le_bytes()].concat();
        self.put(Family::Meta, b"format", &value)
    }

    pub fn family(&self, family: Family) -> Result<&ColumnFamily, Error> {
        self.rocks
            .cf_handle(family.name())
            .ok_or_else(|| Error::Database(format!("there is no column family '{}'", family.name())))
    }

    pub fn rocks(&self) -> &DB {
        &self.rocks
    }

    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        Ok(self.rocks.get_pinned_cf(self.family(family)?, key)?)
    }

    /// One synced write of one value.
    pub fn put(&self, family: Family, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let mut batch = Batch::new(self);
        batch.put(family, key, value)?;
        self.write(batch)
    }

    /// Writes a batch atomically and syncs it. A failure is fatal: what reached the disk is unknown.
    pub fn write(&self, batch: Batch<'_>) -> Result<(), Error> {
        self.write_raw(batch.batch)
    }

    /// Fills the stamp in and writes the batch, synced, with the stamp itself under `clock` of `meta`.
    pub fn write_stamped(&self, sealed: Sealed, stamp: i64, clock: &[u8]) -> Result<(), Error> {
        let value = [&[VERSION][..], &stamp.to_le_bytes()].concat();
        self.write_raw(sealed.stamped(stamp, (self.family(Family::Meta)?, clock, &value))?)
    }

    fn write_raw(&self, batch: WriteBatch) -> Result<(), Error> {
        if let Some(why) = self.failed.get() {
            return Err(Error::Fatal(why.clone()));
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.rocks.write_opt(batch, &options).map_err(|e| {
            let why = e.into_string();
            tracing::error!(error = %why, "a write to the store failed");
            Error::Fatal(self.failed.get_or_init(|| why).clone())
        })
    }

    /// Entries whose keys begin with `prefix`, in order, from `from` on (itself included).
    pub fn scan(&self, family: Family, prefix: &[u8], from: Option<&[u8]>) -> Result<Scan<'_>, Error> {
        let mut options = ReadOptions::default();
        if let Some(end) = keys::after(prefix) {
            options.set_iterate_upper_bound(end);
        }
        let rows = self.rocks.raw_iterator_cf_opt(self.family(family)?, options);
        Ok(Scan::new(rows, from.unwrap_or(prefix)))
    }
}

/// Entries of a column family in the order of their keys.
pub(super) struct Scan<'a> {
    rows: DBRawIterator<'a>,
    started: bool,
}

impl<'a> Scan<'a> {
    pub fn new(mut rows: DBRawIterator<'a>, from: &[u8]) -> Self {
        rows.seek(from);
        Self { rows, started: false }
    }

    /// The next entry, without copying it.
    pub fn advance(&mut self) -> Result<Option<(&[u8], &[u8])>, Error> {
        if std::mem::replace(&mut self.started, true) && self.rows.valid() {
            self.rows.next();
        }
        if !self.rows.valid() {
            self.rows.status()?;
            return Ok(None);
        }
        Ok(self.rows.item())
    }

    /// Reads every entry through `read`, lazily.
    pub fn map<T>(
        mut self,
        read: impl Fn(&[u8], &[u8]) -> Result<T, Error>,
    ) -> impl Iterator<Item = Result<T, Error>> {
        let mut done = false;
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let item =
                self.advance().and_then(|entry| entry.map(|(k, v)| read(k, v)).transpose()).transpose();
            done = !matches!(item, Some(Ok(_)));
            item
        })
    }
}

/// What stands where a stamp will be: no clock gives it.
pub(super) const UNSTAMPED: [u8; 8] = i64::MIN.to_le_bytes();

/// A batch under construction, and where in it the commit's stamp belongs.
pub(super) struct Batch<'a> {
    db: &'a Db,
    batch: WriteBatch,
    stamps: Vec<usize>,
}

impl<'a> Batch<'a> {
    pub fn new(db: &'a Db) -> Self {
        Self { db, batch: WriteBatch::default(), stamps: Vec::new() }
    }

    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.batch.put_cf(self.db.family(family)?, key, value);
        Ok(())
    }

    /// As [`Self::put`], with the stamp to be written at `at` of the value.
    pub fn put_stamped(&mut self, family: Family, key: &[u8], value: &[u8], at: usize) -> Result<(), Error> {
        self.put(family, key, value)?;
        self.stamp(value, &[at]);
        Ok(())
    }

    /// A merge operand, with the stamp to be written at each of `at`. For many: the family is looked up once.
    pub fn merge(&mut self, family: &ColumnFamily, key: &[u8], value: &[u8], at: &[usize]) {
        self.batch.merge_cf(family, key, value);
        self.stamp(value, at);
    }

    pub fn delete(&mut self, family: Family, key: &[u8]) -> Result<(), Error> {
        self.batch.delete_cf(self.db.family(family)?, key);
        Ok(())
    }

    /// Removes every entry whose key begins with `prefix`.
    pub fn delete_prefix(&mut self, family: Family, prefix: &[u8]) -> Result<(), Error> {
        // A prefix of 0xFF alone belongs to an id that is never issued.
        if let Some(end) = keys::after(prefix) {
            self.delete_range(family, prefix, &end)?;
        }
        Ok(())
    }

    pub fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) -> Result<(), Error> {
        self.batch.delete_range_cf(self.db.family(family)?, from, to);
        Ok(())
    }

    /// A value is the last thing of its record, so the offsets count from the batch's end.
    fn stamp(&mut self, value: &[u8], at: &[usize]) {
        if !at.is_empty() {
            let start = self.batch.size_in_bytes() - value.len();
            self.stamps.extend(at.iter().map(|at| start + at));
        }
    }

    /// Everything but the stamp, ready for the committer.
    pub fn seal(self) -> Sealed {
        if self.stamps.is_empty() {
            return Sealed::Whole(self.batch);
        }
        Sealed::Unstamped { data: self.batch.data().to_vec(), stamps: self.stamps }
    }
}

/// A batch encoded before its stamp is known.
pub(super) enum Sealed {
    /// No value of it shows the stamp.
    Whole(WriteBatch),
    /// RocksDB's bytes, and where in them the stamp belongs.
    Unstamped { data: Vec<u8>, stamps: Vec<usize> },
}

impl Sealed {
    /// The batch with the stamp filled in, and `last` behind all that is in it.
    pub fn stamped(self, stamp: i64, last: (&ColumnFamily, &[u8], &[u8])) -> Result<WriteBatch, Error> {
        let mut batch = match self {
            Self::Whole(batch) => batch,
            Self::Unstamped { mut data, stamps } => {
                for at in stamps {
                    match data.get_mut(at..at + UNSTAMPED.len()) {
                        Some(slot) if *slot == UNSTAMPED => slot.copy_from_slice(&stamp.to_le_bytes()),
                        // RocksDB would have to lay out its batches anew for this to happen.
                        _ => return Err(Error::Database("a batch is not laid out as expected".to_owned())),
                    }
                }
                WriteBatch::from_data(&data)
            }
        };
        let (family, key, value) = last;
        batch.put_cf(family, key, value);
        Ok(batch)
    }
}

/// Takes the directory for this process, or says who has it.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let io = |e: std::io::Error| Error::Io { path: path.clone(), detail: e.to_string() };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io)?;
            return Err(Error::InUse { dir: dir.to_owned(), pid: pid.trim().parse().ok() });
        }
        Err(fs::TryLockError::Error(e)) => return Err(io(e)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Result<Db, Error> {
        Db::open(dir, &Options::default())
    }

    #[test]
    fn the_second_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let error = open(dir.path()).err().unwrap();
        assert_eq!(error, Error::InUse { dir: dir.path().to_owned(), pid: Some(std::process::id()) });
        drop(first);
        open(dir.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_and_an_older_one_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path()).unwrap();
        assert_eq!(&*db.get(Family::Meta, b"format").unwrap().unwrap(), [1, 2, 0, 0, 0]);
        let next: Migration = |db| db.put(Family::Meta, b"migrated", b"\x01");
        db.migrate(dir.path(), &[sinks, next]).unwrap();
        assert!(db.get(Family::Meta, b"migrated").unwrap().is_some());
        assert_eq!(&*db.get(Family::Meta, b"format").unwrap().unwrap(), [1, 3, 0, 0, 0]);
        drop(db);
        let error = open(dir.path()).err().unwrap();
        assert_eq!(error, Error::Newer { dir: dir.path().to_owned(), found: 3, known: FORMAT });
    }

    #[test]
    fn stamps_are_filled_in_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path()).unwrap();
        let value = [&b"before"[..], &UNSTAMPED, b"after"].concat();
        let mut batch = Batch::new(&db);
        batch.put(Family::Journal, b"x", b"y").unwrap();
        batch.put_stamped(Family::Journal, b"a", &value, 6).unwrap();
        batch.put_stamped(Family::Meta, &[b'k'; 300], &value, 6).unwrap();
        batch.delete_prefix(Family::State, b"p").unwrap();
        db.write_stamped(batch.seal(), 7, b"clock").unwrap();
        assert_eq!(
            &*db.get(Family::Meta, b"clock").unwrap().unwrap(),
            [&[VERSION][..], &7_i64.to_le_bytes()].concat()
        );
        let stamped = [&b"before"[..], &7_i64.to_le_bytes(), b"after"].concat();
        assert_eq!(&*db.get(Family::Journal, b"a").unwrap().unwrap(), stamped);
        assert_eq!(&*db.get(Family::Meta, &[b'k'; 300]).unwrap().unwrap(), stamped);
        assert_eq!(&*db.get(Family::Journal, b"x").unwrap().unwrap(), b"y");

        let mut batch = Batch::new(&db);
        batch.put_stamped(Family::Journal, b"b", &value, 5).unwrap();
        assert!(db.write_stamped(batch.seal(), 7, b"clock").is_err(), "no stamp belongs there");

        let mut batch = Batch::new(&db);
        batch.put(Family::Journal, b"c", b"z").unwrap();
        db.write_stamped(batch.seal(), 8, b"clock").unwrap();
        assert_eq!(&*db.get(Family::Journal, b"c").unwrap().unwrap(), b"z");
        assert_eq!(db.get(Family::Meta, b"clock").unwrap().unwrap()[1], 8, "where no value shows it, too");
    }

    #[test]
    fn after_a_failed_write_nothing_is_written_and_all_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path()).unwrap();
        db.put(Family::Late, b"a", b"1").unwrap();
        db.failed.set("no space left".to_owned()).unwrap();
        let error = db.put(Family::Late, b"b", b"2").unwrap_err();
        assert_eq!(error, Error::Fatal("no space left".to_owned()));
        assert!(error.is_fatal());
        let mut batch = Batch::new(&db);
        batch.delete(Family::Late, b"a").unwrap();
        assert!(db.write_stamped(batch.seal(), 1, b"clock").is_err_and(|e| e.is_fatal()));
        assert_eq!(&*db.get(Family::Late, b"a").unwrap().unwrap(), b"1");
        assert!(db.get(Family::Late, b"b").unwrap().is_none());
    }

    #[test]
    fn a_scan_stays_within_its_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path()).unwrap();
        for key in [&b"a"[..], b"ba", b"bb", b"c"] {
            db.put(Family::Late, key, key).unwrap();
        }
        let all = |from| {
            let scan = db.scan(Family::Late, b"b", from).unwrap();
            scan.map(|k, _| Ok(k.to_vec())).collect::<Result<Vec<_>, _>>().unwrap()
        };
        assert_eq!(all(None), [b"ba", b"bb"]);
        assert_eq!(all(Some(b"bb")), [b"bb"]);
    }
}
