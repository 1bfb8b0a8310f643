//! Batches that are in a topic as a whole or not at all: one transaction each.

use std::time::Duration;

use rdkafka::producer::Producer as _;

use super::client::{self, failed, refused};
use super::producer::Producer;
use crate::config::Kafka;
use crate::log::Error;
use crate::store::NewRecord;

/// How long the brokers may take to end what an earlier producer of the name had under way.
const OPENING: Duration = Duration::from_secs(20);
/// How long a commit may take; the brokers give a transaction up on their own (`transaction.timeout.ms`).
const COMMIT: Duration = Duration::from_secs(20);
/// A transaction that failed is given up so quickly, or left to the brokers: it holds readers back until then.
const ABORT: Duration = Duration::from_secs(2);

/// The one producer of its name. Blocks: call it where that is allowed, on a thread of a runtime.
pub struct Transactions {
    producer: Producer,
}

impl Transactions {
    /// Opens the producer of a name. When this returns, every transaction that another one of the name
    /// had begun is over, one way or the other, and the other one can do no more.
    pub fn open(config: &Kafka, name: &str) -> Result<Self, Error> {
        let log = "the Kafka producer";
        let inner: rdkafka::producer::FutureProducer =
            client::transactional(config, name)?.create().map_err(|e| refused(log, &e))?;
        inner.init_transactions(OPENING).map_err(|e| failed(log, &e))?;
        Ok(Self { producer: Producer::of(inner) })
    }

    /// Where a partition ends now, or before.
    pub fn end(&self, topic: &str, partition: u32) -> Result<i64, Error> {
        let ends =
            self.producer.inner.client().fetch_watermarks(topic, partition as i32, super::topic::ANSWER);
        Ok(ends.map_err(|e| failed(topic, &e))?.1)
    }

    /// Appends all records to one partition, the last one marked, and returns the offset after it.
    ///
    /// # Errors
    /// Whether the batch is in the topic is then not known; this producer must not be used again.
    pub fn append(
        &self,
        topic: &str,
        partition: u32,
        records: &[NewRecord<'_>],
        mark: &str,
    ) -> Result<i64, Error> {
        let inner = &self.producer.inner;
        inner.begin_transaction().map_err(|e| failed(topic, &e))?;
        let appended = self.producer.append_marked(topic, partition, records, Some(mark));
        let done = futures::executor::block_on(appended)
            .and_then(|end| inner.commit_transaction(COMMIT).map(|()| end).map_err(|e| failed(topic, &e)));
        if done.is_err()
            && let Err(error) = inner.abort_transaction(ABORT)
        {
            tracing::debug!(topic, %error, "a transaction is left to the brokers");
        }
        done
    }
}
