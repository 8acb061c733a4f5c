//! COPY, with its options in today's form, `WITH (FORMAT csv, HEADER)`, and in the old one,
//! `WITH CSV HEADER`, which drivers and dumps still write.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Result, SqlState};
use crate::sql::Position;
use crate::sql::cursor::Cursor;
use crate::sql::parse::{option, watch};
use crate::sql::statement::{OptionValue, Statement};
use crate::sql::watch::{CopyDirection, CopyFormat, CopyHeader, CopyOptions, CopyRows, CopyTarget};

pub(super) fn copy(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let start = cursor.position();
    cursor.skip(1);
    let is_binary = cursor.accept(&["BINARY"]);
    let target = target(cursor)?;
    let direction = direction(cursor, &target)?;
    let mut options = CopyOptions::default();
    if is_binary {
        options.format = CopyFormat::Binary;
    }
    // The old form allows the delimiter before WITH.
    if cursor.accept(&["USING", "DELIMITERS"]) {
        options.delimiter = Some(character(cursor, "DELIMITER")?);
    }
    cursor.accept(&["WITH"]);
    if *cursor.peek(0) == Token::LParen {
        cursor.parenthesized(|cursor| modern_option(cursor, &mut options))?;
    } else {
        while !cursor.at_end() && !cursor.at(&["WHERE"]) {
            old_option(cursor, &mut options)?;
        }
    }
    if cursor.at(&["WHERE"]) {
        let error = Error::unsupported("COPY … WHERE is not supported")
            .hint("copy into a table and select from it");
        return Err(cursor.position().mark(error));
    }
    check(&options, start)?;
    Ok(Statement::Copy(Box::new(CopyRows {
        target,
        direction,
        options,
    })))
}

fn target(cursor: &mut Cursor<'_>) -> Result<CopyTarget> {
    if !cursor.accept_token(&Token::LParen) {
        let name = cursor.object_name("a table name")?;
        let columns = cursor.optional_column_list()?;
        return Ok(CopyTarget::Relation { name, columns });
    }
    let target = if cursor.at(&["SUBSCRIBE"]) {
        CopyTarget::Subscribe(Box::new(watch::subscribe(cursor)?))
    } else if ["INSERT", "UPDATE", "DELETE"]
        .iter()
        .any(|word| cursor.at(&[word]))
    {
        let error = Error::unsupported("COPY of a write is not supported")
            .hint("run it by itself; COPY (SELECT …) gives rows");
        return Err(cursor.position().mark(error));
    } else {
        CopyTarget::Query(cursor.query()?)
    };
    cursor.expect_token(&Token::RParen)?;
    Ok(target)
}

fn direction(cursor: &mut Cursor<'_>, target: &CopyTarget) -> Result<CopyDirection> {
    let is_relation = matches!(target, CopyTarget::Relation { .. });
    let direction = if is_relation && cursor.accept(&["FROM"]) {
        CopyDirection::FromStdin
    } else if cursor.accept(&["TO"]) {
        CopyDirection::ToStdout
    } else {
        let expected = if is_relation {
            "FROM STDIN or TO STDOUT"
        } else {
            "TO STDOUT"
        };
        return Err(cursor.unexpected(expected));
    };
    // Postgres takes either word for either direction.
    if cursor.accept(&["STDIN"]) || cursor.accept(&["STDOUT"]) {
        return Ok(direction);
    }
    if cursor.at(&["PROGRAM"]) || matches!(cursor.peek(0), Token::SingleQuotedString(_)) {
        let error =
            Error::unsupported("COPY with a file or program of the server is not supported")
                .hint("use STDIN or STDOUT, or \\copy in psql");
        return Err(cursor.position().mark(error));
    }
    Err(cursor.unexpected("STDIN or STDOUT"))
}

fn modern_option(cursor: &mut Cursor<'_>, options: &mut CopyOptions) -> Result<()> {
    let position = cursor.position();
    let name = option::option_name(cursor)?;
    let has_value = !matches!(cursor.peek(0), Token::Comma | Token::RParen);
    match name.as_str() {
        "format" => options.format = format(cursor)?,
        "delimiter" => options.delimiter = Some(character(cursor, "DELIMITER")?),
        "null" => options.null = Some(cursor.string("a string")?),
        "quote" => options.quote = Some(character(cursor, "QUOTE")?),
        "escape" => options.escape = Some(character(cursor, "ESCAPE")?),
        "encoding" => encoding(cursor)?,
        "header" if !has_value => options.header = Some(CopyHeader::On),
        "header" => {
            let place = cursor.position();
            options.header = Some(header(&option::option_value(cursor)?, place)?);
        }
        "freeze" | "oids" | "force_quote" | "force_null" | "force_not_null" | "default"
        | "on_error" | "log_verbosity" => return Err(refused(&name, position)),
        _ => {
            let message = format!("COPY has no option \"{name}\"");
            let hint =
                "the options are FORMAT, DELIMITER, NULL, HEADER, QUOTE, ESCAPE and ENCODING";
            return Err(position.mark(Error::new(SqlState::SYNTAX_ERROR, message).hint(hint)));
        }
    }
    Ok(())
}

fn old_option(cursor: &mut Cursor<'_>, options: &mut CopyOptions) -> Result<()> {
    let position = cursor.position();
    let Some(word) = cursor.word(0) else {
        return Err(cursor.unexpected("an option of COPY"));
    };
    match word.as_str() {
        "FREEZE" | "FORCE" | "OIDS" => return Err(refused(&word, position)),
        "BINARY" | "CSV" | "HEADER" | "DELIMITER" | "DELIMITERS" | "NULL" | "QUOTE" | "ESCAPE"
        | "ENCODING" => cursor.skip(1),
        _ => return Err(cursor.unexpected("an option of COPY")),
    }
    let takes_value = !matches!(word.as_str(), "BINARY" | "CSV" | "HEADER");
    if takes_value {
        cursor.accept(&["AS"]);
    }
    match word.as_str() {
        "BINARY" => options.format = CopyFormat::Binary,
        "CSV" => options.format = CopyFormat::Csv,
        "HEADER" => options.header = Some(CopyHeader::On),
        "NULL" => options.null = Some(cursor.string("a string")?),
        "QUOTE" => options.quote = Some(character(cursor, "QUOTE")?),
        "ESCAPE" => options.escape = Some(character(cursor, "ESCAPE")?),
        "ENCODING" => encoding(cursor)?,
        _ => options.delimiter = Some(character(cursor, "DELIMITER")?),
    }
    Ok(())
}

fn refused(name: &str, position: Position) -> Error {
    let name = name.to_ascii_uppercase();
    position.mark(Error::unsupported(format!(
        "COPY option {name} is not supported"
    )))
}

fn format(cursor: &mut Cursor<'_>) -> Result<CopyFormat> {
    let position = cursor.position();
    let value = option::option_value(cursor)?;
    match value.as_str().to_ascii_lowercase().as_str() {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        _ => {
            let message = format!("COPY format \"{}\" is not known", value.as_str());
            let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
            Err(position.mark(error.hint("the formats are text, csv and binary")))
        }
    }
}

fn header(value: &OptionValue, position: Position) -> Result<CopyHeader> {
    match value.as_bool() {
        Some(true) => Ok(CopyHeader::On),
        Some(false) => Ok(CopyHeader::Off),
        None if value.as_str().eq_ignore_ascii_case("match") => Ok(CopyHeader::Match),
        None => {
            let message = format!(
                "COPY header is true, false or match, not \"{}\"",
                value.as_str()
            );
            Err(position.mark(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)))
        }
    }
}

/// The server speaks UTF-8 only.
fn encoding(cursor: &mut Cursor<'_>) -> Result<()> {
    let position = cursor.position();
    let name = cursor.string("the name of an encoding")?;
    if matches!(
        name.to_ascii_lowercase().as_str(),
        "utf8" | "utf-8" | "unicode"
    ) {
        return Ok(());
    }
    let error = Error::unsupported(format!("encoding \"{name}\" is not supported"));
    Err(position.mark(error.hint("send and receive UTF8")))
}

fn character(cursor: &mut Cursor<'_>, what: &str) -> Result<char> {
    let position = cursor.position();
    let text = cursor.string("a string of one character")?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None)
            if character.is_ascii() && character != '\n' && character != '\r' =>
        {
            Ok(character)
        }
        _ => {
            let message = format!("COPY {what} must be one single-byte character");
            Err(position.mark(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)))
        }
    }
}

/// Options that exclude each other, as Postgres has it.
fn check(options: &CopyOptions, position: Position) -> Result<()> {
    let wrong = |message: &str| Err(position.mark(Error::new(SqlState::SYNTAX_ERROR, message)));
    let is_csv = options.format == CopyFormat::Csv;
    let is_binary = options.format == CopyFormat::Binary;
    if is_binary
        && (options.delimiter.is_some() || options.null.is_some() || options.header.is_some())
    {
        return wrong("DELIMITER, NULL and HEADER do not belong to COPY in binary format");
    }
    if !is_csv && (options.quote.is_some() || options.escape.is_some()) {
        return wrong("QUOTE and ESCAPE belong to COPY in csv format");
    }
    if is_csv && options.delimiter.unwrap_or(',') == options.quote.unwrap_or('"') {
        return wrong("COPY delimiter and quote must be different");
    }
    Ok(())
}
