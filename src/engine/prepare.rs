//! PREPARE and EXECUTE: statements that a session keeps under names of its own.
//!
//! They are apart from those of the protocol's Parse. A statement is planned each time it is
//! executed; what is kept is its tree.
//!
//! Bounds: `PREPARED_STATEMENTS_MAX` of them, whose texts have `PREPARED_BYTES_MAX` bytes together.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

use crate::base::limits::{PREPARED_BYTES_MAX, PREPARED_STATEMENTS_MAX};
use crate::base::memory::Held;
use crate::engine::query::Parameters;
use crate::engine::session::Session;
use crate::error::{Error, Result, SqlState};
use crate::plan::{from_datafusion, sql_type, takes_text};
use crate::sql::ast;
use crate::sql::session::{Execute, Prepare};
use crate::types::Zone;
use crate::types::pg::{DateTimeStyle, Format, parse_value_in};

/// The statements of one session.
pub struct Statements {
    by_name: BTreeMap<String, Kept>,
    /// The memory of their texts.
    held: Held,
}

struct Kept {
    prepare: Arc<Prepare>,
    bytes: usize,
}

impl Statements {
    pub fn new(held: Held) -> Statements {
        Statements {
            by_name: BTreeMap::new(),
            held,
        }
    }

    /// Keeps a statement whose text has so many bytes.
    ///
    /// # Errors
    /// 42P05 when the name is taken, 53400 when there is no room.
    pub fn keep(&mut self, prepare: &Prepare, bytes: usize) -> Result<()> {
        let name = &prepare.name;
        if self.by_name.contains_key(name) {
            return Err(Error::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )
            .hint(format!("DEALLOCATE {name} first")));
        }
        let full = |message: String| {
            Error::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                .hint("DEALLOCATE the ones that are no longer used, or DEALLOCATE ALL")
        };
        if self.by_name.len() >= PREPARED_STATEMENTS_MAX {
            return Err(full(format!(
                "a session may hold {PREPARED_STATEMENTS_MAX} prepared statements"
            )));
        }
        let all = self.held.bytes().saturating_add(bytes);
        if all > PREPARED_BYTES_MAX {
            return Err(full(format!(
                "prepared statements take more than {PREPARED_BYTES_MAX} bytes"
            )));
        }
        self.held.set(all);
        let kept = Kept {
            prepare: Arc::new(prepare.clone()),
            bytes,
        };
        self.by_name.insert(name.clone(), kept);
        Ok(())
    }

    /// # Errors
    /// 26000 when there is none.
    pub fn named(&self, name: &str) -> Result<Arc<Prepare>> {
        let kept = self.by_name.get(name).ok_or_else(|| missing(name))?;
        Ok(kept.prepare.clone())
    }

    /// # Errors
    /// 26000 when there is none.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let kept = self.by_name.remove(name).ok_or_else(|| missing(name))?;
        self.held.set(self.held.bytes() - kept.bytes);
        Ok(())
    }

    pub fn clear(&mut self) {
        self.by_name.clear();
        self.held.set(0);
    }
}

fn missing(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_STATEMENT_NAME,
        format!("prepared statement \"{name}\" does not exist"),
    )
}

/// The types that PREPARE names.
pub fn declared_types(prepare: &Prepare) -> Result<Vec<Option<FieldRef>>> {
    let field = |data_type| Ok(Some(Arc::new(sql_type(data_type)?.to_field("", true))));
    prepare.types.iter().map(field).collect()
}

impl Session {
    /// What EXECUTE gives a statement, as the types of its parameters.
    pub(super) async fn given(&self, execute: &Execute, prepare: &Prepare) -> Result<Parameters> {
        let declared = declared_types(prepare)?;
        let described = Box::pin(self.describe(&prepare.statement, &declared));
        let types = described.await.map_err(Error::without_place)?.parameters;
        let (given, wanted) = (execute.parameters.len(), types.len());
        if given != wanted {
            let name = &prepare.name;
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            return Err(Error::new(SqlState::SYNTAX_ERROR, message)
                .detail(format!("expected {wanted} parameters but got {given}")));
        }
        let constants = self.constants(&execute.parameters)?;
        let both = constants.into_iter().zip(&types);
        let style = DateTimeStyle {
            zone: Zone::parse(self.time_zone()).unwrap_or_default(),
        };
        let values = both.map(|(constant, field)| value_of(constant, field, style));
        Ok(Parameters {
            values: values.collect::<Result<_>>()?,
            types,
        })
    }

    /// The values of constant expressions.
    fn constants(&self, exprs: &[ast::Expr]) -> Result<Vec<ScalarValue>> {
        let reading = self.reading();
        let schema = DFSchema::empty();
        let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let constant = |expr: &ast::Expr| {
            let expr = reading.planning(|planner| planner.expression(expr, &schema))?;
            let physical = reading.state().create_physical_expr(expr, &schema);
            let value = physical.and_then(|physical| physical.evaluate(&empty));
            match value.map_err(from_datafusion)? {
                ColumnarValue::Scalar(value) => Ok(value),
                ColumnarValue::Array(_) => {
                    Err(Error::new(SqlState::SYNTAX_ERROR, "expected a constant"))
                }
            }
        };
        exprs.iter().map(constant).collect()
    }
}

/// A constant as a value of the parameter's type; a quoted one is read as that type.
fn value_of(constant: ScalarValue, field: &Field, style: DateTimeStyle) -> Result<ScalarValue> {
    match &constant {
        ScalarValue::Utf8(Some(text)) if takes_text(field) => {
            parse_value_in(field, Format::Text, text.as_bytes(), style)
        }
        _ if constant.data_type() == *field.data_type() => Ok(constant),
        _ => constant.cast_to(field.data_type()).map_err(from_datafusion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Memory;
    use crate::base::memory::Account;
    use crate::sql::{Statement, parse_single};

    fn statements() -> Statements {
        Statements::new(Memory::of_process(1 << 30).hold(Account::Sessions))
    }

    fn prepare(name: &str) -> Prepare {
        let text = format!("PREPARE {name} AS SELECT 1");
        match parse_single(&text).unwrap().unwrap().statement {
            Statement::Prepare(prepare) => prepare,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn statements_are_bounded_in_number_and_in_bytes() {
        let mut few = statements();
        few.keep(&prepare("a"), PREPARED_BYTES_MAX).unwrap();
        let error = few.keep(&prepare("b"), 1).unwrap_err();
        assert_eq!(error.state(), SqlState::CONFIGURATION_LIMIT_EXCEEDED);
        let error = few.keep(&prepare("a"), 1).unwrap_err();
        assert_eq!(error.state(), SqlState::DUPLICATE_PREPARED_STATEMENT);
        few.remove("a").unwrap();
        few.keep(&prepare("b"), 1).unwrap();
        assert_eq!(few.held.bytes(), 1);

        let mut many = statements();
        let mut one = prepare("a");
        for number in 0..PREPARED_STATEMENTS_MAX {
            one.name = format!("s{number}");
            many.keep(&one, 1).unwrap();
        }
        let error = many.keep(&prepare("b"), 1).unwrap_err();
        assert_eq!(error.state(), SqlState::CONFIGURATION_LIMIT_EXCEEDED);
        many.clear();
        assert_eq!(many.held.bytes(), 0);
    }
}
