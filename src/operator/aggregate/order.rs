//! The order of values: encodings whose plain comparison is SQL's, and sorted sets by group.
//!
//! Values of up to eight bytes become 64-bit words, decimals stay 128-bit integers, text and bytes
//! are their bytes, everything else is its row-format bytes. NaN is greater than all floats and
//! equal to itself, −0 is 0, as in Postgres.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryArray, Decimal128Array, Float32Array, Float64Array,
    StringArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};

use crate::delta::arrow_error;
use crate::error::{Error, Result};

const SIGN: u64 = 1 << 63;

/// How values of a type are put in order.
pub(super) enum Order {
    Word {
        data_type: DataType,
        width: usize,
        kind: WordKind,
    },
    Wide(DataType),
    /// Text and bytes, compared as they are.
    Plain(DataType),
    Rows(RowConverter),
}

#[derive(Clone, Copy)]
pub(super) enum WordKind {
    Signed,
    Unsigned,
    Float,
}

impl Order {
    /// # Errors
    /// 0A000 when values of the type have no order.
    pub fn new(data_type: &DataType) -> Result<Order> {
        let kind = match data_type {
            DataType::Utf8 | DataType::Binary => return Ok(Order::Plain(data_type.clone())),
            DataType::Decimal128(..) => return Ok(Order::Wide(data_type.clone())),
            DataType::Float32 | DataType::Float64 => Some(WordKind::Float),
            DataType::Float16 | DataType::Interval(_) => None,
            unsigned if unsigned.is_unsigned_integer() => Some(WordKind::Unsigned),
            other => other
                .primitive_width()
                .filter(|&width| width <= 8)
                .map(|_| WordKind::Signed),
        };
        if let (Some(kind), Some(width)) = (kind, data_type.primitive_width()) {
            return Ok(Order::Word {
                data_type: data_type.clone(),
                width,
                kind,
            });
        }
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())]);
        converter
            .map(Order::Rows)
            .map_err(|_| Error::unsupported(format!("values of type {data_type} have no order")))
    }

    /// The words of a column that is kept as such; what NULLs give means nothing.
    fn words(array: &ArrayRef, width: usize, kind: WordKind) -> Vec<u64> {
        match array.data_type() {
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().values();
                return values.iter().map(|&value| float_word(value)).collect();
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>().values();
                return values
                    .iter()
                    .map(|&value| float_word(f64::from(value)))
                    .collect();
            }
            _ => {}
        }
        let data = array.to_data();
        let bytes = &data.buffers()[0].as_slice()[data.offset() * width..][..data.len() * width];
        fn collect<const WIDTH: usize>(
            bytes: &[u8],
            word: impl Fn([u8; WIDTH]) -> u64,
        ) -> Vec<u64> {
            bytes
                .as_chunks::<WIDTH>()
                .0
                .iter()
                .map(|&chunk| word(chunk))
                .collect()
        }
        match (kind, width) {
            (WordKind::Unsigned, 1) => collect(bytes, |b| u64::from(u8::from_le_bytes(b))),
            (WordKind::Unsigned, 2) => collect(bytes, |b| u64::from(u16::from_le_bytes(b))),
            (WordKind::Unsigned, 4) => collect(bytes, |b| u64::from(u32::from_le_bytes(b))),
            (WordKind::Unsigned, _) => collect(bytes, u64::from_le_bytes),
            (_, 1) => collect(bytes, |b| signed_word(i64::from(i8::from_le_bytes(b)))),
            (_, 2) => collect(bytes, |b| signed_word(i64::from(i16::from_le_bytes(b)))),
            (_, 4) => collect(bytes, |b| signed_word(i64::from(i32::from_le_bytes(b)))),
            (_, _) => collect(bytes, |b| signed_word(i64::from_le_bytes(b))),
        }
    }

    /// The column's values in the encoding that compares as they do.
    pub fn encode(&self, array: &ArrayRef) -> Result<Encoded> {
        Ok(match self {
            Order::Word { width, kind, .. } => Encoded::Words(Order::words(array, *width, *kind)),
            Order::Wide(_) => {
                Encoded::Wide(array.as_primitive::<Decimal128Type>().values().to_vec())
            }
            Order::Plain(_) => Encoded::Bytes(array.clone()),
            Order::Rows(converter) => {
                let rows = converter.convert_columns(std::slice::from_ref(array));
                let bytes = rows
                    .and_then(|rows| rows.try_into_binary())
                    .map_err(arrow_error)?;
                Encoded::Bytes(Arc::new(bytes))
            }
        })
    }

    /// The type of the arrays in which values that are bytes are encoded.
    pub fn bytes_type(&self) -> DataType {
        match self {
            Order::Plain(data_type) => data_type.clone(),
            _ => DataType::Binary,
        }
    }

    /// The values of words; `None` is NULL.
    pub fn of_words(&self, words: impl ExactSizeIterator<Item = Option<u64>>) -> Result<ArrayRef> {
        let Order::Word {
            data_type,
            width,
            kind,
        } = self
        else {
            return Err(Error::internal("values of this type are not words"));
        };
        let words: Vec<Option<u64>> = words.collect();
        let nulls: NullBuffer = words.iter().map(Option::is_some).collect();
        let words = words.into_iter().map(Option::unwrap_or_default);
        match data_type {
            DataType::Float64 => {
                let values: Vec<f64> = words.map(word_float).collect();
                return Ok(Arc::new(Float64Array::new(values.into(), Some(nulls))));
            }
            DataType::Float32 => {
                #[expect(clippy::cast_possible_truncation, reason = "it was a 32-bit float")]
                let values: Vec<f32> = words.map(|word| word_float(word) as f32).collect();
                return Ok(Arc::new(Float32Array::new(values.into(), Some(nulls))));
            }
            _ => {}
        }
        let mut bytes = Vec::with_capacity(nulls.len() * width);
        for word in words {
            let word = match kind {
                WordKind::Signed => word ^ SIGN,
                WordKind::Unsigned | WordKind::Float => word,
            };
            bytes.extend_from_slice(&word.to_le_bytes()[..*width]);
        }
        // Bytes may be less aligned than the type wants; the builder copies them then.
        let data = ArrayData::builder(data_type.clone())
            .len(nulls.len())
            .add_buffer(Buffer::from_vec(bytes))
            .nulls(Some(nulls))
            .align_buffers(true);
        Ok(make_array(data.build().map_err(arrow_error)?))
    }

    /// The values of wide integers; `None` is NULL.
    pub fn of_wide(&self, values: impl Iterator<Item = Option<i128>>) -> Result<ArrayRef> {
        let Order::Wide(data_type) = self else {
            return Err(Error::internal("values of this type are not wide integers"));
        };
        let array: Decimal128Array = values.collect();
        Ok(Arc::new(array.with_data_type(data_type.clone())))
    }

    /// The values of bytes; `None` is NULL.
    pub fn of_bytes<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef> {
        match self {
            Order::Plain(DataType::Utf8) => {
                let text = values.map(|value| value.map(String::from_utf8_lossy));
                Ok(Arc::new(text.collect::<StringArray>()))
            }
            Order::Plain(_) => Ok(Arc::new(values.collect::<BinaryArray>())),
            Order::Rows(converter) => {
                // NULL has an encoding of its own, which is that of no value here.
                let null = arrow::array::new_null_array(&self.row_type(converter)?, 1);
                let null = converter.convert_columns(&[null]).map_err(arrow_error)?;
                let null = null.row(0);
                let parser = converter.parser();
                let rows = values.map(|value| parser.parse(value.unwrap_or(null.data())));
                let columns = converter.convert_rows(rows).map_err(arrow_error)?;
                Ok(columns
                    .into_iter()
                    .next()
                    .expect("one column in, one column out"))
            }
            _ => Err(Error::internal("values of this type are not bytes")),
        }
    }

    fn row_type(&self, converter: &RowConverter) -> Result<DataType> {
        let nothing = converter
            .convert_rows(std::iter::empty())
            .map_err(arrow_error)?;
        Ok(nothing[0].data_type().clone())
    }
}

fn signed_word(value: i64) -> u64 {
    value.cast_unsigned() ^ SIGN
}

fn float_word(value: f64) -> u64 {
    let value = if value.is_nan() {
        f64::NAN
    } else {
        value + 0.0
    };
    let bits = value.to_bits();
    // Negative floats grow in magnitude against the order.
    if bits & SIGN != 0 { !bits } else { bits | SIGN }
}

fn word_float(word: u64) -> f64 {
    f64::from_bits(if word & SIGN != 0 { word ^ SIGN } else { !word })
}

/// A column in the encoding of its [`Order`].
pub(super) enum Encoded {
    Words(Vec<u64>),
    Wide(Vec<i128>),
    Bytes(ArrayRef),
}

/// The bytes of a column of text or bytes.
pub(super) enum BytesColumn<'a> {
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
}

impl<'a> BytesColumn<'a> {
    pub fn new(array: &'a ArrayRef) -> BytesColumn<'a> {
        match array.data_type() {
            DataType::Utf8 => BytesColumn::Text(array.as_string()),
            _ => BytesColumn::Binary(array.as_binary()),
        }
    }

    #[inline]
    pub fn get(&self, row: usize) -> &'a [u8] {
        match self {
            BytesColumn::Text(array) => array.value(row).as_bytes(),
            BytesColumn::Binary(array) => array.value(row),
        }
    }
}

/// A value that has come into a group, or gone from it.
#[derive(Clone, Copy)]
pub(super) struct Transition {
    pub row: usize,
    pub slot: u32,
    pub is_there: bool,
}

/// The distinct values of every group, sorted.
pub(super) struct SortedValues {
    order: Order,
    values: Values,
}

enum Values {
    Words(BTreeSet<(u32, u64)>),
    Wide(BTreeSet<(u32, i128)>),
    Bytes {
        set: BTreeSet<(u32, Box<[u8]>)>,
        bytes: usize,
    },
}

/// Which end of a group's values is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Least,
    Greatest,
}

impl SortedValues {
    pub fn new(data_type: &DataType) -> Result<SortedValues> {
        let order = Order::new(data_type)?;
        let values = match order {
            Order::Word { .. } => Values::Words(BTreeSet::new()),
            Order::Wide(_) => Values::Wide(BTreeSet::new()),
            Order::Plain(_) | Order::Rows(_) => Values::Bytes {
                set: BTreeSet::new(),
                bytes: 0,
            },
        };
        Ok(SortedValues { order, values })
    }

    /// Puts values in and takes values out, in the order given.
    pub fn apply(&mut self, array: &ArrayRef, transitions: &[Transition]) -> Result<()> {
        match (&mut self.values, self.order.encode(array)?) {
            (Values::Words(set), Encoded::Words(words)) => {
                apply(set, transitions, |row| words[row]);
            }
            (Values::Wide(set), Encoded::Wide(values)) => {
                apply(set, transitions, |row| values[row]);
            }
            (Values::Bytes { set, bytes }, Encoded::Bytes(array)) => {
                let column = BytesColumn::new(&array);
                for transition in transitions {
                    let value = column.get(transition.row);
                    let entry = (transition.slot, Box::from(value));
                    match transition.is_there {
                        true => *bytes += if set.insert(entry) { value.len() } else { 0 },
                        false => *bytes -= if set.remove(&entry) { value.len() } else { 0 },
                    }
                }
            }
            _ => return Err(Error::internal("a value is encoded in its column's order")),
        }
        Ok(())
    }

    /// The least or greatest value of each group; NULL where there is none.
    pub fn ends(&self, end: End, slots: &[u32]) -> Result<ArrayRef> {
        match &self.values {
            Values::Words(set) => {
                let value = |&slot: &u32| {
                    let mut range = set.range((slot, 0)..=(slot, u64::MAX));
                    Some(pick(&mut range, end)?.1)
                };
                self.order.of_words(slots.iter().map(value))
            }
            Values::Wide(set) => {
                let value = |&slot: &u32| {
                    let mut range = set.range((slot, i128::MIN)..=(slot, i128::MAX));
                    Some(pick(&mut range, end)?.1)
                };
                self.order.of_wide(slots.iter().map(value))
            }
            Values::Bytes { set, .. } => {
                let value = |&slot: &u32| {
                    let mut range = set.range(start_of(slot)..start_of(slot + 1));
                    Some(pick(&mut range, end)?.1.as_ref())
                };
                self.order.of_bytes(slots.iter().map(value))
            }
        }
    }

    /// Takes all values of a group out.
    pub fn remove_group(&mut self, slot: u32) {
        match &mut self.values {
            Values::Words(set) => remove_range(set, (slot, 0), (slot + 1, 0)),
            Values::Wide(set) => remove_range(set, (slot, i128::MIN), (slot + 1, i128::MIN)),
            Values::Bytes { set, bytes } => {
                let range = set.range(start_of(slot)..start_of(slot + 1));
                *bytes -= range.map(|(_, value)| value.len()).sum::<usize>();
                remove_range(set, start_of(slot), start_of(slot + 1));
            }
        }
    }

    /// Bytes held, about: nodes of a B-tree are two thirds full on average.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::Words(set) => set.len() * 16 * 3 / 2,
            Values::Wide(set) => set.len() * 32 * 3 / 2,
            Values::Bytes { set, bytes } => set.len() * 24 * 3 / 2 + bytes,
        }
    }
}

fn apply<T: Ord>(
    set: &mut BTreeSet<(u32, T)>,
    transitions: &[Transition],
    value: impl Fn(usize) -> T,
) {
    for transition in transitions {
        let entry = (transition.slot, value(transition.row));
        match transition.is_there {
            true => set.insert(entry),
            false => set.remove(&entry),
        };
    }
}

fn pick<T>(range: &mut impl DoubleEndedIterator<Item = T>, end: End) -> Option<T> {
    match end {
        End::Least => range.next(),
        End::Greatest => range.next_back(),
    }
}

/// Before all values of a group.
fn start_of(slot: u32) -> (u32, Box<[u8]>) {
    (slot, Box::default())
}

fn remove_range<T: Ord + Clone>(set: &mut BTreeSet<T>, from: T, to: T) {
    let gone: Vec<T> = set.range(from..to).cloned().collect();
    gone.iter().for_each(|value| {
        set.remove(value);
    });
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int8Array, Int64Array, UInt32Array};
    use arrow::compute::{SortOptions, sort};

    use super::*;

    /// The least and greatest of a column, by way of a sorted set.
    fn ends_of(array: &ArrayRef) -> (ArrayRef, ArrayRef) {
        let mut sorted = SortedValues::new(array.data_type()).unwrap();
        let valid = (0..array.len()).filter(|&row| array.is_valid(row));
        let all: Vec<_> = valid
            .map(|row| Transition {
                row,
                slot: 3,
                is_there: true,
            })
            .collect();
        sorted.apply(array, &all).unwrap();
        let ends = (
            sorted.ends(End::Least, &[3]),
            sorted.ends(End::Greatest, &[3]),
        );
        sorted.remove_group(3);
        assert_eq!(sorted.bytes(), 0);
        (ends.0.unwrap(), ends.1.unwrap())
    }

    #[test]
    fn the_ends_of_every_type_are_those_of_a_sort() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![
                Some(3),
                Some(i64::MIN),
                None,
                Some(i64::MAX),
            ])),
            Arc::new(Int8Array::from(vec![3, -128, 127])),
            Arc::new(UInt32Array::from(vec![3, 0, u32::MAX])),
            Arc::new(Float64Array::from(vec![
                1.5,
                f64::NEG_INFINITY,
                0.0,
                f64::NAN,
            ])),
            Arc::new(Float32Array::from(vec![-1.5, 2.25, -7.0])),
            Arc::new(StringArray::from(vec![
                Some("b"),
                Some(""),
                Some("ba"),
                None,
            ])),
            Arc::new(BinaryArray::from(vec![&b"\xff"[..], &b"\x00"[..]])),
            Arc::new(Decimal128Array::from(vec![5, -7, i128::from(i64::MAX) * 9])),
            Arc::new(arrow::array::BooleanArray::from(vec![true, false])),
            Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![5, -5])),
        ];
        for column in columns {
            let options = SortOptions {
                descending: false,
                nulls_first: true,
            };
            let sorted = sort(&column, Some(options)).unwrap();
            let (least, greatest) = ends_of(&column);
            assert_eq!(&least, &sorted.slice(column.null_count(), 1));
            assert_eq!(&greatest, &sorted.slice(column.len() - 1, 1));
        }
    }
}
