//! Kafka: a topic as a source, and a producer to fill one.
//!
//! ```text
//!   options ─ config ─► connector ─┬─ cluster   partitions, offsets: asked now and then
//!                                  ├─ admin     topic id, a group's offsets
//!                                  └─ reader ── native (queue, batches) ── intake ─► Chunk
//!
//!   intake = progress (where to cut) + rows (decoder, metadata columns) + checksum
//! ```
//!
//! Invariants:
//! - Offsets are ours: no group is joined, nothing is committed that is ever read back, and where
//!   the broker does not have an offset the reader says so instead of choosing another one.
//! - A chunk covers every offset between its ends, records or not; chunks of a partition follow
//!   each other without a gap. Where the last offsets hold no record (control records, compacted
//!   ones) a chunk without rows covers them before [`crate::connector::Polled::AtEnd`] is said.
//! - Which records lie in a range, and its checksum, do not depend on how it was cut.
//! - No call waits without a bound.
//!
//! Read [`config`] first, then `connector`, `reader`, `intake`, `progress`. `unsafe` is in `native`
//! and `admin` only.

pub mod checksum;
pub mod config;

mod admin;
mod cluster;
mod connector;
mod context;
mod failure;
mod intake;
mod metadata;
mod native;
mod producer;
mod progress;
mod property;
mod reader;
mod rows;

pub use config::{Isolation, KafkaConfig, OnGap, Startup};
pub use connector::KafkaConnector;
pub use metadata::{MetadataColumn, MetadataField};
pub use producer::{Codec, NewTopic, Producer, ProducerConfig, Record, create_topic, delete_topic};
pub use rows::{DecoderFactory, RowLayout};

#[cfg(test)]
mod broker_tests;
#[cfg(test)]
mod mock_tests;
#[cfg(test)]
mod test_support;
