//! Windows on the calendar: months, and the days of a time zone.
//!
//! Rule: windows are cut on the zone's wall clock. A bound is the first point in time at which the
//! clocks show it, or, where they skip it, the change itself. So a day on which summer time begins
//! has 23 hours and one on which it ends 25, and windows follow each other without gap or overlap.
//!
//! ```text
//!   TUMBLE 1 day, Europe/Berlin     2026-03-28T23:00Z ── 23 hours ── 2026-03-29T22:00Z
//!   TUMBLE 1 month, offset 1 day    2026-01-02 ── 31 days ── 2026-02-02 ── 28 days ── 2026-03-02
//!   HOP 1 day of 1 month            2026-01-31 ── to the last day ── 2026-02-28
//! ```
//!
//! Months are counted from January 1970, so quarters, years and decades begin where one expects.
//! Days and shorter lengths are counted from 1970-01-01T00:00 on the clock. Steps of CUMULATE that
//! are no whole days are elapsed time from the window's start, the last one cut at its end.

use crate::function::window::windows::Cell;
use crate::types::Zone;
use crate::types::calendar::{Civil, MICROS_PER_DAY, MICROS_PER_SECOND};

/// A length on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    Months(i32),
    Micros(i64),
}

/// TUMBLE, HOP or CUMULATE on the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Calendar {
    /// From one start to the next: HOP's slide, the size of the others.
    pub every: Span,
    pub size: Span,
    /// CUMULATE's step.
    pub step: Option<Span>,
    /// Other than 0 only where `every` is in months.
    pub offset_months: i32,
    pub offset_micros: i64,
    pub zone: Zone,
}

impl Span {
    fn is_positive(self) -> bool {
        match self {
            Span::Months(months) => months > 0,
            Span::Micros(micros) => micros > 0,
        }
    }

    /// The least and the greatest length that it can have.
    fn limits(self) -> (i64, i64) {
        match self {
            Span::Months(months) => {
                let days = |days: i64| i64::from(months).saturating_mul(days * MICROS_PER_DAY);
                // Two days more for the changes of clocks, which a zone may make by a whole day.
                (days(28), days(31).saturating_add(2 * MICROS_PER_DAY))
            }
            Span::Micros(micros) => (micros, micros.saturating_add(2 * MICROS_PER_DAY)),
        }
    }
}

impl Calendar {
    pub fn is_positive(&self) -> bool {
        let spans = [Some(self.every), Some(self.size), self.step];
        spans.into_iter().flatten().all(Span::is_positive)
    }

    /// Whether CUMULATE's steps divide its size.
    pub fn is_stepped_evenly(&self) -> bool {
        match (self.step, self.size) {
            (None, _) => true,
            (Some(Span::Months(step)), Span::Months(size)) => size % step == 0,
            (Some(Span::Micros(step)), Span::Micros(size)) => size % step == 0,
            // Months have whole days.
            (Some(Span::Micros(step)), Span::Months(_)) => MICROS_PER_DAY % step == 0,
            (Some(Span::Months(_)), Span::Micros(_)) => false,
        }
    }

    /// Most windows that one time is in, at least.
    pub fn windows_per_row(&self) -> i64 {
        if self.step.is_none() && self.every == self.size {
            return 1;
        }
        let (least, _) = self.step.unwrap_or(self.every).limits();
        let (_, most) = self.size.limits();
        (most / least).saturating_add(1)
    }

    /// See [`Windows::cell`](crate::function::window::Windows::cell).
    pub fn cell(&self, time: i64) -> Option<Cell> {
        let number = self.number(time)?;
        Some(Cell {
            start: self.start(number)?,
            end: self.end(number)?,
            next: self.start(number + 1).unwrap_or(i64::MAX),
        })
    }

    /// See [`Windows::each`](crate::function::window::Windows::each).
    pub fn each(&self, time: i64, cell: Cell, mut visit: impl FnMut(i64, i64)) {
        let Some(last) = self.number(time) else {
            return;
        };
        if let Some(step) = self.step {
            return self.each_prefix(time, last, (cell.start, cell.end), step, visit);
        }
        for number in self.first_after(time, last)..=last {
            if let (Some(start), Some(end)) = (self.start(number), self.end(number))
                && start <= time
                && time < end
            {
                visit(start, end);
            }
        }
    }

    fn each_prefix(
        &self,
        time: i64,
        number: i64,
        (start, end): (i64, i64),
        step: Span,
        mut visit: impl FnMut(i64, i64),
    ) {
        let mut before = start;
        for count in 1.. {
            let prefix = self.prefix_end(number, start, step, count);
            let prefix = prefix.map_or(end, |prefix| prefix.min(end));
            // Where a zone has skipped a day, two prefixes are one.
            if prefix > time && prefix > before {
                visit(start, prefix);
            }
            before = before.max(prefix);
            if prefix == end {
                return;
            }
        }
    }

    /// Where the prefix of so many steps ends; `None` where it does not fit.
    fn prefix_end(&self, number: i64, start: i64, step: Span, count: i64) -> Option<i64> {
        match step {
            Span::Months(step) => {
                let month = self.first_month(number)?;
                let month = month.checked_add(i64::from(step).checked_mul(count)?)?;
                self.utc(self.month_start(month)?)
            }
            Span::Micros(step) => {
                let length = step.checked_mul(count)?;
                match step % MICROS_PER_DAY == 0 {
                    true => self.utc(self.local_start(number)?.checked_add(length)?),
                    false => start.checked_add(length),
                }
            }
        }
    }

    /// The least start of a window that ends after `time`; `None` where it does not fit.
    pub fn least_start(&self, time: i64) -> Option<i64> {
        let last = self.number(time)?;
        self.start(match self.step {
            Some(_) => last,
            None => self.first_after(time, last),
        })
    }

    /// The number of the first window that ends after `time`; `last` is that of the last one that
    /// begins by then.
    fn first_after(&self, time: i64, last: i64) -> i64 {
        let ends_after = |number: i64| self.end(number).is_some_and(|end| end > time);
        let mut first = last;
        while ends_after(first - 1) {
            first -= 1;
        }
        match first == last && !ends_after(last) {
            true => last + 1,
            false => first,
        }
    }

    /// The number of the last window that begins at or before `time`.
    fn number(&self, time: i64) -> Option<i64> {
        let offset = i64::from(self.zone.offset_seconds(time)) * MICROS_PER_SECOND;
        let local = time.checked_add(offset)?.checked_sub(self.offset_micros)?;
        let mut number = match self.every {
            Span::Micros(every) => local.div_euclid(every),
            Span::Months(every) => {
                (month_of(local) - i64::from(self.offset_months)).div_euclid(i64::from(every))
            }
        };
        // Where clocks are set back over a bound they show times before it after it has been.
        while self.start(number + 1).is_some_and(|next| next <= time) {
            number += 1;
        }
        while self.start(number)? > time {
            number -= 1;
        }
        Some(number)
    }

    fn start(&self, number: i64) -> Option<i64> {
        self.utc(self.local_start(number)?)
    }

    fn end(&self, number: i64) -> Option<i64> {
        let local = match (self.every, self.size) {
            // From month to month, so that windows that follow each other have no gaps.
            (Span::Months(_), Span::Months(size)) => {
                let month = self.first_month(number)?.checked_add(i64::from(size))?;
                self.month_start(month)?
            }
            (Span::Micros(_), Span::Months(size)) => {
                months_later(self.local_start(number)?, i64::from(size))?
            }
            (_, Span::Micros(size)) => self.local_start(number)?.checked_add(size)?,
        };
        self.utc(local)
    }

    fn local_start(&self, number: i64) -> Option<i64> {
        match self.every {
            Span::Micros(every) => number.checked_mul(every)?.checked_add(self.offset_micros),
            Span::Months(_) => self.month_start(self.first_month(number)?),
        }
    }

    /// The month in which the window of this number begins, offset aside.
    fn first_month(&self, number: i64) -> Option<i64> {
        let Span::Months(every) = self.every else {
            return None;
        };
        let month = number.checked_mul(i64::from(every))?;
        month.checked_add(i64::from(self.offset_months))
    }

    /// What the clocks show where a window of this month begins.
    fn month_start(&self, month: i64) -> Option<i64> {
        day_of_month(month, 1)?
            .checked_mul(MICROS_PER_DAY)?
            .checked_add(self.offset_micros)
    }

    fn utc(&self, local: i64) -> Option<i64> {
        self.zone.first_utc(local)
    }
}

/// Months since January 1970 of a time on the clock.
fn month_of(local: i64) -> i64 {
    let civil = Civil::from_days(local.div_euclid(MICROS_PER_DAY));
    (civil.year - 1_970) * 12 + civil.month - 1
}

/// Days since 1970 of a day of a month that is counted from January 1970, or of its last day.
fn day_of_month(month: i64, day: i64) -> Option<i64> {
    // Beyond this no timestamp reaches, and the calendar's arithmetic would not either.
    const MONTHS_MAX: i64 = 12 * 400_000;
    if month.abs() > MONTHS_MAX {
        return None;
    }
    let (year, month) = (1_970 + month.div_euclid(12), month.rem_euclid(12) + 1);
    let exists = |day: &i64| {
        let civil = Civil {
            year,
            month,
            day: *day,
        };
        civil.exists()
    };
    let day = (1..=day).rev().find(exists)?;
    Some(Civil { year, month, day }.to_days())
}

/// So many months later at the same time of day, on the same day or the month's last.
fn months_later(local: i64, months: i64) -> Option<i64> {
    let civil = Civil::from_days(local.div_euclid(MICROS_PER_DAY));
    let days = day_of_month(month_of(local).checked_add(months)?, civil.day)?;
    let time = local.rem_euclid(MICROS_PER_DAY);
    days.checked_mul(MICROS_PER_DAY)?.checked_add(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::window::{WindowKind, Windows};
    use crate::types::event_time;

    const DAY: Span = Span::Micros(MICROS_PER_DAY);
    const HOUR: Span = Span::Micros(MICROS_PER_DAY / 24);

    fn calendar(every: Span, size: Span, zone: &str) -> Calendar {
        Calendar {
            every,
            size,
            step: None,
            offset_months: 0,
            offset_micros: 0,
            zone: Zone::parse(zone).unwrap(),
        }
    }

    fn micros(text: &str) -> i64 {
        event_time::parse(&format!("{text}:00")).unwrap_or_else(|| panic!("{text}"))
    }

    fn shown(micros: i64) -> String {
        let civil = Civil::from_days(micros.div_euclid(MICROS_PER_DAY));
        let minutes = micros.rem_euclid(MICROS_PER_DAY) / 60_000_000;
        let Civil { year, month, day } = civil;
        let (hour, minute) = (minutes / 60, minutes % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }

    /// The windows of a time, both in UTC.
    fn windows(calendar: Calendar, time: &str) -> Vec<String> {
        let windows = Windows::new(WindowKind::Calendar(calendar)).unwrap();
        let time = micros(time);
        let cell = windows.cell(time).unwrap();
        assert!(cell.covers(time));
        let mut found = Vec::new();
        windows.each(time, cell, |start, end| {
            found.push(format!("{} to {}", shown(start), shown(end)));
        });
        found
    }

    #[test]
    fn days_of_a_zone_have_23_or_25_hours() {
        let day = calendar(DAY, DAY, "Europe/Berlin");
        for (time, window) in [
            ("2026-03-28 22:59", "2026-03-27 23:00 to 2026-03-28 23:00"),
            ("2026-03-28 23:00", "2026-03-28 23:00 to 2026-03-29 22:00"),
            ("2026-03-29 21:59", "2026-03-28 23:00 to 2026-03-29 22:00"),
            ("2026-10-24 22:00", "2026-10-24 22:00 to 2026-10-25 23:00"),
            ("2026-10-25 22:59", "2026-10-24 22:00 to 2026-10-25 23:00"),
            ("1969-12-31 23:30", "1969-12-31 23:00 to 1970-01-01 23:00"),
        ] {
            assert_eq!(windows(day, time), [window], "{time}");
        }
    }

    #[test]
    fn months_and_years_are_those_of_the_calendar() {
        let month = calendar(Span::Months(1), Span::Months(1), "UTC");
        let quarter = calendar(Span::Months(3), Span::Months(3), "UTC");
        let fiscal = Calendar {
            offset_months: 3,
            ..calendar(Span::Months(12), Span::Months(12), "UTC")
        };
        let moved = Calendar {
            offset_micros: 30 * MICROS_PER_DAY,
            ..month
        };
        for (calendar, time, window) in [
            (
                month,
                "2024-02-29 23:59",
                "2024-02-01 00:00 to 2024-03-01 00:00",
            ),
            (
                month,
                "0001-01-01 00:00",
                "0001-01-01 00:00 to 0001-02-01 00:00",
            ),
            (
                month,
                "9999-12-31 23:59",
                "9999-12-01 00:00 to 10000-01-01 00:00",
            ),
            (
                month,
                "1969-12-31 23:59",
                "1969-12-01 00:00 to 1970-01-01 00:00",
            ),
            (
                quarter,
                "2026-06-30 23:59",
                "2026-04-01 00:00 to 2026-07-01 00:00",
            ),
            (
                fiscal,
                "2026-03-31 23:59",
                "2025-04-01 00:00 to 2026-04-01 00:00",
            ),
            (
                moved,
                "2026-03-02 00:00",
                "2026-01-31 00:00 to 2026-03-03 00:00",
            ),
            (
                moved,
                "2026-03-03 00:00",
                "2026-03-03 00:00 to 2026-03-31 00:00",
            ),
        ] {
            assert_eq!(windows(calendar, time), [window], "{time}");
        }
        let berlin = calendar(Span::Months(1), Span::Months(1), "Europe/Berlin");
        assert_eq!(
            windows(berlin, "2026-03-31 21:59"),
            ["2026-02-28 23:00 to 2026-03-31 22:00"]
        );
    }

    #[test]
    fn hops_overlap_or_leave_gaps() {
        let three = calendar(Span::Months(1), Span::Months(3), "UTC");
        assert_eq!(
            windows(three, "2026-03-15 00:00"),
            [
                "2026-01-01 00:00 to 2026-04-01 00:00",
                "2026-02-01 00:00 to 2026-05-01 00:00",
                "2026-03-01 00:00 to 2026-06-01 00:00",
            ]
        );
        let first_week = calendar(Span::Months(1), Span::Micros(7 * MICROS_PER_DAY), "UTC");
        assert_eq!(windows(first_week, "2026-03-08 00:00"), [] as [&str; 0]);
        assert_eq!(windows(first_week, "2026-03-07 23:59").len(), 1);
        assert_eq!(
            first_week.least_start(micros("2026-03-08 00:00")),
            Some(micros("2026-04-01 00:00"))
        );
        let month_from_day = calendar(DAY, Span::Months(1), "UTC");
        let found = windows(month_from_day, "2026-02-28 12:00");
        // Those that begin on the last days of January end with the 28th, which they do not hold.
        assert_eq!(found[0], "2026-02-01 00:00 to 2026-03-01 00:00");
        assert_eq!(found.len(), 28);
        let week = calendar(DAY, Span::Micros(7 * MICROS_PER_DAY), "Europe/Berlin");
        assert_eq!(windows(week, "2026-03-29 12:00").len(), 7);
    }

    #[test]
    fn prefixes_of_a_day_are_cut_at_its_end() {
        let day = |step| Calendar {
            step: Some(step),
            ..calendar(DAY, DAY, "Europe/Berlin")
        };
        assert_eq!(windows(day(HOUR), "2026-03-28 23:30").len(), 23);
        assert_eq!(windows(day(HOUR), "2026-10-24 22:30").len(), 25);
        assert_eq!(
            windows(day(Span::Micros(MICROS_PER_DAY / 4)), "2026-03-29 10:30"),
            [
                "2026-03-28 23:00 to 2026-03-29 11:00",
                "2026-03-28 23:00 to 2026-03-29 17:00",
                "2026-03-28 23:00 to 2026-03-29 22:00",
            ]
        );
        let month = Calendar {
            step: Some(DAY),
            ..calendar(Span::Months(1), Span::Months(1), "Europe/Berlin")
        };
        let found = windows(month, "2026-03-29 12:00");
        assert_eq!(
            found,
            [
                "2026-02-28 23:00 to 2026-03-29 22:00",
                "2026-02-28 23:00 to 2026-03-30 22:00",
                "2026-02-28 23:00 to 2026-03-31 22:00",
            ]
        );
        let year = Calendar {
            step: Some(Span::Months(3)),
            ..calendar(Span::Months(12), Span::Months(12), "UTC")
        };
        assert_eq!(windows(year, "2026-08-01 00:00").len(), 2);
    }

    #[test]
    fn every_time_of_odd_zones_is_in_exactly_one_day() {
        // Midnight is skipped, shown twice, or a whole day is missing.
        for (zone, from) in [
            ("America/Sao_Paulo", "2018-11-03 20:00"),
            ("America/Sao_Paulo", "2018-02-17 20:00"),
            ("America/Havana", "2025-11-01 20:00"),
            ("America/Havana", "2025-03-08 20:00"),
            ("Pacific/Apia", "2011-12-29 00:00"),
            ("Australia/Lord_Howe", "2026-04-04 00:00"),
        ] {
            for offset_minutes in [0, 30, 150] {
                let day = Calendar {
                    offset_micros: offset_minutes * 60_000_000,
                    ..calendar(DAY, DAY, zone)
                };
                let mut before: Option<Cell> = None;
                for minutes in (0..4 * 1_440).step_by(10) {
                    let time = micros(from) + minutes * 60_000_000;
                    let cell = day.cell(time).unwrap();
                    assert!(cell.covers(time), "{zone} {}", shown(time));
                    assert_eq!(cell.end, cell.next);
                    if let Some(before) = before.filter(|before| *before != cell) {
                        assert_eq!(before.end, cell.start, "{zone} {}", shown(time));
                    }
                    before = Some(cell);
                }
            }
        }
    }

    #[test]
    fn nothing_near_the_ends_of_time_panics() {
        let spans = [DAY, Span::Months(1), Span::Months(i32::MAX), HOUR];
        for every in spans {
            for size in spans {
                for zone in ["UTC", "Europe/Berlin", "+05:30"] {
                    let calendar = calendar(every, size, zone);
                    if calendar.windows_per_row() > 6_000 {
                        continue;
                    }
                    for time in [i64::MIN, i64::MIN / 2, -1, 0, i64::MAX / 2, i64::MAX] {
                        if let Some(cell) = calendar.cell(time) {
                            calendar.each(time, cell, |start, end| assert!(start < end));
                        }
                        calendar.least_start(time);
                    }
                }
            }
        }
    }
}
