//! The way from the client: bytes read ahead within a bound, cut into messages.

use std::future;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::base::limits::PIPELINE_BYTES_MAX;
use crate::error::Result;
use crate::wire::frame::{Framing, Message};

/// Room for the messages of an ordinary statement.
const READ_BYTES: usize = 8 * 1024;

/// The reading half of a connection.
pub(super) struct Inbound {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    framing: Framing,
    buffer: BytesMut,
}

impl Inbound {
    pub(super) fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        message_bytes_max: usize,
    ) -> Self {
        Inbound {
            reader: Box::new(reader),
            framing: Framing::new(message_bytes_max),
            buffer: BytesMut::new(),
        }
    }

    /// Takes a message that has already been read; `None` = [`Inbound::fill`] first.
    pub(super) fn take(&mut self) -> Result<Option<Message>> {
        self.framing.next(&mut self.buffer)
    }

    /// Whether the next message has come and is Sync.
    pub(super) fn is_at_sync(&self) -> bool {
        self.framing.is_between_messages() && self.buffer.first() == Some(&b'S')
    }

    /// Reads some bytes. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the client has gone, politely or not.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        // A large message's room grows with what has really come of it.
        let missing = self.framing.bytes_missing(&self.buffer);
        self.buffer
            .reserve(missing.clamp(READ_BYTES, PIPELINE_BYTES_MAX));
        match self.reader.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads ahead within the bound and resolves when the client has gone. A client that has filled
    /// the bound is held back by TCP and not watched; writing to it tells.
    pub(super) async fn gone(&mut self) {
        while self.buffer.len() < PIPELINE_BYTES_MAX {
            if self.fill().await.is_err() {
                return;
            }
        }
        future::pending().await
    }
}
