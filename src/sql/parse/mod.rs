//! The grammar of statements: which words begin which statement.
//!
//! One function per statement, grouped by what it is about: [`create`] and [`relation`] for DDL,
//! [`object`] for what is done to existing objects, [`watch`] for SUBSCRIBE, EXPLAIN and cursors,
//! [`copy`], [`session`]. Each starts behind the words that chose it and ends where the statement's
//! text ends; [`statement`] checks that.

mod copy;
mod create;
mod object;
mod option;
mod relation;
mod session;
mod watch;

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Result};
use crate::sql::cursor::Cursor;
use crate::sql::statement::{Statement, Unsupported};

/// One whole statement.
pub(super) fn statement(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let statement = outermost(cursor)?;
    match statement {
        // Nothing is known about its grammar.
        Statement::Unsupported(_) => {}
        _ => cursor.end()?,
    }
    Ok(statement)
}

/// A statement that may hold another one, or any other.
fn outermost(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.accept(&["EXPLAIN"]) {
        return watch::explain(cursor).map(Statement::Explain);
    }
    if cursor.at(&["PREPARE"]) && !cursor.at(&["PREPARE", "TRANSACTION"]) {
        cursor.skip(1);
        return session::prepare(cursor).map(Statement::Prepare);
    }
    inner(cursor)
}

/// A statement that holds no other one; so nesting cannot be deep.
fn inner(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if *cursor.peek(0) == Token::LParen {
        return query(cursor);
    }
    let Some(first) = cursor.word(0) else {
        return Err(cursor.unexpected("a statement"));
    };
    match first.as_str() {
        "SELECT" | "WITH" | "VALUES" | "TABLE" => query(cursor),
        "INSERT" | "UPDATE" | "DELETE" => write(cursor),
        "CREATE" => create::create(cursor),
        "DROP" => object::drop(cursor),
        "TRUNCATE" => object::truncate(cursor),
        "ALTER" => object::alter(cursor),
        "COMMENT" => object::comment(cursor),
        "SHOW" => session::show(cursor),
        "SUBSCRIBE" => watch::subscribe_statement(cursor),
        "COPY" => copy::copy(cursor),
        "DECLARE" => watch::declare(cursor),
        "FETCH" => watch::fetch(cursor),
        "CLOSE" => watch::close(cursor),
        "EXECUTE" => session::execute(cursor),
        "DEALLOCATE" => session::deallocate(cursor),
        "BEGIN" | "START" => session::begin(cursor),
        "COMMIT" | "END" => session::commit(cursor),
        "ROLLBACK" | "ABORT" => session::rollback(cursor),
        "SAVEPOINT" | "RELEASE" => session::savepoint(cursor),
        "SET" => session::set(cursor),
        "RESET" => session::reset(cursor),
        "DISCARD" => session::discard(cursor),
        "FLUSH" => {
            cursor.skip(1);
            Ok(Statement::Flush)
        }
        "CANCEL" => object::cancel_job(cursor),
        "PREPARE" if cursor.at(&["PREPARE", "TRANSACTION"]) => {
            Ok(unsupported(cursor, "PREPARE TRANSACTION", None))
        }
        _ => match other(&first) {
            Some(hint) => Ok(unsupported(cursor, &first, hint)),
            None => Err(cursor.unexpected("a statement")),
        },
    }
}

fn query(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let query = cursor.query()?;
    if cursor.at(&["EMIT"]) {
        let hint =
            "EMIT belongs to CREATE MATERIALIZED VIEW and CREATE SINK: a SELECT answers once";
        return Err(cursor.unexpected("the end of the query").hint(hint));
    }
    Ok(Statement::Query(query))
}

fn write(cursor: &mut Cursor<'_>) -> Result<Statement> {
    match cursor.library_statement()? {
        ast::Statement::Insert(insert) => Ok(Statement::Insert(Box::new(insert))),
        ast::Statement::Update(update) => Ok(Statement::Update(Box::new(update))),
        ast::Statement::Delete(delete) => Ok(Statement::Delete(Box::new(delete))),
        other => Err(Error::internal(format!("a write was parsed as {other}"))),
    }
}

/// Statements of Postgres that are recognised by their first word only, with a hint.
fn other(word: &str) -> Option<Option<&'static str>> {
    let hint = match word {
        "LISTEN" | "NOTIFY" | "UNLISTEN" => Some("SUBSCRIBE TO a view to be told of changes"),
        "REFRESH" => Some("materialized views are always up to date"),
        "DESCRIBE" | "DESC" => Some("use \\d name in psql, or SHOW CREATE"),
        "USE" => Some("connect to the database instead"),
        "MERGE" => Some("use UPDATE, then INSERT … SELECT … WHERE NOT EXISTS (…)"),
        "VACUUM" | "ANALYZE" | "CLUSTER" | "REINDEX" | "CHECKPOINT" => {
            Some("the server does this by itself")
        }
        "GRANT" | "REVOKE" | "LOCK" | "CALL" | "DO" | "LOAD" | "MOVE" | "REASSIGN" | "SECURITY"
        | "IMPORT" | "PREPARE" | "EXPLAIN" => None,
        _ => return None,
    };
    Some(hint)
}

/// Refuses, when run, the statement that begins at the next token.
fn unsupported(cursor: &mut Cursor<'_>, what: &str, hint: Option<&'static str>) -> Statement {
    Statement::Unsupported(Unsupported {
        what: what.to_string(),
        hint,
        position: cursor.position(),
        text: cursor.text.to_string(),
    })
}
