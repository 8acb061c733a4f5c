//! `CREATE SOURCE` and `CREATE TABLE`: columns, constraints, and the clauses behind them.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Result, SqlState};
use crate::sql::cursor::Cursor;
use crate::sql::parse::option;
use crate::sql::statement::{Column, CreateRelation, Include, Watermark};
use crate::sql::{Position, ast};

/// Behind `CREATE SOURCE` or `CREATE TABLE`, and `IF NOT EXISTS`.
pub(super) fn relation(cursor: &mut Cursor<'_>, if_not_exists: bool) -> Result<CreateRelation> {
    let name = cursor.object_name("a name")?;
    let mut relation = CreateRelation {
        name,
        if_not_exists,
        columns: Vec::new(),
        primary_key: Vec::new(),
        watermark: None,
        includes: Vec::new(),
        options: Vec::new(),
        format: None,
    };
    if *cursor.peek(0) == Token::LParen && *cursor.peek(1) == Token::RParen {
        cursor.skip(2);
    } else if *cursor.peek(0) == Token::LParen {
        cursor.parenthesized(|cursor| element(cursor, &mut relation))?;
        check_names(&relation)?;
    }
    clauses(cursor, &mut relation)?;
    Ok(relation)
}

/// Each clause once, in any order; INCLUDE as often as it is written.
fn clauses(cursor: &mut Cursor<'_>, relation: &mut CreateRelation) -> Result<()> {
    let (mut has_options, mut has_format) = (false, false);
    loop {
        if cursor.accept(&["INCLUDE"]) {
            relation.includes.extend(cursor.list(include)?);
        } else if !has_options && cursor.at(&["WITH"]) {
            has_options = true;
            relation.options = option::with_options(cursor)?;
        } else if !has_format && cursor.accept(&["FORMAT"]) {
            has_format = true;
            relation.format = Some(option::format(cursor)?);
        } else {
            return Ok(());
        }
    }
}

fn include(cursor: &mut Cursor<'_>) -> Result<Include> {
    let position = cursor.position();
    let what = cursor.one_of()?;
    let alias = if cursor.accept(&["AS"]) {
        Some(cursor.name("a column name")?)
    } else {
        None
    };
    Ok(Include {
        what,
        alias,
        position,
    })
}

/// A column, a constraint or the watermark.
fn element(cursor: &mut Cursor<'_>, relation: &mut CreateRelation) -> Result<()> {
    if cursor.at(&["WATERMARK", "FOR"]) {
        return watermark(cursor, relation);
    }
    if cursor.accept(&["CONSTRAINT"]) {
        cursor.name("a constraint name")?;
        return table_constraint(cursor, relation);
    }
    let is_constraint = [
        &["PRIMARY", "KEY"][..],
        &["UNIQUE"],
        &["CHECK"],
        &["FOREIGN", "KEY"],
    ];
    if is_constraint.iter().any(|words| cursor.at(words)) {
        return table_constraint(cursor, relation);
    }
    let column = column(cursor, relation)?;
    relation.columns.push(column);
    Ok(())
}

fn watermark(cursor: &mut Cursor<'_>, relation: &mut CreateRelation) -> Result<()> {
    let start = cursor.position();
    cursor.skip(2);
    let (column, position) = cursor.identifier("a column name")?;
    cursor.expect(&["AS"])?;
    let expr = cursor.expr()?;
    if relation.watermark.is_some() {
        let message = format!("\"{}\" has more than one WATERMARK", relation.name.name());
        return Err(start.mark(Error::new(SqlState::INVALID_TABLE_DEFINITION, message)));
    }
    relation.watermark = Some(Watermark {
        column,
        position,
        expr,
    });
    Ok(())
}

fn table_constraint(cursor: &mut Cursor<'_>, relation: &mut CreateRelation) -> Result<()> {
    let start = cursor.position();
    if cursor.accept(&["PRIMARY", "KEY"]) {
        let columns = cursor.column_list()?;
        return set_primary_key(relation, columns, start);
    }
    Err(constraint_refusal(cursor))
}

fn set_primary_key(
    relation: &mut CreateRelation,
    columns: Vec<String>,
    position: Position,
) -> Result<()> {
    if !relation.primary_key.is_empty() {
        let message = format!("\"{}\" has more than one PRIMARY KEY", relation.name.name());
        return Err(position.mark(Error::new(SqlState::INVALID_TABLE_DEFINITION, message)));
    }
    relation.primary_key = columns;
    Ok(())
}

fn column(cursor: &mut Cursor<'_>, relation: &mut CreateRelation) -> Result<Column> {
    let (name, position) = cursor.identifier("a column name")?;
    // As in Flink, where the type follows.
    let data_type = match cursor.at(&["AS", "PROCTIME"]) {
        true => ast::DataType::Timestamp(None, ast::TimezoneInfo::Tz),
        false => cursor.data_type()?,
    };
    let mut column = Column {
        name,
        position,
        data_type,
        is_not_null: false,
        default: None,
        generated: None,
        path: None,
    };
    loop {
        let start = cursor.position();
        if cursor.accept(&["CONSTRAINT"]) {
            cursor.name("a constraint name")?;
        } else if cursor.accept(&["NOT", "NULL"]) {
            column.is_not_null = true;
        } else if cursor.accept(&["NULL"]) {
            // What a column is anyway.
        } else if cursor.accept(&["PRIMARY", "KEY"]) {
            set_primary_key(relation, vec![column.name.clone()], start)?;
        } else if cursor.accept(&["DEFAULT"]) {
            let expr = cursor.expr()?;
            set_once(&mut column.default, expr, "DEFAULT", start)?;
        } else if cursor.accept(&["PATH"]) {
            let path = cursor.string("a path such as '$.a.b'")?;
            set_once(&mut column.path, path, "PATH", start)?;
        } else if cursor.accept(&["AS"]) {
            let expr = cursor.expr()?;
            set_once(&mut column.generated, expr, "AS", start)?;
        } else if cursor.accept(&["GENERATED"]) {
            generated(cursor, &mut column, start)?;
        } else if matches!(cursor.peek(0), Token::Comma | Token::RParen) {
            return check_column(column);
        } else if ["CHECK", "UNIQUE", "REFERENCES", "COLLATE"]
            .iter()
            .any(|word| cursor.at(&[word]))
        {
            return Err(constraint_refusal(cursor));
        } else {
            return Err(cursor.unexpected("a column constraint, \",\" or \")\""));
        }
    }
}

/// `GENERATED ALWAYS AS (expr) [STORED | VIRTUAL]`, Postgres' spelling of `AS expr`.
fn generated(cursor: &mut Cursor<'_>, column: &mut Column, start: Position) -> Result<()> {
    if cursor.at(&["BY", "DEFAULT"]) || cursor.at(&["ALWAYS", "AS", "IDENTITY"]) {
        let error = Error::unsupported("an identity column is not supported")
            .hint("give the values, or use DEFAULT");
        return Err(start.mark(error));
    }
    cursor.expect(&["ALWAYS", "AS"])?;
    cursor.expect_token(&Token::LParen)?;
    let expr = cursor.expr()?;
    cursor.expect_token(&Token::RParen)?;
    if !cursor.accept(&["STORED"]) {
        cursor.accept(&["VIRTUAL"]);
    }
    set_once(&mut column.generated, expr, "GENERATED", start)
}

fn set_once<T>(place: &mut Option<T>, value: T, what: &str, position: Position) -> Result<()> {
    if place.is_some() {
        let error = Error::new(SqlState::SYNTAX_ERROR, format!("{what} is given twice"));
        return Err(position.mark(error));
    }
    *place = Some(value);
    Ok(())
}

fn check_column(column: Column) -> Result<Column> {
    if column.generated.is_some() && (column.default.is_some() || column.path.is_some()) {
        let message = format!(
            "generated column \"{}\" has a DEFAULT or PATH too",
            column.name
        );
        let error = Error::new(SqlState::SYNTAX_ERROR, message)
            .hint("its value comes from its expression only");
        return Err(column.position.mark(error));
    }
    Ok(column)
}

fn check_names(relation: &CreateRelation) -> Result<()> {
    for (index, column) in relation.columns.iter().enumerate() {
        if relation.columns[..index]
            .iter()
            .any(|earlier| earlier.name == column.name)
        {
            let message = format!("column \"{}\" is specified twice", column.name);
            return Err(column
                .position
                .mark(Error::new(SqlState::DUPLICATE_COLUMN, message)));
        }
    }
    Ok(())
}

fn constraint_refusal(cursor: &Cursor<'_>) -> Error {
    let what = match cursor.word(0).as_deref() {
        Some("UNIQUE") => "a UNIQUE constraint",
        Some("CHECK") => "a CHECK constraint",
        Some("FOREIGN" | "REFERENCES") => "a foreign key",
        Some("COLLATE") => "a collation",
        _ => return cursor.unexpected("PRIMARY KEY"),
    };
    let error = Error::unsupported(format!("{what} is not supported"))
        .hint("columns take NOT NULL, PRIMARY KEY, DEFAULT, AS and PATH");
    cursor.position().mark(error)
}
