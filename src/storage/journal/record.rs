//! What a journal record says, and its bytes.
//!
//! ```text
//! version u8 | kind u8 (0 step, 1 control) | epoch | ...
//! step:    clock | runs: n, (source partition from length rows checksum) each
//!          | events: n, (kind u8, source partition, of new partitions from) each
//!          | watermarks: n, (source partition time) each
//!          | writes: n, (table, batch bytes) each
//! control: JSON bytes
//! ```
//! Numbers are of variable length (`codec.rs`): a step of one run takes about thirty bytes.

use crate::base::{Epoch, EventTime, ObjectId, Offset, PartitionId};
use crate::error::{Error, Result};
use crate::storage::codec::{Decoder, put_bytes, put_number, put_signed};

const VERSION: u8 = 1;
const STEP: u8 = 0;
const CONTROL: u8 = 1;
const IDLE: u8 = 0;
const ACTIVE: u8 = 1;
const FOUND: u8 = 2;

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalRecord {
    Step(StepRecord),
    Control(ControlRecord),
}

/// Everything that step `epoch` took in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepRecord {
    pub epoch: Epoch,
    /// The step's clock, microseconds since 1970.
    pub clock_micros: i64,
    /// In the order in which the step took them.
    pub runs: Vec<Run>,
    pub events: Vec<Event>,
    pub watermarks: Vec<Watermark>,
    /// Committed changes of tables: the journal is their log, so that a transaction over several
    /// tables is one record.
    pub writes: Vec<TableWrite>,
}

/// A change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableWrite {
    pub table: ObjectId,
    /// What [`crate::storage::encode_batch`] made of it.
    pub payload: Vec<u8>,
}

/// Consecutive records of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub source: ObjectId,
    pub partition: PartitionId,
    /// The first position.
    pub from: Offset,
    /// The position after the last one; not less than `from`.
    pub to: Offset,
    /// How many rows were read there: fewer than `to - from` in a compacted topic.
    pub rows: u64,
    /// Of what was read, so that a replay that reads something else is noticed.
    pub checksum: u64,
}

/// A partition stops or starts again to hold back its source's watermark, or is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Idle {
        source: ObjectId,
        partition: PartitionId,
    },
    Active {
        source: ObjectId,
        partition: PartitionId,
    },
    /// It was added to the topic and is read from an offset on.
    Found {
        source: ObjectId,
        partition: PartitionId,
        from: Offset,
    },
}

/// The watermark of a partition after the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    pub source: ObjectId,
    pub partition: PartitionId,
    pub time: EventTime,
}

/// A change of what steps compute, from step `epoch` on: join, drop, pause, resume, swap, option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRecord {
    pub epoch: Epoch,
    /// Opaque to storage.
    pub change: serde_json::Value,
}

impl JournalRecord {
    pub fn epoch(&self) -> Epoch {
        match self {
            JournalRecord::Step(step) => step.epoch,
            JournalRecord::Control(control) => control.epoch,
        }
    }

    /// The record as bytes.
    ///
    /// # Errors
    /// XX000 when a run ends before it begins.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(64);
        out.push(VERSION);
        match self {
            JournalRecord::Step(step) => {
                out.push(STEP);
                step.encode(&mut out)?;
            }
            JournalRecord::Control(control) => {
                out.push(CONTROL);
                put_number(&mut out, control.epoch.0);
                put_bytes(&mut out, control.change.to_string().as_bytes());
            }
        }
        Ok(out)
    }

    /// The record that [`JournalRecord::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<JournalRecord> {
        let mut decoder = Decoder::new(bytes, "journal record");
        if decoder.byte()? != VERSION {
            return Err(decoder.wrong("was written by another version"));
        }
        let record = match decoder.byte()? {
            STEP => JournalRecord::Step(StepRecord::decode(&mut decoder)?),
            CONTROL => {
                let epoch = Epoch(decoder.number()?);
                let change = serde_json::from_slice(decoder.bytes()?)
                    .map_err(|e| decoder.wrong(&format!("is not JSON: {e}")))?;
                JournalRecord::Control(ControlRecord { epoch, change })
            }
            _ => return Err(decoder.wrong("is of an unknown kind")),
        };
        decoder.finish()?;
        Ok(record)
    }
}

impl StepRecord {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        put_number(out, self.epoch.0);
        put_signed(out, self.clock_micros);
        put_count(out, self.runs.len());
        for run in &self.runs {
            let length = run.to.0.checked_sub(run.from.0).ok_or_else(|| {
                Error::internal(format!(
                    "a run ends at {} before its start {}",
                    run.to, run.from
                ))
            })?;
            put_partition(out, run.source, run.partition);
            put_number(out, run.from.0);
            put_number(out, length);
            put_number(out, run.rows);
            out.extend_from_slice(&run.checksum.to_le_bytes());
        }
        put_count(out, self.events.len());
        for event in &self.events {
            let (kind, source, partition, from) = match *event {
                Event::Idle { source, partition } => (IDLE, source, partition, None),
                Event::Active { source, partition } => (ACTIVE, source, partition, None),
                Event::Found {
                    source,
                    partition,
                    from,
                } => (FOUND, source, partition, Some(from)),
            };
            out.push(kind);
            put_partition(out, source, partition);
            if let Some(from) = from {
                put_number(out, from.0);
            }
        }
        put_count(out, self.watermarks.len());
        for watermark in &self.watermarks {
            put_partition(out, watermark.source, watermark.partition);
            put_signed(out, watermark.time.0);
        }
        put_count(out, self.writes.len());
        for write in &self.writes {
            put_number(out, write.table.0);
            put_bytes(out, &write.payload);
        }
        Ok(())
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<StepRecord> {
        let epoch = Epoch(decoder.number()?);
        let clock_micros = decoder.signed()?;
        let mut step = StepRecord {
            epoch,
            clock_micros,
            ..StepRecord::default()
        };
        for _ in 0..decoder.count()? {
            step.runs.push(decode_run(decoder)?);
        }
        for _ in 0..decoder.count()? {
            let kind = decoder.byte()?;
            let (source, partition) = partition(decoder)?;
            step.events.push(match kind {
                IDLE => Event::Idle { source, partition },
                ACTIVE => Event::Active { source, partition },
                FOUND => Event::Found {
                    source,
                    partition,
                    from: Offset(decoder.number()?),
                },
                _ => return Err(decoder.wrong("has an unknown event")),
            });
        }
        for _ in 0..decoder.count()? {
            let (source, partition) = partition(decoder)?;
            let time = EventTime(decoder.signed()?);
            step.watermarks.push(Watermark {
                source,
                partition,
                time,
            });
        }
        for _ in 0..decoder.count()? {
            let table = ObjectId(decoder.number()?);
            let payload = decoder.bytes()?.to_vec();
            step.writes.push(TableWrite { table, payload });
        }
        Ok(step)
    }
}

fn decode_run(decoder: &mut Decoder<'_>) -> Result<Run> {
    let (source, partition) = partition(decoder)?;
    let from = decoder.number()?;
    let to = decoder.number()?.checked_add(from);
    let to = to.ok_or_else(|| decoder.wrong("has a run without an end"))?;
    let rows = decoder.number()?;
    let mut checksum = [0; 8];
    for byte in &mut checksum {
        *byte = decoder.byte()?;
    }
    let checksum = u64::from_le_bytes(checksum);
    Ok(Run {
        source,
        partition,
        from: Offset(from),
        to: Offset(to),
        rows,
        checksum,
    })
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_number(out, crate::storage::file::size(count));
}

fn put_partition(out: &mut Vec<u8>, source: ObjectId, partition: PartitionId) {
    put_number(out, source.0);
    put_number(out, u64::from(partition.0));
}

fn partition(decoder: &mut Decoder<'_>) -> Result<(ObjectId, PartitionId)> {
    Ok((
        ObjectId(decoder.number()?),
        PartitionId(decoder.number32()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> StepRecord {
        let (source, partition) = (ObjectId(7), PartitionId(3));
        StepRecord {
            epoch: Epoch(u64::MAX),
            clock_micros: -1,
            runs: vec![
                Run {
                    source,
                    partition,
                    from: Offset(5),
                    to: Offset(9),
                    rows: 3,
                    checksum: u64::MAX,
                },
                Run {
                    source,
                    partition,
                    from: Offset(9),
                    to: Offset(9),
                    rows: 0,
                    checksum: 0,
                },
            ],
            events: vec![
                Event::Idle { source, partition },
                Event::Active {
                    source,
                    partition: PartitionId(u32::MAX),
                },
                Event::Found {
                    source,
                    partition,
                    from: Offset(u64::MAX),
                },
            ],
            watermarks: vec![
                Watermark {
                    source,
                    partition,
                    time: EventTime::MIN,
                },
                Watermark {
                    source,
                    partition,
                    time: EventTime::MAX,
                },
            ],
            writes: vec![TableWrite {
                table: ObjectId(9),
                payload: vec![1, 2, 3],
            }],
        }
    }

    #[test]
    fn records_come_back() {
        let change = serde_json::json!({"join": {"view": 12}, "n": [1, 2.5, null]});
        for record in [
            JournalRecord::Step(step()),
            JournalRecord::Step(StepRecord::default()),
            JournalRecord::Control(ControlRecord {
                epoch: Epoch(3),
                change,
            }),
        ] {
            let bytes = record.encode().unwrap();
            assert_eq!(JournalRecord::decode(&bytes).unwrap(), record);
            for cut in 0..bytes.len() {
                assert!(JournalRecord::decode(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_run_that_ends_before_it_begins_is_refused() {
        let mut step = step();
        step.runs[0].to = Offset(1);
        assert!(JournalRecord::Step(step).encode().is_err());
    }
}
