//! Consumption by direct calls of librdkafka: batches from a queue, without a copy.
//!
//! rdkafka's safe consumer hands over one message per call, which costs more than decoding it.
//! Here every partition of a source feeds one queue, and one call takes thousands of messages from
//! it; their payloads are borrowed until the batch is cleared.
//!
//! ```text
//!   broker threads ─► partition queues ─► Shared.queue ═ consume_batch ═► Batch ─► Message<'_>
//! ```
//!
//! What keeps it safe:
//! - [`Shared`] owns the client, the topic handle and the queue; everything that points into them
//!   ([`Feed`], [`Batch`], a waker) holds it by `Arc`, and its `Drop` gives the handles back before
//!   the client goes.
//! - A [`Message`] borrows its [`Batch`], and clearing the batch needs it mutably.
//! - librdkafka's functions on clients, topics and queues may be called from any thread.
//!
//! The partitions are started one by one (`rd_kafka_consume_start_queue`) and not by an
//! assignment: an assignment needs a consumer group, whose coordinator would have to be found and
//! whose rights the user would have to have.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::connector::kafka::context::Context;

/// A consumer whose started partitions all flow into one queue.
pub(super) struct Feed {
    shared: Arc<Shared>,
    started: BTreeSet<i32>,
}

struct Shared {
    topic: NonNull<native::rd_kafka_topic_t>,
    queue: NonNull<native::rd_kafka_queue_t>,
    consumer: BaseConsumer<Context>,
}

// SAFETY: the pointers are handles of librdkafka, whose functions lock for themselves; nothing
// here reads through them.
unsafe impl Send for Shared {}
// SAFETY: as above, shared use included.
unsafe impl Sync for Shared {}

impl Feed {
    /// A feed of the topic, with no partition started yet.
    pub(super) fn new(
        consumer: BaseConsumer<Context>,
        topic: &str,
    ) -> Result<Self, RDKafkaErrorCode> {
        let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives, the name is NUL-terminated, and a NULL configuration means the
        // client's defaults.
        let topic = unsafe { native::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(last_error)?;
        // SAFETY: the client lives; the queue is given back before it by `Shared::drop`.
        let queue = unsafe { native::rd_kafka_queue_new(client) };
        let queue = NonNull::new(queue).expect("librdkafka aborts when it is out of memory");
        Ok(Feed {
            shared: Arc::new(Shared {
                topic,
                queue,
                consumer,
            }),
            started: BTreeSet::new(),
        })
    }

    pub(super) fn consumer(&self) -> &BaseConsumer<Context> {
        &self.shared.consumer
    }

    /// Lets a partition flow into the queue from an offset on.
    pub(super) fn start(&mut self, partition: i32, offset: i64) -> Result<(), RDKafkaErrorCode> {
        let Shared { topic, queue, .. } = &*self.shared;
        // SAFETY: both handles live as long as `shared`.
        let result = unsafe {
            native::rd_kafka_consume_start_queue(topic.as_ptr(), partition, offset, queue.as_ptr())
        };
        if result != 0 {
            return Err(last_error());
        }
        self.started.insert(partition);
        Ok(())
    }

    /// Stops a partition; what the queue still holds of it is discarded.
    pub(super) fn stop(&mut self, partition: i32) {
        if self.started.remove(&partition) {
            // SAFETY: the topic lives as long as `shared`. A failure would say that the partition
            // was not started, which the set excludes.
            unsafe { native::rd_kafka_consume_stop(self.shared.topic.as_ptr(), partition) };
        }
    }

    /// An empty batch that takes at most `capacity` messages at a time.
    pub(super) fn batch(&self, capacity: usize) -> Batch {
        Batch {
            messages: Vec::with_capacity(capacity),
            _owner: Arc::clone(&self.shared),
        }
    }

    /// Replaces the batch's contents by what is queued, waiting up to `timeout` only while nothing
    /// is. Messages of one partition stand together, in offset order.
    pub(super) fn fill(&self, batch: &mut Batch, timeout: Duration) {
        batch.clear();
        self.take(batch, usize::MAX, Duration::ZERO);
        if batch.messages.is_empty() && !timeout.is_zero() {
            // With room for more than one message librdkafka would wait the whole time in the hope
            // of filling it.
            self.take(batch, 1, timeout);
            if !batch.messages.is_empty() {
                self.take(batch, usize::MAX, Duration::ZERO);
            }
        }
        batch.group_by_partition();
    }

    fn take(&self, batch: &mut Batch, count_max: usize, timeout: Duration) {
        let length = batch.messages.len();
        let room = (batch.messages.capacity() - length).min(count_max);
        if room == 0 {
            return;
        }
        // Rounded up: a wait of 0.3 ms must not become a busy loop.
        let millis = timeout.as_micros().div_ceil(1000);
        let millis = c_int::try_from(millis).unwrap_or(c_int::MAX);
        // SAFETY: `length <= capacity`, so the pointer is inside the allocation, and there is room
        // for `room` pointers behind it. `NonNull` has the layout of the pointer that is written.
        let taken = unsafe {
            let end: *mut NonNull<native::rd_kafka_message_t> =
                batch.messages.as_mut_ptr().add(length);
            native::rd_kafka_consume_batch_queue(
                self.shared.queue.as_ptr(),
                millis,
                end.cast(),
                room,
            )
        };
        // It is negative only for a queue that does not exist.
        let taken = usize::try_from(taken).unwrap_or(0);
        assert!(
            taken <= room,
            "librdkafka wrote {taken} messages into room for {room}"
        );
        // SAFETY: librdkafka has written `taken` message pointers, none of them NULL.
        unsafe { batch.messages.set_len(length + taken) };
    }

    /// What makes a waiting [`Feed::fill`] return; does nothing once the feed is gone.
    pub(super) fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        Arc::new(move || {
            if let Some(shared) = shared.upgrade() {
                // SAFETY: the queue lives as long as `shared`.
                unsafe { native::rd_kafka_queue_yield(shared.queue.as_ptr()) };
            }
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        while let Some(partition) = self.started.first().copied() {
            self.stop(partition);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: both were made in `Feed::new`, are given back once, and nothing that uses them
        // is left: whoever could holds this value.
        unsafe {
            native::rd_kafka_queue_destroy(self.queue.as_ptr());
            native::rd_kafka_topic_destroy(self.topic.as_ptr());
        }
    }
}

/// Messages taken from a feed; they go back to librdkafka when the batch is cleared or dropped.
pub(super) struct Batch {
    messages: Vec<NonNull<native::rd_kafka_message_t>>,
    /// The messages' memory belongs to this client.
    _owner: Arc<Shared>,
}

// SAFETY: the batch owns its messages, and librdkafka does not care which thread destroys them.
unsafe impl Send for Batch {}

impl Batch {
    pub(super) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: each pointer is a message that is destroyed only by `clear`, which needs the
        // batch mutably while the messages borrow it.
        self.messages
            .iter()
            .map(|message| Message(unsafe { message.as_ref() }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn clear(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: each message was handed to us once and is given back once.
            unsafe { native::rd_kafka_message_destroy(message.as_ptr()) };
        }
    }

    /// A stable sort: the order within a partition is the queue's.
    fn group_by_partition(&mut self) {
        // SAFETY: as in `messages`.
        let partition =
            |message: &NonNull<native::rd_kafka_message_t>| unsafe { message.as_ref().partition };
        if !self.messages.is_sorted_by_key(partition) {
            self.messages.sort_by_key(partition);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A record, or an event of a partition such as its end.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(&'a native::rd_kafka_message_t);

impl<'a> Message<'a> {
    /// `None` for a record.
    pub(super) fn event(&self) -> Option<RDKafkaErrorCode> {
        match self.0.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            code => Some(code.into()),
        }
    }

    /// Negative where an event concerns no partition.
    pub(super) fn partition(&self) -> i32 {
        self.0.partition
    }

    /// The record's offset, or the position that an event is about.
    pub(super) fn offset(&self) -> i64 {
        self.0.offset
    }

    /// The payload; for an event its explanation.
    pub(super) fn payload(&self) -> Option<&'a [u8]> {
        // SAFETY: the message says how long its payload is.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    pub(super) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: the message says how long its key is.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// The record's timestamp in milliseconds since 1970 (UTC), where it has one.
    pub(super) fn timestamp_millis(&self) -> Option<i64> {
        // SAFETY: the message lives; a NULL type means that it is not asked for.
        let millis = unsafe { native::rd_kafka_message_timestamp(self.0, ptr::null_mut()) };
        (millis >= 0).then_some(millis)
    }

    /// The record's headers in order: name and value, which may be NULL.
    pub(super) fn headers(&self) -> Vec<(&'a CStr, Option<&'a [u8]>)> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives and is seen by this thread only; librdkafka parses the headers
        // into the message, which keeps them.
        let result = unsafe { native::rd_kafka_message_headers(self.0, &mut headers) };
        if result != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Vec::new();
        }
        let mut found = Vec::new();
        loop {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers live in the message; past the last one an error comes back and
            // nothing is written.
            let result = unsafe {
                native::rd_kafka_header_get_all(
                    headers,
                    found.len(),
                    &mut name,
                    &mut value,
                    &mut length,
                )
            };
            if result != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return found;
            }
            // SAFETY: librdkafka ends the name with a NUL and gives the value's length; both live
            // in the message.
            found.push(unsafe { (CStr::from_ptr(name), bytes(value, length)) });
        }
    }
}

/// # Safety
/// `start` is NULL or points to `length` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(start.cast(), length) })
}

fn last_error() -> RDKafkaErrorCode {
    // SAFETY: it reads a number of this thread.
    unsafe { native::rd_kafka_last_error() }.into()
}
