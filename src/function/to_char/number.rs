//! Patterns for numbers.
//!
//! ```text
//!   9   a digit, blank in front of the number      S    the sign, + too, beside the number
//!   0   a digit, 0 in front of the number          MI   - or blank, here
//!   . D the point                                  PL   + or blank, here
//!   , G between thousands                          SG   + or -, here
//!   FM  without blanks and needless zeros          PR   <negative>
//! ```
//!
//! Without a pattern for the sign it stands directly before the first digit. A number with more
//! digits than the pattern shows as `#`.

use crate::error::{Error, Result, SqlState};
use crate::function::arithmetic::rescale;

/// Fractional digits that a numeric may have; a pattern's further ones are zeros.
const FRACTION_MAX: usize = 38;

/// A pattern that was read.
pub(super) struct NumberPattern {
    pieces: Vec<Piece>,
    is_short: bool,
    /// Digits before and after the point.
    whole: usize,
    fraction: usize,
    sign: Sign,
    /// Places of the first 0 before and the last 0 after the point, counted from the left and from
    /// the point.
    first_zero: Option<usize>,
    last_zero: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Digit,
    Point,
    Group,
    /// MI, PL or SG.
    Minus,
    Plus,
    Both,
    /// S behind the digits.
    TrailingSign,
    /// The end of PR.
    Bracket,
    Literal(char),
}

/// Where the sign stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// Before the first digit, only a minus.
    Plain,
    /// Before the first digit, plus too.
    Leading,
    Brackets,
    /// A piece of its own.
    Elsewhere,
}

impl NumberPattern {
    /// # Errors
    /// 0A000 for EEEE, RN, TH and V; 42601 for two points or two signs.
    pub fn parse(text: &str) -> Result<NumberPattern> {
        let mut pattern = NumberPattern {
            pieces: Vec::new(),
            is_short: false,
            whole: 0,
            fraction: 0,
            sign: Sign::Plain,
            first_zero: None,
            last_zero: None,
        };
        let mut rest = text;
        let mut has_point = false;
        while let Some(first) = rest.chars().next() {
            let upper: String = rest
                .chars()
                .take(4)
                .collect::<String>()
                .to_ascii_uppercase();
            let (piece, length) = match upper.as_str() {
                word if word.starts_with("EEEE") => return Err(unsupported("EEEE")),
                word if word.starts_with("RN") => return Err(unsupported("RN")),
                word if word.starts_with("TH") => return Err(unsupported("TH")),
                word if word.starts_with('V') => return Err(unsupported("V")),
                word if word.starts_with("FM") => {
                    pattern.is_short = true;
                    rest = &rest[2..];
                    continue;
                }
                word if word.starts_with("MI") => (Piece::Minus, 2),
                word if word.starts_with("PL") => (Piece::Plus, 2),
                word if word.starts_with("SG") => (Piece::Both, 2),
                word if word.starts_with("PR") => (Piece::Bracket, 2),
                word if word.starts_with('S') => (Piece::TrailingSign, 1),
                word if word.starts_with(['9', '0']) => {
                    if first == '0' && has_point {
                        pattern.last_zero = Some(pattern.fraction);
                    } else if first == '0' && pattern.first_zero.is_none() {
                        pattern.first_zero = Some(pattern.whole);
                    }
                    match has_point {
                        true => pattern.fraction += 1,
                        false => pattern.whole += 1,
                    }
                    (Piece::Digit, 1)
                }
                word if word.starts_with(['.', 'D']) => {
                    if has_point {
                        return Err(syntax("multiple decimal points"));
                    }
                    has_point = true;
                    (Piece::Point, 1)
                }
                word if word.starts_with([',', 'G']) => (Piece::Group, 1),
                // The locale C has no symbol of a currency.
                word if word.starts_with('L') => (Piece::Literal(' '), 1),
                word if word.starts_with('"') => {
                    rest = pattern.quoted(&rest[1..]);
                    continue;
                }
                word if word.starts_with("\\\"") => (Piece::Literal('"'), 2),
                _ => (Piece::Literal(first), first.len_utf8()),
            };
            pattern.add(piece)?;
            rest = &rest[length..];
        }
        Ok(pattern)
    }

    /// Takes the letters up to the closing quote; gives what follows it.
    fn quoted<'a>(&mut self, text: &'a str) -> &'a str {
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '"' => break,
                '\\' => self.pieces.extend(letters.next().map(Piece::Literal)),
                other => self.pieces.push(Piece::Literal(other)),
            }
        }
        letters.as_str()
    }

    fn add(&mut self, piece: Piece) -> Result<()> {
        let sign = match piece {
            Piece::Minus | Piece::Both => Sign::Elsewhere,
            Piece::Bracket => Sign::Brackets,
            Piece::TrailingSign if self.whole + self.fraction == 0 => Sign::Leading,
            Piece::TrailingSign => Sign::Elsewhere,
            _ => {
                self.pieces.push(piece);
                return Ok(());
            }
        };
        if self.sign != Sign::Plain {
            return Err(syntax("more than one sign"));
        }
        self.sign = sign;
        if sign != Sign::Leading {
            self.pieces.push(piece);
        }
        Ok(())
    }

    pub fn write_numeric(&self, value: i128, scale: i8, text: &mut String) {
        let kept = self.fraction.min(FRACTION_MAX);
        let digits = |value: i128, scale: usize| {
            let width = scale + 1;
            let digits = format!("{:0width$}", value.unsigned_abs());
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{whole}.{fraction}")
        };
        let to = i8::try_from(kept).expect("at most 38");
        let magnitude = match rescale(value, scale, to) {
            Some(rounded) => digits(rounded, kept),
            // More zeros are asked for than 38 digits leave room for.
            None => digits(value, usize::try_from(scale).unwrap_or(0)),
        };
        self.write(value < 0, &magnitude, text);
    }

    pub fn write_float(&self, value: f64, text: &mut String) {
        match value.is_finite() {
            true => {
                let magnitude = format!("{:.*}", self.fraction, value.abs());
                self.write(value < 0.0, &magnitude, text);
            }
            // Neither NaN nor infinity has digits.
            false => self.write(value < 0.0, &"#".repeat(self.whole + 1), text),
        }
    }

    /// `magnitude` has as many fractional digits as the pattern.
    fn write(&self, is_negative: bool, magnitude: &str, text: &mut String) {
        let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
        let whole = whole.trim_start_matches('0');
        let overflows = whole.len() > self.whole;
        let digits: Vec<char> = match overflows {
            true => vec!['#'; self.whole + self.fraction],
            false => {
                let blanks = std::iter::repeat_n('0', self.whole - whole.len());
                let fraction = fraction.chars().chain(std::iter::repeat('0'));
                blanks
                    .chain(whole.chars())
                    .chain(fraction.take(self.fraction))
                    .collect()
            }
        };
        let last = self.last_digit(&digits, overflows);
        let first = self.first_digit(whole.len(), overflows, last);
        let mut place = 0;
        let mut has_sign = self.sign == Sign::Elsewhere;
        let mut sign = |text: &mut String| {
            if !std::mem::replace(&mut has_sign, true) {
                self.write_sign(is_negative, text);
            }
        };
        for piece in &self.pieces {
            match piece {
                Piece::Digit if place < first => {
                    place += 1;
                    self.blank(text);
                }
                Piece::Digit => {
                    sign(text);
                    if place < last {
                        text.push(digits[place]);
                    }
                    place += 1;
                }
                Piece::Point => {
                    sign(text);
                    if self.fraction > 0 {
                        text.push('.');
                    }
                }
                Piece::Group if place <= first && place < self.whole && first > 0 => {
                    self.blank(text);
                }
                Piece::Group => text.push(','),
                Piece::Minus if is_negative => text.push('-'),
                Piece::Minus => self.blank(text),
                Piece::Plus if !is_negative => text.push('+'),
                Piece::Plus => self.blank(text),
                Piece::Both => text.push(if is_negative { '-' } else { '+' }),
                Piece::TrailingSign => text.push(if is_negative { '-' } else { '+' }),
                Piece::Bracket if is_negative => text.push('>'),
                Piece::Bracket => self.blank(text),
                Piece::Literal(letter) => text.push(*letter),
            }
        }
    }

    /// The place behind the last digit that is written.
    fn last_digit(&self, digits: &[char], overflows: bool) -> usize {
        if !self.is_short || overflows {
            return digits.len();
        }
        let zeros = digits[self.whole..].iter().rev();
        let needless = zeros.take_while(|digit| **digit == '0').count();
        let kept = self.last_zero.map_or(0, |place| place + 1);
        self.whole + (self.fraction - needless).max(kept)
    }

    /// The place of the first digit that is written.
    fn first_digit(&self, whole: usize, overflows: bool, last: usize) -> usize {
        if overflows {
            return 0;
        }
        // A zero before the point is written if nothing else is.
        let has_fraction = last > self.whole;
        let significant = match whole {
            0 if !has_fraction => self.whole.saturating_sub(1),
            digits => self.whole - digits,
        };
        self.first_zero
            .map_or(significant, |zero| zero.min(significant))
    }

    fn write_sign(&self, is_negative: bool, text: &mut String) {
        match (self.sign, is_negative) {
            (Sign::Plain | Sign::Leading, true) => text.push('-'),
            (Sign::Leading, false) => text.push('+'),
            (Sign::Brackets, true) => text.push('<'),
            (Sign::Plain | Sign::Brackets, false) => self.blank(text),
            (Sign::Elsewhere, _) => {}
        }
    }

    fn blank(&self, text: &mut String) {
        if !self.is_short {
            text.push(' ');
        }
    }
}

fn unsupported(word: &str) -> Error {
    Error::unsupported(format!(
        "\"{word}\" is not supported in a pattern of to_char"
    ))
    .hint("use 9, 0, the point, the comma, FM and a pattern for the sign")
}

fn syntax(what: &str) -> Error {
    Error::new(
        SqlState::SYNTAX_ERROR,
        format!("{what} in a pattern of to_char"),
    )
}
