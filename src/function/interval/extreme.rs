//! `interval_min` and `interval_max`: the extremes of intervals by length.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Field, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::function::interval::{End, length_micros};

/// The function that `min` or `max` of intervals is.
pub fn extreme_function(end: End) -> Arc<AggregateUDF> {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    Arc::new(AggregateUDF::new_from_impl(Extreme {
        end,
        signature: Signature::exact(vec![interval], Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    end: End,
    signature: Signature,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        match self.end {
            End::Least => "interval_min",
            End::Greatest => "interval_max",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneEnd {
            end: self.end,
            best: None,
        }))
    }

    fn create_sliding_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SlidingEnd {
            end: self.end,
            counts: BTreeMap::new(),
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        Ok(vec![Arc::new(Field::new(args.name, interval, true))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Equal lengths are told apart by months, then days.
type Order = (i128, i32, i32);

fn order(interval: IntervalMonthDayNano) -> Order {
    (length_micros(interval), interval.months, interval.days)
}

fn intervals(array: &ArrayRef) -> &PrimitiveArray<IntervalMonthDayNanoType> {
    array.as_primitive::<IntervalMonthDayNanoType>()
}

/// The best value so far: all that a group without retractions needs.
#[derive(Debug)]
struct OneEnd {
    end: End,
    best: Option<IntervalMonthDayNano>,
}

impl Accumulator for OneEnd {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for interval in intervals(&values[0]).iter().flatten() {
            let is_better = match (self.best, self.end) {
                (None, _) => true,
                (Some(best), End::Least) => order(interval) < order(best),
                // Of the longest the one with the fewest months, too.
                (Some(best), End::Greatest) => {
                    let (length, months, days) = order(interval);
                    let (best_length, best_months, best_days) = order(best);
                    (best_length, months, days) < (length, best_months, best_days)
                }
            };
            if is_better {
                self.best = Some(interval);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::IntervalMonthDayNano(self.best))
    }

    fn size(&self) -> usize {
        size_of::<OneEnd>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// Every value of a frame, in order, with how often it is there.
#[derive(Debug)]
struct SlidingEnd {
    end: End,
    counts: BTreeMap<Order, (IntervalMonthDayNano, usize)>,
}

impl Accumulator for SlidingEnd {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for interval in intervals(&values[0]).iter().flatten() {
            self.counts
                .entry(order(interval))
                .or_insert((interval, 0))
                .1 += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for interval in intervals(&values[0]).iter().flatten() {
            if let Some((_, count)) = self.counts.get_mut(&order(interval)) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&order(interval));
                }
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let best = match self.end {
            End::Least => self.counts.first_key_value(),
            End::Greatest => self.counts.last_key_value().and_then(|((length, ..), _)| {
                let least = (*length, i32::MIN, i32::MIN);
                self.counts.range(least..).next()
            }),
        };
        let best = best.map(|(_, (interval, _))| *interval);
        Ok(ScalarValue::IntervalMonthDayNano(best))
    }

    fn size(&self) -> usize {
        size_of::<SlidingEnd>() + self.counts.len() * 64
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}
