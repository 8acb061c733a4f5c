//! Where every decision of a generated test comes from: numbers that are drawn, or given.
//!
//! What was drawn is kept. A test that fails is made smaller by leaving numbers out and making
//! others less, and having the same generator read them again: the least number is always the
//! simplest choice, and where numbers end all further ones are the least.

use fastrand::Rng;

/// A sequence of decisions.
pub struct Choices {
    made: Vec<u16>,
    at: usize,
    /// None where the sequence is given.
    random: Option<Rng>,
}

impl Choices {
    /// Drawn at random.
    pub fn drawn(seed: u64) -> Choices {
        Choices {
            made: Vec::new(),
            at: 0,
            random: Some(Rng::with_seed(seed)),
        }
    }

    /// Those of another time.
    pub fn given(made: &[u16]) -> Choices {
        Choices {
            made: made.to_vec(),
            at: 0,
            random: None,
        }
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u16::try_from(end).expect("few choices");
        if self.at == self.made.len() {
            let next = self.random.as_mut().map_or(0, |random| random.u16(..end));
            self.made.push(next);
        }
        let made = self.made[self.at] % end;
        self.at += 1;
        usize::from(made)
    }

    /// True in one case of so many; the simplest choice is false.
    pub fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) + 1 == cases
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// What was decided so far.
    pub fn made(&self) -> &[u16] {
        &self.made[..self.at]
    }
}

/// The smallest sequences that still fail, found by trying smaller ones; `attempts` at most.
pub fn shrunk<const N: usize>(
    mut parts: [Vec<u16>; N],
    mut attempts: usize,
    fails: impl Fn(&[Vec<u16>; N]) -> bool,
) -> [Vec<u16>; N] {
    let mut is_smaller = true;
    while is_smaller {
        is_smaller = false;
        for part in 0..N {
            for change in changes(parts[part].len()) {
                let mut tried = parts.clone();
                if attempts == 0 || !change.apply(&mut tried[part]) {
                    continue;
                }
                attempts -= 1;
                if fails(&tried) {
                    parts = tried;
                    is_smaller = true;
                }
            }
        }
    }
    parts
}

/// A way to make a sequence simpler.
enum Smaller {
    Without { start: usize, length: usize },
    Zero { at: usize },
    Halved { at: usize },
}

fn changes(length: usize) -> Vec<Smaller> {
    let mut changes = Vec::new();
    for size in [64, 32, 16, 8, 4, 2, 1] {
        // From the end: what comes later depends on what was before.
        for start in (0..length).step_by(size).rev() {
            let length = size;
            changes.push(Smaller::Without { start, length });
        }
    }
    changes.extend((0..length).map(|at| Smaller::Zero { at }));
    changes.extend((0..length).map(|at| Smaller::Halved { at }));
    changes
}

impl Smaller {
    /// Whether it changed anything.
    fn apply(&self, made: &mut Vec<u16>) -> bool {
        match *self {
            Smaller::Without { start, length } => {
                let end = (start + length).min(made.len());
                if start >= end {
                    return false;
                }
                made.drain(start..end);
                true
            }
            Smaller::Zero { at } => lower(made, at, 0),
            Smaller::Halved { at } => {
                let half = made.get(at).map_or(0, |value| value / 2);
                half > 0 && lower(made, at, half)
            }
        }
    }
}

fn lower(made: &mut [u16], at: usize, to: u16) -> bool {
    match made.get_mut(at) {
        Some(value) if *value > to => {
            *value = to;
            true
        }
        _ => false,
    }
}

#[test]
fn what_fails_is_made_as_small_as_it_fails() {
    let mut drawn = Choices::drawn(7);
    let numbers: Vec<usize> = (0..200).map(|_| drawn.below(50)).collect();
    assert!(numbers.iter().any(|number| *number > 20));
    let fails = |parts: &[Vec<u16>; 1]| {
        let mut choices = Choices::given(&parts[0]);
        (0..200).any(|_| choices.below(50) > 20)
    };
    let [small] = shrunk([drawn.made().to_vec()], 10_000, fails);
    assert_eq!(small.len(), 1);
    assert!(small[0] > 20 && small[0] < 42, "{small:?}");
}
