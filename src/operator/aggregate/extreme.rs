//! `min` and `max` of append-only input: one value by slot.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use crate::base::growth::grow;
use crate::delta::{Arena, NO_SLOT};
use crate::error::{Error, Result};
use crate::operator::aggregate::change::Change;
use crate::operator::aggregate::order::{BytesColumn, Encoded, End, Order};
use crate::operator::aggregate::store::{Groups, Reading, Store, Times};
use crate::operator::evaluate::Failure;

/// The least or greatest value of one column.
pub(super) struct ExtremeStore {
    argument: usize,
    end: End,
    data_type: DataType,
    order: Order,
    values: Values,
}

enum Values {
    Words(Vec<u64>),
    Wide(Vec<i128>),
    Bytes(BytesValues),
}

/// Extremes that have no fixed width.
struct BytesValues {
    values: Arena,
    /// Whether the slot has a value yet.
    is_set: Vec<bool>,
    /// While a batch is added: the row that is ahead in each slot, else none.
    leading: Vec<u32>,
}

impl ExtremeStore {
    pub fn new(argument: usize, end: End, data_type: &DataType) -> Result<ExtremeStore> {
        let order = Order::new(data_type)?;
        let values = match order {
            Order::Word { .. } => Values::Words(Vec::new()),
            Order::Wide(_) => Values::Wide(Vec::new()),
            Order::Plain(_) | Order::Rows(_) => Values::Bytes(BytesValues {
                values: Arena::new(&[order.bytes_type()])?,
                is_set: Vec::new(),
                leading: Vec::new(),
            }),
        };
        Ok(ExtremeStore {
            argument,
            end,
            data_type: data_type.clone(),
            order,
            values,
        })
    }

    /// Adds the values of a column; rows of weight zero are none.
    fn add(&mut self, array: &ArrayRef, change: &Change<'_>) -> Result<()> {
        match (&mut self.values, self.order.encode(array)?) {
            (Values::Words(extremes), Encoded::Words(words)) => {
                advance(extremes, &words, self.end, change);
            }
            (Values::Wide(extremes), Encoded::Wide(values)) => {
                advance(extremes, &values, self.end, change);
            }
            (Values::Bytes(bytes), Encoded::Bytes(array)) => bytes.add(&array, self.end, change)?,
            _ => return Err(Error::internal("a value is encoded in its column's order")),
        }
        Ok(())
    }
}

fn advance<T: Ord + Copy>(extremes: &mut [T], values: &[T], end: End, change: &Change<'_>) {
    match end {
        End::Least => change.each(|row, slot, weight| {
            if weight > 0 {
                extremes[slot] = extremes[slot].min(values[row]);
            }
        }),
        End::Greatest => change.each(|row, slot, weight| {
            if weight > 0 {
                extremes[slot] = extremes[slot].max(values[row]);
            }
        }),
    }
}

impl BytesValues {
    fn add(&mut self, array: &ArrayRef, end: End, change: &Change<'_>) -> Result<()> {
        let column = BytesColumn::new(array);
        let is_ahead = |value: &[u8], than: &[u8]| match end {
            End::Least => value < than,
            End::Greatest => value > than,
        };
        // First the best row of the batch for each slot, then one write for all of them.
        let mut slots = Vec::new();
        change.each(|row, slot, weight| {
            if weight <= 0 {
                return;
            }
            let value = column.get(row);
            let leading = self.leading[slot];
            let slot_id = u32::try_from(slot).expect("slots fit u32");
            let wins = match leading {
                NO_SLOT if !self.is_set[slot] => true,
                NO_SLOT => is_ahead(value, self.values.bytes_of(0, slot_id)),
                row => is_ahead(value, column.get(row as usize)),
            };
            if wins {
                if leading == NO_SLOT {
                    slots.push(slot_id);
                }
                self.leading[slot] = u32::try_from(row).expect("a batch has fewer than 2^32 rows");
            }
        });
        let rows: Vec<u32> = slots
            .iter()
            .map(|&slot| self.leading[slot as usize])
            .collect();
        self.values
            .write(&slots, std::slice::from_ref(array), &rows)?;
        for &slot in &slots {
            self.leading[slot as usize] = NO_SLOT;
            self.is_set[slot as usize] = true;
        }
        Ok(())
    }
}

impl BytesValues {
    /// As [`BytesValues::add`], with the values of other slots.
    fn combine(&mut self, from: &[u32], into: &[u32], end: End) -> Result<()> {
        let is_ahead = |value: &[u8], than: &[u8]| match end {
            End::Least => value < than,
            End::Greatest => value > than,
        };
        let mut slots = Vec::new();
        for (&from, &into) in from.iter().zip(into) {
            if !self.is_set[from as usize] {
                continue;
            }
            let value = self.values.bytes_of(0, from);
            let leading = self.leading[into as usize];
            let wins = match leading {
                NO_SLOT if !self.is_set[into as usize] => true,
                NO_SLOT => is_ahead(value, self.values.bytes_of(0, into)),
                leading => is_ahead(value, self.values.bytes_of(0, leading)),
            };
            if wins {
                if leading == NO_SLOT {
                    slots.push(into);
                }
                self.leading[into as usize] = from;
            }
        }
        if slots.is_empty() {
            return Ok(());
        }
        let winners: Vec<u32> = slots
            .iter()
            .map(|&slot| self.leading[slot as usize])
            .collect();
        let values = self.values.gather_column(0, &winners)?;
        let rows: Vec<u32> = (0..).take(slots.len()).collect();
        self.values.write(&slots, &[values], &rows)?;
        for &slot in &slots {
            self.leading[slot as usize] = NO_SLOT;
            self.is_set[slot as usize] = true;
        }
        Ok(())
    }
}

impl Store for ExtremeStore {
    fn grow(&mut self, groups: usize) {
        let is_least = self.end == End::Least;
        match &mut self.values {
            Values::Words(values) => {
                let start = if is_least { u64::MAX } else { 0 };
                grow(values, groups, start);
            }
            Values::Wide(values) => {
                let start = if is_least { i128::MAX } else { i128::MIN };
                grow(values, groups, start);
            }
            Values::Bytes(bytes) => {
                bytes.values.grow(groups);
                let groups = groups.max(bytes.is_set.len());
                bytes.is_set.resize(groups, false);
                bytes.leading.resize(groups, NO_SLOT);
            }
        }
    }

    fn update(&mut self, rows: &RecordBatch, change: &Change<'_>) -> Result<()> {
        let array = rows.column(self.argument).clone();
        self.add(&array, change)
    }

    fn settle(&mut self, _slots: &[u32]) -> Result<()> {
        Ok(())
    }

    fn read(
        &self,
        _reading: &Reading,
        groups: Groups<'_>,
        _failures: &mut Vec<Failure>,
    ) -> Result<ArrayRef> {
        let counted = || groups.slots.iter().zip(groups.counts);
        match &self.values {
            Values::Words(values) => self.order.of_words(
                counted().map(|(&slot, &count)| (count > 0).then(|| values[slot as usize])),
            ),
            Values::Wide(values) => self.order.of_wide(
                counted().map(|(&slot, &count)| (count > 0).then(|| values[slot as usize])),
            ),
            Values::Bytes(bytes) => {
                let value = |(&slot, &count): (&u32, &i64)| {
                    (count > 0).then(|| bytes.values.bytes_of(0, slot))
                };
                self.order.of_bytes(counted().map(value))
            }
        }
    }

    fn clear(&mut self, slots: &[u32]) -> Result<()> {
        let is_least = self.end == End::Least;
        match &mut self.values {
            Values::Words(values) => {
                let start = if is_least { u64::MAX } else { 0 };
                slots.iter().for_each(|&slot| values[slot as usize] = start);
            }
            Values::Wide(values) => {
                let start = if is_least { i128::MAX } else { i128::MIN };
                slots.iter().for_each(|&slot| values[slot as usize] = start);
            }
            Values::Bytes(bytes) => {
                let set = slots.iter().filter(|&&slot| bytes.is_set[slot as usize]);
                let set: Vec<u32> = set.copied().collect();
                set.iter()
                    .for_each(|&slot| bytes.is_set[slot as usize] = false);
                bytes.values.release(&set);
            }
        }
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) -> Result<()> {
        let is_least = self.end == End::Least;
        let (a, b) = (from as usize, into as usize);
        match &mut self.values {
            Values::Words(values) => {
                values[b] = match is_least {
                    true => values[a].min(values[b]),
                    false => values[a].max(values[b]),
                };
            }
            Values::Wide(values) => {
                values[b] = match is_least {
                    true => values[a].min(values[b]),
                    false => values[a].max(values[b]),
                };
            }
            Values::Bytes(bytes) if bytes.is_set[a] => {
                let (one, other) = (
                    bytes.values.bytes_of(0, from),
                    bytes.values.bytes_of(0, into),
                );
                let is_ahead = match is_least {
                    true => one < other,
                    false => one > other,
                };
                if !bytes.is_set[b] || is_ahead {
                    let value = bytes.values.gather_column(0, &[from])?;
                    bytes.values.write(&[into], &[value], &[0])?;
                    bytes.is_set[b] = true;
                }
            }
            Values::Bytes(_) => {}
        }
        self.clear(&[from])
    }

    fn combine(&mut self, from: &[u32], into: &[u32], times: Times) -> Result<()> {
        if times == Times::Minus {
            let message = "an extreme cannot be taken out again";
            return Err(Error::internal(message));
        }
        let is_least = self.end == End::Least;
        let pairs = from.iter().zip(into);
        let pairs = pairs.map(|(&from, &into)| (from as usize, into as usize));
        match &mut self.values {
            Values::Words(values) => pairs.for_each(|(from, into)| {
                values[into] = match is_least {
                    true => values[from].min(values[into]),
                    false => values[from].max(values[into]),
                };
            }),
            Values::Wide(values) => pairs.for_each(|(from, into)| {
                values[into] = match is_least {
                    true => values[from].min(values[into]),
                    false => values[from].max(values[into]),
                };
            }),
            Values::Bytes(bytes) => return bytes.combine(from, into, self.end),
        }
        Ok(())
    }

    fn is_ahead(&self, group: u32, than: u32) -> bool {
        let (a, b) = (group as usize, than as usize);
        match (&self.values, self.end) {
            (Values::Words(values), End::Least) => values[a] < values[b],
            (Values::Words(values), End::Greatest) => values[a] > values[b],
            (Values::Wide(values), End::Least) => values[a] < values[b],
            (Values::Wide(values), End::Greatest) => values[a] > values[b],
            (Values::Bytes(bytes), _) if !(bytes.is_set[a] && bytes.is_set[b]) => bytes.is_set[a],
            (Values::Bytes(bytes), end) => {
                let (one, other) = (
                    bytes.values.bytes_of(0, group),
                    bytes.values.bytes_of(0, than),
                );
                match end {
                    End::Least => one < other,
                    End::Greatest => one > other,
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        match &self.values {
            Values::Words(values) => values.capacity() * size_of::<u64>(),
            Values::Wide(values) => values.capacity() * size_of::<i128>(),
            Values::Bytes(bytes) => {
                bytes.values.bytes() + bytes.is_set.capacity() + bytes.leading.capacity() * 4
            }
        }
    }

    fn saved_types(&self) -> Vec<DataType> {
        vec![self.data_type.clone()]
    }

    fn save(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        // Slots without a value are NULL in what is saved, and only those.
        let counts: Vec<i64> = match &self.values {
            Values::Words(values) => {
                let start = if self.end == End::Least { u64::MAX } else { 0 };
                slots
                    .iter()
                    .map(|&slot| i64::from(values[slot as usize] != start))
                    .collect()
            }
            Values::Wide(values) => {
                let start = if self.end == End::Least {
                    i128::MAX
                } else {
                    i128::MIN
                };
                slots
                    .iter()
                    .map(|&slot| i64::from(values[slot as usize] != start))
                    .collect()
            }
            Values::Bytes(bytes) => slots
                .iter()
                .map(|&slot| i64::from(bytes.is_set[slot as usize]))
                .collect(),
        };
        let groups = Groups {
            slots,
            counts: &counts,
        };
        Ok(vec![self.read(&Reading::Least, groups, &mut Vec::new())?])
    }

    fn load(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        self.clear(slots)?;
        let valid = columns[0].logical_nulls().map(NullBuffer::into_inner);
        let change = Change {
            slots,
            weights: None,
            valid: valid.as_ref(),
        };
        self.add(&columns[0], &change)
    }
}
