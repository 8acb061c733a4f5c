//! Arrays: their bounds, their subscripts, and their elements with subscripts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::system::function::session::entry;
use crate::system::function::{Entry, Kind, Returns};
use crate::system::rows::Cell;

pub const ENTRIES: &[Entry] = &[
    entry!("array_upper", 2..=2, Integer, Pure, |_, arguments| {
        let length = arguments.list(0)?.map_or(0, |list| list.len());
        let is_first = arguments.integer(1)? == Some(1);
        Ok(if is_first && length > 0 {
            length.into()
        } else {
            Cell::Null
        })
    }),
    entry!("array_lower", 2..=2, Integer, Pure, |_, arguments| {
        let length = arguments.list(0)?.map_or(0, |list| list.len());
        let is_first = arguments.integer(1)? == Some(1);
        Ok(if is_first && length > 0 {
            1.into()
        } else {
            Cell::Null
        })
    }),
];

/// The functions whose result depends on the type of their argument.
pub fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    [Shape::Subscripts, Shape::Expanded, Shape::OrEmpty]
        .into_iter()
        .map(|shape| {
            Arc::new(ScalarUDF::new_from_impl(ListFunction {
                shape,
                signature: Signature::variadic_any(Volatility::Immutable),
            }))
        })
}

/// A function from a list to a list of the same length.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ListFunction {
    shape: Shape,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shape {
    /// `generate_subscripts(list, 1)`: 1, 2, … for `unnest` to make rows of.
    Subscripts,
    /// `_pg_expandarray(list)`: pairs (x, n) of element and subscript.
    Expanded,
    /// What `ARRAY(SELECT …)` is: the list, or the empty one where there are no rows.
    OrEmpty,
}

fn item(data_type: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(data_type, true)))
}

fn pair(element: DataType) -> Fields {
    Fields::from(vec![
        Field::new("x", element, true),
        Field::new("n", DataType::Int32, true),
    ])
}

impl ScalarUDFImpl for ListFunction {
    fn name(&self) -> &str {
        match self.shape {
            Shape::Subscripts => "generate_subscripts",
            Shape::Expanded => "_pg_expandarray",
            Shape::OrEmpty => "array_or_empty",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let element = match &arguments[0] {
            DataType::List(element) => element.data_type().clone(),
            DataType::Null => DataType::Utf8,
            other => return exec_err!("{} takes an array, not {other}", self.name()),
        };
        Ok(match (self.shape, &arguments[0]) {
            (Shape::Subscripts, _) => item(DataType::Int32),
            (Shape::Expanded, _) => item(DataType::Struct(pair(element))),
            (Shape::OrEmpty, DataType::Null) => item(element),
            (Shape::OrEmpty, list) => list.clone(),
        })
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = call.args[0].to_array(call.number_rows)?;
        let Some(lists) = lists.as_list_opt::<i32>() else {
            let empty = new_empty_list(call.return_field.data_type(), lists.len());
            return Ok(ColumnarValue::Array(empty?));
        };
        let values = match self.shape {
            Shape::OrEmpty => None,
            Shape::Subscripts => Some((item(DataType::Int32), Arc::new(subscripts(lists)) as _)),
            Shape::Expanded => {
                let fields = pair(lists.value_type());
                let elements = used_values(lists);
                let columns: Vec<ArrayRef> = vec![elements, Arc::new(subscripts(lists))];
                let pairs: ArrayRef =
                    Arc::new(StructArray::try_new(fields.clone(), columns, None)?);
                Some((item(DataType::Struct(fields)), pairs))
            }
        };
        // A list that is NULL has no elements, and an empty list is what `unnest` needs.
        let lengths = (0..lists.len()).map(|row| length(lists, row));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let (data_type, values) =
            values.unwrap_or_else(|| (lists.data_type().clone(), used_values(lists)));
        let DataType::List(field) = data_type else {
            return exec_err!("{} makes no list", self.name());
        };
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(
            field, offsets, values, None,
        )?)))
    }
}

fn new_empty_list(data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let DataType::List(field) = data_type else {
        return exec_err!("{data_type} is no list");
    };
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(0, rows));
    let values = new_empty_array(field.data_type());
    Ok(Arc::new(ListArray::try_new(
        field.clone(),
        offsets,
        values,
        None,
    )?))
}

fn length(lists: &ListArray, row: usize) -> usize {
    if lists.is_null(row) {
        0
    } else {
        lists.value(row).len()
    }
}

/// The elements of all lists, without those that NULL lists hide.
fn used_values(lists: &ListArray) -> ArrayRef {
    let parts: Vec<ArrayRef> = (0..lists.len())
        .filter(|row| lists.is_valid(*row))
        .map(|row| lists.value(row))
        .collect();
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    arrow::compute::concat(&parts).unwrap_or_else(|_| new_empty_array(&lists.value_type()))
}

fn subscripts(lists: &ListArray) -> Int32Array {
    (0..lists.len())
        .flat_map(|row| (1..).take(length(lists, row)))
        .collect::<Vec<i32>>()
        .into()
}
