//! The accumulators behind `sum` and `avg` in a batch query: many groups, one, distinct values.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Decimal128Array, Int64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float32Type, Float64Type, Int64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::scalar::ScalarValue;
use hashbrown::HashMap;

use crate::error::{Error, SqlState};
use crate::function::aggregate::{Algebra, OutOfRange, TotalRule, Totals, for_integers};

/// A total per group. The partial state is (the sum as bytes, the number of rows in it).
#[derive(Debug)]
pub(super) struct TotalGroups {
    rule: TotalRule,
    algebra: Algebra,
    totals: Totals,
    counts: Vec<i64>,
}

/// Which group each row belongs to.
#[derive(Clone, Copy)]
enum Groups<'a> {
    One,
    Each(&'a [usize]),
}

impl Groups<'_> {
    #[inline]
    fn get(&self, row: usize) -> usize {
        match self {
            Groups::One => 0,
            Groups::Each(groups) => groups[row],
        }
    }
}

impl TotalGroups {
    pub fn new(rule: TotalRule, algebra: Algebra) -> TotalGroups {
        TotalGroups {
            rule,
            algebra,
            totals: Totals::new(algebra),
            counts: Vec::new(),
        }
    }

    fn grow(&mut self, groups: usize) {
        self.totals.grow(groups);
        if self.counts.len() < groups {
            self.counts.resize(groups, 0);
        }
    }

    /// Adds every row that is not NULL and passes the filter, `weight` times.
    fn add(
        &mut self,
        array: &ArrayRef,
        groups: Groups<'_>,
        filter: Option<&BooleanArray>,
        weight: i64,
    ) -> Result<()> {
        let passing = filter.map(|filter| match filter.nulls() {
            Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
            None => NullBuffer::new(filter.values().clone()),
        });
        let valid = NullBuffer::union(array.nulls(), passing.as_ref());
        let counts = &mut self.counts;
        let mut count = |group: usize| counts[group] += weight;
        match (&mut self.totals, self.algebra) {
            (Totals::Exact(sums), Algebra::Integer) => for_integers!(array, values => {
                each(array.len(), valid.as_ref(), |row| {
                    let group = groups.get(row);
                    count(group);
                    sums.add_integer(group, i128::from(values[row]), weight);
                });
            }, else return Err(unknown(array))),
            (Totals::Exact(sums), _) => for_integers!(array, values => {
                each(array.len(), valid.as_ref(), |row| {
                    let group = groups.get(row);
                    count(group);
                    sums.add(group, i128::from(values[row]), weight);
                });
            }, else return Err(unknown(array))),
            (Totals::Float(sums), _) => {
                let mut add = |row: usize, value: f64| {
                    let group = groups.get(row);
                    count(group);
                    sums.add(group, value, weight);
                };
                if let Some(array) = array.as_primitive_opt::<Float64Type>() {
                    each(array.len(), valid.as_ref(), |row| {
                        add(row, array.values()[row])
                    });
                } else if let Some(array) = array.as_primitive_opt::<Float32Type>() {
                    let values = array.values();
                    each(array.len(), valid.as_ref(), |row| {
                        add(row, f64::from(values[row]))
                    });
                } else {
                    return Err(unknown(array));
                }
            }
        }
        Ok(())
    }

    fn results(&self, groups: usize) -> Result<ArrayRef> {
        let counted = (0..groups).zip(self.counts.iter().copied());
        let (values, failed) = self.rule.results(&self.totals, counted);
        match failed.into_iter().next() {
            None => Ok(values),
            Some((_, OutOfRange(reason))) => {
                let state = SqlState::NUMERIC_VALUE_OUT_OF_RANGE;
                Err(external(Error::new(state, reason)))
            }
        }
    }

    fn partial(&self, groups: usize) -> Vec<ArrayRef> {
        let mut sums = BinaryBuilder::with_capacity(groups, groups * 24);
        let mut bytes = Vec::new();
        for group in 0..groups {
            bytes.clear();
            self.totals.write(group, &mut bytes);
            sums.append_value(&bytes);
        }
        let counts = Int64Array::from(self.counts[..groups].to_vec());
        vec![Arc::new(sums.finish()), Arc::new(counts)]
    }

    fn merge(&mut self, states: &[ArrayRef], groups: Groups<'_>) -> Result<()> {
        let (sums, counts) = partial_columns(states)?;
        for row in (0..sums.len()).filter(|&row| sums.is_valid(row)) {
            let group = groups.get(row);
            self.counts[group] += counts.values()[row];
            self.totals
                .merge(group, sums.value(row))
                .map_err(external)?;
        }
        Ok(())
    }

    fn drop_first(&mut self, groups: usize) {
        self.counts.drain(..groups);
        self.totals.drop_first(groups);
    }

    fn bytes(&self) -> usize {
        size_of::<TotalGroups>() + self.counts.capacity() * 8 + self.totals.bytes()
    }
}

/// Calls `visit` for every row that is valid.
#[inline]
fn each(rows: usize, valid: Option<&NullBuffer>, mut visit: impl FnMut(usize)) {
    match valid.filter(|valid| valid.null_count() > 0) {
        None => (0..rows).for_each(visit),
        Some(valid) => valid.valid_indices().for_each(&mut visit),
    }
}

fn partial_columns(states: &[ArrayRef]) -> Result<(&BinaryArray, &Int64Array)> {
    let [sums, counts] = states else {
        return Err(external(Error::internal("a partial total has two columns")));
    };
    Ok((sums.as_binary(), counts.as_primitive::<Int64Type>()))
}

fn unknown(array: &ArrayRef) -> DataFusionError {
    let message = format!(
        "a total over {}, which the plan has not coerced",
        array.data_type()
    );
    external(Error::internal(message))
}

/// Our error inside DataFusion's; whoever asked for the query takes it out again.
pub(super) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl GroupsAccumulator for TotalGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        self.add(&values[0], Groups::Each(group_indices), opt_filter, 1)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emitted(emit_to, self.counts.len());
        let results = self.results(groups)?;
        self.drop_first(groups);
        Ok(results)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emitted(emit_to, self.counts.len());
        let partial = self.partial(groups);
        self.drop_first(groups);
        Ok(partial)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        self.merge(values, Groups::Each(group_indices))
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each_alone = TotalGroups::new(self.rule.clone(), self.algebra);
        each_alone.grow(rows);
        let groups: Vec<usize> = (0..rows).collect();
        each_alone.add(&values[0], Groups::Each(&groups), opt_filter, 1)?;
        Ok(each_alone.partial(rows))
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

fn emitted(emit_to: EmitTo, groups: usize) -> usize {
    match emit_to {
        EmitTo::All => groups,
        EmitTo::First(groups) => groups,
    }
}

/// A total of one group; rows may leave again, as in a sliding frame.
#[derive(Debug)]
pub(super) struct OneTotal(TotalGroups);

impl OneTotal {
    pub fn new(rule: TotalRule, algebra: Algebra) -> OneTotal {
        let mut groups = TotalGroups::new(rule, algebra);
        groups.grow(1);
        OneTotal(groups)
    }
}

impl Accumulator for OneTotal {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.add(&values[0], Groups::One, None, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.add(&values[0], Groups::One, None, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.0.results(1)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let partial = self.0.partial(1);
        partial
            .iter()
            .map(|column| ScalarValue::try_from_array(column, 0))
            .collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge(states, Groups::One)
    }

    fn size(&self) -> usize {
        self.0.bytes()
    }
}

/// A total over the distinct values of one group. The partial state is the list of the values, as
/// integers that stand for them.
#[derive(Debug)]
pub(super) struct DistinctTotal {
    rule: TotalRule,
    algebra: Algebra,
    argument: DataType,
    /// Each value (integers and decimals as they are, floats by their bits) and how often it came.
    seen: HashMap<i128, i64, foldhash::fast::FixedState>,
}

impl DistinctTotal {
    pub fn new(rule: TotalRule, algebra: Algebra, argument: DataType) -> DistinctTotal {
        let seen = HashMap::with_hasher(foldhash::fast::FixedState::default());
        DistinctTotal {
            rule,
            algebra,
            argument,
            seen,
        }
    }

    /// The type in which a partial state keeps its values.
    pub fn state_item() -> DataType {
        DataType::Decimal128(38, 0)
    }

    fn add(&mut self, array: &ArrayRef, weight: i64) -> Result<()> {
        let seen = &mut self.seen;
        let mut see = |value: i128| {
            let count = seen.entry(value).or_insert(0);
            *count += weight;
            if *count == 0 {
                seen.remove(&value);
            }
        };
        let valid = array.nulls();
        if self.algebra == Algebra::Float {
            let floats = arrow::compute::cast(array, &DataType::Float64)?;
            let values = floats.as_primitive::<Float64Type>().values();
            each(values.len(), valid, |row| {
                let value = values[row];
                // −0 is 0 and every NaN is the same value, as in Postgres' DISTINCT.
                let value = if value.is_nan() {
                    f64::NAN
                } else {
                    value + 0.0
                };
                see(i128::from(value.to_bits()));
            });
            return Ok(());
        }
        for_integers!(array, values => {
            each(array.len(), valid, |row| see(i128::from(values[row])));
        }, else return Err(unknown(array)));
        Ok(())
    }
}

impl Accumulator for DistinctTotal {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut one = TotalGroups::new(self.rule.clone(), self.algebra);
        one.grow(1);
        // Totals do not depend on the order in which the map gives its values.
        for &value in self.seen.keys() {
            one.counts[0] += 1;
            match &mut one.totals {
                Totals::Exact(sums) => sums.add(0, value, 1),
                Totals::Float(sums) => {
                    let bits = u64::try_from(value).expect("it was made from 64 bits");
                    sums.add(0, f64::from_bits(bits), 1);
                }
            }
        }
        ScalarValue::try_from_array(&one.results(1)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut values: Vec<i128> = self.seen.keys().copied().collect();
        values.sort_unstable();
        let values = Decimal128Array::from(values).with_data_type(DistinctTotal::state_item());
        Ok(vec![
            SingleRowListArrayBuilder::new(Arc::new(values)).build_list_scalar(),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        for list in lists.iter().flatten() {
            for &value in list.as_primitive::<Decimal128Type>().values() {
                *self.seen.entry(value).or_insert(0) += 1;
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<DistinctTotal>() + self.argument.size() + self.seen.allocation_size()
    }
}

/// The fields of the partial state of a total.
pub(super) fn state_fields(name: &str, is_distinct: bool) -> Vec<Arc<Field>> {
    match is_distinct {
        true => {
            let item = Field::new_list_field(DistinctTotal::state_item(), true);
            vec![Arc::new(Field::new_list(
                format!("{name}[values]"),
                item,
                true,
            ))]
        }
        false => vec![
            Arc::new(Field::new(format!("{name}[sum]"), DataType::Binary, true)),
            Arc::new(Field::new(format!("{name}[rows]"), DataType::Int64, true)),
        ],
    }
}
