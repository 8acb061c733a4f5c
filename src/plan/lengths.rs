//! Intervals that are plain lengths of time, made cheap before they are evaluated.
//!
//! `ts - INTERVAL '4 seconds'` is calendar arithmetic to the library: it looks up the time zone of
//! every row. An interval without months and days means the same in every zone, so as a literal
//! beside a timestamp it becomes a duration, which is one addition per row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
use datafusion::scalar::ScalarValue;

use crate::error::Result;
use crate::plan::failure::from_datafusion;

/// The same expression with durations for such intervals.
///
/// # Errors
/// Internal ones only.
pub fn shorten_intervals(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    let shortened = expr.transform_up(|expr| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else {
            return Ok(Transformed::no(expr));
        };
        let is_shift = matches!(binary.op(), Operator::Plus | Operator::Minus);
        let is_micros = |data_type: DataType| {
            matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
        };
        if !is_shift || !is_micros(binary.left().data_type(schema)?) {
            return Ok(Transformed::no(expr));
        }
        let Some(micros) = length_micros(binary.right()) else {
            return Ok(Transformed::no(expr));
        };
        let duration = Literal::new(ScalarValue::DurationMicrosecond(Some(micros)));
        let left = Arc::clone(binary.left());
        let shifted = BinaryExpr::new(left, *binary.op(), Arc::new(duration));
        Ok(Transformed::yes(Arc::new(shifted) as Arc<dyn PhysicalExpr>))
    });
    Ok(shortened.map_err(from_datafusion)?.data)
}

/// The interval's length, if it is a literal without months, days and parts of a microsecond.
fn length_micros(expr: &Arc<dyn PhysicalExpr>) -> Option<i64> {
    let literal = expr.downcast_ref::<Literal>()?;
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = literal.value() else {
        return None;
    };
    let is_length = interval.months == 0 && interval.days == 0 && interval.nanoseconds % 1_000 == 0;
    is_length.then_some(interval.nanoseconds / 1_000)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, IntervalMonthDayNano};
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    fn shift(interval: IntervalMonthDayNano, op: Operator) -> (Arc<dyn PhysicalExpr>, RecordBatch) {
        let zone = Some("Europe/Berlin".into());
        // The hour before clocks go forward, the least and the greatest time, NULL.
        let times = vec![
            Some(1_711_846_800_000_000),
            Some(-62_135_596_800_000_000),
            None,
        ];
        let times = TimestampMicrosecondArray::from(times).with_timezone_opt(zone.clone());
        let field = Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, zone), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(times) as ArrayRef]).unwrap();
        let literal = Literal::new(ScalarValue::IntervalMonthDayNano(Some(interval)));
        let column = Arc::new(Column::new("ts", 0));
        (
            Arc::new(BinaryExpr::new(column, op, Arc::new(literal))),
            rows,
        )
    }

    #[test]
    fn a_shortened_interval_gives_the_same_times() {
        let hour = 3_600_000_000_000;
        for nanoseconds in [hour, -hour, 1_000, 0] {
            for op in [Operator::Plus, Operator::Minus] {
                let (expr, rows) = shift(IntervalMonthDayNano::new(0, 0, nanoseconds), op);
                let short = shorten_intervals(expr.clone(), &rows.schema()).unwrap();
                assert_ne!(short.to_string(), expr.to_string());
                let value = |expr: &Arc<dyn PhysicalExpr>| {
                    expr.evaluate(&rows).unwrap().into_array(3).unwrap()
                };
                assert_eq!(&value(&short), &value(&expr));
                let types = [&short, &expr].map(|expr| expr.data_type(&rows.schema()).unwrap());
                assert_eq!(types[0], types[1]);
            }
        }
    }

    #[test]
    fn calendar_intervals_stay() {
        for interval in [
            IntervalMonthDayNano::new(1, 0, 0),
            IntervalMonthDayNano::new(0, 1, 0),
            IntervalMonthDayNano::new(0, 0, 1),
        ] {
            let (expr, rows) = shift(interval, Operator::Minus);
            let same = shorten_intervals(expr.clone(), &rows.schema()).unwrap();
            assert_eq!(same.to_string(), expr.to_string());
        }
    }
}
