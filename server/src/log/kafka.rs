//! Kafka topics as logs: the only module that names rdkafka.
//!
//! We assign partitions ourselves, with our own offsets: no consumer group, no rebalancing, no
//! offset reset. Committed offsets are written so that others can see the lag, and never read.

mod batches;
mod client;
mod producer;
mod queue;
mod reader;
mod search;
mod topic;
mod transaction;

pub use batches::Transactions;
pub use producer::Producer;
pub use reader::KafkaReader;
pub use search::find;
pub use topic::{Topic, describe, ensure_topic, offsets_at};
pub use transaction::{SEQUENCE, TransactionalProducer, WRITER, newest};

/// Header of a record without a value that says how far time has come: i64 microseconds, big-endian.
pub const HEARTBEAT: &str = "millpond-heartbeat";

/// Header of the last record of a numbered batch: stream, number and producer.
pub const BATCH: &str = "millpond-batch";
