//! One connection after its login: messages in, answers out, until one side ends it.
//!
//! ```text
//!            ┌──────────────── Query ─► script ─► answers ─► ReadyForQuery
//!   next ────┼─ Parse Bind Describe Execute Close ─► answers        (see extended)
//!            ├──────────────── Sync ─► commit ─► ReadyForQuery
//!            └ Terminate, gone, shutdown ─► end
//!
//!   An extended message that fails: ErrorResponse, then everything is passed over until Sync.
//! ```
//!
//! Invariant: whatever a statement does — fail, panic, be cancelled — the client gets one
//! ErrorResponse for it and the connection can run the next.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;
use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{
    EmptyQueryResponse, ReadyForQuery, TransactionStatus as ReadyStatus,
};
use pgwire::messages::startup::ParameterStatus;

use crate::base::memory::Held;
use crate::engine::{
    BatchStream, Cancel, CopyFormat, CopyWriter, Prepared, Response, RowsTag, Session,
    TransactionStatus,
};
use crate::error::{Error, Result, SqlState};
use crate::sql::session::{Deallocate, Discard};
use crate::sql::watch::CopyTarget;
use crate::sql::{Parsed, Statement};
use crate::types::Zone;
use crate::types::pg::{DateTimeStyle, Format};
use crate::wire::answer::Copy;
use crate::wire::cancels::Registration;
use crate::wire::client::{Client, Stop};
use crate::wire::counters::Counters;
use crate::wire::extended::Extended;
use crate::wire::frame::Message;
use crate::wire::outbound::Severity;
use crate::wire::rows::{Cursor, Encoder, RowEncoder, Sent, row_description};
use crate::wire::running::{Running, time_setting};

/// The tag of an answer that psql can show only as COPY, because it does not end.
const SUBSCRIBE: &str = "SUBSCRIBE";

/// A logged-in client and its session.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) session: Session,
    pub(super) extended: Extended,
    pub(super) counters: Arc<Counters>,
    registration: Registration,
    /// The memory of statements and portals.
    held: Held,
    /// An extended message failed; what follows is passed over until Sync.
    is_skipping: bool,
    /// The running statement is the last of its text, or of what is sent up to Sync.
    is_last_of_text: bool,
}

impl Connection {
    pub(super) fn new(
        client: Client,
        session: Session,
        registration: Registration,
        counters: Arc<Counters>,
    ) -> Self {
        Connection {
            client,
            held: session.hold_memory(),
            session,
            extended: Extended::default(),
            counters,
            registration,
            is_skipping: false,
            is_last_of_text: false,
        }
    }

    /// Serves the client until it leaves or has to.
    pub(super) async fn serve(mut self) {
        self.ready();
        let last = loop {
            let message = match self.client.next(self.idle_max()).await {
                Ok(Message::Terminate) => break None,
                Ok(message) => message,
                Err(Stop::Fatal(error) | Stop::Failed(error)) => break Some(error),
                Err(Stop::Gone) => break None,
            };
            match self.obey(message).await {
                Ok(()) => {}
                Err(Stop::Fatal(error)) => break Some(error),
                Err(Stop::Gone) => break None,
                Err(Stop::Failed(error)) => self.fail(&error),
            }
        };
        // Suspended streams and the session end before the client is told the last word.
        let client = self.into_client();
        client.farewell(last).await;
    }

    fn into_client(self) -> Client {
        self.client
    }

    /// Obeys one message. Failures that the client is to be told are told in here.
    async fn obey(&mut self, message: Message) -> Result<(), Stop> {
        match message {
            Message::Sync => self.is_skipping = false,
            // Behind a COPY that failed the client goes on sending until it has read so.
            Message::CopyData(_)
            | Message::CopyDone
            | Message::CopyFail { .. }
            | Message::Refused {
                tag: b'd' | b'c' | b'f',
                ..
            } => return Ok(()),
            _ if self.is_skipping => return Ok(()),
            _ => {}
        }
        let ends_in_ready = match &message {
            Message::Query { .. } | Message::Sync => true,
            Message::Refused { tag, .. } => matches!(tag, b'Q' | b'F' | b'S'),
            _ => false,
        };
        // What a panic leaves behind is dropped (streams, portals) or repaired (half a frame).
        let done = AssertUnwindSafe(self.run(message)).catch_unwind().await;
        self.registration.set_running(None);
        self.held.set(self.extended.bytes());
        let done = done.unwrap_or_else(|panic| {
            self.client.outbound.repair();
            Err(Stop::Failed(panicked(panic.as_ref())))
        });
        match done {
            Ok(()) => {}
            Err(Stop::Failed(error)) => {
                self.fail(&error);
                self.is_skipping = !ends_in_ready;
            }
            Err(stop) => return Err(stop),
        }
        if ends_in_ready {
            self.ready();
        }
        Ok(())
    }

    async fn run(&mut self, message: Message) -> Result<(), Stop> {
        match message {
            Message::Query { text } => self.query(&text).await,
            Message::Parse(parse) => self.parse(parse).await,
            Message::Bind(bind) => self.bind(bind),
            Message::Describe { target, name } => self.describe(target, &name),
            Message::Execute { portal, rows_max } => self.execute_portal(portal, rows_max).await,
            Message::Close { target, name } => {
                self.close(target, &name);
                Ok(())
            }
            // A password that nobody asked for: the client believes something else of us.
            Message::Refused { tag: b'p', error } => Err(Stop::Fatal(error)),
            Message::Refused { error, .. } => Err(error.into()),
            // Output goes out whenever the client is waited for.
            Message::Flush => Ok(()),
            Message::Sync => self.end_pipeline().await,
            // Taken care of before.
            Message::Terminate
            | Message::CopyData(_)
            | Message::CopyDone
            | Message::CopyFail { .. } => Ok(()),
        }
    }

    /// Runs a script of the simple protocol, up to its first error. Several statements are one
    /// transaction; the last is answered when that is durable.
    async fn query(&mut self, text: &str) -> Result<(), Stop> {
        self.extended.close_unnamed();
        let script = self.session.parse(text)?;
        if script.is_empty() {
            self.client.send(PgWireBackendMessage::EmptyQueryResponse(
                EmptyQueryResponse::new(),
            ));
        }
        let count = script.len();
        for (number, parsed) in script.into_iter().enumerate() {
            let running = self.begin(Cancel::new());
            if count > 1 {
                let entered = self.session.enter_text(&parsed.statement);
                self.client.wait(&running, entered).await?;
            }
            let prepared = Prepared::at_once(Some(parsed));
            self.is_last_of_text = number + 1 == count;
            match self.execute(&prepared, Vec::new(), &running).await? {
                Some(response) => self.answer(&prepared, response, &running).await?,
                None => self.end_text(&running).await?,
            }
        }
        Ok(())
    }

    /// Ends the transaction that the statements since the last Sync are, if it is still open.
    async fn end_pipeline(&mut self) -> Result<(), Stop> {
        if self.session.transaction_status() == TransactionStatus::Idle {
            return Ok(());
        }
        let running = self.begin(Cancel::new());
        self.client.wait(&running, self.session.end_text()).await
    }

    /// Makes a statement of the extended protocol a part of the transaction that all of them up to
    /// Sync are. One that stands alone is its own, which COPY can be without a bound.
    pub(super) async fn enter_pipeline(
        &mut self,
        prepared: &Prepared,
        running: &Running,
    ) -> Result<(), Stop> {
        let is_last = self.client.is_at_sync();
        self.is_last_of_text = is_last;
        let Some(statement) = statement(prepared) else {
            return Ok(());
        };
        let is_first = self.session.transaction_status() == TransactionStatus::Idle;
        let is_copy = matches!(statement, Statement::Copy(_));
        match is_first && (is_last || is_copy) {
            true => Ok(()),
            false => {
                let entered = self.session.enter_text(statement);
                self.client.wait(running, entered).await
            }
        }
    }

    /// Makes the transaction of a text durable before its last statement is said to be done.
    async fn end_text(&mut self, running: &Running) -> Result<(), Stop> {
        match self.is_last_of_text {
            true => self.client.wait(running, self.session.end_text()).await,
            false => Ok(()),
        }
    }

    /// Runs a statement; `None` = it was answered here.
    pub(super) async fn execute(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        running: &Running,
    ) -> Result<Option<Response>, Stop> {
        self.counters.statements.add(1);
        // The protocol's named statements are known here only.
        if let Some(Statement::Deallocate(Deallocate::Statement { name, .. })) = statement(prepared)
            && self.extended.close_statement(name)
        {
            self.client.complete("DEALLOCATE".to_string());
            return Ok(None);
        }
        let executed = self
            .session
            .execute(prepared, parameters, running.cancel().clone());
        let response = self.client.wait(running, executed).await?;
        if let Some(
            Statement::Deallocate(Deallocate::All)
            | Statement::Discard(Discard::All | Discard::Plans),
        ) = statement(prepared)
        {
            self.extended.close_statements();
        }
        Ok(Some(response))
    }

    /// Sends what a statement of the simple protocol answered.
    async fn answer(
        &mut self,
        prepared: &Prepared,
        response: Response,
        running: &Running,
    ) -> Result<(), Stop> {
        match response {
            Response::Rows {
                schema,
                batches,
                tag,
            } if tag.0 == SUBSCRIBE && self.is_psql() => {
                let format = CopyFormat::Text {
                    delimiter: b'\t',
                    null: "\\N".to_string(),
                    header: false,
                };
                let copy = Copy {
                    schema,
                    format,
                    style: self.style(),
                };
                let rows = copy.send(&mut self.client, running, batches).await?;
                self.counters.rows.add(rows);
                self.end_text(running).await?;
                self.client.complete(row_tag(&tag, rows));
            }
            Response::Rows {
                schema,
                batches,
                tag,
            } => {
                let formats = vec![Format::Text; schema.fields().len()];
                let description = row_description(&schema, &formats)?;
                let encoder = RowEncoder::new(&schema, &formats, self.style())?;
                self.client.send(description);
                let mut cursor = Cursor::new(Encoder::Data(encoder), batches);
                let sent = cursor.send(&mut self.client, running, None).await?;
                let (Sent::All { rows } | Sent::Some { rows }) = sent;
                self.counters.rows.add(rows);
                self.end_text(running).await?;
                self.client.complete(row_tag(&tag, rows));
            }
            other => self.answer_without_rows(prepared, other, running).await?,
        }
        Ok(())
    }

    /// Sends an answer that is the same in both protocols.
    pub(super) async fn answer_without_rows(
        &mut self,
        prepared: &Prepared,
        response: Response,
        running: &Running,
    ) -> Result<(), Stop> {
        match response {
            Response::Done { tag } => {
                self.end_text(running).await?;
                self.client.complete(tag);
            }
            Response::Empty => {
                let empty = EmptyQueryResponse::new();
                self.client
                    .send(PgWireBackendMessage::EmptyQueryResponse(empty));
            }
            Response::CopyOut {
                schema,
                batches,
                format,
            } => {
                let copy = Copy {
                    schema,
                    format,
                    style: self.style(),
                };
                self.copy_out(copy, batches, running).await?;
            }
            Response::CopyIn {
                schema,
                writer,
                format,
            } => {
                let rows = self
                    .copy_in(prepared, (schema, format), writer, running)
                    .await?;
                self.end_text(running).await?;
                self.client.complete(format!("COPY {rows}"));
            }
            Response::Rows { .. } => {
                return Err(Error::internal("rows were answered as if there were none").into());
            }
        }
        Ok(())
    }

    /// Takes the rows of COPY FROM STDIN; how many there were.
    async fn copy_in(
        &mut self,
        prepared: &Prepared,
        (schema, format): (SchemaRef, CopyFormat),
        mut writer: Box<dyn CopyWriter>,
        running: &Running,
    ) -> Result<u64, Stop> {
        let style = self.style();
        let copy = Copy {
            schema,
            format,
            style,
        };
        let relation = copied_relation(prepared);
        copy.receive(&mut self.client, running, writer.as_mut(), relation)
            .await?;
        let finished = writer.finish(&mut self.session);
        self.client.wait(running, finished).await
    }

    async fn copy_out(
        &mut self,
        copy: Copy,
        batches: BatchStream,
        running: &Running,
    ) -> Result<(), Stop> {
        let rows = copy.send(&mut self.client, running, batches).await?;
        self.counters.rows.add(rows);
        self.end_text(running).await?;
        self.client.complete(format!("COPY {rows}"));
        Ok(())
    }

    /// Starts a statement's time; cancel requests are for it until the message is done.
    pub(super) fn begin(&mut self, cancel: Cancel) -> Running {
        self.registration.set_running(Some(cancel.clone()));
        Running::new(cancel, self.time_setting("statement_timeout"))
    }

    /// How dates and times of this session are written and read.
    pub(super) fn style(&self) -> DateTimeStyle {
        let zone = self
            .session
            .setting("TimeZone")
            .and_then(|name| Zone::parse(&name).ok());
        DateTimeStyle {
            zone: zone.unwrap_or_default(),
        }
    }

    /// Tells the client of an error; an explicit transaction is failed by it.
    fn fail(&mut self, error: &Error) {
        if error.state() == SqlState::INTERNAL_ERROR {
            tracing::error!(%error, "a statement met a bug");
        }
        self.counters.errors.add(1);
        self.session.fail_transaction();
        self.client.outbound.error(Severity::Error, error);
    }

    /// Says that the next statement may come.
    fn ready(&mut self) {
        for (name, value) in self.session.changed_settings() {
            let status = ParameterStatus::new(name, value);
            self.client
                .send(PgWireBackendMessage::ParameterStatus(status));
        }
        let status = match self.session.transaction_status() {
            TransactionStatus::Idle => {
                // Portals live as long as their transaction.
                self.extended.close_portals();
                ReadyStatus::Idle
            }
            TransactionStatus::InTransaction => ReadyStatus::Transaction,
            TransactionStatus::Failed => ReadyStatus::Error,
        };
        self.client
            .send(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(
                status,
            )));
    }

    fn idle_max(&self) -> Option<Duration> {
        match self.session.transaction_status() {
            TransactionStatus::Idle => self.time_setting("idle_session_timeout"),
            TransactionStatus::InTransaction | TransactionStatus::Failed => {
                self.time_setting("idle_in_transaction_session_timeout")
            }
        }
    }

    fn time_setting(&self, name: &str) -> Option<Duration> {
        self.session.setting(name).as_deref().and_then(time_setting)
    }

    fn is_psql(&self) -> bool {
        self.session.setting("application_name").as_deref() == Some("psql")
    }
}

/// The command tag of a row answer. As in Postgres, only some commands tell how many rows.
pub(super) fn row_tag(tag: &RowsTag, rows: u64) -> String {
    match tag.0.split(' ').next() {
        Some("SHOW" | "EXPLAIN") => tag.0.clone(),
        _ => format!("{} {rows}", tag.0),
    }
}

fn statement(prepared: &Prepared) -> Option<&Statement> {
    prepared
        .parsed
        .as_deref()
        .map(|Parsed { statement, .. }| statement)
}

/// The table that a COPY names.
fn copied_relation(prepared: &Prepared) -> Option<String> {
    match statement(prepared)? {
        Statement::Copy(copy) => match &copy.target {
            CopyTarget::Relation { name, .. } => Some(name.name().to_string()),
            CopyTarget::Query(_) | CopyTarget::Subscribe(_) => None,
        },
        _ => None,
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_string());
    Error::internal(format!("the statement met a bug of the server: {text}"))
        .hint("the connection and the server go on; please report the statement")
}
