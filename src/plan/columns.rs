//! The columns of a source or table: names, types, and the expressions over them.
//!
//! Rule: an expression is over one row, gives the same for the same row, and has its column's type.
//! [`Columns::plan`] takes them all: generated columns first, because the watermark may use them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility};
use datafusion::scalar::ScalarValue;

use crate::base::limits::TABLE_COLUMNS_MAX;
use crate::connector::factory::DecodedColumn;
use crate::connector::kafka::{MetadataColumn, MetadataField};
use crate::error::{Error, Result, SqlState};
use crate::plan::context::Planner;
use crate::plan::failure::from_datafusion;
use crate::plan::literal::sql_type;
use crate::plan::path::parse_path;
use crate::plan::source::PlannedSource;
use crate::sql::statement::{Column, CreateRelation, Include, Metadata};
use crate::sql::{Position, as_of, ast};
use crate::types::{SqlType, StructField};

/// One column on its way into the schema.
pub(super) struct ColumnPlan<'a> {
    pub field: Field,
    pub sql_type: SqlType,
    pub position: Position,
    /// `None` where nobody declared it.
    pub column: Option<&'a Column>,
}

impl<'a> ColumnPlan<'a> {
    pub fn declared(column: &'a Column) -> Result<Self> {
        let sql_type = sql_type(&column.data_type).map_err(|error| column.position.mark(error))?;
        Ok(ColumnPlan {
            field: sql_type.to_field(&column.name, !column.is_not_null),
            sql_type,
            position: column.position,
            column: Some(column),
        })
    }

    fn included(include: &Include) -> (Self, MetadataField) {
        let (field, name, sql_type) = match include.what {
            Metadata::Key => (MetadataField::Key, "key", SqlType::Bytea),
            Metadata::Partition => (MetadataField::Partition, "partition", SqlType::Integer),
            Metadata::Offset => (MetadataField::Offset, "offset", SqlType::BigInt),
            Metadata::Timestamp => (MetadataField::Timestamp, "timestamp", SqlType::Timestamptz),
            Metadata::Headers => (MetadataField::Headers, "headers", header_type()),
        };
        let name = include.alias.as_deref().unwrap_or(name);
        let plan = ColumnPlan {
            field: sql_type.to_field(name, true),
            sql_type,
            position: include.position,
            column: None,
        };
        (plan, field)
    }

    fn generated(&self) -> Option<&'a ast::Expr> {
        self.column.and_then(|column| column.generated.as_ref())
    }
}

/// What a record's headers are: an array of pairs.
fn header_type() -> SqlType {
    let member = |name: &str, sql_type| StructField {
        name: name.to_string(),
        sql_type,
    };
    let pair = vec![
        member("key", SqlType::Text),
        member("value", SqlType::Bytea),
    ];
    SqlType::Array(Box::new(SqlType::Struct(pair)))
}

/// All columns of a relation, names checked.
pub(super) struct Columns<'a> {
    columns: Vec<ColumnPlan<'a>>,
    primary_key: Vec<usize>,
    /// The columns of INCLUDE.
    pub metadata: Vec<MetadataColumn>,
    /// The schema as expressions see it.
    scope: DFSchema,
}

impl<'a> Columns<'a> {
    /// Adds the columns of INCLUDE and checks all names.
    pub fn new(statement: &'a CreateRelation, mut columns: Vec<ColumnPlan<'a>>) -> Result<Self> {
        let mut metadata = Vec::new();
        for include in &statement.includes {
            let (plan, field) = ColumnPlan::included(include);
            metadata.push(MetadataColumn {
                field,
                column: columns.len(),
            });
            columns.push(plan);
        }
        if columns.len() > TABLE_COLUMNS_MAX {
            let message = format!("tables can have at most {TABLE_COLUMNS_MAX} columns");
            let error = Error::new(SqlState::TOO_MANY_COLUMNS, message);
            let error = error.hint("put values into arrays or jsonb");
            return Err(statement.name.position().mark(error));
        }
        check_names(&columns)?;
        let primary_key = primary_key(statement, &mut columns)?;
        let fields: Vec<Field> = columns.iter().map(|plan| plan.field.clone()).collect();
        let name = TableReference::bare(statement.name.name());
        let scope = DFSchema::try_from_qualified_schema(name, &Schema::new(fields))
            .map_err(from_datafusion)?;
        Ok(Columns {
            columns,
            primary_key,
            metadata,
            scope,
        })
    }

    /// The columns that come from payloads.
    pub fn decoded(&self) -> Result<Vec<DecodedColumn>> {
        let is_decoded = |index: &usize| {
            let is_included = self
                .metadata
                .iter()
                .any(|included| included.column == *index);
            !is_included && self.columns[*index].generated().is_none()
        };
        let decoded = |index: usize| {
            let plan = &self.columns[index];
            let text = plan.column.and_then(|column| column.path.as_deref());
            let path = text.map(parse_path).transpose();
            let path = path.map_err(|error| plan.position.mark(error))?;
            Ok(DecodedColumn {
                column: index,
                path,
            })
        };
        (0..self.columns.len())
            .filter(is_decoded)
            .map(decoded)
            .collect()
    }

    /// Plans every expression; the result has no config yet.
    pub fn plan(&self, planner: &Planner<'_>, statement: &CreateRelation) -> Result<PlannedSource> {
        let generated = (0..self.columns.len())
            .map(|index| self.generated(planner, index))
            .collect::<Result<Vec<_>>>()?;
        let clocked = |index: &usize| self.columns[*index].column.is_some_and(is_proctime);
        let clocked: Vec<usize> = (0..self.columns.len()).filter(clocked).collect();
        let watermark = self.watermark(planner, statement, &generated)?;
        let defaults = self.columns.iter().map(|plan| default_value(planner, plan));
        let defaults = defaults.collect::<Result<Vec<_>>>()?;
        let physical = |expr: Expr, position: Position| {
            let made = planner.state().create_physical_expr(expr, &self.scope);
            made.map_err(|error| position.mark(from_datafusion(error)))
        };
        let computed = generated.into_iter().zip(&self.columns);
        let computed = computed
            .map(|(expr, plan)| expr.map(|expr| physical(expr, plan.position)).transpose())
            .collect::<Result<Vec<_>>>()?;
        let watermark = watermark
            .map(|(column, expr, position)| Ok((column, physical(expr, position)?)))
            .transpose()?;
        Ok(PlannedSource {
            name: statement.name.name().to_string(),
            schema: Arc::new(self.scope.as_arrow().clone()),
            computed,
            watermark,
            clocked,
            primary_key: self.primary_key.clone(),
            defaults,
            config: None,
        })
    }

    /// The expression of a generated column, cast to the column's type.
    fn generated(&self, planner: &Planner<'_>, index: usize) -> Result<Option<Expr>> {
        let plan = &self.columns[index];
        let Some(expr) = plan.generated() else {
            return Ok(None);
        };
        let name = plan.field.name();
        let of = format!("generated column \"{name}\"");
        let place = |error: Error| plan.position.mark(error);
        if plan.column.is_some_and(is_proctime) {
            return self.clock(plan, &of).map(Some).map_err(place);
        }
        let planned = planner.expression(expr, &self.scope).map_err(place)?;
        check_row_expression(&planned, &of).map_err(place)?;
        let other = self.find(&planned, |used| self.columns[used].generated().is_some())?;
        if let Some(other) = other {
            let other = self.columns[other].field.name();
            let error = Error::new(
                SqlState::INVALID_OBJECT_DEFINITION,
                format!("{of} uses generated column \"{other}\""),
            );
            return Err(place(
                error.hint("repeat the expression of the other column"),
            ));
        }
        self.check_generated_type(plan, &of).map_err(place)?;
        let found = planned
            .get_type(&self.scope)
            .map_err(|e| place(from_datafusion(e)))?;
        let cast = planned.cast_to(plan.field.data_type(), &self.scope);
        cast.map(Some)
            .map_err(|_| place(mismatch(&of, &plan.sql_type, &found)))
    }

    /// What stands for the clock among expressions: it is put in when a row is taken.
    fn clock(&self, plan: &ColumnPlan<'_>, of: &str) -> Result<Expr> {
        self.check_generated_type(plan, of)?;
        let data_type = plan.field.data_type();
        if !matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _)) {
            let message = format!("{of} is of type {}, not a timestamp", plan.sql_type);
            let error = Error::new(SqlState::DATATYPE_MISMATCH, message);
            return Err(error.hint("declare it TIMESTAMPTZ AS PROCTIME()"));
        }
        let none = ScalarValue::try_from(data_type).map_err(from_datafusion)?;
        Ok(Expr::Literal(none, None))
    }

    /// What is checked when a row is written cannot be asked of a column that nobody writes.
    fn check_generated_type(&self, plan: &ColumnPlan<'_>, of: &str) -> Result<()> {
        if !plan.field.is_nullable() {
            return Err(
                Error::unsupported(format!("{of} cannot be NOT NULL or part of a key"))
                    .hint("declare the columns it is computed from NOT NULL"),
            );
        }
        if matches!(plan.sql_type, SqlType::Varchar(Some(_))) {
            return Err(Error::unsupported(format!("{of} cannot have a length"))
                .hint("declare it VARCHAR, and cut the value with left()"));
        }
        Ok(())
    }

    fn watermark(
        &self,
        planner: &Planner<'_>,
        statement: &CreateRelation,
        generated: &[Option<Expr>],
    ) -> Result<Option<(usize, Expr, Position)>> {
        let Some(watermark) = &statement.watermark else {
            return Ok(None);
        };
        let position = watermark.position;
        let place = |error: Error| position.mark(error);
        let column = self.index_of(&watermark.column).map_err(place)?;
        let plan = &self.columns[column];
        if plan.column.is_some_and(is_proctime) {
            let message = format!("processing time \"{}\" has no WATERMARK", watermark.column);
            let error = Error::new(SqlState::INVALID_TABLE_DEFINITION, message)
                .detail("no row comes before its own time")
                .hint("leave the clause out: windows over the column close by the clock");
            return Err(place(error));
        }
        let data_type = plan.field.data_type();
        if !matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _)) {
            let message = format!(
                "WATERMARK column \"{}\" is of type {}, not a timestamp",
                watermark.column, plan.sql_type
            );
            let error = Error::new(SqlState::DATATYPE_MISMATCH, message).hint(
                "declare it TIMESTAMP or TIMESTAMPTZ; a column AS to_timestamp_millis(ms) \
                     makes one of a number",
            );
            return Err(place(error));
        }
        let planned = planner
            .expression(&watermark.expr, &self.scope)
            .map_err(place)?;
        check_row_expression(&planned, "WATERMARK").map_err(place)?;
        let found = planned
            .get_type(&self.scope)
            .map_err(|e| place(from_datafusion(e)))?;
        if !matches!(found, DataType::Timestamp(_, _)) {
            let error = mismatch("WATERMARK", &plan.sql_type, &found);
            return Err(place(
                error.hint("write WATERMARK FOR ts AS ts - INTERVAL '5 seconds'"),
            ));
        }
        let clock = self.find(&planned, |used| {
            self.columns[used].column.is_some_and(is_proctime)
        })?;
        if let Some(clock) = clock {
            let name = self.columns[clock].field.name();
            let message = format!("WATERMARK cannot use processing time \"{name}\"");
            let error = Error::new(SqlState::INVALID_TABLE_DEFINITION, message)
                .hint("tell event time by a column of the record");
            return Err(place(error));
        }
        let inlined = self.inline(planned, generated)?;
        let cast = inlined
            .cast_to(data_type, &self.scope)
            .map_err(|e| place(from_datafusion(e)))?;
        Ok(Some((column, cast, position)))
    }

    /// Puts the expressions of generated columns in the place of their names.
    fn inline(&self, expr: Expr, generated: &[Option<Expr>]) -> Result<Expr> {
        let replaced = expr.transform(|expr| {
            let Expr::Column(column) = &expr else {
                return Ok(Transformed::no(expr));
            };
            let index = self.scope.index_of_column(column)?;
            Ok(match &generated[index] {
                // The expression is over other columns, which stay.
                Some(made) => Transformed::new(made.clone(), true, TreeNodeRecursion::Jump),
                None => Transformed::no(expr),
            })
        });
        Ok(replaced.map_err(from_datafusion)?.data)
    }

    /// The first column in the schema's order that the expression uses and `is_wanted` accepts.
    fn find(&self, expr: &Expr, is_wanted: impl Fn(usize) -> bool) -> Result<Option<usize>> {
        let mut least = None;
        for column in expr.column_refs() {
            let index = self
                .scope
                .index_of_column(column)
                .map_err(from_datafusion)?;
            if is_wanted(index) {
                least = Some(least.map_or(index, |least: usize| least.min(index)));
            }
        }
        Ok(least)
    }

    fn index_of(&self, name: &str) -> Result<usize> {
        position_of(&self.columns, name).ok_or_else(|| no_column(&self.columns, name))
    }
}

/// Whether the column is `AS PROCTIME()`: the clock of the step that takes a row.
pub(super) fn is_proctime(column: &Column) -> bool {
    column.generated.as_ref().is_some_and(as_of::is_proctime)
}

fn position_of(columns: &[ColumnPlan<'_>], name: &str) -> Option<usize> {
    columns.iter().position(|plan| plan.field.name() == name)
}

fn no_column(columns: &[ColumnPlan<'_>], name: &str) -> Error {
    let names: Vec<&str> = columns
        .iter()
        .map(|plan| plan.field.name().as_str())
        .collect();
    Error::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{name}\" does not exist"),
    )
    .hint(format!("there are the columns {}", names.join(", ")))
}

fn check_names(columns: &[ColumnPlan<'_>]) -> Result<()> {
    for (index, plan) in columns.iter().enumerate() {
        let name = plan.field.name();
        if position_of(&columns[..index], name).is_some() {
            let message = format!("column \"{name}\" is specified twice");
            let error = Error::new(SqlState::DUPLICATE_COLUMN, message);
            let error = match plan.column {
                Some(_) => error,
                None => error.hint(format!("name it with AS: INCLUDE {name} AS record_{name}")),
            };
            return Err(plan.position.mark(error));
        }
    }
    Ok(())
}

/// The key's columns, which become NOT NULL.
fn primary_key(statement: &CreateRelation, columns: &mut [ColumnPlan<'_>]) -> Result<Vec<usize>> {
    let mut key = Vec::with_capacity(statement.primary_key.len());
    for name in &statement.primary_key {
        let at_name = |error: Error| statement.name.position().mark(error);
        let index = position_of(columns, name).ok_or_else(|| at_name(no_column(columns, name)))?;
        if key.contains(&index) {
            let message = format!("column \"{name}\" appears twice in the primary key");
            return Err(at_name(Error::new(SqlState::DUPLICATE_COLUMN, message)));
        }
        key.push(index);
        let plan = &mut columns[index];
        plan.field = plan.field.clone().with_nullable(false);
    }
    Ok(key)
}

/// The value of DEFAULT, cast to the column's type.
fn default_value(planner: &Planner<'_>, plan: &ColumnPlan<'_>) -> Result<Option<Expr>> {
    let Some(expr) = plan.column.and_then(|column| column.default.as_ref()) else {
        return Ok(None);
    };
    let of = format!("the DEFAULT of column \"{}\"", plan.field.name());
    let place = |error: Error| plan.position.mark(error);
    let nothing = DFSchema::empty();
    let planned = planner.expression(expr, &nothing).map_err(|error| {
        place(match error.state() {
            SqlState::UNDEFINED_COLUMN => Error::unsupported(format!("{of} uses a column"))
                .hint("a column AS an expression is computed from others"),
            _ => error,
        })
    })?;
    check_scalar(&planned, &of).map_err(place)?;
    let found = planned
        .get_type(&nothing)
        .map_err(|error| place(from_datafusion(error)))?;
    let cast = planned.cast_to(plan.field.data_type(), &nothing);
    cast.map(Some)
        .map_err(|_| place(mismatch(&of, &plan.sql_type, &found)))
}

fn mismatch(of: &str, declared: &SqlType, found: &DataType) -> Error {
    let found = match SqlType::of(&Field::new("", found.clone(), true)) {
        Ok(known) => known.to_string(),
        Err(_) => "an unknown type".to_string(),
    };
    let message = format!("{of} is of type {declared}, but its expression is of type {found}");
    Error::new(SqlState::DATATYPE_MISMATCH, message)
}

/// Refuses what has no value for a single row.
fn check_scalar(expr: &Expr, of: &str) -> Result<()> {
    let refusal = |what: &str, state: SqlState| {
        Some(
            Error::new(state, format!("{of} cannot contain {what}")).hint(
                "only constants, columns of the same row, operators and scalar functions can",
            ),
        )
    };
    let mut found = None;
    expr.apply(|expr| {
        found = match expr {
            Expr::AggregateFunction(_) | Expr::GroupingSet(_) => {
                refusal("an aggregate function", SqlState::GROUPING_ERROR)
            }
            Expr::WindowFunction(_) => refusal("a window function", SqlState::GROUPING_ERROR),
            Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..) => {
                refusal("a subquery", SqlState::FEATURE_NOT_SUPPORTED)
            }
            Expr::Unnest(_) => refusal(
                "a function that returns rows",
                SqlState::FEATURE_NOT_SUPPORTED,
            ),
            Expr::Placeholder(_) | Expr::ScalarVariable(..) => {
                refusal("a parameter", SqlState::FEATURE_NOT_SUPPORTED)
            }
            _ => None,
        };
        Ok(match found {
            Some(_) => TreeNodeRecursion::Stop,
            None => TreeNodeRecursion::Continue,
        })
    })
    .map_err(from_datafusion)?;
    found.map_or(Ok(()), Err)
}

/// As [`check_scalar`], and refuses what is not the same for the same row: a replay must compute
/// what the first run did.
fn check_row_expression(expr: &Expr, of: &str) -> Result<()> {
    check_scalar(expr, of)?;
    let mut found = None;
    expr.apply(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(call)
                if call.func.signature().volatility != Volatility::Immutable =>
            {
                found = Some(call.func.name().to_string());
                TreeNodeRecursion::Stop
            }
            _ => TreeNodeRecursion::Continue,
        })
    })
    .map_err(from_datafusion)?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::new(
            SqlState::INVALID_OBJECT_DEFINITION,
            format!("{of} cannot call {name}()"),
        )
        .detail(
            "its value changes from call to call, and a row must be the same when it is read again",
        )
        .hint("take the time from a column of the record")),
    }
}
