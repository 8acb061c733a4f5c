//! What every other module may use: numbers with a meaning, time, limits, memory, threads and
//! counters.
//!
//! Nothing in here knows SQL or Arrow. Read [`ids`] first, then [`clock`]; [`limits`] holds every
//! bound of the server with the sentence that justifies it.

pub mod clock;
pub mod growth;
pub mod ids;
pub mod limits;
pub mod memory;
pub mod metrics;
pub mod task;

pub use clock::Clock;
pub use ids::{Epoch, EventTime, ObjectId, Offset, PartitionId};
pub use memory::Memory;
