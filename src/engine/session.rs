//! One client's session: its settings, transaction, prepared statements and cursors.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::scalar::ScalarValue;
use tokio::sync::mpsc;

use crate::base::memory::{Account, Held};
use crate::catalog::{Catalog, Object, ObjectKind};
use crate::engine::cursor::Cursors;
use crate::engine::point_read::PointRead;
use crate::engine::prepare::{Statements, declared_types};
use crate::engine::query::{Parameters, Reading};
use crate::engine::response::{Cancel, Notice, Response, Severity};
use crate::engine::server::{Engine, Shared};
use crate::engine::settings::{Settings, canonical};
use crate::engine::tables::Pin;
use crate::engine::transaction::Transaction;
use crate::error::{Error, Result, SqlState};
use crate::sql::session::{
    AccessMode, CursorInput, DeclareCursor, Discard, IsolationLevel, SetScope, SetTransaction,
    SetValue, TransactionModes, TransactionScope, Variable,
};
use crate::sql::statement::Statement;
use crate::sql::{Parsed, parse_script};
use crate::system::SettingChanges;

/// What a client says of itself when it connects.
#[derive(Clone, Debug, Default)]
pub struct SessionParameters {
    pub user: String,
    pub database: String,
    /// Every other start-up parameter, taken as a setting (`application_name`, `options=-c a=b` …).
    pub settings: BTreeMap<String, String>,
}

/// A statement that was planned: what it takes and what it gives.
#[derive(Clone)]
pub struct Prepared {
    pub parsed: Option<Arc<Parsed>>,
    /// The types of `$1`, `$2`, … in order.
    pub parameters: Vec<FieldRef>,
    /// The result's columns; `None` for statements that return no rows.
    pub schema: Option<SchemaRef>,
    /// The statement compiled, if it is a SELECT of a row by its key.
    pub(super) point: Option<Arc<PointRead>>,
}

impl Prepared {
    /// A statement that is run at once and has no parameters: nothing of it is known before.
    pub fn at_once(parsed: Option<Parsed>) -> Prepared {
        Prepared {
            parsed: parsed.map(Arc::new),
            parameters: Vec::new(),
            schema: None,
            point: None,
        }
    }
}

/// What is found out of a statement before it runs.
#[derive(Default)]
pub(super) struct Described {
    pub(super) parameters: Vec<FieldRef>,
    schema: Option<SchemaRef>,
    point: Option<PointRead>,
}

/// Whether a session is inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}

/// One client's state. Statements of a session run one after another.
pub struct Session {
    pub(super) engine: Engine,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) settings: Settings,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) transaction: Option<Transaction>,
    pub(super) cursors: Cursors,
    pub(super) statements: Statements,
    /// What `set_config` asked for in a query whose rows may still be on their way.
    pub(super) setting_changes: SettingChanges,
}

impl Session {
    pub(super) fn new(
        engine: Engine,
        parameters: SessionParameters,
        notices: mpsc::Sender<Notice>,
    ) -> Session {
        let database = match parameters.database.is_empty() {
            true => "tidemill".to_string(),
            false => parameters.database,
        };
        let mut settings = parameters.settings;
        settings.insert("session_authorization".to_string(), parameters.user.clone());
        let held = engine.memory().hold(Account::Sessions);
        Session {
            engine,
            user: parameters.user,
            database,
            settings: Settings::new(&settings),
            notices,
            transaction: None,
            cursors: Cursors::default(),
            statements: Statements::new(held),
            setting_changes: SettingChanges::new(Settings::check),
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.engine.0
    }

    /// The account of what a connection keeps for its session.
    pub fn hold_memory(&self) -> Held {
        self.engine.memory().hold(Account::Sessions)
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.engine.catalog()
    }

    /// Splits a script into its statements.
    pub fn parse(&self, script: &str) -> Result<Vec<Parsed>> {
        parse_script(script)
    }

    /// Plans a statement. `parameter_types`: what the client declared of `$1`…, `None` = unknown.
    pub async fn prepare(
        &self,
        parsed: Parsed,
        parameter_types: &[Option<FieldRef>],
    ) -> Result<Prepared> {
        self.refuse_failed(&parsed.statement)?;
        let described = self
            .describe(&parsed.statement, parameter_types)
            .await
            .map_err(|error| parsed.locate(error))?;
        Ok(Prepared {
            parsed: Some(Arc::new(parsed)),
            parameters: described.parameters,
            schema: described.schema,
            point: described.point.map(Arc::new),
        })
    }

    pub(super) async fn describe(
        &self,
        statement: &Statement,
        declared: &[Option<FieldRef>],
    ) -> Result<Described> {
        let schema = match statement {
            Statement::Query(query) => {
                let reading = self.reading().with_parameters(declared.to_vec());
                let mut planned = reading.plan(query)?;
                let parameters = Reading::parameters(&planned.plan, declared)?;
                let types = parameters.iter().cloned().map(Some);
                let reading = reading.with_parameters(types.collect());
                if planned.analyzed.is_none() {
                    // A parameter without a type has none of its own before it is text.
                    planned = reading.plan(query)?;
                }
                return Ok(Described {
                    point: PointRead::compile(&reading, &planned, &parameters),
                    parameters,
                    schema: Some(planned.schema),
                });
            }
            Statement::DeclareCursor(DeclareCursor {
                input: CursorInput::Query(query),
                ..
            }) => {
                let reading = self.reading().with_parameters(declared.to_vec());
                let planned = reading.plan(query)?;
                return Ok(Described {
                    parameters: Reading::parameters(&planned.plan, declared)?,
                    ..Described::default()
                });
            }
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {
                let (parameters, schema) = self.describe_write(statement, declared)?;
                return Ok(Described {
                    parameters,
                    schema,
                    ..Described::default()
                });
            }
            Statement::ShowVariable(variable) => crate::engine::show::variable_schema(variable),
            Statement::ShowObjects(show) => crate::engine::show::objects_schema(show.what),
            Statement::ShowCreate(_) => crate::engine::show::create_schema(),
            Statement::Explain(_) => crate::engine::show::explain_schema(),
            Statement::Subscribe(subscribe) => self.subscription_schema(subscribe).await?,
            Statement::Fetch(fetch) => self.cursors.schema(&fetch.cursor)?,
            Statement::Execute(execute) => {
                let prepared = self.statements.named(&execute.name)?;
                let declared = declared_types(&prepared)?;
                let inner = Box::pin(self.describe(&prepared.statement, &declared));
                let described = inner.await.map_err(Error::without_place)?;
                return Ok(Described {
                    schema: described.schema,
                    ..Described::default()
                });
            }
            _ => return Ok(Described::default()),
        };
        Ok(Described {
            schema: Some(schema),
            ..Described::default()
        })
    }

    /// The columns of a cursor that DECLARE has made.
    ///
    /// # Errors
    /// 34000 when there is none.
    pub fn cursor_schema(&self, name: &str) -> Result<SchemaRef> {
        self.cursors.schema(name)
    }

    /// Runs a prepared statement with its parameters.
    pub async fn execute(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        cancel: Cancel,
    ) -> Result<Response> {
        self.apply_setting_changes();
        let Some(parsed) = prepared.parsed.clone() else {
            return Ok(Response::Empty);
        };
        if let (Some(point), Statement::Query(_)) = (&prepared.point, &parsed.statement) {
            self.refuse_failed(&parsed.statement)?;
            self.pin_transaction()?;
            if let Some(response) = self.point_read(point, &parameters)? {
                return Ok(response);
            }
        }
        let parameters = Parameters {
            values: parameters,
            types: prepared.parameters.clone(),
        };
        self.run(&parsed, &parsed.statement, parameters, cancel)
            .await
            .map_err(|error| parsed.locate(error))
    }

    /// In a failed transaction nothing is planned or run but its end.
    fn refuse_failed(&self, statement: &Statement) -> Result<()> {
        let is_failed = self.transaction_status() == TransactionStatus::Failed;
        match statement {
            Statement::Commit(_) | Statement::Rollback(_) => Ok(()),
            _ if is_failed => Err(Error::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )),
            _ => Ok(()),
        }
    }

    /// A transaction that only reads changes neither rows nor definitions.
    fn refuse_read_only(&self, statement: &Statement) -> Result<()> {
        let is_read_only = match &self.transaction {
            Some(transaction) => transaction.is_read_only,
            None => self.settings.is_on("default_transaction_read_only"),
        };
        match (is_read_only, statement.change()) {
            (true, Some(change)) => Err(Error::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {change} in a read-only transaction"),
            )),
            _ => Ok(()),
        }
    }

    async fn run(
        &mut self,
        parsed: &Parsed,
        statement: &Statement,
        parameters: Parameters,
        cancel: Cancel,
    ) -> Result<Response> {
        self.refuse_failed(statement)?;
        self.refuse_read_only(statement)?;
        match statement {
            Statement::Query(query) => self.query(query, parameters).await,
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {
                self.write(statement, parameters).await
            }
            Statement::Copy(copy) => self.copy(copy).await,
            Statement::Subscribe(subscribe) => self.subscribe(subscribe, cancel).await,
            Statement::Explain(explain) => self.explain(explain).await,
            Statement::CreateSource(create) => self.create_source(parsed, create, cancel).await,
            Statement::CreateTable(create) => self.create_table(parsed, create).await,
            Statement::CreateView(create) => self.create_view(parsed, create).await,
            Statement::CreateMaterializedView(create) => {
                self.create_materialized_view(parsed, create, cancel).await
            }
            Statement::Drop(drop) => self.drop_objects(drop).await,
            Statement::Comment(comment) => self.comment(comment).await,
            Statement::ShowVariable(variable) => self.show_variable(variable),
            Statement::ShowObjects(show) => self.show_objects(show),
            Statement::ShowCreate(show) => self.show_create(show),
            Statement::DeclareCursor(declare) => self.declare(declare, parameters, cancel).await,
            Statement::Fetch(fetch) => self.fetch(fetch, cancel).await,
            Statement::Close(close) => self.close(close),
            Statement::Prepare(prepare) => {
                self.statements.keep(prepare, parsed.text.len())?;
                Ok(done("PREPARE"))
            }
            Statement::Execute(execute) => {
                let prepared = self.statements.named(&execute.name)?;
                let parameters = self.given(execute, &prepared).await?;
                let statement = &prepared.statement;
                Box::pin(self.run(parsed, statement, parameters, cancel))
                    .await
                    .map_err(Error::without_place)
            }
            Statement::Deallocate(deallocate) => self.deallocate(deallocate),
            Statement::Begin(begin) => self.begin(&begin.modes),
            Statement::Commit(end) => self.commit(end.and_chain).await,
            Statement::Rollback(end) => self.rollback(end.and_chain),
            Statement::Savepoint(_) => Err(Error::unsupported("savepoints are not supported")
                .hint("use one transaction per unit of work")),
            Statement::Set(set) => self.set(set),
            Statement::SetTransaction(set) => self.set_transaction(set),
            Statement::Reset(variable) => self.reset(variable),
            Statement::Discard(discard) => self.discard(*discard),
            Statement::Flush => self.flush().await,
            Statement::CancelJob(cancel) => self.cancel_jobs(&cancel.jobs),
            Statement::CreateSink(_) => Err(unsupported(
                "CREATE SINK",
                "SUBSCRIBE streams a view's changes",
            )),
            Statement::CreateIndex(_) => Err(unsupported(
                "CREATE INDEX",
                "a view is indexed by its key already",
            )),
            Statement::Truncate(_) => Err(unsupported("TRUNCATE", "use DELETE FROM")),
            Statement::Alter(_) => Err(unsupported("ALTER", "drop the object and create it again")),
            Statement::Unsupported(statement) => Err(statement.refusal()),
        }
    }

    /// The zone in which this session's statements compute.
    pub(super) fn time_zone(&self) -> &str {
        self.settings.get("timezone").unwrap_or("UTC")
    }

    /// What one statement reads.
    pub(super) fn reading(&self) -> Reading<'_> {
        let (pin, own) = match &self.transaction {
            Some(transaction) => (transaction.pin.clone(), transaction.writes.clone()),
            None => (None, BTreeMap::new()),
        };
        Reading::new(self, pin, own)
    }

    /// Under REPEATABLE READ the first statement fixes the epoch of all.
    pub(super) fn pin_transaction(&mut self) -> Result<()> {
        let catalog = self.catalog();
        let published = self.engine.published().clone();
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        if !transaction.reads_one_epoch || transaction.pin.is_some() {
            return Ok(());
        }
        let kept = catalog
            .objects()
            .filter(|object| crate::engine::server::keeps_rows(object));
        // A view that has failed or is being built is not there for this transaction.
        let (_, status) = published.status();
        let is_healthy = |id| {
            status
                .iter()
                .any(|status| status.id == id && status.failure.is_none())
        };
        let healthy: Vec<_> = kept
            .map(|object| object.id())
            .filter(|id| is_healthy(*id))
            .collect();
        let is_source = |object: &&Arc<Object>| object.kind() == ObjectKind::Source;
        let sources = catalog.objects().filter(is_source);
        let sources: Vec<_> = sources.map(|object| object.id()).collect();
        let pin = Pin::take(&published, &healthy, &sources)?;
        transaction.pin = Some(pin);
        Ok(())
    }

    fn discard(&mut self, what: Discard) -> Result<Response> {
        match what {
            Discard::All if self.is_in_block() => Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "DISCARD ALL cannot run inside a transaction block",
            )),
            Discard::All => {
                self.statements.clear();
                self.cursors = Cursors::default();
                self.settings.reset_all();
                Ok(done("DISCARD ALL"))
            }
            // A statement is planned anew when what it names has changed; there are no sequences
            // and no temporary tables.
            Discard::Plans => Ok(done("DISCARD PLANS")),
            Discard::Sequences => Ok(done("DISCARD SEQUENCES")),
            Discard::Temporary => Ok(done("DISCARD TEMP")),
        }
    }

    fn deallocate(&mut self, what: &crate::sql::session::Deallocate) -> Result<Response> {
        match what {
            crate::sql::session::Deallocate::All => {
                self.statements.clear();
                Ok(done("DEALLOCATE ALL"))
            }
            crate::sql::session::Deallocate::Statement { name, .. } => {
                self.statements.remove(name)?;
                Ok(done("DEALLOCATE"))
            }
        }
    }

    /// Makes a statement a part of the one transaction that the statements of a text are. What
    /// cannot be a part of one (a definition takes effect at once; a subscription does not end)
    /// ends the transaction before it.
    pub async fn enter_text(&mut self, statement: &Statement) -> Result<()> {
        let is_apart = match statement {
            Statement::CreateSource(_)
            | Statement::CreateTable(_)
            | Statement::CreateView(_)
            | Statement::CreateMaterializedView(_)
            | Statement::CreateSink(_)
            | Statement::CreateIndex(_)
            | Statement::Alter(_)
            | Statement::Drop(_)
            | Statement::Comment(_)
            | Statement::Discard(_)
            | Statement::Flush
            | Statement::Subscribe(_) => true,
            Statement::Copy(copy) => {
                matches!(copy.target, crate::sql::watch::CopyTarget::Subscribe(_))
            }
            _ => false,
        };
        match (is_apart, &self.transaction) {
            (true, _) => self.end_text().await,
            (false, None) => {
                self.begin(&TransactionModes::default())?;
                if let Some(transaction) = &mut self.transaction {
                    transaction.is_implicit = true;
                }
                Ok(())
            }
            (false, Some(_)) => Ok(()),
        }
    }

    /// Ends the transaction of a text, if it is still one: its writes are durable on return.
    pub async fn end_text(&mut self) -> Result<()> {
        match self.is_in_block() || self.transaction.is_none() {
            true => Ok(()),
            false => self.commit_transaction(false).await.map(drop),
        }
    }

    /// Whether a transaction is open that ends with COMMIT or ROLLBACK.
    pub(super) fn is_in_block(&self) -> bool {
        let is_block = |transaction: &Transaction| !transaction.is_implicit;
        self.transaction.as_ref().is_some_and(is_block)
    }

    fn begin(&mut self, modes: &TransactionModes) -> Result<Response> {
        if self.is_in_block() {
            self.warn(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "there is already a transaction in progress",
            );
            return Ok(done("BEGIN"));
        }
        if let Some(transaction) = &mut self.transaction {
            // The statements of the text before it belong to it.
            transaction.is_implicit = false;
            if let Some(isolation) = modes.isolation {
                transaction.reads_one_epoch = is_repeatable(isolation);
            }
            if let Some(access) = modes.access {
                transaction.is_read_only = access == AccessMode::ReadOnly;
            }
            return Ok(done("BEGIN"));
        }
        let isolation = match modes.isolation {
            Some(isolation) => is_repeatable(isolation),
            None => self.reads_one_epoch_by_default(),
        };
        let is_read_only = match modes.access {
            Some(access) => access == AccessMode::ReadOnly,
            None => self.settings.is_on("default_transaction_read_only"),
        };
        self.settings.begin();
        self.transaction = Some(Transaction::new(
            isolation,
            is_read_only,
            self.hold_memory(),
        ));
        Ok(done("BEGIN"))
    }

    async fn commit(&mut self, and_chain: bool) -> Result<Response> {
        self.check_in_block("COMMIT", and_chain)?;
        self.commit_transaction(and_chain).await
    }

    /// Warns of an end of nothing; nothing can follow such an end.
    fn check_in_block(&self, end: &str, and_chain: bool) -> Result<()> {
        match (self.is_in_block(), and_chain) {
            (true, _) => {}
            (false, false) => self.warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "there is no transaction in progress",
            ),
            (false, true) => {
                return Err(Error::new(
                    SqlState::NO_ACTIVE_SQL_TRANSACTION,
                    format!("{end} AND CHAIN can only be used in transaction blocks"),
                ));
            }
        }
        Ok(())
    }

    async fn commit_transaction(&mut self, and_chain: bool) -> Result<Response> {
        let Some(transaction) = self.transaction.take() else {
            return Ok(done("COMMIT"));
        };
        let next = and_chain.then(|| transaction.modes());
        if transaction.is_failed {
            self.end_transaction(false, next)?;
            return Ok(done("ROLLBACK"));
        }
        let writes = transaction.writes;
        let written = match writes.is_empty() {
            true => Ok(()),
            false => self.apply(writes).await.map(drop),
        };
        drop(transaction.locks);
        // Nothing follows a commit that failed.
        let next = next.filter(|_| written.is_ok());
        self.end_transaction(written.is_ok(), next)?;
        written?;
        Ok(done("COMMIT"))
    }

    fn rollback(&mut self, and_chain: bool) -> Result<Response> {
        self.check_in_block("ROLLBACK", and_chain)?;
        let Some(transaction) = self.transaction.take() else {
            return Ok(done("ROLLBACK"));
        };
        let next = and_chain.then(|| transaction.modes());
        self.end_transaction(false, next)?;
        Ok(done("ROLLBACK"))
    }

    /// Ends what ends with a transaction; `next`: the modes of the one that follows at once.
    fn end_transaction(
        &mut self,
        is_committed: bool,
        next: Option<TransactionModes>,
    ) -> Result<()> {
        self.cursors.end_transaction();
        self.settings.end(is_committed);
        if let Some(modes) = next {
            self.begin(&modes)?;
        }
        Ok(())
    }

    fn set(&mut self, set: &crate::sql::session::Set) -> Result<Response> {
        let value = match &set.value {
            SetValue::Default => None,
            SetValue::Values(_) => set.value.text(),
        };
        if self.of_transaction(&set.name).is_some() {
            self.set_of_transaction(&set.name, value.as_deref())
                .map_err(|error| set.position.mark(error))?;
            return Ok(done("SET"));
        }
        let result = match set.scope {
            SetScope::Session => self.settings.set(&set.name, value.as_deref()),
            SetScope::Local if self.transaction.is_some() => {
                self.settings.set_local(&set.name, value.as_deref())
            }
            SetScope::Local => {
                self.warn(
                    SqlState::NO_ACTIVE_SQL_TRANSACTION,
                    "SET LOCAL can only be used in transaction blocks",
                );
                Ok(())
            }
        };
        result.map_err(|error| set.position.mark(error))?;
        Ok(done("SET"))
    }

    fn set_transaction(&mut self, set: &SetTransaction) -> Result<Response> {
        let TransactionModes {
            isolation, access, ..
        } = set.modes;
        let isolation = isolation.map(is_repeatable).map(isolation_name);
        let read_only = access.map(|access| on_or_off(access == AccessMode::ReadOnly));
        match set.scope {
            TransactionScope::SessionDefault => {
                for (name, value) in [
                    ("default_transaction_isolation", isolation),
                    ("default_transaction_read_only", read_only),
                ] {
                    if let Some(value) = value {
                        self.settings.set(name, Some(value))?;
                    }
                }
            }
            TransactionScope::Current if self.transaction.is_none() => self.warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET TRANSACTION can only be used in transaction blocks",
            ),
            TransactionScope::Current => {
                for (name, value) in [
                    ("transaction_isolation", isolation),
                    ("transaction_read_only", read_only),
                ] {
                    if let Some(value) = value {
                        self.set_of_transaction(name, Some(value))?;
                    }
                }
            }
        }
        Ok(done("SET"))
    }

    /// Sets what [`Session::of_transaction`] tells; without a transaction it is for none.
    fn set_of_transaction(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let checked = value.map(|value| Settings::check(name, value));
        let checked = checked.transpose()?;
        let default = self.reads_one_epoch_by_default();
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        match (canonical(name).as_str(), checked.as_deref()) {
            ("transaction_isolation", None) => transaction.reads_one_epoch = default,
            ("transaction_isolation", Some(level)) => {
                transaction.reads_one_epoch = is_repeatable_name(level);
            }
            (_, value) => transaction.is_read_only = value == Some("on"),
        }
        Ok(())
    }

    /// The settings that the transaction answers, as SHOW prints them: what it has, not what it
    /// was asked for. Without one they are what the next will have.
    pub(super) fn of_transaction(&self, name: &str) -> Option<&'static str> {
        let transaction = self.transaction.as_ref();
        match canonical(name).as_str() {
            "transaction_isolation" => {
                let default = || self.reads_one_epoch_by_default();
                Some(isolation_name(
                    transaction.map_or_else(default, |transaction| transaction.reads_one_epoch),
                ))
            }
            "transaction_read_only" => {
                let default = || self.settings.is_on("default_transaction_read_only");
                Some(on_or_off(transaction.map_or_else(default, |transaction| {
                    transaction.is_read_only
                })))
            }
            _ => None,
        }
    }

    /// Every setting with its value and description.
    pub(super) fn all_settings(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.settings.all().map(|(name, value, description)| {
            (
                name,
                self.of_transaction(name).unwrap_or(value),
                description,
            )
        })
    }

    fn reads_one_epoch_by_default(&self) -> bool {
        let level = self.settings.get("default_transaction_isolation");
        level.is_some_and(is_repeatable_name)
    }

    fn reset(&mut self, variable: &Variable) -> Result<Response> {
        match variable {
            Variable::All => self.settings.reset_all(),
            Variable::Named { name, position } => {
                self.settings
                    .set(name, None)
                    .map_err(|error| position.mark(error))?;
            }
        }
        Ok(done("RESET"))
    }

    pub(super) fn warn(&self, state: SqlState, message: &str) {
        self.notify(Severity::Warning, state, message.to_string());
    }

    /// Sends a message beside the answer; a client that does not take it misses it.
    pub(super) fn notify(&self, severity: Severity, state: SqlState, message: String) {
        self.send_notice(Notice {
            severity,
            state,
            message,
            detail: None,
            hint: None,
        });
    }

    /// As [`Session::notify`].
    pub(super) fn send_notice(&self, notice: Notice) {
        let _ = self.notices.try_send(notice);
    }

    /// The transaction state for ReadyForQuery.
    pub fn transaction_status(&self) -> TransactionStatus {
        match &self.transaction {
            None => TransactionStatus::Idle,
            Some(transaction) if transaction.is_failed => TransactionStatus::Failed,
            Some(_) => TransactionStatus::InTransaction,
        }
    }

    /// Tells that a statement failed: an explicit transaction is failed by it, and one of a text is
    /// over.
    pub fn fail_transaction(&mut self) {
        if !self.is_in_block() && self.transaction.take().is_some() {
            self.cursors.end_transaction();
            self.settings.end(false);
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.is_failed = true;
            transaction.writes.clear();
            transaction.locks.clear();
        }
    }

    /// Settings that the protocol reports (`ParameterStatus`) and that changed since the last call.
    pub fn changed_settings(&mut self) -> Vec<(String, String)> {
        self.apply_setting_changes();
        self.settings.take_changed()
    }

    fn apply_setting_changes(&mut self) {
        for change in self.setting_changes.take() {
            let value = Some(change.value.as_str());
            let set = match (change.is_local, &self.transaction) {
                (false, _) => self.settings.set(&change.name, value),
                (true, Some(_)) => self.settings.set_local(&change.name, value),
                // It was for that statement's transaction, which is over.
                (true, None) => Ok(()),
            };
            if let Err(error) = set {
                tracing::error!(%error, "set_config took a value that SET does not");
            }
        }
    }

    /// A setting's value (`statement_timeout`, `idle_session_timeout` …) as SHOW prints it.
    pub fn setting(&self, name: &str) -> Option<String> {
        let value = self
            .of_transaction(name)
            .or_else(|| self.settings.get(name));
        value.map(str::to_string)
    }

    /// Whether the object's rows are kept.
    pub(super) fn refuse_source_only(kind: ObjectKind, what: &str) -> Result<()> {
        match kind {
            ObjectKind::Source | ObjectKind::View => Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("{what} needs a table or materialized view, not a {kind}"),
            )),
            ObjectKind::Table | ObjectKind::MaterializedView | ObjectKind::LateRows => Ok(()),
        }
    }
}

pub(super) fn done(tag: &str) -> Response {
    Response::Done {
        tag: tag.to_string(),
    }
}

fn unsupported(what: &str, hint: &str) -> Error {
    Error::unsupported(format!("{what} is not supported")).hint(hint)
}

fn is_repeatable(isolation: IsolationLevel) -> bool {
    matches!(
        isolation,
        IsolationLevel::RepeatableRead | IsolationLevel::Serializable
    )
}

fn is_repeatable_name(level: &str) -> bool {
    matches!(level, "repeatable read" | "serializable")
}

fn isolation_name(reads_one_epoch: bool) -> &'static str {
    match reads_one_epoch {
        true => "repeatable read",
        false => "read committed",
    }
}

fn on_or_off(is_on: bool) -> &'static str {
    match is_on {
        true => "on",
        false => "off",
    }
}
