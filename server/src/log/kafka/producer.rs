//! Appends to a topic: idempotent, acknowledged by all in-sync replicas.

use std::time::Duration;

use millpond_engine::time::Micros;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::client::{self, failed, refused};
use super::{BATCH, HEARTBEAT};
use crate::config::Kafka;
use crate::log::{Error, Kind};
use crate::store::NewRecord;

/// How long to wait for room in the producer's queue before asking again.
const ROOM: Duration = Duration::from_millis(5);

/// Produces to any topic of one cluster; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    pub(super) inner: FutureProducer,
}

impl Producer {
    /// A producer with the configured properties. Connects in the background.
    pub fn open(config: &Kafka) -> Result<Self, Error> {
        let inner = client::producer(config)?.create().map_err(|e| refused("the Kafka producer", &e))?;
        Ok(Self::of(inner))
    }

    /// The same around a producer that is open.
    pub(super) fn of(inner: FutureProducer) -> Self {
        Self { inner }
    }

    /// Appends records to one partition, in order, and returns the offset after the last one once all
    /// are acknowledged. Where it fails, records before the one that failed may have been appended.
    pub async fn append(&self, topic: &str, partition: u32, records: &[NewRecord<'_>]) -> Result<i64, Error> {
        self.append_marked(topic, partition, records, None).await
    }

    /// The same with a mark in the header [`BATCH`] of the last record.
    pub(super) async fn append_marked(
        &self,
        topic: &str,
        partition: u32,
        records: &[NewRecord<'_>],
        mark: Option<&str>,
    ) -> Result<i64, Error> {
        let mut under_way = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let mark = mark.filter(|_| at + 1 == records.len());
            under_way.push(self.enqueue(topic, partition, record, mark).await?);
        }
        let mut end = 0;
        for delivery in under_way {
            let lost = |_| Error::Unavailable {
                log: topic.to_owned(),
                detail: "the producer was closed".to_owned(),
            };
            let delivered = delivery.await.map_err(lost)?.map_err(|(error, _)| failed(topic, &error))?;
            end = end.max(delivered.offset + 1);
        }
        Ok(end)
    }

    async fn enqueue(
        &self,
        topic: &str,
        partition: u32,
        record: &NewRecord<'_>,
        mark: Option<&str>,
    ) -> Result<rdkafka::producer::DeliveryFuture, Error> {
        let time = match record.kind {
            Kind::Heartbeat(time) => time.map(|Micros(time)| time.to_be_bytes()),
            Kind::Event | Kind::Tombstone => None,
        };
        let mut message = FutureRecord::<[u8], [u8]>::to(topic).partition(partition as i32);
        if let Some(key) = record.key {
            message = message.key(key);
        }
        if record.kind == Kind::Event {
            message = message.payload(record.value);
        }
        if time.is_some() || mark.is_some() {
            let mut headers = OwnedHeaders::new();
            if let Some(time) = &time {
                headers = headers.insert(Header { key: HEARTBEAT, value: Some(time.as_slice()) });
            }
            if let Some(mark) = mark {
                headers = headers.insert(Header { key: BATCH, value: Some(mark) });
            }
            message = message.headers(headers);
        }
        loop {
            match self.inner.send_result(message) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    tokio::time::sleep(ROOM).await;
                }
                Err((error, _)) => return Err(failed(topic, &error)),
            }
        }
    }
}
