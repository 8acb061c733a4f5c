//! What a journal record says, and its bytes.
//!
//! ```text
//! version u8 | kind u8 (0 step) | epoch | clock
//!   | runs: n, (source partition from length rows checksum) each
//!   | events: n, (kind u8, source partition, of new partitions from) each
//!   | 0
//!   | writes: n, (table, batch bytes) each
//! ```
//! Numbers are of variable length (`codec.rs`): a step of one run takes about thirty bytes. There
//! is one kind of record; the 0 keeps the place of a list that no step has.

use crate::base::{Epoch, ObjectId, Offset, PartitionId};
use crate::error::{Error, Result};
use crate::storage::codec::{Decoder, put_bytes, put_number, put_signed};

const VERSION: u8 = 1;
const STEP: u8 = 0;
const IDLE: u8 = 0;
const ACTIVE: u8 = 1;
const FOUND: u8 = 2;

/// Everything that step `epoch` took in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepRecord {
    pub epoch: Epoch,
    /// The step's clock, microseconds since 1970.
    pub clock_micros: i64,
    /// In the order in which the step took them.
    pub runs: Vec<Run>,
    pub events: Vec<Event>,
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

impl StepRecord {
    /// The record as bytes.
    ///
    /// # Errors
    /// XX000 when a run ends before it begins.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(64);
        out.push(VERSION);
        out.push(STEP);
        self.put(&mut out)?;
        Ok(out)
    }

    /// The record that [`StepRecord::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<StepRecord> {
        let mut decoder = Decoder::new(bytes, "journal record");
        if decoder.byte()? != VERSION {
            return Err(decoder.wrong("was written by another version"));
        }
        if decoder.byte()? != STEP {
            return Err(decoder.wrong("is of an unknown kind"));
        }
        let step = StepRecord::take(&mut decoder)?;
        decoder.finish()?;
        Ok(step)
    }

    fn put(&self, out: &mut Vec<u8>) -> Result<()> {
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
        put_count(out, 0);
        put_count(out, self.writes.len());
        for write in &self.writes {
            put_number(out, write.table.0);
            put_bytes(out, &write.payload);
        }
        Ok(())
    }

    fn take(decoder: &mut Decoder<'_>) -> Result<StepRecord> {
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
        if decoder.count()? != 0 {
            return Err(decoder.wrong("has a list that no step has"));
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
            writes: vec![TableWrite {
                table: ObjectId(9),
                payload: vec![1, 2, 3],
            }],
        }
    }

    #[test]
    fn records_come_back() {
        for record in [step(), StepRecord::default()] {
            let bytes = record.encode().unwrap();
            assert_eq!(StepRecord::decode(&bytes).unwrap(), record);
            for cut in 0..bytes.len() {
                assert!(StepRecord::decode(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_run_that_ends_before_it_begins_is_refused() {
        let mut step = step();
        step.runs[0].to = Offset(1);
        assert!(step.encode().is_err());
    }
}
