//! Two requests that rdkafka's safe interface lacks: a topic's id, and a group's offsets.
//!
//! Both follow one protocol: options, a request, an event on a queue of its own. Offsets are
//! altered as an administrator does it, not committed as a member would: no group is joined, so
//! closing never waits for a coordinator.

use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::connector::kafka::context::Context;

/// What brokers that know no ids answer: sixteen zero bytes.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The topic's id as Kafka's tools print it; `None` where the cluster has none to give.
///
/// The question goes to the controller: where that is none of the `brokers` that the cluster's
/// metadata name, nobody can be asked, and librdkafka would wait for it in vain.
pub(super) fn topic_id(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    brokers: &[i32],
    timeout: Duration,
) -> Result<Option<String>, RDKafkaErrorCode> {
    let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    // SAFETY: the client lives; with no time to wait it answers from what it knows.
    let controller = unsafe { native::rd_kafka_controllerid(consumer.client().native_ptr(), 0) };
    if !brokers.contains(&controller) {
        return Ok(None);
    }
    let request = Request::new(
        consumer,
        native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        timeout,
    )?;
    let mut names = [name.as_ptr()];
    // SAFETY: the array holds one NUL-terminated name; the collection copies it.
    let topics = unsafe { native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1) };
    // SAFETY: every handle lives; the request copies the collection, which is then given back.
    unsafe {
        native::rd_kafka_DescribeTopics(request.client, topics, request.options(), request.queue());
        native::rd_kafka_TopicCollection_destroy(topics);
    }
    let event = request.answer(timeout)?;
    let mut count = 0;
    // SAFETY: the event is the answer to DescribeTopics (anything else gives NULL), and what it
    // holds lives as long as the event.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let found = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count == 0 || found.is_null() {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let error = native::rd_kafka_TopicDescription_error(*found);
        check(native::rd_kafka_error_code(error))?;
        let id = native::rd_kafka_TopicDescription_topic_id(*found);
        if id.is_null() {
            return Ok(None);
        }
        let text = native::rd_kafka_Uuid_base64str(id);
        if text.is_null() {
            return Ok(None);
        }
        let text = CStr::from_ptr(text).to_string_lossy().into_owned();
        Ok(Some(text).filter(|id| id.trim_end_matches('=') != NO_ID))
    }
}

/// Sets the offsets of a consumer group that has no members.
pub(super) fn set_group_offsets(
    consumer: &BaseConsumer<Context>,
    group: &str,
    offsets: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let group = CString::new(group).map_err(|_| RDKafkaErrorCode::InvalidGroupId)?;
    let request = Request::new(
        consumer,
        native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS,
        timeout,
    )?;
    // SAFETY: group and list live; the new object copies both, the request copies the object.
    unsafe {
        let altered = native::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), offsets.ptr());
        let mut all = [altered];
        native::rd_kafka_AlterConsumerGroupOffsets(
            request.client,
            all.as_mut_ptr(),
            all.len(),
            request.options(),
            request.queue(),
        );
        native::rd_kafka_AlterConsumerGroupOffsets_destroy(altered);
    }
    let event = request.answer(timeout)?;
    let mut count = 0;
    // SAFETY: the event is the answer to this request (anything else gives NULL), and what it
    // holds lives as long as the event; the list says how many elements it has.
    unsafe {
        let result = native::rd_kafka_event_AlterConsumerGroupOffsets_result(event.0.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let groups = native::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &mut count);
        if count == 0 || groups.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        check(native::rd_kafka_error_code(
            native::rd_kafka_group_result_error(*groups),
        ))?;
        let partitions = native::rd_kafka_group_result_partitions(*groups);
        if partitions.is_null() {
            return Ok(());
        }
        let length = usize::try_from((*partitions).cnt).unwrap_or(0);
        for index in 0..length {
            check((*(*partitions).elems.add(index)).err)?;
        }
    }
    Ok(())
}

fn check(code: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}

/// Options and a queue for one request, given back when it is over.
struct Request {
    client: *mut native::rd_kafka_t,
    options: NonNull<native::rd_kafka_AdminOptions_t>,
    queue: NonNull<native::rd_kafka_queue_t>,
}

impl Request {
    fn new(
        consumer: &BaseConsumer<Context>,
        operation: native::rd_kafka_admin_op_t,
        timeout: Duration,
    ) -> Result<Self, RDKafkaErrorCode> {
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives, and outlives the request: callers hold it by reference.
        let (options, queue) = unsafe {
            (
                native::rd_kafka_AdminOptions_new(client, operation),
                native::rd_kafka_queue_new(client),
            )
        };
        let request = Request {
            client,
            options: NonNull::new(options).expect("the operation is one of the library's own"),
            queue: NonNull::new(queue).expect("librdkafka aborts when it is out of memory"),
        };
        // SAFETY: the options live; a NULL buffer of length 0 means that no text is wanted.
        check(unsafe {
            native::rd_kafka_AdminOptions_set_request_timeout(
                options,
                millis(timeout),
                ptr::null_mut(),
                0,
            )
        })?;
        Ok(request)
    }

    fn options(&self) -> *const native::rd_kafka_AdminOptions_t {
        self.options.as_ptr()
    }

    fn queue(&self) -> *mut native::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    fn answer(&self, timeout: Duration) -> Result<Event, RDKafkaErrorCode> {
        // SAFETY: the queue lives; the event is ours to destroy.
        let event = unsafe { native::rd_kafka_queue_poll(self.queue(), millis(timeout)) };
        let event = Event(NonNull::new(event).ok_or(RDKafkaErrorCode::OperationTimedOut)?);
        // SAFETY: the event lives.
        check(unsafe { native::rd_kafka_event_error(event.0.as_ptr()) })?;
        Ok(event)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: both were made by `new` and are given back once. An answer that comes later is
        // discarded by librdkafka with its queue.
        unsafe {
            native::rd_kafka_AdminOptions_destroy(self.options.as_ptr());
            native::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

struct Event(NonNull<native::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event was handed to us once and is given back once.
        unsafe { native::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

fn millis(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}
