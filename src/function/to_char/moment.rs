//! Patterns for points in time and intervals.

use std::fmt::Write;

use arrow::datatypes::IntervalMonthDayNano;

use crate::error::{Error, Result, SqlState};
use crate::function::time::BrokenDown;
use crate::function::to_char::keyword::Keyword;
use crate::types::Zone;
use crate::types::calendar::{MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

const ROMAN: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];

/// Letters that names of months and days are filled up to.
const NAME_WIDTH: usize = 9;
const ROMAN_WIDTH: usize = 4;

/// A pattern that was read.
pub(super) struct MomentPattern(Vec<Piece>);

enum Piece {
    Literal(String),
    Field {
        keyword: Keyword,
        /// FM: without filling up.
        is_short: bool,
        /// TH or th: with the ending of an ordinal.
        ordinal: Option<Ordinal>,
    },
}

#[derive(Clone, Copy)]
enum Ordinal {
    Upper,
    Lower,
}

impl MomentPattern {
    /// # Errors
    /// 0A000 for FX and SP, which mean something to `to_date` only or nothing at all.
    pub fn of_moments(text: &str) -> Result<MomentPattern> {
        parse(text).map(MomentPattern)
    }

    /// # Errors
    /// 22007 for what an interval does not have: a name of a day, an era, a zone.
    pub fn of_intervals(text: &str) -> Result<MomentPattern> {
        let pieces = parse(text)?;
        let of_calendar = |piece: &Piece| match piece {
            Piece::Literal(_) => false,
            Piece::Field { keyword, .. } => matches!(
                keyword,
                Keyword::Era(..)
                    | Keyword::MonthName(_)
                    | Keyword::MonthAbbreviation(_)
                    | Keyword::DayName(_)
                    | Keyword::DayAbbreviation(_)
                    | Keyword::DayOfWeek
                    | Keyword::IsoDayOfWeek
                    | Keyword::ZoneName(_)
                    | Keyword::ZoneHours
                    | Keyword::ZoneMinutes
                    | Keyword::ZoneOffset
                    | Keyword::IsoYear(_)
                    | Keyword::IsoWeek
                    | Keyword::IsoDayOfYear
                    | Keyword::WeekOfMonth
                    | Keyword::WeekOfYear
                    | Keyword::Julian
            ),
        };
        match pieces.iter().any(of_calendar) {
            false => Ok(MomentPattern(pieces)),
            true => Err(Error::new(
                SqlState::INVALID_DATETIME_FORMAT,
                "invalid format specification for an interval value",
            )
            .hint("intervals are not tied to specific calendar dates")),
        }
    }

    pub fn write(&self, fields: &Fields, text: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Field {
                    keyword,
                    is_short,
                    ordinal,
                } => {
                    let start = text.len();
                    fields.write(*keyword, *is_short, text);
                    if let Some(ordinal) = ordinal {
                        let ending = ending(&text[start..], *ordinal);
                        text.push_str(ending);
                    }
                }
            }
        }
    }
}

fn parse(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let literal = |pieces: &mut Vec<Piece>, letter: char| match pieces.last_mut() {
        Some(Piece::Literal(text)) => text.push(letter),
        _ => pieces.push(Piece::Literal(letter.to_string())),
    };
    while let Some(first) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut letters = quoted.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    '"' => break,
                    '\\' => letters
                        .next()
                        .into_iter()
                        .for_each(|l| literal(&mut pieces, l)),
                    other => literal(&mut pieces, other),
                }
            }
            rest = letters.as_str();
            continue;
        }
        if let Some(after) = rest.strip_prefix("\\\"") {
            literal(&mut pieces, '"');
            rest = after;
            continue;
        }
        let (after, is_short) = prefixes(rest)?;
        if let Some((keyword, length)) = Keyword::at_start(after) {
            rest = &after[length..];
            let ordinal = match rest.get(..2) {
                Some("TH") => Some(Ordinal::Upper),
                Some("th") => Some(Ordinal::Lower),
                Some("SP" | "sp") => return Err(unsupported("SP")),
                _ => None,
            };
            if ordinal.is_some() {
                rest = &rest[2..];
            }
            pieces.push(Piece::Field {
                keyword,
                is_short,
                ordinal,
            });
            continue;
        }
        if after.len() < rest.len() {
            // A prefix before nothing.
            rest = after;
            continue;
        }
        literal(&mut pieces, first);
        rest = &rest[first.len_utf8()..];
    }
    Ok(pieces)
}

/// Takes FM and TM; TM changes nothing, names are those of the locale C.
fn prefixes(text: &str) -> Result<(&str, bool)> {
    let mut rest = text;
    let mut is_short = false;
    loop {
        match rest.get(..2) {
            Some("FM" | "fm") => is_short = true,
            Some("TM" | "tm") => {}
            Some("FX" | "fx") => return Err(unsupported("FX")),
            _ => return Ok((rest, is_short)),
        }
        rest = &rest[2..];
    }
}

fn unsupported(word: &str) -> Error {
    Error::unsupported(format!(
        "\"{word}\" is not supported in a pattern of to_char"
    ))
    .hint("leave it out; text that is meant as it stands is put in double quotes")
}

/// The ending of an ordinal number: 1st, 2nd, 3rd, 11th.
fn ending(number: &str, ordinal: Ordinal) -> &'static str {
    let digits = number.trim_end();
    let mut last = digits.bytes().rev();
    let (unit, ten) = (last.next(), last.next());
    let (upper, lower) = match (ten, unit) {
        (Some(b'1'), _) => ("TH", "th"),
        (_, Some(b'1')) => ("ST", "st"),
        (_, Some(b'2')) => ("ND", "nd"),
        (_, Some(b'3')) => ("RD", "rd"),
        _ => ("TH", "th"),
    };
    match ordinal {
        Ordinal::Upper => upper,
        Ordinal::Lower => lower,
    }
}

/// What a pattern takes its parts from.
pub(super) struct Fields {
    /// Astronomical, or years of an interval.
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    day_of_year: i64,
    /// `None` for an interval.
    date: Option<BrokenDown>,
    zone: Option<ZoneFields>,
}

struct ZoneFields {
    name: String,
    offset_seconds: i64,
}

impl Fields {
    pub fn of_moment(moment: i64, zone: Option<Zone>) -> Fields {
        let offset = zone.map(|zone| i64::from(zone.offset_seconds(moment)));
        let local = moment.saturating_add(offset.unwrap_or(0) * MICROS_PER_SECOND);
        let parts = BrokenDown::new(local);
        Fields {
            year: parts.date.year,
            month: parts.date.month,
            day: parts.date.day,
            hour: parts.hour,
            minute: parts.minute,
            second: parts.second,
            micros: parts.micros,
            day_of_year: parts.day_of_year(),
            date: Some(parts),
            zone: zone.zip(offset).map(|(zone, offset_seconds)| ZoneFields {
                name: match zone == Zone::UTC {
                    true => "UTC".to_string(),
                    false => offset_name(offset_seconds),
                },
                offset_seconds,
            }),
        }
    }

    pub fn of_interval(interval: IntervalMonthDayNano) -> Fields {
        let micros = interval.nanoseconds / 1_000;
        let months = i64::from(interval.months);
        Fields {
            year: months / 12,
            month: months % 12,
            day: i64::from(interval.days),
            hour: micros / MICROS_PER_HOUR,
            minute: micros % MICROS_PER_HOUR / MICROS_PER_MINUTE,
            second: micros % MICROS_PER_MINUTE / MICROS_PER_SECOND,
            micros: micros % MICROS_PER_SECOND,
            day_of_year: months * 30 + i64::from(interval.days),
            date: None,
            zone: None,
        }
    }

    fn write(&self, keyword: Keyword, is_short: bool, text: &mut String) {
        let number = |text: &mut String, value: i64, width: usize| {
            // The sign does not take a digit's place.
            let width = match (is_short, value < 0) {
                (true, _) => 0,
                (false, negative) => width + usize::from(negative),
            };
            let _ = write!(text, "{value:0width$}");
        };
        let name = |text: &mut String, name: &str, width: usize| {
            let width = if is_short { 0 } else { width };
            let _ = write!(text, "{name:<width$}");
        };
        match keyword {
            Keyword::Hour12 => {
                let hour = self.hour % 12;
                number(text, if hour == 0 { 12 } else { hour }, 2);
            }
            Keyword::Hour24 => number(text, self.hour, 2),
            Keyword::Minute => number(text, self.minute, 2),
            Keyword::Second => number(text, self.second, 2),
            Keyword::Millisecond => fraction(text, self.micros / 1_000, 3),
            Keyword::Microsecond => fraction(text, self.micros, 6),
            Keyword::Fraction(digits) => {
                let width = usize::try_from(digits).expect("at most six");
                fraction(text, self.micros / 10i64.pow(6 - digits), width);
            }
            Keyword::SecondOfDay => {
                let seconds = self.hour * 3_600 + self.minute * 60 + self.second;
                let _ = write!(text, "{seconds}");
            }
            Keyword::Meridiem(case, has_dots) => {
                let is_afternoon = self.hour.rem_euclid(24) >= 12;
                text.push_str(&case.write(match (is_afternoon, has_dots) {
                    (false, false) => "AM",
                    (false, true) => "A.M.",
                    (true, false) => "PM",
                    (true, true) => "P.M.",
                }));
            }
            Keyword::Era(case, has_dots) => {
                text.push_str(&case.write(match (self.year <= 0, has_dots) {
                    (false, false) => "AD",
                    (false, true) => "A.D.",
                    (true, false) => "BC",
                    (true, true) => "B.C.",
                }));
            }
            Keyword::Year(digits) => {
                number(text, last_digits(self.shown_year(), digits), width(digits))
            }
            Keyword::YearWithComma => {
                let year = self.shown_year();
                let _ = write!(text, "{},{:03}", year / 1_000, year % 1_000);
            }
            Keyword::IsoYear(digits) => {
                let year = self.iso_week().0;
                number(text, last_digits(shown(year), digits), width(digits));
            }
            Keyword::MonthName(case) => name(text, &case.write(self.month_name()), NAME_WIDTH),
            Keyword::MonthAbbreviation(case) => {
                text.push_str(&case.write(&self.month_name()[..3]));
            }
            Keyword::Month => number(text, self.month, 2),
            Keyword::MonthRoman(case) => {
                if self.month != 0 || self.year != 0 {
                    let place = (self.month - 1).rem_euclid(12);
                    let place = usize::try_from(place).expect("below twelve");
                    name(text, &case.write(ROMAN[place]), ROMAN_WIDTH);
                }
            }
            Keyword::DayName(case) => name(text, &case.write(self.day_name()), NAME_WIDTH),
            Keyword::DayAbbreviation(case) => text.push_str(&case.write(&self.day_name()[..3])),
            Keyword::DayOfYear => number(text, self.day_of_year, 3),
            Keyword::IsoDayOfYear => {
                let day = (self.iso_week().1 - 1) * 7 + self.iso_day();
                number(text, day, 3);
            }
            // Days of an interval may be negative; the sign takes a digit's place, as in Postgres.
            Keyword::Day => {
                let width = if is_short { 0 } else { 2 };
                let _ = write!(text, "{:0width$}", self.day);
            }
            Keyword::DayOfWeek => {
                let day = self.date.map_or(0, |date| date.day_of_week());
                let _ = write!(text, "{}", day + 1);
            }
            Keyword::IsoDayOfWeek => {
                let _ = write!(text, "{}", self.iso_day());
            }
            Keyword::WeekOfMonth => {
                let _ = write!(text, "{}", (self.day - 1) / 7 + 1);
            }
            Keyword::WeekOfYear => number(text, (self.day_of_year - 1) / 7 + 1, 2),
            Keyword::IsoWeek => number(text, self.iso_week().1, 2),
            Keyword::Century => match self.date {
                None => number(text, self.year / 100, 2),
                Some(_) if self.year > 0 => number(text, (self.year - 1) / 100 + 1, 2),
                Some(_) => number(text, self.year / 100 - 1, 2),
            },
            Keyword::Julian => {
                let day = self.date.map_or(0, |date| date.julian_day());
                let _ = write!(text, "{day}");
            }
            Keyword::Quarter => {
                if self.month != 0 {
                    let _ = write!(text, "{}", (self.month - 1) / 3 + 1);
                }
            }
            Keyword::ZoneName(case) => {
                if let Some(zone) = &self.zone {
                    text.push_str(&case.write(&zone.name));
                }
            }
            Keyword::ZoneHours => {
                let _ = write!(text, "{}{:02}", self.zone_sign(), self.zone_minutes() / 60);
            }
            Keyword::ZoneMinutes => {
                let _ = write!(text, "{:02}", self.zone_minutes() % 60);
            }
            Keyword::ZoneOffset => {
                let minutes = self.zone_minutes();
                let _ = write!(text, "{}{:02}", self.zone_sign(), minutes / 60);
                if minutes % 60 != 0 {
                    let _ = write!(text, ":{:02}", minutes % 60);
                }
            }
        }
    }

    /// The year without its era.
    fn shown_year(&self) -> i64 {
        match self.date {
            None => self.year,
            Some(_) => shown(self.year),
        }
    }

    fn month_name(&self) -> &'static str {
        let place = (self.month - 1).rem_euclid(12);
        MONTHS[usize::try_from(place).expect("below twelve")]
    }

    fn day_name(&self) -> &'static str {
        let day = self.date.map_or(0, |date| date.day_of_week());
        DAYS[usize::try_from(day).expect("below seven")]
    }

    fn iso_day(&self) -> i64 {
        self.date.map_or(0, |date| date.iso_day_of_week())
    }

    fn iso_week(&self) -> (i64, i64) {
        self.date.map_or((0, 0), |date| date.iso_week())
    }

    fn zone_sign(&self) -> char {
        match &self.zone {
            Some(zone) if zone.offset_seconds < 0 => '-',
            _ => '+',
        }
    }

    fn zone_minutes(&self) -> i64 {
        let seconds = self.zone.as_ref().map_or(0, |zone| zone.offset_seconds);
        seconds.abs() / 60
    }
}

/// What a zone is called whose abbreviation is not known: `+05:30`.
fn offset_name(seconds: i64) -> String {
    let minutes = seconds.abs() / 60;
    let sign = if seconds < 0 { '-' } else { '+' };
    match minutes % 60 {
        0 => format!("{sign}{:02}", minutes / 60),
        rest => format!("{sign}{:02}:{rest:02}", minutes / 60),
    }
}

fn fraction(text: &mut String, value: i64, width: usize) {
    let width = width + usize::from(value < 0);
    let _ = write!(text, "{value:0width$}");
}

fn shown(year: i64) -> i64 {
    match year > 0 {
        true => year,
        false => 1 - year,
    }
}

fn last_digits(year: i64, digits: u32) -> i64 {
    match digits {
        4 => year,
        _ => year % 10i64.pow(digits),
    }
}

fn width(digits: u32) -> usize {
    usize::try_from(digits).expect("at most four")
}
