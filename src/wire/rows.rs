//! Rows on their way out: a stream of batches, sent row by row, that may stop anywhere.
//!
//! Rule: a batch that is ready is encoded behind the one before; when the next is not ready, what
//! is gathered goes to the socket while it is waited for. So endless queries are live and long ones
//! are few writes.
//! State: the batch in hand and the next row of it, so that a portal can be suspended.
//! Bounds: one batch and `OUTBOUND_BYTES_MAX` of encoded rows, whatever the result's size; a client
//! that does not read stops the stream.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::BufMut;
use futures::StreamExt;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{FieldDescription, RowDescription};

use crate::engine::BatchStream;
use crate::error::{Error, Result, SqlState};
use crate::types::pg::{DateTimeStyle, Format, PgType, ValueWriter};
use crate::wire::client::{Client, Stop};
use crate::wire::copy::CopyEncoder;
use crate::wire::outbound::Outbound;
use crate::wire::running::Running;

/// A result that is being sent.
pub(super) struct Cursor {
    encoder: Encoder,
    batches: BatchStream,
    batch: Option<RecordBatch>,
    /// The next row of `batch`.
    row: usize,
}

/// How rows are written.
pub(super) enum Encoder {
    Data(RowEncoder),
    Copy(CopyEncoder),
}

/// How far a result was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// To its end.
    All { rows: u64 },
    /// As many rows as were asked for; there may be more.
    Some { rows: u64 },
}

impl Cursor {
    pub(super) fn new(encoder: Encoder, batches: BatchStream) -> Self {
        Cursor {
            encoder,
            batches,
            batch: None,
            row: 0,
        }
    }

    pub(super) fn into_encoder(self) -> Encoder {
        self.encoder
    }

    /// Sends rows until the end or until `rows_max` of them.
    pub(super) async fn send(
        &mut self,
        client: &mut Client,
        running: &Running,
        rows_max: Option<usize>,
    ) -> Result<Sent, Stop> {
        let mut rows: u64 = 0;
        let mut rows_left = rows_max.unwrap_or(usize::MAX);
        loop {
            client.check(running)?;
            let Some(batch) = &self.batch else {
                match client.wait_item(running, self.batches.next()).await? {
                    Some(batch) => {
                        self.batch = Some(batch.map_err(|error| running.explain(error))?);
                        self.row = 0;
                        continue;
                    }
                    None => return Ok(Sent::All { rows }),
                }
            };
            while self.row < batch.num_rows() && rows_left > 0 && !client.outbound.is_full() {
                self.encoder.write(batch, self.row, &mut client.outbound)?;
                self.row += 1;
                rows += 1;
                // Without a limit it does not matter that this counts.
                rows_left -= 1;
            }
            if self.row == batch.num_rows() {
                self.batch = None;
            }
            if rows_left == 0 {
                return Ok(Sent::Some { rows });
            }
            client.drain(running).await?;
        }
    }
}

impl Encoder {
    fn write(&mut self, batch: &RecordBatch, row: usize, outbound: &mut Outbound) -> Result<()> {
        match self {
            Encoder::Data(encoder) => encoder.write(batch, row, outbound),
            Encoder::Copy(encoder) => encoder.write(batch, row, outbound),
        }
    }
}

/// Writes DataRow messages.
pub(super) struct RowEncoder {
    writers: Vec<ValueWriter>,
    columns: i16,
}

impl RowEncoder {
    /// `formats`: one for each column of `schema`.
    pub(super) fn new(
        schema: &SchemaRef,
        formats: &[Format],
        style: DateTimeStyle,
    ) -> Result<RowEncoder> {
        let writers = schema
            .fields()
            .iter()
            .zip(formats)
            .map(|(field, format)| ValueWriter::with_style(field, *format, style))
            .collect::<Result<Vec<_>>>()?;
        Ok(RowEncoder {
            writers,
            columns: column_count(schema)?,
        })
    }

    fn write(&self, batch: &RecordBatch, row: usize, outbound: &mut Outbound) -> Result<()> {
        outbound.frame(b'D', |buffer| {
            buffer.put_i16(self.columns);
            for (writer, column) in self.writers.iter().zip(batch.columns()) {
                let start = buffer.len();
                buffer.put_i32(-1);
                if writer.write(column.as_ref(), row, buffer)? {
                    let length = value_length(buffer.len() - start - 4)?;
                    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
                }
            }
            Ok(())
        })
    }
}

/// The length word of a value.
pub(super) fn value_length(bytes: usize) -> Result<i32> {
    i32::try_from(bytes).map_err(|_| {
        Error::new(
            SqlState::STATEMENT_TOO_COMPLEX,
            "a value is larger than the protocol's 2 GiB",
        )
    })
}

/// The number of columns as messages carry it.
pub(super) fn column_count(schema: &SchemaRef) -> Result<i16> {
    let columns = schema.fields().len();
    i16::try_from(columns).map_err(|_| {
        Error::new(
            SqlState::STATEMENT_TOO_COMPLEX,
            format!("a result of {columns} columns is more than the protocol's 32767"),
        )
    })
}

/// Announces the columns of `schema`.
pub(super) fn row_description(
    schema: &SchemaRef,
    formats: &[Format],
) -> Result<PgWireBackendMessage> {
    column_count(schema)?;
    let described = schema.fields().iter().zip(formats).map(|(field, format)| {
        let PgType { oid, len, modifier } = PgType::of(field);
        let name = field.name().replace('\0', "");
        FieldDescription::new(name, 0, 0, oid, len, modifier, format_code(*format))
    });
    Ok(PgWireBackendMessage::RowDescription(RowDescription::new(
        described.collect(),
    )))
}

pub(super) fn format_code(format: Format) -> i16 {
    match format {
        Format::Text => 0,
        Format::Binary => 1,
    }
}

/// A Bind message's format codes, for `count` values: none means text, one means it for all.
///
/// # Errors
/// 08P01 when there are neither none, one nor `count` of them, or when one is unknown.
pub(super) fn formats(codes: &[i16], count: usize) -> Result<Vec<Format>> {
    let format = |code: &i16| match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("unsupported format code: {other}"),
        )),
    };
    match codes {
        [] => Ok(vec![Format::Text; count]),
        [code] => Ok(vec![format(code)?; count]),
        codes if codes.len() == count => codes.iter().map(format).collect(),
        codes => Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message has {} formats but {count} values",
                codes.len()
            ),
        )),
    }
}
