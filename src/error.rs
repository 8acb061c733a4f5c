//! The one error of Tidemill: what a user, a log and a client library need to know.
//!
//! Every fallible function of the crate returns [`Result`]. An error carries a SQLSTATE (clients
//! decide by it), a message in lower case without a full stop, and, where they help, a detail, a
//! hint and a position in the statement. It is built by the layer that knows the user's words and
//! handed up unchanged; only the edge that answers a client or ends a task logs it.

use std::fmt;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as Postgres clients understand it.
///
/// The contents are boxed so that a `Result<()>` stays one word wide.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Contents>);

#[derive(Clone, PartialEq, Eq)]
struct Contents {
    state: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<usize>,
    place: Option<(u64, u64)>,
    retryable: bool,
}

impl Error {
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        Error(Box::new(Contents {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            place: None,
            retryable: false,
        }))
    }

    /// A bug of ours that was caught before it could do harm.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(SqlState::INTERNAL_ERROR, message)
    }

    /// A feature that does not exist here; say the nearest way out with [`Error::hint`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
    }

    /// The operating system refused something: `what` names what was tried and on which file.
    pub fn io(what: impl fmt::Display, cause: &std::io::Error) -> Self {
        let state = match cause.kind() {
            std::io::ErrorKind::StorageFull => SqlState::DISK_FULL,
            _ => SqlState::IO_ERROR,
        };
        Error::new(state, format!("{what}: {cause}"))
    }

    /// Adds facts that belong to the error but would make its message long.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Points into the statement's text: characters (not bytes), the first one is 1.
    pub fn position(mut self, position: usize) -> Self {
        self.0.position = Some(position);
        self
    }

    /// Points to a line and column of the statement, both counted from 1. Who has the text makes a
    /// position of it; without one it is not shown.
    pub fn place(mut self, line: u64, column: u64) -> Self {
        self.0.place = Some((line, column));
        self
    }

    /// Forgets the line and column: they are those of another text than the client has sent.
    pub fn without_place(mut self) -> Self {
        self.0.place = None;
        self
    }

    /// Marks an error of the world (broker away, timeout) that the same attempt may not meet again.
    pub fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// Puts the place where it happened before the message: `source "bids": …`.
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }

    pub fn state(&self) -> SqlState {
        self.0.state
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn get_detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    pub fn get_hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub fn get_position(&self) -> Option<usize> {
        self.0.position
    }

    pub fn get_place(&self) -> Option<(u64, u64)> {
        self.0.place
    }

    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.0.message, self.0.state)?;
        if let Some(detail) = &self.0.detail {
            write!(f, "; detail: {detail}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// A five-character SQLSTATE; the constants are Postgres' own (its manual, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SqlState(&'static str);

macro_rules! states {
    ($($name:ident = $code:literal;)*) => {
        impl SqlState { $(pub const $name: SqlState = SqlState($code);)* }
    };
}

states! {
    SUCCESSFUL_COMPLETION = "00000";
    WARNING = "01000";
    CONNECTION_EXCEPTION = "08000";
    CONNECTION_FAILURE = "08006";
    PROTOCOL_VIOLATION = "08P01";
    FEATURE_NOT_SUPPORTED = "0A000";
    CARDINALITY_VIOLATION = "21000";
    DATA_EXCEPTION = "22000";
    STRING_DATA_RIGHT_TRUNCATION = "22001";
    NUMERIC_VALUE_OUT_OF_RANGE = "22003";
    NULL_VALUE_NOT_ALLOWED = "22004";
    INVALID_DATETIME_FORMAT = "22007";
    DATETIME_FIELD_OVERFLOW = "22008";
    DIVISION_BY_ZERO = "22012";
    INVALID_PRECEDING_OR_FOLLOWING_SIZE = "22013";
    CHARACTER_NOT_IN_REPERTOIRE = "22021";
    INVALID_PARAMETER_VALUE = "22023";
    INVALID_TEXT_REPRESENTATION = "22P02";
    INVALID_BINARY_REPRESENTATION = "22P03";
    BAD_COPY_FILE_FORMAT = "22P04";
    NOT_NULL_VIOLATION = "23502";
    UNIQUE_VIOLATION = "23505";
    INVALID_CURSOR_STATE = "24000";
    ACTIVE_SQL_TRANSACTION = "25001";
    READ_ONLY_SQL_TRANSACTION = "25006";
    NO_ACTIVE_SQL_TRANSACTION = "25P01";
    IN_FAILED_SQL_TRANSACTION = "25P02";
    INVALID_STATEMENT_NAME = "26000";
    INVALID_AUTHORIZATION = "28000";
    DEPENDENT_OBJECTS_STILL_EXIST = "2BP01";
    INVALID_CURSOR_NAME = "34000";
    SERIALIZATION_FAILURE = "40001";
    DEADLOCK_DETECTED = "40P01";
    INSUFFICIENT_PRIVILEGE = "42501";
    SYNTAX_ERROR = "42601";
    INVALID_NAME = "42602";
    DUPLICATE_COLUMN = "42701";
    AMBIGUOUS_COLUMN = "42702";
    AMBIGUOUS_FUNCTION = "42725";
    UNDEFINED_COLUMN = "42703";
    UNDEFINED_OBJECT = "42704";
    UNDEFINED_PARAMETER = "42P02";
    DUPLICATE_OBJECT = "42710";
    GROUPING_ERROR = "42803";
    DATATYPE_MISMATCH = "42804";
    WRONG_OBJECT_TYPE = "42809";
    UNDEFINED_FUNCTION = "42883";
    GENERATED_ALWAYS = "428C9";
    UNDEFINED_TABLE = "42P01";
    DUPLICATE_CURSOR = "42P03";
    DUPLICATE_PREPARED_STATEMENT = "42P05";
    DUPLICATE_TABLE = "42P07";
    INVALID_COLUMN_REFERENCE = "42P10";
    INVALID_TABLE_DEFINITION = "42P16";
    INVALID_OBJECT_DEFINITION = "42P17";
    INDETERMINATE_DATATYPE = "42P18";
    WINDOWING_ERROR = "42P20";
    OUT_OF_MEMORY = "53200";
    DISK_FULL = "53100";
    TOO_MANY_CONNECTIONS = "53300";
    CONFIGURATION_LIMIT_EXCEEDED = "53400";
    PROGRAM_LIMIT_EXCEEDED = "54000";
    STATEMENT_TOO_COMPLEX = "54001";
    TOO_MANY_COLUMNS = "54011";
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000";
    OBJECT_IN_USE = "55006";
    CANT_CHANGE_RUNTIME_PARAM = "55P02";
    LOCK_NOT_AVAILABLE = "55P03";
    QUERY_CANCELED = "57014";
    ADMIN_SHUTDOWN = "57P01";
    CANNOT_CONNECT_NOW = "57P03";
    SYSTEM_ERROR = "58000";
    IO_ERROR = "58030";
    SNAPSHOT_TOO_OLD = "72000";
    INTERNAL_ERROR = "XX000";
    DATA_CORRUPTED = "XX001";
}

impl SqlState {
    pub fn code(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
