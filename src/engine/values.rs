//! What INSERT and UPDATE say of a table's columns, completed: missing values, DEFAULT, and
//! generated columns.
//!
//! ```text
//!   INSERT INTO t VALUES (1)                    INSERT INTO t (a) VALUES (1)
//!   INSERT INTO t VALUES (1, DEFAULT), (2, 3)   INSERT INTO t (a, b) VALUES (1, <default of b>), …
//!   INSERT INTO t DEFAULT VALUES                INSERT INTO t (a) VALUES (<default of a>)
//!   UPDATE t SET b = DEFAULT                    UPDATE t SET b = <default of b>
//! ```
//!
//! Which columns there are says the relation; what their defaults and expressions are, the
//! statement that defined it.

use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column as PlanColumn, DFSchema};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};

use crate::catalog::Object;
use crate::error::{Error, Result, SqlState};
use crate::plan::{Planner, from_datafusion};
use crate::sql::ast::{self, SetExpr, Value};
use crate::sql::parse_single;
use crate::sql::statement::{Column, Statement};
use crate::types::SqlType;

/// A relation that is written.
pub(super) struct Target {
    name: String,
    schema: SchemaRef,
    /// As they were declared; a column that the connector brings is not among them.
    declared: Vec<Column>,
}

impl Target {
    pub fn new(object: &Object) -> Result<Target> {
        let parsed = parse_single(&object.definition.text)?;
        let declared = match parsed.map(|parsed| parsed.statement) {
            Some(Statement::CreateTable(create) | Statement::CreateSource(create)) => {
                create.columns.clone()
            }
            _ => Vec::new(),
        };
        Ok(Target {
            name: object.name().to_string(),
            schema: object.relation.schema.clone(),
            declared,
        })
    }

    fn declared(&self, name: &str) -> Option<&Column> {
        self.declared.iter().find(|column| column.name == name)
    }

    fn is_generated(&self, name: &str) -> bool {
        self.declared(name)
            .is_some_and(|column| column.generated.is_some())
    }

    /// Whether there are columns that other columns decide.
    pub fn generates(&self) -> bool {
        let mut fields = self.schema.fields().iter();
        fields.any(|field| self.is_generated(field.name()))
    }

    /// What stands for DEFAULT: the column's default as it was written, or NULL.
    fn default(&self, name: &str) -> ast::Expr {
        let default = self
            .declared(name)
            .and_then(|column| column.default.clone());
        match default {
            Some(expr) => ast::Expr::Nested(Box::new(expr)),
            None => ast::Expr::Value(Value::Null.into()),
        }
    }

    /// An INSERT that names its columns and has a value for each of them. `width` tells how many
    /// columns a query has.
    ///
    /// # Errors
    /// 42601 when there are more or fewer values than columns, 42703 for a column that does not
    /// exist, 428C9 for a value for a generated column.
    pub fn complete_insert(
        &self,
        insert: &mut ast::Insert,
        width: impl FnOnce(&ast::Query) -> Result<usize>,
    ) -> Result<()> {
        let named = insert.columns.iter().map(|column| self.column(column));
        let mut names: Vec<String> = named.collect::<Result<_>>()?;
        let is_all = names.is_empty();
        if is_all {
            let fields = self.schema.fields().iter();
            names = fields.map(|field| field.name().clone()).collect();
        }
        let Some(source) = insert.source.as_mut() else {
            let name = names
                .into_iter()
                .find(|name| !self.is_generated(name))
                .ok_or_else(|| Error::internal("a relation without a column to write"))?;
            insert.source = Some(Box::new(one_row(vec![self.default(&name)])));
            insert.columns = vec![identifier(&name)];
            return Ok(());
        };
        let count = match source.body.as_ref() {
            SetExpr::Values(values) => {
                let mut lengths = values.rows.iter().map(|row| row.content.len());
                let first = lengths.next().unwrap_or(0);
                if lengths.any(|length| length != first) {
                    return Err(syntax("VALUES lists must all be the same length"));
                }
                first
            }
            _ => width(source)?,
        };
        if count > names.len() {
            return Err(syntax("INSERT has more expressions than target columns"));
        }
        if count < names.len() && !is_all {
            return Err(syntax("INSERT has more target columns than expressions"));
        }
        names.truncate(count);
        match source.body.as_mut() {
            SetExpr::Values(values) => self.complete_values(values, &mut names)?,
            body => {
                if let SetExpr::Select(select) = body {
                    self.type_items(&mut select.projection, &names);
                }
                if let Some(name) = names.iter().find(|name| self.is_generated(name)) {
                    return Err(self.generated_value(name));
                }
            }
        }
        insert.columns = names.iter().map(|name| identifier(name)).collect();
        Ok(())
    }

    /// Puts what DEFAULT stands for; generated columns, of which DEFAULT is all that can be said,
    /// are left out.
    fn complete_values(&self, values: &mut ast::Values, names: &mut Vec<String>) -> Result<()> {
        for place in (0..names.len()).rev() {
            let name = &names[place];
            let is_generated = self.is_generated(name);
            for row in &mut values.rows {
                let cell = &mut row.content[place];
                match (is_default(cell), is_generated) {
                    (false, false) => self.type_constant(cell, name),
                    (true, false) => *cell = self.default(name),
                    (false, true) => return Err(self.generated_value(name)),
                    (true, true) => {}
                }
            }
            if is_generated {
                names.remove(place);
                for row in &mut values.rows {
                    row.content.remove(place);
                }
            }
        }
        if !names.is_empty() {
            return Ok(());
        }
        // Only generated columns were named: the rows need another one to be of.
        let fields = self.schema.fields().iter();
        let mut others = fields.filter(|field| !self.is_generated(field.name()));
        let other = others.next().map(|field| field.name().clone());
        let other = other.ok_or_else(|| Error::internal("a relation without a column to write"))?;
        for row in &mut values.rows {
            row.content.push(self.default(&other));
        }
        names.push(other);
        Ok(())
    }

    fn type_items(&self, items: &mut [ast::SelectItem], names: &[String]) {
        if items.len() != names.len() {
            return;
        }
        for (item, name) in items.iter_mut().zip(names) {
            if let ast::SelectItem::UnnamedExpr(expr)
            | ast::SelectItem::ExprWithAlias { expr, .. } = item
            {
                self.type_constant(expr, name);
            }
        }
    }

    /// A constant in quotes has the column's type where the library, to which both are bytes or
    /// text, would not read it as such.
    fn type_constant(&self, expr: &mut ast::Expr, name: &str) {
        let data_type = match self.schema.field_with_name(name).map(SqlType::of) {
            Ok(Ok(SqlType::Uuid)) => ast::DataType::Uuid,
            Ok(Ok(SqlType::Jsonb)) => ast::DataType::JSONB,
            _ => return,
        };
        let is_text = matches!(&*expr, ast::Expr::Value(value)
            if matches!(value.value, Value::SingleQuotedString(_)));
        if is_text {
            let constant = std::mem::replace(expr, ast::Expr::Value(Value::Null.into()));
            *expr = ast::Expr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(constant),
                data_type,
                array: false,
                format: None,
            };
        }
    }

    /// Puts what DEFAULT stands for in an UPDATE.
    ///
    /// # Errors
    /// 428C9 for a value for a generated column.
    pub fn complete_update(&self, update: &mut ast::Update) -> Result<()> {
        let mut kept = Vec::with_capacity(update.assignments.len());
        for mut assignment in std::mem::take(&mut update.assignments) {
            let name = match &assignment.target {
                ast::AssignmentTarget::ColumnName(name) => folded_last(name),
                ast::AssignmentTarget::Tuple(_) => None,
            };
            if let Some(name) = name {
                match (is_default(&assignment.value), self.is_generated(&name)) {
                    (false, false) => self.type_constant(&mut assignment.value, &name),
                    (true, false) => assignment.value = self.default(&name),
                    (true, true) => continue,
                    (false, true) => {
                        let message = format!("column \"{name}\" can only be updated to DEFAULT");
                        return Err(self.generated(message, &name));
                    }
                }
            }
            kept.push(assignment);
        }
        update.assignments = kept;
        Ok(())
    }

    /// The rows with the values of generated columns, which other columns decide.
    ///
    /// # Errors
    /// As [`Planner::expression`].
    pub fn generate(&self, planner: &Planner<'_>, rows: LogicalPlan) -> Result<LogicalPlan> {
        if !self.generates() {
            return Ok(rows);
        }
        let fields = self.schema.fields();
        let columns: Vec<Expr> = rows
            .schema()
            .columns()
            .into_iter()
            .map(Expr::Column)
            .collect();
        let exprs = fields.iter().zip(&columns).map(|(field, column)| {
            let value = self.generated_expr(planner, field, &|name| self.at(name, &columns))?;
            Ok(value.unwrap_or_else(|| column.clone()).alias(field.name()))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        LogicalPlanBuilder::from(rows)
            .project(exprs)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)
    }

    /// Of the new values of an UPDATE, one per column, those of generated columns anew.
    ///
    /// # Errors
    /// As [`Planner::expression`].
    pub fn regenerate(&self, planner: &Planner<'_>, values: &[Expr]) -> Result<Vec<Expr>> {
        let fields = self.schema.fields().iter();
        fields
            .zip(values)
            .map(|(field, value)| {
                let value_of = |name: &str| self.at(name, values).map(Expr::unalias);
                let generated = self.generated_expr(planner, field, &value_of)?;
                Ok(generated.unwrap_or_else(|| value.clone()))
            })
            .collect()
    }

    fn at(&self, name: &str, exprs: &[Expr]) -> Option<Expr> {
        let place = self.schema.index_of(name).ok()?;
        exprs.get(place).cloned()
    }

    /// The expression of a generated column over the values of the others.
    fn generated_expr(
        &self,
        planner: &Planner<'_>,
        field: &Field,
        value_of: &dyn Fn(&str) -> Option<Expr>,
    ) -> Result<Option<Expr>> {
        let column = self.declared(field.name());
        let Some(expr) = column.and_then(|column| column.generated.as_ref()) else {
            return Ok(None);
        };
        let schema = DFSchema::try_from(self.schema.clone()).map_err(from_datafusion)?;
        let planned = planner
            .expression(expr, &schema)?
            .cast_to(field.data_type(), &schema)
            .map_err(from_datafusion)?;
        let planned = planned.transform(|expr| match &expr {
            Expr::Column(PlanColumn { name, .. }) => Ok(match value_of(name) {
                Some(value) => Transformed::yes(value),
                None => Transformed::no(expr),
            }),
            _ => Ok(Transformed::no(expr)),
        });
        Ok(Some(planned.map_err(from_datafusion)?.data))
    }

    fn column(&self, name: &ast::ObjectName) -> Result<String> {
        let folded = folded_last(name).filter(|_| name.0.len() == 1);
        let found = folded.filter(|name| self.schema.index_of(name).is_ok());
        found.ok_or_else(|| {
            let message = format!(
                "column \"{}\" of relation \"{}\" does not exist",
                folded_last(name).unwrap_or_else(|| name.to_string()),
                self.name
            );
            let error = Error::new(SqlState::UNDEFINED_COLUMN, message);
            let last = name.0.last().and_then(|part| part.as_ident());
            match last.map(|ident| ident.span.start) {
                Some(start) if start.line > 0 => error.place(start.line, start.column),
                _ => error,
            }
        })
    }

    fn generated_value(&self, name: &str) -> Error {
        let message = format!("cannot insert a non-DEFAULT value into column \"{name}\"");
        self.generated(message, name)
    }

    fn generated(&self, message: String, name: &str) -> Error {
        Error::new(SqlState::GENERATED_ALWAYS, message)
            .detail(format!("column \"{name}\" is a generated column"))
    }
}

fn syntax(message: &str) -> Error {
    Error::new(SqlState::SYNTAX_ERROR, message)
}

fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"))
}

fn folded_last(name: &ast::ObjectName) -> Option<String> {
    let last = name.0.last()?.as_ident()?;
    Some(match last.quote_style {
        Some(_) => last.value.clone(),
        None => last.value.to_lowercase(),
    })
}

fn identifier(name: &str) -> ast::ObjectName {
    ast::ObjectName::from(vec![ast::Ident::with_quote('"', name)])
}

fn one_row(content: Vec<ast::Expr>) -> ast::Query {
    let values = ast::Values {
        explicit_row: false,
        value_keyword: false,
        rows: vec![ast::Parens::with_empty_span(content)],
    };
    ast::Query {
        with: None,
        body: Box::new(SetExpr::Values(values)),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
