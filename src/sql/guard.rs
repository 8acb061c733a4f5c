//! Refuses statements whose tree would be too deep to be dropped, before the tree exists.
//!
//! Trees are walked, copied and dropped by recursion, and a stack that overflows takes the whole
//! server with it. The parser bounds what it parses recursively; it does not bound chains, which
//! it builds in a loop (`1 + 1 + 1 …`, `x::int::int …`, `… UNION …`), nor types in brackets. This
//! pass counts, over tokens, what can make either deep; [`crate::sql::depth`] then makes long
//! chains shallow and measures the tree that is left.
//!
//! ```text
//! a + b + (c OR d), e - f          depth of the tree <= operators on the way to the deepest leaf
//! | 1   2   1 |  | 1  |            a parenthesis adds its own to those around it,
//! 3 at most      1                 a comma forgets those before it; set operations stay
//! ```

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::base::limits::{STATEMENT_NESTING_MAX, STATEMENT_OPERATORS_MAX};
use crate::error::{Error, SqlState};

/// Checks the tokens of one statement.
///
/// # Errors
/// 54001 and the index of the token at which the bound was passed.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<(), (usize, Error)> {
    let mut levels = vec![Level::default()];
    // Operators of all levels that are open.
    let mut open = 0;
    let mut angles: usize = 0;
    let mut dimensions = 0;
    for (index, token) in tokens.iter().enumerate() {
        let previous = index.checked_sub(1).map(|index| &tokens[index].token);
        let level = levels
            .last_mut()
            .expect("the outermost level is never closed");
        match kind(&token.token, previous) {
            Kind::Opens { counts } => {
                level.operators += counts;
                open += counts;
                levels.push(Level::default());
            }
            Kind::Closes => {
                if levels.len() > 1 {
                    open -= levels
                        .pop()
                        .map_or(0, |level| level.operators + level.set_operations);
                }
            }
            Kind::Comma => open -= std::mem::take(&mut level.operators),
            Kind::Operator => {
                level.operators += 1;
                open += 1;
            }
            Kind::SetOperation => {
                level.set_operations += 1;
                open += 1;
            }
            Kind::OpensType => angles += 1,
            Kind::ClosesType(count) => {
                angles = angles.saturating_sub(count);
                level.operators += 1;
                open += 1;
            }
            Kind::Other => {}
        }
        // `int[][]…`: a level for each pair.
        dimensions = match token.token {
            Token::LBracket => dimensions + 1,
            Token::RBracket => dimensions,
            _ => 0,
        };
        if dimensions > DIMENSIONS_MAX {
            return Err((index, too_many_dimensions()));
        }
        if levels.len() + angles > STATEMENT_NESTING_MAX {
            return Err((index, too_nested()));
        }
        if open > STATEMENT_OPERATORS_MAX {
            return Err((index, too_long()));
        }
    }
    Ok(())
}

/// The error for parentheses, subqueries or types inside one another beyond the bound.
pub(super) fn too_nested() -> Error {
    let message = format!("statement is nested more than {STATEMENT_NESTING_MAX} levels deep");
    Error::new(SqlState::STATEMENT_TOO_COMPLEX, message)
        .hint("move inner parts into views or WITH queries")
}

fn too_long() -> Error {
    let message = format!("expression chains more than {STATEMENT_OPERATORS_MAX} operators");
    Error::new(SqlState::STATEMENT_TOO_COMPLEX, message)
        .hint("write IN (...) or a join with VALUES instead of a long chain of OR")
}

/// Dimensions of an array type, as in Postgres.
const DIMENSIONS_MAX: usize = 6;

fn too_many_dimensions() -> Error {
    let message = format!("array has more than {DIMENSIONS_MAX} dimensions");
    Error::new(SqlState::STATEMENT_TOO_COMPLEX, message)
}

#[derive(Default)]
struct Level {
    operators: usize,
    set_operations: usize,
}

enum Kind {
    Opens { counts: usize },
    Closes,
    Comma,
    Operator,
    SetOperation,
    OpensType,
    ClosesType(usize),
    Other,
}

fn kind(token: &Token, previous: Option<&Token>) -> Kind {
    let follows_type = || {
        matches!(previous, Some(Token::Word(word)) if matches!(
            word.keyword,
            Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP | Keyword::NESTED
        ))
    };
    match token {
        Token::LParen | Token::LBrace => Kind::Opens { counts: 0 },
        // `x[1][2]` and `int[][]` are chains as well as brackets.
        Token::LBracket => Kind::Opens { counts: 1 },
        Token::RParen | Token::RBrace | Token::RBracket => Kind::Closes,
        Token::Comma => Kind::Comma,
        Token::Lt if follows_type() => Kind::OpensType,
        Token::Gt => Kind::ClosesType(1),
        Token::ShiftRight => Kind::ClosesType(2),
        Token::Word(word) => match word.keyword {
            Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS => {
                Kind::SetOperation
            }
            Keyword::AND
            | Keyword::OR
            | Keyword::XOR
            | Keyword::NOT
            | Keyword::IS
            | Keyword::NOTNULL
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::BETWEEN
            | Keyword::OVERLAPS
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::DIV
            | Keyword::MEMBER
            | Keyword::OPERATOR
            | Keyword::PIVOT
            | Keyword::UNPIVOT
            | Keyword::MATCH_RECOGNIZE => Kind::Operator,
            // The parser reads the value of an interval by calling itself without a bound.
            Keyword::INTERVAL if is_interval(previous) => Kind::Opens { counts: 0 },
            _ => Kind::Other,
        },
        Token::EOF
        | Token::Number(..)
        | Token::Period
        | Token::SemiColon
        | Token::Placeholder(_)
        | Token::SingleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::RArrow
        | Token::Whitespace(_) => Kind::Other,
        _ => Kind::Operator,
    }
}

fn is_interval(token: Option<&Token>) -> bool {
    matches!(token, Some(Token::Word(word)) if word.keyword == Keyword::INTERVAL)
}
