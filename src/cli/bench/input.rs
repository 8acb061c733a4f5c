//! What a benchmark reads: sources over generators, or over topics that it fills itself.
//!
//! Both have the same rows: event n of a seed. A generator makes every declared column whether the
//! query uses it or not, because a real input has them all; a topic has them as JSON.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};
use datafusion::common::TableReference;

use crate::base::limits::{BENCH_PRODUCER_PAUSE, BENCH_START_SECONDS_MAX, READER_POLL};
use crate::base::{Clock, PartitionId};
use crate::cli::bench::BenchOptions;
use crate::cli::bench::child::thread_cpu_seconds;
use crate::cli::bench::queries::{Feed, Query};
use crate::connector::kafka::{
    NewTopic, Producer, ProducerConfig, Record, create_topic, delete_topic,
};
use crate::connector::nexmark::{Nexmark, NexmarkOptions, NexmarkType};
use crate::connector::{Polled, ReadRange, SourceConnector};
use crate::error::{Error, Result};
use crate::plan::Planner;
use crate::plan::source::plan_source;
use crate::sql::{Statement, parse_single};

/// Keys of [`Feed::Keyed`].
const KEYS: u64 = 1_000_000;

/// Events in a second of event time where all of them are there at once: a window of ten seconds
/// has some thousand auctions.
const EVENT_RATE: u64 = 10_000;

/// Event time of the first event where all of them are there at once: 2024-01-01T00:00:00Z.
pub(super) const START_MICROS: i64 = 1_704_067_200_000_000;

/// Events in Nexmark's cycle.
const CYCLE: u64 = 50;

/// The input of one run.
pub(super) struct Input {
    query: &'static Query,
    kafka: Option<Topics>,
    partitions: u32,
    /// Numbers below this are events.
    events: u64,
}

struct Topics {
    servers: String,
    /// What the names of this run's topics begin with.
    prefix: String,
}

/// When the rows come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// All at this wall clock, microseconds.
    AtOnce { at: i64 },
    /// At their event times, which begin at this wall clock; rows of the main feed a second.
    Paced { from: i64, rate: u64 },
}

/// What reading alone costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling {
    pub rows: u64,
    pub seconds: f64,
    /// CPU seconds of the reading thread; Kafka's client has others.
    pub cpu: f64,
}

impl Input {
    pub fn new(query: &'static Query, options: &BenchOptions) -> Result<Input> {
        let kafka = options.kafka.as_ref().map(|servers| Topics {
            servers: servers.clone(),
            prefix: format!("tidemill-bench-{:08x}-", fastrand::u32(..)),
        });
        Ok(Input {
            query,
            kafka,
            partitions: options.partitions,
            events: events_of(query.feeds[0], options.rows),
        })
    }

    pub fn is_kafka(&self) -> bool {
        self.kafka.is_some()
    }

    /// Rows of each feed.
    pub fn rows(&self) -> Vec<(Feed, u64)> {
        let rows = |&feed: &Feed| (feed, rows_below(feed, self.events));
        self.query.feeds.iter().map(rows).collect()
    }

    /// Makes the topics, empty. `phase` tells those of one run's phases apart.
    pub fn prepare(&self, phase: &str) -> Result<()> {
        let Some(topics) = &self.kafka else {
            return Ok(());
        };
        for feed in self.query.feeds {
            let name = topics.name(phase, *feed);
            let topic = NewTopic {
                name: &name,
                partitions: i32::try_from(self.partitions).unwrap_or(i32::MAX),
                settings: &[],
            };
            create_topic(&topics.servers, topic)?;
        }
        Ok(())
    }

    /// Deletes the topics.
    pub fn clear(&self) -> Result<()> {
        let Some(topics) = &self.kafka else {
            return Ok(());
        };
        for phase in [FLAT, PACED] {
            for feed in self.query.feeds {
                delete_topic(&topics.servers, &topics.name(phase, *feed))?;
            }
        }
        Ok(())
    }

    /// The sources' statements.
    pub fn statements(&self, phase: &str, pace: Pace) -> Vec<String> {
        let statement = |feed: &Feed| {
            let (name, columns) = (feed.name(), feed.columns());
            let from = self.connector(*feed, phase, pace);
            format!("CREATE SOURCE {name} ({columns}) {from}")
        };
        self.query.feeds.iter().map(statement).collect()
    }

    fn connector(&self, feed: Feed, phase: &str, pace: Pace) -> String {
        let partitions = self.partitions;
        if let Some(topics) = &self.kafka {
            let (topic, servers) = (topics.name(phase, feed), &topics.servers);
            let unit = match feed {
                Feed::Keyed => " (timestamp.unit = 'us')",
                Feed::Bids | Feed::Auctions | Feed::Persons => "",
            };
            return format!(
                "WITH (connector = 'kafka', topic = '{topic}', \
                 properties.bootstrap.server = '{servers}') FORMAT PLAIN ENCODE JSON{unit}"
            );
        }
        let when = match pace {
            Pace::AtOnce { at } => format!(
                "event_rate = '{EVENT_RATE}', start_time = '{}', starts_at = '{}'",
                time(START_MICROS),
                time(at)
            ),
            Pace::Paced { from, rate } => format!(
                "rate = '{}', start_time = '{from}', starts_at = '{from}'",
                event_rate(self.query.feeds[0], rate),
                from = time(from)
            ),
        };
        let bounded = matches!(pace, Pace::AtOnce { .. });
        let kind = match feed {
            Feed::Keyed => {
                let rows = match bounded {
                    true => format!("rows = '{}', ", self.events),
                    false => String::new(),
                };
                return format!(
                    "WITH (connector = 'datagen', {rows}{when}, partitions = '{partitions}', \
                     fields.key.min = '0', fields.key.max = '{}', \
                     fields.value.min = '0', fields.value.max = '100000')",
                    KEYS - 1
                );
            }
            Feed::Bids => "bid",
            Feed::Auctions => "auction",
            Feed::Persons => "person",
        };
        let events = match bounded {
            true => format!("events = '{}', ", self.events),
            false => String::new(),
        };
        format!(
            "WITH (connector = 'nexmark', type = '{kind}', all_columns = 'true', \
             {events}{when}, partitions = '{partitions}')"
        )
    }

    /// Reads the whole input once, decodes what the query uses and drops it.
    pub fn ceiling(&self) -> Result<Ceiling> {
        let pace = Pace::AtOnce { at: 0 };
        let mut ceiling = Ceiling {
            rows: 0,
            seconds: 0.0,
            cpu: 0.0,
        };
        for (statement, columns) in self.statements(FLAT, pace).iter().zip(self.query.columns) {
            let (connector, columns) = open(statement, columns)?;
            let (begun, cpu) = (Instant::now(), thread_cpu_seconds()?);
            ceiling.rows += read(&*connector, &columns)?;
            ceiling.seconds += begun.elapsed().as_secs_f64();
            ceiling.cpu += thread_cpu_seconds()? - cpu;
        }
        Ok(ceiling)
    }

    /// Fills the topics with the whole input. Nothing to do for generators.
    pub fn fill(&self) -> Result<()> {
        let Some(topics) = &self.kafka else {
            return Ok(());
        };
        let writer = Writer::new(topics, FLAT, START_MICROS, EVENT_RATE)?;
        for number in 0..self.events {
            for &feed in self.query.feeds {
                writer.write(feed, number, self.partitions)?;
            }
        }
        writer.flush()
    }

    /// Writes rows as they happen until told to stop. Nothing to do for generators.
    pub fn produce(&self, from: i64, rate: u64, stop: &Receiver<()>) -> Result<()> {
        let Some(topics) = &self.kafka else {
            return Ok(());
        };
        let rate = event_rate(self.query.feeds[0], rate);
        let writer = Writer::new(topics, PACED, from, rate)?;
        let clock = Clock::system();
        let mut number = 0;
        loop {
            let elapsed = u128::try_from(clock.now_micros() - from).unwrap_or(0);
            let happened = u64::try_from(elapsed * u128::from(rate) / 1_000_000).unwrap_or(0);
            for number in number..happened {
                for &feed in self.query.feeds {
                    writer.write(feed, number, self.partitions)?;
                }
            }
            number = number.max(happened);
            match stop.recv_timeout(BENCH_PRODUCER_PAUSE) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return writer.flush(),
            }
        }
    }
}

pub(super) fn time(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros).expect("the bench runs in this era");
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The phase in which everything is there at once.
pub(super) const FLAT: &str = "flat";
/// The phase in which rows come as they happen.
pub(super) const PACED: &str = "paced";

impl Topics {
    fn name(&self, phase: &str, feed: Feed) -> String {
        format!("{}{phase}-{}", self.prefix, feed.name())
    }
}

/// Writes events to a phase's topics.
struct Writer<'a> {
    topics: &'a Topics,
    phase: &'a str,
    producer: Producer,
    nexmark: Nexmark,
    start_micros: i64,
    event_rate: u64,
    names: [(Feed, String); 4],
    buffer: std::cell::RefCell<Vec<u8>>,
}

impl<'a> Writer<'a> {
    fn new(topics: &'a Topics, phase: &'a str, start_micros: i64, event_rate: u64) -> Result<Self> {
        let config = ProducerConfig {
            linger_ms: 1,
            ..ProducerConfig::new(topics.servers.clone())
        };
        let name = |feed| (feed, topics.name(phase, feed));
        Ok(Writer {
            topics,
            phase,
            producer: Producer::new(&config)?,
            nexmark: Nexmark::new(NexmarkOptions {
                start_micros,
                event_rate,
                ..NexmarkOptions::default()
            }),
            start_micros,
            event_rate,
            names: [Feed::Bids, Feed::Auctions, Feed::Persons, Feed::Keyed].map(name),
            buffer: std::cell::RefCell::default(),
        })
    }

    /// Writes the event if it is one of the feed.
    fn write(&self, feed: Feed, number: u64, partitions: u32) -> Result<()> {
        let is_its = match feed {
            Feed::Bids => Nexmark::type_of(number) == NexmarkType::Bid,
            Feed::Auctions => Nexmark::type_of(number) == NexmarkType::Auction,
            Feed::Persons => Nexmark::type_of(number) == NexmarkType::Person,
            Feed::Keyed => true,
        };
        if !is_its {
            return Ok(());
        }
        let mut buffer = self.buffer.borrow_mut();
        buffer.clear();
        match feed {
            Feed::Keyed => self.write_keyed(number, &mut buffer),
            Feed::Bids | Feed::Auctions | Feed::Persons => {
                self.nexmark.write_json(number, &mut buffer);
            }
        }
        let (_, topic) = self
            .names
            .iter()
            .find(|(named, _)| *named == feed)
            .expect("every feed has a topic's name");
        let record = Record {
            key: None,
            payload: Some(&buffer),
            partition: i32::try_from(number % u64::from(partitions)).ok(),
            timestamp_millis: None,
            headers: &[],
        };
        self.producer.send(topic, record)
    }

    fn write_keyed(&self, number: u64, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let mut random = fastrand::Rng::with_seed(number);
        let (key, value) = (random.u64(0..KEYS), random.u32(0..=100_000));
        let elapsed = u128::from(number) * 1_000_000 / u128::from(self.event_rate);
        let ts = self.start_micros + i64::try_from(elapsed).unwrap_or(i64::MAX);
        write!(out, "{{\"key\":{key},\"value\":{value},\"ts\":{ts}}}")
            .expect("a vector takes everything");
    }

    fn flush(&self) -> Result<()> {
        self.producer
            .flush(Duration::from_secs(BENCH_START_SECONDS_MAX))
            .map_err(|error| error.context(format!("filling {}{}", self.topics.prefix, self.phase)))
    }
}

/// The number of events of which the feed has at least so many rows.
pub(super) fn events_of(feed: Feed, rows: u64) -> u64 {
    let (first, count) = places(feed);
    match feed {
        Feed::Keyed => rows,
        _ => (rows - 1) / count * CYCLE + first + (rows - 1) % count + 1,
    }
}

/// Rows of the feed among the first events.
pub(super) fn rows_below(feed: Feed, events: u64) -> u64 {
    let (first, count) = places(feed);
    match feed {
        Feed::Keyed => events,
        _ => events / CYCLE * count + (events % CYCLE).saturating_sub(first).min(count),
    }
}

/// The places of the feed's events in a cycle: the first and how many.
fn places(feed: Feed) -> (u64, u64) {
    match feed {
        Feed::Persons => (0, 1),
        Feed::Auctions => (1, 3),
        Feed::Bids => (4, 46),
        Feed::Keyed => (0, CYCLE),
    }
}

/// Events a second at which the feed has so many rows a second.
fn event_rate(feed: Feed, rows: u64) -> u64 {
    let (_, count) = places(feed);
    (rows * CYCLE).div_ceil(count)
}

/// The connector of a CREATE SOURCE, and the numbers of these columns.
fn open(statement: &str, columns: &[&str]) -> Result<(Arc<dyn SourceConnector>, Vec<usize>)> {
    let parsed = parse_single(statement)?.map(|parsed| parsed.statement);
    let Some(Statement::CreateSource(create)) = parsed else {
        return Err(Error::internal("the statement of a source is not one"));
    };
    let state = crate::plan::session_state();
    let resolve = |_: &TableReference| Ok(None);
    let planned = plan_source(&Planner::new(&state, &resolve), &create)?;
    let config = planned
        .config
        .ok_or_else(|| Error::internal("a source without a connector"))?;
    let mut places = columns
        .iter()
        .map(|column| planned.schema.index_of(column))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| Error::internal(format!("a column of a benchmark: {error}")))?;
    places.sort_unstable();
    Ok((config.open(Vec::new())?, places))
}

fn read(connector: &dyn SourceConnector, columns: &[usize]) -> Result<u64> {
    let partitions: Vec<PartitionId> = connector.partitions()?;
    let bounds = connector.bounds(&partitions)?;
    let range = |(partition, bounds): (&PartitionId, crate::connector::Bounds)| ReadRange {
        until: Some(bounds.end),
        ..ReadRange::tail(*partition, bounds.start)
    };
    let ranges: Vec<ReadRange> = partitions.iter().zip(bounds).map(range).collect();
    let mut open = ranges.len();
    let mut reader = connector.reader(ranges, columns)?;
    let mut rows = 0;
    while open > 0 {
        match reader.poll(READER_POLL)? {
            Polled::Chunk(chunk) => rows += chunk.rows.num_rows() as u64,
            Polled::Finished(_) => open -= 1,
            Polled::AtEnd(..) | Polled::Interrupted | Polled::Nothing => {}
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_has_the_rows_that_were_asked_for() {
        for feed in [Feed::Bids, Feed::Auctions, Feed::Persons, Feed::Keyed] {
            for rows in [1, 2, 3, 45, 46, 47, 1_000] {
                let events = events_of(feed, rows);
                assert_eq!(rows_below(feed, events), rows, "{feed:?}");
                assert_eq!(rows_below(feed, events - 1), rows - 1, "{feed:?}");
            }
        }
    }
}
