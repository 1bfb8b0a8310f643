//! The queue of one partition, read in batches.
//!
//! `rd_kafka_consume_batch_queue` takes thousands of messages per lock; polling them one by one
//! costs about twice as much. rdkafka has no safe face for it, nor for the cached watermarks and the
//! topic id, so this file (the only one with `unsafe`) calls librdkafka itself. Rules that make it sound:
//!
//! - every handle is created here, owned by one value, and destroyed in its `Drop`, while the
//!   consumer that it belongs to is kept alive by an `Arc`;
//! - a message is read between its delivery and its destruction, inside one function;
//! - the wake-up callback gets a pointer to a `Signal` that the queue owns, and is taken off before it is freed.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, RDKafkaErrorCode};
use rdkafka_sys as sys;

use super::HEARTBEAT;
use super::client::Context;
use crate::store::Signal;

/// One partition's queue, split from the consumer's.
pub struct PartitionQueue {
    queue: *mut sys::rd_kafka_queue_t,
    batch: Vec<*mut sys::rd_kafka_message_t>,
    header: Wanted,
    // Read by librdkafka's threads through the callback: kept until the callback is off.
    signal: Arc<Signal>,
    // Declared last: the queue goes before its consumer.
    _consumer: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's queues may be used from any thread; the buffer is only touched through `&mut self`.
unsafe impl Send for PartitionQueue {}

/// The header that is read of messages.
struct Wanted {
    name: CString,
    /// Of messages that have a value, too.
    always: bool,
}

/// What a queue delivers.
pub enum Delivery<'a> {
    /// A message.
    Message {
        /// Its offset.
        offset: i64,
        /// Its key.
        key: Option<&'a [u8]>,
        /// Its value; `None`: null.
        value: Option<&'a [u8]>,
        /// The header asked for: of [`PartitionQueue::split`] the heartbeat of a message without a value.
        header: Option<&'a [u8]>,
    },
    /// The end of the partition as far as it can be read now (its last stable offset).
    End {
        /// The offset after the last one that can be read.
        offset: i64,
    },
    /// An error.
    Failed {
        /// librdkafka's code.
        code: RDKafkaErrorCode,
        /// Its text.
        detail: String,
    },
}

impl PartitionQueue {
    /// Splits a partition's queue off. Call it before the partition is assigned, so that no message
    /// takes the way through the consumer's own queue.
    pub fn split(
        consumer: &Arc<BaseConsumer<Context>>,
        topic: &str,
        partition: u32,
        signal: Arc<Signal>,
    ) -> Option<Self> {
        let header = Wanted { name: CString::new(HEARTBEAT).ok()?, always: false };
        Self::split_with(consumer, topic, partition, signal, header)
    }

    /// The same with another header, of every message.
    pub fn split_for(
        consumer: &Arc<BaseConsumer<Context>>,
        topic: &str,
        partition: u32,
        signal: Arc<Signal>,
        header: &str,
    ) -> Option<Self> {
        let header = Wanted { name: CString::new(header).ok()?, always: true };
        Self::split_with(consumer, topic, partition, signal, header)
    }

    fn split_with(
        consumer: &Arc<BaseConsumer<Context>>,
        topic: &str,
        partition: u32,
        signal: Arc<Signal>,
        header: Wanted,
    ) -> Option<Self> {
        let name = CString::new(topic).ok()?;
        // SAFETY: the client outlives the call; the name is a C string; null is checked below.
        let queue = unsafe {
            sys::rd_kafka_queue_get_partition(consumer.client().native_ptr(), name.as_ptr(), partition as i32)
        };
        if queue.is_null() {
            return None;
        }
        // SAFETY: `queue` is ours. The callback's pointer is the `Signal` that `self.signal` keeps alive.
        unsafe {
            sys::rd_kafka_queue_forward(queue, ptr::null_mut());
            sys::rd_kafka_queue_cb_event_enable(queue, Some(wake), Arc::as_ptr(&signal).cast_mut().cast());
        }
        Some(Self { queue, batch: Vec::new(), header, signal, _consumer: Arc::clone(consumer) })
    }

    /// Hands what is queued, at most `max` deliveries, to `each`, in order. Does not wait.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(Delivery<'_>)) {
        self.batch.clear();
        self.batch.resize(max, ptr::null_mut());
        // SAFETY: the buffer has room for `max` pointers. Each message returned is ours until destroyed.
        let count = unsafe { sys::rd_kafka_consume_batch_queue(self.queue, 0, self.batch.as_mut_ptr(), max) };
        for message in self.batch.drain(..usize::try_from(count).unwrap_or(0)) {
            // SAFETY: not null, valid until destroyed two lines below; `delivery` borrows no longer.
            unsafe {
                each(delivery(&*message, &self.header));
                sys::rd_kafka_message_destroy(message);
            }
        }
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: taking the callback off is synchronised by the queue's lock; then the handle goes.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
        self.signal.notify();
    }
}

/// Called by librdkafka's threads when a queue is no longer empty.
unsafe extern "C" fn wake(_: *mut sys::rd_kafka_t, signal: *mut c_void) {
    // SAFETY: the pointer given at registration; alive until the callback is taken off.
    unsafe { &*signal.cast::<Signal>() }.notify();
}

/// SAFETY: `message` must be a live message; what is returned must not outlive it.
unsafe fn delivery<'a>(message: &'a sys::rd_kafka_message_t, wanted: &Wanted) -> Delivery<'a> {
    // SAFETY: librdkafka's messages hold `len` (`key_len`) bytes at `payload` (`key`), or null.
    let (key, value) = unsafe { (bytes(message.key, message.key_len), bytes(message.payload, message.len)) };
    match message.err {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Delivery::Message {
            offset: message.offset,
            key,
            value,
            header: if value.is_none() || wanted.always {
                // SAFETY: the message is live; the header's bytes are owned by it.
                unsafe { header(message, &wanted.name) }
            } else {
                None
            },
        },
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
            Delivery::End { offset: message.offset }
        }
        code => Delivery::Failed {
            code: code.into(),
            detail: String::from_utf8_lossy(value.unwrap_or_default()).into_owned(),
        },
    }
}

unsafe fn header<'a>(message: &'a sys::rd_kafka_message_t, name: &CStr) -> Option<&'a [u8]> {
    let mut headers = ptr::null_mut();
    let (mut value, mut length) = (ptr::null(), 0usize);
    // SAFETY: out parameters of the right types; both calls fail cleanly where there is nothing.
    unsafe {
        if sys::rd_kafka_message_headers(message, &raw mut headers).is_error()
            || sys::rd_kafka_header_get_last(headers, name.as_ptr(), &raw mut value, &raw mut length)
                .is_error()
        {
            return None;
        }
        Some(bytes(value.cast_mut(), length).unwrap_or_default())
    }
}

unsafe fn bytes<'a>(start: *mut c_void, length: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller's promise: `length` readable bytes.
    Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// First offset and high watermark of a partition as the last fetch saw them: no round trip.
pub fn cached_range(consumer: &BaseConsumer<Context>, topic: &str, partition: u32) -> Option<(i64, i64)> {
    let name = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1i64, -1i64);
    // SAFETY: out parameters of the right types; the client outlives the call.
    let code = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            name.as_ptr(),
            partition as i32,
            &raw mut low,
            &raw mut high,
        )
    };
    (!code.is_error() && high >= 0).then_some((low, high))
}

/// The topic's id, which a recreated topic of the same name does not share. `Ok(None)`: the broker
/// is too old to have one, or does not let us see it.
pub fn topic_id(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<String>, RDKafkaErrorCode> {
    let Ok(name) = CString::new(topic) else { return Ok(None) };
    let client = consumer.client().native_ptr();
    let timeout = timeout.as_millis() as i32;
    // SAFETY: every handle made here is destroyed here; the event owns what is read from it, and is
    // destroyed after the id has been copied.
    unsafe {
        let mut names: [*const c_char; 1] = [name.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let options = sys::rd_kafka_AdminOptions_new(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut why = [0 as c_char; 256];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout, why.as_mut_ptr(), why.len());
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, timeout + 1000);
        let id = if event.is_null() { Err(RDKafkaErrorCode::OperationTimedOut) } else { described_id(event) };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// SAFETY: `event` must be a live result of `rd_kafka_DescribeTopics` for one topic.
unsafe fn described_id(event: *mut sys::rd_kafka_event_t) -> Result<Option<String>, RDKafkaErrorCode> {
    // SAFETY: pointers returned belong to the event; each is checked before it is followed.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        if code.is_error() {
            return hidden(code.into());
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0usize;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if result.is_null() || topics.is_null() || count == 0 {
            return Ok(None);
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            let code = sys::rd_kafka_error_code(error);
            if code.is_error() {
                return hidden(code.into());
            }
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        if id.is_null() {
            return Ok(None);
        }
        let text = sys::rd_kafka_Uuid_base64str(id);
        if text.is_null() {
            return Ok(None);
        }
        Ok(Some(CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}

fn hidden(code: RDKafkaErrorCode) -> Result<Option<String>, RDKafkaErrorCode> {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed
        | RDKafkaErrorCode::UnsupportedFeature
        | RDKafkaErrorCode::UnsupportedVersion => Ok(None),
        code => Err(code),
    }
}
