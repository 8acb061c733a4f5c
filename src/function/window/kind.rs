//! The kinds of windows, as a plan has decided them and EXPLAIN prints them.

use std::fmt;

use crate::function::window::calendar::{Calendar, Span};

/// Which windows there are; lengths in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// One window after the other.
    Tumble {
        size_micros: i64,
        offset_micros: i64,
    },
    /// A window every `slide`, overlapping or with gaps.
    Hop {
        slide_micros: i64,
        size_micros: i64,
        offset_micros: i64,
    },
    /// Windows that begin together, every `size`, and end one `step` after the other.
    Cumulate {
        step_micros: i64,
        size_micros: i64,
        offset_micros: i64,
    },
    /// Any of them on the calendar: lengths in months, or days of a time zone.
    Calendar(Calendar),
}

impl WindowKind {
    /// Whether several windows can hold a row that begin at different times.
    pub fn is_hopping(&self) -> bool {
        match self {
            WindowKind::Hop { .. } => true,
            WindowKind::Tumble { .. } | WindowKind::Cumulate { .. } => false,
            WindowKind::Calendar(calendar) => {
                calendar.step.is_none() && calendar.every != calendar.size
            }
        }
    }

    /// Whether several windows can hold a row that begin at the same time.
    pub fn is_cumulating(&self) -> bool {
        match self {
            WindowKind::Cumulate { .. } => true,
            WindowKind::Tumble { .. } | WindowKind::Hop { .. } => false,
            WindowKind::Calendar(calendar) => calendar.step.is_some(),
        }
    }
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = Span::Micros;
        match *self {
            WindowKind::Tumble {
                size_micros,
                offset_micros,
            } => {
                write!(f, "tumble size {}", micros(size_micros))?;
                write_offset(f, 0, offset_micros)
            }
            WindowKind::Hop {
                slide_micros,
                size_micros,
                offset_micros,
            } => {
                let (slide, size) = (micros(slide_micros), micros(size_micros));
                write!(f, "hop slide {slide} size {size}")?;
                write_offset(f, 0, offset_micros)
            }
            WindowKind::Cumulate {
                step_micros,
                size_micros,
                offset_micros,
            } => {
                let (step, size) = (micros(step_micros), micros(size_micros));
                write!(f, "cumulate step {step} size {size}")?;
                write_offset(f, 0, offset_micros)
            }
            WindowKind::Calendar(calendar) => {
                let (every, size) = (calendar.every, calendar.size);
                match calendar.step {
                    Some(step) => write!(f, "cumulate step {step} size {size}")?,
                    None if every == size => write!(f, "tumble size {size}")?,
                    None => write!(f, "hop slide {every} size {size}")?,
                }
                write_offset(f, calendar.offset_months, calendar.offset_micros)?;
                write!(f, " zone {}", calendar.zone)
            }
        }
    }
}

fn write_offset(f: &mut fmt::Formatter<'_>, months: i32, micros: i64) -> fmt::Result {
    if months != 0 {
        write!(f, " offset {}", Span::Months(months))?;
    }
    if micros != 0 {
        write!(f, " offset {}", Span::Micros(micros))?;
    }
    Ok(())
}

/// In the largest unit that shows it whole.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = match *self {
            Span::Months(months) if months % 12 == 0 => return write!(f, "{} y", months / 12),
            Span::Months(months) => return write!(f, "{months} mon"),
            Span::Micros(micros) => micros,
        };
        let units = [
            (86_400_000_000, "d"),
            (3_600_000_000, "h"),
            (60_000_000, "min"),
            (1_000_000, "s"),
            (1_000, "ms"),
            (1, "us"),
        ];
        let (length, unit) = units
            .into_iter()
            .find(|(length, _)| micros % length == 0)
            .expect("everything is a multiple of a microsecond");
        write!(f, "{} {unit}", micros / length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Zone;

    #[test]
    fn kinds_print_in_the_largest_whole_unit() {
        let kind = WindowKind::Tumble {
            size_micros: 10_000_000,
            offset_micros: 0,
        };
        assert_eq!(kind.to_string(), "tumble size 10 s");
        let kind = WindowKind::Hop {
            slide_micros: 90_000_000,
            size_micros: 86_400_000_000,
            offset_micros: -1_500,
        };
        assert_eq!(kind.to_string(), "hop slide 90 s size 1 d offset -1500 us");
        let kind = WindowKind::Cumulate {
            step_micros: 3_600_000_000,
            size_micros: 86_400_000_000,
            offset_micros: 0,
        };
        assert_eq!(kind.to_string(), "cumulate step 1 h size 1 d");
        let calendar = Calendar {
            every: Span::Months(12),
            size: Span::Months(12),
            step: None,
            offset_months: 3,
            offset_micros: 0,
            zone: Zone::parse("Europe/Berlin").unwrap(),
        };
        assert_eq!(
            WindowKind::Calendar(calendar).to_string(),
            "tumble size 1 y offset 3 mon zone Europe/Berlin"
        );
    }
}
