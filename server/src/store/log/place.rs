//! Records that go into the log with something else: in a batch of the committer.

use std::sync::Arc;

use millpond_engine::time::Micros;

use super::record::{HEAD, NewRecord, put_record, stamp};
use super::{End, StreamLog};
use crate::catalog::StreamId;
use crate::log::Kind;
use crate::store::db::{Batch, Family};
use crate::store::{Error, Store, keys};

/// The partition that such a stream has.
const PARTITION: u32 = 0;

/// Where the next record of a stream goes that has one writer, who holds a lock meanwhile.
pub(in crate::store) struct Place {
    log: Arc<StreamLog>,
    stream: StreamId,
    end: End,
    now: Micros,
}

impl Place {
    /// Puts one event into a batch; the commit's stamp goes to `stamp_at` of its value.
    pub(in crate::store) fn put(
        &mut self,
        batch: &mut Batch<'_>,
        value: &[u8],
        stamp_at: Option<usize>,
    ) -> Result<(), Error> {
        let appended = self.end.appended.max(self.now);
        let mut record = Vec::with_capacity(HEAD + value.len());
        put_record(&NewRecord { kind: Kind::Event, key: None, value }, &mut record);
        stamp(&mut record, appended);
        let key = keys::log(self.stream, PARTITION, self.end.offset);
        match stamp_at {
            Some(at) => batch.put_stamped(Family::Log, &key, &record, HEAD + at)?,
            None => batch.put(Family::Log, &key, &record)?,
        }
        self.end = End { offset: self.end.offset + 1, appended };
        Ok(())
    }

    /// What was put is on disk: it can be read.
    pub(in crate::store) fn written(self) {
        self.log.ends.write().insert(PARTITION, self.end);
        self.log.notify();
    }
}

impl Store {
    /// Where the next record of a stream goes.
    pub(in crate::store) fn place(&self, stream: StreamId) -> Result<Place, Error> {
        let log = self.logs.of(stream);
        let end = log.end(&self.db, stream, PARTITION)?;
        Ok(Place { log, stream, end, now: self.clock.wall() })
    }
}
