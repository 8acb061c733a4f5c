//! The starts and the ends of every window that holds a time: what windows mean as a batch.
//!
//! A row without a time, or in no window, has empty lists. Both lists have one length, so that
//! they can be unnested side by side.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, TimeUnit, TimestampMicrosecondType};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::function::columnar::failure;
use crate::function::window::kind::WindowKind;
use crate::function::window::windows::Windows;

/// The function of a time that gives the starts of its windows.
pub fn window_starts(kind: WindowKind) -> ScalarUDF {
    ScalarUDF::new_from_impl(WindowBounds::new(kind, Part::Start))
}

/// As [`window_starts`], the ends.
pub fn window_ends(kind: WindowKind) -> ScalarUDF {
    ScalarUDF::new_from_impl(WindowBounds::new(kind, Part::End))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowBounds {
    kind: WindowKind,
    part: Part,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Start,
    End,
}

impl WindowBounds {
    fn new(kind: WindowKind, part: Part) -> Self {
        WindowBounds {
            kind,
            part,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for WindowBounds {
    fn name(&self) -> &str {
        match self.part {
            Part::Start => "window_starts",
            Part::End => "window_ends",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match &arguments[0] {
            time @ DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(DataType::List(Arc::new(
                Field::new_list_field(time.clone(), true),
            ))),
            other => exec_err!("windows are of a timestamp, not of {other}"),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = call.args[0].to_array(call.number_rows)?;
        let windows = Windows::new(self.kind).map_err(failure)?;
        let item = times.data_type().clone();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut bounds = Vec::new();
        let mut lengths = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            let before = bounds.len();
            let time = times.value(row);
            if let Some(cell) = windows.cell(time).filter(|_| times.is_valid(row)) {
                windows.each(time, cell, |start, end| {
                    bounds.push(match self.part {
                        Part::Start => start,
                        Part::End => end,
                    });
                });
            }
            lengths.push(bounds.len() - before);
        }
        let values = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(bounds);
        let values: ArrayRef = Arc::new(values.with_data_type(item.clone()));
        let field = Arc::new(Field::new_list_field(item, true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(
            field, offsets, values, None,
        )?)))
    }
}
