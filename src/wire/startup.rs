//! The beginning of a connection: encryption refused, a cancel request, or a login.
//!
//! Packets are read exactly, never ahead: where encryption is accepted one day, nothing that was
//! sent in clear may be taken for part of it.
//!
//! ```text
//!   SSLRequest    ──► N    at most ENCRYPTION_REQUESTS_MAX of the two
//!   GSSENCRequest ──► N
//!   CancelRequest ──► (closed without an answer)
//!   Startup       ──► Login
//! ```

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::base::limits::{ENCRYPTION_REQUESTS_MAX, LOGIN_BYTES_MAX};
use crate::engine::SessionParameters;
use crate::error::{Error, Result, SqlState};
use crate::wire::client::Stop;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// The protocol version we speak, in its two halves.
const MAJOR: u16 = 3;
const MINOR: u16 = 0;

/// What a connection was opened for.
#[derive(Debug)]
pub(super) enum Opening {
    Login(Login),
    Cancel { process_id: i32, secret: i32 },
}

#[derive(Debug, Default)]
pub(super) struct Login {
    pub(super) parameters: SessionParameters,
    /// The client asked for a newer protocol or for options that only a newer one has.
    pub(super) is_newer: bool,
    /// Protocol options that are not known here, to be named in the answer.
    pub(super) unknown_options: Vec<String>,
}

/// Reads until it is clear what the client wants.
///
/// # Errors
/// `Stop::Fatal` for what is not a login; `Stop::Gone` when the client left.
pub(super) async fn open<S>(stream: &mut S) -> Result<Opening, Stop>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for _ in 0..=ENCRYPTION_REQUESTS_MAX {
        let mut packet = read_packet(stream).await?;
        match packet.get_u32() {
            SSL_REQUEST | GSSENC_REQUEST => {
                stream.write_all(b"N").await.map_err(|_| Stop::Gone)?;
            }
            CANCEL_REQUEST => {
                if packet.len() != 8 {
                    return Err(fatal("a cancel request has an unknown secret"));
                }
                let process_id = packet.get_i32();
                return Ok(Opening::Cancel {
                    process_id,
                    secret: packet.get_i32(),
                });
            }
            version => return Ok(Opening::Login(login(version, packet).map_err(Stop::Fatal)?)),
        }
    }
    Err(fatal("encryption was refused, and asked for again"))
}

/// A packet without its length: at least a version or request code.
async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Stop> {
    let length = stream.read_u32().await.map_err(|_| Stop::Gone)?;
    let length = match usize::try_from(length) {
        Ok(length) if (8..=LOGIN_BYTES_MAX).contains(&length) => length - 4,
        _ => return Err(fatal(format!("invalid length of startup packet: {length}"))),
    };
    let mut packet = vec![0; length];
    stream
        .read_exact(&mut packet)
        .await
        .map_err(|_| Stop::Gone)?;
    Ok(packet.into())
}

fn login(version: u32, mut packet: Bytes) -> Result<Login> {
    let [major_high, major_low, minor_high, minor_low] = version.to_be_bytes();
    let major = u16::from_be_bytes([major_high, major_low]);
    let minor = u16::from_be_bytes([minor_high, minor_low]);
    if major != MAJOR {
        return Err(Error::unsupported(format!(
            "unsupported frontend protocol {major}.{minor}: server supports {MAJOR}.{MINOR}"
        )));
    }
    let mut login = Login {
        is_newer: minor > MINOR,
        ..Login::default()
    };
    let mut options = String::new();
    while packet.first().is_some_and(|byte| *byte != 0) {
        let (name, value) = (text(&mut packet)?, text(&mut packet)?);
        match name.as_str() {
            "user" => login.parameters.user = value,
            "database" => login.parameters.database = value,
            "options" => options = value,
            "replication" if is_true(&value) => {
                return Err(
                    Error::unsupported("replication connections are not supported")
                        .hint("use SUBSCRIBE to follow a view's changes"),
                );
            }
            "replication" => {}
            _ if name.starts_with("_pq_.") => login.unknown_options.push(name),
            _ => {
                login.parameters.settings.insert(name, value);
            }
        }
    }
    if login.parameters.user.is_empty() {
        return Err(Error::new(
            SqlState::INVALID_AUTHORIZATION,
            "no user name specified in startup packet",
        ));
    }
    if login.parameters.database.is_empty() {
        login.parameters.database.clone_from(&login.parameters.user);
    }
    login.is_newer |= !login.unknown_options.is_empty();
    // What is said by its own name is meant more than what is said among the options.
    for (name, value) in command_line(&options)? {
        login.parameters.settings.entry(name).or_insert(value);
    }
    Ok(login)
}

fn text(packet: &mut Bytes) -> Result<String> {
    let Some(end) = packet.iter().position(|byte| *byte == 0) else {
        return Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            "invalid startup packet layout: a text has no end",
        ));
    };
    let text = packet.split_to(end);
    packet.advance(1);
    String::from_utf8(text.into()).map_err(|_| {
        Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "a startup parameter is not valid in encoding \"UTF8\"",
        )
    })
}

fn is_true(value: &str) -> bool {
    !["", "0", "off", "false", "no"].contains(&value.to_ascii_lowercase().as_str())
}

/// The settings in `-c name=value --other=value`; a backslash keeps the next character as it is.
fn command_line(options: &str) -> Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next(),
            Some(setting) => Some(setting.to_string()),
            None => word.strip_prefix("--").map(str::to_string),
        };
        let Some((name, value)) = setting.as_deref().and_then(|s| s.split_once('=')) else {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                format!("invalid command-line argument for server process: {word}"),
            )
            .hint("options takes settings: -c name=value"));
        };
        settings.insert(name.trim().replace('-', "_"), value.to_string());
    }
    Ok(settings)
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ if character.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

fn fatal(message: impl Into<String>) -> Stop {
    Stop::Fatal(Error::new(SqlState::PROTOCOL_VIOLATION, message))
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend_from_slice(&u32::try_from(body.len() + 8).unwrap().to_be_bytes());
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    /// Sends everything at once; the answer and what the server left unread are handed back.
    async fn opened(sent: &[u8]) -> (Result<Opening, Stop>, DuplexStream, DuplexStream) {
        let (mut server, mut client) = tokio::io::duplex(1 << 20);
        client.write_all(sent).await.unwrap();
        let opening = open(&mut server).await;
        (opening, server, client)
    }

    async fn login_of(body: &[u8]) -> Login {
        match opened(&packet(196_608, body)).await.0.unwrap() {
            Opening::Login(login) => login,
            other => panic!("{other:?}"),
        }
    }

    async fn refusal(sent: &[u8]) -> Error {
        match opened(sent).await.0 {
            Err(Stop::Fatal(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn every_parameter_becomes_a_setting() {
        let login = login_of(
            b"user\0ann\0application_name\0psql\0options\0-c a=b --time-zone=UTC -cx=y\\ z\0\0",
        )
        .await;
        let parameters = login.parameters;
        assert_eq!(
            (parameters.user.as_str(), parameters.database.as_str()),
            ("ann", "ann")
        );
        let settings: Vec<_> = parameters
            .settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            settings,
            ["a=b", "application_name=psql", "time_zone=UTC", "x=y z"]
        );
        assert!(!login.is_newer);
    }

    #[tokio::test]
    async fn encryption_is_refused_and_the_login_read_after_it() {
        let mut sent = packet(SSL_REQUEST, b"");
        sent.extend(packet(GSSENC_REQUEST, b""));
        sent.extend(packet(196_608, b"user\0ann\0\0"));
        sent.extend(b"Q");
        let (opening, mut server, mut client) = opened(&sent).await;
        assert!(matches!(opening, Ok(Opening::Login(_))));
        let mut answer = [0; 2];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"NN");
        // What follows the login was left in the socket.
        assert_eq!(server.read_u8().await.unwrap(), b'Q');
    }

    #[tokio::test]
    async fn encryption_requests_without_end_are_cut_off() {
        let sent = packet(SSL_REQUEST, b"").repeat(1000);
        assert_eq!(refusal(&sent).await.state(), SqlState::PROTOCOL_VIOLATION);
    }

    #[tokio::test]
    async fn a_cancel_request_names_its_process() {
        let (opening, ..) = opened(&packet(CANCEL_REQUEST, &[0, 0, 0, 7, 0, 0, 0, 9])).await;
        assert!(matches!(
            opening,
            Ok(Opening::Cancel {
                process_id: 7,
                secret: 9
            })
        ));
        let error = refusal(&packet(CANCEL_REQUEST, &[0; 3])).await;
        assert_eq!(error.state(), SqlState::PROTOCOL_VIOLATION);
    }

    #[tokio::test]
    async fn a_newer_minor_version_and_unknown_options_are_negotiated() {
        let sent = packet(196_610, b"user\0ann\0_pq_.fast\x001\0\0");
        let Ok(Opening::Login(login)) = opened(&sent).await.0 else {
            panic!("not a login");
        };
        assert!(login.is_newer);
        assert_eq!(login.unknown_options, ["_pq_.fast"]);
    }

    #[tokio::test]
    async fn what_is_not_a_login_is_refused() {
        for (sent, state) in [
            (
                packet(131_072, b"user\0ann\0\0"),
                SqlState::FEATURE_NOT_SUPPORTED,
            ),
            (packet(196_608, b"\0"), SqlState::INVALID_AUTHORIZATION),
            (packet(196_608, b"user\0ann"), SqlState::PROTOCOL_VIOLATION),
            (
                packet(196_608, b"user\0\xff\0\0"),
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            ),
            (
                packet(196_608, b"user\0a\0options\0-x\0\0"),
                SqlState::SYNTAX_ERROR,
            ),
            (
                packet(196_608, b"user\0a\0replication\0true\0\0"),
                SqlState::FEATURE_NOT_SUPPORTED,
            ),
            (
                b"GET / HTTP/1.1\r\n\r\n".to_vec(),
                SqlState::PROTOCOL_VIOLATION,
            ),
            (vec![0, 0, 0, 4, 0, 0], SqlState::PROTOCOL_VIOLATION),
        ] {
            assert_eq!(refusal(&sent).await.state(), state, "{sent:?}");
        }
    }
}
