//! Where in the text stands what an error speaks of.
//!
//! The planner learns that a name is unknown when the text is far behind it. The name is looked for
//! in the syntax tree, whose names know their line and column; the first of several is shown, as
//! that is the one that Postgres meets first too.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, ObjectName, Spanned, Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::error::{Error, SqlState};
use crate::types::SqlType;
use crate::types::pg::{Format, parse_value};

/// Gives an error about a name its place in the statement, unless it has one.
pub fn at_name<T: Visit + Insertion>(error: Error, tree: &T) -> Error {
    if error.get_position().is_some() || error.get_place().is_some() {
        return error;
    }
    let Some(subject) = Subject::of(&error) else {
        return error;
    };
    let mut search = Search {
        subject,
        found: None,
    };
    if let Some(found) = tree.inserted_column(&search.subject) {
        search.found = Some(found);
    }
    let _: ControlFlow<()> = match search.found {
        Some(_) => ControlFlow::Break(()),
        None => tree.visit(&mut search),
    };
    match search.found {
        Some(location) if location.line > 0 => error.place(location.line, location.column),
        _ => error,
    }
}

/// Trees that may have a list of columns to write.
pub trait Insertion {
    /// Where a column of that name stands in the list.
    fn inserted_column(&self, subject: &Subject) -> Option<Location>;
}

impl Insertion for ast::Statement {
    fn inserted_column(&self, subject: &Subject) -> Option<Location> {
        let (ast::Statement::Insert(insert), Subject::Column(wanted)) = (self, subject) else {
            return None;
        };
        let names = insert.columns.iter().filter_map(last_part);
        let mut named = names.filter(|name| folded(name) == *wanted);
        named.next().map(|name| name.span.start)
    }
}

impl Insertion for ast::Expr {
    fn inserted_column(&self, _: &Subject) -> Option<Location> {
        None
    }
}

/// What an error is about, as the messages of this module's callers name it.
pub enum Subject {
    /// A column's name, without its relation.
    Column(String),
    Relation(String),
    Function(String),
    Operator(String),
    /// A constant in quotes that has no value of its type.
    Constant(String),
    /// A constant that is no JSON.
    Json,
}

impl Subject {
    fn of(error: &Error) -> Option<Subject> {
        let message = error.message();
        let quoted = || {
            let start = message.find('"')? + 1;
            let end = message.rfind('"').filter(|end| *end > start)?;
            let last = message[start..end].rsplit('.').next()?;
            Some(last.trim_matches('"').to_string())
        };
        match error.state() {
            SqlState::UNDEFINED_COLUMN | SqlState::AMBIGUOUS_COLUMN => {
                quoted().map(Subject::Column)
            }
            SqlState::UNDEFINED_TABLE => quoted().map(Subject::Relation),
            SqlState::UNDEFINED_FUNCTION => {
                if let Some(rest) = message.strip_prefix("operator does not exist: ") {
                    let symbol = rest
                        .split(' ')
                        .find(|word| !word.is_empty() && !word.contains(char::is_alphanumeric));
                    return symbol.map(|symbol| Subject::Operator(symbol.to_string()));
                }
                let rest = message.strip_prefix("function ")?;
                let end = rest.find(['(', ' ']).unwrap_or(rest.len());
                Some(Subject::Function(rest[..end].to_string()))
            }
            SqlState::FEATURE_NOT_SUPPORTED => {
                let (name, _) = message.strip_prefix("function ")?.split_once("() cannot")?;
                Some(Subject::Function(name.to_string()))
            }
            SqlState::INVALID_TEXT_REPRESENTATION
                if message == "invalid input syntax for type json" =>
            {
                Some(Subject::Json)
            }
            SqlState::INVALID_TEXT_REPRESENTATION
            | SqlState::INVALID_DATETIME_FORMAT
            | SqlState::DATETIME_FIELD_OVERFLOW
            | SqlState::NUMERIC_VALUE_OUT_OF_RANGE => {
                let start = message.find('"')? + 1;
                let end = message.rfind('"').filter(|end| *end >= start)?;
                Some(Subject::Constant(message[start..end].to_string()))
            }
            _ => None,
        }
    }
}

struct Search {
    subject: Subject,
    found: Option<Location>,
}

impl Search {
    fn stop_at(&mut self, location: Location) -> ControlFlow<()> {
        self.found = Some(location);
        ControlFlow::Break(())
    }
}

impl Visitor for Search {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let Subject::Relation(wanted) = &self.subject else {
            return ControlFlow::Continue(());
        };
        match last_part(relation) {
            Some(name) if folded(name) == *wanted => {
                let first = relation.0.first().and_then(|part| part.as_ident());
                self.stop_at(first.unwrap_or(name).span.start)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let location = match (&self.subject, expr) {
            (Subject::Column(wanted), Expr::Identifier(name)) if folded(name) == *wanted => {
                Some(name.span.start)
            }
            (Subject::Column(wanted), Expr::CompoundIdentifier(parts)) => parts
                .last()
                .filter(|name| folded(name) == *wanted)
                .and(parts.first())
                .map(|first| first.span.start),
            (Subject::Function(wanted), Expr::Function(function)) => last_part(&function.name)
                .filter(|name| plain_name(&folded(name)) == *wanted)
                .map(|name| name.span.start),
            (Subject::Operator(wanted), Expr::BinaryOp { left, op, .. })
                if op.to_string() == *wanted =>
            {
                // The operator itself has no place; it follows its left operand.
                Some(left.span().end)
            }
            (Subject::Constant(wanted), Expr::Value(value)) => quoted_text(&value.value)
                .and_then(|text| (text == wanted).then_some(value.span.start)),
            (Subject::Constant(wanted), Expr::TypedString(typed)) => {
                quoted_text(&typed.value.value)
                    .and_then(|text| (text == wanted).then_some(typed.value.span.start))
            }
            (
                Subject::Json,
                Expr::Cast {
                    expr, data_type, ..
                },
            ) if data_type.to_string().eq_ignore_ascii_case("jsonb") => match expr.as_ref() {
                Expr::Value(value) => quoted_text(&value.value)
                    .and_then(|text| (!is_json(text)).then_some(value.span.start)),
                _ => None,
            },
            _ => None,
        };
        match location {
            Some(location) => self.stop_at(location),
            None => ControlFlow::Continue(()),
        }
    }
}

fn quoted_text(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text) => Some(text),
        _ => None,
    }
}

fn is_json(text: &str) -> bool {
    let field = SqlType::Jsonb.to_field("", true);
    parse_value(&field, Format::Text, text.as_bytes()).is_ok()
}

fn last_part(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(|part| part.as_ident())
}

/// A function of several names has one of them in plans.
fn plain_name(name: &str) -> &str {
    match name {
        "current_timestamp" | "transaction_timestamp" | "statement_timestamp" => "now",
        other => other,
    }
}

fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}
