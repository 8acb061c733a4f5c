//! What is added up along the order: counts, sums, extremes and truth values of pieces of it.
//!
//! ```text
//!   calls      sum(x), avg(x)      max(x)          lag(y) IGNORE NULLS
//!   measures   Total of x          Greatest x      Count of y
//!   a Part     3 values, sum 60    row in slot 7   2 values             of any piece of the order
//! ```
//!
//! A tree keeps the parts of its nodes, so that those of any piece are put together from few. All
//! but extremes can be taken out again. What a measure reads of a row stands in columns by the
//! row's slot.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};

use crate::error::{Error, Result};
use crate::function::aggregate::{Algebra, Amount, Totals, for_integers};
use crate::operator::rows::RowStore;

/// No row.
pub(super) const NONE: u32 = u32::MAX;

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MeasureSpec {
    pub kind: MeasureKind,
    /// Columns of the input: rows count whose argument is not NULL and whose filter is true.
    pub argument: Option<usize>,
    pub filter: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MeasureKind {
    Count,
    Total(Algebra),
    /// The row whose argument is the least, or the greatest; by the bytes in a column of the store.
    Extreme {
        is_greatest: bool,
        bytes: usize,
    },
    Truths,
}

/// The sum of a piece of the order.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Count(i64),
    Total { count: i64, amount: Amount },
    Extreme(u32),
    Truths { yes: i64, no: i64 },
}

/// A measure, and what it reads of each row, by slot; stale for those that are free.
struct Measure {
    spec: MeasureSpec,
    is_counted: Vec<bool>,
    values: Values,
}

enum Values {
    Nothing,
    Integers(Vec<i64>),
    Decimals(Vec<i128>),
    Floats(Vec<f64>),
    Truths(Vec<bool>),
}

/// The rows of all partitions and what is added up of them.
pub(super) struct Measured {
    pub rows: RowStore,
    measures: Vec<Measure>,
}

impl Measured {
    pub fn new(rows: RowStore, specs: &[MeasureSpec], input: &SchemaRef) -> Measured {
        let measure = |spec: &MeasureSpec| Measure {
            spec: *spec,
            is_counted: Vec::new(),
            values: match (spec.kind, spec.argument) {
                (MeasureKind::Total(Algebra::Float), _) => Values::Floats(Vec::new()),
                (MeasureKind::Total(Algebra::Integer), Some(argument))
                    if *input.field(argument).data_type() != DataType::UInt64 =>
                {
                    Values::Integers(Vec::new())
                }
                (MeasureKind::Total(_), _) => Values::Decimals(Vec::new()),
                (MeasureKind::Truths, _) => Values::Truths(Vec::new()),
                (MeasureKind::Count | MeasureKind::Extreme { .. }, _) => Values::Nothing,
            },
        };
        Measured {
            rows,
            measures: specs.iter().map(measure).collect(),
        }
    }

    /// How many measures there are.
    pub fn len(&self) -> usize {
        self.measures.len()
    }

    /// Notes what the measures read of new rows.
    pub fn note(&mut self, slots: &[u32], rows: &RecordBatch) -> Result<()> {
        let end = self.rows.slots();
        for measure in &mut self.measures {
            measure.is_counted.resize(end, false);
            let counted = counted(rows, measure.spec.argument, measure.spec.filter);
            for (row, &slot) in slots.iter().enumerate() {
                measure.is_counted[slot as usize] =
                    counted.as_ref().is_none_or(|counted| counted.value(row));
            }
            if let Some(argument) = measure.spec.argument {
                measure.values.note(end, slots, rows.column(argument))?;
            }
        }
        Ok(())
    }

    /// The store has given its slots back.
    pub fn forget(&mut self) {
        for measure in &mut self.measures {
            measure.is_counted = Vec::new();
            measure.values.forget();
        }
    }

    /// Bytes by slot.
    pub fn bytes(&self) -> usize {
        let of = |measure: &Measure| measure.is_counted.capacity() + measure.values.bytes();
        self.measures.iter().map(of).sum()
    }

    /// The sum of nothing.
    pub fn zero(&self, measure: usize) -> Part {
        match self.measures[measure].spec.kind {
            MeasureKind::Count => Part::Count(0),
            MeasureKind::Total(algebra) => Part::Total {
                count: 0,
                amount: Amount::new(algebra),
            },
            MeasureKind::Extreme { .. } => Part::Extreme(NONE),
            MeasureKind::Truths => Part::Truths { yes: 0, no: 0 },
        }
    }

    /// The sums of nothing.
    pub fn zeros(&self) -> Vec<Part> {
        (0..self.measures.len()).map(|at| self.zero(at)).collect()
    }

    #[inline]
    pub fn is_counted(&self, measure: usize, slot: u32) -> bool {
        self.measures[measure].is_counted[slot as usize]
    }

    /// Adds so many copies of a row; less than none are taken out, of all but an extreme.
    #[inline]
    pub fn add_row(&self, part: &mut Part, at: usize, slot: u32, copies: i64) {
        let measure = &self.measures[at];
        let place = slot as usize;
        if !measure.is_counted[place] || copies == 0 {
            return;
        }
        match (part, &measure.values) {
            (Part::Count(count), _) => *count += copies,
            (Part::Extreme(best), _) => {
                if copies > 0 {
                    *best = self.better(at, *best, slot);
                }
            }
            (Part::Total { count, amount }, values) => {
                *count += copies;
                match (amount, values) {
                    (Amount::Exact(sum), Values::Integers(values)) => {
                        sum.add(i128::from(values[place]), copies);
                    }
                    (Amount::Exact(sum), Values::Decimals(values)) => {
                        sum.add(values[place], copies);
                    }
                    (Amount::Float(sum), Values::Floats(values)) => sum.add(values[place], copies),
                    _ => unreachable!("a total is of values of its algebra"),
                }
            }
            (Part::Truths { yes, no }, Values::Truths(values)) => match values[place] {
                true => *yes += copies,
                false => *no += copies,
            },
            (Part::Truths { .. }, _) => unreachable!("truths are kept for their measure"),
        }
    }

    /// Adds `times` (1 or −1) another part, of all but an extreme, which can only come.
    pub fn combine(&self, part: &mut Part, at: usize, other: &Part, times: i64) {
        match (part, other) {
            (Part::Count(count), Part::Count(other)) => *count += other * times,
            (
                Part::Total { count, amount },
                Part::Total {
                    count: other_count,
                    amount: other,
                },
            ) => {
                *count += other_count * times;
                amount.combine(other, times);
            }
            (Part::Truths { yes, no }, Part::Truths { yes: y, no: n }) => {
                *yes += y * times;
                *no += n * times;
            }
            (Part::Extreme(best), Part::Extreme(other)) => {
                assert!(times > 0, "an extreme cannot be taken out");
                *best = self.better(at, *best, *other);
            }
            _ => unreachable!("parts of one measure are alike"),
        }
    }

    /// Whether both are the same, and stay so whatever is added to both.
    pub fn is_same(&self, at: usize, one: &Part, other: &Part) -> bool {
        match (one, other) {
            (Part::Count(one), Part::Count(other)) => one == other,
            (
                Part::Total { count, amount },
                Part::Total {
                    count: other_count,
                    amount: other,
                },
            ) => count == other_count && amount.is_same(other),
            (Part::Truths { yes, no }, Part::Truths { yes: y, no: n }) => yes == y && no == n,
            (&Part::Extreme(one), &Part::Extreme(other)) => {
                one == other
                    || one != NONE && other != NONE && self.value(at, one) == self.value(at, other)
            }
            _ => unreachable!("parts of one measure are alike"),
        }
    }

    fn value(&self, at: usize, slot: u32) -> &[u8] {
        let MeasureKind::Extreme { bytes, .. } = self.measures[at].spec.kind else {
            unreachable!("only extremes are compared")
        };
        self.rows.bytes_of(bytes, slot)
    }

    /// The better row of two; of equals the first.
    pub fn better(&self, at: usize, one: u32, other: u32) -> u32 {
        let MeasureKind::Extreme { is_greatest, .. } = self.measures[at].spec.kind else {
            unreachable!("only extremes are compared")
        };
        match (one, other) {
            (NONE, other) => other,
            (one, NONE) => one,
            (one, other) => {
                let (a, b) = (self.value(at, one), self.value(at, other));
                match is_greatest {
                    true if b > a => other,
                    false if b < a => other,
                    _ => one,
                }
            }
        }
    }

    /// Whether the measure is one that cannot be taken out again.
    pub fn is_extreme(&self, at: usize) -> bool {
        matches!(self.measures[at].spec.kind, MeasureKind::Extreme { .. })
    }
}

impl Part {
    /// Appends the part, in a form that [`Measured::read`] reads; of an extreme nothing.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Part::Count(count) => bytes.extend_from_slice(&count.to_le_bytes()),
            Part::Truths { yes, no } => {
                bytes.extend_from_slice(&yes.to_le_bytes());
                bytes.extend_from_slice(&no.to_le_bytes());
            }
            Part::Total { count, amount } => {
                bytes.extend_from_slice(&count.to_le_bytes());
                let mut totals = Totals::new(match amount {
                    Amount::Exact(_) => Algebra::Decimal,
                    Amount::Float(_) => Algebra::Float,
                });
                totals.grow(1);
                amount.add_to(&mut totals, 0);
                let mut sum = Vec::new();
                totals.write(0, &mut sum);
                let length = u32::try_from(sum.len()).expect("a sum is some hundred bytes");
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(&sum);
            }
            Part::Extreme(_) => {}
        }
    }
}

impl Measured {
    /// Reads a part from the beginning of some bytes; `None` where it is not one of the measure.
    pub fn read(&self, at: usize, bytes: &mut &[u8]) -> Option<Part> {
        Some(match self.measures[at].spec.kind {
            MeasureKind::Count => Part::Count(number(bytes)?),
            MeasureKind::Truths => Part::Truths {
                yes: number(bytes)?,
                no: number(bytes)?,
            },
            MeasureKind::Total(algebra) => {
                let count = number(bytes)?;
                let (length, rest) = bytes.split_first_chunk::<4>()?;
                let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
                let (sum, rest) = rest.split_at_checked(length)?;
                *bytes = rest;
                let mut totals = Totals::new(algebra);
                totals.grow(1);
                totals.merge(0, sum).ok()?;
                Part::Total {
                    count,
                    amount: Amount::of(&totals, 0),
                }
            }
            MeasureKind::Extreme { .. } => Part::Extreme(NONE),
        })
    }
}

fn number(bytes: &mut &[u8]) -> Option<i64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(i64::from_le_bytes(*number))
}

/// The rows whose argument is not NULL and whose filter is true; `None`: all.
pub(super) fn counted(
    rows: &RecordBatch,
    argument: Option<usize>,
    filter: Option<usize>,
) -> Option<arrow::buffer::BooleanBuffer> {
    let nulls = argument.and_then(|column| rows.column(column).logical_nulls());
    let nulls = nulls.map(|nulls| nulls.into_inner());
    let passing = filter.map(|column| {
        let filter = rows.column(column).as_boolean();
        match filter.nulls() {
            Some(nulls) => filter.values() & nulls.inner(),
            None => filter.values().clone(),
        }
    });
    match (nulls, passing) {
        (Some(nulls), Some(passing)) => Some(&nulls & &passing),
        (one, other) => one.or(other),
    }
}

impl Values {
    fn note(&mut self, end: usize, slots: &[u32], array: &ArrayRef) -> Result<()> {
        let unknown = || Error::internal(format!("a total over {}", array.data_type()));
        match self {
            Values::Nothing => {}
            Values::Integers(values) => {
                values.resize(end, 0);
                for_integers!(array, column => {
                    for (row, &slot) in slots.iter().enumerate() {
                        let value = i64::try_from(i128::from(column[row]));
                        values[slot as usize] = value.expect("at most 64 bits, with a sign");
                    }
                }, else return Err(unknown()));
            }
            Values::Decimals(values) => {
                values.resize(end, 0);
                for_integers!(array, column => {
                    for (row, &slot) in slots.iter().enumerate() {
                        values[slot as usize] = i128::from(column[row]);
                    }
                }, else return Err(unknown()));
            }
            Values::Floats(values) => {
                values.resize(end, 0.0);
                if let Some(column) = array.as_primitive_opt::<Float64Type>() {
                    for (row, &slot) in slots.iter().enumerate() {
                        values[slot as usize] = column.values()[row];
                    }
                } else if let Some(column) = array.as_primitive_opt::<Float32Type>() {
                    for (row, &slot) in slots.iter().enumerate() {
                        values[slot as usize] = f64::from(column.values()[row]);
                    }
                } else {
                    return Err(unknown());
                }
            }
            Values::Truths(values) => {
                values.resize(end, false);
                let column = array.as_boolean_opt().ok_or_else(unknown)?;
                for (row, &slot) in slots.iter().enumerate() {
                    values[slot as usize] = column.value(row);
                }
            }
        }
        Ok(())
    }

    fn forget(&mut self) {
        match self {
            Values::Nothing => {}
            Values::Integers(values) => *values = Vec::new(),
            Values::Decimals(values) => *values = Vec::new(),
            Values::Floats(values) => *values = Vec::new(),
            Values::Truths(values) => *values = Vec::new(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Values::Nothing => 0,
            Values::Integers(values) => values.capacity() * size_of::<i64>(),
            Values::Decimals(values) => values.capacity() * size_of::<i128>(),
            Values::Floats(values) => values.capacity() * size_of::<f64>(),
            Values::Truths(values) => values.capacity(),
        }
    }
}
