//! The words of a pattern for times.

/// How a word is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Title,
    Lower,
}

impl Case {
    pub fn write(self, word: &str) -> String {
        match self {
            Case::Upper => word.to_ascii_uppercase(),
            Case::Lower => word.to_ascii_lowercase(),
            Case::Title => word.to_string(),
        }
    }
}

/// A part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Hour12,
    Hour24,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    /// So many digits of the fraction of a second.
    Fraction(u32),
    SecondOfDay,
    /// AM or PM; with dots.
    Meridiem(Case, bool),
    /// BC or AD; with dots.
    Era(Case, bool),
    /// The last so many digits of the year.
    Year(u32),
    YearWithComma,
    IsoYear(u32),
    MonthName(Case),
    MonthAbbreviation(Case),
    Month,
    MonthRoman(Case),
    DayName(Case),
    DayAbbreviation(Case),
    DayOfYear,
    IsoDayOfYear,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    WeekOfMonth,
    WeekOfYear,
    IsoWeek,
    Century,
    Julian,
    Quarter,
    ZoneName(Case),
    ZoneHours,
    ZoneMinutes,
    ZoneOffset,
}

/// Words that are written in capitals or in small letters, with the same meaning. Of two words that
/// both fit the longer one comes first.
const EITHER_CASE: [(&str, Keyword); 39] = [
    ("Y,YYY", Keyword::YearWithComma),
    ("SSSSS", Keyword::SecondOfDay),
    ("HH24", Keyword::Hour24),
    ("HH12", Keyword::Hour12),
    ("SSSS", Keyword::SecondOfDay),
    ("YYYY", Keyword::Year(4)),
    ("IYYY", Keyword::IsoYear(4)),
    ("IDDD", Keyword::IsoDayOfYear),
    ("FF1", Keyword::Fraction(1)),
    ("FF2", Keyword::Fraction(2)),
    ("FF3", Keyword::Fraction(3)),
    ("FF4", Keyword::Fraction(4)),
    ("FF5", Keyword::Fraction(5)),
    ("FF6", Keyword::Fraction(6)),
    ("YYY", Keyword::Year(3)),
    ("IYY", Keyword::IsoYear(3)),
    ("DDD", Keyword::DayOfYear),
    ("TZH", Keyword::ZoneHours),
    ("TZM", Keyword::ZoneMinutes),
    ("HH", Keyword::Hour12),
    ("MI", Keyword::Minute),
    ("SS", Keyword::Second),
    ("MS", Keyword::Millisecond),
    ("US", Keyword::Microsecond),
    ("YY", Keyword::Year(2)),
    ("IY", Keyword::IsoYear(2)),
    ("MM", Keyword::Month),
    ("DD", Keyword::Day),
    ("ID", Keyword::IsoDayOfWeek),
    ("WW", Keyword::WeekOfYear),
    ("IW", Keyword::IsoWeek),
    ("CC", Keyword::Century),
    ("OF", Keyword::ZoneOffset),
    ("Y", Keyword::Year(1)),
    ("I", Keyword::IsoYear(1)),
    ("D", Keyword::DayOfWeek),
    ("W", Keyword::WeekOfMonth),
    ("J", Keyword::Julian),
    ("Q", Keyword::Quarter),
];

/// Words whose letters say how the result is written. They come before those above.
const NAMES: [(&str, Keyword); 32] = [
    ("MONTH", Keyword::MonthName(Case::Upper)),
    ("Month", Keyword::MonthName(Case::Title)),
    ("month", Keyword::MonthName(Case::Lower)),
    ("A.M.", Keyword::Meridiem(Case::Upper, true)),
    ("P.M.", Keyword::Meridiem(Case::Upper, true)),
    ("a.m.", Keyword::Meridiem(Case::Lower, true)),
    ("p.m.", Keyword::Meridiem(Case::Lower, true)),
    ("A.D.", Keyword::Era(Case::Upper, true)),
    ("B.C.", Keyword::Era(Case::Upper, true)),
    ("a.d.", Keyword::Era(Case::Lower, true)),
    ("b.c.", Keyword::Era(Case::Lower, true)),
    ("MON", Keyword::MonthAbbreviation(Case::Upper)),
    ("Mon", Keyword::MonthAbbreviation(Case::Title)),
    ("mon", Keyword::MonthAbbreviation(Case::Lower)),
    ("DAY", Keyword::DayName(Case::Upper)),
    ("Day", Keyword::DayName(Case::Title)),
    ("day", Keyword::DayName(Case::Lower)),
    ("DY", Keyword::DayAbbreviation(Case::Upper)),
    ("Dy", Keyword::DayAbbreviation(Case::Title)),
    ("dy", Keyword::DayAbbreviation(Case::Lower)),
    ("AM", Keyword::Meridiem(Case::Upper, false)),
    ("PM", Keyword::Meridiem(Case::Upper, false)),
    ("am", Keyword::Meridiem(Case::Lower, false)),
    ("pm", Keyword::Meridiem(Case::Lower, false)),
    ("AD", Keyword::Era(Case::Upper, false)),
    ("BC", Keyword::Era(Case::Upper, false)),
    ("ad", Keyword::Era(Case::Lower, false)),
    ("bc", Keyword::Era(Case::Lower, false)),
    ("RM", Keyword::MonthRoman(Case::Upper)),
    ("rm", Keyword::MonthRoman(Case::Lower)),
    ("TZ", Keyword::ZoneName(Case::Upper)),
    ("tz", Keyword::ZoneName(Case::Lower)),
];

impl Keyword {
    /// The word that the text begins with, and its length.
    pub fn at_start(text: &str) -> Option<(Keyword, usize)> {
        // TZH and TZM begin with TZ, and are no names.
        let is_zone_part = ["TZH", "TZM", "tzh", "tzm"]
            .iter()
            .any(|word| text.starts_with(word));
        let named = NAMES
            .iter()
            .find(|(word, _)| text.starts_with(word) && !(is_zone_part && word.len() == 2));
        let either = || {
            EITHER_CASE.iter().find(|(word, _)| {
                text.get(..word.len())
                    .is_some_and(|start| start == *word || start == word.to_ascii_lowercase())
            })
        };
        named
            .or_else(either)
            .map(|(word, keyword)| (*keyword, word.len()))
    }
}
