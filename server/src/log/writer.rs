//! Appending to any stream: the embedded log in one synced batch, a topic through one shared producer.

use std::sync::{Arc, OnceLock};

use super::kafka::Producer;
use super::numbered::Numbered;
use super::{Error, Kind};
use crate::catalog::Stream;
use crate::config;
use crate::store::{self, Store};

/// A record with its bytes.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// What it is. A heartbeat's time stands here.
    pub kind: Kind,
    /// The message key.
    pub key: Option<Vec<u8>>,
    /// The value of an event.
    pub value: Vec<u8>,
}

/// A batch of a producer that numbers its batches: the same one again is answered, not appended.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The producer's id.
    pub producer: String,
    /// One more than that of its batch before.
    pub sequence: u64,
    /// Digest of the batch as it came.
    pub digest: u64,
}

/// Writes to logs.
pub struct Writer {
    store: Arc<Store>,
    kafka: config::Kafka,
    producer: OnceLock<Producer>,
    numbered: Arc<Numbered>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer to the logs of a store and to the topics of a cluster; connects when it first must.
    pub fn new(store: Arc<Store>, kafka: config::Kafka) -> Self {
        let numbered = Arc::new(Numbered::new(Arc::clone(&store), kafka.clone()));
        Self { store, kafka, producer: OnceLock::new(), numbered }
    }

    /// Appends records by partition and returns when they are durable: the next offset of each
    /// partition of the stream, zero for those not written to. The embedded log takes all or nothing, and
    /// so does a topic where the batch is numbered; such a batch goes to one partition of it.
    pub async fn append(
        &self,
        stream: &Stream,
        parts: Vec<(u32, Vec<NewRecord>)>,
        batch: Option<Batch>,
    ) -> Result<Vec<i64>, Error> {
        let mut offsets = vec![0; stream.partitions as usize];
        let ends = match &stream.topic {
            Some(topic) => match batch {
                None => self.to_topic(topic, parts).await?,
                Some(batch) => self.numbered_to_topic(stream, topic, parts, batch).await?,
            },
            None => self.to_store(stream, parts, batch).await?,
        };
        for (partition, end) in ends {
            if let Some(offset) = offsets.get_mut(partition as usize) {
                *offset = end;
            }
        }
        Ok(offsets)
    }

    async fn to_store(
        &self,
        stream: &Stream,
        parts: Vec<(u32, Vec<NewRecord>)>,
        batch: Option<Batch>,
    ) -> Result<Vec<(u32, i64)>, Error> {
        let (store, id, log) = (Arc::clone(&self.store), stream.id, stream.name.to_string());
        let appended = tokio::task::spawn_blocking(move || {
            let parts: Vec<(u32, Vec<store::NewRecord<'_>>)> =
                parts.iter().map(|(partition, records)| (*partition, borrowed(records))).collect();
            let producer = batch.as_ref().map(|b| store::ProducerBatch {
                id: &b.producer,
                sequence: b.sequence,
                digest: b.digest,
            });
            store.append(id, &parts, producer)
        });
        Ok(appended.await.map_err(|e| Error::Unavailable { log, detail: e.to_string() })??.ends)
    }

    async fn to_topic(
        &self,
        topic: &str,
        parts: Vec<(u32, Vec<NewRecord>)>,
    ) -> Result<Vec<(u32, i64)>, Error> {
        let producer = self.producer()?;
        let mut ends = Vec::with_capacity(parts.len());
        for (partition, records) in parts {
            ends.push((partition, producer.append(topic, partition, &borrowed(&records)).await?));
        }
        Ok(ends)
    }

    async fn numbered_to_topic(
        &self,
        stream: &Stream,
        topic: &str,
        parts: Vec<(u32, Vec<NewRecord>)>,
        batch: Batch,
    ) -> Result<Vec<(u32, i64)>, Error> {
        let log = topic.to_owned();
        let Ok([(partition, records)]) = <[_; 1]>::try_from(parts) else {
            let detail = "a numbered batch goes to one partition".to_owned();
            return Err(Error::Configuration { log, detail });
        };
        let (numbered, stream, topic) = (Arc::clone(&self.numbered), stream.clone(), topic.to_owned());
        let mut turn = numbered.turn(stream.id).lock_owned().await;
        // On a thread of its own: a caller that goes away must not stop it between its steps.
        let appended = tokio::task::spawn_blocking(move || {
            numbered.append(&mut turn, &stream, &topic, partition, &borrowed(&records), &batch)
        });
        appended.await.map_err(|e| Error::Unavailable { log, detail: e.to_string() })?
    }

    fn producer(&self) -> Result<&Producer, Error> {
        if let Some(producer) = self.producer.get() {
            return Ok(producer);
        }
        let opened = Producer::open(&self.kafka)?;
        Ok(self.producer.get_or_init(|| opened))
    }
}

fn borrowed(records: &[NewRecord]) -> Vec<store::NewRecord<'_>> {
    records
        .iter()
        .map(|r| store::NewRecord { kind: r.kind, key: r.key.as_deref(), value: &r.value })
        .collect()
}
