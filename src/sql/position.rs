//! Where in the user's text something stands, in the unit that Postgres clients expect.

use std::hash::{Hash, Hasher};

use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use crate::error::Error;

/// A place in a script: characters (not bytes), the first one is 1.
///
/// Two positions are always equal: a statement that was printed and parsed again is the same
/// statement, although its parts have moved.
#[derive(Clone, Copy, Default)]
pub struct Position(usize);

impl Position {
    /// The place of something that no user has typed.
    pub const UNKNOWN: Position = Position(0);

    pub(super) fn new(character: usize) -> Self {
        Position(character)
    }

    /// The character's number, or `None` for what no user has typed.
    pub fn get(self) -> Option<usize> {
        (self.0 > 0).then_some(self.0)
    }

    /// Points `error` here, unless it points somewhere already or the place is unknown.
    pub fn mark(self, error: Error) -> Error {
        match (error.get_position(), self.get()) {
            (None, Some(character)) => error.position(character),
            _ => error,
        }
    }
}

impl PartialEq for Position {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Position {}

impl Hash for Position {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl std::fmt::Debug for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// Turns the parser's (line, column) inside one statement into positions of the whole script.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    /// Characters of the script before the statement.
    origin: usize,
    /// For each line of the statement, the characters before it.
    lines: Vec<usize>,
    /// Characters of the statement.
    length: usize,
}

impl Positions {
    pub fn new(text: &str, origin: usize) -> Self {
        let mut lines = vec![0];
        let mut length = 0;
        for character in text.chars() {
            length += 1;
            if character == '\n' {
                lines.push(length);
            }
        }
        Positions {
            origin,
            lines,
            length,
        }
    }

    /// The position of `location`; an unknown one means the end of the statement.
    pub fn at(&self, location: Location) -> Position {
        Position::new(self.origin + self.index(location) + 1)
    }

    pub fn of(&self, span: Span) -> Position {
        if span.start.line == 0 {
            Position::UNKNOWN
        } else {
            self.at(span.start)
        }
    }

    /// Characters of the statement before `location`.
    pub fn index(&self, location: Location) -> usize {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let line = number(location.line)
            .checked_sub(1)
            .and_then(|line| self.lines.get(line));
        match line {
            Some(start) => start
                .saturating_add(number(location.column).saturating_sub(1))
                .min(self.length),
            None => self.length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_over_lines_from_the_start_of_the_script() {
        let positions = Positions::new("ä b\nccc", 10);
        assert_eq!(positions.at(Location::new(1, 3)).get(), Some(13));
        assert_eq!(positions.at(Location::new(2, 2)).get(), Some(16));
        assert_eq!(positions.at(Location::empty()).get(), Some(18));
        assert_eq!(positions.of(Span::empty()).get(), None);
    }
}
