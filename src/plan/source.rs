//! `CREATE SOURCE` and `CREATE TABLE`: columns, event time and key, and what fills the columns.
//!
//! ```text
//!   (id BIGINT, ms BIGINT, ts TIMESTAMPTZ AS to_timestamp_millis(ms),
//!    WATERMARK FOR ts AS ts - INTERVAL '4 seconds') INCLUDE offset …
//!
//!   schema      id  ms  ts                              offset
//!   computed    –   –   cast(to_timestamp_millis(ms))   –
//!   watermark           cast(to_timestamp_millis(ms)) - 4 s
//! ```
//!
//! Rule: an expression of the result is over decoded and included columns only. A generated column
//! may not use another one, and where the watermark uses one its expression is put in its place; so
//! all of them can be evaluated over what a reader hands over, in any order.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;

use crate::catalog::{Changelog, Relation};
use crate::connector::factory::{ConnectorKind, EncodingRequest, SourceConfig, SourceRequest};
use crate::connector::options::Options;
use crate::error::{Error, Result, SqlState};
use crate::format::Encode;
use crate::plan::columns::{ColumnPlan, Columns, is_proctime};
use crate::plan::context::Planner;
use crate::sql::statement::{Column, CreateRelation, Encoding, Envelope, Format, SqlOption};
use crate::types::SqlType;

/// A source or table, ready to be made.
#[derive(Debug)]
pub struct PlannedSource {
    pub name: String,
    /// Every column that a user sees, in order; those of INCLUDE at the end.
    pub schema: SchemaRef,
    /// For each column how it is computed from the others; `None` = it is decoded or written.
    pub computed: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// The event time's column, and the watermark's expression over the full schema, of the
    /// column's type (a timestamp in microseconds).
    pub watermark: Option<(usize, Arc<dyn PhysicalExpr>)>,
    /// The columns that are the clock of the step which takes a row, rising.
    pub clocked: Vec<usize>,
    /// Empty where none is declared.
    pub primary_key: Vec<usize>,
    /// For each column what INSERT puts where it names no value, of the column's type and over no
    /// columns; `None` = NULL. Functions in it are called for every row written.
    pub defaults: Vec<Option<Expr>>,
    /// How it is filled; `None` for a table, which only this server writes.
    pub config: Option<SourceConfig>,
}

impl PlannedSource {
    /// The columns that are decoded or written rather than computed, rising: what the records of an
    /// embedded topic or a table's log hold.
    pub fn stored(&self) -> Vec<usize> {
        let columns = self.computed.iter().enumerate();
        columns
            .filter(|(_, computed)| computed.is_none())
            .map(|(index, _)| index)
            .collect()
    }

    /// What plans over it may rely on.
    pub fn relation(&self) -> Relation {
        let is_keyed = !self.primary_key.is_empty();
        Relation {
            schema: Arc::clone(&self.schema),
            key: is_keyed.then(|| self.primary_key.clone()),
            changelog: match self.config {
                Some(_) => Changelog::AppendOnly,
                None => Changelog::Retracting,
            },
            bounded: self.clocked.clone(),
            clocked: self.clocked.clone(),
            event_time: self.watermark.as_ref().map(|(column, _)| *column),
            defaults: self.defaults.clone(),
        }
    }
}

/// Plans `CREATE SOURCE`.
///
/// # Errors
/// The user's, with SQLSTATE, place and a hint: see [`SourceRequest::configure`] for options, and
/// the functions below for columns and clauses.
pub fn plan_source(planner: &Planner<'_>, statement: &CreateRelation) -> Result<PlannedSource> {
    let mut options = options(&statement.options);
    let at_name = |error: Error| statement.name.position().mark(error);
    let kind = ConnectorKind::take(&mut options).map_err(at_name)?;
    let encoding = encoding(statement, kind)?;
    refuse_key(statement)?;
    refuse_includes(statement, kind)?;
    let columns = declared_columns(statement, kind, &options)?;
    for column in &columns {
        check_source_column(column, kind, encoding.as_ref())?;
    }
    let relation = Columns::new(statement, columns)?;
    let planned = relation.plan(planner, statement)?;
    let request = SourceRequest {
        name: statement.name.name().to_string(),
        kind,
        options,
        schema: Arc::clone(&planned.schema),
        decoded: relation.decoded()?,
        metadata: relation.metadata,
        encoding,
    };
    let place = |error: Error| at_name(locate_column(error, &statement.columns));
    let config = request.configure().map_err(place)?;
    if planned.watermark.is_none()
        && let Some(option) = config.time.without_watermark()
    {
        let error = Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("option \"{option}\" is of a source that tells no time"),
        )
        .hint("declare WATERMARK FOR its event time, or leave the option out");
        let given = statement.options.iter().find(|given| given.name == option);
        return Err(match given {
            Some(given) => given.position.mark(error),
            None => at_name(error),
        });
    }
    Ok(PlannedSource {
        config: Some(config),
        ..planned
    })
}

/// Plans `CREATE TABLE` without a connector.
///
/// # Errors
/// As [`plan_source`]; 0A000 for a table with a connector.
pub fn plan_table(planner: &Planner<'_>, statement: &CreateRelation) -> Result<PlannedSource> {
    let options = options(&statement.options);
    let at_name = |error: Error| statement.name.position().mark(error);
    if options.get("connector").is_some() {
        let error = Error::unsupported("a table with a connector is not supported")
            .hint("CREATE SOURCE reads it; a materialized view over the source keeps its rows");
        return Err(options.at("connector", error));
    }
    options.finish("a table").map_err(at_name)?;
    if let Some(format) = &statement.format {
        let error = Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            "a table that INSERT and COPY write has no FORMAT",
        );
        return Err(format.position.mark(error.hint("leave the clause out")));
    }
    if let Some(include) = statement.includes.first() {
        let error = Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            "a table that INSERT and COPY write has nothing to INCLUDE",
        );
        return Err(include.position.mark(error.hint("leave the clause out")));
    }
    if let Some(column) = statement
        .columns
        .iter()
        .find(|column| column.path.is_some())
    {
        return Err(refuse_path(column));
    }
    if let Some(column) = statement.columns.iter().find(|column| is_proctime(column)) {
        let error = Error::unsupported("a table has no processing time")
            .detail("its rows stay, and are not those of the moment in which they came")
            .hint(format!(
                "write {} TIMESTAMPTZ DEFAULT now(), and WATERMARK FOR {0} for windows",
                column.name
            ));
        return Err(column.position.mark(error));
    }
    let columns = statement.columns.iter().map(ColumnPlan::declared);
    let columns = columns.collect::<Result<Vec<_>>>()?;
    if columns.is_empty() {
        let error = Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            "a table needs at least one column",
        );
        return Err(at_name(error));
    }
    Columns::new(statement, columns)?.plan(planner, statement)
}

fn options(given: &[SqlOption]) -> Options {
    let triple = |option: &SqlOption| {
        (
            option.name.clone(),
            option.value.as_str().to_string(),
            option.position.get(),
        )
    };
    Options::new(given.iter().map(triple))
}

/// What FORMAT and ENCODE say, for a connector that needs them.
fn encoding(statement: &CreateRelation, kind: ConnectorKind) -> Result<Option<EncodingRequest>> {
    let connector = kind.name();
    let Some(format) = &statement.format else {
        if !kind.has_encoding() {
            return Ok(None);
        }
        let message = format!("a source of connector \"{connector}\" needs a FORMAT");
        let error = Error::new(SqlState::SYNTAX_ERROR, message)
            .hint("add FORMAT PLAIN ENCODE JSON at the end");
        return Err(statement.name.position().mark(error));
    };
    if !kind.has_encoding() {
        let message = format!("connector \"{connector}\" takes no FORMAT");
        let hint = match kind {
            ConnectorKind::Topic => "leave the clause out: INSERT and COPY write rows, not bytes",
            _ => "leave the clause out: the connector makes rows, not bytes",
        };
        let error = Error::new(SqlState::INVALID_TABLE_DEFINITION, message).hint(hint);
        return Err(format.position.mark(error));
    }
    check_envelope(format)?;
    check_encoding(format)?;
    let encode =
        Encode::parse(&format.encoding.to_string()).map_err(|error| format.position.mark(error))?;
    Ok(Some(EncodingRequest {
        encode,
        options: options(&format.options),
    }))
}

fn check_envelope(format: &Format) -> Result<()> {
    match format.envelope {
        Envelope::Plain => Ok(()),
        envelope @ (Envelope::Upsert | Envelope::Debezium) => {
            let error = Error::unsupported(format!("FORMAT {envelope} is not supported")).hint(
                "FORMAT PLAIN reads every record as a new row; a view can pick the last per key",
            );
            Err(format.position.mark(error))
        }
    }
}

fn check_encoding(format: &Format) -> Result<()> {
    match format.encoding {
        Encoding::Json | Encoding::Csv | Encoding::Bytes => Ok(()),
        encoding @ (Encoding::Avro | Encoding::Protobuf) => {
            let error = Error::unsupported(format!("ENCODE {encoding} is not supported"))
                .hint("use ENCODE JSON or CSV, or ENCODE BYTES with a column of type bytea");
            Err(format.position.mark(error))
        }
    }
}

fn refuse_key(statement: &CreateRelation) -> Result<()> {
    let Some(first) = statement.primary_key.first() else {
        return Ok(());
    };
    let position = match statement
        .columns
        .iter()
        .find(|column| column.name == *first)
    {
        Some(column) => column.position,
        None => statement.name.position(),
    };
    let error = Error::unsupported("a source cannot have a PRIMARY KEY")
        .detail("its records only add rows, so that nothing keeps a key from coming twice")
        .hint("leave it out and GROUP BY the key in a view, or CREATE TABLE to write rows by key");
    Err(position.mark(error))
}

fn refuse_includes(statement: &CreateRelation, kind: ConnectorKind) -> Result<()> {
    match statement.includes.first() {
        Some(include) if !kind.has_encoding() => {
            let message = format!("connector \"{}\" has nothing to INCLUDE", kind.name());
            let error = Error::unsupported(message).hint("declare a column for it instead");
            Err(include.position.mark(error))
        }
        _ => Ok(()),
    }
}

fn declared_columns<'a>(
    statement: &'a CreateRelation,
    kind: ConnectorKind,
    options: &Options,
) -> Result<Vec<ColumnPlan<'a>>> {
    if !statement.columns.is_empty() {
        return statement.columns.iter().map(ColumnPlan::declared).collect();
    }
    if let Some(known) = kind.default_columns(options) {
        let plan = |(name, sql_type): (&str, SqlType)| ColumnPlan {
            field: sql_type.to_field(name, true),
            sql_type,
            position: statement.name.position(),
            column: None,
        };
        return Ok(known.into_iter().map(plan).collect());
    }
    let error = Error::new(SqlState::INVALID_TABLE_DEFINITION, "a source needs columns")
        .hint("declare them in front of WITH: (id BIGINT, name TEXT)");
    Err(statement.name.position().mark(error))
}

fn check_source_column(
    plan: &ColumnPlan<'_>,
    kind: ConnectorKind,
    encoding: Option<&EncodingRequest>,
) -> Result<()> {
    let Some(column) = plan.column else {
        return Ok(());
    };
    let is_json = encoding.is_some_and(|encoding| encoding.encode == Encode::Json);
    if column.path.is_some() && !is_json {
        return Err(refuse_path(column));
    }
    if column.default.is_some() && kind != ConnectorKind::Topic {
        let message = format!(
            "column \"{}\" of a source cannot have a DEFAULT",
            column.name
        );
        let error = Error::unsupported(message)
            .detail("defaults are for INSERT, and this source is not written by it")
            .hint("a field that a record lacks is NULL; use coalesce in a view");
        return Err(column.position.mark(error));
    }
    Ok(())
}

fn refuse_path(column: &Column) -> Error {
    let message = format!(
        "column \"{}\" has a PATH, which only ENCODE JSON follows",
        column.name
    );
    column
        .position
        .mark(Error::new(SqlState::INVALID_TABLE_DEFINITION, message))
}

/// Points an error at the column that its message names first.
fn locate_column(error: Error, columns: &[Column]) -> Error {
    let named = error
        .message()
        .split_once("column \"")
        .and_then(|(_, rest)| {
            let (name, _) = rest.split_once('"')?;
            columns.iter().find(|column| column.name == name)
        });
    match named {
        Some(column) => column.position.mark(error),
        None => error,
    }
}
