//! CRC-32 of a run from those of its parts, so that it does not matter how a run was cut.

use crc32fast::Hasher;

/// The CRC of two neighbouring parts, from the CRC and the length of each. `(0, 0)` is neutral.
pub fn combine(first: (u32, usize), second: (u32, usize)) -> (u32, usize) {
    // usize is at most 64 bits wide on every target that Rust has.
    let amount = |bytes: usize| u64::try_from(bytes).expect("a length fits 64 bits");
    let mut hasher = Hasher::new_with_initial_len(first.0, amount(first.1));
    hasher.combine(&Hasher::new_with_initial_len(second.0, amount(second.1)));
    (hasher.finalize(), first.1 + second.1)
}
