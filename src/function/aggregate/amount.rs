//! One total by itself, to be kept in a node of a tree or moved along a frame: what a column of
//! them holds in a slot, without the column.
//!
//! ```text
//!   node [3 rows: 0.1 0.2 0.3]    Total of the node: pair (0.6…, error)
//!   prefix of a row               the totals of the nodes before it, added up: exact, like all
//! ```

use crate::function::aggregate::float_sums::{PAIR_MAX, two_sum};
use crate::function::aggregate::{Algebra, ExactSum, FloatSums, Totals};

/// One sum in the algebra of its type.
#[derive(Clone, Debug)]
pub enum Amount {
    Exact(ExactSum),
    Float(FloatSum),
}

/// One correctly rounded sum of floats: a pair of doubles, or what else it takes on the heap.
#[derive(Clone, Debug, Default)]
pub struct FloatSum {
    high: f64,
    low: f64,
    /// The sum, in its slot 0, in place of the pair.
    rest: Option<Box<FloatSums>>,
}

impl Amount {
    /// The sum of no rows.
    pub fn new(algebra: Algebra) -> Amount {
        match algebra {
            Algebra::Integer | Algebra::Decimal => Amount::Exact(ExactSum::default()),
            Algebra::Float => Amount::Float(FloatSum::default()),
        }
    }

    /// What a column of totals has in a slot.
    pub fn of(totals: &Totals, slot: usize) -> Amount {
        match totals {
            Totals::Exact(sums) => Amount::Exact(sums.get(slot)),
            Totals::Float(sums) => {
                let mut sum = FloatSum::default();
                sum.add_slowly(|own| own.combine_from(0, sums, slot, 1));
                Amount::Float(sum)
            }
        }
    }

    /// Adds `times` (1, or −1 to take it out again) another total of the same algebra.
    pub fn combine(&mut self, other: &Amount, times: i64) {
        match (self, other) {
            (Amount::Exact(sum), Amount::Exact(other)) => sum.combine(*other, times),
            (Amount::Float(sum), Amount::Float(other)) => sum.combine(other, times),
            _ => unreachable!("totals of one column have one algebra"),
        }
    }

    /// Adds the total to a slot of a column of them.
    pub fn add_to(&self, totals: &mut Totals, slot: usize) {
        match (self, totals) {
            (Amount::Exact(sum), Totals::Exact(sums)) => sums.add_sum(slot, *sum),
            (Amount::Float(sum), Totals::Float(sums)) => sum.add_to(sums, slot),
            _ => unreachable!("totals of one column have one algebra"),
        }
    }

    /// Whether both are the same number, and stay so whatever is added to both.
    pub fn is_same(&self, other: &Amount) -> bool {
        let mut difference = self.clone();
        difference.combine(other, -1);
        match difference {
            Amount::Exact(sum) => sum == ExactSum::default(),
            // Both parts may be there, and take each other away.
            Amount::Float(sum) => sum.rest.is_none() && sum.high + sum.low == 0.0,
        }
    }
}

impl FloatSum {
    /// Adds `weight × value`.
    #[inline]
    pub fn add(&mut self, value: f64, weight: i64) {
        if weight.unsigned_abs() != 1 || !value.is_finite() || !self.add_once(value, weight) {
            self.add_slowly(|sums| sums.add(0, value, weight));
        }
    }

    fn add_once(&mut self, value: f64, weight: i64) -> bool {
        if self.rest.is_some() {
            return false;
        }
        let value = if weight < 0 { -value } else { value };
        let (high, error) = two_sum(self.high, value);
        let (low, rest) = two_sum(self.low, error);
        let is_exact = rest == 0.0 && high.abs() < PAIR_MAX;
        if is_exact {
            (self.high, self.low) = (high, low);
        }
        is_exact
    }

    #[cold]
    fn add_slowly(&mut self, change: impl FnOnce(&mut FloatSums)) {
        let mut sums = self.rest.take().unwrap_or_else(|| {
            let mut sums = FloatSums::default();
            sums.grow(1);
            sums.add(0, self.high, 1);
            sums.add(0, self.low, 1);
            Box::new(sums)
        });
        change(&mut sums);
        sums.settle(0);
        match sums.pair(0) {
            Some((high, low)) => (self.high, self.low) = (high, low),
            None => self.rest = Some(sums),
        }
    }

    fn combine(&mut self, other: &FloatSum, times: i64) {
        match &other.rest {
            Some(rest) => self.add_slowly(|sums| sums.combine_from(0, rest, 0, times)),
            None => {
                self.add(other.high, times);
                self.add(other.low, times);
            }
        }
    }

    fn add_to(&self, sums: &mut FloatSums, slot: usize) {
        match &self.rest {
            Some(rest) => sums.combine_from(slot, rest, 0, 1),
            None => {
                sums.add(slot, self.high, 1);
                sums.add(slot, self.low, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_parts_are_those_of_the_whole() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut column = FloatSums::default();
            column.grow(1);
            let mut parts = vec![FloatSum::default(); 3];
            for _ in 0..random.usize(..40) {
                let value = match random.u8(..20) {
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2 => f64::NEG_INFINITY,
                    3 => f64::from_bits(random.u64(..)),
                    4 => f64::MAX,
                    _ => random.f64() * 10f64.powi(random.i32(-20..20)),
                };
                let weight = if random.bool() { 1 } else { random.i64(1..9) };
                column.add(0, value, weight);
                parts[random.usize(..3)].add(value, weight);
            }
            let parts: Vec<Amount> = parts.into_iter().map(Amount::Float).collect();
            let mut whole = Amount::new(Algebra::Float);
            parts.iter().for_each(|part| whole.combine(part, 1));
            let mut totals = Totals::new(Algebra::Float);
            totals.grow(1);
            whole.add_to(&mut totals, 0);
            let Totals::Float(sums) = &totals else {
                panic!("floats add up as floats")
            };
            let bits = |sums: &FloatSums| sums.get(0).map(f64::to_bits);
            assert_eq!(bits(sums), bits(&column), "seed {seed}");
            assert!(whole.is_same(&whole.clone()));
            parts.iter().for_each(|part| whole.combine(part, -1));
            assert!(whole.is_same(&Amount::new(Algebra::Float)), "seed {seed}");
        }
    }
}
