//! Rows of a system relation, named column by named column, into one Arrow batch.
//!
//! These relations are small (a few rows per object), so values are boxed and collected row by row:
//! what counts here is that a filler can be read.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;

use crate::base::EventTime;
use crate::error::{Error, Result};
use crate::system::shape::{Shape, ShapeColumn};
use crate::types::SqlType;

/// A value of any type that system relations and functions have.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    /// Any integer, an oid, or microseconds since 1970.
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Cell>),
}

macro_rules! cell_from {
    ($($from:ty => $into:expr;)*) => {
        $(impl From<$from> for Cell {
            fn from(value: $from) -> Cell {
                #[allow(clippy::redundant_closure_call)]
                ($into)(value)
            }
        })*
    };
}

cell_from! {
    bool => Cell::Bool;
    i64 => Cell::Int;
    i32 => |value| Cell::Int(i64::from(value));
    i16 => |value| Cell::Int(i64::from(value));
    u32 => |value| Cell::Int(i64::from(value));
    u16 => |value| Cell::Int(i64::from(value));
    // A counter beyond the range is shown as the greatest number there is.
    u64 => |value| Cell::Int(i64::try_from(value).unwrap_or(i64::MAX));
    usize => |value| Cell::Int(i64::try_from(value).unwrap_or(i64::MAX));
    f64 => Cell::Float;
    &str => |value: &str| Cell::Text(value.to_string());
    String => Cell::Text;
    &String => |value: &String| Cell::Text(value.clone());
    Vec<u8> => Cell::Bytes;
    EventTime => |value: EventTime| Cell::Int(value.0);
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

impl Cell {
    pub fn list<T: Into<Cell>>(items: impl IntoIterator<Item = T>) -> Cell {
        Cell::List(items.into_iter().map(Into::into).collect())
    }
}

/// The rows of one relation.
pub struct RowSet {
    shape: &'static Shape,
    rows: Vec<Vec<Cell>>,
}

impl RowSet {
    pub fn new(shape: &'static Shape) -> Self {
        RowSet {
            shape,
            rows: Vec::new(),
        }
    }

    /// Adds a row. A column that is not named is NULL or, if that may not be, its type's zero: 0,
    /// false, the empty text or list.
    ///
    /// # Panics
    /// When the relation has no column of a name.
    pub fn add<const N: usize>(&mut self, cells: [(&str, Cell); N]) {
        let mut row: Vec<Cell> = self.shape.columns.iter().map(unset).collect();
        for (name, cell) in cells {
            let Some(index) = self.shape.column(name) else {
                panic!("{} has no column {name}", self.shape.name);
            };
            row[index] = cell;
        }
        self.rows.push(row);
    }

    /// One batch with the relation's schema.
    pub fn into_batch(self) -> Result<RecordBatch> {
        let columns = self
            .shape
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let cells: Vec<&Cell> = self.rows.iter().map(|row| &row[index]).collect();
                array(&column.sql_type, &cells)
            });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(self.shape.schema.clone(), columns).map_err(|cause| {
            Error::internal(format!(
                "rows of \"{}\" do not fit: {cause}",
                self.shape.name
            ))
        })
    }
}

fn unset(column: &ShapeColumn) -> Cell {
    if !column.is_not_null {
        return Cell::Null;
    }
    match column.sql_type {
        SqlType::Boolean => Cell::Bool(false),
        SqlType::Text => Cell::Text(String::new()),
        SqlType::Real | SqlType::DoublePrecision => Cell::Float(0.0),
        SqlType::Array(_) => Cell::List(Vec::new()),
        SqlType::Bytea => Cell::Bytes(Vec::new()),
        _ => Cell::Int(0),
    }
}

/// A column of cells as the canonical array of a type.
///
/// # Errors
/// An internal error when a cell is not of the type.
pub fn array(sql_type: &SqlType, cells: &[&Cell]) -> Result<ArrayRef> {
    Ok(match sql_type {
        SqlType::Boolean => Arc::new(collect::<_, BooleanArray>(cells, |cell| match cell {
            Cell::Bool(value) => Some(*value),
            _ => None,
        })?),
        SqlType::SmallInt => Arc::new(collect::<_, Int16Array>(cells, narrow::<i16>)?),
        SqlType::Integer => Arc::new(collect::<_, Int32Array>(cells, narrow::<i32>)?),
        SqlType::BigInt => Arc::new(collect::<_, Int64Array>(cells, integer)?),
        SqlType::Timestamptz => {
            let times: TimestampMicrosecondArray = collect(cells, integer)?;
            Arc::new(times.with_timezone("UTC"))
        }
        SqlType::Real => {
            // Estimates and costs: half the digits are enough.
            #[allow(clippy::cast_possible_truncation)]
            let round = |cell: &Cell| float(cell).map(|value| value as f32);
            Arc::new(collect::<_, Float32Array>(cells, round)?)
        }
        SqlType::DoublePrecision => Arc::new(collect::<_, Float64Array>(cells, float)?),
        SqlType::Text => Arc::new(collect::<_, StringArray>(cells, |cell| match cell {
            Cell::Text(text) => Some(text.clone()),
            _ => None,
        })?),
        SqlType::Bytea => {
            let bytes = cells.iter().map(|cell| match cell {
                Cell::Bytes(bytes) => Some(bytes.as_slice()),
                _ => None,
            });
            Arc::new(bytes.collect::<BinaryArray>())
        }
        SqlType::Numeric { precision, scale } => {
            let numbers: Decimal128Array = collect(cells, |cell| integer(cell).map(i128::from))?;
            Arc::new(
                numbers
                    .with_precision_and_scale(*precision, *scale)
                    .map_err(misfit)?,
            )
        }
        SqlType::Array(element) => list(sql_type, element, cells)?,
        other => new_null_array(&other.data_type(), cells.len()),
    })
}

fn list(sql_type: &SqlType, element: &SqlType, cells: &[&Cell]) -> Result<ArrayRef> {
    let items = |cell: &Cell| match cell {
        Cell::List(items) => items.len(),
        _ => 0,
    };
    let offsets = OffsetBuffer::from_lengths(cells.iter().map(|cell| items(cell)));
    let nulls: NullBuffer = cells
        .iter()
        .map(|cell| matches!(cell, Cell::List(_)))
        .collect();
    let mut values = Vec::new();
    for cell in cells {
        if let Cell::List(items) = cell {
            values.extend(items.iter());
        }
    }
    let DataType::List(field) = sql_type.data_type() else {
        return Err(Error::internal("an array is not a list"));
    };
    let values = array(element, &values)?;
    Ok(Arc::new(
        ListArray::try_new(field, offsets, values, Some(nulls)).map_err(misfit)?,
    ))
}

/// Collects values; what is neither NULL nor of the type is a bug.
fn collect<T, A: FromIterator<Option<T>>>(
    cells: &[&Cell],
    value: impl Fn(&Cell) -> Option<T>,
) -> Result<A> {
    let value = |cell: &&Cell| match (value(cell), cell) {
        (Some(value), _) => Ok(Some(value)),
        (None, Cell::Null) => Ok(None),
        (None, other) => Err(Error::internal(format!(
            "{other:?} is not of its column's type"
        ))),
    };
    cells.iter().map(value).collect()
}

fn integer(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Int(value) => Some(*value),
        _ => None,
    }
}

fn narrow<T: TryFrom<i64>>(cell: &Cell) -> Option<T> {
    integer(cell).and_then(|value| T::try_from(value).ok())
}

fn float(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Float(value) => Some(*value),
        _ => None,
    }
}

fn misfit(cause: arrow::error::ArrowError) -> Error {
    Error::internal(format!("system rows do not fit: {cause}"))
}
