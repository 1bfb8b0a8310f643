//! Appends to a topic in transactions, each record with its place in the writer's own order.
//!
//! A transaction is there whole or not at all, but the reply to a commit may be lost. The topic then says
//! how far it has come: each record names its writer and its sequence, and [`newest`] reads them
//! from the topic's end. (Offsets committed within the transaction would say it too, for as long as the
//! brokers keep the offsets of a group without members.)

use std::time::{Duration, Instant};

use millpond_engine::time::Micros;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use super::client::{self, Context, failed, refused};
use super::queue::cached_range;
use super::topic;
use crate::config::Kafka;
use crate::log::Error;

/// Header of each record: the uuid of who wrote it, 16 bytes.
pub const WRITER: &str = "millpond-writer";
/// Header of each record: its place in the order of its writer, u64, big-endian.
pub const SEQUENCE: &str = "millpond-sequence";

/// How long the brokers may take over one step of a transaction.
const STEP: Duration = Duration::from_secs(15);
/// How long to wait for room in the queue before asking again.
const ROOM: Duration = Duration::from_millis(20);
/// Records from a partition's end that are looked at first.
const TAIL: i64 = 1_000;

/// The one who writes to a topic under a transactional id; an earlier one of that id is fenced off.
pub struct TransactionalProducer {
    inner: BaseProducer<Context>,
    topic: String,
    writer: Uuid,
}

impl std::fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionalProducer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl TransactionalProducer {
    /// Opens it. When this returns, no transaction of an earlier process under the id is open: what it
    /// was about to commit is committed, the rest is aborted. Blocks.
    pub fn open(config: &Kafka, topic: &str, id: &str, writer: Uuid) -> Result<Self, Error> {
        let mut client = client::producer(config)?;
        client.set("transactional.id", id);
        for (name, value) in [
            ("linger.ms", "5"),
            ("compression.type", "zstd"),
            // Where Java's clients would put the key: streams of both can be joined by partition.
            ("partitioner", "murmur2_random"),
        ] {
            if config.librdkafka().all(|(known, _)| known != name) {
                client.set(name, value);
            }
        }
        let inner: BaseProducer<Context> =
            client.create_with_context(Context::default()).map_err(|e| refused(topic, &e))?;
        let producer = Self { inner, topic: topic.to_owned(), writer };
        producer.inner.init_transactions(STEP).map_err(|e| producer.failed(&e))?;
        Ok(producer)
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<(), Error> {
        self.inner.begin_transaction().map_err(|e| self.failed(&e))
    }

    /// Adds a record to the transaction; waits where the queue is full.
    pub fn send(&self, sequence: u64, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        let sequence = sequence.to_be_bytes();
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: WRITER, value: Some(self.writer.as_bytes().as_slice()) })
            .insert(Header { key: SEQUENCE, value: Some(sequence.as_slice()) });
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).key(key).headers(headers);
        if let Some(value) = value {
            record = record.payload(value);
        }
        let deadline = Instant::now() + STEP;
        loop {
            match self.inner.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    self.inner.poll(ROOM);
                }
                Err((error, _)) => return Err(self.failed(&error)),
            }
        }
    }

    /// Commits: when this returns, all records since `begin` are in the topic. After an error they are
    /// all there or none is, and the producer is of no more use.
    pub fn commit(&self) -> Result<(), Error> {
        self.inner.commit_transaction(STEP).map_err(|e| self.failed(&e))
    }

    /// What the client says, with what it complained about before.
    fn failed(&self, error: &KafkaError) -> Error {
        match (failed(&self.topic, error), self.inner.context().trouble()) {
            (Error::Unavailable { log, detail }, Some((_, trouble))) => {
                Error::Unavailable { log, detail: format!("{detail} ({trouble})") }
            }
            (error, _) => error,
        }
    }
}

/// The greatest sequence of a writer among the records that are committed at the end of a topic.
///
/// Without `since` only the last records of each partition are looked at. With it each partition is read
/// backwards until a record of the writer, or what was appended before that instant.
///
/// # Errors
/// [`Error::Unavailable`] where the end cannot be seen yet: a transaction of somebody else is open there.
pub fn newest(
    config: &Kafka,
    topic: &str,
    writer: Uuid,
    since: Option<Micros>,
) -> Result<Option<u64>, Error> {
    let consumer = client::consumer(config, topic, "millpond")?;
    let floors = since.map(|since| topic::offsets_at(config, topic, since)).transpose()?;
    let mut newest = None;
    for partition in 0..topic::partitions(&consumer, topic)? {
        let (low, end) = topic::range(&consumer, topic, partition)?;
        let floor = match &floors {
            Some(floors) => floors.get(partition as usize).map_or(low, |floor| low.max(*floor)),
            None => low.max(end - TAIL),
        };
        let (mut from, mut depth) = (end, TAIL);
        while from > floor {
            from = floor.max(end - depth);
            let found = read(&consumer, topic, partition, from..end, writer)?;
            newest = newest.max(found);
            if found.is_some() {
                break;
            }
            depth *= 8;
        }
        // What was read ended before the high watermark: there may be more of ours behind it.
        let high = cached_range(&consumer, topic, partition).map_or(end, |(_, high)| high);
        if since.is_some() && high > end {
            let detail = format!("a transaction is open at the end of partition {partition}");
            return Err(Error::Unavailable { log: topic.to_owned(), detail });
        }
    }
    Ok(newest)
}

/// The greatest sequence of the writer in a range of offsets.
fn read(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partition: u32,
    range: std::ops::Range<i64>,
    writer: Uuid,
) -> Result<Option<u64>, Error> {
    let mut assigned = TopicPartitionList::new();
    assigned
        .add_partition_offset(topic, partition as i32, Offset::Offset(range.start))
        .and_then(|()| consumer.assign(&assigned))
        .map_err(|e| failed(topic, &e))?;
    // Long stretches may take long; one that brings nothing may not.
    let mut patience = Instant::now() + topic::ANSWER;
    let mut newest = None;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                patience = Instant::now() + topic::ANSWER;
                newest = newest.max(sequence(message.headers(), writer));
                if message.offset() + 1 >= range.end {
                    return Ok(newest);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(newest),
            Some(Err(error)) => return Err(failed(topic, &error)),
            None if Instant::now() > patience => {
                let detail = "the end of the topic cannot be read".to_owned();
                return Err(Error::Unavailable { log: topic.to_owned(), detail });
            }
            None => {}
        }
    }
}

/// The sequence of a record, if the writer wrote it.
fn sequence<H: Headers>(headers: Option<&H>, writer: Uuid) -> Option<u64> {
    let (mut is_ours, mut sequence) = (false, None);
    for header in headers?.iter() {
        match header.key {
            WRITER => is_ours = header.value == Some(writer.as_bytes().as_slice()),
            SEQUENCE => {
                sequence = header.value.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
            }
            _ => {}
        }
    }
    sequence.filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_writers_own_records_count() {
        let writer = Uuid::from_u128(7);
        let headers = |by: Uuid, sequence: &[u8]| {
            OwnedHeaders::new()
                .insert(Header { key: "other", value: Some("x") })
                .insert(Header { key: WRITER, value: Some(by.as_bytes().as_slice()) })
                .insert(Header { key: SEQUENCE, value: Some(sequence) })
        };
        let eight = 258_u64.to_be_bytes();
        assert_eq!(sequence(Some(&headers(writer, &eight)), writer), Some(258));
        assert_eq!(sequence(Some(&headers(Uuid::nil(), &eight)), writer), None);
        assert_eq!(sequence(Some(&headers(writer, b"short")), writer), None);
        assert_eq!(sequence(None::<&OwnedHeaders>, writer), None);
    }
}
