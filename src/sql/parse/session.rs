//! Transactions, variables, SHOW, and prepared statements.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Result, SqlState};
use crate::sql::cursor::Cursor;
use crate::sql::parse::{self, object, option, unsupported};
use crate::sql::session::{
    AccessMode, Begin, Deallocate, Discard, Execute, IsolationLevel, Listing, Prepare, Savepoint,
    Set, SetScope, SetTransaction, SetValue, ShowObjects, TransactionEnd, TransactionModes,
    TransactionScope, Variable,
};
use crate::sql::statement::{OptionValue, Statement, Words};

// Transactions.

pub(super) fn begin(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.accept(&["START"]) {
        cursor.expect(&["TRANSACTION"])?;
    } else {
        cursor.skip(1);
        noise(cursor);
    }
    let modes = transaction_modes(cursor)?;
    Ok(Statement::Begin(Begin { modes }))
}

/// `[WORK | TRANSACTION]`.
fn noise(cursor: &mut Cursor<'_>) {
    if !cursor.accept(&["WORK"]) {
        cursor.accept(&["TRANSACTION"]);
    }
}

/// Any number, with or without commas; the last one of a kind counts, as in Postgres.
fn transaction_modes(cursor: &mut Cursor<'_>) -> Result<TransactionModes> {
    let mut modes = TransactionModes::default();
    let mut is_expected = false;
    loop {
        if cursor.accept(&["ISOLATION", "LEVEL"]) {
            modes.isolation = Some(cursor.one_of()?);
        } else if cursor.accept(&["READ", "ONLY"]) {
            modes.access = Some(AccessMode::ReadOnly);
        } else if cursor.accept(&["READ", "WRITE"]) {
            modes.access = Some(AccessMode::ReadWrite);
        } else if cursor.accept(&["NOT", "DEFERRABLE"]) {
            modes.deferrable = Some(false);
        } else if cursor.accept(&["DEFERRABLE"]) {
            modes.deferrable = Some(true);
        } else if is_expected {
            return Err(cursor.unexpected("a transaction mode"));
        } else {
            return Ok(modes);
        }
        is_expected = cursor.accept_token(&Token::Comma);
    }
}

pub(super) fn commit(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.at(&["COMMIT", "PREPARED"]) {
        return Ok(unsupported(cursor, "COMMIT PREPARED", None));
    }
    cursor.skip(1);
    noise(cursor);
    Ok(Statement::Commit(transaction_end(cursor)?))
}

fn transaction_end(cursor: &mut Cursor<'_>) -> Result<TransactionEnd> {
    let mut and_chain = false;
    if cursor.accept(&["AND"]) {
        and_chain = !cursor.accept(&["NO"]);
        cursor.expect(&["CHAIN"])?;
    }
    Ok(TransactionEnd { and_chain })
}

pub(super) fn rollback(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.at(&["ROLLBACK", "PREPARED"]) {
        return Ok(unsupported(cursor, "ROLLBACK PREPARED", None));
    }
    let is_rollback = cursor.at(&["ROLLBACK"]);
    cursor.skip(1);
    noise(cursor);
    if is_rollback && cursor.accept(&["TO"]) {
        cursor.accept(&["SAVEPOINT"]);
        let name = cursor.name("a savepoint name")?;
        return Ok(Statement::Savepoint(Savepoint::RollbackTo(name)));
    }
    Ok(Statement::Rollback(transaction_end(cursor)?))
}

pub(super) fn savepoint(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let make = if cursor.accept(&["RELEASE"]) {
        cursor.accept(&["SAVEPOINT"]);
        Savepoint::Release
    } else {
        cursor.skip(1);
        Savepoint::Set
    };
    Ok(Statement::Savepoint(make(cursor.name("a savepoint name")?)))
}

// Variables.

pub(super) fn set(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.at(&["SET", "CONSTRAINTS"]) {
        let hint = Some("constraints are checked at once");
        return Ok(unsupported(cursor, "SET CONSTRAINTS", hint));
    }
    if cursor.at(&["SET", "TRANSACTION", "SNAPSHOT"]) {
        return Ok(unsupported(cursor, "SET TRANSACTION SNAPSHOT", None));
    }
    cursor.skip(1);
    if cursor.accept(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
        return set_transaction(cursor, TransactionScope::SessionDefault);
    }
    let is_assignment = *cursor.peek(1) == Token::Eq || cursor.word(1).as_deref() == Some("TO");
    if !is_assignment && cursor.accept(&["TRANSACTION"]) {
        return set_transaction(cursor, TransactionScope::Current);
    }
    let mut scope = SetScope::Session;
    if !is_assignment && cursor.accept(&["LOCAL"]) {
        scope = SetScope::Local;
    } else if !is_assignment && !cursor.at(&["SESSION", "AUTHORIZATION"]) {
        cursor.accept(&["SESSION"]);
    }
    if scope == SetScope::Local && cursor.accept(&["TRANSACTION"]) {
        return set_transaction(cursor, TransactionScope::Current);
    }
    let position = cursor.position();
    let (name, value) = match special_variable(cursor) {
        Some(Special::TimeZone) => ("timezone".to_string(), time_zone(cursor)?),
        Some(Special::Text(name)) => (name.to_string(), special_value(cursor)?),
        None => {
            let name = option::option_name(cursor)?;
            if !cursor.accept(&["TO"]) && !cursor.accept_token(&Token::Eq) {
                return Err(cursor.unexpected("\"=\" or TO"));
            }
            (name, set_value(cursor)?)
        }
    };
    Ok(Statement::Set(Set {
        scope,
        name,
        position,
        value,
    }))
}

fn set_transaction(cursor: &mut Cursor<'_>, scope: TransactionScope) -> Result<Statement> {
    let modes = transaction_modes(cursor)?;
    if modes == TransactionModes::default() {
        return Err(cursor.unexpected("a transaction mode"));
    }
    Ok(Statement::SetTransaction(SetTransaction { scope, modes }))
}

enum Special {
    TimeZone,
    /// The variable that a phrase stands for.
    Text(&'static str),
}

/// The phrases that stand for a variable without `=`.
fn special_variable(cursor: &mut Cursor<'_>) -> Option<Special> {
    let is_assignment = *cursor.peek(1) == Token::Eq || cursor.word(1).as_deref() == Some("TO");
    if is_assignment {
        return None;
    }
    if cursor.accept(&["TIME", "ZONE"]) {
        return Some(Special::TimeZone);
    }
    let phrases: [(&[&str], &'static str); 5] = [
        (&["NAMES"], "client_encoding"),
        (&["SCHEMA"], "search_path"),
        (&["ROLE"], "role"),
        (&["SESSION", "AUTHORIZATION"], "session_authorization"),
        (&["XML", "OPTION"], "xmloption"),
    ];
    let found = phrases.into_iter().find(|(words, _)| cursor.accept(words));
    found.map(|(_, name)| Special::Text(name))
}

fn special_value(cursor: &mut Cursor<'_>) -> Result<SetValue> {
    if cursor.accept(&["DEFAULT"]) {
        return Ok(SetValue::Default);
    }
    Ok(SetValue::Values(vec![option::option_value(cursor)?]))
}

fn set_value(cursor: &mut Cursor<'_>) -> Result<SetValue> {
    if cursor.accept(&["DEFAULT"]) {
        return Ok(SetValue::Default);
    }
    Ok(SetValue::Values(cursor.list(option::option_value)?))
}

/// `'Europe/Berlin' | -7 | INTERVAL '+02:00' HOUR TO MINUTE | LOCAL | DEFAULT`.
fn time_zone(cursor: &mut Cursor<'_>) -> Result<SetValue> {
    if cursor.accept(&["LOCAL"]) || cursor.accept(&["DEFAULT"]) {
        return Ok(SetValue::Default);
    }
    if cursor.accept(&["INTERVAL"]) {
        let text = cursor.string("an offset such as '+02:00'")?;
        cursor.accept(&["HOUR", "TO", "MINUTE"]);
        return Ok(SetValue::Values(vec![OptionValue::Text(text)]));
    }
    Ok(SetValue::Values(vec![option::option_value(cursor)?]))
}

pub(super) fn reset(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    Ok(Statement::Reset(variable(cursor)?))
}

fn variable(cursor: &mut Cursor<'_>) -> Result<Variable> {
    if cursor.accept(&["ALL"]) {
        return Ok(Variable::All);
    }
    let position = cursor.position();
    let name = if cursor.accept(&["TIME", "ZONE"]) {
        "timezone".to_string()
    } else if cursor.accept(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
        "transaction_isolation".to_string()
    } else if cursor.accept(&["SESSION", "AUTHORIZATION"]) {
        "session_authorization".to_string()
    } else {
        option::option_name(cursor)?
    };
    Ok(Variable::Named { name, position })
}

pub(super) fn show(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    if cursor.accept(&["CREATE"]) {
        return object::show_create(cursor);
    }
    for (words, what) in Listing::ALL {
        let words: Vec<&str> = words.split(' ').collect();
        if cursor.accept(&words) {
            let like = if cursor.accept(&["LIKE"]) {
                Some(cursor.string("a pattern")?)
            } else {
                None
            };
            return Ok(Statement::ShowObjects(ShowObjects { what: *what, like }));
        }
    }
    let variable = variable(cursor)?;
    if !cursor.at_end() {
        let listings: Vec<&str> = Listing::ALL.iter().map(|(words, _)| *words).collect();
        let hint = format!(
            "SHOW takes the name of a variable or {}",
            listings.join(", ")
        );
        return Err(cursor.unexpected("the end of the statement").hint(hint));
    }
    Ok(Statement::ShowVariable(variable))
}

pub(super) fn discard(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    Ok(Statement::Discard(cursor.one_of()?))
}

// Prepared statements.

/// Behind the word PREPARE.
pub(super) fn prepare(cursor: &mut Cursor<'_>) -> Result<Prepare> {
    let name = cursor.name("a statement name")?;
    let types = match cursor.peek(0) {
        Token::LParen => cursor.parenthesized(|cursor| cursor.data_type())?,
        _ => Vec::new(),
    };
    cursor.expect(&["AS"])?;
    let position = cursor.position();
    let statement = parse::inner(cursor)?;
    match statement {
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_) => Ok(Prepare {
            name,
            types,
            statement: Box::new(statement),
        }),
        _ => {
            let message = "PREPARE takes SELECT, INSERT, UPDATE, DELETE or VALUES";
            Err(position.mark(Error::new(SqlState::SYNTAX_ERROR, message)))
        }
    }
}

pub(super) fn execute(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    let (name, position) = cursor.identifier("a statement name")?;
    let parameters = match cursor.peek(0) {
        Token::LParen => cursor.parenthesized(|cursor| cursor.expr())?,
        _ => Vec::new(),
    };
    Ok(Statement::Execute(Execute {
        name,
        position,
        parameters,
    }))
}

pub(super) fn deallocate(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    cursor.accept(&["PREPARE"]);
    if cursor.accept(&["ALL"]) {
        return Ok(Statement::Deallocate(Deallocate::All));
    }
    let (name, position) = cursor.identifier("a statement name")?;
    Ok(Statement::Deallocate(Deallocate::Statement {
        name,
        position,
    }))
}

// The words.

impl Words for IsolationLevel {
    const ALL: &'static [(&'static str, Self)] = &[
        ("READ UNCOMMITTED", IsolationLevel::ReadUncommitted),
        ("READ COMMITTED", IsolationLevel::ReadCommitted),
        ("REPEATABLE READ", IsolationLevel::RepeatableRead),
        ("SERIALIZABLE", IsolationLevel::Serializable),
    ];
}

impl Words for Listing {
    const ALL: &'static [(&'static str, Self)] = &[
        ("SOURCES", Listing::Sources),
        ("TABLES", Listing::Tables),
        ("MATERIALIZED VIEWS", Listing::MaterializedViews),
        ("VIEWS", Listing::Views),
        ("SINKS", Listing::Sinks),
        ("INDEXES", Listing::Indexes),
        ("JOBS", Listing::Jobs),
        ("WATERMARKS", Listing::Watermarks),
    ];
}

impl Words for Discard {
    const ALL: &'static [(&'static str, Self)] = &[
        ("ALL", Discard::All),
        ("PLANS", Discard::Plans),
        ("SEQUENCES", Discard::Sequences),
        ("TEMP", Discard::Temporary),
        ("TEMPORARY", Discard::Temporary),
    ];
}
