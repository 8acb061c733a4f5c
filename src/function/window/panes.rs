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

use crate::base::limits::PANES_PER_SLIDE_MAX;
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

    /// Whether a key has no more panes for each of its windows than a row has windows: what rows
    /// gain by panes is not lost by panes that hardly hold two of them.
    ///
    /// A row in n windows costs n updates, or one and two moves of its pane at most. With m panes
    /// that begin with each window, a key takes m times the room.
    pub fn pay(&self) -> bool {
        let per_row = self.size / self.slide;
        self.per_slide() <= per_row.min(PANES_PER_SLIDE_MAX)
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
    #[inline]
    pub fn first_from(&self, time: i64) -> i64 {
        // Only within a slide of the least time does this not fit.
        let past = match time.checked_sub(self.offset) {
            Some(since) => since.rem_euclid(self.slide),
            None => (time.rem_euclid(self.slide) - self.offset).rem_euclid(self.slide),
        };
        match past {
            0 => time,
            past => time.saturating_add(self.slide - past),
        }
    }

    /// The start of the first window that holds the pane which begins at `pane`.
    pub fn first_holding(&self, pane: i64) -> i64 {
        // What would begin below the least time is no window.
        self.first_from(pane.saturating_sub(self.size - self.length))
    }

    /// The starts of the windows that hold the pane which begins at `pane`, rising, from the one
    /// that begins at `first` or the first that does later.
    pub fn holding_from(&self, pane: i64, first: i64) -> impl Iterator<Item = i64> + use<> {
        let slide = self.slide;
        let first = self.first_holding(pane).max(first);
        let later = move |start: &i64| start.checked_add(slide);
        std::iter::successors(Some(first), later).take_while(move |start| *start <= pane)
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
                let held: Vec<i64> = panes.holding_from(pane, i64::MIN).collect();
                assert_eq!(held, starts, "{kind} {time}");
                let last = starts[starts.len() - 1];
                assert!(panes.holding_from(pane, last).eq([last]));
                assert_eq!(panes.holding_from(pane, last + slide).next(), None);
                let open = panes.first_open(time);
                assert!(open + size > time && open + size - slide <= time, "{kind}");
            }
        }
    }

    #[test]
    fn panes_pay_where_a_row_is_in_more_windows_than_a_window_has_new_panes() {
        let pay = |slide, size| Panes::of(hop(slide, size, 0)).unwrap().pay();
        assert!(pay(5, 10) && pay(1, 60) && pay(4, 10) && pay(3, 10));
        // Eight panes of a second in each window, and hardly a row is in two windows.
        assert!(!pay(7, 8) && !pay(60, 90) && !pay(6, 8));
        assert!(pay(7, 60) && pay(8, 65) && !pay(9, 100), "at most eight");
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
