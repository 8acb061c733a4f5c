//! A topic of a Kafka cluster as a source.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::base::limits::{KAFKA_COMMIT_SECONDS_MAX, KAFKA_REQUEST_SECONDS_MAX};
use crate::base::{Clock, Offset, PartitionId};
use crate::connector::kafka::admin;
use crate::connector::kafka::cluster::{self, Bound};
use crate::connector::kafka::config::{KafkaConfig, Startup};
use crate::connector::kafka::context::Context;
use crate::connector::kafka::failure;
use crate::connector::kafka::intake::native_partition;
use crate::connector::kafka::reader::KafkaReader;
use crate::connector::kafka::rows::RowLayout;
use crate::connector::{Bounds, ReadRange, Reader, SourceConnector};
use crate::error::{Error, Result, SqlState};

/// A topic: what can be read of it, and readers over it.
///
/// Its questions to the cluster go through one client that lives as long as it does; each reader
/// has a client of its own.
pub struct KafkaConnector {
    config: Arc<KafkaConfig>,
    layout: RowLayout,
    clock: Clock,
    client: BaseConsumer<Context>,
}

impl KafkaConnector {
    /// Makes the connector without talking to a broker.
    ///
    /// # Errors
    /// 22023 where librdkafka refuses a property's value, 42804 where a metadata column has a type
    /// that cannot show it.
    pub fn new(config: KafkaConfig, layout: RowLayout) -> Result<Self> {
        layout.check()?;
        let client = config
            .client()
            .create_with_context(Context::default())
            .map_err(|error| failure::refused(&error))?;
        Ok(KafkaConnector {
            config: Arc::new(config),
            layout,
            clock: Clock::system(),
            client,
        })
    }

    /// Uses another clock for the chunks' times of arrival.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub fn config(&self) -> &KafkaConfig {
        &self.config
    }
}

impl SourceConnector for KafkaConnector {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        cluster::partitions(&self.client, &self.config)
    }

    fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        // The start first: records deleted in between make it too low, which a reader notices; a
        // start after the end would be no range at all.
        let starts = cluster::offsets(&self.client, &self.config, partitions, Bound::Start)?;
        let ends = cluster::offsets(&self.client, &self.config, partitions, Bound::End)?;
        let both = starts.into_iter().zip(ends);
        Ok(both
            .map(|(start, end)| Bounds {
                start,
                end: end.max(start),
            })
            .collect())
    }

    fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        let bound = match self.config.startup {
            Startup::Earliest => Bound::Start,
            Startup::Latest => Bound::End,
            Startup::Timestamp(millis) => Bound::Time(millis),
        };
        cluster::offsets(&self.client, &self.config, partitions, bound)
    }

    fn reader(&self, ranges: Vec<ReadRange>, columns: &[usize]) -> Result<Box<dyn Reader>> {
        let config = Arc::clone(&self.config);
        let clock = self.clock.clone();
        let reader = KafkaReader::open(config, &self.layout, ranges, columns, clock)?;
        Ok(Box::new(reader))
    }

    fn has_group(&self) -> bool {
        self.config.group.is_some()
    }

    /// Makes our positions visible to Kafka's tools as those of the configured group; does nothing
    /// without a group. Best effort: nothing is ever read back. Blocks for up to
    /// `KAFKA_COMMIT_SECONDS_MAX`.
    ///
    /// # Errors
    /// 55006 where the group has members, who commit for themselves; retryable ones where the
    /// group's coordinator is away.
    fn commit(&self, positions: &[(PartitionId, Offset)]) -> Result<()> {
        let Some(group) = &self.config.group else {
            return Ok(());
        };
        if positions.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, offset) in positions {
            let partition = native_partition(*partition)?;
            let offset = i64::try_from(offset.0)
                .map_err(|_| Error::internal(format!("Kafka has no offset {offset}")))?;
            list.add_partition_offset(
                &self.config.topic,
                partition,
                rdkafka::Offset::Offset(offset),
            )
            .map_err(|error| Error::internal(format!("an offset to commit: {error}")))?;
        }
        let timeout = Duration::from_secs(KAFKA_COMMIT_SECONDS_MAX);
        admin::set_group_offsets(&self.client, group, &list, timeout).map_err(|code| match code {
            rdkafka::types::RDKafkaErrorCode::UnknownMemberId
            | rdkafka::types::RDKafkaErrorCode::NonEmptyGroup => Error::new(
                SqlState::OBJECT_IN_USE,
                format!("consumer group \"{group}\" has members of its own"),
            )
            .hint("give the source a group of its own with properties.group.id"),
            _ => failure::describe(code, "commit the positions in", &self.config, None),
        })
    }

    fn identity(&self) -> Result<Option<String>> {
        let brokers = cluster::brokers(&self.client, &self.config)?;
        let timeout = Duration::from_secs(KAFKA_REQUEST_SECONDS_MAX);
        match admin::topic_id(&self.client, &self.config.topic, &brokers, timeout) {
            Ok(id) => Ok(id),
            // Brokers before 2.8 know no ids.
            Err(rdkafka::types::RDKafkaErrorCode::UnsupportedFeature) => Ok(None),
            Err(code) => Err(failure::describe(
                code,
                "find the id of",
                &self.config,
                None,
            )),
        }
    }
}
