//! Numbered batches to a topic: the same batch again is answered and not appended, whatever fails in between.
//!
//! 1. What is intended, and where its partition ends, goes to the store, synced.
//! 2. The batch goes to the topic as one transaction, its last record marked with stream, number and producer.
//! 3. The reply takes the place of the intent, synced.
//!
//! Who finds an intent does not know whether the batch is in the topic. But opening the stream's
//! transactional producer ends whatever an earlier one of its name had under way; from then on the marked
//! record is in the partition, at the offset of the intent or after it, or it never will be.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Error;
use super::kafka::{Transactions, find};
use super::writer::Batch;
use crate::catalog::{Stream, StreamId};
use crate::config;
use crate::store::{NewRecord, ProducerBatch, Standing, Store};

/// Appends numbered batches to topics, one at a time for each stream.
pub struct Numbered {
    store: Arc<Store>,
    kafka: config::Kafka,
    /// The producer of each stream; none before the first batch, and after a failure.
    streams: Mutex<HashMap<StreamId, Turn>>,
}

/// A stream's producer, for the one whose turn it is. Waiting for it holds no thread.
pub type Turn = Arc<tokio::sync::Mutex<Option<Transactions>>>;

impl Numbered {
    /// Connects when it first must.
    pub fn new(store: Arc<Store>, kafka: config::Kafka) -> Self {
        Self { store, kafka, streams: Mutex::default() }
    }

    /// The turns of a stream.
    pub fn turn(&self, stream: StreamId) -> Turn {
        Arc::clone(self.streams.lock().entry(stream).or_default())
    }

    /// Appends a batch to one partition, or finds that it was appended: the offset after its last record,
    /// by partition. Blocks.
    ///
    /// # Errors
    /// [`crate::store::Error::Sequence`] as in the embedded log. Any other leaves it open whether the batch
    /// was appended; the same batch again gets the answer.
    pub fn append(
        &self,
        producer: &mut Option<Transactions>,
        stream: &Stream,
        topic: &str,
        partition: u32,
        records: &[NewRecord<'_>],
        batch: &Batch,
    ) -> Result<Vec<(u32, i64)>, Error> {
        let numbered = ProducerBatch { id: &batch.producer, sequence: batch.sequence, digest: batch.digest };
        let mut standing = self.store.judge_batch(stream.id, &numbered)?;
        if let Standing::Unsettled(intent) = &standing {
            self.open(stream, producer)?;
            let mark = mark(stream, intent.sequence, &batch.producer);
            let found = find(&self.kafka, topic, intent.partition, intent.from, &mark)?;
            tracing::info!(
                stream = %stream.name, producer = batch.producer, sequence = intent.sequence,
                found = found.is_some(), "a batch that was not settled was looked for in the topic"
            );
            self.store.settle(stream.id, &batch.producer, found.map(|offset| offset + 1))?;
            standing = self.store.judge_batch(stream.id, &numbered)?;
        }
        if let Standing::Again(ends) = standing {
            return Ok(ends);
        }
        let transactions = self.open(stream, producer)?;
        self.store.intend(stream.id, &numbered, partition, transactions.end(topic, partition)?)?;
        let end = if records.is_empty() {
            0 // nothing to write, and the number is used up all the same
        } else {
            let mark = mark(stream, batch.sequence, &batch.producer);
            transactions.append(topic, partition, records, &mark).inspect_err(|_| *producer = None)?
        };
        self.store.settle(stream.id, &batch.producer, Some(end))?;
        Ok(vec![(partition, end)])
    }

    fn open<'p>(
        &self,
        stream: &Stream,
        producer: &'p mut Option<Transactions>,
    ) -> Result<&'p Transactions, Error> {
        if let Some(open) = producer {
            return Ok(open);
        }
        // One name for each stream of each store, across restarts: what went before is ended by it.
        let name = format!("millpond/{}/{}", self.store.uuid(), stream.uuid);
        Ok(producer.insert(Transactions::open(&self.kafka, &name)?))
    }
}

/// What a batch's last record carries. The stream is in it, for others may write to the topic.
fn mark(stream: &Stream, sequence: u64, producer: &str) -> String {
    format!("{}/{sequence}/{producer}", stream.uuid)
}
