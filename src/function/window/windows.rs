//! The windows of a kind, ready to be asked which of them hold a time.
//!
//! ```text
//!   HOP slide 5, size 10     cell of 12: start 10, next 15, end 20
//!   each(12)                 [5, 15) [10, 20)
//!   CUMULATE step 5, size 10 cell of 12: start 10, next 20, end 20
//!   each(12)                 [10, 15) [10, 20)
//! ```

use crate::base::limits::WINDOWS_PER_ROW_MAX;
use crate::error::{Error, Result, SqlState};
use crate::function::window::calendar::Calendar;
use crate::function::window::kind::WindowKind;

/// The windows of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    shape: Shape,
    per_row: usize,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// `slide` equal to `size` for tumbling ones; `offset` in `0..slide`.
    Fixed {
        slide: i64,
        size: i64,
        offset: i64,
    },
    /// `offset` in `0..size`.
    Cumulate {
        step: i64,
        size: i64,
        offset: i64,
    },
    Calendar(Calendar),
}

/// The latest window that begins at or before a time, the longest of those that begin together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub start: i64,
    pub end: i64,
    /// Where the next one begins: times from `start` up to here have the same cell.
    pub next: i64,
}

impl Cell {
    #[inline]
    pub fn covers(&self, time: i64) -> bool {
        self.start <= time && time < self.next
    }
}

impl Windows {
    /// # Errors
    /// 22023 when a length is not positive, or CUMULATE's size no multiple of its step; 54001 when
    /// a row could be in more windows than [`WINDOWS_PER_ROW_MAX`].
    pub fn new(kind: WindowKind) -> Result<Windows> {
        let (shape, per_row) = match kind {
            WindowKind::Tumble {
                size_micros,
                offset_micros,
            } => fixed(size_micros, size_micros, offset_micros)?,
            WindowKind::Hop {
                slide_micros,
                size_micros,
                offset_micros,
            } => fixed(slide_micros, size_micros, offset_micros)?,
            WindowKind::Cumulate {
                step_micros,
                size_micros,
                offset_micros,
            } => {
                check_positive(step_micros > 0 && size_micros > 0)?;
                check_multiple(size_micros % step_micros == 0)?;
                let shape = Shape::Cumulate {
                    step: step_micros,
                    size: size_micros,
                    offset: offset_micros.rem_euclid(size_micros),
                };
                (shape, size_micros / step_micros)
            }
            WindowKind::Calendar(calendar) => {
                check_positive(calendar.is_positive())?;
                check_multiple(calendar.is_stepped_evenly())?;
                (Shape::Calendar(calendar), calendar.windows_per_row())
            }
        };
        let fits = |&windows: &usize| windows <= WINDOWS_PER_ROW_MAX;
        match usize::try_from(per_row).ok().filter(fits) {
            Some(per_row) => Ok(Windows { shape, per_row }),
            None => {
                let message = format!(
                    "each row would be in {per_row} windows; at most {WINDOWS_PER_ROW_MAX} are \
                     allowed"
                );
                Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, message)
                    .hint("make the slide or step larger or the size smaller"))
            }
        }
    }

    /// Most windows that one time is in.
    pub fn per_row(&self) -> usize {
        self.per_row
    }

    /// `None` when the window, or a bound that it is computed from, does not fit.
    #[inline]
    pub fn cell(&self, time: i64) -> Option<Cell> {
        let (slide, size, offset) = match self.shape {
            Shape::Fixed {
                slide,
                size,
                offset,
            } => (slide, size, offset),
            Shape::Cumulate { size, offset, .. } => (size, size, offset),
            Shape::Calendar(calendar) => return calendar.cell(time),
        };
        let start = time.checked_sub(offset)?.div_euclid(slide);
        // Below the least multiple of the slide the product does not fit.
        let start = start.checked_mul(slide)?.checked_add(offset)?;
        Some(Cell {
            start,
            end: start.checked_add(size)?,
            next: start.saturating_add(slide),
        })
    }

    /// Visits the bounds of every window that holds `time`, rising. `cell` is that of the time.
    #[inline]
    pub fn each(&self, time: i64, cell: Cell, mut visit: impl FnMut(i64, i64)) {
        match self.shape {
            Shape::Fixed { slide, size, .. } => {
                let mut start = first_start(time, cell.start, slide, size);
                while start <= cell.start && within(start, size, time) {
                    visit(start, start + size);
                    match start.checked_add(slide) {
                        Some(next) => start = next,
                        None => return,
                    }
                }
            }
            Shape::Cumulate { step, .. } => {
                let steps = (time - cell.start) / step + 1;
                let mut end = cell.start + steps * step;
                while end < cell.end {
                    visit(cell.start, end);
                    end += step;
                }
                visit(cell.start, cell.end);
            }
            Shape::Calendar(calendar) => calendar.each(time, cell, visit),
        }
    }

    /// The least start of a window that ends after `time`.
    pub fn least_start(&self, time: i64) -> i64 {
        let start = match self.shape {
            Shape::Fixed { size, .. } => return time.saturating_add(1).saturating_sub(size),
            Shape::Cumulate { .. } => self.cell(time).map(|cell| cell.start),
            Shape::Calendar(calendar) => calendar.least_start(time),
        };
        // Near the ends of time a window that does not fit is none, and neither is a later one.
        start.unwrap_or(if time > 0 { i64::MAX } else { i64::MIN })
    }
}

fn fixed(slide: i64, size: i64, offset: i64) -> Result<(Shape, i64)> {
    check_positive(slide > 0 && size > 0)?;
    let shape = Shape::Fixed {
        slide,
        size,
        offset: offset.rem_euclid(slide),
    };
    Ok((shape, 1 + (size - 1) / slide))
}

fn check_positive(is_positive: bool) -> Result<()> {
    let message = "the lengths of a window must be positive";
    let error = || Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
    is_positive.then_some(()).ok_or_else(error)
}

fn check_multiple(is_multiple: bool) -> Result<()> {
    let message = "the size of CUMULATE must be a multiple of its step";
    let error = || {
        Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
            .hint("for example step '1 hour' and size '1 day'")
    };
    is_multiple.then_some(()).ok_or_else(error)
}

/// The earliest start of a window that holds `time`, if any does; `last` is the latest.
fn first_start(time: i64, last: i64, slide: i64, size: i64) -> i64 {
    if slide == size {
        return last;
    }
    // Windows that begin after time - size hold it. What is below the type's range is no window,
    // so the first that fits is the first.
    let into = i128::from(size) - 1 - (i128::from(time) - i128::from(last));
    let before = into.div_euclid(i128::from(slide)).max(0);
    let fits = (i128::from(last) - i128::from(i64::MIN)) / i128::from(slide);
    let first = i128::from(last) - before.min(fits) * i128::from(slide);
    i64::try_from(first).expect("it is between the least value and the last start")
}

/// Whether `time` is in the window of the given start and size.
#[inline]
fn within(start: i64, size: i64, time: i64) -> bool {
    // As unsigned numbers, what is before the start is far beyond every size.
    time.wrapping_sub(start).cast_unsigned() < size.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(kind: WindowKind, time: i64) -> Vec<(i64, i64)> {
        let windows = Windows::new(kind).unwrap();
        let mut found = Vec::new();
        if let Some(cell) = windows.cell(time) {
            assert!(cell.covers(time) || cell.next == i64::MAX);
            windows.each(time, cell, |start, end| found.push((start, end)));
        }
        found
    }

    #[test]
    fn a_time_is_in_every_hop_that_holds_it() {
        for time in -50..50 {
            for (slide, size, offset) in
                [(10, 10, 0), (3, 10, 0), (10, 3, 0), (4, 10, 7), (5, 20, -2)]
            {
                let expected: Vec<_> = (-200..200)
                    .filter(|start| i64::rem_euclid(start - offset, slide) == 0)
                    .filter(|&start| start <= time && time < start + size)
                    .map(|start| (start, start + size))
                    .collect();
                let kind = WindowKind::Hop {
                    slide_micros: slide,
                    size_micros: size,
                    offset_micros: offset,
                };
                assert_eq!(windows(kind, time), expected, "{time} {kind}");
            }
        }
    }

    #[test]
    fn a_time_is_in_every_prefix_that_holds_it() {
        for time in -50..50 {
            for (step, size, offset) in [(10, 10, 0), (2, 10, 0), (1, 7, -3), (5, 15, 4)] {
                let starts = (-200..200).filter(|start| i64::rem_euclid(start - offset, size) == 0);
                let expected: Vec<_> = starts
                    .flat_map(|start| (1..=size / step).map(move |n| (start, start + n * step)))
                    .filter(|&(start, end)| start <= time && time < end)
                    .collect();
                let kind = WindowKind::Cumulate {
                    step_micros: step,
                    size_micros: size,
                    offset_micros: offset,
                };
                assert_eq!(windows(kind, time), expected, "{time} {kind}");
                let after = |start: i64| (start..start + size).any(|end| end >= time);
                let least = Windows::new(kind).unwrap().least_start(time);
                assert!(least <= time && after(least), "{time} {kind}");
            }
        }
    }

    #[test]
    fn a_window_that_does_not_fit_the_type_is_none() {
        for kind in [
            WindowKind::Tumble {
                size_micros: 10,
                offset_micros: 0,
            },
            WindowKind::Cumulate {
                step_micros: 5,
                size_micros: 10,
                offset_micros: 0,
            },
        ] {
            assert_eq!(windows(kind, i64::MAX), []);
            assert_eq!(windows(kind, i64::MIN), []);
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let cumulate = |step_micros, size_micros| {
            let kind = WindowKind::Cumulate {
                step_micros,
                size_micros,
                offset_micros: 0,
            };
            Windows::new(kind).unwrap_err().state().code()
        };
        assert_eq!(cumulate(3, 10), "22023");
        assert_eq!(cumulate(0, 10), "22023");
        assert_eq!(cumulate(1, 1_000_000), "54001");
    }
}
