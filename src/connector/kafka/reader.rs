//! Reads partitions from a broker: the loop between librdkafka's queue and the chunks.
//!
//! Rule: whatever is queued is taken at once and reported before the next wait, so a record is
//! never held back for others to come. librdkafka reconnects by itself and goes on where it was;
//! the loop only says, now and then, that no broker can be reached. librdkafka tells of an end
//! once: after any trouble the partitions that stood at theirs are started anew, so that the next
//! fetch that succeeds tells again, and nobody takes an end of before for one of now.
//!
//! Bounds: librdkafka fetches `KAFKA_QUEUE_KBYTES_MAX` ahead (and at most one response more); one
//! batch is at most `CHUNK_ROWS_MAX` messages of that. A reader that is not polled fetches no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;

use crate::base::limits::{CHUNK_ROWS_MAX, KAFKA_WAIT_MS_MAX};
use crate::base::{Clock, Offset, PartitionId};
use crate::connector::kafka::cluster::{self, Bound};
use crate::connector::kafka::config::{KafkaConfig, OnGap};
use crate::connector::kafka::context::Context;
use crate::connector::kafka::failure::{self, Kind};
use crate::connector::kafka::intake::Intake;
use crate::connector::kafka::native::{Batch, Feed, Message};
use crate::connector::kafka::rows::{RowBuilder, RowLayout};
use crate::connector::{Polled, ReadRange, Reader};
use crate::error::{Error, Result, SqlState};

/// Errors of the client that are looked at between two waits; more of them stay queued.
const CLIENT_EVENTS_MAX: usize = 16;

pub(super) struct KafkaReader {
    config: Arc<KafkaConfig>,
    clock: Clock,
    intake: Intake,
    /// Before the feed, so that its messages go back first.
    batch: Batch,
    feed: Feed,
    /// Where partitions ended when that was last told.
    ends: BTreeMap<i32, i64>,
    /// There was trouble since: the ends are to be told anew.
    is_shaken: bool,
    /// The error that ended the reading.
    end: Option<Error>,
}

/// What is to be done about an event of a partition.
enum Event {
    EndOfPartition,
    Gap,
    Ignore,
    /// To be reported; librdkafka goes on trying.
    Trouble(Error),
    End(Error),
}

impl KafkaReader {
    pub(super) fn open(
        config: Arc<KafkaConfig>,
        layout: &RowLayout,
        ranges: Vec<ReadRange>,
        columns: &[usize],
        clock: Clock,
    ) -> Result<Self> {
        let intake = Intake::new(RowBuilder::new(layout, columns)?, ranges)?;
        let consumer: BaseConsumer<Context> = config
            .client()
            .create_with_context(Context::default())
            .map_err(|error| failure::refused(&error))?;
        let broken = |code| failure::describe(code, "read", &config, None);
        let mut feed = Feed::new(consumer, &config.topic).map_err(broken)?;
        for (partition, offset) in intake.unfinished() {
            let offset = native_offset(offset)?;
            feed.start(partition, offset).map_err(broken)?;
        }
        let batch = feed.batch(CHUNK_ROWS_MAX);
        Ok(KafkaReader {
            config,
            clock,
            intake,
            batch,
            feed,
            ends: BTreeMap::new(),
            is_shaken: false,
            end: None,
        })
    }

    /// Decodes what the batch holds.
    fn take_batch(&mut self) -> Result<()> {
        self.intake.begin_batch(self.clock.now_micros());
        for message in self.batch.messages() {
            let Some(code) = message.event() else {
                self.intake.record(&message)?;
                continue;
            };
            match event(code, &message, &self.config) {
                Event::EndOfPartition => {
                    let (partition, at) = (message.partition(), message.offset());
                    self.intake.end_of_partition(partition, at)?;
                    self.ends.insert(partition, at);
                }
                Event::Gap => gap(&mut self.feed, &self.config, &message)?,
                Event::Ignore => {
                    self.is_shaken = true;
                    tracing::debug!(partition = message.partition(), "{}", explanation(&message));
                }
                Event::Trouble(error) => {
                    self.is_shaken = true;
                    if self.feed.consumer().context().take_turn() {
                        self.intake.report(Err(error));
                    }
                }
                Event::End(error) => return Err(error),
            }
        }
        self.intake.end_batch()?;
        self.feed.consumer().context().clear();
        for partition in self.intake.take_finished() {
            self.feed.stop(partition);
        }
        Ok(())
    }

    /// Starts the partitions anew that stand at their ends, so that these are told again.
    fn confirm_ends(&mut self) -> Result<()> {
        for (partition, position) in self.intake.unfinished() {
            let position = native_offset(position)?;
            if self.ends.remove(&partition) == Some(position) {
                self.feed.stop(partition);
                self.feed
                    .start(partition, position)
                    .map_err(|code| failure::describe(code, "read", &self.config, None))?;
            }
        }
        Ok(())
    }

    /// The client's errors that belong to no partition, such as brokers that cannot be reached.
    fn trouble(&mut self) -> Option<Error> {
        let consumer = self.feed.consumer();
        for _ in 0..CLIENT_EVENTS_MAX {
            // Nothing but log lines and errors comes this way: records flow into the feed's queue.
            let Some(Err(error)) = consumer.poll(Duration::ZERO) else {
                continue;
            };
            let Some(code) = error.rdkafka_error_code() else {
                continue;
            };
            let context = consumer.context();
            self.is_shaken |= failure::kind(code) != Kind::Broken;
            let is_worth_it = match failure::kind(code) {
                Kind::Away => code == RDKafkaErrorCode::AllBrokersDown || context.is_down(),
                Kind::Stranger | Kind::Denied => true,
                Kind::Missing | Kind::Broken => false,
            };
            if is_worth_it && !self.intake.is_done() && context.take_turn() {
                let error = failure::describe(code, "read", &self.config, context.reason());
                return Some(error.retryable());
            }
        }
        None
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let begun = Instant::now();
        loop {
            if let Some(polled) = self.intake.next_ready() {
                return polled;
            }
            if let Some(error) = &self.end {
                return Err(error.clone());
            }
            let trouble = self.trouble();
            if std::mem::take(&mut self.is_shaken) && !self.intake.is_done() {
                if let Err(error) = self.confirm_ends() {
                    self.end = Some(error.clone());
                    return Err(error);
                }
                return trouble.map_or(Ok(Polled::Interrupted), Err);
            }
            let left = timeout.saturating_sub(begun.elapsed());
            let wait = left.min(Duration::from_millis(KAFKA_WAIT_MS_MAX));
            let waiting = Instant::now();
            self.feed.fill(&mut self.batch, wait);
            if !self.batch.is_empty() {
                if let Err(error) = self.take_batch() {
                    self.end = Some(error);
                }
                // The memory goes back before the engine takes its time with the chunks.
                self.batch.clear();
            } else if wait == left || waiting.elapsed() < wait {
                // The time is over, or somebody has woken the queue.
                return Ok(Polled::Nothing);
            }
        }
    }

    fn schema(&self) -> SchemaRef {
        self.intake.rows().schema()
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        self.feed.waker()
    }
}

fn event(code: RDKafkaErrorCode, message: &Message<'_>, config: &KafkaConfig) -> Event {
    match code {
        RDKafkaErrorCode::PartitionEOF => return Event::EndOfPartition,
        RDKafkaErrorCode::AutoOffsetReset => return Event::Gap,
        _ => {}
    }
    let error = || failure::describe(code, "read", config, Some(explanation(message)));
    match failure::kind(code) {
        Kind::Away => Event::Ignore,
        Kind::Denied | Kind::Stranger => Event::Trouble(error().retryable()),
        // Going on would leave out what could not be read.
        Kind::Missing | Kind::Broken => Event::End(error()),
    }
}

fn explanation(message: &Message<'_>) -> String {
    String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()
}

/// The broker does not have the offset that is to be read next.
fn gap(feed: &mut Feed, config: &KafkaConfig, message: &Message<'_>) -> Result<()> {
    let partition = message.partition();
    let wanted = message.offset();
    let id = PartitionId(u32::try_from(partition).unwrap_or_default());
    let bound = |bound| -> Result<Offset> {
        let found = cluster::offsets(feed.consumer(), config, &[id], bound)?;
        Ok(found.first().copied().unwrap_or_default())
    };
    let oldest = native_offset(bound(Bound::Start)?.0)?;
    let place = format!("partition {partition} of topic \"{}\"", config.topic);
    if wanted >= oldest {
        let end = bound(Bound::End)?;
        return Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{place} has offsets {oldest} to {end}, but {wanted} is to be read next"),
        )
        .hint("the topic was deleted and made again, or the cluster has lost records"));
    }
    match config.on_gap {
        OnGap::Skip => {
            tracing::warn!(
                "{place}: offsets {wanted} to {} are skipped: deleted",
                oldest - 1
            );
            feed.stop(partition);
            feed.start(partition, oldest)
                .map_err(|code| failure::describe(code, "read", config, None))
        }
        OnGap::Fail => Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "{place}: offsets {wanted} to {} are to be read, but the broker has deleted them; \
                 the oldest is {oldest}",
                oldest - 1
            ),
        )
        .hint("a longer retention.ms avoids this; on_gap = 'skip' goes on without them")),
    }
}

fn native_offset(offset: u64) -> Result<i64> {
    i64::try_from(offset).map_err(|_| Error::internal(format!("Kafka has no offset {offset}")))
}
