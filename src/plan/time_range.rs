//! What a join's condition says of how far apart the times of its two sides can be.
//!
//! ```text
//!   a.ts BETWEEN b.ts - INTERVAL '5 s' AND b.ts + INTERVAL '1 s'     a.ts - b.ts from −5 s to 1 s
//!   a.ts - b.ts < INTERVAL '1 minute'                                up to 59.999999 s
//!   b.ts = a.ts + INTERVAL '1 hour'                                  −1 h exactly
//! ```
//!
//! Each conjunct is brought to `left - right ⋚ constant`, over sums and differences of times and
//! fixed lengths; one that is anything else says nothing. Months are no fixed length. A view
//! computes in UTC, where a day is one.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, DFSchema, NullEquality};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Join, Operator};
use datafusion::scalar::ScalarValue;

use crate::error::Result;
use crate::operator::join::TimeRange;
use crate::plan::failure::from_datafusion;
use crate::types::calendar::MICROS_PER_DAY;

const NANOS_PER_MICRO: i64 = 1_000;

/// The ranges that the equalities and the other conditions of a join keep its times in, equalities
/// first. Columns are numbered by side.
pub(super) fn time_ranges(join: &Join) -> Result<Vec<TimeRange>> {
    let (left, right) = (join.left.schema(), join.right.schema());
    let both = left.join(right).map_err(from_datafusion)?;
    let width = left.fields().len();
    let mut found = Vec::new();
    for (left, right) in &join.on {
        // NULL is equal to NULL there: only to be ruled out where the key has the column itself.
        let is_plain = matches!((left, right), (Expr::Column(_), Expr::Column(_)));
        if join.null_equality == NullEquality::NullEqualsNull && !is_plain {
            continue;
        }
        note(&both, width, (left, Operator::Eq, right), &mut found);
    }
    for conjunct in join.filter.iter().flat_map(split_conjunction) {
        match conjunct {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                note(&both, width, (left, *op, right), &mut found);
            }
            Expr::Between(Between {
                expr,
                negated: false,
                low,
                high,
            }) => {
                note(&both, width, (expr, Operator::GtEq, low), &mut found);
                note(&both, width, (expr, Operator::LtEq, high), &mut found);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Adds what a comparison says.
fn note(
    schema: &DFSchema,
    width: usize,
    (a, operator, b): (&Expr, Operator, &Expr),
    found: &mut Vec<TimeRange>,
) {
    let Some(range) = range(schema, width, (a, operator, b)) else {
        return;
    };
    let same = |known: &&mut TimeRange| (known.left, known.right) == (range.left, range.right);
    match found.iter_mut().find(same) {
        None => found.push(range),
        Some(known) => {
            // The narrower of what both say.
            known.least = known.least.max(range.least);
            known.greatest = match (known.greatest, range.greatest) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
}

fn range(
    schema: &DFSchema,
    width: usize,
    (a, operator, b): (&Expr, Operator, &Expr),
) -> Option<TimeRange> {
    let sum = Sum::of(a, schema)?.plus(Sum::of(b, schema)?, -1)?;
    let [(left, sign), (right, opposite)] = *sum.columns.as_slice() else {
        return None;
    };
    if left >= width || right < width || sign.abs() != 1 || opposite != -sign {
        return None;
    }
    // sign × (left − right) + constant ⋚ 0
    let (operator, bound) = match sign {
        1 => (operator, sum.constant.checked_neg()?),
        _ => (operator.swap()?, sum.constant),
    };
    let (least, greatest) = match operator {
        Operator::Eq => (Some(bound), Some(bound)),
        Operator::Gt => (Some(bound.checked_add(1)?), None),
        Operator::GtEq => (Some(bound), None),
        Operator::Lt => (None, Some(bound.checked_sub(1)?)),
        Operator::LtEq => (None, Some(bound)),
        _ => return None,
    };
    Some(TimeRange {
        left,
        right: right - width,
        least,
        greatest,
        is_bounded: false,
    })
}

/// Columns with their factors and a constant, all in microseconds.
struct Sum {
    /// Rising; none has factor 0.
    columns: Vec<(usize, i64)>,
    constant: i64,
}

impl Sum {
    /// `None` where the expression is anything else than sums and differences of times.
    fn of(expr: &Expr, schema: &DFSchema) -> Option<Sum> {
        match expr {
            Expr::Alias(alias) => Sum::of(&alias.expr, schema),
            Expr::Column(column) => Sum::column(column, schema),
            Expr::Literal(value, _) => Some(Sum {
                columns: Vec::new(),
                constant: constant(value)?,
            }),
            Expr::Cast(Cast { expr, field }) => {
                let is_kept = is_time(field.data_type()) && is_time(&type_of(expr, schema)?);
                is_kept.then(|| Sum::of(expr, schema)).flatten()
            }
            Expr::ScalarFunction(call) => match (call.func.name(), call.args.as_slice()) {
                ("add", [a, b]) => Sum::of(a, schema)?.plus(Sum::of(b, schema)?, 1),
                ("subtract", [a, b]) => Sum::of(a, schema)?.plus(Sum::of(b, schema)?, -1),
                ("interval_length", [interval]) => Sum::of(interval, schema),
                _ => None,
            },
            _ => None,
        }
    }

    fn column(column: &Column, schema: &DFSchema) -> Option<Sum> {
        let place = schema.index_of_column(column).ok()?;
        is_time(schema.field(place).data_type()).then(|| Sum {
            columns: vec![(place, 1)],
            constant: 0,
        })
    }

    fn plus(mut self, other: Sum, sign: i64) -> Option<Sum> {
        for (column, factor) in other.columns {
            let factor = factor.checked_mul(sign)?;
            match self.columns.binary_search_by_key(&column, |known| known.0) {
                Err(place) => self.columns.insert(place, (column, factor)),
                Ok(place) => {
                    let sum = self.columns[place].1.checked_add(factor)?;
                    match sum {
                        0 => drop(self.columns.remove(place)),
                        sum => self.columns[place].1 = sum,
                    }
                }
            }
        }
        let constant = other.constant.checked_mul(sign)?;
        self.constant = self.constant.checked_add(constant)?;
        Some(self)
    }
}

fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    datafusion::logical_expr::ExprSchemable::get_type(expr, schema).ok()
}

/// A view's times are in UTC, with and without a zone.
fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// A time, a fixed length, or the number of microseconds that a length compares by.
fn constant(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMicrosecond(time, _) => *time,
        ScalarValue::Decimal128(Some(length), _, 0) => i64::try_from(*length).ok(),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            let is_fixed = interval.months == 0 && interval.nanoseconds % NANOS_PER_MICRO == 0;
            let days = i64::from(interval.days).checked_mul(MICROS_PER_DAY)?;
            let micros = days.checked_add(interval.nanoseconds / NANOS_PER_MICRO)?;
            is_fixed.then_some(micros)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema, SchemaRef};
    use datafusion::common::TableReference;
    use datafusion::logical_expr::{LogicalPlan, LogicalTableSource, TableSource};

    use super::*;
    use crate::plan::context::{Planner, session_state};
    use crate::sql::ast;

    const SECOND: i64 = 1_000_000;

    fn schema() -> SchemaRef {
        let time = |zone: Option<&str>| {
            DataType::Timestamp(TimeUnit::Microsecond, zone.map(|zone| zone.into()))
        };
        Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("ts", time(Some("UTC")), true),
            Field::new("plain", time(None), true),
        ]))
    }

    /// The ranges of `FROM a JOIN b ON <condition>`.
    fn ranges(condition: &str) -> Vec<TimeRange> {
        let state = session_state();
        let find = |_: &TableReference| {
            let source: Arc<dyn TableSource> = Arc::new(LogicalTableSource::new(schema()));
            Ok(Some(source))
        };
        let sql = format!("SELECT a.k, b.k AS l FROM a LEFT JOIN b ON {condition}");
        let mut statements = datafusion::sql::sqlparser::parser::Parser::parse_sql(
            &datafusion::sql::sqlparser::dialect::PostgreSqlDialect {},
            &sql,
        )
        .unwrap();
        let ast::Statement::Query(query) = statements.remove(0) else {
            panic!("a query");
        };
        let planner = Planner::new(&state, &find);
        let plan = planner.optimize(&planner.query(&query).unwrap()).unwrap();
        let mut plan = &plan;
        loop {
            match plan {
                LogicalPlan::Join(join) => return time_ranges(join).unwrap(),
                other => plan = other.inputs()[0],
            }
        }
    }

    fn range(least: Option<i64>, greatest: Option<i64>) -> Option<(Option<i64>, Option<i64>)> {
        Some((least, greatest))
    }

    #[test]
    fn conditions_say_how_far_apart_times_are() {
        for (condition, expected) in [
            (
                "a.ts BETWEEN b.ts - INTERVAL '5 seconds' AND b.ts + INTERVAL '1 second'",
                range(Some(-5 * SECOND), Some(SECOND)),
            ),
            (
                "b.ts > a.ts AND b.ts <= a.ts + INTERVAL '1 second'",
                range(Some(-SECOND), Some(-1)),
            ),
            (
                "a.ts - b.ts < INTERVAL '1 minute'",
                range(None, Some(60 * SECOND - 1)),
            ),
            (
                "INTERVAL '1 minute' > b.ts - a.ts AND b.ts - a.ts < INTERVAL '1 day'",
                range(Some(-60 * SECOND + 1), None),
            ),
            (
                "b.ts = a.ts + INTERVAL '1 hour'",
                range(Some(-3600 * SECOND), Some(-3600 * SECOND)),
            ),
            (
                "a.ts + INTERVAL '2 days' >= b.ts + INTERVAL '1 day' AND a.k > b.k",
                range(Some(-86_400 * SECOND), None),
            ),
            ("a.ts = b.ts", range(Some(0), Some(0))),
            ("a.ts < b.ts + INTERVAL '1 month'", None),
            ("a.ts < b.ts OR b.k = 1", None),
            ("a.ts < a.ts + INTERVAL '1 second'", None),
            ("a.ts + (a.ts - b.ts) < b.ts + INTERVAL '1 s'", None),
            ("a.ts <> b.ts", None),
            ("a.k > b.k + 5", None),
        ] {
            let found = ranges(&format!("a.k = b.k AND {condition}"));
            let found: Vec<_> = found.iter().map(|r| (r.least, r.greatest)).collect();
            assert_eq!(found, Vec::from_iter(expected), "{condition}");
        }
    }

    #[test]
    fn times_with_and_without_a_zone_are_compared_in_utc() {
        let found = ranges("a.k = b.k AND a.ts >= b.plain AND a.ts >= b.ts");
        let places: Vec<_> = found
            .iter()
            .map(|range| (range.left, range.right))
            .collect();
        assert_eq!(found.len(), 2);
        assert!(places[0] != places[1]);
    }
}
