//! How columns with a value per slot grow: by an eighth.
//!
//! Doubling leaves up to half of the memory of a million groups or sessions unused, and it is
//! counted all the same. An eighth more moves each value nine times at most.

/// Places that are made at least.
const LEAST: usize = 64;

/// Makes a column at least `len` values long; new ones are `value`.
#[inline]
pub fn grow<T: Clone>(column: &mut Vec<T>, len: usize, value: T) {
    if column.len() < len {
        reserve(column, len);
        column.resize(len, value);
    }
}

/// Puts a value behind a column.
#[inline]
pub fn push<T>(column: &mut Vec<T>, value: T) {
    reserve(column, column.len() + 1);
    column.push(value);
}

/// Makes places for `len` values.
#[inline]
pub fn reserve<T>(column: &mut Vec<T>, len: usize) {
    if column.capacity() < len {
        column.reserve_exact(room(len) - column.len());
    }
}

/// The places that a column gets which has to hold `len` values.
pub fn room(len: usize) -> usize {
    len + (len / 8).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_grows_value_by_value_has_an_eighth_to_spare_at_most() {
        let (mut pushed, mut grown) = (Vec::new(), Vec::new());
        let mut moves = 0;
        for value in 0..100_000 {
            let before = pushed.capacity();
            push(&mut pushed, value);
            grow(&mut grown, value + 1, 0);
            moves += usize::from(pushed.capacity() != before);
            for column in [&pushed, &grown] {
                assert_eq!(column.len(), value + 1);
                assert!(column.capacity() <= room(column.len()));
            }
        }
        assert_eq!(pushed[99_999], 99_999);
        assert!(moves < 100, "{moves}");
    }
}
