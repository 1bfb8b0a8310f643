//! librdkafka's properties, and what its errors mean to us.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::config::Kafka;
use crate::log::Error;

/// Remembers what the client complained about last: librdkafka retries by itself and only mentions it.
#[derive(Debug, Default)]
pub struct Context {
    trouble: Mutex<Option<(Instant, String)>>,
}

impl Context {
    /// Since when no broker answers, and why, as far as is known.
    pub fn trouble(&self) -> Option<(Instant, String)> {
        self.trouble.lock().clone()
    }

    /// A broker has answered.
    pub fn clear(&self) {
        *self.trouble.lock() = None;
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        let mut trouble = self.trouble.lock();
        match error.rdkafka_error_code() {
            // One broker of several is down: librdkafka goes on with the others.
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve)
                if trouble.is_none() =>
            {
                tracing::debug!(reason, "kafka broker");
            }
            _ => {
                let since = trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                *trouble = Some((since, reason.to_owned()));
            }
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(facility, "{message}"),
            _ => tracing::debug!(facility, "{message}"),
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    /// A record that is not delivered fails the commit of its transaction: here it is only named.
    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = delivery {
            *self.trouble.lock() = Some((Instant::now(), error.to_string()));
        }
    }
}

/// What everyone who talks to Kafka starts from: the user's properties.
fn base(config: &Kafka, log: &str) -> Result<ClientConfig, Error> {
    if config.bootstrap_servers.is_none() {
        let detail = "no Kafka brokers are configured: set kafka.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS)";
        return Err(Error::Configuration { log: log.to_owned(), detail: detail.to_owned() });
    }
    let mut client = ClientConfig::new();
    client.set("client.id", "millpond");
    for (name, value) in config.librdkafka() {
        client.set(name, value);
    }
    client.set_log_level(RDKafkaLogLevel::Info);
    Ok(client)
}

/// A consumer for one reader of one topic. `group` is only the name under which its offsets are shown.
pub fn consumer(config: &Kafka, topic: &str, group: &str) -> Result<Arc<BaseConsumer<Context>>, Error> {
    let mut client = ClientConfig::new();
    // Ours to choose, theirs to override: deep enough queues for batches, bounded for many partitions.
    let defaults = [
        ("queued.min.messages", "200000"),
        ("queued.max.messages.kbytes", "32768"),
        ("fetch.message.max.bytes", "4194304"),
        // A fetch that waits holds up what is asked after it on the same connection.
        ("fetch.wait.max.ms", "100"),
        // A few per cent of the CPU, and a flipped bit becomes an error instead of a feature.
        ("check.crcs", "true"),
    ];
    for (name, value) in defaults {
        client.set(name, value);
    }
    for (name, value) in base(config, topic)?.config_map() {
        client.set(name, value);
    }
    // What the exactly-once road depends on: not theirs to override.
    let fixed = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
        ("allow.auto.create.topics", "false"),
    ];
    for (name, value) in fixed {
        client.set(name, value);
    }
    client.set_log_level(RDKafkaLogLevel::Info);
    let consumer = client.create_with_context(Context::default()).map_err(|e| refused(topic, &e))?;
    Ok(Arc::new(consumer))
}

/// What a consumer of its own finds out about a topic.
pub(super) fn ask<T>(
    config: &Kafka,
    topic: &str,
    question: impl FnOnce(&Arc<BaseConsumer<Context>>) -> Result<T, Error>,
) -> Result<T, Error> {
    let consumer = consumer(config, topic, "millpond")?;
    let answer = question(&consumer);
    close(consumer);
    answer
}

/// Lets a client go that is no longer needed. Closing one takes a tenth of a second, which nobody should wait for.
pub(super) fn close<T: Send + 'static>(client: T) {
    let closing = std::thread::Builder::new().name("kafka close".to_owned());
    // Where no thread can be started, the client was dropped with the closure: closed, only slower.
    drop(closing.spawn(move || drop(client)));
}

/// Configuration of the producer: idempotent, acknowledged by all in-sync replicas.
pub fn producer(config: &Kafka) -> Result<ClientConfig, Error> {
    let mut client = base(config, "the Kafka producer")?;
    for (name, value) in
        [("enable.idempotence", "true"), ("acks", "all"), ("allow.auto.create.topics", "false")]
    {
        client.set(name, value);
    }
    if config.properties.keys().all(|k| k.replace('_', ".") != "linger.ms") {
        // Appends over HTTP are batches already; waiting for company only delays the reply.
        client.set("linger.ms", "0");
    }
    Ok(client)
}

/// The same for a producer whose batches are transactions. What a producer of the name that is gone left
/// open holds readers back until another one comes, or this time is over.
pub fn transactional(config: &Kafka, name: &str) -> Result<ClientConfig, Error> {
    let mut client = producer(config)?;
    if config.properties.keys().all(|k| k.replace('_', ".") != "transaction.timeout.ms") {
        client.set("transaction.timeout.ms", "15000");
    }
    client.set("transactional.id", name);
    Ok(client)
}

/// A client could not be made: a property is unknown or has a wrong value.
pub fn refused(log: &str, error: &KafkaError) -> Error {
    Error::Configuration { log: log.to_owned(), detail: error.to_string() }
}

/// A request failed: is it a matter of waiting?
pub fn failed(log: &str, error: &KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(code) => by_code(log, code, error.to_string()),
        None => Error::Unavailable { log: log.to_owned(), detail: error.to_string() },
    }
}

/// The same by librdkafka's code.
pub fn by_code(log: &str, code: RDKafkaErrorCode, detail: String) -> Error {
    let log = log.to_owned();
    match code {
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopicId
        | RDKafkaErrorCode::InvalidTopic => Error::Missing { log, detail },
        _ => Error::Unavailable { log, detail },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn without_brokers_the_error_says_what_to_set() {
        let error = consumer(&Kafka::default(), "t", "g").err().unwrap();
        assert!(error.to_string().contains("kafka.bootstrap_servers"), "{error}");
    }

    #[test]
    fn an_unknown_property_is_named() {
        let mut config = Kafka { bootstrap_servers: Some("127.0.0.1:1".to_owned()), ..Kafka::default() };
        config.properties.insert("no.such.property".to_owned(), "1".to_owned());
        let error = consumer(&config, "t", "g").err().unwrap();
        assert!(!error.is_transient());
        assert!(error.to_string().contains("no.such.property"), "{error}");
    }

    #[test]
    fn what_exactly_once_depends_on_cannot_be_overridden() {
        let mut config = Kafka { bootstrap_servers: Some("127.0.0.1:1".to_owned()), ..Kafka::default() };
        config.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
        config.properties.insert("auto_offset_reset".to_owned(), "latest".to_owned());
        // The client cannot be asked for its properties, but a wrong isolation level would be refused.
        config.properties.insert("isolation.level".to_owned(), "nonsense".to_owned());
        assert!(consumer(&config, "t", "g").is_ok());
    }
}
