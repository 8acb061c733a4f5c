//! A record batch, with or without weights, as bytes for a log.
//!
//! ```text
//! version u8 | flags u8 (1: weights) | zero u16 | rows u32 | weights, i64 each | Arrow IPC stream
//! ```
//! The stream carries its own schema, some hundred bytes per batch: a record can then be read
//! alone, whatever was altered before and after it. Whoever stores the bytes brings the checksum.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::error::{Error, Result, SqlState};

const VERSION: u8 = 1;
const WEIGHTED: u8 = 1;
const HEADER_BYTES: usize = 8;
/// IPC pads buffers to this; the default of 64 would double the size of small batches.
const ALIGNMENT: usize = 8;

/// Encodes a batch and one weight per row; `None` means that every weight is +1.
///
/// # Errors
/// XX000 when the number of weights is not the number of rows or Arrow cannot write a type.
pub fn encode_batch(batch: &RecordBatch, weights: Option<&[i64]>) -> Result<Vec<u8>> {
    if weights.is_some_and(|weights| weights.len() != batch.num_rows()) {
        return Err(Error::internal("a batch has one weight per row"));
    }
    let rows = u32::try_from(batch.num_rows())
        .map_err(|_| Error::internal("a batch has less than 2^32 rows"))?;
    let mut out = Vec::with_capacity(HEADER_BYTES + batch.get_array_memory_size());
    out.extend_from_slice(&[VERSION, u8::from(weights.is_some()) * WEIGHTED, 0, 0]);
    out.extend_from_slice(&rows.to_le_bytes());
    for weight in weights.unwrap_or_default() {
        out.extend_from_slice(&weight.to_le_bytes());
    }
    put_stream(&mut out, batch)?;
    Ok(out)
}

/// Decodes what [`encode_batch`] wrote.
///
/// # Errors
/// XX001 when the bytes are not such a batch.
pub fn decode_batch(bytes: &[u8]) -> Result<(RecordBatch, Option<Vec<i64>>)> {
    let wrong = |how: &str| Error::new(SqlState::DATA_CORRUPTED, format!("a stored batch {how}"));
    let (header, rest) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(|| wrong("ends in its header"))?;
    let (flags, rows) = match *header {
        [VERSION, flags @ (0 | WEIGHTED), 0, 0, a, b, c, d] => {
            (flags, u32::from_le_bytes([a, b, c, d]))
        }
        _ => return Err(wrong("has an unknown header")),
    };
    let rows = usize::try_from(rows).expect("32 bits fit into a length");
    if flags != WEIGHTED {
        let batch = read_stream(rest)?;
        return if batch.num_rows() == rows {
            Ok((batch, None))
        } else {
            Err(wrong("lacks rows"))
        };
    }
    let (weights, stream) = rest
        .split_at_checked(rows * 8)
        .ok_or_else(|| wrong("ends in its weights"))?;
    let (weights, _) = weights.as_chunks::<8>();
    let batch = read_stream(stream)?;
    if batch.num_rows() != rows {
        return Err(wrong("lacks rows"));
    }
    Ok((
        batch,
        Some(
            weights
                .iter()
                .map(|weight| i64::from_le_bytes(*weight))
                .collect(),
        ),
    ))
}

/// Appends one batch as an Arrow IPC stream.
pub(in crate::storage) fn put_stream(out: &mut Vec<u8>, batch: &RecordBatch) -> Result<()> {
    let cannot = |e: ArrowError| Error::internal(format!("cannot write a batch: {e}"));
    let options =
        IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5).map_err(cannot)?;
    let mut writer =
        StreamWriter::try_new_with_options(out, &batch.schema(), options).map_err(cannot)?;
    writer
        .write(batch)
        .and_then(|()| writer.finish())
        .map_err(cannot)
}

/// Reads a stream that holds exactly one batch.
pub(in crate::storage) fn read_stream(bytes: &[u8]) -> Result<RecordBatch> {
    let wrong = |e: ArrowError| {
        Error::new(
            SqlState::DATA_CORRUPTED,
            format!("a stored batch cannot be read: {e}"),
        )
    };
    let mut reader = StreamReader::try_new(bytes, None).map_err(wrong)?;
    match reader.next() {
        Some(batch) => batch.map_err(wrong),
        None => Err(wrong(ArrowError::IpcError("it is empty".into()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int64Array,
        ListArray, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Int32Type, Schema};

    use super::*;

    fn batch() -> RecordBatch {
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "id",
                Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)])),
            ),
            (
                "name",
                Arc::new(StringArray::from(vec![Some("a"), Some(""), None])),
            ),
            ("on", Arc::new(BooleanArray::from(vec![true, false, true]))),
            (
                "x",
                Arc::new(Float64Array::from(vec![f64::NAN, 0.5, f64::INFINITY])),
            ),
            (
                "price",
                Arc::new(
                    Decimal128Array::from(vec![1, 2, 3])
                        .with_precision_and_scale(20, 4)
                        .unwrap(),
                ),
            ),
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]).with_timezone("UTC")),
            ),
            (
                "kind",
                Arc::new(
                    vec!["x", "y", "x"]
                        .into_iter()
                        .collect::<DictionaryArray<Int32Type>>(),
                ),
            ),
            (
                "tags",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
                    Some(vec![Some(1), None]),
                    None,
                    Some(vec![]),
                ])),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    }

    /// NaN is not equal to itself, so batches are compared as text.
    fn text(batch: &RecordBatch) -> String {
        arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch))
            .unwrap()
            .to_string()
    }

    #[test]
    fn batches_come_back_with_and_without_weights() {
        let batch = batch();
        for weights in [None, Some(vec![1, -2, i64::MIN])] {
            let bytes = encode_batch(&batch, weights.as_deref()).unwrap();
            let (decoded, decoded_weights) = decode_batch(&bytes).unwrap();
            assert_eq!(decoded.schema(), batch.schema());
            assert_eq!(text(&decoded), text(&batch));
            assert_eq!(decoded_weights, weights);
        }
        let part = batch.slice(1, 1);
        let (decoded, _) = decode_batch(&encode_batch(&part, None).unwrap()).unwrap();
        assert_eq!(text(&decoded), text(&part));
    }

    #[test]
    fn batches_without_rows_or_columns_come_back() {
        let empty = batch().slice(0, 0);
        let bytes = encode_batch(&empty, Some(&[])).unwrap();
        assert_eq!(decode_batch(&bytes).unwrap(), (empty, Some(vec![])));
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let columnless =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let bytes = encode_batch(&columnless, None).unwrap();
        assert_eq!(decode_batch(&bytes).unwrap().0.num_rows(), 5);
    }

    #[test]
    fn a_cut_batch_is_an_error() {
        let bytes = encode_batch(&batch(), Some(&[1, 1, 1])).unwrap();
        // The last eight bytes are the end-of-stream mark, which carries nothing.
        for cut in 0..bytes.len() - 8 {
            assert!(decode_batch(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(encode_batch(&batch(), Some(&[1])).is_err());
    }
}
