//! Columns that live by slot: where keyed state keeps its rows.
//!
//! An [`Arena`] holds one value per column for every slot of its owner (a key table, a free list).
//! Values are written from rows of a batch and read back as Arrow columns, many slots at a time;
//! nothing is allocated per row. The fixed-width values of a slot stand next to each other, so that
//! a row at random costs one miss of the cache and not one per column; strings, bytes and nested
//! values (as row-format bytes) stand in a heap per column with a span per slot.
//!
//! ```text
//!   slot             0         1        2           write([2], batch rows [0])
//!   price, bidder    90  4     —  —     17  9       gather([2, 0]) ─► [17, 90], [9, 4]
//!   channel          a─┐                bc─┐
//!   heap             [a  · ·            b c]        · garbage, compacted at one half
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BinaryArray, StringArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};

use crate::base::growth::grow;
use crate::delta::batch::arrow_error;
use crate::error::{Error, Result, SqlState};

/// Rows that are copied column by column before the next ones are: their slots stay in the nearest
/// cache from the first column to the last.
const BLOCK_ROWS: usize = 512;

/// Values by slot, a column for each type it was made with.
#[derive(Clone)]
pub struct Arena {
    columns: Vec<Column>,
    slots: usize,
    /// The values of fixed width, `stride` bytes per slot.
    rows: Vec<u8>,
    stride: usize,
}

#[derive(Clone)]
struct Column {
    data_type: DataType,
    values: Values,
    /// One byte per slot, 1 = not NULL; empty until the first NULL is written.
    valid: Vec<u8>,
}

#[derive(Clone)]
enum Values {
    /// So many bytes from `offset` on in the slot's row.
    Fixed {
        width: usize,
        offset: usize,
    },
    Heap {
        heap: Heap,
        kind: HeapKind,
    },
}

#[derive(Clone)]
enum HeapKind {
    /// Utf8 and Binary: the bytes themselves.
    Plain,
    /// Everything nested: row-format bytes.
    Rows(Arc<RowConverter>),
}

#[derive(Clone, Default)]
struct Heap {
    spans: Vec<(u64, u32)>,
    bytes: Vec<u8>,
    garbage: usize,
}

impl Arena {
    pub fn new(types: &[DataType]) -> Result<Arena> {
        let mut columns = types.iter().map(Column::new).collect::<Result<Vec<_>>>()?;
        // The widest first, so that each stands at a multiple of its width.
        let mut fixed: Vec<(&mut usize, usize)> = Vec::new();
        for column in &mut columns {
            if let Values::Fixed { width, offset } = &mut column.values {
                fixed.push((offset, *width));
            }
        }
        fixed.sort_by_key(|(_, width)| std::cmp::Reverse(*width));
        let mut stride = 0;
        for (offset, width) in fixed {
            *offset = stride;
            stride += width;
        }
        Ok(Arena {
            columns,
            slots: 0,
            rows: Vec::new(),
            stride,
        })
    }

    /// Slots there is room for.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Makes room for slots below `slots`; what is in new ones is not defined before a write.
    pub fn grow(&mut self, slots: usize) {
        if slots <= self.slots {
            return;
        }
        self.slots = slots;
        grow(&mut self.rows, slots * self.stride, 0);
        for column in &mut self.columns {
            if let Values::Heap { heap, .. } = &mut column.values {
                grow(&mut heap.spans, slots, (0, 0));
            }
            if !column.valid.is_empty() {
                grow(&mut column.valid, slots, 1);
            }
        }
    }

    /// Writes row `rows[i]` of the columns into slot `slots[i]`, over what was there.
    ///
    /// # Panics
    /// When columns or slots are not those the arena was made for.
    pub fn write(&mut self, slots: &[u32], columns: &[ArrayRef], rows: &[u32]) -> Result<()> {
        assert_eq!(slots.len(), rows.len(), "one row per slot");
        assert_eq!(columns.len(), self.columns.len(), "the arena's columns");
        let mut fixed = Vec::new();
        for (column, array) in self.columns.iter_mut().zip(columns) {
            column.write(self.slots, slots, array, rows)?;
            if let Values::Fixed { width, offset } = column.values {
                fixed.push((width, offset, fixed_bytes(array, width)));
            }
        }
        let blocks = slots.chunks(BLOCK_ROWS).zip(rows.chunks(BLOCK_ROWS));
        for (slots, rows) in blocks {
            for (width, offset, source) in &fixed {
                scatter(
                    *width,
                    source,
                    rows,
                    &mut self.rows,
                    (self.stride, *offset),
                    slots,
                );
            }
        }
        Ok(())
    }

    /// Says that nothing in the slots is needed any more, so that their bytes can be reclaimed.
    pub fn release(&mut self, slots: &[u32]) {
        for column in &mut self.columns {
            if let Values::Heap { heap, .. } = &mut column.values {
                slots.iter().for_each(|&slot| heap.release(slot as usize));
                heap.compact();
            }
        }
    }

    /// The values of the slots, in their order, as columns.
    pub fn gather(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.gather_of(&self.columns, slots)
    }

    /// One column's values of the slots, in their order.
    pub fn gather_column(&self, column: usize, slots: &[u32]) -> Result<ArrayRef> {
        let mut columns = self.gather_of(std::slice::from_ref(&self.columns[column]), slots)?;
        Ok(columns.remove(0))
    }

    fn gather_of(&self, columns: &[Column], slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut fixed = Vec::new();
        for column in columns {
            if let Values::Fixed { width, offset } = column.values {
                fixed.push((width, offset, aligned(slots.len() * width)));
            }
        }
        for (number, block) in slots.chunks(BLOCK_ROWS).enumerate() {
            for (width, offset, values) in &mut fixed {
                let target = &mut values.as_slice_mut()[number * BLOCK_ROWS * *width..];
                collect(*width, &self.rows, (self.stride, *offset), block, target);
            }
        }
        let mut fixed = fixed.into_iter().map(|(.., values)| Buffer::from(values));
        let gather = |column: &Column| match &column.values {
            Values::Fixed { .. } => {
                let values = fixed.next().expect("a buffer for each such column");
                column.of_fixed(slots, values)
            }
            Values::Heap { heap, kind } => column.of_heap(slots, heap, kind),
        };
        columns.iter().map(gather).collect()
    }

    /// The bytes of a slot in a column of text or bytes, whether NULL or not.
    ///
    /// # Panics
    /// When the column is of another type.
    #[inline]
    pub fn bytes_of(&self, column: usize, slot: u32) -> &[u8] {
        match &self.columns[column].values {
            Values::Heap {
                heap,
                kind: HeapKind::Plain,
            } => heap.get(slot as usize),
            _ => panic!("column {column} is neither text nor bytes"),
        }
    }

    /// For each pair, whether slot `slots[i]` holds the values of row `rows[i]`; NULL is equal to
    /// NULL and floats are compared by their bits.
    pub fn equal(&self, slots: &[u32], columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<bool>> {
        let mut is_equal = vec![true; slots.len()];
        for (column, array) in self.columns.iter().zip(columns) {
            column.compare((&self.rows, self.stride), slots, array, rows, &mut is_equal)?;
        }
        Ok(is_equal)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let of = |column: &Column| {
            column.valid.capacity()
                + match &column.values {
                    Values::Fixed { .. } => 0,
                    Values::Heap { heap, .. } => heap.spans.capacity() * 16 + heap.bytes.capacity(),
                }
        };
        self.rows.capacity() + self.columns.iter().map(of).sum::<usize>()
    }
}

impl Column {
    fn new(data_type: &DataType) -> Result<Column> {
        let values = match data_type {
            DataType::Boolean => Values::Fixed {
                width: 1,
                offset: 0,
            },
            DataType::FixedSizeBinary(width) => Values::Fixed {
                width: usize::try_from(*width).expect("Arrow's widths are not negative"),
                offset: 0,
            },
            DataType::Utf8 | DataType::Binary => Values::Heap {
                heap: Heap::default(),
                kind: HeapKind::Plain,
            },
            other => match other.primitive_width() {
                Some(width) => Values::Fixed { width, offset: 0 },
                None => {
                    let fields = vec![SortField::new(other.clone())];
                    let converter = RowConverter::new(fields).map_err(|_| {
                        Error::unsupported(format!("values of type {other} cannot be kept"))
                    })?;
                    Values::Heap {
                        heap: Heap::default(),
                        kind: HeapKind::Rows(Arc::new(converter)),
                    }
                }
            },
        };
        Ok(Column {
            data_type: data_type.clone(),
            values,
            valid: Vec::new(),
        })
    }

    /// Writes what does not stand in the slots' rows.
    fn write(&mut self, room: usize, slots: &[u32], array: &ArrayRef, rows: &[u32]) -> Result<()> {
        assert_eq!(array.data_type(), &self.data_type, "the arena's type");
        self.write_validity(room, slots, array, rows);
        if let Values::Heap { heap, kind } = &mut self.values {
            let source = HeapSource::new(kind, array)?;
            for (&slot, &row) in slots.iter().zip(rows) {
                heap.put(slot as usize, source.get(row as usize))?;
            }
            heap.compact();
        }
        Ok(())
    }

    fn write_validity(&mut self, room: usize, slots: &[u32], array: &ArrayRef, rows: &[u32]) {
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        match nulls {
            None => {
                if !self.valid.is_empty() {
                    slots.iter().for_each(|&slot| self.valid[slot as usize] = 1);
                }
            }
            Some(nulls) => {
                if self.valid.is_empty() {
                    self.valid.resize(room, 1);
                }
                for (&slot, &row) in slots.iter().zip(rows) {
                    self.valid[slot as usize] = u8::from(nulls.is_valid(row as usize));
                }
            }
        }
    }

    fn nulls(&self, slots: &[u32]) -> Option<NullBuffer> {
        let nulls = (!self.valid.is_empty()).then(|| {
            NullBuffer::new(BooleanBuffer::collect_bool(slots.len(), |i| {
                self.valid[slots[i] as usize] == 1
            }))
        });
        nulls.filter(|nulls| nulls.null_count() > 0)
    }

    /// The column of values that were taken from the slots' rows.
    fn of_fixed(&self, slots: &[u32], values: Buffer) -> Result<ArrayRef> {
        let values = match self.data_type {
            DataType::Boolean => {
                BooleanBuffer::collect_bool(slots.len(), |i| values[i] == 1).into_inner()
            }
            _ => values,
        };
        build(
            &self.data_type,
            slots.len(),
            vec![values],
            self.nulls(slots),
        )
    }

    fn of_heap(&self, slots: &[u32], heap: &Heap, kind: &HeapKind) -> Result<ArrayRef> {
        match kind {
            HeapKind::Plain => {
                let lengths = slots
                    .iter()
                    .map(|&slot| heap.spans[slot as usize].1 as usize);
                let total: usize = lengths.clone().sum();
                if i32::try_from(total).is_err() {
                    return Err(Error::new(
                        SqlState::OUT_OF_MEMORY,
                        format!("a column of {total} bytes is longer than one batch may be"),
                    ));
                }
                let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
                let mut bytes = Vec::with_capacity(total);
                slots
                    .iter()
                    .for_each(|&slot| bytes.extend_from_slice(heap.get(slot as usize)));
                let buffers = vec![offsets.into_inner().into_inner(), Buffer::from_vec(bytes)];
                build(&self.data_type, slots.len(), buffers, self.nulls(slots))
            }
            HeapKind::Rows(converter) => {
                let parser = converter.parser();
                let rows = slots
                    .iter()
                    .map(|&slot| parser.parse(heap.get(slot as usize)));
                let columns = converter.convert_rows(rows).map_err(arrow_error)?;
                Ok(columns
                    .into_iter()
                    .next()
                    .expect("one column in, one column out"))
            }
        }
    }

    fn compare(
        &self,
        (fixed, stride): (&[u8], usize),
        slots: &[u32],
        array: &ArrayRef,
        rows: &[u32],
        is_equal: &mut [bool],
    ) -> Result<()> {
        let nulls = array.logical_nulls();
        let pairs = || {
            slots
                .iter()
                .map(|&slot| slot as usize)
                .zip(rows.iter().map(|&row| row as usize))
        };
        let validity = |slot: usize, row: usize| {
            let old = self.valid.get(slot).is_none_or(|&valid| valid == 1);
            let new = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            (old, new)
        };
        match &self.values {
            Values::Fixed { width, offset } => {
                let source = fixed_bytes(array, *width);
                for ((slot, row), equal) in pairs().zip(is_equal.iter_mut()) {
                    *equal &= match validity(slot, row) {
                        (true, true) => {
                            let kept = &fixed[slot * stride + offset..][..*width];
                            kept == &source[row * width..][..*width]
                        }
                        (old, new) => old == new,
                    };
                }
            }
            Values::Heap { heap, kind } => {
                let source = HeapSource::new(kind, array)?;
                for ((slot, row), equal) in pairs().zip(is_equal.iter_mut()) {
                    *equal &= match validity(slot, row) {
                        (true, true) => heap.get(slot) == source.get(row),
                        (old, new) => old == new,
                    };
                }
            }
        }
        Ok(())
    }
}

impl Heap {
    fn get(&self, slot: usize) -> &[u8] {
        let (start, length) = self.spans[slot];
        let start = usize::try_from(start).expect("the heap is in memory");
        &self.bytes[start..start + length as usize]
    }

    fn put(&mut self, slot: usize, value: &[u8]) -> Result<()> {
        let length = u32::try_from(value.len())
            .map_err(|_| Error::new(SqlState::OUT_OF_MEMORY, "a value is longer than 4 GiB"))?;
        let (start, old) = self.spans[slot];
        if value.len() <= old as usize {
            // The new value fits where the old one was.
            let start = usize::try_from(start).expect("the heap is in memory");
            self.bytes[start..start + value.len()].copy_from_slice(value);
            self.garbage += (old - length) as usize;
            self.spans[slot].1 = length;
            return Ok(());
        }
        self.garbage += old as usize;
        self.spans[slot] = (self.bytes.len() as u64, length);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn release(&mut self, slot: usize) {
        self.garbage += self.spans[slot].1 as usize;
        self.spans[slot] = (0, 0);
    }

    fn compact(&mut self) {
        if self.garbage <= self.bytes.len() / 2 || self.garbage < 4096 {
            return;
        }
        let mut packed = Vec::with_capacity(self.bytes.len() - self.garbage);
        for (start, length) in self.spans.iter_mut().filter(|(_, length)| *length > 0) {
            let from = usize::try_from(*start).expect("the heap is in memory");
            *start = packed.len() as u64;
            packed.extend_from_slice(&self.bytes[from..from + *length as usize]);
        }
        self.bytes = packed;
        self.garbage = 0;
    }
}

/// The bytes of a heap column's rows.
enum HeapSource<'a> {
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    Rows(Rows),
}

impl<'a> HeapSource<'a> {
    fn new(kind: &HeapKind, array: &'a ArrayRef) -> Result<HeapSource<'a>> {
        Ok(match kind {
            HeapKind::Rows(converter) => {
                let columns = std::slice::from_ref(array);
                HeapSource::Rows(converter.convert_columns(columns).map_err(arrow_error)?)
            }
            HeapKind::Plain => match array.data_type() {
                DataType::Utf8 => HeapSource::Text(array.as_string::<i32>()),
                _ => HeapSource::Binary(array.as_binary::<i32>()),
            },
        })
    }

    #[inline]
    fn get(&self, row: usize) -> &[u8] {
        match self {
            HeapSource::Text(array) => array.value(row).as_bytes(),
            HeapSource::Binary(array) => array.value(row),
            HeapSource::Rows(rows) => rows.row(row).data(),
        }
    }
}

/// The values of a fixed-width column as bytes, from its first row on; booleans as one byte each.
fn fixed_bytes(array: &ArrayRef, width: usize) -> Buffer {
    if let DataType::Boolean = array.data_type() {
        let bytes: Vec<u8> = array.as_boolean().values().iter().map(u8::from).collect();
        return bytes.into();
    }
    let data = array.to_data();
    data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width)
}

/// Copies value `from[i]` of `source` into the row of slot `to[i]`; rows have a stride and the
/// values an offset in them.
fn scatter(
    width: usize,
    source: &[u8],
    from: &[u32],
    rows: &mut [u8],
    (stride, offset): (usize, usize),
    to: &[u32],
) {
    macro_rules! copy {
        ($width:literal) => {{
            let (source, _) = source.as_chunks::<$width>();
            for (&from, &to) in from.iter().zip(to) {
                let target = &mut rows[to as usize * stride + offset..][..$width];
                target.copy_from_slice(&source[from as usize]);
            }
        }};
    }
    match width {
        1 => copy!(1),
        2 => copy!(2),
        4 => copy!(4),
        8 => copy!(8),
        16 => copy!(16),
        _ => {
            for (&from, &to) in from.iter().zip(to) {
                let target = &mut rows[to as usize * stride + offset..][..width];
                target.copy_from_slice(&source[from as usize * width..][..width]);
            }
        }
    }
}

/// Copies the value in the row of slot `slots[i]` to place `i` of `target`.
fn collect(
    width: usize,
    rows: &[u8],
    (stride, offset): (usize, usize),
    slots: &[u32],
    target: &mut [u8],
) {
    macro_rules! copy {
        ($width:literal) => {{
            let (target, _) = target.as_chunks_mut::<$width>();
            for (target, &slot) in target.iter_mut().zip(slots) {
                target.copy_from_slice(&rows[slot as usize * stride + offset..][..$width]);
            }
        }};
    }
    match width {
        1 => copy!(1),
        2 => copy!(2),
        4 => copy!(4),
        8 => copy!(8),
        16 => copy!(16),
        _ => {
            for (target, &slot) in target.chunks_exact_mut(width.max(1)).zip(slots) {
                target.copy_from_slice(&rows[slot as usize * stride + offset..][..width]);
            }
        }
    }
}

fn aligned(bytes: usize) -> arrow::buffer::MutableBuffer {
    arrow::buffer::MutableBuffer::from_len_zeroed(bytes)
}

fn build(
    data_type: &DataType,
    length: usize,
    buffers: Vec<Buffer>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let data = ArrayData::builder(data_type.clone())
        .len(length)
        .buffers(buffers)
        .nulls(nulls)
        .align_buffers(true);
    Ok(make_array(data.build().map_err(arrow_error)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int64Array, ListArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    fn columns() -> Vec<ArrayRef> {
        let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
        vec![
            Arc::new(Int64Array::from(vec![Some(10), None, Some(30)])),
            Arc::new(StringArray::from(vec![
                Some("a"),
                Some("a longer one"),
                None,
            ])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
        ]
    }

    fn arena(columns: &[ArrayRef]) -> Arena {
        let types: Vec<_> = columns
            .iter()
            .map(|column| column.data_type().clone())
            .collect();
        Arena::new(&types).unwrap()
    }

    #[test]
    fn what_is_written_is_gathered() {
        let columns = columns();
        let mut arena = arena(&columns);
        arena.grow(5);
        arena.write(&[4, 0, 2], &columns, &[0, 1, 2]).unwrap();
        let gathered = arena.gather(&[4, 0, 2]).unwrap();
        for (column, expected) in gathered.iter().zip(&columns) {
            assert_eq!(column, expected);
        }
        assert_eq!(
            arena.equal(&[4, 0, 2], &columns, &[0, 1, 2]).unwrap(),
            [true; 3]
        );
        assert_eq!(
            arena.equal(&[4, 0, 2], &columns, &[1, 1, 0]).unwrap(),
            [false, true, false]
        );
    }

    #[test]
    fn an_overwritten_value_leaves_no_trace_and_its_bytes_are_reclaimed() {
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1000), "y".repeat(2000)]));
        let mut arena = arena(std::slice::from_ref(&long));
        arena.grow(1);
        for round in 0..1000 {
            arena
                .write(&[0], std::slice::from_ref(&long), &[round % 2])
                .unwrap();
        }
        assert_eq!(
            arena.gather(&[0]).unwrap()[0].as_string::<i32>().value(0),
            "y".repeat(2000)
        );
        assert!(
            arena.bytes() < 100_000,
            "garbage is compacted: {}",
            arena.bytes()
        );
    }

    #[test]
    fn a_sliced_column_is_read_from_its_own_start() {
        let whole: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let slice = whole.slice(4, 3);
        let mut arena = arena(std::slice::from_ref(&slice));
        arena.grow(3);
        arena
            .write(&[0, 1, 2], std::slice::from_ref(&slice), &[0, 1, 2])
            .unwrap();
        let gathered = arena.gather(&[0, 1, 2]).unwrap();
        assert_eq!(gathered[0].as_primitive::<Int64Type>().values(), &[4, 5, 6]);
    }
}
