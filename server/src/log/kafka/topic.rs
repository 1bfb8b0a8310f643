//! Facts about a topic: partitions, where they begin and end, what tells it from a recreated one.

use std::time::{Duration, Instant};

use millpond_engine::time::Micros;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Context, by_code, failed};
use super::queue;
use crate::config::Kafka;
use crate::log::Error;

/// How long one question to the brokers may take.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// A topic as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Cluster id and topic id.
    pub identity: String,
    /// Per partition: first offset and the offset after the last one that can be read.
    pub ranges: Vec<(i64, i64)>,
}

/// Asks the brokers about a topic. Blocks for a few round trips, at most some seconds.
pub fn describe(config: &Kafka, topic: &str) -> Result<Topic, Error> {
    client::ask(config, topic, |consumer| {
        let partitions = partitions(consumer, topic)?;
        let ranges = (0..partitions).map(|p| range(consumer, topic, p)).collect::<Result<_, _>>()?;
        Ok(Topic { identity: identity(consumer, topic)?, ranges })
    })
}

/// The offset of the first record with a timestamp of at least `at`, per partition (the end where there is none).
pub fn offsets_at(config: &Kafka, topic: &str, at: Micros) -> Result<Vec<i64>, Error> {
    client::ask(config, topic, |consumer| {
        let mut asked = TopicPartitionList::new();
        // Rounded up: a record of the millisecond before must not be taken.
        let millis = at.0.saturating_add(999).div_euclid(1000);
        for partition in 0..partitions(consumer, topic)? {
            asked
                .add_partition_offset(topic, partition as i32, Offset::Offset(millis))
                .map_err(|e| failed(topic, &e))?;
        }
        let found = consumer.offsets_for_times(asked, ANSWER).map_err(|e| failed(topic, &e))?;
        found
            .elements()
            .iter()
            .map(|element| match element.offset() {
                Offset::Offset(offset) => Ok(offset),
                _ => range(consumer, topic, element.partition() as u32).map(|(_, end)| end),
            })
            .collect()
    })
}

pub(super) fn partitions(consumer: &BaseConsumer<Context>, topic: &str) -> Result<u32, Error> {
    partitions_within(consumer, topic, ANSWER)
}

/// The same, for a caller with less patience.
pub(super) fn partitions_within(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    patience: Duration,
) -> Result<u32, Error> {
    let metadata = consumer.fetch_metadata(Some(topic), patience).map_err(|e| failed(topic, &e))?;
    let missing =
        || Error::Missing { log: topic.to_owned(), detail: "the brokers do not know it".to_owned() };
    let found = metadata.topics().iter().find(|t| t.name() == topic).ok_or_else(missing)?;
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        return Err(by_code(topic, code, code.to_string()));
    }
    match found.partitions().len() {
        0 => Err(missing()),
        n => Ok(n as u32),
    }
}

pub(super) fn range(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partition: u32,
) -> Result<(i64, i64), Error> {
    consumer.fetch_watermarks(topic, partition as i32, ANSWER).map_err(|e| failed(topic, &e))
}

pub(super) fn identity(consumer: &BaseConsumer<Context>, topic: &str) -> Result<String, Error> {
    // The cluster's id comes with any metadata; a client that has asked for none yet would wait for its
    // own timer, a second, before it connects.
    partitions(consumer, topic)?;
    let cluster = consumer.client().fetch_cluster_id(ANSWER).unwrap_or_else(|| "-".to_owned());
    let id =
        queue::topic_id(consumer, topic, ANSWER).map_err(|code| by_code(topic, code, code.to_string()))?;
    Ok(format!("kafka:{cluster}/{topic}/{}", id.as_deref().unwrap_or("-")))
}

/// Whether what was read of a topic can be read again: not where it is compacted, and not where the
/// brokers do not let us ask.
pub(super) fn is_replayable(config: &Kafka, topic: &str) -> Result<bool, Error> {
    let admin: AdminClient<DefaultClientContext> =
        client::producer(config)?.create().map_err(|e| client::refused(topic, &e))?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    let topics = [ResourceSpecifier::Topic(topic)];
    let asked = admin.describe_configs(&topics, &options);
    let answers = futures::executor::block_on(asked);
    client::close(admin);
    let answers = answers.map_err(|e| failed(topic, &e))?;
    let policy = answers.into_iter().find_map(|answer| match answer {
        Ok(resource) => resource.get("cleanup.policy").and_then(|entry| entry.value.clone()),
        Err(code) => {
            tracing::warn!(topic, %code, "the topic's cleanup.policy is not told: state is written in every epoch");
            None
        }
    });
    Ok(policy.is_some_and(|policy| !policy.contains("compact")))
}

/// Partitions of a topic; one that does not exist is created, with `partitions` (one by default) and
/// the brokers' own replication factor.
pub async fn ensure_topic(config: &Kafka, topic: &str, partitions: Option<u32>) -> Result<u32, Error> {
    let (owned, name) = (config.clone(), topic.to_owned());
    let found =
        blocking(topic, move || client::ask(&owned, &name, |consumer| self::partitions(consumer, &name)))
            .await;
    match found {
        Err(Error::Missing { .. }) => {}
        found => return found,
    }
    let admin: AdminClient<DefaultClientContext> =
        client::producer(config)?.create().map_err(|e| client::refused(topic, &e))?;
    let wanted = partitions.unwrap_or(1);
    let new = NewTopic::new(topic, wanted as i32, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
    let made = admin.create_topics([&new], &options).await.map_err(|e| failed(topic, &e))?;
    for result in made {
        match result {
            // Another one was faster: theirs is as good.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                return Err(by_code(topic, code, format!("it does not exist and cannot be created: {code}")));
            }
        }
    }
    let (owned, name) = (config.clone(), topic.to_owned());
    blocking(topic, move || {
        // Metadata takes a moment to reach every broker.
        client::ask(&owned, &name, |consumer| {
            let deadline = Instant::now() + ANSWER;
            loop {
                match self::partitions(consumer, &name) {
                    Err(Error::Missing { .. }) if Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    found => return found,
                }
            }
        })
    })
    .await
}

async fn blocking<T: Send + 'static>(
    topic: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Unavailable { log: topic.to_owned(), detail: e.to_string() })?
}
