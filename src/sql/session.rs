//! Statements about the session: transactions, variables, cursors, prepared statements, SHOW.

use datafusion::sql::sqlparser::ast;

use crate::sql::statement::OptionValue;
use crate::sql::watch::Subscribe;
use crate::sql::{Interval, ObjectName, Position, Statement};

/// `BEGIN` and `START TRANSACTION`.
#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    pub modes: TransactionModes,
}

/// What is not said is `None` and stays as the session has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub isolation: Option<IsolationLevel>,
    pub access: Option<AccessMode>,
    pub deferrable: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    ReadOnly,
    ReadWrite,
}

/// `COMMIT`, `END`, `ROLLBACK`, `ABORT`, with `AND CHAIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEnd {
    pub and_chain: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Savepoint {
    Set(String),
    Release(String),
    RollbackTo(String),
}

impl Savepoint {
    pub fn name(&self) -> &str {
        match self {
            Savepoint::Set(name) | Savepoint::Release(name) | Savepoint::RollbackTo(name) => name,
        }
    }
}

/// `SET name = value`, also in its special spellings: `SET TIME ZONE`, `SET NAMES`, `SET SCHEMA`.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    pub scope: SetScope,
    pub name: String,
    pub position: Position,
    pub value: SetValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetScope {
    Session,
    Local,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SetValue {
    Default,
    /// At least one; most variables take one.
    Values(Vec<OptionValue>),
}

impl SetValue {
    /// The values as one text, as `SHOW` prints it; `None` for DEFAULT.
    pub fn text(&self) -> Option<String> {
        match self {
            SetValue::Default => None,
            SetValue::Values(values) => {
                let values: Vec<&str> = values.iter().map(OptionValue::as_str).collect();
                Some(values.join(", "))
            }
        }
    }
}

/// `SET TRANSACTION …` and `SET SESSION CHARACTERISTICS AS TRANSACTION …`.
#[derive(Clone, Debug, PartialEq)]
pub struct SetTransaction {
    pub scope: TransactionScope,
    pub modes: TransactionModes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionScope {
    Current,
    SessionDefault,
}

/// What `SHOW` and `RESET` name.
#[derive(Clone, Debug, PartialEq)]
pub enum Variable {
    All,
    Named { name: String, position: Position },
}

/// `SHOW SOURCES LIKE 'b%'`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShowObjects {
    pub what: Listing,
    /// A pattern of LIKE over the name.
    pub like: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    Sources,
    Tables,
    MaterializedViews,
    Views,
    Sinks,
    Indexes,
    Jobs,
    Watermarks,
}

/// `DECLARE name CURSOR FOR …`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclareCursor {
    pub name: String,
    pub is_binary: bool,
    /// `None` where neither SCROLL nor NO SCROLL was said.
    pub scroll: Option<bool>,
    pub with_hold: bool,
    pub input: CursorInput,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CursorInput {
    Query(Box<ast::Query>),
    Subscribe(Box<Subscribe>),
}

/// `FETCH 100 FROM c WITH (timeout = '1s')`, and `MOVE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    pub cursor: String,
    pub position: Position,
    pub count: FetchCount,
    /// How long a fetch from a subscription waits for rows; `None`: the server's choice.
    pub timeout: Option<Interval>,
}

/// Cursors go forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCount {
    Rows(u64),
    All,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Close {
    All,
    Cursor { name: String, position: Position },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Prepare {
    pub name: String,
    /// Types of the first parameters; the others are inferred.
    pub types: Vec<ast::DataType>,
    pub statement: Box<Statement>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Execute {
    pub name: String,
    pub position: Position,
    pub parameters: Vec<ast::Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Deallocate {
    All,
    Statement { name: String, position: Position },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temporary,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Explain {
    pub analyze: bool,
    pub verbose: bool,
    pub format: ExplainFormat,
    pub target: ExplainTarget,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExplainFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExplainTarget {
    /// The running plan of a view or sink.
    Object(ObjectName),
    /// A query, a write, or a `CREATE` of a view or sink.
    Statement(Box<Statement>),
}
