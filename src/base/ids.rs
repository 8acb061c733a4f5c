//! Numbers that must not be mixed up: epochs, event times, objects, partitions and offsets.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// The number of a step. Epoch 0 is the empty state before the first step; numbers rise by one
    /// and are never used again, restarts included.
    Epoch(u64)
}

number! {
    /// A point in event time: microseconds since 1970-01-01T00:00 UTC, negative before it.
    EventTime(i64)
}

number! {
    /// A catalog object (source, table, view, sink). Never used again after a drop.
    ObjectId(u64)
}

number! {
    /// A partition of a source, counted from 0 as Kafka does.
    PartitionId(u32)
}

number! {
    /// A position in a partition: the number of the next record to read.
    Offset(u64)
}

impl Epoch {
    pub const ZERO: Epoch = Epoch(0);

    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl EventTime {
    /// Before every row: what a watermark is until the first row has come.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After every row: what the bound of a finished input is.
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// So many microseconds later, or earlier; what is before or after every row stays so. `None`
    /// where nothing is known of how many.
    pub fn moved(self, micros: Option<i64>) -> Option<EventTime> {
        let micros = micros?;
        Some(match self {
            EventTime::MIN | EventTime::MAX => self,
            EventTime(time) => EventTime(time.saturating_add(micros)),
        })
    }
}
