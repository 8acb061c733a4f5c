//! Names of types: `Display` as Postgres prints them, and a parser for what users may write.

use std::fmt;

use crate::error::{Error, Result, SqlState};
use crate::types::{SqlType, StructField};

/// How deep arrays and structs may nest in a written type; each level is a call of the parser.
const NESTING_MAX: usize = 32;

/// Postgres' bound on the length of a varchar.
const VARCHAR_LENGTH_MAX: u32 = 10_485_760;

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlType::Boolean => f.write_str("boolean"),
            SqlType::SmallInt => f.write_str("smallint"),
            SqlType::Integer => f.write_str("integer"),
            SqlType::BigInt => f.write_str("bigint"),
            SqlType::Real => f.write_str("real"),
            SqlType::DoublePrecision => f.write_str("double precision"),
            SqlType::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            SqlType::Text => f.write_str("text"),
            SqlType::Varchar(None) => f.write_str("character varying"),
            SqlType::Varchar(Some(length)) => write!(f, "character varying({length})"),
            SqlType::Bytea => f.write_str("bytea"),
            SqlType::Date => f.write_str("date"),
            SqlType::Time => f.write_str("time without time zone"),
            SqlType::Timestamp => f.write_str("timestamp without time zone"),
            SqlType::Timestamptz => f.write_str("timestamp with time zone"),
            SqlType::Interval => f.write_str("interval"),
            SqlType::Uuid => f.write_str("uuid"),
            SqlType::Jsonb => f.write_str("jsonb"),
            SqlType::Array(element) => write!(f, "{element}[]"),
            SqlType::Struct(fields) => {
                f.write_str("struct<")?;
                for (position, field) in fields.iter().enumerate() {
                    let separator = if position == 0 { "" } else { ", " };
                    f.write_str(separator)?;
                    write_identifier(f, &field.name)?;
                    write!(f, " {}", field.sql_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

/// Writes a name so that the parser below reads the same name: quoted unless it is plain.
fn write_identifier(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain {
        f.write_str(name)
    } else {
        write!(f, "\"{}\"", name.replace('"', "\"\""))
    }
}

impl SqlType {
    /// Reads a type's name or one of its aliases: `int8`, `varchar(20)`, `double precision`,
    /// `timestamptz`, `numeric(10,2)[]`, `struct<a bigint, b text>`. Case does not matter.
    ///
    /// # Errors
    /// 42704 for an unknown type, 22023 for a bad length or precision, 42601 for bad syntax, 0A000
    /// for a Postgres type or precision that Tidemill does not have.
    pub fn parse(text: &str) -> Result<SqlType> {
        let mut parser = Parser { text, rest: text };
        let sql_type = parser.sql_type(0)?;
        match parser.next()? {
            Token::End => Ok(sql_type),
            _ => Err(parser.syntax_error()),
        }
    }
}

/// What a type's name is made of.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// An unquoted word, in lower case.
    Word(String),
    Quoted(String),
    Number(u32),
    Symbol(char),
    End,
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn sql_type(&mut self, depth: usize) -> Result<SqlType> {
        if depth > NESTING_MAX {
            return Err(Error::new(
                SqlState::STATEMENT_TOO_COMPLEX,
                format!("type nests deeper than {NESTING_MAX} levels"),
            ));
        }
        let Token::Word(word) = self.next()? else {
            return Err(self.syntax_error());
        };
        let mut sql_type = match word.as_str() {
            "struct" => self.members(depth)?,
            _ => self.scalar(&word)?,
        };
        // `bigint[]`, `bigint[3]` and `bigint array`: Postgres ignores the length too.
        loop {
            if self.accept_word("array")? {
                sql_type = SqlType::Array(Box::new(sql_type));
            } else if self.accept('[')? {
                if let Token::Number(_) = self.peek()? {
                    self.next()?;
                }
                self.expect(']')?;
                sql_type = SqlType::Array(Box::new(sql_type));
            } else {
                return Ok(sql_type);
            }
        }
    }

    fn members(&mut self, depth: usize) -> Result<SqlType> {
        self.expect('<')?;
        let mut fields = Vec::new();
        loop {
            let name = match self.next()? {
                Token::Word(name) | Token::Quoted(name) => name,
                _ => return Err(self.syntax_error()),
            };
            let sql_type = self.sql_type(depth + 1)?;
            fields.push(StructField { name, sql_type });
            if !self.accept(',')? {
                break;
            }
        }
        self.expect('>')?;
        Ok(SqlType::Struct(fields))
    }

    fn scalar(&mut self, word: &str) -> Result<SqlType> {
        Ok(match word {
            "boolean" | "bool" => SqlType::Boolean,
            "smallint" | "int2" => SqlType::SmallInt,
            "integer" | "int" | "int4" => SqlType::Integer,
            "bigint" | "int8" => SqlType::BigInt,
            "real" | "float4" => SqlType::Real,
            "float8" => SqlType::DoublePrecision,
            "double" => {
                // "double" alone is what other systems call it.
                self.accept_word("precision")?;
                SqlType::DoublePrecision
            }
            "float" => self.float()?,
            "numeric" | "decimal" | "dec" => self.numeric()?,
            "text" | "string" | "name" => SqlType::Text,
            "varchar" => SqlType::Varchar(self.length()?),
            "character" | "char" if self.accept_word("varying")? => {
                SqlType::Varchar(self.length()?)
            }
            "character" | "char" | "bpchar" => {
                return Err(Error::unsupported("type character is not supported")
                    .hint("use varchar: Tidemill does not pad text with blanks"));
            }
            "bytea" | "bytes" => SqlType::Bytea,
            "date" => SqlType::Date,
            "time" => self.time()?,
            "timestamp" => self.timestamp()?,
            "timestamptz" => {
                self.time_precision()?;
                SqlType::Timestamptz
            }
            "interval" => SqlType::Interval,
            "uuid" => SqlType::Uuid,
            "jsonb" | "json" => SqlType::Jsonb,
            "timetz" => return Err(time_with_zone()),
            _ => {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("type \"{word}\" does not exist"),
                ));
            }
        })
    }

    fn float(&mut self) -> Result<SqlType> {
        match self.arguments()?.as_slice() {
            [] | [25..=53] => Ok(SqlType::DoublePrecision),
            [1..=24] => Ok(SqlType::Real),
            [bits] => Err(invalid(if *bits < 1 {
                "precision for type float must be at least 1 bit".to_string()
            } else {
                "precision for type float must be less than 54 bits".to_string()
            })),
            _ => Err(self.syntax_error()),
        }
    }

    fn numeric(&mut self) -> Result<SqlType> {
        let (precision, scale) = match self.arguments()?.as_slice() {
            [] => return Ok(SqlType::NUMERIC),
            [precision] => (*precision, 0),
            [precision, scale] => (*precision, *scale),
            _ => return Err(self.syntax_error()),
        };
        let digits = u8::try_from(precision)
            .ok()
            .filter(|digits| (1..=SqlType::NUMERIC_PRECISION_MAX).contains(digits));
        let Some(digits) = digits else {
            return Err(invalid(format!(
                "NUMERIC precision {precision} must be between 1 and {}",
                SqlType::NUMERIC_PRECISION_MAX
            )));
        };
        match i8::try_from(scale) {
            Ok(scale) if i64::from(scale) <= i64::from(digits) => Ok(SqlType::Numeric {
                precision: digits,
                scale,
            }),
            _ => Err(invalid(format!(
                "NUMERIC scale {scale} must be between 0 and the precision {precision}"
            ))),
        }
    }

    fn length(&mut self) -> Result<Option<u32>> {
        match self.arguments()?.as_slice() {
            [] => Ok(None),
            [0] => Err(invalid(
                "length for type varchar must be at least 1".to_string(),
            )),
            [length] if *length > VARCHAR_LENGTH_MAX => Err(invalid(format!(
                "length for type varchar cannot exceed {VARCHAR_LENGTH_MAX}"
            ))),
            [length] => Ok(Some(*length)),
            _ => Err(self.syntax_error()),
        }
    }

    fn time(&mut self) -> Result<SqlType> {
        self.time_precision()?;
        if self.accept_word("with")? {
            return Err(time_with_zone());
        }
        if self.accept_word("without")? {
            self.time_zone_words()?;
        }
        Ok(SqlType::Time)
    }

    fn timestamp(&mut self) -> Result<SqlType> {
        self.time_precision()?;
        if self.accept_word("with")? {
            self.time_zone_words()?;
            return Ok(SqlType::Timestamptz);
        }
        if self.accept_word("without")? {
            self.time_zone_words()?;
        }
        Ok(SqlType::Timestamp)
    }

    fn time_zone_words(&mut self) -> Result<()> {
        if self.accept_word("time")? && self.accept_word("zone")? {
            return Ok(());
        }
        Err(self.syntax_error())
    }

    /// `(6)` is what every time has; another precision would have to round, and does not exist.
    fn time_precision(&mut self) -> Result<()> {
        match self.arguments()?.as_slice() {
            [] | [6] => Ok(()),
            [digits] => Err(Error::unsupported(format!(
                "a time precision of {digits} digits is not supported"
            ))
            .hint("leave it out: times are kept in microseconds")),
            _ => Err(self.syntax_error()),
        }
    }

    /// `(1, 2)`, or nothing.
    fn arguments(&mut self) -> Result<Vec<u32>> {
        let mut arguments = Vec::new();
        if !self.accept('(')? {
            return Ok(arguments);
        }
        loop {
            match self.next()? {
                Token::Number(number) => arguments.push(number),
                _ => return Err(self.syntax_error()),
            }
            if !self.accept(',')? {
                break;
            }
        }
        self.expect(')')?;
        Ok(arguments)
    }

    fn accept(&mut self, symbol: char) -> Result<bool> {
        self.accept_token(&Token::Symbol(symbol))
    }

    fn accept_word(&mut self, word: &str) -> Result<bool> {
        self.accept_token(&Token::Word(word.to_string()))
    }

    fn accept_token(&mut self, token: &Token) -> Result<bool> {
        let is_next = self.peek()? == *token;
        if is_next {
            self.next()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, symbol: char) -> Result<()> {
        match self.accept(symbol)? {
            true => Ok(()),
            false => Err(self.syntax_error()),
        }
    }

    fn peek(&mut self) -> Result<Token> {
        let before = self.rest;
        let token = self.next();
        self.rest = before;
        token
    }

    fn next(&mut self) -> Result<Token> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        if first == '"' {
            return self.quoted();
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if !is_word(first) {
            self.rest = &self.rest[first.len_utf8()..];
            return Ok(Token::Symbol(first));
        }
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if first.is_ascii_digit() {
            return match word.parse() {
                Ok(number) => Ok(Token::Number(number)),
                Err(_) => Err(self.syntax_error()),
            };
        }
        Ok(Token::Word(word.to_lowercase()))
    }

    fn quoted(&mut self) -> Result<Token> {
        let mut name = String::new();
        let mut characters = self.rest[1..].char_indices().peekable();
        while let Some((position, character)) = characters.next() {
            if character != '"' {
                name.push(character);
            } else if characters.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                self.rest = &self.rest[1 + position + 1..];
                return Ok(Token::Quoted(name));
            }
        }
        Err(self.syntax_error())
    }

    fn syntax_error(&self) -> Error {
        Error::new(
            SqlState::SYNTAX_ERROR,
            format!("syntax error in type name \"{}\"", self.text),
        )
    }
}

fn invalid(message: String) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn time_with_zone() -> Error {
    Error::unsupported("type time with time zone is not supported")
        .hint("use time, or timestamp with time zone")
}

#[cfg(test)]
mod tests {
    use crate::types::SqlType;

    #[test]
    fn aliases_mean_the_postgres_type() {
        for (alias, name) in [
            ("INT8", "bigint"),
            (" int ", "integer"),
            ("double", "double precision"),
            ("Double Precision", "double precision"),
            ("float(24)", "real"),
            ("float", "double precision"),
            ("varchar(20)", "character varying(20)"),
            ("character varying", "character varying"),
            ("timestamptz", "timestamp with time zone"),
            ("timestamp ( 6 ) with time zone", "timestamp with time zone"),
            ("TIMESTAMP WITHOUT TIME ZONE", "timestamp without time zone"),
            ("decimal", "numeric(38,10)"),
            ("numeric(7)", "numeric(7,0)"),
            ("int4[][3]", "integer[][]"),
            ("text array", "text[]"),
            (
                "struct<A int, \"B\"\"x\" struct<c date>[]>",
                "struct<a integer, \"B\"\"x\" struct<c date>[]>",
            ),
        ] {
            assert_eq!(SqlType::parse(alias).unwrap().to_string(), name);
        }
    }

    #[test]
    fn bad_names_say_why() {
        for (text, code, message) in [
            ("hstore", "42704", "type \"hstore\" does not exist"),
            (
                "numeric(39)",
                "22023",
                "NUMERIC precision 39 must be between 1 and 38",
            ),
            (
                "numeric(3,5)",
                "22023",
                "NUMERIC scale 5 must be between 0 and the precision 3",
            ),
            (
                "varchar(0)",
                "22023",
                "length for type varchar must be at least 1",
            ),
            (
                "float(54)",
                "22023",
                "precision for type float must be less than 54 bits",
            ),
            ("bigint[", "42601", "syntax error in type name \"bigint[\""),
            (
                "bigint x",
                "42601",
                "syntax error in type name \"bigint x\"",
            ),
            ("", "42601", "syntax error in type name \"\""),
            (
                "struct<\"a",
                "42601",
                "syntax error in type name \"struct<\"a\"",
            ),
            (
                "timestamp(3)",
                "0A000",
                "a time precision of 3 digits is not supported",
            ),
            ("char(3)", "0A000", "type character is not supported"),
            (
                "timetz",
                "0A000",
                "type time with time zone is not supported",
            ),
        ] {
            let error = SqlType::parse(text).unwrap_err();
            assert_eq!((error.state().code(), error.message()), (code, message));
        }
        let deep = "struct<a ".repeat(100);
        assert_eq!(SqlType::parse(&deep).unwrap_err().state().code(), "54001");
    }
}
