//! Panes: the pieces that overlapping windows of HOP have in common.
//!
//! ```text
//!   HOP slide 4, size 10     |---------|            [0, 10)   panes 0 2 4 6 8
//!                                |---------|        [4, 14)         4 6 8 10 12
//!   panes of 2               | | | | | | | |
//! ```
//!
//! A pane is as long as the greatest length that divides slide and size, so that every window
//! consists of whole panes and all times of a pane are in the same windows.

use crate::function::window::kind::WindowKind;

/// The panes of HOP's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panes {
    slide: i64,
    size: i64,
    /// In `0..slide`.
    offset: i64,
    length: i64,
}

impl Panes {
    /// `None` for windows that do not overlap, or whose lengths are not fixed.
    pub fn of(kind: WindowKind) -> Option<Panes> {
        let WindowKind::Hop {
            slide_micros: slide,
            size_micros: size,
            offset_micros: offset,
        } = kind
        else {
            return None;
        };
        (0 < slide && slide < size).then(|| Panes {
            slide,
            size,
            offset: offset.rem_euclid(slide),
            length: greatest_divisor(slide, size),
        })
    }

    /// How long a pane is, microseconds.
    pub fn length(&self) -> i64 {
        self.length
    }

    /// From the start of one window to that of the next.
    pub fn slide(&self) -> i64 {
        self.slide
    }

    pub fn size(&self) -> i64 {
        self.size
    }

    /// How many panes come in with each window.
    pub fn per_slide(&self) -> i64 {
        self.slide / self.length
    }

    /// The panes as windows.
    pub fn as_windows(&self) -> WindowKind {
        WindowKind::Tumble {
            size_micros: self.length,
            offset_micros: self.offset,
        }
    }

    /// The windows.
    pub fn windows(&self) -> WindowKind {
        WindowKind::Hop {
            slide_micros: self.slide,
            size_micros: self.size,
            offset_micros: self.offset,
        }
    }

    /// The start of the first window that begins at a time or later; the greatest time where that
    /// does not fit.
    pub fn first_from(&self, time: i64) -> i64 {
        let time = i128::from(time);
        let slide = i128::from(self.slide);
        let past = (time - i128::from(self.offset)).rem_euclid(slide);
        let start = match past {
            0 => time,
            past => time - past + slide,
        };
        i64::try_from(start).unwrap_or(i64::MAX)
    }

    /// The start of the first window that holds the pane which begins at `pane`.
    pub fn first_holding(&self, pane: i64) -> i64 {
        // What would begin below the least time is no window.
        self.first_from(pane.saturating_sub(self.size - self.length))
    }

    /// The start of the first window that has not ended at a watermark.
    pub fn first_open(&self, watermark: i64) -> i64 {
        let past = i128::from(watermark) + 1 - i128::from(self.size);
        self.first_from(i64::try_from(past).unwrap_or(i64::MIN))
    }
}

fn greatest_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::window::Windows;

    fn hop(slide_micros: i64, size_micros: i64, offset_micros: i64) -> WindowKind {
        WindowKind::Hop {
            slide_micros,
            size_micros,
            offset_micros,
        }
    }

    #[test]
    fn a_window_is_whole_panes_and_a_pane_is_in_the_windows_of_its_times() {
        for (slide, size, offset) in [(2, 10, 0), (4, 10, 0), (3, 10, -2), (5, 15, 7), (6, 8, 1)] {
            let kind = hop(slide, size, offset);
            let panes = Panes::of(kind).unwrap();
            let windows = Windows::new(kind).unwrap();
            let of_panes = Windows::new(panes.as_windows()).unwrap();
            for time in -40..40 {
                let pane = of_panes.cell(time).unwrap().start;
                let mut starts = Vec::new();
                let cell = windows.cell(time).unwrap();
                windows.each(time, cell, |start, end| {
                    assert!(start <= pane && pane + panes.length() <= end);
                    starts.push(start);
                });
                assert_eq!(panes.first_holding(pane), starts[0], "{kind} {time}");
                let open = panes.first_open(time);
                assert!(open + size > time && open + size - slide <= time, "{kind}");
            }
        }
    }

    #[test]
    fn only_windows_that_overlap_have_panes() {
        assert_eq!(Panes::of(hop(10, 10, 0)), None);
        assert_eq!(Panes::of(hop(10, 3, 0)), None);
        assert_eq!(Panes::of(hop(60, 90, 0)).unwrap().length(), 30);
        let tumble = WindowKind::Tumble {
            size_micros: 10,
            offset_micros: 0,
        };
        assert_eq!(Panes::of(tumble), None);
    }

    #[test]
    fn the_ends_of_time_are_kept() {
        let panes = Panes::of(hop(4, 10, 1)).unwrap();
        assert_eq!(panes.first_from(i64::MAX), i64::MAX);
        assert!(panes.first_holding(i64::MIN) < i64::MIN + 4);
        assert!(panes.first_open(i64::MIN) < i64::MIN + 4);
    }
}
