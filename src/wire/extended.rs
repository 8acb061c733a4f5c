//! The extended protocol: named statements, portals, and results in parts.
//!
//! ```text
//!   Parse ─► statement ─Bind─► portal(Bound) ─Execute─► portal(Suspended) ─Execute─► portal(Done)
//! ```
//!
//! State: statements until they are closed, portals until their transaction ends; the unnamed ones
//! until the next of their kind or a simple query.
//! Bounds: `PREPARED_STATEMENTS_MAX`, `PORTALS_MAX`, and `PREPARED_BYTES_MAX` for both together.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion::scalar::ScalarValue;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    BindComplete, CloseComplete, ParseComplete, PortalSuspended,
};

use crate::base::limits::{PORTALS_MAX, PREPARED_BYTES_MAX, PREPARED_STATEMENTS_MAX};
use crate::engine::{Cancel, Prepared, Response, RowsTag};
use crate::error::{Error, Result, SqlState};
use crate::types::pg::{Format, PgType, field_of_oid, parse_value_in};
use crate::wire::client::Stop;
use crate::wire::connection::{Connection, row_tag};
use crate::wire::frame::{Bind, Parse, Target};
use crate::wire::rows::{Cursor, Encoder, RowEncoder, Sent, formats, row_description};
use crate::wire::running::Running;

/// "Not said", and Postgres' pseudo-type for it.
const UNSPECIFIED_OIDS: [u32; 2] = [0, 705];

/// The statements and portals of one connection.
#[derive(Default)]
pub(super) struct Extended {
    statements: HashMap<String, Arc<PreparedStatement>>,
    portals: HashMap<String, Portal>,
    /// Bytes of texts and parameters in both.
    bytes: usize,
}

/// A statement as Parse made it.
struct PreparedStatement {
    prepared: Prepared,
    /// What the parameters are announced and read as.
    parameters: Vec<Parameter>,
    bytes: usize,
}

struct Parameter {
    oid: u32,
    field: Field,
}

struct Portal {
    statement: Arc<PreparedStatement>,
    result_formats: Vec<i16>,
    bytes: usize,
    progress: Progress,
}

/// How far a portal has come.
enum Progress {
    Bound(Vec<ScalarValue>),
    Suspended {
        cursor: Box<Cursor>,
        tag: RowsTag,
        cancel: Cancel,
    },
    /// Rows were sent to their end; asking again finds none.
    Finished(RowsTag),
    /// It did something that is not done twice.
    Done,
}

impl Extended {
    /// A simple query ends what has no name.
    pub(super) fn close_unnamed(&mut self) {
        self.close_statement("");
        self.close_portal("");
    }

    pub(super) fn close_portals(&mut self) {
        for (_, portal) in self.portals.drain() {
            self.bytes -= portal.bytes;
        }
    }

    pub(super) fn close_statements(&mut self) {
        for (_, statement) in self.statements.drain() {
            self.bytes -= statement.bytes;
        }
    }

    /// Returns whether there was one. Its portals stay: they hold it.
    pub(super) fn close_statement(&mut self, name: &str) -> bool {
        let closed = self.statements.remove(name);
        self.bytes -= closed.as_ref().map_or(0, |statement| statement.bytes);
        closed.is_some()
    }

    fn close_portal(&mut self, name: &str) {
        let closed = self.portals.remove(name);
        self.bytes -= closed.map_or(0, |portal| portal.bytes);
    }

    /// Takes the portal out, to be put back when it can run again.
    fn take_portal(&mut self, name: &str) -> Result<Portal> {
        let portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        self.bytes -= portal.bytes;
        Ok(portal)
    }

    fn put_portal(&mut self, name: String, portal: Portal) {
        self.bytes += portal.bytes;
        self.portals.insert(name, portal);
    }

    fn statement(&self, name: &str) -> Result<&Arc<PreparedStatement>> {
        self.statements.get(name).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_STATEMENT_NAME,
                match name {
                    "" => "unnamed prepared statement does not exist".to_string(),
                    name => format!("prepared statement \"{name}\" does not exist"),
                },
            )
        })
    }

    fn portal(&self, name: &str) -> Result<&Portal> {
        self.portals.get(name).ok_or_else(|| no_portal(name))
    }

    /// Bytes of texts and parameters that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes sure that `bytes` more fit.
    fn check_room(&self, bytes: usize) -> Result<()> {
        match self.bytes.saturating_add(bytes) <= PREPARED_BYTES_MAX {
            true => Ok(()),
            false => Err(Error::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!(
                    "prepared statements and portals take more than {PREPARED_BYTES_MAX} bytes"
                ),
            )
            .hint("close the ones that are no longer used, or end the transaction")),
        }
    }
}

impl Connection {
    pub(super) async fn parse(&mut self, parse: Parse) -> Result<(), Stop> {
        let Parse { name, text, oids } = parse;
        if name.is_empty() {
            self.extended.close_statement("");
        } else if self.extended.statements.contains_key(&name) {
            return Err(Error::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )
            .into());
        }
        if self.extended.statements.len() >= PREPARED_STATEMENTS_MAX {
            return Err(Error::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("a session may hold {PREPARED_STATEMENTS_MAX} prepared statements"),
            )
            .hint("close the ones that are no longer used, or DEALLOCATE ALL")
            .into());
        }
        let bytes = name.len() + text.len();
        self.extended.check_room(bytes)?;

        let mut script = self.session.parse(&text)?;
        if script.len() > 1 {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            )
            .into());
        }
        let prepared = match script.pop() {
            None => Prepared::at_once(None),
            Some(parsed) => {
                let declared: Vec<_> = oids
                    .iter()
                    .map(|oid| match UNSPECIFIED_OIDS.contains(oid) {
                        true => None,
                        // A type that we do not have is inferred, as if it were not said.
                        false => field_of_oid("", *oid).map(Arc::new),
                    })
                    .collect();
                let running = self.begin(Cancel::new());
                let planned = self.session.prepare(parsed, &declared);
                self.client.wait(&running, planned).await?
            }
        };
        let parameters = parameters(&prepared, &oids);
        let statement = Arc::new(PreparedStatement {
            prepared,
            parameters,
            bytes,
        });
        self.extended.bytes += bytes;
        self.extended.statements.insert(name, statement);
        self.client
            .send(PgWireBackendMessage::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Stop> {
        if bind.portal.is_empty() {
            self.extended.close_portal("");
        } else if self.extended.portals.contains_key(&bind.portal) {
            return Err(Error::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{}\" already exists", bind.portal),
            )
            .into());
        }
        if self.extended.portals.len() >= PORTALS_MAX {
            return Err(Error::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("a session may hold {PORTALS_MAX} portals"),
            )
            .hint("close portals, or end the transaction")
            .into());
        }
        let values = bind.parameters.iter().flatten();
        let bytes = bind.portal.len() + values.map(|value| value.len()).sum::<usize>();
        self.extended.check_room(bytes)?;

        let statement = Arc::clone(self.extended.statement(&bind.statement)?);
        let parameters = self.read_parameters(&statement, &bind)?;
        if let Some(schema) = &statement.prepared.schema {
            formats(&bind.result_formats, schema.fields().len())?;
        }
        let portal = Portal {
            statement,
            result_formats: bind.result_formats,
            bytes,
            progress: Progress::Bound(parameters),
        };
        self.extended.put_portal(bind.portal, portal);
        self.client
            .send(PgWireBackendMessage::BindComplete(BindComplete::new()));
        Ok(())
    }

    fn read_parameters(
        &self,
        statement: &PreparedStatement,
        bind: &Bind,
    ) -> Result<Vec<ScalarValue>> {
        let (given, wanted) = (bind.parameters.len(), statement.parameters.len());
        if given != wanted {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {given} parameters, but prepared statement \"{}\" \
                     requires {wanted}",
                    bind.statement
                ),
            ));
        }
        let formats = formats(&bind.parameter_formats, given)?;
        let style = self.style();
        let mut values = Vec::with_capacity(given);
        for ((index, value), format) in bind.parameters.iter().enumerate().zip(formats) {
            let field = &statement.parameters[index].field;
            values.push(match value {
                Some(bytes) => parse_value_in(field, format, bytes, style)
                    .map_err(|error| error.context(format!("parameter ${}", index + 1)))?,
                None => ScalarValue::try_from(field.data_type()).map_err(|error| {
                    Error::internal(format!("no NULL of {}: {error}", field.data_type()))
                })?,
            });
        }
        Ok(values)
    }

    pub(super) fn describe(&mut self, target: Target, name: &str) -> Result<(), Stop> {
        let (schema, formats) = match target {
            Target::Statement => {
                let statement = self.extended.statement(name)?;
                let oids = statement
                    .parameters
                    .iter()
                    .map(|parameter| parameter.oid)
                    .collect();
                let schema = statement.prepared.schema.clone();
                let description = ParameterDescription::new(oids);
                self.client
                    .send(PgWireBackendMessage::ParameterDescription(description));
                let columns = schema.as_ref().map_or(0, |schema| schema.fields().len());
                (schema, vec![Format::Text; columns])
            }
            Target::Portal => match self.extended.portal(name) {
                Ok(portal) => {
                    let schema = portal.statement.prepared.schema.clone();
                    let formats = match &schema {
                        Some(schema) => formats(&portal.result_formats, schema.fields().len())?,
                        None => Vec::new(),
                    };
                    (schema, formats)
                }
                // A cursor of DECLARE is a portal, too: FETCH says in which format.
                Err(missing) => {
                    let schema = self.session.cursor_schema(name).map_err(|_| missing)?;
                    let columns = schema.fields().len();
                    (Some(schema), vec![Format::Text; columns])
                }
            },
        };
        let description = match schema {
            Some(schema) => row_description(&schema, &formats)?,
            None => PgWireBackendMessage::NoData(NoData::new()),
        };
        self.client.send(description);
        Ok(())
    }

    pub(super) async fn execute_portal(
        &mut self,
        name: String,
        rows_max: Option<usize>,
    ) -> Result<(), Stop> {
        let mut portal = self.extended.take_portal(&name)?;
        let statement = Arc::clone(&portal.statement);
        portal.progress = match portal.progress {
            Progress::Bound(parameters) => {
                let running = self.begin(Cancel::new());
                let cancel = running.cancel().clone();
                let prepared = &statement.prepared;
                self.enter_pipeline(prepared, &running).await?;
                match self.execute(prepared, parameters, &running).await? {
                    None => Progress::Done,
                    Some(Response::Rows {
                        schema,
                        batches,
                        tag,
                    }) => {
                        check_same_result(prepared, &schema)?;
                        let formats = formats(&portal.result_formats, schema.fields().len())?;
                        let encoder = RowEncoder::new(&schema, &formats, self.style())?;
                        let cursor = Box::new(Cursor::new(Encoder::Data(encoder), batches));
                        self.send_rows(cursor, tag, running, cancel, rows_max)
                            .await?
                    }
                    Some(response) => {
                        self.answer_without_rows(prepared, response, &running)
                            .await?;
                        Progress::Done
                    }
                }
            }
            Progress::Suspended {
                cursor,
                tag,
                cancel,
            } => {
                let running = self.begin(cancel.clone());
                self.send_rows(cursor, tag, running, cancel, rows_max)
                    .await?
            }
            Progress::Finished(tag) => {
                self.client.complete(row_tag(&tag, 0));
                Progress::Finished(tag)
            }
            Progress::Done => {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("portal \"{name}\" cannot be run"),
                )
                .into());
            }
        };
        self.extended.put_portal(name, portal);
        Ok(())
    }

    async fn send_rows(
        &mut self,
        mut cursor: Box<Cursor>,
        tag: RowsTag,
        running: Running,
        cancel: Cancel,
        rows_max: Option<usize>,
    ) -> Result<Progress, Stop> {
        match cursor.send(&mut self.client, &running, rows_max).await? {
            Sent::All { rows } => {
                self.counters.rows.add(rows);
                self.client.complete(row_tag(&tag, rows));
                Ok(Progress::Finished(tag))
            }
            Sent::Some { rows } => {
                self.counters.rows.add(rows);
                let suspended = PgWireBackendMessage::PortalSuspended(PortalSuspended::new());
                self.client.send(suspended);
                Ok(Progress::Suspended {
                    cursor,
                    tag,
                    cancel,
                })
            }
        }
    }

    pub(super) fn close(&mut self, target: Target, name: &str) {
        match target {
            Target::Statement => {
                self.extended.close_statement(name);
            }
            Target::Portal => self.extended.close_portal(name),
        }
        self.client
            .send(PgWireBackendMessage::CloseComplete(CloseComplete::new()));
    }
}

/// What each parameter is announced and read as: what the client declared, where the plan agrees.
fn parameters(prepared: &Prepared, oids: &[u32]) -> Vec<Parameter> {
    let planned = prepared.parameters.iter().enumerate();
    planned
        .map(|(index, planned)| {
            let name = format!("${}", index + 1);
            let declared = oids
                .get(index)
                .filter(|oid| !UNSPECIFIED_OIDS.contains(oid));
            let field = declared.and_then(|oid| field_of_oid(&name, *oid));
            match (declared, field) {
                (Some(oid), Some(field)) if field.data_type() == planned.data_type() => {
                    Parameter { oid: *oid, field }
                }
                _ => {
                    let field = planned.as_ref().clone();
                    Parameter {
                        oid: PgType::of(&field).oid,
                        field,
                    }
                }
            }
        })
        .collect()
}

/// A client that was told of other columns would read these wrong.
fn check_same_result(prepared: &Prepared, schema: &SchemaRef) -> Result<()> {
    let Some(described) = &prepared.schema else {
        return Ok(());
    };
    let is_same = described.fields().len() == schema.fields().len()
        && described
            .fields()
            .iter()
            .zip(schema.fields())
            .all(|(one, other)| PgType::of(one).oid == PgType::of(other).oid);
    match is_same {
        true => Ok(()),
        false => Err(
            Error::unsupported("cached plan must not change result type")
                .hint("prepare the statement again"),
        ),
    }
}

fn no_portal(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Schema};

    use super::*;

    fn prepared(parameters: Vec<DataType>, columns: Option<Vec<DataType>>) -> Prepared {
        let schema = columns.map(|columns| {
            let fields = columns
                .into_iter()
                .map(|column| Field::new("c", column, true));
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        });
        let fields = parameters
            .into_iter()
            .map(|data_type| Arc::new(Field::new("", data_type, true)));
        let mut prepared = Prepared::at_once(None);
        prepared.parameters = fields.collect();
        prepared.schema = schema;
        prepared
    }

    fn statement(bytes: usize) -> Arc<PreparedStatement> {
        let prepared = prepared(Vec::new(), None);
        Arc::new(PreparedStatement {
            prepared,
            parameters: Vec::new(),
            bytes,
        })
    }

    #[test]
    fn a_parameter_is_announced_as_declared_where_the_plan_agrees() {
        let prepared = prepared(vec![DataType::Utf8, DataType::Int64, DataType::Int32], None);
        // varchar declared; int4 declared but planned as int8; nothing declared.
        let oids: Vec<_> = parameters(&prepared, &[1043, 23])
            .iter()
            .map(|p| p.oid)
            .collect();
        assert_eq!(oids, [1043, 20, 23]);
    }

    #[test]
    fn a_result_of_other_types_is_refused() {
        let described = prepared(Vec::new(), Some(vec![DataType::Int64]));
        let same = prepared(Vec::new(), Some(vec![DataType::Int64]))
            .schema
            .unwrap();
        let other = prepared(Vec::new(), Some(vec![DataType::Utf8]))
            .schema
            .unwrap();
        assert!(check_same_result(&described, &same).is_ok());
        let error = check_same_result(&described, &other).unwrap_err();
        assert_eq!(error.state(), SqlState::FEATURE_NOT_SUPPORTED);
    }

    #[test]
    fn bytes_are_counted_and_given_back() {
        let mut extended = Extended::default();
        extended.bytes += 10;
        extended.statements.insert("s".to_string(), statement(10));
        let portal = Portal {
            statement: statement(0),
            result_formats: Vec::new(),
            bytes: PREPARED_BYTES_MAX - 10,
            progress: Progress::Done,
        };
        extended.put_portal("p".to_string(), portal);
        assert!(extended.check_room(0).is_ok());
        let error = extended.check_room(1).unwrap_err();
        assert_eq!(error.state(), SqlState::CONFIGURATION_LIMIT_EXCEEDED);
        assert!(extended.close_statement("s"));
        assert!(!extended.close_statement("s"));
        assert!(extended.check_room(10).is_ok());
        extended.close_portals();
        assert_eq!(extended.bytes, 0);
        assert!(extended.take_portal("p").is_err());
    }
}
