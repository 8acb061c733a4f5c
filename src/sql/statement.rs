//! What a statement says: one closed enum, so that the engine cannot forget a kind.
//!
//! Names are folded ([`ObjectName`]), intervals are read, options are kept in the order and
//! spelling of their values; expressions, queries and types are the parser's trees
//! ([`crate::sql::ast`]), with their windows already rewritten to the one shape of
//! [`crate::sql::window`].

use std::fmt;

use datafusion::sql::sqlparser::ast;

use crate::error::Error;
use crate::sql::session::{
    Begin, Close, Deallocate, DeclareCursor, Discard, Execute, Explain, Fetch, Prepare, Savepoint,
    Set, SetTransaction, ShowObjects, TransactionEnd, Variable,
};
use crate::sql::watch::{CopyDirection, CopyRows, Subscribe};
use crate::sql::{Interval, ObjectName, Position};

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    CreateSource(Box<CreateRelation>),
    CreateTable(Box<CreateRelation>),
    CreateMaterializedView(Box<CreateMaterializedView>),
    CreateView(Box<CreateView>),
    CreateSink(Box<CreateSink>),
    CreateIndex(CreateIndex),
    Drop(DropObjects),
    Truncate(Truncate),
    Alter(Alter),
    Comment(Comment),
    ShowCreate(ShowCreate),

    Query(Box<ast::Query>),
    Insert(Box<ast::Insert>),
    Update(Box<ast::Update>),
    Delete(Box<ast::Delete>),
    Copy(Box<CopyRows>),
    Subscribe(Box<Subscribe>),
    Explain(Explain),

    DeclareCursor(DeclareCursor),
    Fetch(Fetch),
    Close(Close),
    Prepare(Prepare),
    Execute(Execute),
    Deallocate(Deallocate),

    Begin(Begin),
    Commit(TransactionEnd),
    Rollback(TransactionEnd),
    Savepoint(Savepoint),
    Set(Set),
    SetTransaction(SetTransaction),
    Reset(Variable),
    ShowVariable(Variable),
    ShowObjects(ShowObjects),
    Discard(Discard),
    /// Waits until every view contains all that was acknowledged before it.
    Flush,
    CancelJob(CancelJob),

    /// A statement of Postgres or of a relative that this server does not have.
    Unsupported(Unsupported),
}

impl Statement {
    /// The command, if it changes rows or definitions; `None` for one that only reads, or is about
    /// the session.
    pub fn change(&self) -> Option<&'static str> {
        Some(match self {
            Statement::CreateSource(_) => "CREATE SOURCE",
            Statement::CreateTable(_) => "CREATE TABLE",
            Statement::CreateMaterializedView(_) => "CREATE MATERIALIZED VIEW",
            Statement::CreateView(_) => "CREATE VIEW",
            Statement::CreateSink(_) => "CREATE SINK",
            Statement::CreateIndex(_) => "CREATE INDEX",
            Statement::Drop(_) => "DROP",
            Statement::Truncate(_) => "TRUNCATE",
            Statement::Alter(_) => "ALTER",
            Statement::Comment(_) => "COMMENT",
            Statement::Insert(_) => "INSERT",
            Statement::Update(_) => "UPDATE",
            Statement::Delete(_) => "DELETE",
            Statement::Copy(copy) if copy.direction == CopyDirection::FromStdin => "COPY FROM",
            Statement::CancelJob(_) => "CANCEL JOB",
            Statement::Copy(_)
            | Statement::Query(_)
            | Statement::ShowCreate(_)
            | Statement::Subscribe(_)
            | Statement::Explain(_)
            | Statement::DeclareCursor(_)
            | Statement::Fetch(_)
            | Statement::Close(_)
            | Statement::Prepare(_)
            // What it executes is asked by itself.
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::Begin(_)
            | Statement::Commit(_)
            | Statement::Rollback(_)
            | Statement::Savepoint(_)
            | Statement::Set(_)
            | Statement::SetTransaction(_)
            | Statement::Reset(_)
            | Statement::ShowVariable(_)
            | Statement::ShowObjects(_)
            | Statement::Discard(_)
            | Statement::Flush
            | Statement::Unsupported(_) => return None,
        })
    }
}

/// `CREATE SOURCE` and `CREATE TABLE`: columns, and how they are filled.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateRelation {
    pub name: ObjectName,
    pub if_not_exists: bool,
    /// Empty where the connector knows its columns.
    pub columns: Vec<Column>,
    /// Column names, from the column constraint or the table constraint.
    pub primary_key: Vec<String>,
    pub watermark: Option<Watermark>,
    pub includes: Vec<Include>,
    /// Empty for a plain table.
    pub options: Vec<SqlOption>,
    pub format: Option<Format>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub position: Position,
    pub data_type: ast::DataType,
    /// Whether `NOT NULL` was written; a primary key implies it without saying so.
    pub is_not_null: bool,
    pub default: Option<ast::Expr>,
    /// `AS expr`: computed from the other columns of the row.
    pub generated: Option<ast::Expr>,
    /// `PATH '$.a.b'`: where in the record it is found.
    pub path: Option<String>,
}

/// `WATERMARK FOR column AS expr`.
#[derive(Clone, Debug, PartialEq)]
pub struct Watermark {
    pub column: String,
    pub position: Position,
    pub expr: ast::Expr,
}

/// `INCLUDE key AS k`: a column with something about the record rather than in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Include {
    pub what: Metadata,
    /// The column's name, if given.
    pub alias: Option<String>,
    pub position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    Key,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

/// `name = value` inside `WITH (…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlOption {
    /// Folded, with its dots: `properties.bootstrap.server`.
    pub name: String,
    pub position: Position,
    pub value: OptionValue,
    pub value_position: Position,
}

/// The value of an option or variable as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// `'text'`
    Text(String),
    /// `5`, `-1.5`
    Number(String),
    /// A bare or double-quoted word, folded: `on`, `true`, `utf8`.
    Word(String),
}

impl OptionValue {
    /// The value without its quotes: most readers of options do not care how it was written.
    pub fn as_str(&self) -> &str {
        match self {
            OptionValue::Text(text) | OptionValue::Number(text) | OptionValue::Word(text) => text,
        }
    }

    /// The truth value in any of Postgres' spellings, or `None`.
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_str().to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "t" | "y" | "1" => Some(true),
            "false" | "off" | "no" | "f" | "n" | "0" => Some(false),
            _ => None,
        }
    }
}

/// `FORMAT envelope ENCODE encoding (options)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    pub envelope: Envelope,
    pub encoding: Encoding,
    pub options: Vec<SqlOption>,
    pub position: Position,
}

/// What a record means for the rows with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    Plain,
    Upsert,
    Debezium,
}

/// How a record's bytes are read; `RAW` is another word for `BYTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Avro,
    Protobuf,
    Csv,
    Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateMaterializedView {
    pub name: ObjectName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub columns: Vec<String>,
    pub options: Vec<SqlOption>,
    pub query: Box<ast::Query>,
    pub emit: Option<Emit>,
}

/// When results appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emit {
    OnUpdate,
    OnWindowClose,
    Every {
        interval: Interval,
        position: Position,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateView {
    pub name: ObjectName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateSink {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub input: RelationOrQuery,
    pub emit: Option<Emit>,
    pub options: Vec<SqlOption>,
    pub format: Option<Format>,
}

/// What a sink or subscription reads.
#[derive(Clone, Debug, PartialEq)]
pub enum RelationOrQuery {
    Relation(ObjectName),
    Query(Box<ast::Query>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateIndex {
    /// `None`: the server makes a name, as Postgres does.
    pub name: Option<String>,
    pub if_not_exists: bool,
    pub relation: ObjectName,
    pub columns: Vec<String>,
}

/// The kinds of objects that can be dropped, altered or described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    Source,
    Table,
    View,
    MaterializedView,
    Sink,
    Index,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DropObjects {
    pub kind: ObjectKind,
    pub if_exists: bool,
    pub names: Vec<ObjectName>,
    pub behavior: DropBehavior,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropBehavior {
    Restrict,
    Cascade,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Truncate {
    pub names: Vec<ObjectName>,
    pub behavior: DropBehavior,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Alter {
    pub kind: ObjectKind,
    pub if_exists: bool,
    pub name: ObjectName,
    pub action: AlterAction,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AlterAction {
    Rename(String),
    RenameColumn {
        from: String,
        to: String,
    },
    Set(Vec<SqlOption>),
    /// Option names.
    Reset(Vec<String>),
    Pause,
    Resume,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Comment {
    pub target: CommentTarget,
    /// `None` removes it.
    pub text: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CommentTarget {
    Object {
        kind: ObjectKind,
        name: ObjectName,
    },
    Column {
        relation: ObjectName,
        column: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ShowCreate {
    pub kind: ObjectKind,
    pub name: ObjectName,
}

/// `CANCEL JOB 1, 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct CancelJob {
    pub jobs: Vec<u64>,
}

/// A statement that is recognised and refused when it is run, not when its script is read: what
/// stands before it in the script is done, as in Postgres.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsupported {
    /// `CREATE ROLE`, `LISTEN`.
    pub what: String,
    pub hint: Option<&'static str>,
    pub position: Position,
    /// The statement as the user wrote it.
    pub text: String,
}

impl Unsupported {
    /// The error that running it gives: 0A000.
    pub fn refusal(&self) -> Error {
        let error = Error::unsupported(format!("{} is not supported", self.what));
        let error = match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        };
        self.position.mark(error)
    }
}

/// A closed set of words of the language, each with the value it stands for.
pub(super) trait Words: Copy + PartialEq + 'static {
    const ALL: &'static [(&'static str, Self)];

    /// The word that is printed: the first one for the value.
    fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, value)| *value == self);
        found.expect("every value has a word").0
    }
}

macro_rules! words {
    ($type:ident: $($word:literal => $value:ident),* $(,)?) => {
        impl Words for $type {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, $type::$value)),*];
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words!(Metadata:
    "KEY" => Key, "PARTITION" => Partition, "OFFSET" => Offset, "TIMESTAMP" => Timestamp,
    "HEADERS" => Headers);
words!(Envelope: "PLAIN" => Plain, "UPSERT" => Upsert, "DEBEZIUM" => Debezium);
words!(Encoding:
    "JSON" => Json, "AVRO" => Avro, "PROTOBUF" => Protobuf, "CSV" => Csv, "BYTES" => Bytes,
    "RAW" => Bytes);
words!(ObjectKind:
    "SOURCE" => Source, "TABLE" => Table, "VIEW" => View, "MATERIALIZED VIEW" => MaterializedView,
    "SINK" => Sink, "INDEX" => Index);
