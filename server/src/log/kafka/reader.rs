//! Reads one topic for one pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_engine::time::Micros;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Context, by_code, failed};
use super::queue::{Delivery, PartitionQueue, cached_range};
use super::topic;
use crate::config::Kafka;
use crate::log::{Budget, Error, Kind, PartitionEnd, Reader, Records};
use crate::store::Signal;

/// Committed offsets are for people who watch the lag: once a second is enough.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// librdkafka reconnects by itself; only after this long is it called trouble.
const PATIENCE: Duration = Duration::from_secs(1);

/// A topic, read in batches from one queue per partition.
pub struct KafkaReader {
    topic: String,
    config: Kafka,
    partitions: BTreeMap<u32, Partition>,
    /// Partitions were sought since the last assignment.
    unassigned: bool,
    /// Committed offsets as others see them, and since when.
    shown: (Instant, Vec<(u32, i64)>),
    signal: Arc<Signal>,
    consumer: Arc<BaseConsumer<Context>>,
}

struct Partition {
    queue: PartitionQueue,
    /// The next offset wanted: anything before it is left over from another time and dropped.
    next: i64,
    /// Where the partition ended when everything readable had been delivered.
    ended_at: Option<i64>,
}

impl KafkaReader {
    /// Opens a topic. `group` is the name under which the offsets are shown to others.
    pub fn open(config: &Kafka, topic: &str, group: &str) -> Result<Self, Error> {
        Ok(Self {
            topic: topic.to_owned(),
            config: config.clone(),
            partitions: BTreeMap::new(),
            unassigned: false,
            shown: (Instant::now(), Vec::new()),
            signal: Arc::new(Signal::default()),
            consumer: client::consumer(config, topic, group)?,
        })
    }

    /// Serves the client's own events and says if the brokers are out of reach.
    fn serve(&mut self) -> Result<(), Error> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            if let Err(error) = event {
                tracing::debug!(topic = self.topic, %error, "kafka");
            }
        }
        match self.consumer.context().trouble() {
            Some((since, detail)) if since.elapsed() > PATIENCE => {
                // The only way to know that it is over, where no record comes.
                match topic::partitions_within(&self.consumer, &self.topic, PATIENCE) {
                    Ok(_) => self.consumer.context().clear(),
                    // What the client said before says more than that this question was not answered.
                    Err(Error::Unavailable { log, .. }) => return Err(Error::Unavailable { log, detail }),
                    Err(error) => return Err(error),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Tells librdkafka what to fetch, from where: all partitions, each from the next offset wanted.
    fn assign(&mut self) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        for (number, partition) in &self.partitions {
            list.add_partition_offset(&self.topic, *number as i32, Offset::Offset(partition.next))
                .map_err(|e| failed(&self.topic, &e))?;
        }
        self.consumer.assign(&list).map_err(|e| failed(&self.topic, &e))?;
        self.unassigned = false;
        Ok(())
    }

    /// An error in a partition's queue: what is it to the pipeline?
    fn judge(&self, number: u32, wanted: i64, code: RDKafkaErrorCode, detail: String) -> Error {
        // `_AUTO_OFFSET_RESET` is how `auto.offset.reset=error` says that the offset is out of range.
        if !matches!(code, RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) {
            return by_code(&self.topic, code, format!("{code}: {detail}"));
        }
        match topic::range(&self.consumer, &self.topic, number) {
            Ok((first, _)) if wanted < first => {
                Error::Gone { log: self.topic.clone(), partition: number, wanted, first }
            }
            Ok((_, end)) if wanted > end => Error::Replaced {
                log: self.topic.clone(),
                was: format!("{wanted} records or more in partition {number}"),
                is: format!("{end}"),
            },
            // In range now: the broker that answered was behind. Asked again.
            Ok(_) => Error::Unavailable { log: self.topic.clone(), detail },
            Err(error) => error,
        }
    }
}

impl Reader for KafkaReader {
    fn partitions(&mut self) -> Result<u32, Error> {
        topic::partitions(&self.consumer, &self.topic)
    }

    fn is_replayable(&mut self) -> Result<bool, Error> {
        topic::is_replayable(&self.config, &self.topic)
    }

    fn seek(&mut self, number: u32, offset: i64) -> Result<(), Error> {
        if let Some(partition) = self.partitions.get_mut(&number) {
            partition.next = offset;
            partition.ended_at = None;
        } else {
            let queue = PartitionQueue::split(&self.consumer, &self.topic, number, Arc::clone(&self.signal))
                .ok_or_else(|| Error::Missing {
                    log: self.topic.clone(),
                    detail: format!("partition {number}"),
                })?;
            self.partitions.insert(number, Partition { queue, next: offset, ended_at: None });
        }
        self.unassigned = true;
        Ok(())
    }

    fn poll(&mut self, number: u32, budget: Budget, into: &mut Records) -> Result<usize, Error> {
        if self.unassigned {
            self.assign()?;
        }
        let Some(partition) = self.partitions.get_mut(&number) else { return Ok(0) };
        let before = into.records.len();
        let mut failure = None;
        let Partition { queue, next, ended_at } = partition;
        queue.drain(budget.records, |delivery| match delivery {
            Delivery::Message { offset, key, value, header } => {
                // Dropped too: what follows an error, or the order of offsets would have a hole.
                if offset >= *next && failure.is_none() {
                    into.push(number, offset, kind(value, header), key, value.unwrap_or_default());
                    *next = offset + 1;
                    *ended_at = None;
                }
            }
            Delivery::End { offset } => *ended_at = Some(offset),
            Delivery::Failed { code, detail } => failure = failure.take().or(Some((code, detail))),
        });
        let count = into.records.len() - before;
        let wanted = *next;
        if count > 0 {
            self.consumer.context().clear();
        }
        if let Some((code, detail)) = failure {
            let error = self.judge(number, wanted, code, detail);
            if error.is_transient() {
                self.unassigned = true; // fetched again from the next offset wanted
            }
            // Records before the error are good: the error comes back if it lasts.
            return if count > 0 && error.is_transient() { Ok(count) } else { Err(error) };
        }
        if count == 0 {
            self.serve()?;
        }
        Ok(count)
    }

    fn ends(&mut self) -> Result<Vec<PartitionEnd>, Error> {
        Ok(self
            .partitions
            .iter()
            .map(|(number, partition)| {
                let high = cached_range(&self.consumer, &self.topic, *number).map_or(0, |(_, high)| high);
                let end = high.max(partition.next);
                let blocked = partition.ended_at.is_some_and(|at| at < high);
                PartitionEnd { partition: *number, end, reached: partition.ended_at.is_some(), blocked }
            })
            .collect())
    }

    fn range(&mut self, partition: u32) -> Result<(i64, i64), Error> {
        topic::range(&self.consumer, &self.topic, partition)
    }

    fn identity(&mut self) -> Result<String, Error> {
        topic::identity(&self.consumer, &self.topic)
    }

    fn wait(&mut self, timeout: Duration) {
        self.signal.wait(timeout);
    }

    fn committed(&mut self, positions: &[(u32, i64)]) {
        if self.shown.0.elapsed() < SHOW_EVERY || self.shown.1 == positions {
            return;
        }
        self.shown = (Instant::now(), positions.to_vec());
        let mut list = TopicPartitionList::new();
        for (number, offset) in positions {
            let _ = list.add_partition_offset(&self.topic, *number as i32, Offset::Offset(*offset));
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(topic = self.topic, %error, "offsets are not shown to others");
        }
    }
}

/// A record without a value is a tombstone, unless it carries the heartbeat header.
fn kind(value: Option<&[u8]>, heartbeat: Option<&[u8]>) -> Kind {
    match (value, heartbeat) {
        (Some(_), _) => Kind::Event,
        (None, None) => Kind::Tombstone,
        (None, Some(time)) => {
            Kind::Heartbeat(time.try_into().ok().map(|bytes| Micros(i64::from_be_bytes(bytes))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_is() {
        assert_eq!(kind(Some(b""), None), Kind::Event);
        assert_eq!(kind(Some(b"x"), Some(b"12345678")), Kind::Event);
        assert_eq!(kind(None, None), Kind::Tombstone);
        assert_eq!(kind(None, Some(&(-5i64).to_be_bytes())), Kind::Heartbeat(Some(Micros(-5))));
        assert_eq!(kind(None, Some(b"1234567")), Kind::Heartbeat(None));
        assert_eq!(kind(None, Some(b"")), Kind::Heartbeat(None));
    }
}
