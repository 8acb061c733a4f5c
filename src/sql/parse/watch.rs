//! SUBSCRIBE, EXPLAIN and cursors.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Result, SqlState};
use crate::sql::cursor::Cursor;
use crate::sql::parse::{self, option};
use crate::sql::session::{
    Close, CursorInput, DeclareCursor, Explain, ExplainFormat, ExplainTarget, Fetch, FetchCount,
};
use crate::sql::statement::{RelationOrQuery, SqlOption, Statement};
use crate::sql::watch::{Subscribe, SubscribeEnvelope};
use crate::sql::{Interval, interval};

pub(super) fn subscribe_statement(cursor: &mut Cursor<'_>) -> Result<Statement> {
    Ok(Statement::Subscribe(Box::new(subscribe(cursor)?)))
}

/// At the word SUBSCRIBE. The clauses may stand in any order, each once.
pub(super) fn subscribe(cursor: &mut Cursor<'_>) -> Result<Subscribe> {
    cursor.skip(1);
    cursor.accept(&["TO"]);
    let input = if cursor.accept_token(&Token::LParen) {
        let query = cursor.query()?;
        cursor.expect_token(&Token::RParen)?;
        RelationOrQuery::Query(query)
    } else {
        RelationOrQuery::Relation(cursor.object_name("a view name or (SELECT …)")?)
    };
    let mut subscribe = Subscribe {
        input,
        snapshot: true,
        progress: false,
        as_of: None,
        up_to: None,
        envelope: SubscribeEnvelope::Diff,
    };
    let mut has_options = false;
    loop {
        if !has_options && cursor.accept(&["WITH"]) {
            has_options = true;
            for option in option::options(cursor, option::Value::OrTrue)? {
                subscribe_option(&mut subscribe, &option)?;
            }
        } else if subscribe.as_of.is_none() && cursor.accept(&["AS", "OF"]) {
            subscribe.as_of = Some(cursor.unsigned("an epoch")?);
        } else if subscribe.up_to.is_none() && cursor.accept(&["UP", "TO"]) {
            subscribe.up_to = Some(cursor.unsigned("an epoch")?);
        } else if subscribe.envelope == SubscribeEnvelope::Diff && cursor.accept(&["ENVELOPE"]) {
            subscribe.envelope = envelope(cursor)?;
        } else {
            return Ok(subscribe);
        }
    }
}

fn subscribe_option(subscribe: &mut Subscribe, option: &SqlOption) -> Result<()> {
    let place = match option.name.as_str() {
        "snapshot" => &mut subscribe.snapshot,
        "progress" => &mut subscribe.progress,
        _ => return Err(unknown_option(option, "SUBSCRIBE", "snapshot and progress")),
    };
    *place = boolean(option)?;
    Ok(())
}

fn envelope(cursor: &mut Cursor<'_>) -> Result<SubscribeEnvelope> {
    let make = if cursor.accept(&["UPSERT"]) {
        SubscribeEnvelope::Upsert
    } else if cursor.accept(&["DEBEZIUM"]) {
        SubscribeEnvelope::Debezium
    } else {
        return Err(cursor.unexpected("UPSERT (KEY (…)) or DEBEZIUM (KEY (…))"));
    };
    cursor.expect_token(&Token::LParen)?;
    cursor.expect(&["KEY"])?;
    let keys = cursor.column_list()?;
    cursor.expect_token(&Token::RParen)?;
    Ok(make(keys))
}

fn unknown_option(option: &SqlOption, statement: &str, known: &str) -> Error {
    let message = format!("{statement} has no option \"{}\"", option.name);
    let error = Error::new(SqlState::SYNTAX_ERROR, message);
    option
        .position
        .mark(error.hint(format!("its options are {known}")))
}

fn boolean(option: &SqlOption) -> Result<bool> {
    option.value.as_bool().ok_or_else(|| {
        let value = option.value.as_str();
        let message = format!(
            "option \"{}\" is true or false, not \"{value}\"",
            option.name
        );
        option
            .value_position
            .mark(Error::new(SqlState::INVALID_PARAMETER_VALUE, message))
    })
}

pub(super) fn declare(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    let name = cursor.name("a cursor name")?;
    let mut declare = DeclareCursor {
        name,
        is_binary: false,
        scroll: None,
        with_hold: false,
        input: CursorInput::Query(Box::new(crate::sql::window::select_all(Vec::new(), None))),
    };
    loop {
        if cursor.accept(&["BINARY"]) {
            declare.is_binary = true;
        } else if cursor.accept(&["NO", "SCROLL"]) {
            declare.scroll = Some(false);
        } else if cursor.accept(&["SCROLL"]) {
            declare.scroll = Some(true);
        } else if !cursor.accept(&["INSENSITIVE"]) && !cursor.accept(&["ASENSITIVE"]) {
            break;
        }
    }
    cursor.expect(&["CURSOR"])?;
    if cursor.accept(&["WITH", "HOLD"]) {
        declare.with_hold = true;
    } else {
        cursor.accept(&["WITHOUT", "HOLD"]);
    }
    cursor.expect(&["FOR"])?;
    declare.input = if cursor.at(&["SUBSCRIBE"]) {
        CursorInput::Subscribe(Box::new(subscribe(cursor)?))
    } else {
        CursorInput::Query(cursor.query()?)
    };
    Ok(Statement::DeclareCursor(declare))
}

pub(super) fn fetch(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    let count = fetch_count(cursor)?;
    if !cursor.accept(&["FROM"]) {
        cursor.accept(&["IN"]);
    }
    let (name, position) = cursor.identifier("a cursor name")?;
    let mut timeout = None;
    if cursor.accept(&["WITH"]) {
        for option in option::options(cursor, option::Value::Required)? {
            if option.name != "timeout" {
                return Err(unknown_option(&option, "FETCH", "timeout"));
            }
            timeout = Some(fetch_timeout(&option)?);
        }
    }
    Ok(Statement::Fetch(Fetch {
        cursor: name,
        position,
        count,
        timeout,
    }))
}

fn fetch_timeout(option: &SqlOption) -> Result<Interval> {
    let interval = interval::parse(option.value.as_str())
        .map_err(|error| option.value_position.mark(error))?;
    if interval.fixed_micros().is_none_or(|micros| micros < 0) {
        let message = format!("timeout is a time without months, 0 or more, not {interval}");
        let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
        return Err(option.value_position.mark(error));
    }
    Ok(interval)
}

/// `[NEXT | n | ALL | FORWARD [n | ALL]]`; a cursor named like one of the words is quoted.
fn fetch_count(cursor: &mut Cursor<'_>) -> Result<FetchCount> {
    let backward = ["PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "BACKWARD"];
    let is_negative = *cursor.peek(0) == Token::Minus;
    if is_negative || backward.iter().any(|word| cursor.at(&[word])) {
        let error = Error::unsupported("cursors move forward only")
            .hint("FETCH NEXT, FETCH n or FETCH ALL");
        return Err(cursor.position().mark(error));
    }
    if cursor.accept(&["NEXT"]) {
        return Ok(FetchCount::Rows(1));
    }
    let is_forward = cursor.accept(&["FORWARD"]);
    if cursor.accept(&["ALL"]) {
        return Ok(FetchCount::All);
    }
    match cursor.peek(0) {
        Token::Number(..) => Ok(FetchCount::Rows(cursor.unsigned("a number of rows")?)),
        _ if is_forward || matches!(cursor.peek(0), Token::Word(_)) => Ok(FetchCount::Rows(1)),
        _ => Err(cursor.unexpected("a number of rows or a cursor name")),
    }
}

pub(super) fn close(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    if cursor.accept(&["ALL"]) {
        return Ok(Statement::Close(Close::All));
    }
    let (name, position) = cursor.identifier("a cursor name")?;
    Ok(Statement::Close(Close::Cursor { name, position }))
}

/// Behind the word EXPLAIN.
pub(super) fn explain(cursor: &mut Cursor<'_>) -> Result<Explain> {
    let mut explain = Explain {
        analyze: false,
        verbose: false,
        format: ExplainFormat::Text,
        target: ExplainTarget::Statement(Box::new(Statement::Flush)),
    };
    // `EXPLAIN (SELECT …)` is a query in parentheses.
    let is_query = ["SELECT", "WITH", "VALUES", "TABLE"]
        .contains(&cursor.word(1).unwrap_or_default().as_str());
    if *cursor.peek(0) == Token::LParen && !is_query && *cursor.peek(1) != Token::LParen {
        cursor.parenthesized(|cursor| explain_option(cursor, &mut explain))?;
    } else {
        explain.analyze = cursor.accept(&["ANALYZE"]) || cursor.accept(&["ANALYSE"]);
        explain.verbose = cursor.accept(&["VERBOSE"]);
    }
    explain.target = explain_target(cursor)?;
    Ok(explain)
}

fn explain_option(cursor: &mut Cursor<'_>, explain: &mut Explain) -> Result<()> {
    let position = cursor.position();
    let name = option::option_name(cursor)?;
    let has_value = !matches!(cursor.peek(0), Token::Comma | Token::RParen);
    let value = if has_value {
        Some(option::option_value(cursor)?)
    } else {
        None
    };
    if name == "format" {
        explain.format = match value
            .as_ref()
            .map(|value| value.as_str().to_ascii_lowercase())
        {
            Some(format) if format == "text" => ExplainFormat::Text,
            Some(format) if format == "json" => ExplainFormat::Json,
            _ => {
                let message = "the format of EXPLAIN is TEXT or JSON";
                let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
                return Err(position.mark(error));
            }
        };
        return Ok(());
    }
    let is_on = match &value {
        None => true,
        Some(value) => value.as_bool().ok_or_else(|| {
            let message = format!(
                "option \"{name}\" is true or false, not \"{}\"",
                value.as_str()
            );
            position.mark(Error::new(SqlState::INVALID_PARAMETER_VALUE, message))
        })?,
    };
    match name.as_str() {
        "analyze" => explain.analyze = is_on,
        "verbose" => explain.verbose = is_on,
        // Postgres' own, which say what to leave out of a text that ours does not have.
        "costs" | "settings" | "buffers" | "wal" | "timing" | "summary" | "generic_plan" => {}
        _ => {
            let message = format!("EXPLAIN has no option \"{name}\"");
            let error = Error::new(SqlState::SYNTAX_ERROR, message)
                .hint("the options are ANALYZE, VERBOSE and FORMAT");
            return Err(position.mark(error));
        }
    }
    Ok(())
}

fn explain_target(cursor: &mut Cursor<'_>) -> Result<ExplainTarget> {
    let kinds = ["MATERIALIZED VIEW", "VIEW", "SINK", "INDEX", "SOURCE"];
    for kind in kinds {
        let words: Vec<&str> = kind.split(' ').collect();
        let is_name = matches!(cursor.peek(words.len()), Token::Word(_));
        if cursor.at(&words) && is_name {
            cursor.skip(words.len());
            return Ok(ExplainTarget::Object(cursor.object_name("a name")?));
        }
    }
    // A name and nothing else: `EXPLAIN v`, `EXPLAIN public.v`.
    let mut ahead = 1;
    while *cursor.peek(ahead) == Token::Period {
        ahead += 2;
    }
    if matches!(cursor.peek(0), Token::Word(_)) && *cursor.peek(ahead) == Token::EOF {
        return Ok(ExplainTarget::Object(
            cursor.object_name("a name or a statement")?,
        ));
    }
    let position = cursor.position();
    let statement = parse::inner(cursor)?;
    match statement {
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Subscribe(_)
        | Statement::Execute(_)
        | Statement::CreateMaterializedView(_)
        | Statement::CreateView(_)
        | Statement::CreateSink(_) => Ok(ExplainTarget::Statement(Box::new(statement))),
        _ => {
            let error = Error::new(
                SqlState::SYNTAX_ERROR,
                "this statement has no plan to explain",
            )
            .hint("explain a query, a CREATE MATERIALIZED VIEW or the name of a view");
            Err(position.mark(error))
        }
    }
}
