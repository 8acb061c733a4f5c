//! `WITH (name = value, …)` and `FORMAT … ENCODE … (…)`.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Result, SqlState};
use crate::sql::cursor::Cursor;
use crate::sql::statement::{Format, OptionValue, SqlOption};

/// Whether an option may stand without a value, which then is `true`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Required,
    OrTrue,
}

/// `WITH (…)`, or nothing.
pub(super) fn with_options(cursor: &mut Cursor<'_>) -> Result<Vec<SqlOption>> {
    if cursor.accept(&["WITH"]) {
        options(cursor, Value::Required)
    } else {
        Ok(Vec::new())
    }
}

/// `(name = value, …)`; empty parentheses are allowed.
pub(super) fn options(cursor: &mut Cursor<'_>, value: Value) -> Result<Vec<SqlOption>> {
    if *cursor.peek(0) == Token::LParen && *cursor.peek(1) == Token::RParen {
        cursor.skip(2);
        return Ok(Vec::new());
    }
    let options = cursor.parenthesized(|cursor| option(cursor, value))?;
    for (index, option) in options.iter().enumerate() {
        if options[..index]
            .iter()
            .any(|earlier| earlier.name == option.name)
        {
            let message = format!("option \"{}\" is given twice", option.name);
            return Err(option
                .position
                .mark(Error::new(SqlState::SYNTAX_ERROR, message)));
        }
    }
    Ok(options)
}

fn option(cursor: &mut Cursor<'_>, value: Value) -> Result<SqlOption> {
    let position = cursor.position();
    let name = option_name(cursor)?;
    let value_position;
    let value = if cursor.accept_token(&Token::Eq) {
        value_position = cursor.position();
        option_value(cursor)?
    } else if value == Value::OrTrue {
        value_position = position;
        OptionValue::Word("true".to_string())
    } else {
        return Err(cursor.unexpected("\"=\""));
    };
    Ok(SqlOption {
        name,
        position,
        value,
        value_position,
    })
}

/// Words with dots between them; any word will do, reserved or not.
pub(super) fn option_name(cursor: &mut Cursor<'_>) -> Result<String> {
    let mut name = String::new();
    loop {
        let Token::Word(word) = cursor.peek(0) else {
            return Err(cursor.unexpected("the name of an option"));
        };
        match word.quote_style {
            Some(_) => name.push_str(&word.value),
            None => name.push_str(&word.value.to_ascii_lowercase()),
        }
        cursor.skip(1);
        if !cursor.accept_token(&Token::Period) {
            return Ok(name);
        }
        name.push('.');
    }
}

/// A string, a number or a word.
pub(super) fn option_value(cursor: &mut Cursor<'_>) -> Result<OptionValue> {
    if let Some(text) = cursor.accept_string() {
        return Ok(OptionValue::Text(text));
    }
    let is_negative =
        *cursor.peek(0) == Token::Minus && matches!(cursor.peek(1), Token::Number(..));
    if is_negative {
        cursor.skip(1);
    } else if matches!(cursor.peek(1), Token::Number(..)) {
        cursor.accept_token(&Token::Plus);
    }
    if let Some(digits) = cursor.accept_number() {
        let sign = if is_negative { "-" } else { "" };
        return Ok(OptionValue::Number(format!("{sign}{digits}")));
    }
    let word = match cursor.peek(0) {
        Token::Word(word) if word.quote_style.is_some() => word.value.clone(),
        Token::Word(word) => word.value.to_ascii_lowercase(),
        _ => return Err(cursor.unexpected("a string, a number or a word")),
    };
    cursor.skip(1);
    Ok(OptionValue::Word(word))
}

/// Behind the word FORMAT.
pub(super) fn format(cursor: &mut Cursor<'_>) -> Result<Format> {
    let position = cursor.position();
    let envelope = cursor.one_of()?;
    cursor.expect(&["ENCODE"])?;
    let encoding = cursor.one_of()?;
    let options = match cursor.peek(0) {
        Token::LParen => options(cursor, Value::Required)?,
        _ => Vec::new(),
    };
    Ok(Format {
        envelope,
        encoding,
        options,
        position,
    })
}
