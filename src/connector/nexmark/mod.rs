//! `connector = 'nexmark'`: the auction site of the Nexmark benchmark, made up from a seed.
//!
//! A port of the generator that Apache Beam and Flink's Nexmark share: of 50 events the first is a
//! new person, three are new auctions and 46 are bids; half of the bids go to the newest hot
//! auction, three quarters come from a hot bidder, three quarters of the auctions are a hot
//! seller's; prices are log-uniform from 1.00 to 1,000,000.00. What differs from upstream:
//! - Event n depends on the seed and n only, not on the events before it.
//! - A bid's `extra` is sized so that a bid in JSON takes about 200 bytes.
//! - Time starts at `start_time` and moves by `event_rate`, whatever the wall clock says.
//!
//! | option | default | |
//! | --- | --- | --- |
//! | `type` | `bid` | `bid`, `auction` or `person`: which events are rows |
//! | `events` | endless | number of events in all, of every type |
//! | `rate` | none: at once | events a second that become readable, of every type |
//! | `event_rate` | `rate`, else 10000 | events in a second of event time |
//! | `starts_at` | the first reader | wall clock before which no event is readable |
//! | `start_time` | 2024-01-01T00:00:00Z | event time of event 0 |
//! | `disorder_ms` | 0 | an event's time is up to so much earlier than its place says |
//! | `seed` | 0 | |
//! | `partitions` | 1 | event n is in partition n modulo this |
//! | `all_columns` | false | make every column, wanted or not: what an input costs in benches |
//!
//! Columns are matched by name without regard to case and underscores: see [`field`]. Three sources
//! of the three types with equal options are the three tables of one auction site.
//!
//! Reading order: [`event`] (what an event is), [`field`] (columns), [`json`].

mod event;
mod field;
mod json;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};

use crate::base::limits::{GENERATOR_EVENTS_MAX, GENERATOR_PARTITIONS_MAX, GENERATOR_RATE_MAX};
use crate::base::{Clock, Offset, PartitionId};
use crate::connector::generator::options::Options;
use crate::connector::generator::pace::Pace;
use crate::connector::generator::reader::Generated;
use crate::connector::generator::timeline::Timeline;
use crate::connector::nexmark::event::{CYCLE, Events};
use crate::connector::nexmark::field::{ColumnSource, Rows};
use crate::connector::{Bounds, ReadRange, Reader, SourceConnector};
use crate::error::{Error, Result};

/// The types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NexmarkType {
    Person,
    Auction,
    Bid,
}

impl NexmarkType {
    /// The places that the type's events have in every cycle of 50.
    pub(super) fn places(self) -> Range<u64> {
        match self {
            NexmarkType::Person => 0..1,
            NexmarkType::Auction => 1..4,
            NexmarkType::Bid => 4..CYCLE,
        }
    }

    /// The type's name in messages, in the plural.
    fn plural(self) -> &'static str {
        match self {
            NexmarkType::Person => "persons",
            NexmarkType::Auction => "auctions",
            NexmarkType::Bid => "bids",
        }
    }

    fn parse(value: &str) -> Option<NexmarkType> {
        match value.trim().to_ascii_lowercase().as_str() {
            "person" => Some(NexmarkType::Person),
            "auction" => Some(NexmarkType::Auction),
            "bid" => Some(NexmarkType::Bid),
            _ => None,
        }
    }
}

/// The events of a Nexmark run, for those who want them without a source: benchmarks that fill a
/// topic.
#[derive(Clone, Debug)]
pub struct Nexmark {
    events: Events,
}

/// What decides the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NexmarkOptions {
    pub seed: u64,
    /// Event time of event 0, microseconds since 1970; milliseconds count.
    pub start_micros: i64,
    /// Events in a second of event time; at least 1.
    pub event_rate: u64,
    /// How much earlier than in order an event may be.
    pub disorder_ms: u64,
}

impl Default for NexmarkOptions {
    fn default() -> Self {
        /// 2024-01-01T00:00:00Z.
        const START_MICROS: i64 = 1_704_067_200_000_000;
        NexmarkOptions {
            seed: 0,
            start_micros: START_MICROS,
            event_rate: 10_000,
            disorder_ms: 0,
        }
    }
}

impl Nexmark {
    pub fn new(options: NexmarkOptions) -> Self {
        Nexmark {
            events: Events::new(options),
        }
    }

    /// The type of event `number`.
    pub fn type_of(number: u64) -> NexmarkType {
        match number % CYCLE {
            0 => NexmarkType::Person,
            1..=3 => NexmarkType::Auction,
            _ => NexmarkType::Bid,
        }
    }

    /// The event number of the bid with this index, counted from 0.
    pub fn bid_number(index: u64) -> u64 {
        let places = NexmarkType::Bid.places();
        let bids = places.end - places.start;
        index / bids * CYCLE + places.start + index % bids
    }

    /// Event time of event `number` in microseconds since 1970.
    pub fn time_micros(&self, number: u64) -> i64 {
        self.events.time_millis(number) * 1_000
    }

    /// Appends event `number`, which must be a bid's, as a JSON object of about 200 bytes: the
    /// fields `auction`, `bidder`, `price`, `channel`, `url`, `ts` and `extra`.
    pub fn write_bid_json(&self, number: u64, out: &mut Vec<u8>) {
        json::write_bid(&self.events, number, out);
    }

    /// Appends event `number` of any type as a JSON object, its time in the field `ts`.
    pub fn write_json(&self, number: u64, out: &mut Vec<u8>) {
        match Nexmark::type_of(number) {
            NexmarkType::Person => json::write_person(&self.events, number, out),
            NexmarkType::Auction => json::write_auction(&self.events, number, out),
            NexmarkType::Bid => json::write_bid(&self.events, number, out),
        }
    }
}

/// A source of one type of events.
pub struct NexmarkConnector {
    events: Events,
    generated: Generated,
    columns: Vec<ColumnSource>,
    /// Whether a reader makes also the columns that nobody asked it for.
    makes_all: bool,
}

impl NexmarkConnector {
    /// A source with these columns; of the options only the connector's own are expected.
    ///
    /// # Errors
    /// 22023 for an option that does not exist or has a bad value, 42P16 for a column that the
    /// events do not have or cannot be of that type; each names what there is.
    pub fn new(fields: &[Field], options: &[(String, String)]) -> Result<Self> {
        NexmarkConnector::with_clock(fields, options, Clock::system())
    }

    /// As [`NexmarkConnector::new`], paced by the given clock.
    ///
    /// # Errors
    /// As [`NexmarkConnector::new`].
    pub fn with_clock(
        fields: &[Field],
        options: &[(String, String)],
        clock: Clock,
    ) -> Result<Self> {
        let mut options = Options::new("nexmark", options);
        let kind = match options.text("type") {
            None => NexmarkType::Bid,
            Some(value) => NexmarkType::parse(&value)
                .ok_or_else(|| options.bad("type", &value, "'bid', 'auction' or 'person'"))?,
        };
        let end = options.count("events", GENERATOR_EVENTS_MAX)?;
        let rate = options.count("rate", GENERATOR_RATE_MAX)?;
        let event_rate = options.count("event_rate", GENERATOR_RATE_MAX)?.or(rate);
        let starts_at = options.time("starts_at")?;
        let start_micros = options.time("start_time")?;
        let disorder_ms = options.parsed("disorder_ms", "a number of milliseconds")?;
        let seed = options.parsed("seed", "a whole number")?;
        let partitions = options
            .count("partitions", GENERATOR_PARTITIONS_MAX)?
            .unwrap_or(1);
        let makes_all = options
            .parsed("all_columns", "true or false")?
            .unwrap_or(false);
        options.finish()?;

        let default = NexmarkOptions::default();
        let events = Events::new(NexmarkOptions {
            seed: seed.unwrap_or(default.seed),
            start_micros: start_micros.unwrap_or(default.start_micros),
            event_rate: event_rate.unwrap_or(default.event_rate),
            disorder_ms: disorder_ms.unwrap_or(default.disorder_ms),
        });
        let columns = fields.iter().map(|field| ColumnSource::new(kind, field));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let partitions = u32::try_from(partitions)
            .map_err(|_| Error::internal("the bound on partitions is above 32 bits"))?;
        let timeline = Arc::new(Timeline::new(
            partitions,
            CYCLE,
            kind.places(),
            end.unwrap_or(GENERATOR_EVENTS_MAX),
        ));
        let pace = Arc::new(Pace::new(clock, rate, starts_at, timeline.partitions()));
        let fingerprint = events.fingerprint(kind);
        let generated = Generated {
            timeline,
            pace,
            is_endless: end.is_none(),
            fingerprint,
        };
        Ok(NexmarkConnector {
            events,
            generated,
            columns,
            makes_all,
        })
    }
}

impl SourceConnector for NexmarkConnector {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        self.generated.partitions()
    }

    fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        self.generated.bounds(partitions)
    }

    fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        self.generated.startup(partitions)
    }

    fn reader(&self, ranges: Vec<ReadRange>, columns: &[usize]) -> Result<Box<dyn Reader>> {
        let wanted: Vec<_> = columns
            .iter()
            .map(|&column| self.columns[column].clone())
            .collect();
        let unwanted = (0..self.columns.len())
            .filter(|column| self.makes_all && !columns.contains(column))
            .map(|column| self.columns[column].clone())
            .collect();
        let fields: Vec<_> = wanted
            .iter()
            .map(|column| Arc::clone(&column.field))
            .collect();
        let rows = Rows {
            events: self.events.clone(),
            columns: wanted,
            schema: Arc::new(Schema::new(fields)),
            unwanted,
        };
        self.generated.reader(ranges, Box::new(rows))
    }
}
