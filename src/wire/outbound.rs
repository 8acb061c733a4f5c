//! The way to the client: messages gathered in one reused buffer and written as the socket takes
//! them.
//!
//! State: bytes not yet written; while a frame is being encoded, where it begins.
//! Bounds: callers stop adding at `OUTBOUND_BYTES_MAX` and wait for the socket; one row may be
//! larger, its room is given back afterwards.
//!
//! Invariant: what is written is whole frames only. An encoder that fails or panics inside a frame
//! leaves nothing of it behind.

use std::fmt;
use std::io;

use bytes::{BufMut, BytesMut};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::base::limits::OUTBOUND_BYTES_MAX;
use crate::engine::Notice;
use crate::error::{Error, Result, SqlState};

/// The largest buffer that is kept for the next rows.
const KEPT_BYTES_MAX: usize = 4 * OUTBOUND_BYTES_MAX;

/// Whether the connection goes on after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Fatal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        })
    }
}

/// The writing half of a connection.
pub(super) struct Outbound {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    buffer: BytesMut,
    /// Where the frame begins that is being encoded.
    open: Option<usize>,
    bytes_max_seen: usize,
}

impl Outbound {
    pub(super) fn new(writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Outbound {
            writer: Box::new(writer),
            buffer: BytesMut::new(),
            open: None,
            bytes_max_seen: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether the client should take something before more is made.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= OUTBOUND_BYTES_MAX
    }

    /// Adds a message.
    pub(super) fn send(&mut self, message: PgWireBackendMessage) {
        let start = self.buffer.len();
        if let Err(error) = message.encode(&mut self.buffer) {
            // Only what clients refuse as too long fails; the settings and tags that we send are
            // short, so what is left out is nothing that a client waits for.
            self.buffer.truncate(start);
            tracing::error!(%error, "a message to a client could not be encoded");
        }
    }

    /// Adds a message whose body is written by `body`, or nothing if it fails.
    ///
    /// # Errors
    /// Those of `body`, and when the body is larger than the protocol's 2 GiB.
    pub(super) fn frame(
        &mut self,
        tag: u8,
        body: impl FnOnce(&mut BytesMut) -> Result<()>,
    ) -> Result<()> {
        let start = self.buffer.len();
        self.open = Some(start);
        self.buffer.put_u8(tag);
        self.buffer.put_i32(0);
        let written = body(&mut self.buffer).and_then(|()| {
            let length = i32::try_from(self.buffer.len() - start - 1).map_err(|_| {
                Error::new(
                    SqlState::STATEMENT_TOO_COMPLEX,
                    "a row is larger than the protocol's 2 GiB",
                )
            })?;
            self.buffer[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
            Ok(())
        });
        self.bytes_max_seen = self.bytes_max_seen.max(self.buffer.len());
        if written.is_err() {
            self.buffer.truncate(start);
        }
        self.open = None;
        written
    }

    /// Drops the frame that a panic left half encoded.
    pub(super) fn repair(&mut self) {
        if let Some(start) = self.open.take() {
            self.buffer.truncate(start);
        }
    }

    pub(super) fn error(&mut self, severity: Severity, error: &Error) {
        let severity = severity.to_string();
        let mut fields = fields(&severity, error.state(), error.message());
        let detail = error.get_detail().map(|detail| (b'D', detail.to_string()));
        let hint = error.get_hint().map(|hint| (b'H', hint.to_string()));
        let position = error
            .get_position()
            .map(|position| (b'P', position.to_string()));
        fields.extend([detail, hint, position].into_iter().flatten());
        self.send(PgWireBackendMessage::ErrorResponse(ErrorResponse::new(
            clean(fields),
        )));
    }

    pub(super) fn notice(&mut self, notice: &Notice) {
        let severity = notice.severity.to_string();
        let mut fields = fields(&severity, notice.state, &notice.message);
        fields.extend(notice.detail.iter().map(|detail| (b'D', detail.clone())));
        fields.extend(notice.hint.iter().map(|hint| (b'H', hint.clone())));
        self.send(PgWireBackendMessage::NoticeResponse(NoticeResponse::new(
            clean(fields),
        )));
    }

    /// Writes a part of what is gathered. Nothing is lost when the future is dropped.
    pub(super) async fn write_some(&mut self) -> io::Result<()> {
        if self.writer.write_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if self.buffer.is_empty() {
            if self.bytes_max_seen > KEPT_BYTES_MAX {
                self.buffer = BytesMut::new();
            }
            self.bytes_max_seen = 0;
        }
        Ok(())
    }

    /// Writes everything and closes the way: the last act of a connection.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        while !self.is_empty() {
            self.write_some().await?;
        }
        self.writer.shutdown().await
    }
}

fn fields(severity: &str, state: SqlState, message: &str) -> Vec<(u8, String)> {
    vec![
        (b'S', severity.to_string()),
        (b'V', severity.to_string()),
        (b'C', state.code().to_string()),
        (b'M', message.to_string()),
    ]
}

/// A text ends at its first zero byte, and what follows would be read as the next field.
fn clean(mut fields: Vec<(u8, String)>) -> Vec<(u8, String)> {
    for (_, text) in &mut fields {
        if text.contains('\0') {
            *text = text.replace('\0', "\\0");
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use pgwire::messages::response::CommandComplete;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn outbound() -> (Outbound, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        (Outbound::new(ours), theirs)
    }

    async fn written(mut outbound: Outbound, mut client: tokio::io::DuplexStream) -> Vec<u8> {
        outbound.finish().await.unwrap();
        drop(outbound);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn an_error_carries_all_its_fields_and_no_zero_byte() {
        let (mut outbound, client) = outbound();
        let error = Error::new(SqlState::SYNTAX_ERROR, "syntax error at \"\0\"")
            .detail("d")
            .hint("h")
            .position(7);
        outbound.error(Severity::Error, &error);
        let bytes = written(outbound, client).await;
        let body = &bytes[5..];
        let expected = "SERROR\0VERROR\0C42601\0Msyntax error at \"\\0\"\0Dd\0Hh\0P7\0\0";
        assert_eq!(body, expected.as_bytes());
        assert_eq!(bytes[0], b'E');
        assert_eq!(
            usize::try_from(u32::from_be_bytes(bytes[1..5].try_into().unwrap())).unwrap(),
            bytes.len() - 1
        );
    }

    #[tokio::test]
    async fn a_frame_that_fails_or_panics_leaves_nothing() {
        let (mut outbound, client) = outbound();
        let failed = outbound.frame(b'D', |buffer| {
            buffer.put_slice(b"half");
            Err(Error::internal("no"))
        });
        assert!(failed.is_err());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            outbound.frame(b'D', |buffer| {
                buffer.put_slice(b"half");
                panic!("inside a row");
            })
        }));
        assert!(panicked.is_err());
        outbound.repair();
        outbound.send(PgWireBackendMessage::CommandComplete(CommandComplete::new(
            "X".into(),
        )));
        assert_eq!(written(outbound, client).await, b"C\0\0\0\x06X\0");
    }

    #[tokio::test]
    async fn the_room_of_a_giant_row_is_given_back() {
        let (mut outbound, mut client) = outbound();
        let row = vec![0; 2 * KEPT_BYTES_MAX];
        outbound
            .frame(b'D', |buffer| {
                buffer.put_slice(&row);
                Ok(())
            })
            .unwrap();
        assert!(outbound.is_full());
        while !outbound.is_empty() {
            outbound.write_some().await.unwrap();
        }
        assert_eq!(outbound.buffer.capacity(), 0);
        let mut taken = vec![0; row.len() + 5];
        client.read_exact(&mut taken).await.unwrap();
    }
}
