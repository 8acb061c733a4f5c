//! Statements and sessions in front of the step engine.
//!
//! ```text
//!   Session::execute ─► ddl ────► define (parse, plan) ─► step engine ─► disk ─► catalog
//!                    ─► query ──► DataFusion over snapshots of one epoch
//!                    ─► write ──► rows ─► step engine, answered when durable and visible
//!                    ─► subscribe, cursor ─► changes as they are published
//! ```
//!
//! Invariants:
//! - A statement reads all its relations at one epoch.
//! - An object is in the catalog only when its state is durable; what a crash leaves behind is
//!   swept
//!   on the next start.
//! - Sessions share nothing but [`Engine`]; statements of a session run one after another.
//!
//! Reading order: [`Session`] (what runs a statement), `server` (what is shared), `define` (text to
//! object), `ddl` and `build` (definitions), then the rest by kind of statement.

mod build;
mod cursor;
mod ddl;
mod define;
mod entrance;
mod explain;
mod memory;
mod opening;
mod point_cache;
mod point_read;
mod prepare;
mod query;
mod query_pool;
#[cfg(test)]
mod recovery_tests;
mod response;
mod returning;
mod select;
mod server;
mod session;
mod settings;
mod show;
mod subscribe;
mod system;
mod tables;
mod transaction;
mod upsert;
mod values;
mod write;

pub use entrance::Entrance;
pub use response::{
    BatchStream, Cancel, CopyFormat, CopyWriter, Notice, Response, RowsTag, Severity,
};
pub use server::{Engine, EngineOptions};
pub use session::{Prepared, Session, SessionParameters, TransactionStatus};
pub use settings::SERVER_VERSION;
