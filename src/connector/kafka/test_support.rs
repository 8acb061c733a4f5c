//! A decoder that is easy to predict, and ways to read a topic to its end, for this folder's tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::array::{ArrayRef, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::base::{Offset, PartitionId};
use crate::connector::kafka::{
    KafkaConfig, KafkaConnector, MetadataColumn, MetadataField, RowLayout,
};
use crate::connector::{Chunk, Polled, ReadRange, Reader, SourceConnector};
use crate::error::Result;
use crate::format::{BadValue, Decoder, OnError};

/// How long a test waits for something that must come; only a failure takes so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Payload `text=number` becomes (text, number); without an equals sign it is bad, and a number
/// that is none is a bad value.
struct PairDecoder {
    schema: SchemaRef,
    texts: Option<StringBuilder>,
    numbers: Option<Int64Builder>,
    rows: usize,
}

impl Decoder for PairDecoder {
    fn push(&mut self, payload: &[u8]) -> Result<Vec<BadValue>, String> {
        let text = str::from_utf8(payload).map_err(|_| "not UTF-8".to_string())?;
        let (text, number) = text.split_once('=').ok_or("no equals sign")?;
        let parsed: Option<i64> = number.parse().ok();
        let mut bad = Vec::new();
        if self.numbers.is_some() && parsed.is_none() {
            bad.push(BadValue {
                column: usize::from(self.texts.is_some()),
                reason: format!("column \"number\": \"{number}\" is not a bigint"),
            });
        }
        self.texts
            .iter_mut()
            .for_each(|texts| texts.append_value(text));
        self.numbers
            .iter_mut()
            .for_each(|numbers| numbers.append_option(parsed));
        self.rows += 1;
        Ok(bad)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        columns.extend(
            self.texts
                .as_mut()
                .map(|texts| Arc::new(texts.finish()) as ArrayRef),
        );
        columns.extend(
            self.numbers
                .as_mut()
                .map(|all| Arc::new(all.finish()) as ArrayRef),
        );
        let options =
            RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options).unwrap())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// text, number, then one column for each kind of metadata.
pub(super) fn layout() -> RowLayout {
    let fields = [
        MetadataField::Key,
        MetadataField::Partition,
        MetadataField::Offset,
        MetadataField::Timestamp,
        MetadataField::Headers,
    ];
    let mut columns = vec![
        Field::new("text", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
    ];
    let mut metadata = Vec::new();
    for (field, name) in fields.into_iter().zip(MetadataField::NAMES) {
        metadata.push(MetadataColumn {
            field,
            column: columns.len(),
        });
        let data_type = match field {
            MetadataField::Key => DataType::Utf8,
            _ => field.data_type(),
        };
        columns.push(Field::new(format!("k_{name}"), data_type, true));
    }
    let schema = Arc::new(Schema::new(columns));
    let payload_schema = Arc::clone(&schema);
    let decoder = move |wanted: &[usize]| -> Result<Box<dyn Decoder>> {
        assert!(
            wanted.iter().all(|column| *column < 2),
            "metadata is not the decoder's"
        );
        Ok(Box::new(PairDecoder {
            schema: Arc::new(payload_schema.project(wanted).unwrap()),
            texts: wanted.contains(&0).then(StringBuilder::new),
            numbers: wanted.contains(&1).then(Int64Builder::new),
            rows: 0,
        }))
    };
    RowLayout {
        schema,
        metadata,
        decoder: Arc::new(decoder),
        on_error: OnError::Skip,
    }
}

pub(super) fn connector(config: KafkaConfig) -> KafkaConnector {
    KafkaConnector::new(config, layout()).unwrap()
}

/// A name that no other test and no other run uses.
pub(super) fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{name}-{}-{}-{number}",
        std::process::id(),
        nanos.as_nanos()
    )
}

/// Polls until something comes, errors that may pass included.
pub(super) fn next(reader: &mut dyn Reader) -> Polled {
    let begun = Instant::now();
    loop {
        assert!(
            begun.elapsed() < PATIENCE,
            "nothing came within {PATIENCE:?}"
        );
        match reader.poll(Duration::from_secs(1)) {
            Ok(Polled::Nothing) => {}
            Ok(polled) => return polled,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}

/// What a reader has reported.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) chunks: Vec<Chunk>,
    pub(super) at_end: BTreeMap<PartitionId, Offset>,
    pub(super) finished: Vec<PartitionId>,
}

impl Seen {
    /// Reads until as many partitions have come to their end or their `until`.
    pub(super) fn read(reader: &mut dyn Reader, partitions: usize) -> Seen {
        let mut seen = Seen::default();
        while seen.at_end.len() + seen.finished.len() < partitions {
            seen.take(next(reader));
        }
        seen.check_continuity();
        seen
    }

    pub(super) fn take(&mut self, polled: Polled) {
        match polled {
            Polled::Chunk(chunk) => self.chunks.push(chunk),
            Polled::AtEnd(partition, offset) => {
                self.at_end.insert(partition, offset);
            }
            Polled::Finished(partition) => self.finished.push(partition),
            Polled::Interrupted | Polled::Nothing => {}
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.rows.num_rows()).sum()
    }

    pub(super) fn bad(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bad.len()).sum()
    }

    /// The rows with bad values: offset, columns, and what is wrong with the first of them.
    pub(super) fn bad_rows(&self) -> Vec<(u64, Vec<usize>, String)> {
        let shown = |chunk: &Chunk| {
            let rows = chunk.bad_rows.iter().map(|bad| {
                let columns = bad.values.iter().map(|(column, _)| *column).collect();
                (chunk.offset_of(bad.row).0, columns, bad.values[0].1.clone())
            });
            rows.collect::<Vec<_>>()
        };
        self.chunks.iter().flat_map(shown).collect()
    }

    pub(super) fn skipped(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.skipped).sum()
    }

    /// The chunks' ends, as `[0,3)[3,5)`.
    pub(super) fn cuts(&self) -> String {
        self.chunks
            .iter()
            .map(|chunk| format!("[{},{})", chunk.from, chunk.to))
            .collect()
    }

    /// The column `number`, in the order of arrival.
    pub(super) fn numbers(&self) -> Vec<i64> {
        let mut all = Vec::new();
        for chunk in &self.chunks {
            let column = chunk.rows.column_by_name("number").unwrap();
            all.extend(column.as_primitive::<Int64Type>().iter().flatten());
        }
        all
    }

    /// The checksum of everything read of a partition.
    pub(super) fn checksum(&self, partition: PartitionId) -> (u32, usize) {
        let mine = self
            .chunks
            .iter()
            .filter(|chunk| chunk.partition == partition);
        mine.fold((0, 0), |sum, chunk| {
            crate::connector::checksum::combine(sum, (chunk.checksum, chunk.bytes))
        })
    }

    fn check_continuity(&self) {
        let mut next: BTreeMap<PartitionId, Offset> = BTreeMap::new();
        for chunk in &self.chunks {
            assert!(chunk.from < chunk.to, "an empty chunk covers something");
            if let Some(expected) = next.insert(chunk.partition, chunk.to) {
                assert_eq!(expected, chunk.from, "partition {}", chunk.partition);
            }
        }
    }
}

/// A reader of every partition from the beginning, with every column.
pub(super) fn read_all(connector: &KafkaConnector) -> Seen {
    let partitions = connector.partitions().unwrap();
    let starts = connector.startup(&partitions).unwrap();
    let ranges = partitions
        .iter()
        .zip(starts)
        .map(|(id, from)| ReadRange::tail(*id, from));
    let mut reader = connector
        .reader(ranges.collect(), &[0, 1, 2, 3, 4, 5, 6])
        .unwrap();
    Seen::read(&mut *reader, partitions.len())
}

/// Polls until the reader fails for good.
pub(super) fn failure(reader: &mut dyn Reader) -> crate::error::Error {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "no error within {PATIENCE:?}");
        match reader.poll(Duration::from_secs(1)) {
            Err(error) if !error.is_retryable() => return error,
            Ok(Polled::Chunk(chunk)) => panic!("read {} to {}", chunk.from, chunk.to),
            Ok(_) | Err(_) => {}
        }
    }
}
