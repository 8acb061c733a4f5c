//! Types and values of generated tables, and how they are written.

use chrono::{DateTime, Days, NaiveDate};

use super::choice::Choices;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    BigInt,
    Integer,
    Text,
    Boolean,
    Numeric,
    Double,
    Date,
    Timestamp,
    Timestamptz,
}

pub const TYPES: [Type; 9] = [
    Type::BigInt,
    Type::Integer,
    Type::Text,
    Type::Boolean,
    Type::Numeric,
    Type::Double,
    Type::Date,
    Type::Timestamp,
    Type::Timestamptz,
];

impl Type {
    pub fn sql(self) -> &'static str {
        match self {
            Type::BigInt => "bigint",
            Type::Integer => "integer",
            Type::Text => "text",
            Type::Boolean => "boolean",
            Type::Numeric => "numeric(20, 2)",
            Type::Double => "double precision",
            Type::Date => "date",
            Type::Timestamp => "timestamp",
            Type::Timestamptz => "timestamptz",
        }
    }

    /// What columns of the type are called.
    pub fn letter(self) -> &'static str {
        match self {
            Type::BigInt => "n",
            Type::Integer => "i",
            Type::Text => "s",
            Type::Boolean => "b",
            Type::Numeric => "d",
            Type::Double => "f",
            Type::Date => "e",
            Type::Timestamp => "w",
            Type::Timestamptz => "z",
        }
    }

    pub fn is_number(self) -> bool {
        matches!(
            self,
            Type::BigInt | Type::Integer | Type::Numeric | Type::Double
        )
    }

    pub fn is_integer(self) -> bool {
        matches!(self, Type::BigInt | Type::Integer)
    }

    /// The magnitude up to which values are computed with.
    pub fn limit(self) -> i128 {
        match self {
            Type::Integer => i128::from(i32::MAX),
            Type::BigInt => i128::from(i64::MAX),
            Type::Numeric => 10i128.pow(15),
            _ => 1 << 40,
        }
    }
}

/// A value of a generated row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    /// In hundredths.
    Numeric(i64),
    Double(f64),
    Text(&'static str),
    Boolean(bool),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970.
    Time(i64),
}

/// Few, so that they meet. Sums of the numbers are exact in any order.
const DOUBLES: [f64; 8] = [0.0, 1.5, -0.0, -2.25, 1.0, 0.5, 3.0, -7.5];
const WILD_DOUBLES: [f64; 9] = [
    0.0,
    -0.0,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1e300,
    -1e300,
    0.1,
    5e-324,
];
const TEXTS: [&str; 6] = ["a", "b", "", "ab", "A", "7"];
const WILD_TEXTS: [&str; 7] = [
    "a",
    "",
    " ",
    "ä",
    "it's",
    "a%_\\",
    "longer than what is kept inline",
];
/// Around the days on which Berlin changes its clocks, and a leap day.
const DAYS: [i32; 6] = [19_812, 19_813, 0, 19_782, 20_022, -1];
/// From the year 1 to 9999.
const WILD_DAYS: [i32; 4] = [0, -719_162, 2_932_896, -1];
const DAY: i64 = 86_400_000_000;
const TIMES: [i64; 6] = [
    19_813 * DAY,
    19_813 * DAY + 3_600_000_000,
    0,
    -1,
    20_022 * DAY + 5_400_000_000,
    19_782 * DAY + 123_456,
];
const WILD_TIMES: [i64; 4] = [0, -719_162 * DAY, 2_932_897 * DAY - 1, 1];

impl Value {
    /// A value of the type that is not NULL. Wild ones are those at the ends of the type.
    pub fn drawn(choices: &mut Choices, of: Type, is_wild: bool) -> Value {
        match of {
            Type::BigInt | Type::Integer => {
                let (least, most) = match of {
                    Type::Integer => (i64::from(i32::MIN), i64::from(i32::MAX)),
                    _ => (i64::MIN, i64::MAX),
                };
                let wild = [0, least, most, -1, most - 1];
                Value::Integer(match is_wild {
                    true => *choices.pick(&wild),
                    false => *choices.pick(&[1, 2, 0, 3, -1, 7]),
                })
            }
            Type::Numeric => Value::Numeric(match is_wild {
                true => *choices.pick(&[0, 1, -1, 999_999_999_999_999_999, -999_999_999_999]),
                false => *choices.pick(&[100, 0, 150, -225, 10, 700]),
            }),
            Type::Double => Value::Double(match is_wild {
                true => *choices.pick(&WILD_DOUBLES),
                false => *choices.pick(&DOUBLES),
            }),
            Type::Text => Value::Text(match is_wild {
                true => choices.pick::<&str>(&WILD_TEXTS),
                false => choices.pick::<&str>(&TEXTS),
            }),
            Type::Boolean => Value::Boolean(choices.below(2) == 1),
            Type::Date => Value::Date(match is_wild {
                true => *choices.pick(&WILD_DAYS),
                false => *choices.pick(&DAYS),
            }),
            Type::Timestamp | Type::Timestamptz => Value::Time(match is_wild {
                true => *choices.pick(&WILD_TIMES),
                false => *choices.pick(&TIMES),
            }),
        }
    }

    /// The value as a constant of its type.
    pub fn literal(&self, of: Type) -> String {
        let name = of.sql();
        match self {
            Value::Null => format!("NULL::{name}"),
            Value::Integer(value) => format!("'{value}'::{name}"),
            Value::Numeric(value) => {
                let sign = if *value < 0 { "-" } else { "" };
                let value = value.unsigned_abs();
                format!("'{sign}{}.{:02}'::{name}", value / 100, value % 100)
            }
            Value::Double(value) if value.is_infinite() => {
                let sign = if *value < 0.0 { "-" } else { "" };
                format!("'{sign}Infinity'::{name}")
            }
            Value::Double(value) => format!("'{value:?}'::{name}"),
            Value::Text(value) => format!("'{}'::text", value.replace('\'', "''")),
            Value::Boolean(value) => value.to_string(),
            Value::Date(days) => {
                let first = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
                let distance = Days::new(u64::from(days.unsigned_abs()));
                let date = match *days < 0 {
                    true => first.checked_sub_days(distance),
                    false => first.checked_add_days(distance),
                };
                format!("'{}'::date", date.expect("years 1 to 9999"))
            }
            Value::Time(micros) => {
                let time = DateTime::from_timestamp_micros(*micros).expect("years 1 to 9999");
                let zone = if of == Type::Timestamptz { "+00" } else { "" };
                format!("'{}{zone}'::{name}", time.format("%Y-%m-%d %H:%M:%S%.6f"))
            }
        }
    }
}
