//! One client's session: its settings, transaction, prepared statements' plans and cursors.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::scalar::ScalarValue;
use tokio::sync::mpsc;

use crate::engine::{Cancel, Notice, Response};
use crate::error::{Error, Result};
use crate::sql::Parsed;

/// The running server that sessions speak to; cheap to clone.
#[derive(Clone)]
pub struct Engine {}

/// What a client says of itself when it connects.
#[derive(Clone, Debug, Default)]
pub struct SessionParameters {
    pub user: String,
    pub database: String,
    /// Every other start-up parameter, taken as a setting (`application_name`, `options=-c a=b` …).
    pub settings: BTreeMap<String, String>,
}

/// A statement that was planned: what it takes and what it gives.
#[derive(Clone)]
pub struct Prepared {
    pub parsed: Option<Arc<Parsed>>,
    /// The types of `$1`, `$2`, … in order.
    pub parameters: Vec<DataType>,
    /// The result's columns; `None` for statements that return no rows.
    pub schema: Option<SchemaRef>,
}

impl Engine {
    /// Opens a session; notices that belong to a running statement are sent to `notices`.
    pub fn session(
        &self,
        _parameters: SessionParameters,
        _notices: mpsc::Sender<Notice>,
    ) -> Result<Session> {
        Err(Error::internal("not built"))
    }
}

/// One client's state. Statements of a session run one after another.
pub struct Session {}

impl Session {
    /// Splits a script into its statements.
    pub fn parse(&self, _script: &str) -> Result<Vec<Parsed>> {
        Err(Error::internal("not built"))
    }

    /// Plans a statement. `parameter_types`: what the client declared of `$1`…, `None` = unknown.
    pub async fn prepare(
        &self,
        _parsed: Parsed,
        _parameter_types: &[Option<DataType>],
    ) -> Result<Prepared> {
        Err(Error::internal("not built"))
    }

    /// Runs a prepared statement with its parameters.
    pub async fn execute(
        &mut self,
        _prepared: &Prepared,
        _parameters: Vec<ScalarValue>,
        _cancel: Cancel,
    ) -> Result<Response> {
        Err(Error::internal("not built"))
    }

    /// The transaction state for ReadyForQuery.
    pub fn transaction_status(&self) -> TransactionStatus {
        TransactionStatus::Idle
    }

    /// Tells that a statement failed outside `execute` (while rows were sent): an explicit
    /// transaction is failed by it.
    pub fn fail_transaction(&mut self) {}

    /// Settings that the protocol reports (`ParameterStatus`) and that changed since the last call.
    pub fn changed_settings(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// A setting's value (`statement_timeout`, `idle_session_timeout` …) as SHOW prints it.
    pub fn setting(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Whether a session is inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}
