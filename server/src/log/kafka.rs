//! Kafka topics as logs.
