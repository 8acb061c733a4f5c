//! The engine: sessions and statements in front of the step engine.

mod response;
mod session;

pub use response::{
    BatchStream, Cancel, CopyFormat, CopyWriter, Notice, Response, RowsTag, Severity,
};
pub use session::{Engine, Prepared, Session, SessionParameters, TransactionStatus};
