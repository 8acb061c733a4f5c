//! Strict JSON, RFC 8259 to the letter: finds where a value ends and proves that it is one.
//!
//! Everything that the decoder lets pass has been through these functions, wanted or not: strings
//! are UTF-8 without control characters and with whole escapes, numbers have no leading zeros,
//! brackets match and nest at most [`JSON_DEPTH_MAX`] deep. So a truncated or garbled record is
//! noticed even where the damage is in a field that nobody reads. (One thing is left to whoever
//! takes a string: that a `\ud83d` escape has its second half; see [`unescape`].)
//!
//! Functions take the text and the position of a value's first byte and return the position behind
//! its last one. They never panic, whatever the bytes.

use std::fmt;

use crate::base::limits::JSON_DEPTH_MAX;

/// Where a value stands in the record, `[start, end)`, without the white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: usize,
    pub end: usize,
}

/// Why the text is not JSON, and the byte (from 0) at which that showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed JSON at byte {}: {}", self.at + 1, self.what)
    }
}

fn fault<T>(at: usize, what: &'static str) -> Result<T, Fault> {
    Err(Fault { at, what })
}

/// A string that was scanned: the position behind its closing quote, and whether a backslash
/// stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    pub end: usize,
    pub escaped: bool,
}

/// The position of the first byte at or after `at` that is not white space.
#[inline]
pub(super) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// The end of the value of any kind that begins at `at`, inside `depth` brackets.
#[inline]
pub(super) fn value_end(text: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    if text.get(at) == Some(&b'"') {
        return string_end(text, at).map(|scanned| scanned.end);
    }
    other_end(text, at, depth)
}

fn other_end(text: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    match text.get(at) {
        Some(b'"') => string_end(text, at).map(|scanned| scanned.end),
        Some(b'-' | b'0'..=b'9') => number_end(text, at),
        Some(b'{' | b'[') if depth >= JSON_DEPTH_MAX => fault(at, "the nesting is too deep"),
        Some(b'{') => object_end(text, at, depth + 1),
        Some(b'[') => array_end(text, at, depth + 1),
        Some(b't') => word_end(text, at, b"true"),
        Some(b'f') => word_end(text, at, b"false"),
        Some(b'n') => word_end(text, at, b"null"),
        Some(_) => fault(at, "a value was expected"),
        None => fault(at, "the record ends where a value was expected"),
    }
}

fn word_end(text: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
    if text[at..].starts_with(word) {
        Ok(at + word.len())
    } else {
        fault(at, "a value was expected")
    }
}

fn object_end(text: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    let mut fields = Fields::new(text, at, depth);
    while fields.next()?.is_some() {}
    Ok(fields.at)
}

fn array_end(text: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    let mut items = Items::new(text, at, depth);
    while items.next()?.is_some() {}
    Ok(items.at)
}

/// One field of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSpan {
    /// The name with its quotes.
    pub name: Span,
    /// Whether the name has escapes.
    pub escaped: bool,
    pub value: Span,
}

/// Walks over an object's fields; when `next` has said `None`, `at` is behind the brace.
pub(super) struct Fields<'a> {
    text: &'a [u8],
    pub at: usize,
    depth: usize,
    first: bool,
}

impl<'a> Fields<'a> {
    /// Of the object whose opening brace is at `at`; its values stand inside `depth` brackets.
    pub fn new(text: &'a [u8], at: usize, depth: usize) -> Self {
        Fields {
            text,
            at: at + 1,
            depth,
            first: true,
        }
    }

    pub fn next(&mut self) -> Result<Option<FieldSpan>, Fault> {
        let text = self.text;
        let mut at = skip_space(text, self.at);
        match text.get(at) {
            Some(b'}') => {
                self.at = at + 1;
                return Ok(None);
            }
            Some(b',') if !self.first => at = skip_space(text, at + 1),
            Some(_) if self.first => {}
            Some(_) => return fault(at, "a comma or a closing brace was expected"),
            None => return fault(at, "the record ends inside an object"),
        }
        if text.get(at) != Some(&b'"') {
            return fault(at, "a field name in quotes was expected");
        }
        let name = string_end(text, at)?;
        let colon = skip_space(text, name.end);
        if text.get(colon) != Some(&b':') {
            return fault(colon, "a colon was expected");
        }
        let start = skip_space(text, colon + 1);
        let end = value_end(text, start, self.depth)?;
        self.at = end;
        self.first = false;
        Ok(Some(FieldSpan {
            name: Span {
                start: at,
                end: name.end,
            },
            escaped: name.escaped,
            value: Span { start, end },
        }))
    }
}

/// Walks over an array's items; when `next` has said `None`, `at` is behind the bracket.
pub(super) struct Items<'a> {
    text: &'a [u8],
    pub at: usize,
    depth: usize,
    first: bool,
}

impl<'a> Items<'a> {
    /// Of the array whose opening bracket is at `at`; its values stand inside `depth` brackets.
    pub fn new(text: &'a [u8], at: usize, depth: usize) -> Self {
        Items {
            text,
            at: at + 1,
            depth,
            first: true,
        }
    }

    pub fn next(&mut self) -> Result<Option<Span>, Fault> {
        let mut start = skip_space(self.text, self.at);
        match self.text.get(start) {
            Some(b']') if self.first => {
                self.at = start + 1;
                return Ok(None);
            }
            Some(b']') => {
                self.at = start + 1;
                return Ok(None);
            }
            Some(b',') if !self.first => start = skip_space(self.text, start + 1),
            Some(_) if self.first => {}
            Some(_) => return fault(start, "a comma or a closing bracket was expected"),
            None => return fault(start, "the record ends inside an array"),
        }
        let end = value_end(self.text, start, self.depth)?;
        self.at = end;
        self.first = false;
        Ok(Some(Span { start, end }))
    }
}

/// The end of the number at `at`: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`.
#[inline]
pub(super) fn number_end(text: &[u8], at: usize) -> Result<usize, Fault> {
    let mut end = at + usize::from(text.get(at) == Some(&b'-'));
    match text.get(end) {
        Some(b'0') => {
            end += 1;
            if let Some(b'0'..=b'9') = text.get(end) {
                return fault(end, "a number has a leading zero");
            }
        }
        Some(b'1'..=b'9') => end = digits_end(text, end + 1),
        _ => return fault(end, "a digit was expected"),
    }
    if text.get(end) == Some(&b'.') {
        let fraction = end + 1;
        end = digits_end(text, fraction);
        if end == fraction {
            return fault(end, "a digit was expected");
        }
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = end + 1 + sign;
        end = digits_end(text, exponent);
        if end == exponent {
            return fault(end, "a digit was expected");
        }
    }
    Ok(end)
}

#[inline]
fn digits_end(text: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let count = leading_digits(u64::from_le_bytes(*bytes) ^ ZEROS);
        at += count;
        if count < 8 {
            return at;
        }
    }
    while let Some(b'0'..=b'9') = text.get(at) {
        at += 1;
    }
    at
}

/// The digit zero in every byte.
pub(super) const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);

/// The high bit of every byte that is above nine. No carry leaves a byte: 0x7f + 0x76 < 0x100.
#[inline]
pub(super) fn beyond_nine(digits: u64) -> u64 {
    const LOW_BITS: u64 = u64::from_ne_bytes([0x7f; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    const TO_HIGH_BIT: u64 = u64::from_ne_bytes([0x76; 8]);
    ((digits & LOW_BITS).wrapping_add(TO_HIGH_BIT) | digits) & HIGH_BITS
}

/// How many bytes, from the lowest on, are at most nine.
#[inline]
pub(super) fn leading_digits(digits: u64) -> usize {
    (beyond_nine(digits).trailing_zeros() / 8) as usize
}

/// The end of the string whose opening quote is at `at`.
#[inline]
pub(super) fn string_end(text: &[u8], at: usize) -> Result<Scanned, Fault> {
    let end = next_special(text, at + 1);
    if text.get(end) == Some(&b'"') {
        return Ok(Scanned {
            end: end + 1,
            escaped: false,
        });
    }
    odd_string_end(text, at, end)
}

/// The rest of [`string_end`] for strings with escapes or with more than ASCII.
#[cold]
fn odd_string_end(text: &[u8], at: usize, mut end: usize) -> Result<Scanned, Fault> {
    let mut escaped = false;
    let mut ascii = true;
    loop {
        match text.get(end) {
            Some(b'"') => break,
            Some(b'\\') => {
                escaped = true;
                end = escape_end(text, end)?;
            }
            Some(0x80..) => {
                ascii = false;
                while let Some(0x80..) = text.get(end) {
                    end += 1;
                }
            }
            Some(_) => return fault(end, "a control character stands in a string"),
            None => return fault(end, "the record ends inside a string"),
        }
        end = next_special(text, end);
    }
    if !ascii && let Err(error) = std::str::from_utf8(&text[at + 1..end]) {
        return fault(at + 1 + error.valid_up_to(), "a string is not valid UTF-8");
    }
    Ok(Scanned {
        end: end + 1,
        escaped,
    })
}

fn escape_end(text: &[u8], at: usize) -> Result<usize, Fault> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match text.get(at + 2..at + 6) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
            _ => fault(at, "an escape needs four hexadecimal digits"),
        },
        _ => fault(at, "an unknown escape stands in a string"),
    }
}

const BLOCK: usize = 16;

/// The position at or after `at` of the first byte that a plain string does not have: a quote, a
/// backslash, a control character or the beginning of something beyond ASCII; or the text's end.
#[inline]
fn next_special(text: &[u8], mut at: usize) -> usize {
    while let Some(block) = text.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let marks = special_marks(block);
        if marks != 0 {
            return at + marks.trailing_zeros() as usize;
        }
        at += BLOCK;
    }
    // The last block overlaps what was looked at before; those bytes are shifted out.
    match text.last_chunk::<BLOCK>() {
        Some(block) if at < text.len() => {
            let seen = BLOCK - (text.len() - at);
            let marks = special_marks(block) >> seen;
            if marks == 0 {
                text.len()
            } else {
                at + marks.trailing_zeros() as usize
            }
        }
        Some(_) => text.len(),
        None => {
            let rest = text.get(at..).unwrap_or_default();
            at + rest
                .iter()
                .position(|&byte| is_special(byte))
                .unwrap_or(rest.len())
        }
    }
}

/// One bit for every special byte, the first byte's lowest.
///
/// The one place with processor instructions by name: a compiler does not find the move-mask by
/// itself, and much of the time of decoding is spent between here and the caller.
#[cfg(target_arch = "x86_64")]
#[inline]
fn special_marks(block: &[u8; BLOCK]) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };
    const QUOTE: i8 = b'"'.cast_signed();
    const BACKSLASH: i8 = b'\\'.cast_signed();
    // SAFETY: every x86_64 processor has SSE2, and the load needs no alignment and reads exactly
    // the block's sixteen bytes.
    unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast::<__m128i>());
        let is_quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(QUOTE));
        let is_backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(BACKSLASH));
        let is_outside = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
        let special = _mm_or_si128(_mm_or_si128(is_quote, is_backslash), is_outside);
        _mm_movemask_epi8(special).cast_unsigned()
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn special_marks(block: &[u8; BLOCK]) -> u32 {
    let marks = block
        .iter()
        .enumerate()
        .map(|(place, &byte)| u32::from(is_special(byte)) << place);
    marks.fold(0, |all, mark| all | mark)
}

/// As a signed number a byte beyond ASCII is negative, so one comparison finds it and the control
/// characters.
#[inline]
fn is_special(byte: u8) -> bool {
    (byte.cast_signed() < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Appends what a scanned string's inside (without the quotes) stands for.
///
/// # Errors
/// A surrogate escape without its other half, or `\u0000`, which SQL text cannot hold.
pub(super) fn unescape(inside: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut at = 0;
    while at < inside.len() {
        let plain = inside[at..]
            .iter()
            .position(|&b| b == b'\\')
            .unwrap_or(inside.len() - at);
        out.extend_from_slice(&inside[at..at + plain]);
        at += plain;
        let Some(&kind) = inside.get(at + 1) else {
            break;
        };
        at += 2;
        match kind {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (letter, used) = unicode_escape(&inside[at..])?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                at += used;
            }
            itself => out.push(itself),
        }
    }
    Ok(())
}

/// The character of the hexadecimal digits after `\u`, and how many bytes it takes.
fn unicode_escape(rest: &[u8]) -> Result<(char, usize), &'static str> {
    const HALF: &str = "has half of a surrogate pair";
    let high = hex4(rest).ok_or(HALF)?;
    if high == 0 {
        return Err("has the character \\u0000");
    }
    if let Some(letter) = char::from_u32(high) {
        return Ok((letter, 4));
    }
    let low = match rest.get(4..6) {
        Some(b"\\u") => hex4(&rest[6..]).ok_or(HALF)?,
        _ => return Err(HALF),
    };
    if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
        return Err(HALF);
    }
    let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    char::from_u32(code).map(|letter| (letter, 10)).ok_or(HALF)
}

fn hex4(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits.get(..4)?).ok()?;
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_json(text: &[u8]) -> bool {
        let start = skip_space(text, 0);
        value_end(text, start, 0).is_ok_and(|end| skip_space(text, end) == text.len())
    }

    #[test]
    fn agrees_with_serde_json_on_what_json_is() {
        let mut random = fastrand::Rng::with_seed(5);
        let seeds: [&str; 8] = [
            r#"{"a":1,"b":[true,false,null],"c":{"d":"x\n\u00e9\ud83d\ude00"}}"#,
            r#"[1.5e10,-0,0.25,-12E-3,"grüße",""]"#,
            r#" { "name" : "long plain text without anything special in it, forty bytes" } "#,
            r#"{"a":"日本語のテキスト","b":""}"#,
            r#"[[[[[[]]]]],{},{"":0}]"#,
            "\"\\\\\\\"\\/\\b\\f\\n\\r\\t\"",
            "12345678901234567890123",
            "{\"a\":\"tab\tinside\"}",
        ];
        let pool = b"{}[]\",:\\ \n0123456789.eE+-truefalsn\xc3\xa9\x00\x1f\x80u";
        for round in 0..60_000 {
            let mut text = seeds[round % seeds.len()].as_bytes().to_vec();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(0..text.len().max(1));
                let byte = pool[random.usize(0..pool.len())];
                match random.u8(0..4) {
                    0 => text.truncate(at),
                    1 if at < text.len() => text[at] = byte,
                    2 if at < text.len() => {
                        text.remove(at);
                    }
                    _ => text.insert(at.min(text.len()), byte),
                }
            }
            // `Value` wants whole surrogate pairs and a float's range, `IgnoredAny` does not.
            let theirs = std::str::from_utf8(&text).is_ok()
                && serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
            assert_eq!(
                is_json(&text),
                theirs,
                "{:?}",
                String::from_utf8_lossy(&text)
            );
        }
    }

    #[test]
    fn nesting_ends_at_its_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_json(nested(JSON_DEPTH_MAX).as_bytes()));
        assert!(!is_json(nested(JSON_DEPTH_MAX + 1).as_bytes()));
        assert!(!is_json("[{\"a\":".repeat(100_000).as_bytes()));
    }

    #[test]
    fn special_bytes_are_found_at_every_distance() {
        for length in 0..70 {
            for special in [b'"', b'\\', 0x00, 0x1f, 0x80, 0xff] {
                let mut text = vec![b'~'; length];
                text.push(special);
                text.extend_from_slice(b"abc\"\"");
                assert_eq!(next_special(&text, 0), length);
            }
            assert_eq!(next_special(&vec![0x7f; length], 0), length);
        }
    }

    #[test]
    fn escapes_become_characters() {
        let mut out = Vec::new();
        assert_eq!(
            unescape(br#"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z"#, &mut out),
            Ok(())
        );
        assert_eq!(out, "a\"\\/\u{8}\u{c}\n\r\té😀z".as_bytes());
        for bad in [r"\ud83d", r"\ud83dx", r"\ude00", r"\ud83d\u0041", r"\u0000"] {
            assert!(unescape(bad.as_bytes(), &mut out).is_err(), "{bad}");
        }
    }
}
