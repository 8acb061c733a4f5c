//! A reading position in one statement: our own small grammar on top of the library's parser.
//!
//! The library's parser owns the tokens and parses expressions, types and queries; everything else
//! is read here, word by word. Words are compared as text, because our words (`WATERMARK`, `EMIT`)
//! are not keywords of the library and must not become reserved.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use crate::error::{Error, Result, SqlState};
use crate::sql::dialect::StatementDialect;
use crate::sql::name::{fold, is_reserved};
use crate::sql::position::Positions;
use crate::sql::statement::Words;
use crate::sql::syntax_error::{SyntaxErrors, too_ambiguous};
use crate::sql::{ObjectName, Position, rewrite};

pub(super) struct Cursor<'a> {
    /// The statement's text.
    pub text: &'a str,
    pub positions: &'a Positions,
    parser: Parser<'a>,
    dialect: &'a StatementDialect,
    tokens: &'a [TokenWithSpan],
}

impl<'a> Cursor<'a> {
    /// `parser` must hold a copy of `tokens`, with clause ends marked (see [`crate::sql::tokens`]).
    pub fn new(
        text: &'a str,
        positions: &'a Positions,
        parser: Parser<'a>,
        dialect: &'a StatementDialect,
        tokens: &'a [TokenWithSpan],
    ) -> Self {
        Cursor {
            text,
            positions,
            parser,
            dialect,
            tokens,
        }
    }

    // Looking.

    pub fn peek(&self, ahead: usize) -> &Token {
        &self.parser.peek_nth_token_ref(ahead).token
    }

    /// The place of the next token; at the end, the place behind the last one.
    pub fn position(&self) -> Position {
        self.positions
            .at(self.parser.peek_nth_token_ref(0).span.start)
    }

    /// The unquoted word `ahead`, in upper case.
    pub fn word(&self, ahead: usize) -> Option<String> {
        match self.peek(ahead) {
            Token::Word(word) if word.quote_style.is_none() => {
                Some(word.value.to_ascii_uppercase())
            }
            _ => None,
        }
    }

    /// Whether the next tokens are these words.
    pub fn at(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(ahead, expected)| match self.peek(ahead) {
                Token::Word(word) => {
                    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected)
                }
                _ => false,
            })
    }

    pub fn at_end(&self) -> bool {
        *self.peek(0) == Token::EOF
    }

    // Reading words and signs.

    pub fn accept(&mut self, words: &[&str]) -> bool {
        let is_there = self.at(words);
        if is_there {
            self.skip(words.len());
        }
        is_there
    }

    pub fn skip(&mut self, tokens: usize) {
        for _ in 0..tokens {
            self.parser.advance_token();
        }
    }

    pub fn expect(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.accept(&[word]) {
                return Err(self.unexpected(word));
            }
        }
        Ok(())
    }

    pub fn accept_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.accept_token(token) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("\"{token}\"")))
        }
    }

    /// The statement must be over.
    pub fn end(&mut self) -> Result<()> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.unexpected("the end of the statement"))
        }
    }

    /// One of the words of `T`, or a syntax error that names them all.
    pub fn one_of<T: Words>(&mut self) -> Result<T> {
        for (words, value) in T::ALL {
            let words: Vec<&str> = words.split(' ').collect();
            if self.accept(&words) {
                return Ok(*value);
            }
        }
        let all: Vec<&str> = T::ALL.iter().map(|(word, _)| *word).collect();
        Err(self.unexpected(&all.join(", ")))
    }

    // Reading names.

    pub fn identifier(&mut self, what: &str) -> Result<(String, Position)> {
        let position = self.position();
        let name = match self.peek(0) {
            Token::Word(word) if word.quote_style.is_some() || !is_reserved(&word.value) => {
                fold(&word.to_ident(Span::empty()))
            }
            Token::Word(word) => {
                let hint = format!("quote a reserved word: \"{}\"", word.value);
                return Err(self.unexpected(what).hint(hint));
            }
            _ => return Err(self.unexpected(what)),
        };
        if name.is_empty() {
            let message = "a quoted identifier is empty";
            return Err(position.mark(Error::new(SqlState::SYNTAX_ERROR, message)));
        }
        self.skip(1);
        Ok((name, position))
    }

    pub fn name(&mut self, what: &str) -> Result<String> {
        Ok(self.identifier(what)?.0)
    }

    pub fn object_name(&mut self, what: &str) -> Result<ObjectName> {
        let (first, position) = self.identifier(what)?;
        let mut parts = vec![first];
        while self.accept_token(&Token::Period) {
            parts.push(self.name(what)?);
        }
        if parts.len() > 3 {
            let message = format!("{what} has more than three parts: {}", parts.join("."));
            return Err(position.mark(Error::new(SqlState::SYNTAX_ERROR, message)));
        }
        Ok(ObjectName::new(parts, position))
    }

    pub fn object_names(&mut self, what: &str) -> Result<Vec<ObjectName>> {
        self.list(|cursor| cursor.object_name(what))
    }

    /// `(a, b, …)`.
    pub fn column_list(&mut self) -> Result<Vec<String>> {
        self.parenthesized(|cursor| cursor.name("a column name"))
    }

    /// `(a, b, …)`, or nothing.
    pub fn optional_column_list(&mut self) -> Result<Vec<String>> {
        if *self.peek(0) == Token::LParen {
            self.column_list()
        } else {
            Ok(Vec::new())
        }
    }

    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.accept_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub fn parenthesized<T>(&mut self, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_token(&Token::LParen)?;
        let items = self.list(item)?;
        if !self.accept_token(&Token::RParen) {
            return Err(self.unexpected("\",\" or \")\""));
        }
        Ok(items)
    }

    // Reading values.

    /// A string literal in any of its forms, if one is next.
    pub fn accept_string(&mut self) -> Option<String> {
        let text = match self.peek(0) {
            Token::SingleQuotedString(text)
            | Token::EscapedStringLiteral(text)
            | Token::UnicodeStringLiteral(text)
            | Token::NationalStringLiteral(text) => text.clone(),
            Token::DollarQuotedString(text) => text.value.clone(),
            _ => return None,
        };
        self.skip(1);
        Some(text)
    }

    pub fn string(&mut self, what: &str) -> Result<String> {
        self.accept_string().ok_or_else(|| self.unexpected(what))
    }

    pub fn accept_number(&mut self) -> Option<String> {
        let Token::Number(digits, _) = self.peek(0) else {
            return None;
        };
        let digits = digits.clone();
        self.skip(1);
        Some(digits)
    }

    pub fn unsigned(&mut self, what: &str) -> Result<u64> {
        let position = self.position();
        let Some(digits) = self.accept_number() else {
            return Err(self.unexpected(what));
        };
        digits.parse().map_err(|_| {
            let message = format!("{digits} is not {what}");
            position.mark(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message))
        })
    }

    // Reading what the library reads.

    pub fn expr(&mut self) -> Result<ast::Expr> {
        let mut expr = self.library(|parser| parser.parse_expr())?;
        rewrite::rewrite(&mut expr, self.positions)?;
        Ok(expr)
    }

    pub fn data_type(&mut self) -> Result<ast::DataType> {
        self.library(|parser| parser.parse_data_type())
    }

    pub fn query(&mut self) -> Result<Box<ast::Query>> {
        if ["INSERT", "UPDATE", "DELETE", "MERGE"]
            .iter()
            .any(|word| self.at(&[word]))
        {
            return Err(self.unexpected("a query"));
        }
        let position = self.position();
        let mut query = self.library(|parser| parser.parse_query())?;
        if let ast::SetExpr::Insert(_)
        | ast::SetExpr::Update(_)
        | ast::SetExpr::Delete(_)
        | ast::SetExpr::Merge(_) = *query.body
        {
            let error = Error::unsupported("a write after WITH is not supported")
                .hint("put the WITH inside: INSERT INTO t WITH … SELECT …");
            return Err(position.mark(error));
        }
        rewrite::rewrite(&mut *query, self.positions)?;
        // A clause end that was marked behind the query.
        self.accept_token(&Token::SemiColon);
        Ok(query)
    }

    /// A statement that the library parses whole: INSERT, UPDATE, DELETE.
    pub fn library_statement(&mut self) -> Result<ast::Statement> {
        let mut statement = self.library(|parser| parser.parse_statement())?;
        rewrite::rewrite(&mut statement, self.positions)?;
        Ok(statement)
    }

    fn library<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>,
    ) -> Result<T> {
        parse(&mut self.parser).map_err(|error| match error {
            ParserError::RecursionLimitExceeded if self.dialect.is_exhausted() => too_ambiguous(),
            error => self
                .errors()
                .parser_error(error, self.parser.get_current_index()),
        })
    }

    // Failing.

    /// The syntax error at the next token.
    pub fn unexpected(&self, expected: &str) -> Error {
        let location = self.parser.peek_nth_token_ref(0).span.start;
        self.errors().near(location, Some(expected))
    }

    fn errors(&self) -> SyntaxErrors<'_> {
        SyntaxErrors {
            text: self.text,
            positions: self.positions,
            tokens: self.tokens,
        }
    }
}
