//! COPY's two conversations with the client, in either protocol.

use arrow::datatypes::SchemaRef;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};

use crate::engine::{BatchStream, CopyFormat, CopyWriter};
use crate::error::{Error, Result, SqlState};
use crate::types::pg::{DateTimeStyle, Format};
use crate::wire::client::{Client, Stop};
use crate::wire::copy::{CopyDecoder, CopyEncoder, CopyRows};
use crate::wire::frame::Message;
use crate::wire::rows::{Cursor, Encoder, Sent, column_count, format_code};
use crate::wire::running::Running;

/// What a COPY moves and how.
pub(super) struct Copy {
    pub(super) schema: SchemaRef,
    pub(super) format: CopyFormat,
    pub(super) style: DateTimeStyle,
}

impl Copy {
    /// Sends rows until they end; returns how many there were.
    pub(super) async fn send(
        self,
        client: &mut Client,
        running: &Running,
        batches: BatchStream,
    ) -> Result<u64, Stop> {
        let (code, columns, codes) = self.formats()?;
        let mut encoder = CopyEncoder::new(&self.schema, self.format, self.style)?;
        let start = CopyOutResponse::new(code, columns, codes);
        client.send(PgWireBackendMessage::CopyOutResponse(start));
        encoder.write_start(&mut client.outbound)?;
        let mut cursor = Cursor::new(Encoder::Copy(encoder), batches);
        let (Sent::All { rows } | Sent::Some { rows }) = cursor.send(client, running, None).await?;
        if let Encoder::Copy(mut encoder) = cursor.into_encoder() {
            encoder.write_end(&mut client.outbound)?;
        }
        client.send(PgWireBackendMessage::CopyDone(CopyDone::new()));
        Ok(rows)
    }

    /// Takes rows until the client ends them; the writer is then to be finished.
    ///
    /// `relation`: the table's name for errors.
    pub(super) async fn receive(
        self,
        client: &mut Client,
        running: &Running,
        writer: &mut dyn CopyWriter,
        relation: Option<String>,
    ) -> Result<(), Stop> {
        let (code, columns, codes) = self.formats()?;
        let mut rows = CopyRows::new(self.schema, relation, self.style)?;
        let mut decoder = CopyDecoder::new(&self.format);
        let start = CopyInResponse::new(code, columns, codes);
        client.send(PgWireBackendMessage::CopyInResponse(start));
        loop {
            match client.next_for(running).await? {
                Message::CopyData(data) => decoder.feed(data),
                Message::CopyDone => break,
                Message::CopyFail { reason } => return Err(given_up(&reason).into()),
                // Drivers send these behind their Execute without waiting for our answer.
                Message::Flush | Message::Sync => continue,
                Message::Terminate => return Err(Stop::Gone),
                Message::Refused { error, .. } => return Err(error.into()),
                other => return Err(unexpected(&other).into()),
            }
            write_due(client, running, &mut decoder, &mut rows, writer).await?;
        }
        decoder.end();
        write_due(client, running, &mut decoder, &mut rows, writer).await?;
        if let Some(batch) = rows.take()? {
            client.wait(running, writer.write(batch)).await?;
        }
        Ok(())
    }

    fn formats(&self) -> Result<(i8, i16, Vec<i16>)> {
        let (code, format) = match self.format {
            CopyFormat::Text { .. } | CopyFormat::Csv { .. } => (0, Format::Text),
            CopyFormat::Binary => (1, Format::Binary),
        };
        let columns = column_count(&self.schema)?;
        Ok((
            code,
            columns,
            vec![format_code(format); self.schema.fields().len()],
        ))
    }
}

/// Decodes what was fed and writes the batches that are full.
async fn write_due(
    client: &mut Client,
    running: &Running,
    decoder: &mut CopyDecoder,
    rows: &mut CopyRows,
    writer: &mut dyn CopyWriter,
) -> Result<(), Stop> {
    while decoder.next_row(rows)? {
        if rows.is_due()
            && let Some(batch) = rows.take()?
        {
            client.check(running)?;
            client.wait(running, writer.write(batch)).await?;
        }
    }
    Ok(())
}

fn given_up(reason: &str) -> Error {
    Error::new(
        SqlState::QUERY_CANCELED,
        format!("COPY from stdin failed: {reason}"),
    )
}

fn unexpected(message: &Message) -> Error {
    let name = match message {
        Message::Query { .. } => "a query",
        Message::Parse(_) | Message::Bind(_) => "another statement",
        _ => "another message",
    };
    Error::new(
        SqlState::PROTOCOL_VIOLATION,
        format!("unexpected message during COPY from stdin: {name}"),
    )
}
