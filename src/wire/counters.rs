//! What the protocol server counts, for metrics and the status page.

use crate::base::metrics::Counter;

/// Numbers since the server started. Open connections are opened − closed.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were let in, logged in or not.
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    /// Connections beyond the limit.
    pub connections_refused: Counter,
    pub cancel_requests: Counter,
    /// Statements run, in either protocol.
    pub statements: Counter,
    /// Statements and messages answered with an error.
    pub errors: Counter,
    /// Rows sent as results and by COPY.
    pub rows: Counter,
}
