//! What is done to existing objects: DROP, TRUNCATE, ALTER, COMMENT, SHOW CREATE, CANCEL JOB.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Result, SqlState};
use crate::sql::ObjectName;
use crate::sql::cursor::Cursor;
use crate::sql::parse::option::{self, Value};
use crate::sql::parse::unsupported;
use crate::sql::statement::{
    Alter, AlterAction, CancelJob, Comment, CommentTarget, DropBehavior, DropObjects, ObjectKind,
    ShowCreate, Statement, Truncate, Words,
};

/// Whether the words at `ahead` name a kind of object that this server has.
fn is_kind(cursor: &Cursor<'_>, ahead: usize) -> bool {
    ObjectKind::ALL.iter().any(|(words, _)| {
        words
            .split(' ')
            .enumerate()
            .all(|(index, word)| cursor.word(ahead + index).as_deref() == Some(word))
    })
}

/// Kinds of Postgres and its relatives that this server does not have.
fn foreign_kind(cursor: &Cursor<'_>, ahead: usize) -> Option<String> {
    let word = cursor.word(ahead)?;
    let is_foreign = matches!(
        word.as_str(),
        "SECRET"
            | "ROLE"
            | "USER"
            | "GROUP"
            | "FUNCTION"
            | "PROCEDURE"
            | "ROUTINE"
            | "AGGREGATE"
            | "SCHEMA"
            | "DATABASE"
            | "EXTENSION"
            | "TYPE"
            | "DOMAIN"
            | "SEQUENCE"
            | "TRIGGER"
            | "CONNECTION"
            | "OWNED"
            | "SYSTEM"
            | "DEFAULT"
            | "POLICY"
            | "RULE"
            | "OPERATOR"
            | "COLLATION"
            | "CAST"
            | "SERVER"
            | "PUBLICATION"
            | "SUBSCRIPTION"
            | "CONSTRAINT"
            | "LANGUAGE"
            | "FOREIGN"
    );
    is_foreign.then_some(word)
}

fn refuse_foreign(cursor: &mut Cursor<'_>, verb: &str, ahead: usize) -> Result<Statement> {
    match foreign_kind(cursor, ahead) {
        Some(kind) => Ok(unsupported(cursor, &format!("{verb} {kind}"), None)),
        None => {
            cursor.skip(ahead);
            let kinds = "SOURCE, TABLE, VIEW, MATERIALIZED VIEW, SINK or INDEX";
            Err(cursor.unexpected(kinds))
        }
    }
}

fn behavior(cursor: &mut Cursor<'_>) -> DropBehavior {
    if cursor.accept(&["CASCADE"]) {
        DropBehavior::Cascade
    } else {
        cursor.accept(&["RESTRICT"]);
        DropBehavior::Restrict
    }
}

pub(super) fn drop(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if !is_kind(cursor, 1) {
        return refuse_foreign(cursor, "DROP", 1);
    }
    cursor.skip(1);
    let kind = cursor.one_of()?;
    let if_exists = cursor.accept(&["IF", "EXISTS"]);
    let names = cursor.object_names("a name")?;
    let behavior = behavior(cursor);
    Ok(Statement::Drop(DropObjects {
        kind,
        if_exists,
        names,
        behavior,
    }))
}

pub(super) fn truncate(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    cursor.accept(&["TABLE"]);
    cursor.accept(&["ONLY"]);
    let names = cursor.object_names("a table name")?;
    if !cursor.accept(&["RESTART", "IDENTITY"]) {
        cursor.accept(&["CONTINUE", "IDENTITY"]);
    }
    let behavior = behavior(cursor);
    Ok(Statement::Truncate(Truncate { names, behavior }))
}

pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if !is_kind(cursor, 1) {
        return refuse_foreign(cursor, "ALTER", 1);
    }
    let (start, text) = (cursor.position(), cursor.text);
    cursor.skip(1);
    let kind: ObjectKind = cursor.one_of()?;
    let if_exists = cursor.accept(&["IF", "EXISTS"]);
    cursor.accept(&["ONLY"]);
    let name = cursor.object_name("a name")?;
    let action = if cursor.accept(&["RENAME", "TO"]) {
        AlterAction::Rename(cursor.name("a name")?)
    } else if cursor.accept(&["RENAME"]) {
        cursor.accept(&["COLUMN"]);
        let from = cursor.name("a column name")?;
        cursor.expect(&["TO"])?;
        AlterAction::RenameColumn {
            from,
            to: cursor.name("a column name")?,
        }
    } else if cursor.at(&["SET"]) && *cursor.peek(1) == Token::LParen {
        cursor.skip(1);
        AlterAction::Set(option::options(cursor, Value::Required)?)
    } else if cursor.at(&["RESET"]) {
        cursor.skip(1);
        AlterAction::Reset(cursor.parenthesized(option::option_name)?)
    } else if cursor.accept(&["PAUSE"]) {
        AlterAction::Pause
    } else if cursor.accept(&["RESUME"]) {
        AlterAction::Resume
    } else {
        return other_alteration(cursor, kind).map(|what| {
            let hint = Some("drop the object and create it again");
            let text = text.to_string();
            Statement::Unsupported(crate::sql::Unsupported {
                what,
                hint,
                position: start,
                text,
            })
        });
    };
    Ok(Statement::Alter(Alter {
        kind,
        if_exists,
        name,
        action,
    }))
}

fn other_alteration(cursor: &mut Cursor<'_>, kind: ObjectKind) -> Result<String> {
    match cursor.word(0).as_deref() {
        Some(
            word @ ("ADD" | "DROP" | "ALTER" | "OWNER" | "SET" | "ENABLE" | "DISABLE" | "SWAP"),
        ) => Ok(format!("ALTER {kind} … {word}")),
        _ => Err(cursor.unexpected("RENAME, SET (…), RESET (…), PAUSE or RESUME")),
    }
}

pub(super) fn comment(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.at(&["COMMENT", "ON"])
        && !is_kind(cursor, 2)
        && !cursor.at(&["COMMENT", "ON", "COLUMN"])
    {
        return refuse_foreign(cursor, "COMMENT ON", 2);
    }
    cursor.skip(1);
    cursor.expect(&["ON"])?;
    let target = if cursor.accept(&["COLUMN"]) {
        column_target(cursor)?
    } else {
        let kind = cursor.one_of()?;
        CommentTarget::Object {
            kind,
            name: cursor.object_name("a name")?,
        }
    };
    cursor.expect(&["IS"])?;
    let text = if cursor.accept(&["NULL"]) {
        None
    } else {
        Some(cursor.string("a string or NULL")?)
    };
    Ok(Statement::Comment(Comment { target, text }))
}

fn column_target(cursor: &mut Cursor<'_>) -> Result<CommentTarget> {
    let (first, position) = cursor.identifier("relation.column")?;
    let mut parts = vec![first];
    while cursor.accept_token(&Token::Period) {
        parts.push(cursor.name("a column name")?);
    }
    match parts.pop() {
        Some(column) if (1..=3).contains(&parts.len()) => Ok(CommentTarget::Column {
            relation: ObjectName::new(parts, position),
            column,
        }),
        _ => {
            let message = "a column is named with its relation: relation.column";
            Err(position.mark(Error::new(SqlState::SYNTAX_ERROR, message)))
        }
    }
}

/// Behind `SHOW CREATE`.
pub(super) fn show_create(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let kind = cursor.one_of()?;
    let name = cursor.object_name("a name")?;
    Ok(Statement::ShowCreate(ShowCreate { kind, name }))
}

pub(super) fn cancel_job(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.skip(1);
    if !cursor.accept(&["JOBS"]) {
        cursor.expect(&["JOB"])?;
    }
    let jobs = cursor.list(|cursor| cursor.unsigned("a job number"))?;
    Ok(Statement::CancelJob(CancelJob { jobs }))
}
