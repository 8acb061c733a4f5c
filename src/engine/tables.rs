//! Relations that an ad-hoc SELECT can scan: views, tables and sources at one epoch.
//!
//! All relations of a statement share a [`Reads`]: planning notes which ones are named, then one
//! [`Reads::pin`] takes their snapshots together, and only then are they scanned. A source's rows
//! are not kept: it is read again, up to where the steps up to that epoch have read it. One that
//! others write and no view reads is in no step; it is read to the ends that it has when the
//! statement first reads it, however often the statement names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session as PlanningSession, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::base::limits::{CHUNK_ROWS_MAX, READER_POLL};
use crate::base::{Clock, Epoch, ObjectId, Offset, PartitionId};
use crate::catalog::{Object, ObjectKind};
use crate::connector::{Polled, ReadRange};
use crate::dataflow::{Published, SourceSpec, another_topic, tightened, usable};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::error::{Error, Result};
use crate::view::{Identity, Snapshot};

/// What one statement reads, all of it at one epoch.
pub struct Reads {
    published: Arc<Published>,
    wanted: Mutex<Wanted>,
    pin: OnceLock<Pin>,
    ends: AllEnds,
    /// The transaction's own writes, not yet committed.
    own: BTreeMap<ObjectId, DeltaBatch>,
}

/// What planning has named.
#[derive(Default)]
struct Wanted {
    relations: BTreeSet<ObjectId>,
    sources: BTreeSet<ObjectId>,
}

/// For each partition the offset up to which a source is read.
type Positions = BTreeMap<PartitionId, Offset>;

/// Where the partitions of a source end that no step reads: asked for once, by who scans first.
/// The lock is held while the broker answers, so that a second scan waits for the same answer.
#[derive(Debug, Default)]
struct Ends(Mutex<Option<Positions>>);

/// Those of all sources that somebody has named, with a statement or with a transaction that reads
/// one epoch.
#[derive(Clone, Debug, Default)]
struct AllEnds(Arc<Mutex<BTreeMap<ObjectId, Arc<Ends>>>>);

impl AllEnds {
    fn of(&self, id: ObjectId) -> Arc<Ends> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(id).or_default().clone()
    }
}

impl Ends {
    fn get(&self, spec: &SourceSpec) -> Result<Positions> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ends) = known.as_ref() {
            return Ok(ends.clone());
        }
        let partitions = spec.connector.partitions()?;
        let bounds = spec.connector.bounds(&partitions)?;
        let ends = partitions.into_iter().zip(bounds);
        let ends: Positions = ends.map(|(partition, b)| (partition, b.end)).collect();
        *known = Some(ends.clone());
        Ok(ends)
    }
}

/// Snapshots, and positions of sources, at an epoch.
#[derive(Clone, Debug)]
pub struct Pin {
    pub epoch: Epoch,
    pub snapshots: BTreeMap<ObjectId, Snapshot>,
    positions: BTreeMap<ObjectId, Positions>,
    ends: AllEnds,
}

impl Pin {
    /// The relations and sources as they are now.
    pub fn take(published: &Published, ids: &[ObjectId], sources: &[ObjectId]) -> Result<Pin> {
        let frame = published.frame(ids, sources)?;
        Ok(Pin {
            epoch: frame.epoch,
            snapshots: ids.iter().copied().zip(frame.snapshots).collect(),
            positions: frame.positions,
            ends: AllEnds::default(),
        })
    }
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reads({:?})", self.pin.get().map(|pin| pin.epoch))
    }
}

impl Reads {
    /// Reads of a statement; `pin`: the snapshots of a transaction that reads one epoch throughout.
    pub fn new(
        published: Arc<Published>,
        pin: Option<Pin>,
        own: BTreeMap<ObjectId, DeltaBatch>,
    ) -> Arc<Reads> {
        let ends = pin.as_ref().map(|pin| pin.ends.clone());
        let cell = OnceLock::new();
        if let Some(pin) = pin {
            let _ = cell.set(pin);
        }
        Arc::new(Reads {
            published,
            wanted: Mutex::default(),
            pin: cell,
            ends: ends.unwrap_or_default(),
            own,
        })
    }

    fn want(&self, id: ObjectId) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.relations.insert(id);
    }

    fn want_source(&self, id: ObjectId) -> Arc<Ends> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.sources.insert(id);
        self.ends.of(id)
    }

    /// How far a source is read; `None` where no step reads it.
    fn positions(&self, id: ObjectId) -> Result<Option<Positions>> {
        let pin = self.pin.get();
        let pin = pin.ok_or_else(|| Error::internal("a scan before its snapshot"))?;
        Ok(pin.positions.get(&id).cloned())
    }

    /// Takes the snapshots of everything that planning named, at one epoch.
    pub fn pin(&self) -> Result<Epoch> {
        if let Some(pin) = self.pin.get() {
            return Ok(pin.epoch);
        }
        let (ids, sources): (Vec<ObjectId>, Vec<ObjectId>) = {
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let relations = wanted.relations.iter().copied().collect();
            (relations, wanted.sources.iter().copied().collect())
        };
        let pin = Pin::take(&self.published, &ids, &sources)?;
        let epoch = pin.epoch;
        let _ = self.pin.set(pin);
        Ok(epoch)
    }

    fn snapshot(&self, id: ObjectId) -> Result<(Epoch, Snapshot)> {
        let pin = self
            .pin
            .get()
            .ok_or_else(|| Error::internal("a scan before its snapshot"))?;
        let snapshot = pin.snapshots.get(&id).ok_or_else(|| {
            Error::new(
                crate::error::SqlState::SERIALIZATION_FAILURE,
                "the relation was created after the transaction's snapshot was taken",
            )
            .hint("commit and read it in a new transaction")
        })?;
        Ok((pin.epoch, snapshot.clone()))
    }
}

/// A view's or table's rows.
#[derive(Debug)]
pub struct RowsTable {
    object: Arc<Object>,
    identity: Identity,
    reads: Arc<Reads>,
}

impl RowsTable {
    pub fn new(object: Arc<Object>, identity: Identity, reads: Arc<Reads>) -> Self {
        reads.want(object.id());
        RowsTable {
            object,
            identity,
            reads,
        }
    }

    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// The values of the whole key, if the filters give every column one.
    fn key_values(&self, filters: &[Expr]) -> Option<Vec<ArrayRef>> {
        let Identity::Key(key) = &self.identity else {
            return None;
        };
        if key.is_empty() {
            return None;
        }
        let schema = &self.object.relation.schema;
        key.iter()
            .map(|&column| {
                let field = schema.field(column);
                let value = filters
                    .iter()
                    .find_map(|filter| equated(filter, field.name()))?;
                let array = value.to_array().ok()?;
                let value = cast(&array, field.data_type()).ok()?;
                (value.null_count() == 0).then_some(value)
            })
            .collect()
    }

    /// The rows with the transaction's own changes.
    fn overlaid(&self, snapshot: &Snapshot, own: &DeltaBatch) -> Result<RecordBatch> {
        let mut parts = snapshot.deltas().collect::<Result<Vec<_>>>()?;
        parts.push(own.clone());
        let sum = consolidate(&concat(&self.object.relation.schema, &parts)?)?;
        repeat(&sum)
    }
}

/// What INSERT puts into a column that it does not name.
fn column_default<'a>(object: &'a Object, column: &str) -> Option<&'a Expr> {
    let relation = &object.relation;
    let place = relation.schema.index_of(column).ok()?;
    relation.defaults.get(place)?.as_ref()
}

/// Rows as often as their weights say.
pub fn repeat(delta: &DeltaBatch) -> Result<RecordBatch> {
    let indices = (0..delta.len()).flat_map(|row| {
        let times = usize::try_from(delta.weights().get(row)).unwrap_or(0);
        let row = u32::try_from(row).expect("a batch has fewer than 2^32 rows");
        std::iter::repeat_n(row, times)
    });
    let indices = arrow::array::UInt32Array::from_iter_values(indices);
    Ok(delta.take(&indices)?.rows().clone())
}

/// The constant that a filter of the form `column = constant` names.
fn equated<'a>(filter: &'a Expr, name: &str) -> Option<&'a datafusion::scalar::ScalarValue> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = filter
    else {
        return None;
    };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _))
        | (Expr::Literal(value, _), Expr::Column(column))
            if column.name == name =>
        {
            Some(value)
        }
        _ => None,
    }
}

#[async_trait::async_trait]
impl TableProvider for RowsTable {
    fn schema(&self) -> SchemaRef {
        self.object.relation.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        column_default(&self.object, column)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        // A lookup by key uses them; DataFusion filters again, so nothing depends on it.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn PlanningSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let id = self.object.id();
        let schema = self.schema();
        let (epoch, snapshot) = self.reads.snapshot(id).map_err(external)?;
        let batch = match (self.reads.own.get(&id), self.key_values(filters)) {
            (Some(own), _) => Some(self.overlaid(&snapshot, own).map_err(external)?),
            (None, Some(keys)) => self
                .reads
                .published
                .lookup(id, epoch, &keys)
                .map_err(external)?,
            (None, None) => None,
        };
        if let Some(batch) = batch {
            let batch = batch.with_schema(schema.clone())?;
            let plan =
                MemorySourceConfig::try_new_exec(&[vec![batch]], schema, projection.cloned())?;
            return Ok(plan);
        }
        let columns: Vec<usize> = match projection {
            Some(projection) => projection.clone(),
            None => (0..schema.fields().len()).collect(),
        };
        let schema = Arc::new(schema.project(&columns)?);
        let part = SnapshotScan {
            snapshot,
            columns,
            schema: schema.clone(),
        };
        let plan =
            StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// Streams the parts of a snapshot, built one at a time.
#[derive(Debug)]
struct SnapshotScan {
    snapshot: Snapshot,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl PartitionStream for SnapshotScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (snapshot, columns) = (self.snapshot.clone(), self.columns.clone());
        let schema = self.schema.clone();
        let parts = (0..snapshot.parts()).map(move |part| {
            let rows = snapshot.part(part, &columns).map_err(external)?;
            Ok(rows.with_schema(schema.clone())?)
        });
        let stream = futures::stream::iter(parts);
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream))
    }
}

/// A source read from its start to where it is at the statement's epoch.
#[derive(Debug)]
pub struct SourceTable {
    object: Arc<Object>,
    spec: Arc<SourceSpec>,
    reads: Arc<Reads>,
    ends: Arc<Ends>,
}

impl SourceTable {
    pub fn new(object: Arc<Object>, spec: Arc<SourceSpec>, reads: Arc<Reads>) -> Self {
        debug_assert_eq!(object.kind(), ObjectKind::Source);
        let ends = reads.want_source(object.id());
        SourceTable {
            object,
            spec,
            reads,
            ends,
        }
    }
}

#[async_trait::async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        self.object.relation.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        column_default(&self.object, column)
    }

    async fn scan(
        &self,
        _state: &dyn PlanningSession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = match projection {
            Some(projection) => projection.clone(),
            None => (0..self.schema().fields().len()).collect(),
        };
        let schema = Arc::new(self.schema().project(&columns)?);
        let positions = self.reads.positions(self.object.id()).map_err(external)?;
        let part = SourceScan {
            spec: self.spec.clone(),
            positions,
            ends: self.ends.clone(),
            columns,
            schema: schema.clone(),
            limit,
        };
        let plan =
            StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

#[derive(Debug)]
struct SourceScan {
    spec: Arc<SourceSpec>,
    positions: Option<Positions>,
    ends: Arc<Ends>,
    columns: Vec<usize>,
    schema: SchemaRef,
    limit: Option<usize>,
}

impl PartitionStream for SourceScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        // Two batches ahead: the reader waits while the client is slow.
        let mut builder = RecordBatchReceiverStream::builder(self.schema.clone(), 2);
        let sender = builder.tx();
        let (spec, columns) = (self.spec.clone(), self.columns.clone());
        let limit = self.limit;
        let (positions, ends) = (self.positions.clone(), self.ends.clone());
        builder.spawn_blocking(move || {
            let send = |batch: RecordBatch| sender.blocking_send(Ok(batch)).is_ok();
            let read = || {
                if let Some(error) = another_topic(&spec)? {
                    return Err(error);
                }
                let until = match positions {
                    Some(positions) => positions,
                    None => ends.get(&spec)?,
                };
                read_source(&spec, &columns, until, limit, &send)
            };
            read().map_err(external)
        });
        builder.build()
    }
}

/// Reads a source from its start to the positions; ends early when `send` says so.
fn read_source(
    spec: &SourceSpec,
    columns: &[usize],
    until: Positions,
    limit: Option<usize>,
    send: &dyn Fn(RecordBatch) -> bool,
) -> Result<()> {
    let partitions: Vec<PartitionId> = until.keys().copied().collect();
    let bounds = spec.connector.bounds(&partitions)?;
    let mut ranges = Vec::new();
    for ((partition, until), bounds) in until.into_iter().zip(bounds) {
        // What the broker has lost since is not waited for.
        let until = until.min(bounds.end);
        let from = spec
            .startup
            .get(&partition)
            .copied()
            .unwrap_or(bounds.start)
            .max(bounds.start);
        let range = ReadRange {
            until: Some(until),
            ..ReadRange::tail(partition, from)
        };
        if from < until {
            ranges.push(range);
        }
    }
    if ranges.is_empty() {
        return Ok(());
    }
    let mut open = ranges.len();
    let mut state = crate::dataflow::SourceState::new(spec.clone(), columns.to_vec())?;
    let mut reader = spec.connector.reader(ranges, &state.decoded())?;
    let mut rows = 0;
    // The processing time of rows that are read now.
    let now = Clock::system().now_micros();
    while open > 0 && limit.is_none_or(|limit| rows < limit) {
        match reader.poll(READER_POLL)? {
            Polled::Chunk(chunk) => {
                let chunk = state.without_ahead(&chunk, now)?.unwrap_or(chunk);
                let taken = state.take(&chunk, now)?;
                let delta = usable(taken.delta, &taken.bad_cells, state.wanted())?;
                let batch = tightened(delta.rows(), state.schema())?;
                for start in (0..batch.num_rows()).step_by(CHUNK_ROWS_MAX) {
                    let length = CHUNK_ROWS_MAX.min(batch.num_rows() - start);
                    rows += length;
                    if !send(batch.slice(start, length)) {
                        return Ok(());
                    }
                }
            }
            Polled::Finished(_) => open -= 1,
            Polled::AtEnd(..) | Polled::Interrupted | Polled::Nothing => {
                // Whoever reads may have gone while nothing comes.
                if !send(RecordBatch::new_empty(state.schema().clone())) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
