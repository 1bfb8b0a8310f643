//! Looking for one marked record in a topic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::queue::{Delivery, PartitionQueue, cached_range};
use super::{BATCH, client, topic};
use crate::config::Kafka;
use crate::log::Error;
use crate::store::Signal;

/// Messages taken from the queue at a time.
const STEP: usize = 10_000;
/// The brokers are given up if nothing comes for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The offset of the committed record with a mark, from an offset of a partition on.
///
/// # Errors
/// [`Error::Gone`] where it is not found and the partition no longer begins before `from`;
/// [`Error::Unavailable`] while someone's transaction hides the end of the partition.
pub fn find(
    config: &Kafka,
    topic: &str,
    partition: u32,
    from: i64,
    mark: &str,
) -> Result<Option<i64>, Error> {
    let consumer = client::consumer(config, topic, "millpond")?;
    let (first, end) = topic::range(&consumer, topic, partition)?;
    if end < from {
        // Another topic of the same name: what was written to the one before is not here.
        return Ok(None);
    }
    let signal = Arc::new(Signal::default());
    let queue = PartitionQueue::split_for(&consumer, topic, partition, Arc::clone(&signal), BATCH);
    let detail = || format!("partition {partition}");
    let mut queue = queue.ok_or_else(|| Error::Missing { log: topic.to_owned(), detail: detail() })?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition as i32, Offset::Offset(from.max(first)))
        .and_then(|()| consumer.assign(&list))
        .map_err(|e| client::failed(topic, &e))?;
    let unavailable = |detail: String| Error::Unavailable { log: topic.to_owned(), detail };
    let mut heard = Instant::now();
    loop {
        let (mut found, mut ended, mut failure, mut any) = (None, None, None, false);
        queue.drain(STEP, |delivery| {
            any = true;
            match delivery {
                Delivery::Message { offset, header, .. } if header == Some(mark.as_bytes()) => {
                    found = found.or(Some(offset));
                }
                Delivery::Message { .. } => {}
                Delivery::End { offset } => ended = Some(offset),
                Delivery::Failed { code, detail } => failure = Some((code, detail)),
            }
        });
        if found.is_some() {
            return Ok(found);
        }
        if let Some((code, detail)) = failure {
            return Err(client::by_code(topic, code, format!("{code}: {detail}")));
        }
        if let Some(ended) = ended {
            let high = cached_range(&consumer, topic, partition).map_or(ended, |(_, high)| high);
            if ended < high {
                return Err(unavailable(format!("partition {partition} ends in a transaction that is open")));
            }
            if first > from {
                return Err(Error::Gone { log: topic.to_owned(), partition, wanted: from, first });
            }
            return Ok(None);
        }
        if any {
            heard = Instant::now();
        } else if heard.elapsed() > PATIENCE {
            return Err(unavailable(format!("nothing comes from partition {partition}")));
        }
        // The client's own events, which nobody looks at here, must not pile up.
        while consumer.poll(Duration::ZERO).is_some() {}
        signal.wait(Duration::from_millis(100));
    }
}
