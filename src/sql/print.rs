//! Statements back to text: what is printed here parses to the same statement.
//!
//! The text is canonical: key words in capitals, one spelling where the grammar has several, names
//! quoted only where they must be, a primary key always as a table constraint.

use std::fmt::{self, Display, Formatter};

use crate::sql::name::{quote_identifier, quote_literal};
use crate::sql::session::{
    AccessMode, Close, CursorInput, Deallocate, DeclareCursor, Discard, Execute, Explain,
    ExplainFormat, ExplainTarget, Fetch, FetchCount, IsolationLevel, Listing, Prepare, Savepoint,
    Set, SetScope, SetTransaction, SetValue, ShowObjects, TransactionEnd, TransactionModes,
    TransactionScope, Variable,
};
use crate::sql::statement::{
    Alter, AlterAction, CancelJob, Column, Comment, CommentTarget, CreateIndex,
    CreateMaterializedView, CreateRelation, CreateSink, CreateView, DropBehavior, DropObjects,
    Emit, Format, OptionValue, RelationOrQuery, ShowCreate, SqlOption, Statement, Truncate, Words,
};
use crate::sql::watch::{
    CopyDirection, CopyFormat, CopyHeader, CopyOptions, CopyRows, CopyTarget, Subscribe,
    SubscribeEnvelope,
};

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Statement::CreateSource(relation) => create_relation(f, "SOURCE", relation),
            Statement::CreateTable(relation) => create_relation(f, "TABLE", relation),
            Statement::CreateMaterializedView(view) => view.fmt(f),
            Statement::CreateView(view) => view.fmt(f),
            Statement::CreateSink(sink) => sink.fmt(f),
            Statement::CreateIndex(index) => index.fmt(f),
            Statement::Drop(drop) => drop.fmt(f),
            Statement::Truncate(truncate) => truncate.fmt(f),
            Statement::Alter(alter) => alter.fmt(f),
            Statement::Comment(comment) => comment.fmt(f),
            Statement::ShowCreate(ShowCreate { kind, name }) => {
                write!(f, "SHOW CREATE {kind} {name}")
            }
            Statement::Query(query) => query.fmt(f),
            Statement::Insert(insert) => insert.fmt(f),
            Statement::Update(update) => update.fmt(f),
            Statement::Delete(delete) => delete.fmt(f),
            Statement::Copy(copy) => copy.fmt(f),
            Statement::Subscribe(subscribe) => subscribe.fmt(f),
            Statement::Explain(explain) => explain.fmt(f),
            Statement::DeclareCursor(declare) => declare.fmt(f),
            Statement::Fetch(fetch) => fetch.fmt(f),
            Statement::Close(Close::All) => f.write_str("CLOSE ALL"),
            Statement::Close(Close::Cursor { name, .. }) => {
                write!(f, "CLOSE {}", quote_identifier(name))
            }
            Statement::Prepare(prepare) => prepare.fmt(f),
            Statement::Execute(execute) => execute.fmt(f),
            Statement::Deallocate(Deallocate::All) => f.write_str("DEALLOCATE ALL"),
            Statement::Deallocate(Deallocate::Statement { name, .. }) => {
                write!(f, "DEALLOCATE {}", quote_identifier(name))
            }
            Statement::Begin(begin) => write!(f, "BEGIN{}", Spaced(&begin.modes)),
            Statement::Commit(end) => write!(f, "COMMIT{end}"),
            Statement::Rollback(end) => write!(f, "ROLLBACK{end}"),
            Statement::Savepoint(savepoint) => savepoint.fmt(f),
            Statement::Set(set) => set.fmt(f),
            Statement::SetTransaction(set) => set.fmt(f),
            Statement::Reset(variable) => write!(f, "RESET {variable}"),
            Statement::ShowVariable(variable) => write!(f, "SHOW {variable}"),
            Statement::ShowObjects(show) => show.fmt(f),
            Statement::Discard(discard) => write!(f, "DISCARD {discard}"),
            Statement::Flush => f.write_str("FLUSH"),
            Statement::CancelJob(CancelJob { jobs }) => write!(f, "CANCEL JOB {}", commas(jobs)),
            Statement::Unsupported(unsupported) => f.write_str(&unsupported.text),
        }
    }
}

// Pieces.

fn commas<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(", ")
}

fn identifiers(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| quote_identifier(name)).collect();
    names.join(", ")
}

/// ` (a, b)`, or nothing.
fn column_list(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", identifiers(names))
    }
}

fn if_words(condition: bool, words: &'static str) -> &'static str {
    if condition { words } else { "" }
}

/// A value with a space before it, or nothing if its text is empty.
struct Spaced<'a, T>(&'a T);

impl<T: Display> Display for Spaced<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        if text.is_empty() {
            Ok(())
        } else {
            write!(f, " {text}")
        }
    }
}

/// Words with dots between them; key words need no quotes there.
fn option_name(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(option_word).collect();
    parts.join(".")
}

fn option_word(word: &str) -> String {
    let mut bytes = word.bytes();
    let starts_well = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let goes_on_well =
        bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if starts_well && goes_on_well {
        word.to_string()
    } else {
        format!("\"{}\"", word.replace('"', "\"\""))
    }
}

impl Display for OptionValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::Text(text) => f.write_str(&quote_literal(text)),
            OptionValue::Number(digits) => f.write_str(digits),
            // DEFAULT as a value is another thing than the word.
            OptionValue::Word(word) if word == "default" => f.write_str("\"default\""),
            OptionValue::Word(word) => f.write_str(&option_word(word)),
        }
    }
}

impl Display for SqlOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", option_name(&self.name), self.value)
    }
}

fn with_options(options: &[SqlOption]) -> String {
    if options.is_empty() {
        String::new()
    } else {
        format!(" WITH ({})", commas(options))
    }
}

impl Display for Format {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "FORMAT {} ENCODE {}", self.envelope, self.encoding)?;
        if self.options.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", commas(&self.options))
        }
    }
}

impl Display for Emit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Emit::OnUpdate => f.write_str("EMIT ON UPDATE"),
            Emit::OnWindowClose => f.write_str("EMIT ON WINDOW CLOSE"),
            Emit::Every { interval, .. } => write!(f, "EMIT EVERY INTERVAL '{interval}'"),
        }
    }
}

impl Display for RelationOrQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            RelationOrQuery::Relation(name) => name.fmt(f),
            RelationOrQuery::Query(query) => write!(f, "({query})"),
        }
    }
}

// Objects.

fn create_relation(f: &mut Formatter<'_>, kind: &str, relation: &CreateRelation) -> fmt::Result {
    let if_not_exists = if_words(relation.if_not_exists, "IF NOT EXISTS ");
    write!(f, "CREATE {kind} {if_not_exists}{}", relation.name)?;
    let mut elements: Vec<String> = relation.columns.iter().map(Column::to_string).collect();
    if let Some(watermark) = &relation.watermark {
        let column = quote_identifier(&watermark.column);
        elements.push(format!("WATERMARK FOR {column} AS {}", watermark.expr));
    }
    if !relation.primary_key.is_empty() {
        elements.push(format!(
            "PRIMARY KEY ({})",
            identifiers(&relation.primary_key)
        ));
    }
    if !elements.is_empty() {
        write!(f, " ({})", elements.join(", "))?;
    }
    for (index, include) in relation.includes.iter().enumerate() {
        f.write_str(if index == 0 { " INCLUDE " } else { ", " })?;
        write!(f, "{}", include.what)?;
        if let Some(alias) = &include.alias {
            write!(f, " AS {}", quote_identifier(alias))?;
        }
    }
    f.write_str(&with_options(&relation.options))?;
    match &relation.format {
        Some(format) => write!(f, " {format}"),
        None => Ok(()),
    }
}

impl Display for Column {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", quote_identifier(&self.name), self.data_type)?;
        if let Some(expr) = &self.generated {
            write!(f, " AS {expr}")?;
        }
        if let Some(expr) = &self.default {
            write!(f, " DEFAULT {expr}")?;
        }
        if let Some(path) = &self.path {
            write!(f, " PATH {}", quote_literal(path))?;
        }
        f.write_str(if_words(self.is_not_null, " NOT NULL"))
    }
}

impl Display for CreateMaterializedView {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let or_replace = if_words(self.or_replace, "OR REPLACE ");
        let if_not_exists = if_words(self.if_not_exists, "IF NOT EXISTS ");
        write!(
            f,
            "CREATE {or_replace}MATERIALIZED VIEW {if_not_exists}{}",
            self.name
        )?;
        let (columns, options) = (column_list(&self.columns), with_options(&self.options));
        write!(f, "{columns}{options} AS {}", self.query)?;
        match &self.emit {
            Some(emit) => write!(f, " {emit}"),
            None => Ok(()),
        }
    }
}

impl Display for CreateView {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let or_replace = if_words(self.or_replace, "OR REPLACE ");
        let if_not_exists = if_words(self.if_not_exists, "IF NOT EXISTS ");
        let columns = column_list(&self.columns);
        write!(
            f,
            "CREATE {or_replace}VIEW {if_not_exists}{}{columns} AS {}",
            self.name, self.query
        )
    }
}

impl Display for CreateSink {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let if_not_exists = if_words(self.if_not_exists, "IF NOT EXISTS ");
        write!(f, "CREATE SINK {if_not_exists}{}", self.name)?;
        match &self.input {
            RelationOrQuery::Relation(name) => write!(f, " FROM {name}")?,
            RelationOrQuery::Query(query) => write!(f, " AS {query}")?,
        }
        if let Some(emit) = &self.emit {
            write!(f, " {emit}")?;
        }
        f.write_str(&with_options(&self.options))?;
        match &self.format {
            Some(format) => write!(f, " {format}"),
            None => Ok(()),
        }
    }
}

impl Display for CreateIndex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CREATE INDEX {}",
            if_words(self.if_not_exists, "IF NOT EXISTS ")
        )?;
        if let Some(name) = &self.name {
            write!(f, "{} ", quote_identifier(name))?;
        }
        write!(f, "ON {} ({})", self.relation, identifiers(&self.columns))
    }
}

fn cascade(behavior: DropBehavior) -> &'static str {
    match behavior {
        DropBehavior::Restrict => "",
        DropBehavior::Cascade => " CASCADE",
    }
}

impl Display for DropObjects {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let if_exists = if_words(self.if_exists, "IF EXISTS ");
        let names = commas(&self.names);
        write!(
            f,
            "DROP {} {if_exists}{names}{}",
            self.kind,
            cascade(self.behavior)
        )
    }
}

impl Display for Truncate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TRUNCATE {}{}",
            commas(&self.names),
            cascade(self.behavior)
        )
    }
}

impl Display for Alter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let if_exists = if_words(self.if_exists, "IF EXISTS ");
        write!(f, "ALTER {} {if_exists}{} ", self.kind, self.name)?;
        match &self.action {
            AlterAction::Rename(name) => write!(f, "RENAME TO {}", quote_identifier(name)),
            AlterAction::RenameColumn { from, to } => {
                let (from, to) = (quote_identifier(from), quote_identifier(to));
                write!(f, "RENAME COLUMN {from} TO {to}")
            }
            AlterAction::Set(options) => write!(f, "SET ({})", commas(options)),
            AlterAction::Reset(names) => {
                let names: Vec<String> = names.iter().map(|name| option_name(name)).collect();
                write!(f, "RESET ({})", names.join(", "))
            }
            AlterAction::Pause => f.write_str("PAUSE"),
            AlterAction::Resume => f.write_str("RESUME"),
        }
    }
}

impl Display for Comment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.target {
            CommentTarget::Object { kind, name } => write!(f, "COMMENT ON {kind} {name}")?,
            CommentTarget::Column { relation, column } => {
                write!(
                    f,
                    "COMMENT ON COLUMN {relation}.{}",
                    quote_identifier(column)
                )?;
            }
        }
        match &self.text {
            Some(text) => write!(f, " IS {}", quote_literal(text)),
            None => f.write_str(" IS NULL"),
        }
    }
}

// Bulk and changes.

impl Display for Subscribe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "SUBSCRIBE TO {}", self.input)?;
        match (self.snapshot, self.progress) {
            (true, false) => {}
            (true, true) => f.write_str(" WITH (progress = true)")?,
            (false, false) => f.write_str(" WITH (snapshot = false)")?,
            (false, true) => f.write_str(" WITH (snapshot = false, progress = true)")?,
        }
        if let Some(epoch) = self.as_of {
            write!(f, " AS OF {epoch}")?;
        }
        if let Some(epoch) = self.up_to {
            write!(f, " UP TO {epoch}")?;
        }
        match &self.envelope {
            SubscribeEnvelope::Diff => Ok(()),
            SubscribeEnvelope::Upsert(keys) => {
                write!(f, " ENVELOPE UPSERT (KEY ({}))", identifiers(keys))
            }
            SubscribeEnvelope::Debezium(keys) => {
                write!(f, " ENVELOPE DEBEZIUM (KEY ({}))", identifiers(keys))
            }
        }
    }
}

impl Display for CopyRows {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.target {
            CopyTarget::Relation { name, columns } => {
                write!(f, "COPY {name}{}", column_list(columns))?;
            }
            CopyTarget::Query(query) => write!(f, "COPY ({query})")?,
            CopyTarget::Subscribe(subscribe) => write!(f, "COPY ({subscribe})")?,
        }
        f.write_str(match self.direction {
            CopyDirection::FromStdin => " FROM STDIN",
            CopyDirection::ToStdout => " TO STDOUT",
        })?;
        let options = copy_options(&self.options);
        if options.is_empty() {
            Ok(())
        } else {
            write!(f, " WITH ({})", options.join(", "))
        }
    }
}

fn copy_options(options: &CopyOptions) -> Vec<String> {
    let character = |name: &str, value: Option<char>| {
        value.map(|value| format!("{name} {}", quote_literal(&value.to_string())))
    };
    let format = match options.format {
        CopyFormat::Text => None,
        CopyFormat::Csv => Some("FORMAT csv".to_string()),
        CopyFormat::Binary => Some("FORMAT binary".to_string()),
    };
    let header = options.header.map(|header| match header {
        CopyHeader::Off => "HEADER false".to_string(),
        CopyHeader::On => "HEADER true".to_string(),
        CopyHeader::Match => "HEADER match".to_string(),
    });
    [
        format,
        character("DELIMITER", options.delimiter),
        options
            .null
            .as_ref()
            .map(|text| format!("NULL {}", quote_literal(text))),
        header,
        character("QUOTE", options.quote),
        character("ESCAPE", options.escape),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Display for Explain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut options = Vec::new();
        options.extend(self.analyze.then_some("ANALYZE"));
        options.extend(self.verbose.then_some("VERBOSE"));
        options.extend((self.format == ExplainFormat::Json).then_some("FORMAT JSON"));
        f.write_str("EXPLAIN ")?;
        if !options.is_empty() {
            write!(f, "({}) ", options.join(", "))?;
        }
        match &self.target {
            ExplainTarget::Object(name) => name.fmt(f),
            ExplainTarget::Statement(statement) => statement.fmt(f),
        }
    }
}

// Sessions.

impl Display for DeclareCursor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "DECLARE {}", quote_identifier(&self.name))?;
        f.write_str(if_words(self.is_binary, " BINARY"))?;
        f.write_str(match self.scroll {
            None => "",
            Some(true) => " SCROLL",
            Some(false) => " NO SCROLL",
        })?;
        write!(f, " CURSOR{} FOR ", if_words(self.with_hold, " WITH HOLD"))?;
        match &self.input {
            CursorInput::Query(query) => query.fmt(f),
            CursorInput::Subscribe(subscribe) => subscribe.fmt(f),
        }
    }
}

impl Display for Fetch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = quote_identifier(&self.cursor);
        match self.count {
            FetchCount::Rows(rows) => write!(f, "FETCH {rows} FROM {name}")?,
            FetchCount::All => write!(f, "FETCH ALL FROM {name}")?,
        }
        match &self.timeout {
            Some(timeout) => write!(f, " WITH (timeout = '{timeout}')"),
            None => Ok(()),
        }
    }
}

impl Display for Prepare {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "PREPARE {}", quote_identifier(&self.name))?;
        if !self.types.is_empty() {
            write!(f, " ({})", commas(&self.types))?;
        }
        write!(f, " AS {}", self.statement)
    }
}

impl Display for Execute {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "EXECUTE {}", quote_identifier(&self.name))?;
        if self.parameters.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", commas(&self.parameters))
        }
    }
}

impl Display for TransactionModes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let isolation = self
            .isolation
            .map(|level| format!("ISOLATION LEVEL {level}"));
        let access = self.access.map(|access| match access {
            AccessMode::ReadOnly => "READ ONLY".to_string(),
            AccessMode::ReadWrite => "READ WRITE".to_string(),
        });
        let deferrable = self.deferrable.map(|deferrable| match deferrable {
            true => "DEFERRABLE".to_string(),
            false => "NOT DEFERRABLE".to_string(),
        });
        let modes: Vec<String> = [isolation, access, deferrable]
            .into_iter()
            .flatten()
            .collect();
        f.write_str(&modes.join(", "))
    }
}

impl Display for TransactionEnd {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if_words(self.and_chain, " AND CHAIN"))
    }
}

impl Display for Savepoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = quote_identifier(self.name());
        match self {
            Savepoint::Set(_) => write!(f, "SAVEPOINT {name}"),
            Savepoint::Release(_) => write!(f, "RELEASE SAVEPOINT {name}"),
            Savepoint::RollbackTo(_) => write!(f, "ROLLBACK TO SAVEPOINT {name}"),
        }
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scope {
            SetScope::Session => "SET ",
            SetScope::Local => "SET LOCAL ",
        })?;
        write!(f, "{} = ", option_name(&self.name))?;
        match &self.value {
            SetValue::Default => f.write_str("DEFAULT"),
            SetValue::Values(values) => f.write_str(&commas(values)),
        }
    }
}

impl Display for SetTransaction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scope {
            TransactionScope::Current => "SET TRANSACTION ",
            TransactionScope::SessionDefault => "SET SESSION CHARACTERISTICS AS TRANSACTION ",
        })?;
        self.modes.fmt(f)
    }
}

impl Display for Variable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Variable::All => f.write_str("ALL"),
            Variable::Named { name, .. } => f.write_str(&option_name(name)),
        }
    }
}

impl Display for ShowObjects {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "SHOW {}", self.what)?;
        match &self.like {
            Some(pattern) => write!(f, " LIKE {}", quote_literal(pattern)),
            None => Ok(()),
        }
    }
}

macro_rules! print_word {
    ($($type:ty),*) => {
        $(impl Display for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        })*
    };
}

print_word!(IsolationLevel, Listing, Discard);
