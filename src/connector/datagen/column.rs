//! How a column's values are made up.
//!
//! | type | kind by default | random values by default |
//! | --- | --- | --- |
//! | smallint, integer, bigint, numeric | random | 0 to 999, or what a narrow numeric holds |
//! | real, double precision | random | 0 to 1, of 2^53 steps |
//! | boolean, uuid | random (only) | any |
//! | text, varchar, bytea | random | 10 letters or bytes |
//! | date, timestamp, timestamptz | sequence from `start_time` by `event_rate` | a year on |
//! | time | random | any microsecond of the day |
//!
//! A sequence of numbers (or of texts, their digits) is `start + n` for row n.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;

use crate::base::limits::DATAGEN_LENGTH_MAX;
use crate::connector::generator::draw::{Draw, below, push_letters, unit};
use crate::connector::generator::options::Options;
use crate::error::{Error, Result};
use crate::types::SqlType;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// How a sequence of times moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub start_micros: i64,
    /// Rows in a second; at least 1.
    pub rate: u64,
}

impl Times {
    fn at(self, number: u64) -> i64 {
        let micros = (number / self.rate).saturating_mul(1_000_000)
            + number % self.rate * 1_000_000 / self.rate;
        self.start_micros.saturating_add_unsigned(micros)
    }
}

/// A column and its rule.
#[derive(Debug)]
pub(super) struct ColumnRule {
    field: FieldRef,
    draw: Draw,
    /// Random values are the function of a number below this instead of the row's.
    distinct: Option<u64>,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Boolean,
    /// Whole numbers, days and microseconds from the range.
    Whole(RangeInclusive<i64>),
    /// `start + n`, starting over behind the end.
    Sequence(RangeInclusive<i64>),
    /// A sequence times 10^scale: numeric columns.
    ScaledSequence(RangeInclusive<i64>, u32),
    Double(RangeInclusive<f64>),
    /// Event time: micros of a row, in days where the column is a date.
    Times(Times),
    Uuid,
    Letters(usize),
    Bytes(usize),
    Digits(RangeInclusive<i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Random,
    Sequence,
}

/// The options of one column.
struct FieldOptions<'a> {
    field: &'a Field,
    options: &'a mut Options,
}

impl FieldOptions<'_> {
    fn name(&self, option: &str) -> String {
        format!("fields.{}.{option}", self.field.name().to_lowercase())
    }

    fn parsed<T: FromStr>(&mut self, option: &str, kind: &str) -> Result<Option<T>> {
        let name = self.name(option);
        self.options.parsed(&name, kind)
    }

    fn kind(&mut self, default: Kind) -> Result<Kind> {
        let name = self.name("kind");
        match self.options.text(&name) {
            None => Ok(default),
            Some(value) => match value.trim().to_ascii_lowercase().as_str() {
                "random" => Ok(Kind::Random),
                "sequence" => Ok(Kind::Sequence),
                _ => Err(self.options.bad(&name, &value, "'random' or 'sequence'")),
            },
        }
    }

    /// Two options as a range, within `limits`, `default` where they are not set.
    fn whole(
        &mut self,
        names: [&str; 2],
        default: RangeInclusive<i64>,
        limits: &RangeInclusive<i64>,
    ) -> Result<RangeInclusive<i64>> {
        let kind = format!("a whole number from {} to {}", limits.start(), limits.end());
        let mut bounds = [*default.start(), *default.end()];
        for (bound, option) in bounds.iter_mut().zip(names) {
            let Some(value) = self.parsed(option, &kind)? else {
                continue;
            };
            if !limits.contains(&value) {
                return Err(self
                    .options
                    .bad(&self.name(option), &value.to_string(), &kind));
            }
            *bound = value;
        }
        if bounds[0] > bounds[1] {
            let (high, low) = (self.name(names[1]), self.name(names[0]));
            return Err(self.options.bad(
                &high,
                &bounds[1].to_string(),
                &format!("not below {low}"),
            ));
        }
        Ok(bounds[0]..=bounds[1])
    }

    fn double(&mut self) -> Result<RangeInclusive<f64>> {
        let min = self.parsed("min", "a number")?.unwrap_or(0.0);
        let max = self
            .parsed("max", "a number")?
            .unwrap_or(f64::max(min, 1.0));
        if min <= max && f64::is_finite(max - min) {
            return Ok(min..=max);
        }
        Err(self.options.bad(
            &self.name("max"),
            &max.to_string(),
            "finite and not below the min",
        ))
    }

    fn length(&mut self) -> Result<usize> {
        let kind = format!("a whole number from 0 to {DATAGEN_LENGTH_MAX}");
        let length = self.parsed("length", &kind)?.unwrap_or(10);
        if length > DATAGEN_LENGTH_MAX {
            return Err(self
                .options
                .bad(&self.name("length"), &length.to_string(), &kind));
        }
        usize::try_from(length).map_err(|_| Error::internal("a length above the machine's words"))
    }

    /// Random numbers from 0 to 999 within the limits, or a sequence from 0 to the type's end.
    fn number(&mut self, limits: RangeInclusive<i64>) -> Result<Rule> {
        match self.kind(Kind::Random)? {
            Kind::Random => {
                let default = 0..=999.min(*limits.end());
                self.whole(["min", "max"], default, &limits)
                    .map(Rule::Whole)
            }
            Kind::Sequence => {
                let default = 0..=*limits.end();
                self.whole(["start", "end"], default, &limits)
                    .map(Rule::Sequence)
            }
        }
    }

    fn time(&mut self, times: Times) -> Result<Rule> {
        match self.kind(Kind::Sequence)? {
            Kind::Sequence => Ok(Rule::Times(times)),
            Kind::Random => {
                let mut bounds = [
                    times.start_micros,
                    times.start_micros + 365 * MICROS_PER_DAY,
                ];
                for (bound, option) in bounds.iter_mut().zip(["min", "max"]) {
                    let name = self.name(option);
                    *bound = self.options.time(&name)?.unwrap_or(*bound);
                }
                if bounds[0] > bounds[1] {
                    let value = bounds[1].to_string();
                    return Err(self
                        .options
                        .bad(&self.name("max"), &value, "not before the min"));
                }
                Ok(Rule::Whole(bounds[0]..=bounds[1]))
            }
        }
    }

    fn rule(&mut self, times: Times) -> Result<Rule> {
        let sql_type = SqlType::of(self.field)?;
        match sql_type {
            SqlType::Boolean => Ok(Rule::Boolean),
            SqlType::SmallInt => self.number(i16::MIN.into()..=i16::MAX.into()),
            SqlType::Integer => self.number(i32::MIN.into()..=i32::MAX.into()),
            SqlType::BigInt => self.number(i64::MIN..=i64::MAX),
            SqlType::Numeric { precision, scale } => {
                self.numeric(precision, u32::try_from(scale).unwrap_or(0))
            }
            SqlType::Real | SqlType::DoublePrecision => self.double().map(Rule::Double),
            SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz => self.time(times),
            SqlType::Time => Ok(Rule::Whole(0..=MICROS_PER_DAY - 1)),
            SqlType::Uuid => Ok(Rule::Uuid),
            SqlType::Bytea => self.length().map(Rule::Bytes),
            SqlType::Text | SqlType::Varchar(_) => match self.kind(Kind::Random)? {
                Kind::Random => self.length().map(Rule::Letters),
                Kind::Sequence => {
                    let limits = 0..=i64::MAX;
                    self.whole(["start", "end"], limits.clone(), &limits)
                        .map(Rule::Digits)
                }
            },
            SqlType::Interval | SqlType::Jsonb | SqlType::Array(_) | SqlType::Struct(_) => {
                let name = self.field.name();
                Err(Error::unsupported(format!(
                    "column \"{name}\": connector datagen has no values of type {sql_type}"
                ))
                .hint("leave the column out, and compute it from others in a view"))
            }
        }
    }

    /// Whole numbers before the point as far as the precision has room; any digits behind it.
    fn numeric(&mut self, precision: u8, scale: u32) -> Result<Rule> {
        /// Numerics are made of 64-bit numbers.
        const DIGITS_MAX: u32 = 18;
        let places = u32::from(precision)
            .min(DIGITS_MAX)
            .saturating_sub(scale.min(DIGITS_MAX));
        let limit = 10_i64.pow(places) - 1;
        match self.number(-limit..=limit)? {
            Rule::Whole(range) => {
                let one = 10_i64.pow(scale.min(DIGITS_MAX));
                Ok(Rule::Whole(range.start() * one..=range.end() * one))
            }
            Rule::Sequence(range) => Ok(Rule::ScaledSequence(range, scale)),
            rule => Ok(rule),
        }
    }
}

impl ColumnRule {
    /// The rule of a column by its type and its options; `purpose` tells apart the columns' draws.
    ///
    /// # Errors
    /// 22023 for bad options, 0A000 for types that are not made up.
    pub fn new(
        field: &Field,
        options: &mut Options,
        seed: u64,
        purpose: u64,
        times: Times,
    ) -> Result<ColumnRule> {
        let mut field_options = FieldOptions { field, options };
        let rule = field_options.rule(times)?;
        let seed = field_options
            .parsed("seed", "a whole number")?
            .unwrap_or(seed);
        let distinct = field_options.name("distinct");
        let distinct = options.count(&distinct, u64::MAX)?;
        if let (SqlType::Varchar(Some(limit)), Rule::Letters(length)) = (SqlType::of(field)?, &rule)
            && u64::from(limit) < u64::try_from(*length).unwrap_or(u64::MAX)
        {
            let name = format!("fields.{}.length", field.name().to_lowercase());
            return Err(options.bad(&name, &length.to_string(), &format!("at most {limit}")));
        }
        Ok(ColumnRule {
            field: Arc::new(field.clone()),
            draw: Draw::new(seed, purpose),
            distinct,
            rule,
        })
    }

    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    /// The values of the rows with these numbers.
    ///
    /// # Errors
    /// Internal ones only.
    pub fn make(&self, numbers: &[u64]) -> Result<ArrayRef> {
        self.array(numbers).map_err(|error| {
            Error::internal(format!("made-up column \"{}\": {error}", self.field.name()))
        })
    }

    fn array(&self, numbers: &[u64]) -> Result<ArrayRef, ArrowError> {
        let bits = || numbers.iter().map(|&number| self.bits(number));
        match &self.rule {
            Rule::Boolean => Ok(Arc::new(BooleanArray::from_iter(
                bits().map(|bits| Some(bits >> 63 == 1)),
            ))),
            Rule::Whole(range) => self.whole(bits().map(|bits| within(bits, range)).collect()),
            Rule::Sequence(range) => self.whole(
                numbers
                    .iter()
                    .map(|&number| in_sequence(number, range))
                    .collect(),
            ),
            Rule::ScaledSequence(range, scale) => {
                let one = 10_i128.pow(*scale);
                let values = numbers
                    .iter()
                    .map(|&n| i128::from(in_sequence(n, range)) * one);
                self.decimal(values.collect())
            }
            Rule::Double(range) => {
                let (min, span) = (*range.start(), range.end() - range.start());
                let values = bits().map(|bits| min + span * unit(bits));
                Ok(match self.field.data_type() {
                    // To the nearest single is what a real column is.
                    DataType::Float32 => Arc::new(Float32Array::from_iter_values(
                        values.map(|value| value as f32),
                    )),
                    _ => Arc::new(Float64Array::from_iter_values(values)),
                })
            }
            Rule::Times(times) => {
                self.whole(numbers.iter().map(|&number| times.at(number)).collect())
            }
            Rule::Uuid => {
                let mut bytes = Vec::with_capacity(numbers.len() * 16);
                for bits in bits() {
                    push_uuid(bits, &mut bytes);
                }
                Ok(Arc::new(FixedSizeBinaryArray::try_new(
                    16,
                    Buffer::from_vec(bytes),
                    None,
                )?))
            }
            Rule::Letters(length) => self.texts(numbers, *length, |bits, out| {
                push_letters(Draw::new(bits, 0), *length, out);
            }),
            Rule::Bytes(length) => self.texts(numbers, *length, |bits, out| {
                push_random(bits, *length, out)
            }),
            Rule::Digits(range) => {
                let values = numbers
                    .iter()
                    .map(|&number| in_sequence(number, range).to_string());
                Ok(Arc::new(StringArray::from_iter_values(values)))
            }
        }
    }

    /// The random bits of a row.
    #[inline]
    fn bits(&self, number: u64) -> u64 {
        match self.distinct {
            None => self.draw.bits(number),
            Some(distinct) => self
                .draw
                .within(0)
                .bits(below(self.draw.bits(number), distinct)),
        }
    }

    /// Numbers of 64 bits as the column's type; they are within its bounds.
    fn whole(&self, values: Vec<i64>) -> Result<ArrayRef, ArrowError> {
        let outside = |_| ArrowError::ComputeError("a value outside of its bounds".to_string());
        Ok(match self.field.data_type() {
            DataType::Int16 => {
                let values = values
                    .into_iter()
                    .map(i16::try_from)
                    .collect::<Result<Vec<_>, _>>();
                Arc::new(Int16Array::from(values.map_err(outside)?))
            }
            DataType::Int32 => {
                let values = values
                    .into_iter()
                    .map(i32::try_from)
                    .collect::<Result<Vec<_>, _>>();
                Arc::new(Int32Array::from(values.map_err(outside)?))
            }
            DataType::Date32 => {
                let days = values
                    .into_iter()
                    .map(|micros| micros.div_euclid(MICROS_PER_DAY));
                let days = days.map(i32::try_from).collect::<Result<Vec<_>, _>>();
                Arc::new(Date32Array::from(days.map_err(outside)?))
            }
            DataType::Time64(_) => Arc::new(Time64MicrosecondArray::from(values)),
            DataType::Timestamp(_, zone) => {
                Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone.clone()))
            }
            DataType::Decimal128(_, _) => {
                return self.decimal(values.into_iter().map(i128::from).collect());
            }
            _ => Arc::new(Int64Array::from(values)),
        })
    }

    fn decimal(&self, values: Vec<i128>) -> Result<ArrayRef, ArrowError> {
        let array = Decimal128Array::from(values).with_data_type(self.field.data_type().clone());
        Ok(Arc::new(array))
    }

    fn texts(
        &self,
        numbers: &[u64],
        length: usize,
        push: impl Fn(u64, &mut Vec<u8>),
    ) -> Result<ArrayRef, ArrowError> {
        let mut data = Vec::with_capacity(numbers.len() * length);
        let mut offsets = Vec::with_capacity(numbers.len() + 1);
        offsets.push(0);
        for &number in numbers {
            push(self.bits(number), &mut data);
            let end = i32::try_from(data.len());
            offsets.push(end.expect("a chunk of texts of bounded length is below 2 GiB"));
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let data = Buffer::from_vec(data);
        Ok(match self.field.data_type() {
            DataType::Binary => Arc::new(BinaryArray::try_new(offsets, data, None)?),
            _ => Arc::new(StringArray::try_new(offsets, data, None)?),
        })
    }
}

/// A number of the range, each as likely as the others.
fn within(bits: u64, range: &RangeInclusive<i64>) -> i64 {
    let span = range.end().wrapping_sub(*range.start()).cast_unsigned();
    match span.checked_add(1) {
        None => bits.cast_signed(),
        Some(count) => range.start().wrapping_add_unsigned(below(bits, count)),
    }
}

fn in_sequence(number: u64, range: &RangeInclusive<i64>) -> i64 {
    let span = range.end().wrapping_sub(*range.start()).cast_unsigned();
    let place = span.checked_add(1).map_or(number, |count| number % count);
    range.start().wrapping_add_unsigned(place)
}

/// A version 4 uuid.
fn push_uuid(bits: u64, out: &mut Vec<u8>) {
    let draw = Draw::new(bits, 0);
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&draw.bits(0).to_be_bytes());
    uuid[8..].copy_from_slice(&draw.bits(1).to_be_bytes());
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    out.extend_from_slice(&uuid);
}

fn push_random(bits: u64, length: usize, out: &mut Vec<u8>) {
    let draw = Draw::new(bits, 0);
    let end = out.len() + length;
    let mut turn = 0;
    while out.len() < end {
        let bytes = draw.bits(turn).to_le_bytes();
        out.extend_from_slice(&bytes[..bytes.len().min(end - out.len())]);
        turn += 1;
    }
}
