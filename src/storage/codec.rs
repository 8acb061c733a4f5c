//! The compact binary notation of journal and catalog records: variable-length numbers and
//! length-prefixed bytes.
//!
//! A number takes seven bits per byte, lowest first, the top bit saying that more follow; a signed
//! one is folded first (0, -1, 1, -2 ... become 0, 1, 2, 3 ...). The decoder trusts nothing: a
//! count is checked against the bytes that are left before anything is allocated for it.

use crate::error::{Error, Result, SqlState};

pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits fit into a byte") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("less than 0x80 fits into a byte"));
}

pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, crate::storage::file::size(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote.
pub struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// `what` names the thing in errors: "journal record".
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Decoder { rest: bytes, what }
    }

    pub fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| self.wrong("ends early"))?;
        self.rest = rest;
        Ok(*first)
    }

    pub fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.wrong("has a number of more than 64 bits"))
    }

    pub fn number32(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| self.wrong("has a number of more than 32 bits"))
    }

    pub fn signed(&mut self) -> Result<i64> {
        let folded = self.number()?;
        Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }

    /// How many items follow; each takes at least one byte.
    pub fn count(&mut self) -> Result<usize> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(self.wrong("has fewer bytes than it says")),
        }
    }

    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let count = self.count()?;
        let (bytes, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(bytes)
    }

    /// Everything that is left, for somebody else to read.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Checks that nothing is left over.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.wrong("has bytes left over"))
        }
    }

    pub fn wrong(&self, how: &str) -> Error {
        Error::new(SqlState::DATA_CORRUPTED, format!("a {} {how}", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let numbers = [
            0,
            1,
            127,
            128,
            300,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ];
        let signed = [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX];
        let mut out = Vec::new();
        numbers.iter().for_each(|n| put_number(&mut out, *n));
        signed.iter().for_each(|n| put_signed(&mut out, *n));
        put_bytes(&mut out, b"abc");
        let mut decoder = Decoder::new(&out, "test");
        for number in numbers {
            assert_eq!(decoder.number().unwrap(), number);
        }
        for number in signed {
            assert_eq!(decoder.signed().unwrap(), number);
        }
        assert_eq!(decoder.bytes().unwrap(), b"abc");
        decoder.finish().unwrap();
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Decoder::new(&[0xff; 10], "test").number().is_err());
        assert!(Decoder::new(&[0xff; 3], "test").number().is_err());
        assert!(
            Decoder::new(&[0xff, 0xff, 0xff, 0xff, 0x7f], "test")
                .bytes()
                .is_err()
        );
        assert!(Decoder::new(&[1], "test").finish().is_err());
    }
}
