//! `CREATE …` of everything but columns.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::base::limits::{EMIT_EVERY_MICROS_MAX, EMIT_EVERY_MICROS_MIN};
use crate::error::{Error, Result, SqlState};
use crate::sql::cursor::Cursor;
use crate::sql::parse::{option, relation, unsupported};
use crate::sql::statement::{
    CreateIndex, CreateMaterializedView, CreateSink, CreateView, Emit, RelationOrQuery, Statement,
};
use crate::sql::{Interval, interval};

/// At the word CREATE.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let or_replace = has_or_replace(cursor);
    let start = if or_replace { 3 } else { 1 };
    let first = cursor.word(start).unwrap_or_default();
    let second = cursor.word(start + 1).unwrap_or_default();
    match (first.as_str(), second.as_str()) {
        ("SOURCE", _) if !or_replace => {
            cursor.skip(2);
            let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
            Ok(Statement::CreateSource(Box::new(relation::relation(
                cursor,
                if_not_exists,
            )?)))
        }
        ("TABLE", _) if !or_replace => table(cursor),
        ("MATERIALIZED", "VIEW") => {
            cursor.skip(start + 2);
            materialized_view(cursor, or_replace)
        }
        ("VIEW", _) => {
            cursor.skip(start + 1);
            view(cursor, or_replace)
        }
        ("SINK", _) if !or_replace => {
            cursor.skip(2);
            sink(cursor)
        }
        ("INDEX", _) if !or_replace => {
            cursor.skip(2);
            index(cursor)
        }
        _ => other(cursor, or_replace, &first, &second),
    }
}

fn has_or_replace(cursor: &Cursor<'_>) -> bool {
    cursor.at(&["CREATE", "OR", "REPLACE"])
}

fn other(
    cursor: &mut Cursor<'_>,
    or_replace: bool,
    first: &str,
    second: &str,
) -> Result<Statement> {
    let (what, hint) = match (first, second) {
        ("UNIQUE", "INDEX") => ("CREATE UNIQUE INDEX", Some("declare a PRIMARY KEY instead")),
        ("TEMP" | "TEMPORARY", _) => ("CREATE TEMPORARY …", Some("leave TEMPORARY out")),
        ("UNLOGGED", _) => ("CREATE UNLOGGED TABLE", Some("leave UNLOGGED out")),
        ("RECURSIVE", _) => ("CREATE RECURSIVE VIEW", None),
        ("SECRET", _) => ("CREATE SECRET", None),
        ("ROLE" | "USER" | "GROUP", _) => ("CREATE ROLE", Some("every user name may connect")),
        ("FUNCTION", _) => ("CREATE FUNCTION", None),
        ("PROCEDURE", _) => ("CREATE PROCEDURE", None),
        ("SCHEMA", _) => ("CREATE SCHEMA", Some("all objects live in schema public")),
        ("DATABASE", _) => ("CREATE DATABASE", Some("a server has one database")),
        ("EXTENSION", _) => ("CREATE EXTENSION", None),
        ("TYPE" | "DOMAIN", _) => ("CREATE TYPE", None),
        ("SEQUENCE", _) => ("CREATE SEQUENCE", None),
        ("TRIGGER", _) => ("CREATE TRIGGER", Some("SUBSCRIBE TO a view instead")),
        ("CONNECTION", _) => (
            "CREATE CONNECTION",
            Some("put the options into WITH of each source"),
        ),
        ("SOURCE" | "TABLE" | "SINK" | "INDEX", _) if or_replace => (
            "CREATE OR REPLACE of this kind",
            Some("drop it first; views can be replaced"),
        ),
        _ => {
            cursor.skip(if or_replace { 3 } else { 1 });
            let expected = "SOURCE, TABLE, MATERIALIZED VIEW, VIEW, SINK or INDEX";
            return Err(cursor.unexpected(expected));
        }
    };
    Ok(unsupported(cursor, what, hint))
}

fn table(cursor: &mut Cursor<'_>) -> Result<Statement> {
    // Found before anything is read: CREATE TABLE t [(a, b)] AS … is another statement.
    let mut ahead = if cursor.at(&["CREATE", "TABLE", "IF"]) {
        5
    } else {
        2
    };
    while matches!(cursor.peek(ahead), Token::Word(_)) && *cursor.peek(ahead + 1) == Token::Period {
        ahead += 2;
    }
    ahead += 1;
    if *cursor.peek(ahead) == Token::LParen {
        while !matches!(cursor.peek(ahead), Token::RParen | Token::EOF) {
            ahead += 1;
        }
        ahead += 1;
    }
    if cursor.word(ahead).as_deref() == Some("AS") {
        let hint = "use CREATE MATERIALIZED VIEW, or CREATE TABLE and INSERT … SELECT";
        return Ok(unsupported(cursor, "CREATE TABLE AS", Some(hint)));
    }
    cursor.skip(2);
    let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
    Ok(Statement::CreateTable(Box::new(relation::relation(
        cursor,
        if_not_exists,
    )?)))
}

fn materialized_view(cursor: &mut Cursor<'_>, or_replace: bool) -> Result<Statement> {
    let if_not_exists = if_not_exists(cursor, or_replace)?;
    let name = cursor.object_name("a view name")?;
    let columns = cursor.optional_column_list()?;
    let options = option::with_options(cursor)?;
    cursor.expect(&["AS"])?;
    let query = cursor.query()?;
    let emit = optional_emit(cursor)?;
    data(cursor)?;
    Ok(Statement::CreateMaterializedView(Box::new(
        CreateMaterializedView {
            name,
            or_replace,
            if_not_exists,
            columns,
            options,
            query,
            emit,
        },
    )))
}

fn if_not_exists(cursor: &mut Cursor<'_>, or_replace: bool) -> Result<bool> {
    if or_replace && cursor.at(&["IF"]) {
        let hint = "OR REPLACE and IF NOT EXISTS exclude each other";
        return Err(cursor.unexpected("a view name").hint(hint));
    }
    Ok(cursor.accept(&["IF", "NOT", "EXISTS"]))
}

/// Postgres' `WITH [NO] DATA`.
fn data(cursor: &mut Cursor<'_>) -> Result<()> {
    let position = cursor.position();
    // The mark of a clause end, where EMIT came before.
    cursor.accept_token(&Token::SemiColon);
    if cursor.accept(&["WITH", "NO", "DATA"]) {
        let error = Error::unsupported("a materialized view WITH NO DATA is not supported")
            .hint("SET background_ddl = on makes CREATE return at once");
        return Err(position.mark(error));
    }
    cursor.accept(&["WITH", "DATA"]);
    Ok(())
}

fn optional_emit(cursor: &mut Cursor<'_>) -> Result<Option<Emit>> {
    if !cursor.accept(&["EMIT"]) {
        return Ok(None);
    }
    if cursor.accept(&["ON", "UPDATE"]) {
        return Ok(Some(Emit::OnUpdate));
    }
    if cursor.accept(&["ON", "WINDOW", "CLOSE"]) {
        return Ok(Some(Emit::OnWindowClose));
    }
    if !cursor.accept(&["EVERY"]) {
        cursor.accept(&["ON"]);
        return Err(cursor.unexpected("UPDATE, WINDOW CLOSE or EVERY INTERVAL '…'"));
    }
    let position = cursor.position();
    let interval = emit_interval(cursor).map_err(|error| position.mark(error))?;
    Ok(Some(Emit::Every { interval, position }))
}

fn emit_interval(cursor: &mut Cursor<'_>) -> Result<Interval> {
    let interval = interval::from_expr(&cursor.expr()?)?;
    if interval.fixed_micros().is_none_or(|micros| micros <= 0) {
        let message = format!("EMIT EVERY needs a positive time without months, not {interval}");
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    let lengths = EMIT_EVERY_MICROS_MIN..=EMIT_EVERY_MICROS_MAX;
    if !interval
        .fixed_micros()
        .is_some_and(|micros| lengths.contains(&micros))
    {
        let message = format!("EMIT EVERY takes a millisecond to a day, not {interval}");
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok(interval)
}

fn view(cursor: &mut Cursor<'_>, or_replace: bool) -> Result<Statement> {
    let if_not_exists = if_not_exists(cursor, or_replace)?;
    let name = cursor.object_name("a view name")?;
    let columns = cursor.optional_column_list()?;
    cursor.expect(&["AS"])?;
    let query = cursor.query()?;
    if cursor.at(&["EMIT"]) {
        let hint = "EMIT belongs to CREATE MATERIALIZED VIEW: a view is a name for its query";
        return Err(cursor.unexpected("the end of the query").hint(hint));
    }
    Ok(Statement::CreateView(Box::new(CreateView {
        name,
        or_replace,
        if_not_exists,
        columns,
        query,
    })))
}

fn sink(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.object_name("a sink name")?;
    let input = if cursor.accept(&["FROM"]) {
        RelationOrQuery::Relation(cursor.object_name("the name of a view")?)
    } else if cursor.accept(&["AS"]) {
        RelationOrQuery::Query(cursor.query()?)
    } else {
        return Err(cursor.unexpected("FROM view or AS SELECT …"));
    };
    let mut sink = CreateSink {
        name,
        if_not_exists,
        input,
        emit: None,
        options: Vec::new(),
        format: None,
    };
    let mut has_options = false;
    loop {
        // The marks of clause ends.
        cursor.accept_token(&Token::SemiColon);
        if sink.emit.is_none() && cursor.at(&["EMIT"]) {
            sink.emit = optional_emit(cursor)?;
        } else if !has_options && cursor.at(&["WITH"]) {
            has_options = true;
            sink.options = option::with_options(cursor)?;
        } else if sink.format.is_none() && cursor.accept(&["FORMAT"]) {
            sink.format = Some(option::format(cursor)?);
        } else {
            return Ok(Statement::CreateSink(Box::new(sink)));
        }
    }
}

fn index(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = if cursor.at(&["ON"]) {
        None
    } else {
        Some(cursor.name("an index name")?)
    };
    cursor.expect(&["ON"])?;
    let relation = cursor.object_name("the name of a view or table")?;
    let columns = cursor.column_list()?;
    Ok(Statement::CreateIndex(CreateIndex {
        name,
        if_not_exists,
        relation,
        columns,
    }))
}
