//! What a client says after login: messages cut out of bytes, no length of which is trusted.
//!
//! Rule: a message is its tag, a length that counts itself, and a body.
//! State: the bytes still to be skipped of a message that is too large.
//! Bounds: a message is refused when its length is read, never gathered first; the refusal reaches
//! the client as an error of its statement, and the connection goes on.
//!
//! Example, a Query: `Q 00 00 00 0d S E L E C T ␠ 1 00`.
//!
//! The decoders of `pgwire` are not used for this direction: they panic on bodies that end early
//! and replace what is not UTF-8.

use bytes::{Buf, Bytes, BytesMut};

use crate::base::limits::MESSAGE_SMALL_BYTES_MAX;
use crate::error::{Error, Result, SqlState};

/// Postgres' own largest message; a longer one is not a message but noise.
const LENGTH_MAX: usize = 0x3fff_ffff;

/// A tag and its length.
const HEADER_BYTES: usize = 5;

/// A message of a client that has logged in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Query {
        text: String,
    },
    Parse(Parse),
    Bind(Bind),
    Describe {
        target: Target,
        name: String,
    },
    Execute {
        portal: String,
        rows_max: Option<usize>,
    },
    Close {
        target: Target,
        name: String,
    },
    Flush,
    Sync,
    Terminate,
    CopyData(Bytes),
    CopyDone,
    CopyFail {
        reason: String,
    },
    /// A message whose frame was whole but which cannot be obeyed.
    Refused {
        tag: u8,
        error: Error,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parse {
    pub name: String,
    pub text: String,
    /// Declared parameter types; 0 = not said.
    pub oids: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub portal: String,
    pub statement: String,
    pub parameter_formats: Vec<i16>,
    /// `None` = NULL.
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

/// What Describe and Close are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// Cuts messages out of a buffer.
#[derive(Debug)]
pub(super) struct Framing {
    bytes_max: usize,
    skipped: Option<Skipped>,
}

/// A message too large to keep, on its way past.
#[derive(Debug)]
struct Skipped {
    tag: u8,
    length: usize,
    bytes_left: usize,
}

impl Framing {
    /// `bytes_max`: the largest message that is taken.
    pub(super) fn new(bytes_max: usize) -> Self {
        Framing {
            bytes_max,
            skipped: None,
        }
    }

    /// Takes the next whole message from `buffer`; `None` = it needs more bytes.
    ///
    /// # Errors
    /// When the bytes are not the protocol: nothing after them can be understood.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Message>> {
        if self.skipped.is_some() {
            return Ok(self.skip(buffer));
        }
        let Some((tag, length)) = header(buffer)? else {
            return Ok(None);
        };
        let bytes_max = match tag {
            b'Q' | b'P' | b'B' | b'd' | b'F' => self.bytes_max,
            _ => self.bytes_max.min(MESSAGE_SMALL_BYTES_MAX),
        };
        if length > bytes_max {
            buffer.advance(1);
            self.skipped = Some(Skipped {
                tag,
                length,
                bytes_left: length,
            });
            return Ok(self.skip(buffer));
        }
        if buffer.len() < 1 + length {
            return Ok(None);
        }
        buffer.advance(HEADER_BYTES);
        let body = Body(buffer.split_to(length - 4).freeze());
        Ok(Some(
            decode(tag, body).unwrap_or_else(|error| Message::Refused { tag, error }),
        ))
    }

    /// Bytes that the message at the front of `buffer` still needs, as far as that is known.
    pub(super) fn bytes_missing(&self, buffer: &[u8]) -> usize {
        match header(buffer) {
            Ok(Some((_, length))) if length <= self.bytes_max => {
                (1 + length).saturating_sub(buffer.len())
            }
            _ => 1,
        }
    }

    /// Whether the buffer begins with a message, and not with the rest of one that is passed over.
    pub(super) fn is_between_messages(&self) -> bool {
        self.skipped.is_none()
    }

    fn skip(&mut self, buffer: &mut BytesMut) -> Option<Message> {
        let skipped = self.skipped.as_mut()?;
        let bytes = skipped.bytes_left.min(buffer.len());
        buffer.advance(bytes);
        skipped.bytes_left -= bytes;
        if skipped.bytes_left > 0 {
            return None;
        }
        let Skipped { tag, length, .. } = self.skipped.take()?;
        let error = Error::new(
            SqlState::STATEMENT_TOO_COMPLEX,
            format!("a message of {length} bytes is larger than this server takes"),
        )
        .hint(format!(
            "send at most {} bytes at once; COPY takes any amount in many messages",
            self.bytes_max
        ));
        Some(Message::Refused { tag, error })
    }
}

/// The tag and length at the front of `buffer`, when they are there and can be true.
fn header(buffer: &[u8]) -> Result<Option<(u8, usize)>> {
    let Some(&tag) = buffer.first() else {
        return Ok(None);
    };
    if !b"QPBDECHSXdcfFp".contains(&tag) {
        return Err(violation(format!("unknown message type {tag:#04x}")));
    }
    let Some(mut length) = buffer.get(1..HEADER_BYTES) else {
        return Ok(None);
    };
    let length = length.get_u32();
    match usize::try_from(length) {
        Ok(length) if (4..=LENGTH_MAX).contains(&length) => Ok(Some((tag, length))),
        _ => Err(violation(format!(
            "a message of type {tag:#04x} has length {length}"
        ))),
    }
}

fn decode(tag: u8, mut body: Body) -> Result<Message> {
    let message = match tag {
        b'Q' => Message::Query { text: body.text()? },
        b'P' => Message::Parse(body.parse()?),
        b'B' => Message::Bind(body.bind()?),
        b'D' => Message::Describe {
            target: body.target()?,
            name: body.text()?,
        },
        b'C' => Message::Close {
            target: body.target()?,
            name: body.text()?,
        },
        b'E' => Message::Execute {
            portal: body.text()?,
            // Zero and less mean all rows.
            rows_max: usize::try_from(body.i32()?).ok().filter(|rows| *rows > 0),
        },
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'X' => Message::Terminate,
        b'd' => return Ok(Message::CopyData(body.0)),
        b'c' => Message::CopyDone,
        b'f' => Message::CopyFail {
            reason: body.text()?,
        },
        b'F' => {
            return Err(
                Error::unsupported("function call messages are not supported")
                    .hint("call the function in a SELECT"),
            );
        }
        _ => return Err(violation("a password was not asked for")),
    };
    body.end()?;
    Ok(message)
}

/// A message's body, read from the front.
struct Body(Bytes);

impl Body {
    fn take(&mut self, bytes: usize) -> Result<Bytes> {
        match self.0.len() >= bytes {
            true => Ok(self.0.split_to(bytes)),
            false => Err(violation("a message ends before its contents do")),
        }
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(self.take(2)?.get_u16())
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(self.take(4)?.get_i32())
    }

    fn text(&mut self) -> Result<String> {
        let Some(end) = self.0.iter().position(|byte| *byte == 0) else {
            return Err(violation("a text in a message has no end"));
        };
        let text = self.0.split_to(end);
        self.0.advance(1);
        match String::from_utf8(text.into()) {
            Ok(text) => Ok(text),
            Err(_) => Err(Error::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                "invalid byte sequence for encoding \"UTF8\" in a message",
            )
            .hint("set client_encoding to UTF8 and send text in it")),
        }
    }

    fn target(&mut self) -> Result<Target> {
        match self.take(1)?.get_u8() {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(violation(format!(
                "{other:#04x} is neither a statement nor a portal"
            ))),
        }
    }

    fn formats(&mut self) -> Result<Vec<i16>> {
        let count = usize::from(self.u16()?);
        let mut bytes = self.take(2 * count)?;
        Ok((0..count).map(|_| bytes.get_i16()).collect())
    }

    fn parse(&mut self) -> Result<Parse> {
        let (name, text) = (self.text()?, self.text()?);
        let count = usize::from(self.u16()?);
        let mut bytes = self.take(4 * count)?;
        Ok(Parse {
            name,
            text,
            oids: (0..count).map(|_| bytes.get_u32()).collect(),
        })
    }

    fn bind(&mut self) -> Result<Bind> {
        let (portal, statement) = (self.text()?, self.text()?);
        let parameter_formats = self.formats()?;
        let count = usize::from(self.u16()?);
        let mut parameters = Vec::new();
        for _ in 0..count {
            // A negative length is NULL.
            parameters.push(match usize::try_from(self.i32()?) {
                Ok(bytes) => Some(self.take(bytes)?),
                Err(_) => None,
            });
        }
        let result_formats = self.formats()?;
        Ok(Bind {
            portal,
            statement,
            parameter_formats,
            parameters,
            result_formats,
        })
    }

    fn end(&self) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(violation("a message goes on after its contents")),
        }
    }
}

fn violation(message: impl Into<String>) -> Error {
    Error::new(SqlState::PROTOCOL_VIOLATION, message)
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use pgwire::messages::PgWireFrontendMessage;
    use pgwire::messages::extendedquery;
    use pgwire::messages::simplequery;

    use super::*;

    fn encoded(message: PgWireFrontendMessage) -> BytesMut {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer).unwrap();
        buffer
    }

    fn frame(tag: u8, body: &[u8]) -> BytesMut {
        let mut buffer = BytesMut::new();
        buffer.put_u8(tag);
        buffer.put_u32(u32::try_from(body.len() + 4).unwrap());
        buffer.put_slice(body);
        buffer
    }

    fn refusal(buffer: &mut BytesMut) -> Error {
        match Framing::new(1024).next(buffer).unwrap() {
            Some(Message::Refused { error, .. }) => error,
            other => panic!("{other:?} was not refused"),
        }
    }

    #[test]
    fn a_message_is_taken_when_its_last_byte_has_come() {
        let whole = encoded(PgWireFrontendMessage::Query(simplequery::Query::new(
            "SELECT 1".into(),
        )));
        let mut framing = Framing::new(1024);
        let mut buffer = BytesMut::new();
        for byte in &whole[..whole.len() - 1] {
            buffer.put_u8(*byte);
            assert_eq!(framing.next(&mut buffer).unwrap(), None);
        }
        buffer.put_u8(0);
        let message = framing.next(&mut buffer).unwrap();
        assert_eq!(
            message,
            Some(Message::Query {
                text: "SELECT 1".into()
            })
        );
        assert!(buffer.is_empty());
    }

    #[test]
    fn extended_messages_decode_as_another_implementation_encodes_them() {
        let bind = extendedquery::Bind::new(
            Some("p".into()),
            Some("s".into()),
            vec![0, 1],
            vec![Some(Bytes::from_static(b"12")), None],
            vec![1],
        );
        let mut buffer = encoded(PgWireFrontendMessage::Bind(bind));
        let parse = extendedquery::Parse::new(Some("s".into()), "SELECT $1".into(), vec![20]);
        buffer.unsplit(encoded(PgWireFrontendMessage::Parse(parse)));
        let execute = extendedquery::Execute::new(None, 0);
        buffer.unsplit(encoded(PgWireFrontendMessage::Execute(execute)));
        let mut framing = Framing::new(1024);
        assert_eq!(
            framing.next(&mut buffer).unwrap(),
            Some(Message::Bind(Bind {
                portal: "p".into(),
                statement: "s".into(),
                parameter_formats: vec![0, 1],
                parameters: vec![Some(Bytes::from_static(b"12")), None],
                result_formats: vec![1],
            }))
        );
        let parse = Parse {
            name: "s".into(),
            text: "SELECT $1".into(),
            oids: vec![20],
        };
        assert_eq!(
            framing.next(&mut buffer).unwrap(),
            Some(Message::Parse(parse))
        );
        let execute = Message::Execute {
            portal: String::new(),
            rows_max: None,
        };
        assert_eq!(framing.next(&mut buffer).unwrap(), Some(execute));
    }

    #[test]
    fn a_body_that_lies_about_its_contents_is_refused_and_the_next_message_is_read() {
        for (tag, body) in [
            (b'Q', &b"no end"[..]),
            (b'P', b"s\0SELECT\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'B', b"\0\0\xff\xff"),
            (b'D', b"?name\0"),
            (b'E', b"p\0\0"),
            (b'S', b"more"),
            (b'p', b"secret\0"),
        ] {
            let mut buffer = frame(tag, body);
            buffer.unsplit(frame(b'S', b""));
            assert_eq!(
                refusal(&mut buffer).state(),
                SqlState::PROTOCOL_VIOLATION,
                "{body:?}"
            );
            assert_eq!(
                Framing::new(1024).next(&mut buffer).unwrap(),
                Some(Message::Sync)
            );
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let error = refusal(&mut frame(b'Q', b"SELECT '\xff'\0"));
        assert_eq!(error.state(), SqlState::CHARACTER_NOT_IN_REPERTOIRE);
    }

    #[test]
    fn function_calls_are_refused() {
        let error = refusal(&mut frame(b'F', b"\0\0\0\0"));
        assert_eq!(error.state(), SqlState::FEATURE_NOT_SUPPORTED);
    }

    #[test]
    fn a_message_that_is_too_large_passes_by_without_being_gathered() {
        let mut framing = Framing::new(1024);
        let mut buffer = frame(b'd', &[7; 5000]);
        buffer.unsplit(frame(b'c', b""));
        let mut held = BytesMut::new();
        let mut seen = Vec::new();
        for chunk in buffer.chunks(100) {
            held.extend_from_slice(chunk);
            while let Some(message) = framing.next(&mut held).unwrap() {
                seen.push(message);
            }
            assert!(held.len() <= 100);
        }
        assert_eq!(seen.len(), 2);
        let Message::Refused { tag: b'd', error } = &seen[0] else {
            panic!("{:?}", seen[0]);
        };
        assert_eq!(error.state(), SqlState::STATEMENT_TOO_COMPLEX);
        assert_eq!(seen[1], Message::CopyDone);
    }

    #[test]
    fn what_is_not_the_protocol_ends_the_conversation() {
        for bytes in [&b"GET / HTTP/1.1"[..], b"Q\0\0\0\x03", b"Q\xff\xff\xff\xff"] {
            let error = Framing::new(1024)
                .next(&mut BytesMut::from(bytes))
                .unwrap_err();
            assert_eq!(error.state(), SqlState::PROTOCOL_VIOLATION);
        }
    }
}
