//! Randomness by number: the same seed, event and purpose always give the same bits.
//!
//! A generator with a state would have to be run from the start to make event n again. Here the
//! bits are a hash of (seed, purpose, n): SplitMix64's finalizer (Steele, Lea and Flood 2014) over
//! a Weyl sequence. Each purpose has a sequence of its own, so that a column does not depend on
//! which other columns are made.

/// The odd number nearest to 2^64 divided by the golden ratio.
const WEYL: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bits for one purpose.
#[derive(Clone, Copy, Debug)]
pub(in crate::connector) struct Draw {
    key: u64,
}

impl Draw {
    /// `purpose` tells apart the draws of one source.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Draw {
            key: mix(mix(seed).wrapping_add(purpose.wrapping_mul(WEYL))),
        }
    }

    /// 64 bits for event `number`.
    #[inline]
    pub fn bits(self, number: u64) -> u64 {
        mix(self.key.wrapping_add(number.wrapping_mul(WEYL)))
    }

    /// The draws of event `number`, where one is not enough.
    #[inline]
    pub fn within(self, number: u64) -> Draw {
        Draw {
            key: self.bits(number),
        }
    }
}

#[inline]
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number below `count`, by the highest bits.
#[inline]
pub(in crate::connector) fn below(bits: u64, count: u64) -> u64 {
    let product = u128::from(bits) * u128::from(count);
    u64::try_from(product >> 64).expect("the upper half of a product of 64-bit numbers")
}

/// A number in 0..1, by the highest 53 bits.
#[inline]
pub(in crate::connector) fn unit(bits: u64) -> f64 {
    // Both are exact: 53 bits are what a double holds.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Appends `count` random letters.
#[inline]
pub(in crate::connector) fn push_letters(draw: Draw, count: usize, out: &mut Vec<u8>) {
    let mut left = count;
    let mut turn = 0;
    while left > 8 {
        out.extend_from_slice(&eight_letters(draw.bits(turn)));
        turn += 1;
        left -= 8;
    }
    out.extend_from_slice(&eight_letters(draw.bits(turn))[..left]);
}

/// Eight letters at once: each byte times 26, of which the high byte is below 26.
#[inline]
fn eight_letters(bits: u64) -> [u8; 8] {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let even = ((bits & EVEN) * 26) >> 8 & EVEN;
    let odd = ((bits >> 8 & EVEN) * 26) & !EVEN;
    ((even | odd) + u64::from_ne_bytes([b'a'; 8])).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_and_differ() {
        let draw = Draw::new(7, 1);
        assert_eq!(draw.bits(5), Draw::new(7, 1).bits(5));
        assert_ne!(draw.bits(5), draw.bits(6));
        assert_ne!(draw.bits(5), Draw::new(7, 2).bits(5));
        assert_ne!(draw.bits(5), Draw::new(8, 1).bits(5));
    }

    #[test]
    fn bounded_draws_are_even() {
        let draw = Draw::new(1, 1);
        let mut counts = [0; 10];
        for number in 0..100_000 {
            counts[usize::try_from(below(draw.bits(number), 10)).unwrap()] += 1;
            assert!((0.0..1.0).contains(&unit(draw.bits(number))));
        }
        assert!(
            counts.iter().all(|&count| (9_500..10_500).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn letters_are_letters() {
        let mut out = Vec::new();
        for count in 0..100 {
            out.clear();
            push_letters(Draw::new(3, 3).within(9), count, &mut out);
            assert_eq!(out.len(), count);
            assert!(out.iter().all(u8::is_ascii_lowercase));
        }
        push_letters(Draw::new(3, 3), 10_000, &mut out);
        assert!((b'a'..=b'z').all(|letter| out.contains(&letter)));
    }
}
