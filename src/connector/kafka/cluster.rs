//! What a source asks of the cluster: its topic's partitions and their offsets.
//!
//! Every question has a bound in time. While no broker answers it is asked again, with growing
//! patience; when every broker was tried in vain it fails early, with what the last attempt to
//! connect said.

use std::time::{Duration, Instant};

use rdkafka::Offset as NativeOffset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use crate::base::limits::{KAFKA_REQUEST_SECONDS_MAX, KAFKA_UNREACHABLE_SECONDS};
use crate::base::{Offset, PartitionId};
use crate::connector::kafka::config::KafkaConfig;
use crate::connector::kafka::context::Context;
use crate::connector::kafka::failure::{self, Kind};
use crate::connector::kafka::intake::native_partition;
use crate::error::{Error, Result};

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The oldest that can be read.
    Start,
    /// The one that the next record will have; under read_committed the last stable offset.
    End,
    /// The first whose record has this time, milliseconds, or a later one; the end if none has.
    Time(i64),
}

/// The topic's partitions, in order.
pub(super) fn partitions(
    consumer: &BaseConsumer<Context>,
    config: &KafkaConfig,
) -> Result<Vec<PartitionId>> {
    let mut found = ask(consumer, config, "find", |timeout| {
        let metadata = consumer.fetch_metadata(Some(&config.topic), timeout)?;
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == config.topic);
        let Some(topic) = topic else {
            return Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::UnknownTopicOrPartition,
            ));
        };
        if let Some(code) = topic.error() {
            return Err(KafkaError::MetadataFetch(code.into()));
        }
        Ok(topic
            .partitions()
            .iter()
            .map(|partition| partition.id())
            .collect::<Vec<i32>>())
    })?;
    if found.is_empty() {
        return Err(failure::missing(config));
    }
    found.sort_unstable();
    let id = |id| u32::try_from(id).map(PartitionId);
    found
        .into_iter()
        .map(id)
        .collect::<Result<_, _>>()
        .map_err(|_| Error::internal("Kafka names a partition with a negative number"))
}

/// The numbers of the cluster's brokers.
pub(super) fn brokers(consumer: &BaseConsumer<Context>, config: &KafkaConfig) -> Result<Vec<i32>> {
    ask(consumer, config, "find the brokers of", |timeout| {
        let metadata = consumer.fetch_metadata(Some(&config.topic), timeout)?;
        Ok(metadata
            .brokers()
            .iter()
            .map(|broker| broker.id())
            .collect())
    })
}

/// One offset of each partition, in the order of the partitions.
pub(super) fn offsets(
    consumer: &BaseConsumer<Context>,
    config: &KafkaConfig,
    partitions: &[PartitionId],
    bound: Bound,
) -> Result<Vec<Offset>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let ids = partitions
        .iter()
        .map(|id| native_partition(*id))
        .collect::<Result<Vec<i32>>>()?;
    // ListOffsets takes a time; the two ends are the times -2 and -1, which is how librdkafka
    // numbers them too. One request per broker answers for all of its partitions.
    let wanted = match bound {
        Bound::Start => NativeOffset::Beginning,
        Bound::End => NativeOffset::End,
        Bound::Time(millis) => NativeOffset::Offset(millis),
    };
    let found = ask(consumer, config, "read the offsets of", |timeout| {
        let mut list = TopicPartitionList::with_capacity(ids.len());
        for id in &ids {
            list.add_partition_offset(&config.topic, *id, wanted)?;
        }
        let list = consumer.offsets_for_times(list, timeout)?;
        let found = ids.iter().map(|id| {
            let element = list.find_partition(&config.topic, *id);
            let element = element.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::Fail))?;
            element.error()?;
            Ok(element.offset())
        });
        found.collect::<KafkaResult<Vec<NativeOffset>>>()
    })?;
    if bound != Bound::End && found.iter().any(|offset| as_number(offset).is_none()) {
        let ends = offsets(consumer, config, partitions, Bound::End)?;
        let known = found.iter().map(as_number).zip(ends);
        return Ok(known.map(|(offset, end)| offset.unwrap_or(end)).collect());
    }
    let number = |offset| {
        as_number(offset).ok_or_else(|| Error::internal("Kafka gave no offset for an end"))
    };
    found.iter().map(number).collect()
}

fn as_number(offset: &NativeOffset) -> Option<Offset> {
    match offset {
        NativeOffset::Offset(number) => u64::try_from(*number).ok().map(Offset),
        _ => None,
    }
}

/// Asks until there is an answer, the bound is reached or it is clear that none will come.
pub(super) fn ask<T>(
    consumer: &BaseConsumer<Context>,
    config: &KafkaConfig,
    what: &str,
    mut question: impl FnMut(Duration) -> KafkaResult<T>,
) -> Result<T> {
    let begun = Instant::now();
    let limit = Duration::from_secs(KAFKA_REQUEST_SECONDS_MAX);
    let mut patience = Duration::from_secs(1);
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let error = match question(left.min(patience)) {
            Ok(answer) => {
                consumer.context().clear();
                return Ok(answer);
            }
            Err(error) => error,
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        patience *= 2;
        // Serves the client's log and errors; it is also the pause before the next attempt.
        let pause = Instant::now();
        while pause.elapsed() < PAUSE {
            let _ = consumer.poll(PAUSE);
        }
        let context = consumer.context();
        let is_hopeless =
            context.is_down() && begun.elapsed() >= Duration::from_secs(KAFKA_UNREACHABLE_SECONDS);
        if failure::kind(code) != Kind::Away || is_hopeless || begun.elapsed() >= limit {
            return Err(failure::describe(code, what, config, context.reason()));
        }
    }
}

/// Between two attempts, when the first failed without waiting.
const PAUSE: Duration = Duration::from_millis(50);
