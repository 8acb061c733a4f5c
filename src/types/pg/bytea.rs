//! Bytes as text: Postgres' hex form out, its hex and escape forms in.

use bytes::{BufMut, BytesMut};

use crate::error::{Error, Result, SqlState};

/// Appends `\x` and two digits for each byte.
pub(crate) fn write_hex(buffer: &mut BytesMut, bytes: &[u8]) {
    buffer.reserve(2 + 2 * bytes.len());
    buffer.put_slice(b"\\x");
    for byte in bytes {
        write_byte(buffer, *byte);
    }
}

/// Appends a byte as two lower-case hexadecimal digits.
pub(crate) fn write_byte(buffer: &mut BytesMut, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    buffer.put_u8(DIGITS[usize::from(byte >> 4)]);
    buffer.put_u8(DIGITS[usize::from(byte & 15)]);
}

/// The value of a hexadecimal digit.
pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Reads `\x…` (blanks between pairs are allowed) or text in which `\\` is a backslash and `\ooo` a
/// byte in octal.
///
/// # Errors
/// 22023 for bad hexadecimal digits, 22P02 for a bad escape.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(digits) => parse_hex(digits),
        None => parse_escaped(text.as_bytes()),
    }
}

fn parse_hex(digits: &str) -> Result<Vec<u8>> {
    let invalid = |message: String| Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let value_of = |character: char| {
        u8::try_from(character)
            .ok()
            .and_then(hex_digit)
            .ok_or_else(|| invalid(format!("invalid hexadecimal digit: \"{character}\"")))
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut characters = digits.chars();
    while let Some(character) = characters.next() {
        if matches!(character, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let high = value_of(character)?;
        let Some(character) = characters.next() else {
            return Err(invalid(
                "invalid hexadecimal data: odd number of digits".to_string(),
            ));
        };
        bytes.push(high << 4 | value_of(character)?);
    }
    Ok(bytes)
}

fn parse_escaped(mut text: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    loop {
        text = match text {
            [] => return Ok(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                rest @ ..,
            ] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [b'\\', ..] => {
                return Err(Error::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}

/// Reads a uuid: 32 hexadecimal digits, a hyphen allowed after every four, braces around.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut rest = text.as_bytes();
    if let [b'{', inner @ ..] = rest {
        rest = inner.strip_suffix(b"}")?;
    }
    let mut uuid = [0; 16];
    for (position, byte) in uuid.iter_mut().enumerate() {
        if let [b'-', after @ ..] = rest
            && position > 0
            && position % 2 == 0
        {
            rest = after;
        }
        let [high, low, after @ ..] = rest else {
            return None;
        };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
        rest = after;
    }
    rest.is_empty().then_some(uuid)
}
