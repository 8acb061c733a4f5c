//! Turns the parser's complaints into Postgres' `syntax error at or near "x"`, with place and hint.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, TokenizerError};

use crate::error::{Error, SqlState};
use crate::sql::guard;
use crate::sql::position::Positions;

/// What the errors of one statement are made from.
pub(super) struct SyntaxErrors<'a> {
    pub text: &'a str,
    pub positions: &'a Positions,
    /// The statement's tokens without white space, in order.
    pub tokens: &'a [TokenWithSpan],
}

/// Words that begin or join clauses: what a misspelled word was probably meant to be.
const CLAUSE_WORDS: &[&str] = &[
    "ALTER",
    "BEGIN",
    "CASCADE",
    "CLOSE",
    "COMMIT",
    "COPY",
    "CREATE",
    "CROSS",
    "CURSOR",
    "DECLARE",
    "DEFAULT",
    "DELETE",
    "DISTINCT",
    "DROP",
    "EMIT",
    "ENCODE",
    "EXISTS",
    "EXPLAIN",
    "FETCH",
    "FORMAT",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "INCLUDE",
    "INDEX",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "JOIN",
    "LEFT",
    "LIMIT",
    "MATERIALIZED",
    "OFFSET",
    "ORDER",
    "OUTER",
    "PARTITION",
    "PRIMARY",
    "REPLACE",
    "RETURNING",
    "RIGHT",
    "ROLLBACK",
    "SELECT",
    "SHOW",
    "SINK",
    "SOURCE",
    "SUBSCRIBE",
    "TABLE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "WATERMARK",
    "WHERE",
    "WINDOW",
    "WITH",
];

impl SyntaxErrors<'_> {
    /// The syntax error at the token that stands at `location`, or at the end of the statement.
    pub fn near(&self, location: Location, expected: Option<&str>) -> Error {
        let index = self.index_at(location);
        let position = self.positions.at(location);
        let error = match index {
            Some(index) => {
                let near = self.source(index);
                Error::new(
                    SqlState::SYNTAX_ERROR,
                    format!("syntax error at or near \"{near}\""),
                )
            }
            None => Error::new(SqlState::SYNTAX_ERROR, "syntax error at end of input"),
        };
        let error = match expected {
            Some(expected) => error.detail(format!("expected {expected}")),
            None => error,
        };
        let error = match self.misspelled(index.unwrap_or(self.tokens.len())) {
            Some(word) => error.hint(format!("did you mean {word}?")),
            None => error,
        };
        position.mark(error)
    }

    /// `at` is the index of the token that the parser had last.
    pub fn parser_error(&self, error: ParserError, at: usize) -> Error {
        let message = match error {
            ParserError::RecursionLimitExceeded => return guard::too_nested(),
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        };
        let (message, location) = split_location(&message);
        let is_end = message.ends_with(", found: EOF");
        let last = self
            .tokens
            .get(at)
            .filter(|_| !is_end)
            .map(|token| token.span.start);
        let location = location.or(last);
        let location = location.unwrap_or_else(Location::empty);
        match message.strip_prefix("Expected: ") {
            Some(rest) => {
                let expected = rest.split(", found: ").next().unwrap_or(rest);
                self.near(location, Some(&plain(expected)))
            }
            None => self.near(location, None).detail(plain(message)),
        }
    }

    pub fn tokenizer_error(&self, error: &TokenizerError) -> Error {
        let message = format!("syntax error: {}", plain(&error.message));
        self.positions
            .at(error.location)
            .mark(Error::new(SqlState::SYNTAX_ERROR, message))
    }

    /// The token at or before `location`; `None` at the end.
    fn index_at(&self, location: Location) -> Option<usize> {
        if location.line == 0 {
            return None;
        }
        let after = self.tokens.partition_point(|token| {
            (token.span.start.line, token.span.start.column) <= (location.line, location.column)
        });
        after.checked_sub(1)
    }

    /// The token as the user wrote it.
    fn source(&self, index: usize) -> String {
        let span = self.tokens[index].span;
        let (start, end) = (
            self.positions.index(span.start),
            self.positions.index(span.end),
        );
        let source: String = self
            .text
            .chars()
            .skip(start)
            .take(end.saturating_sub(start))
            .collect();
        let source = source.trim();
        // A long string would bury the message.
        match source.char_indices().nth(60) {
            Some((cut, _)) => format!("{}…", &source[..cut]),
            None if source.is_empty() => self.tokens[index].token.to_string(),
            None => source.to_string(),
        }
    }

    /// A misspelled clause word is often taken for an alias, and then it is the word *after* it
    /// that does not fit: the word in question is the one before, or the one itself.
    fn misspelled(&self, index: usize) -> Option<&'static str> {
        let candidates = [index.checked_sub(1), Some(index)];
        candidates
            .into_iter()
            .flatten()
            .find_map(|index| match &self.tokens.get(index)?.token {
                Token::Word(word)
                    if word.keyword == Keyword::NoKeyword && word.quote_style.is_none() =>
                {
                    nearest(&word.value)
                }
                _ => None,
            })
    }
}

/// The parser ran out of attempts: it backtracked for ever.
pub(super) fn too_ambiguous() -> Error {
    Error::new(
        SqlState::STATEMENT_TOO_COMPLEX,
        "statement is too ambiguous to be parsed",
    )
    .hint("check that its parentheses match and its functions have their arguments")
}

/// The clause word that `word` is one slip away from; `None` if it is one itself.
fn nearest(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_uppercase();
    if word.len() < 4 || CLAUSE_WORDS.contains(&word.as_str()) {
        return None;
    }
    CLAUSE_WORDS
        .iter()
        .copied()
        .find(|clause| is_one_slip(word.as_bytes(), clause.as_bytes()))
}

/// One letter wrong, missing or too many, or two neighbours swapped.
fn is_one_slip(left: &[u8], right: &[u8]) -> bool {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let (left, right) = (&left[common..], &right[common..]);
    match (left, right) {
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, a @ ..], b) if a == b => true,
        (a, [_, b @ ..]) if a == b => true,
        ([a1, a2, a @ ..], [b1, b2, b @ ..]) => a1 == b2 && a2 == b1 && a == b,
        _ => false,
    }
}

/// The library ends its messages with ` at Line: 1, Column: 8`.
fn split_location(message: &str) -> (&str, Option<Location>) {
    let Some((text, place)) = message.rsplit_once(" at Line: ") else {
        return (message, None);
    };
    let location = place.split_once(", Column: ").and_then(|(line, column)| {
        Some(Location::new(
            line.trim().parse().ok()?,
            column.trim().parse().ok()?,
        ))
    });
    match location {
        Some(location) => (text, Some(location)),
        None => (message, None),
    }
}

/// Lower case first letter, no full stop.
fn plain(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let mut characters = message.chars();
    match (characters.next(), characters.next()) {
        // A word in capitals is a word of the language.
        (Some(_), Some(second)) if second.is_uppercase() => message.to_string(),
        (Some(first), _) => {
            format!("{}{}", first.to_lowercase(), &message[first.len_utf8()..])
        }
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_is_recognised_and_two_are_not() {
        for (word, meant) in [
            ("FORM", Some("FROM")),
            ("form", Some("FROM")),
            ("SELCT", Some("SELECT")),
            ("WHERRE", Some("WHERE")),
            ("GRUOP", Some("GROUP")),
            ("ODER", Some("ORDER")),
            ("WHERE", None),
            ("price", None),
            ("bid", None),
        ] {
            assert_eq!(nearest(word), meant, "{word}");
        }
    }

    #[test]
    fn messages_of_the_library_lose_their_place_and_their_capital() {
        let (text, location) = split_location("Expected: x, found: y at Line: 2, Column: 13");
        assert_eq!(
            (text, location),
            ("Expected: x, found: y", Some(Location::new(2, 13)))
        );
        assert_eq!(split_location("no place"), ("no place", None));
        assert_eq!(plain("Unterminated string."), "unterminated string");
        assert_eq!(plain("ORDER BY"), "ORDER BY");
    }
}
