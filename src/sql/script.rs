//! A script: the statements that one message or file holds, each with its own text.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::base::limits::{
    PARSE_ATTEMPTS_PER_TOKEN_MAX, PARSE_STACK_BYTES, PARSE_STACK_FREE_MIN, STATEMENT_BYTES_MAX,
    STATEMENT_NESTING_MAX, STATEMENT_TOKENS_MAX,
};
use crate::error::{Error, Result, SqlState};
use crate::sql::cursor::Cursor;
use crate::sql::dialect::StatementDialect;
use crate::sql::position::Positions;
use crate::sql::split::{Piece, split};
use crate::sql::syntax_error::SyntaxErrors;
use crate::sql::tokens::{Trailing, prepare};
use crate::sql::{Position, Statement, guard, parse};

/// One statement and the text it was read from.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub statement: Statement,
    /// The user's own text, without the `;` and without blanks and comments around it. Parsing it
    /// again gives the statement again: this is what the catalog keeps.
    pub text: String,
    /// Where in the script the text begins.
    pub position: Position,
    positions: Positions,
}

impl Parsed {
    /// The place in the script of a (line, column) inside the statement, as the spans of its trees
    /// and DataFusion's diagnostics give it, both counted from 1; `None` for line 0, "unknown".
    pub fn position_at(&self, line: u64, column: u64) -> Option<usize> {
        if line == 0 {
            return None;
        }
        self.positions.at(Location::new(line, column)).get()
    }

    /// The error with the position in the script of the place it speaks of.
    pub fn locate(&self, error: Error) -> Error {
        let (Some((line, column)), None) = (error.get_place(), error.get_position()) else {
            return error;
        };
        // Nothing begins with a blank: an operator follows the one behind its left operand.
        let index = self.positions.index(Location::new(line, column));
        let rest = self.text.chars().skip(index);
        let blanks = rest
            .take_while(|character| character.is_whitespace())
            .count();
        match self.position_at(line, column) {
            Some(position) => error.position(position + blanks),
            None => error,
        }
    }
}

/// All statements of a script, or the first error; nothing of a script with a syntax error is run.
///
/// # Errors
/// 42601 for what is no statement, 54001 for what is too large or too deep, 0A000 and others for
/// what can be refused without knowing any object; with the position in `script`.
pub fn parse_script(script: &str) -> Result<Vec<Parsed>> {
    stacker::maybe_grow(PARSE_STACK_FREE_MIN, PARSE_STACK_BYTES, || {
        parse_on_stack(script)
    })
}

fn parse_on_stack(script: &str) -> Result<Vec<Parsed>> {
    if script.len() > STATEMENT_BYTES_MAX {
        let bytes = script.len();
        let message = format!("script has {bytes} bytes, the limit is {STATEMENT_BYTES_MAX}");
        return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, message)
            .hint("send it in parts, or use COPY for data"));
    }
    let pieces = split(script);
    let tokens: usize = pieces.iter().map(|piece| piece.tokens).sum();
    if tokens > STATEMENT_TOKENS_MAX {
        let message = format!("script has {tokens} tokens, the limit is {STATEMENT_TOKENS_MAX}");
        return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, message)
            .hint("send it in parts, or use COPY for data"));
    }
    let mut parsed = Vec::with_capacity(pieces.len());
    let (mut bytes, mut characters) = (0, 0);
    for piece in pieces {
        characters += script[bytes..piece.start].chars().count();
        bytes = piece.start;
        parsed.push(parse_piece(script, piece, characters)?);
    }
    Ok(parsed)
}

/// The one statement of a text, as the extended protocol sends it; `None` for an empty text.
///
/// # Errors
/// As [`parse_script`]; 42601 for more than one statement.
pub fn parse_single(text: &str) -> Result<Option<Parsed>> {
    let mut parsed = parse_script(text)?;
    if let Some(second) = parsed.get(1) {
        let message = "cannot insert multiple commands into a prepared statement";
        return Err(second
            .position
            .mark(Error::new(SqlState::SYNTAX_ERROR, message)));
    }
    Ok(parsed.pop())
}

fn parse_piece(script: &str, piece: Piece, origin: usize) -> Result<Parsed> {
    let text = &script[piece.start..piece.end];
    let positions = Positions::new(text, origin);
    let statement = parse_text(text, &positions)?;
    let position = Position::new(origin + 1);
    Ok(Parsed {
        statement,
        text: text.to_string(),
        position,
        positions,
    })
}

fn parse_text(text: &str, positions: &Positions) -> Result<Statement> {
    // The tokenizer asks a dialect only for characters; the parser's is made from the tokens.
    let mut tokens = Vec::new();
    let characters = StatementDialect::new(&[], 1);
    let tokenized = Tokenizer::new(&characters, text).tokenize_with_location_into_buf(&mut tokens);
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let errors = SyntaxErrors {
        text,
        positions,
        tokens: &tokens,
    };
    tokenized.map_err(|error| errors.tokenizer_error(&error))?;
    guard::check(&tokens).map_err(|(index, error)| positions.of(tokens[index].span).mark(error))?;

    let attempts = tokens
        .len()
        .saturating_mul(PARSE_ATTEMPTS_PER_TOKEN_MAX)
        .saturating_add(1_000);
    let dialect = StatementDialect::new(&tokens, attempts);
    let prepared = prepare(&tokens, trailing(&tokens));
    let parser = Parser::new(&dialect)
        .with_recursion_limit(STATEMENT_NESTING_MAX)
        .with_tokens_with_locations(prepared);
    parse::statement(&mut Cursor::new(text, positions, parser, &dialect, &tokens))
}

/// Which clauses may stand behind the query of the statement.
fn trailing(tokens: &[TokenWithSpan]) -> Trailing {
    let is_sink = tokens.iter().take(4).any(|token| {
        matches!(&token.token, Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("SINK"))
    });
    let is_create = matches!(tokens.first(), Some(TokenWithSpan { token: Token::Word(word), .. })
        if word.value.eq_ignore_ascii_case("CREATE") || word.value.eq_ignore_ascii_case("EXPLAIN"));
    if is_sink && is_create {
        Trailing::Sink
    } else {
        Trailing::Emit
    }
}
