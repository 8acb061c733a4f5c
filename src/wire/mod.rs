//! The Postgres protocol, version 3, in front of the engine.
//!
//! ```text
//!  listener ─► startup ─► connection ─► engine::Session
//!  (server)   (refuses     │  ▲            │
//!              encryption, │  └ cancels ◄──┼── cancel requests, by process id and secret
//!              cancels)    ▼               ▼
//!                   inbound │ outbound ◄─ rows ◄─ batches, notices
//!                   (frame) │           ◄─ copy ─► CopyWriter
//! ```
//!
//! The messages' encodings are those of `pgwire`; the loops are ours, because a streaming server
//! needs what request handlers do not give: rows flushed when no more are ready, memory that does
//! not grow with the result, cancel and deadline between batches, a client that has gone noticed
//! while its SUBSCRIBE is idle, notices while a statement waits.
//!
//! Invariants
//! - Nothing is gathered without a bound: a packet before login, a message after it, input read
//!   ahead, rows encoded ahead, statements and portals, COPY rows.
//! - Everything that is awaited for a client is awaited in `client`, so that every wait ends when
//!   the client, the statement's time or the server does.
//! - Only whole messages are written, and each statement gets one answer, panics included.
//!
//! Reading order: [`Server`] (`server`), `startup`, `client`, `connection`, `extended`, `rows`,
//! `copy`; `frame`, `inbound`, `outbound`, `running` and `cancels` are the parts.

mod answer;
mod cancels;
mod client;
mod connection;
mod copy;
mod counters;
mod extended;
mod frame;
mod inbound;
#[cfg(test)]
mod live;
mod outbound;
mod rows;
mod running;
mod server;
mod startup;

pub use counters::Counters;
pub use server::{Server, ServerOptions};
