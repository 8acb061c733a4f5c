//! Writes of this server's users on their way into a step.
//!
//! ```text
//!   Command::Write ─► stage: encoded, within bounds ─► take: one transaction per table and step,
//!                                                      checked against the rows it changes
//!                  ─► tables: into the journal record    topics: into their logs, then as chunks
//! ```
//!
//! A transaction that writes one topic alone is one record of that topic's log: rows of it that a
//! crash kept from the journal are the next step. One that writes several relations, a topic among
//! them, must not be there in part. Its rows go into the journal record too, which is durable
//! before they are appended to the topics; a restart appends what a crash kept from there.
//!
//! What cannot be made durable or applied is refused here, before it is journaled: a step that is
//! in the journal must be one that every replay can take.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio::sync::oneshot;

use crate::base::limits::WRITE_BYTES_MAX;
use crate::base::memory::{Account, Held};
use crate::base::{Epoch, ObjectId, Offset, PartitionId};
use crate::connector::Chunk;
use crate::dataflow::stepper::{Cut, Stepper, Write};
use crate::delta::{DeltaBatch, Weights};
use crate::error::{Error, Result, SqlState};
use crate::storage::{LogWriter, StepRecord, TableWrite, Ticket, decode_batch, encode_batch};

/// Writes that wait for their step, checked, with their bytes for journal and log.
pub(super) struct Staged {
    pub writes: Vec<(Write, Vec<u8>)>,
    /// The memory of the writes.
    #[expect(dead_code, reason = "it is given back when the writes are taken")]
    pub held: Held,
    pub done: oneshot::Sender<Result<Epoch>>,
}

/// The writes that a step takes, and who waits for them.
#[derive(Default)]
pub(super) struct Taken {
    pub writes: Vec<(Write, Vec<u8>)>,
    /// They are one transaction over several relations, topics among them.
    pub is_mixed: bool,
    pub answers: Vec<oneshot::Sender<Result<Epoch>>>,
}

/// Rows that a topic takes in when the step's journal record is durable.
pub(super) struct Append {
    log: LogWriter,
    from: Offset,
    rows: u32,
    payload: Vec<u8>,
}

impl Append {
    /// Appends the rows where the journal says that they are.
    pub fn start(self) -> Result<Ticket> {
        let ticket = self.log.append(self.payload, self.rows)?;
        match ticket.offset() == self.from {
            true => Ok(ticket),
            false => Err(Error::internal("somebody else has written a topic's log")),
        }
    }
}

impl Stepper {
    /// Takes writes for the next step, or refuses what no step could make durable.
    pub(super) fn stage(&mut self, writes: Vec<Write>, done: oneshot::Sender<Result<Epoch>>) {
        match self.encoded(writes).and_then(|writes| self.held(writes)) {
            Ok((writes, held)) => self.staged.push_back(Staged { writes, held, done }),
            Err(error) => drop(done.send(Err(error))),
        }
    }

    /// The writes with the memory they take. What adds no rows is let through: who has run out of
    /// memory must be able to remove some.
    #[expect(clippy::type_complexity, reason = "writes and their memory")]
    fn held(&self, writes: Vec<(Write, Vec<u8>)>) -> Result<(Vec<(Write, Vec<u8>)>, Held)> {
        let memory = &self.options.memory;
        let bytes = writes
            .iter()
            .map(|(write, payload)| write.delta.bytes() + payload.len())
            .sum();
        let adds = |(write, _): &(Write, Vec<u8>)| {
            let weights = (0..write.delta.len()).map(|row| write.delta.weights().get(row));
            weights.sum::<i64>() > 0
        };
        if writes.iter().any(adds) {
            memory.check("the rows that are written", bytes)?;
        }
        let mut held = memory.hold(Account::Sessions);
        held.set(bytes);
        Ok((writes, held))
    }

    fn encoded(&self, writes: Vec<Write>) -> Result<Vec<(Write, Vec<u8>)>> {
        let mut encoded = Vec::new();
        let mut bytes = 0;
        for write in writes.into_iter().filter(|write| !write.delta.is_empty()) {
            let is_topic = self
                .sources
                .get(&write.object)
                .is_some_and(|s| !s.logs.is_empty());
            if !is_topic && !self.tables.contains_key(&write.object) {
                return Err(Error::new(
                    SqlState::UNDEFINED_TABLE,
                    "the relation was dropped while it was written",
                ));
            }
            let payload = encode_delta(&write.delta)?;
            bytes += payload.len();
            encoded.push((write, payload));
        }
        match bytes > WRITE_BYTES_MAX {
            false => Ok(encoded),
            true => Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("one transaction writes {bytes} bytes, the limit is {WRITE_BYTES_MAX}"),
            )
            .hint("write in parts; cut the file of a COPY")),
        }
    }

    /// The writes of one step: whole transactions in their order, as many as its record may hold,
    /// and at most one for each table, so that each is checked against the rows it will change. A
    /// mixed one has a step of its own: its place in a topic is known before it is written.
    pub(super) fn take_staged(&mut self) -> Taken {
        let mut taken = Taken::default();
        let mut bytes = 0;
        while let Some(next) = self.staged.front() {
            let size: usize = next.writes.iter().map(|(_, payload)| payload.len()).sum();
            let is_written = |id: ObjectId| {
                self.tables.contains_key(&id) && taken.writes.iter().any(|(w, _)| w.object == id)
            };
            let is_topic = |(write, _): &(Write, Vec<u8>)| self.sources.contains_key(&write.object);
            let is_mixed = next.writes.len() > 1 && next.writes.iter().any(is_topic);
            let has_room = taken.writes.is_empty()
                || !taken.is_mixed && !is_mixed && bytes + size <= WRITE_BYTES_MAX;
            if !has_room
                || next
                    .writes
                    .iter()
                    .any(|(write, _)| is_written(write.object))
            {
                break;
            }
            let Staged {
                writes: own, done, ..
            } = self.staged.pop_front().expect("just seen");
            if let Err(error) = self.check_accepted(&own) {
                let _ = done.send(Err(error));
                continue;
            }
            bytes += size;
            taken.is_mixed |= is_mixed;
            taken.writes.extend(own);
            taken.answers.push(done);
        }
        taken
    }

    /// Refuses a transaction that does not fit a table's rows as they are now, or a table that has
    /// failed.
    fn check_accepted(&self, writes: &[(Write, Vec<u8>)]) -> Result<()> {
        let is_table = |write: &Write| self.tables.contains_key(&write.object);
        for (write, _) in writes.iter().filter(|(write, _)| is_table(write)) {
            if !self.published.accepts(write.object, &write.delta)? {
                return Err(Error::new(
                    SqlState::SERIALIZATION_FAILURE,
                    "could not serialize access due to concurrent update",
                )
                .hint("run the transaction again"));
            }
        }
        Ok(())
    }

    /// Writes to topics go to their logs and into the step as chunks; those to tables as they are.
    pub(super) fn cut_writes(
        &mut self,
        writes: Vec<(Write, Vec<u8>)>,
        is_mixed: bool,
        cut: &mut Cut,
    ) -> Result<()> {
        let mut tickets: Vec<Ticket> = Vec::new();
        for (write, payload) in writes {
            let Some(source) = self.sources.get(&write.object) else {
                let table = write.object;
                cut.payloads.push(TableWrite { table, payload });
                cut.writes.push(write);
                continue;
            };
            // Partitions take turns by step; which one took a row is in the journal.
            let count = source.logs.len() as u64;
            let turn = cut.epoch.0.checked_rem(count).ok_or_else(|| {
                Error::internal("rows were written to a source that is not embedded")
            })?;
            let turn = u32::try_from(turn).expect("partitions are few");
            let log = &source.logs[turn as usize];
            let rows = write.delta.rows();
            let count = u32::try_from(rows.num_rows())
                .map_err(|_| Error::internal("a write has less than 2^32 rows"))?;
            let checksum = crc32fast::hash(&payload);
            let bytes = payload.len();
            let from = match is_mixed {
                true => {
                    let from = log.end_offset();
                    cut.appends.push(Append {
                        log: log.clone(),
                        from,
                        rows: count,
                        payload: payload.clone(),
                    });
                    cut.payloads.push(TableWrite {
                        table: write.object,
                        payload,
                    });
                    from
                }
                false => {
                    let ticket = log.append(payload, count)?;
                    let from = ticket.offset();
                    tickets.push(ticket);
                    from
                }
            };
            cut.chunks.push((
                write.object,
                Chunk {
                    partition: PartitionId(turn),
                    from,
                    to: Offset(from.0 + u64::from(count)),
                    rows: rows.clone(),
                    jumps: Vec::new(),
                    weights: None,
                    bad: Vec::new(),
                    bad_rows: Vec::new(),
                    skipped: 0,
                    checksum,
                    bytes,
                    arrived_micros: cut.clock_micros,
                },
            ));
        }
        // The journal must not name rows that a crash could still lose.
        tickets.iter().try_for_each(wait)
    }

    /// Appends to topics what a step of the journal has of a mixed transaction and a crash kept
    /// from them.
    pub(super) fn complete_topics(&self, step: &StepRecord) -> Result<()> {
        let mut tickets = Vec::new();
        for write in &step.writes {
            let Some(source) = self.sources.get(&write.table) else {
                continue;
            };
            let run = step.runs.iter().find(|run| run.source == write.table);
            let run = run.ok_or_else(|| lost_place(step.epoch, "it names no place for them"))?;
            let log = usize::try_from(run.partition.0)
                .ok()
                .and_then(|partition| source.logs.get(partition))
                .ok_or_else(|| lost_place(step.epoch, "there is no such partition"))?;
            if log.end_offset() >= run.to {
                continue;
            }
            if log.end_offset() != run.from {
                return Err(lost_place(step.epoch, "the topic lacks rows before them"));
            }
            let append = Append {
                log: log.clone(),
                from: run.from,
                rows: u32::try_from(run.rows)
                    .map_err(|_| lost_place(step.epoch, "they are impossibly many"))?,
                payload: write.payload.clone(),
            };
            tickets.push(append.start()?);
        }
        tickets.iter().try_for_each(wait)
    }
}

fn lost_place(epoch: Epoch, how: &str) -> Error {
    Error::new(
        SqlState::DATA_CORRUPTED,
        format!("step {epoch} of the journal has rows for a topic: {how}"),
    )
}

fn encode_delta(delta: &DeltaBatch) -> Result<Vec<u8>> {
    match delta.weights() {
        Weights::Ones => encode_batch(delta.rows(), None),
        Weights::Each(weights) => encode_batch(delta.rows(), Some(weights)),
    }
}

/// The delta of a journaled write.
pub(super) fn decode_delta(payload: &[u8], schema: &SchemaRef) -> Result<DeltaBatch> {
    let (rows, weights) = decode_batch(payload)?;
    let rows: RecordBatch = rows
        .with_schema(schema.clone())
        .map_err(crate::delta::arrow_error)?;
    let weights = weights.map_or(Weights::Ones, |weights| Weights::Each(weights.into()));
    Ok(DeltaBatch::new(rows, weights))
}

pub(super) fn wait(ticket: &Ticket) -> Result<()> {
    ticket.wait().map(drop)
}
