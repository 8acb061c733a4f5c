//! `min` and `max`: DataFusion's own, but for floats in groups.
//!
//! There DataFusion starts from the greatest finite value, so that the minimum of infinities is
//! finite, and lets NaN win both ways. As in Postgres, NaN is greater than every other value here.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float32Array, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::error::Result;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator,
    ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::scalar::ScalarValue;

/// Which of the two is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FloatEnd {
    Least,
    Greatest,
}

/// The function as DataFusion knows it.
pub(super) fn extreme_function(end: FloatEnd) -> Arc<AggregateUDF> {
    let stock = match end {
        FloatEnd::Least => min_udaf(),
        FloatEnd::Greatest => max_udaf(),
    };
    Arc::new(AggregateUDF::new_from_impl(ExtremeFunction { end, stock }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExtremeFunction {
    end: FloatEnd,
    stock: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for ExtremeFunction {
    fn name(&self) -> &str {
        self.stock.name()
    }

    fn signature(&self) -> &Signature {
        self.stock.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.stock.return_type(arg_types)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.stock.coerce_types(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.stock.accumulator(args)
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        self.stock.create_sliding_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.stock.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.stock.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match args.return_field.data_type() {
            data_type @ (DataType::Float32 | DataType::Float64) => {
                Ok(Box::new(FloatExtremes::new(self.end, data_type.clone())))
            }
            _ => self.stock.create_groups_accumulator(args),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.stock.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.stock.reverse_udf()
    }

    fn is_descending(&self) -> Option<bool> {
        self.stock.is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.stock.value_from_stats(statistics)
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.stock.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.stock.documentation()
    }
}

/// The least or greatest float of each group; `None` over no value.
#[derive(Debug)]
struct FloatExtremes {
    end: FloatEnd,
    data_type: DataType,
    values: Vec<Option<f64>>,
}

impl FloatExtremes {
    fn new(end: FloatEnd, data_type: DataType) -> FloatExtremes {
        FloatExtremes {
            end,
            data_type,
            values: Vec::new(),
        }
    }

    fn add<T: ArrowPrimitiveType>(
        &mut self,
        array: &PrimitiveArray<T>,
        groups: &[usize],
        passing: Option<&BooleanArray>,
    ) where
        f64: From<T::Native>,
    {
        let wanted = match self.end {
            FloatEnd::Least => Ordering::Less,
            FloatEnd::Greatest => Ordering::Greater,
        };
        let is_wanted = |row: usize| {
            array.is_valid(row)
                && passing.is_none_or(|passing| passing.is_valid(row) && passing.value(row))
        };
        for (row, &group) in groups.iter().enumerate().filter(|(row, _)| is_wanted(*row)) {
            let value = f64::from(array.values()[row]);
            // One NaN for all, and zero without a sign: equal values are one value.
            let value = if value.is_nan() {
                f64::NAN
            } else {
                value + 0.0
            };
            let best = &mut self.values[group];
            if best.is_none_or(|best| value.total_cmp(&best) == wanted) {
                *best = Some(value);
            }
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let taken = emit_to.take_needed(&mut self.values);
        let nulls: NullBuffer = taken.iter().map(Option::is_some).collect();
        let values: Vec<f64> = taken.into_iter().map(Option::unwrap_or_default).collect();
        let array: ArrayRef = Arc::new(PrimitiveArray::<Float64Type>::new(
            values.into(),
            Some(nulls),
        ));
        Ok(cast(&array, &self.data_type)?)
    }
}

impl GroupsAccumulator for FloatExtremes {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.values.resize(total_num_groups, None);
        match values[0].as_any().downcast_ref::<Float32Array>() {
            Some(array) => self.add(array, group_indices, opt_filter),
            None => self.add(
                values[0].as_primitive::<Float64Type>(),
                group_indices,
                opt_filter,
            ),
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.take(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.take(emit_to)?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let mut each_alone = FloatExtremes::new(self.end, self.data_type.clone());
        let groups: Vec<usize> = (0..values[0].len()).collect();
        each_alone.update_batch(values, &groups, opt_filter, groups.len())?;
        each_alone.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of::<FloatExtremes>() + self.values.capacity() * size_of::<Option<f64>>()
    }
}
