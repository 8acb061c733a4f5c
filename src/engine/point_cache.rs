//! Compiled point reads, by the text of their statement without its constants.
//!
//! ```text
//!   SELECT bids FROM v WHERE auction = 7    ─┐
//!   SELECT bids FROM v WHERE auction = '9'  ─┴─►  SELECT bids FROM v WHERE auction = $1   [7], [9]
//! ```
//!
//! Drivers and people send the same few statements with other keys. The constants beside the
//! columns of WHERE become parameters ([`Shape`]); the rest, as text, finds what was compiled
//! before, or that there is nothing to compile. A compiled read is the same for every session: it
//! names no function of a session, and only sessions in UTC ask for it.
//!
//! Bounds: `POINT_READS_MAX` entries, of texts up to `POINT_READ_BYTES_MAX`. Entries of an older
//! catalog are dropped when a newer one is asked for.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::Field;
use datafusion::scalar::ScalarValue;

use crate::base::limits::{POINT_READ_BYTES_MAX, POINT_READS_MAX};
use crate::catalog::Catalog;
use crate::engine::point_read::PointRead;
use crate::plan::takes_text;
use crate::sql::ast::{
    self, BinaryOperator, Expr, GroupByExpr, SetExpr, TableFactor, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};
use crate::types::pg::{Format, parse_value};

/// What is known of a statement: the read that it is, or that it is none.
type Known = Option<Arc<PointRead>>;

/// See the module page. A mutex, because all connections ask; it is held for one look into a map.
#[derive(Default)]
pub struct PointCache(Mutex<Entries>);

/// What was used lately, and what was used before that: an entry that is found in the older half
/// moves to the younger one, and when that is full it becomes the older one.
#[derive(Default)]
struct Entries {
    catalog_version: u64,
    young: HashMap<String, Known>,
    old: HashMap<String, Known>,
}

impl PointCache {
    /// What is known of a statement under this version of the catalog.
    pub fn find(&self, text: &str, catalog_version: u64) -> Option<Known> {
        let mut entries = self.lock();
        entries.turn_to(catalog_version);
        if let Some(known) = entries.young.get(text) {
            return Some(known.clone());
        }
        let (text, known) = entries.old.remove_entry(text)?;
        entries.keep(text, known.clone());
        Some(known)
    }

    /// Keeps what was found out of a statement under a version of the catalog.
    pub fn keep(&self, text: String, known: Known, catalog_version: u64) {
        let mut entries = self.lock();
        entries.turn_to(catalog_version);
        // A slower statement may come with what holds no longer.
        if entries.catalog_version == catalog_version && text.len() <= POINT_READ_BYTES_MAX {
            entries.keep(text, known);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // An entry is there or not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn turn_to(&mut self, catalog_version: u64) {
        if catalog_version > self.catalog_version {
            *self = Entries {
                catalog_version,
                ..Entries::default()
            };
        }
    }

    fn keep(&mut self, text: String, known: Known) {
        if self.young.len() >= POINT_READS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(text, known);
    }
}

/// A statement without its constants.
pub struct Shape {
    pub query: ast::Query,
    pub text: String,
    constants: Vec<Value>,
}

impl Shape {
    /// The shape of a query that may be a point read: it names the columns of a relation's key, and
    /// asks for nothing but equality. Whether it is one is found out by compiling it.
    pub fn of(query: &ast::Query, catalog: &Catalog) -> Option<Shape> {
        let SetExpr::Select(select) = query.body.as_ref() else {
            return None;
        };
        let is_grouped = match &select.group_by {
            GroupByExpr::Expressions(exprs, modifiers) => {
                !exprs.is_empty() || !modifiers.is_empty()
            }
            GroupByExpr::All(_) => true,
        };
        let [table] = select.from.as_slice() else {
            return None;
        };
        let TableFactor::Table {
            name, args: None, ..
        } = &table.relation
        else {
            return None;
        };
        if is_grouped || query.with.is_some() || !table.joins.is_empty() {
            return None;
        }
        let object = catalog.find(&folded(name.0.last()?.as_ident()?))?;
        let key = object.relation.key.as_ref()?;
        let mut query = query.clone();
        let mut constants = Constants::default();
        if let SetExpr::Select(select) = query.body.as_mut()
            && let Some(selection) = &mut select.selection
        {
            constants.lift(selection);
        }
        let schema = &object.relation.schema;
        let has_all = key
            .iter()
            .all(|&column| constants.columns.contains(schema.field(column).name()));
        if !has_all || has_parameters(&mut query, constants.values.len()) {
            return None;
        }
        let text = query.to_string();
        (text.len() <= POINT_READ_BYTES_MAX).then_some(Shape {
            query,
            text,
            constants: constants.values,
        })
    }

    /// The constants as values of the read's parameters; `None` where one is no such value: the
    /// statement then means something else, and is planned as it stands.
    pub fn values(&self, read: &PointRead) -> Option<Vec<ScalarValue>> {
        let both = self.constants.iter().zip(read.parameters());
        both.map(|(constant, field)| value_of(constant, field))
            .collect()
    }
}

/// The constants of a WHERE clause, in order, and the columns they stand beside.
#[derive(Default)]
struct Constants {
    values: Vec<Value>,
    columns: Vec<String>,
}

impl Constants {
    /// Replaces `column = constant`, and those joined by AND, by `column = $n`.
    fn lift(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Nested(inner) => self.lift(inner),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                self.lift(left);
                self.lift(right);
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => match (left.as_ref(), right.as_ref()) {
                (Expr::Value(_), _) => self.lift_beside(right, left),
                (_, Expr::Value(_)) => self.lift_beside(left, right),
                _ => {}
            },
            _ => {}
        }
    }

    fn lift_beside(&mut self, column: &Expr, constant: &mut Expr) {
        let name = match column {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(names) => names.last(),
            _ => None,
        };
        let (Some(name), Expr::Value(value)) = (name, constant) else {
            return;
        };
        if let Value::Number(..) | Value::SingleQuotedString(_) = &value.value {
            self.columns.push(folded(name));
            let number = self.values.len() + 1;
            let parameter = Value::Placeholder(format!("${number}"));
            self.values
                .push(std::mem::replace(&mut value.value, parameter));
        }
    }
}

/// Whether a query has more parameters than those.
fn has_parameters(query: &mut ast::Query, lifted: usize) -> bool {
    struct Parameters(usize);
    impl VisitorMut for Parameters {
        type Break = ();

        fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
            self.0 += usize::from(matches!(value.value, Value::Placeholder(_)));
            ControlFlow::Continue(())
        }
    }
    let mut found = Parameters(0);
    // Nothing breaks off.
    let _: ControlFlow<()> = VisitMut::visit(query, &mut found);
    found.0 > lifted
}

/// The value that a constant is beside a column of this type, where that is plain.
fn value_of(constant: &Value, field: &Field) -> Option<ScalarValue> {
    match constant {
        // What does not fit into the column is compared as a wider number.
        Value::Number(digits, _) if field.data_type().is_signed_integer() => {
            let number = ScalarValue::Int64(Some(digits.parse().ok()?));
            number
                .cast_to(field.data_type())
                .ok()
                .filter(|value| !value.is_null())
        }
        Value::SingleQuotedString(text) if takes_text(field) => {
            parse_value(field, Format::Text, text.as_bytes()).ok()
        }
        Value::SingleQuotedString(text) if field.data_type().is_string() => {
            ScalarValue::from(text.as_str())
                .cast_to(field.data_type())
                .ok()
        }
        _ => None,
    }
}

fn folded(name: &ast::Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn a_full_cache_forgets_what_was_not_asked_for() {
        let cache = PointCache::default();
        let text = |number: usize| format!("SELECT {number}");
        for number in 0..2 * POINT_READS_MAX {
            cache.keep(text(number), None, 1);
            assert!(cache.find(&text(0), 1).is_some(), "{number}");
        }
        assert!(cache.find(&text(1), 1).is_none());
        assert!(cache.find(&text(2 * POINT_READS_MAX - 1), 1).is_some());
        let entries = cache.lock();
        assert!(entries.young.len() + entries.old.len() <= POINT_READS_MAX);
    }

    #[test]
    fn another_catalog_forgets_all_and_takes_nothing_older() {
        let cache = PointCache::default();
        cache.keep("SELECT 1".to_string(), None, 1);
        assert!(cache.find("SELECT 1", 2).is_none());
        cache.keep("SELECT 1".to_string(), None, 1);
        assert!(cache.find("SELECT 1", 2).is_none());
        assert!(cache.find("SELECT 1", 1).is_none());
        cache.keep("x".repeat(POINT_READ_BYTES_MAX + 1), None, 2);
        assert!(cache.lock().young.is_empty());
    }

    #[test]
    fn a_constant_is_a_value_only_where_that_is_what_it_means() {
        let value = |constant: &Value, data_type: &DataType| {
            value_of(constant, &Field::new("", data_type.clone(), true)).map(|v| v.to_string())
        };
        let number = |digits: &str| Value::Number(digits.to_string(), false);
        let text = |text: &str| Value::SingleQuotedString(text.to_string());
        let (small, whole) = (DataType::Int16, DataType::Int64);
        assert_eq!(value(&number("7"), &whole).as_deref(), Some("7"));
        assert_eq!(value(&text("7"), &whole).as_deref(), Some("7"));
        assert_eq!(value(&text("7"), &DataType::Utf8).as_deref(), Some("7"));
        assert_eq!(value(&number("70000"), &small), None);
        assert_eq!(value(&number("7.5"), &whole), None);
        assert_eq!(value(&number("7"), &DataType::Utf8), None);
        assert_eq!(value(&text("seven"), &whole), None);
        assert_eq!(value(&number("7"), &DataType::Float64), None);
    }
}
