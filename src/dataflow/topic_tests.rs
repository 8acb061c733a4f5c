//! The step engine over a topic that a test can change: replays that read something else, topics
//! made anew, partitions that are added, a broker that is away, readers that panic.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::common::{ScalarValue, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use tokio::sync::oneshot;

use crate::base::limits::HISTORY_BYTES_MAX;
use crate::base::{Clock, Epoch, Memory, ObjectId, Offset, PartitionId};
use crate::catalog::{Object, ObjectKind, Relation};
use crate::connector::{BadRow, Bounds, Chunk, Polled, ReadRange, Reader, SourceConnector};
use crate::dataflow::oracle::answer::parsed;
use crate::dataflow::oracle::relation::{World, definition, planned_table};
use crate::dataflow::{
    Command, NewView, Objects, Phase, Progress, RecoveredView, Runtime, RuntimeOptions, Sight,
    SourceSpec, SourceStatus, Startup, TableSpec, Write,
};
use crate::delta::{DeltaBatch, Weights};
use crate::error::{Error, Result, SqlState};
use crate::plan::{Planner, StreamPlan, ViewOptions, plan_view};
use crate::storage::DataDirectory;
use crate::view::{Identity, SnapshotLimits};

/// How long a test waits for what must come; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

const VIEW: ObjectId = ObjectId(1_000);

/// Records of `s`: the column `a` and the second of its time; `None` is one with a bad `a`.
type Records = Vec<Option<i64>>;

#[derive(Default)]
struct Content {
    partitions: Vec<Records>,
    identity: &'static str,
    /// How often its identity was asked for.
    looks: usize,
    is_away: bool,
    /// Questions while it was away.
    refused: usize,
    /// The broker answers and does not know the topic.
    is_unknown: bool,
    /// Reading panics.
    has_panic: bool,
    /// Reading gives nothing.
    is_stalled: bool,
    /// The positions that were committed last.
    committed: Vec<(PartitionId, Offset)>,
    /// Closing a reader does not come to its end.
    holds_readers: bool,
    /// Records in a chunk at most.
    chunk: usize,
}

/// A topic in memory.
#[derive(Clone)]
struct Topic {
    schema: SchemaRef,
    content: Arc<Mutex<Content>>,
}

impl Topic {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    fn write(&self, partition: usize, values: impl IntoIterator<Item = i64>) {
        let values = values.into_iter().map(Some);
        self.lock().partitions[partition].extend(values);
    }

    fn asked<T>(&self, answer: impl FnOnce(&Content) -> T) -> Result<T> {
        let mut content = self.lock();
        if content.is_away {
            content.refused += 1;
            return Err(away());
        }
        match content.is_unknown {
            true => Err(unknown()),
            false => Ok(answer(&content)),
        }
    }
}

fn away() -> Error {
    Error::new(SqlState::CONNECTION_FAILURE, "no broker answers").retryable()
}

fn unknown() -> Error {
    Error::new(SqlState::UNDEFINED_OBJECT, "there is no such topic")
}

impl SourceConnector for Topic {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        let count = |content: &Content| u32::try_from(content.partitions.len()).unwrap();
        Ok((0..self.asked(count)?).map(PartitionId).collect())
    }

    fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        let end = |content: &Content, id: &PartitionId| {
            Offset(content.partitions[id.0 as usize].len() as u64)
        };
        self.asked(|content| {
            let bounds = partitions.iter().map(|id| Bounds {
                start: Offset(0),
                end: end(content, id),
            });
            bounds.collect()
        })
    }

    fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        Ok(vec![Offset(0); partitions.len()])
    }

    fn reader(&self, ranges: Vec<ReadRange>, columns: &[usize]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(TopicReader {
            topic: self.clone(),
            columns: columns.to_vec(),
            ranges: ranges.into(),
            said: BTreeMap::new(),
        }))
    }

    fn has_group(&self) -> bool {
        true
    }

    fn commit(&self, positions: &[(PartitionId, Offset)]) -> Result<()> {
        self.lock().committed = positions.to_vec();
        Ok(())
    }

    fn identity(&self) -> Result<Option<String>> {
        self.lock().looks += 1;
        self.asked(|content| Some(content.identity.to_string()))
    }
}

struct TopicReader {
    topic: Topic,
    columns: Vec<usize>,
    ranges: VecDeque<ReadRange>,
    /// The ends that were reported.
    said: BTreeMap<PartitionId, Offset>,
}

impl Reader for TopicReader {
    fn poll(&mut self, _timeout: Duration) -> Result<Polled> {
        for _ in 0..self.ranges.len() {
            let mut range = self.ranges.pop_front().expect("counted");
            let polled = self.advance(&mut range);
            if !matches!(polled, Ok(Polled::Finished(_))) {
                self.ranges.push_back(range);
            }
            match polled? {
                Polled::Nothing => {}
                polled => return Ok(polled),
            }
        }
        std::thread::yield_now();
        Ok(Polled::Nothing)
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(self.topic.schema.project(&self.columns).unwrap())
    }
}

impl Drop for TopicReader {
    fn drop(&mut self) {
        while self.topic.lock().holds_readers {
            std::thread::yield_now();
        }
    }
}

impl TopicReader {
    fn advance(&mut self, range: &mut ReadRange) -> Result<Polled> {
        let content = self.topic.lock();
        let (has_panic, is_unknown) = (content.has_panic, content.is_unknown);
        if content.is_away {
            // An end is told once, and again after trouble.
            self.said.clear();
            return Err(away());
        }
        if is_unknown {
            return Err(unknown());
        }
        if content.is_stalled {
            return Ok(Polled::Nothing);
        }
        if has_panic {
            drop(content);
            panic!("the reader's panic");
        }
        if range.until.is_some_and(|until| range.from >= until) {
            return Ok(Polled::Finished(range.partition));
        }
        let records = &content.partitions[range.partition.0 as usize];
        range.boundaries.retain(|boundary| *boundary > range.from);
        let cut = range.boundaries.front().copied().or(range.until);
        let end = records.len() as u64;
        let to = Offset(end.min(range.from.0 + content.chunk as u64));
        let to = cut.map_or(to, |cut| to.min(cut));
        if to <= range.from {
            let is_new = self.said.insert(range.partition, range.from) != Some(range.from);
            return Ok(match is_new {
                true => Polled::AtEnd(range.partition, range.from),
                false => Polled::Nothing,
            });
        }
        let from = std::mem::replace(&mut range.from, to);
        let records = &records[from.0 as usize..to.0 as usize];
        Ok(Polled::Chunk(self.chunk(range.partition, from, records)))
    }

    fn chunk(&self, partition: PartitionId, from: Offset, records: &[Option<i64>]) -> Chunk {
        let schema = self.schema();
        let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
            match field.name().as_str() {
                "a" => Arc::new(Int64Array::from(records.to_vec())),
                "ts" => {
                    let seconds = records.iter().map(|value| value.unwrap_or(0) * 1_000_000);
                    let times = TimestampMicrosecondArray::from_iter_values(seconds);
                    Arc::new(times.with_data_type(field.data_type().clone()))
                }
                _ => new_null_array(field.data_type(), records.len()),
            }
        };
        let columns = schema.fields().iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
        let reads_a = self.columns.contains(&0);
        let bad = (0..)
            .zip(records)
            .filter(|(_, value)| reads_a && value.is_none());
        let bad_rows = bad.map(|(row, _)| BadRow {
            row,
            raw: b"raw".to_vec(),
            values: vec![(0, "column \"a\": bad".to_string())],
        });
        let mut hasher = crc32fast::Hasher::new();
        for record in records {
            hasher.update(&record.unwrap_or(i64::MIN).to_le_bytes());
        }
        Chunk {
            partition,
            from,
            to: Offset(from.0 + records.len() as u64),
            rows: RecordBatch::try_new_with_options(schema, columns, &options).unwrap(),
            jumps: Vec::new(),
            weights: None,
            bad: Vec::new(),
            bad_rows: bad_rows.collect(),
            skipped: 0,
            checksum: hasher.finalize(),
            bytes: records.len() * 8,
            arrived_micros: 0,
        }
    }
}

/// A server's worth of step engine over one topic.
struct Bench {
    // The first to go: it writes to the directory.
    runtime: Option<Runtime>,
    world: World,
    directory: tempfile::TempDir,
    topic: Topic,
    source: ObjectId,
    views: Vec<(ObjectId, StreamPlan)>,
    watch_interval_micros: i64,
    /// How the column `a` is made, if it is generated.
    computed: Option<Arc<dyn PhysicalExpr>>,
    idle_timeout_micros: i64,
}

impl Bench {
    fn new() -> Bench {
        let world = World::new();
        let relation = &world.relations[world.relation("s")];
        let content = Content {
            partitions: vec![Vec::new()],
            identity: "first",
            looks: 0,
            chunk: 100,
            ..Content::default()
        };
        let topic = Topic {
            schema: relation.schema.clone(),
            content: Arc::new(Mutex::new(content)),
        };
        Bench {
            source: relation.id,
            directory: tempfile::tempdir().unwrap(),
            topic,
            views: Vec::new(),
            watch_interval_micros: 1_000,
            computed: None,
            idle_timeout_micros: 0,
            runtime: None,
            world,
        }
    }

    /// Over two partitions, read by a view of windows, both idle.
    fn windowed() -> Bench {
        let mut bench = Bench::new();
        bench.idle_timeout_micros = 1_000;
        bench.topic.lock().partitions = vec![Vec::new(); 2];
        bench.topic.write(0, [1, 2]);
        bench.topic.write(1, [1, 2]);
        bench.start();
        let sql = "SELECT window_start, count(*) AS n \
            FROM TUMBLE(s, ts, INTERVAL '10 seconds') GROUP BY window_start, window_end";
        bench.create(VIEW, sql).unwrap();
        bench.until("both are idle", |bench| bench.idle() == 2);
        bench
    }

    /// How many partitions are idle.
    fn idle(&self) -> usize {
        let partitions = self.status().partitions;
        partitions.values().filter(|state| state.is_idle).count()
    }

    /// Writes a second of time far ahead to one partition, one less far to the other, and waits
    /// until they are read; none may be late.
    fn go_on(&self, second: i64) {
        self.topic.write(0, [2 * second]);
        self.topic.write(1, [second, second + 1]);
    }

    fn until_read(&self, records: u64) {
        let rows = |bench: &Bench| {
            let partitions = bench.status().partitions;
            partitions.values().map(|state| state.rows).sum::<u64>()
        };
        self.until("everything is read", |bench| rows(bench) == records);
        let (_, relations) = self.runtime().published().status();
        let view = relations.iter().find(|relation| relation.id == VIEW);
        assert_eq!(view.unwrap().statistics.counts.rows_late, 0);
    }

    fn spec(&self) -> SourceSpec {
        let relation = &self.world.relations[self.world.relation("s")];
        SourceSpec {
            connector: Arc::new(self.topic.clone()),
            startup: BTreeMap::from([(PartitionId(0), Offset(0))]),
            computed: {
                let mut computed = relation.source.clone().unwrap().computed;
                computed[0].clone_from(&self.computed);
                computed
            },
            idle_timeout_micros: self.idle_timeout_micros,
            is_embedded: false,
            identity: Some("first".to_string()),
            watch_interval_micros: self.watch_interval_micros,
            ..relation.source.clone().unwrap()
        }
    }

    fn table(&self) -> TableSpec {
        let relation = &self.world.relations[self.world.relation("u")];
        TableSpec {
            id: relation.id,
            name: "u".to_string(),
            schema: relation.schema.clone(),
            identity: Identity::Row,
            watermark: None,
        }
    }

    fn try_start(&mut self, startup: &Startup) -> Result<()> {
        let directory = DataDirectory::open(self.directory.path())?;
        let options = RuntimeOptions {
            workers: 2,
            clock: Clock::system(),
            // Only when a test asks for it.
            checkpoint_interval_micros: i64::MAX / 4,
            memory: Memory::accounted_only(usize::MAX),
            snapshots: SnapshotLimits {
                age: Duration::MAX,
                bytes: usize::MAX,
            },
        };
        let views = self.views.iter().map(|(id, plan)| RecoveredView {
            id: *id,
            name: "v".to_string(),
            plan: plan.clone(),
            progress: Arc::new(Progress::default()),
        });
        let objects = Objects {
            sources: vec![(self.spec(), Vec::new())],
            tables: vec![self.table()],
            views: views.collect(),
        };
        self.runtime = Some(Runtime::start(&directory, options, objects, startup)?);
        Ok(())
    }

    fn start(&mut self) {
        self.try_start(&Startup::default()).unwrap();
    }

    /// A stop without a checkpoint: what has come since the last one is replayed.
    fn restart(&mut self) {
        self.runtime = None;
        self.start();
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is started")
    }

    fn plan(&self, sql: &str) -> StreamPlan {
        let resolve = |reference: &TableReference| planned_table(&self.world.catalog, reference);
        let planner = Planner::new(&self.world.state, &resolve);
        let options = ViewOptions::default();
        plan_view(&planner, &parsed(sql), &[], &options).unwrap()
    }

    fn create(&mut self, id: ObjectId, sql: &str) -> Result<Epoch> {
        let plan = self.plan(sql);
        self.views.push((id, plan.clone()));
        let (done, answer) = oneshot::channel();
        let view = NewView {
            id,
            name: "v".to_string(),
            plan,
            progress: Arc::new(Progress::default()),
            checkpoints: None,
            done,
        };
        self.runtime().send(Command::AddView(Box::new(view)))?;
        answer.blocking_recv().unwrap()
    }

    /// A view above the first one: its `n` and one more.
    fn create_over_view(&mut self) -> ObjectId {
        let plan = &self.views[0].1;
        let relation = Relation {
            schema: plan.schema.clone(),
            key: plan.key.clone(),
            changelog: plan.changelog,
            bounded: plan.bounded.clone(),
            clocked: Vec::new(),
            event_time: None,
            defaults: Vec::new(),
        };
        self.world.catalog.put(Object {
            definition: definition(VIEW, "v", ObjectKind::MaterializedView),
            relation,
            depends_on: Vec::new(),
        });
        let id = ObjectId(1_001);
        self.create(id, "SELECT n + 1 AS n FROM v").unwrap();
        id
    }

    /// The first row of a view of bigints.
    fn row(&self, id: ObjectId) -> Result<Vec<i64>> {
        let (_, snapshots) = self.runtime().published().snapshots(&[id])?;
        let delta = snapshots[0].deltas().next().expect("it has a row")?;
        let value = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(0);
        Ok(delta.rows().columns().iter().map(value).collect())
    }

    fn until(&self, what: &str, is_so: impl Fn(&Bench) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            std::thread::yield_now();
        }
    }

    fn until_row(&self, id: ObjectId, expected: &[i64]) {
        let is_so = |bench: &Bench| bench.row(id).is_ok_and(|row| row == expected);
        self.until(&format!("{expected:?}, found {:?}", self.row(id)), is_so);
    }

    fn status(&self) -> SourceStatus {
        let mut status = self.runtime().published().sources().remove(0);
        let reader = status.reader.as_ref().map(|reader| reader.status());
        status.error = status.error.or(reader.and_then(|reader| reader.error));
        status
    }

    fn checkpoint(&self) {
        let (done, answer) = oneshot::channel();
        self.runtime().send(Command::Checkpoint { done }).unwrap();
        answer.blocking_recv().unwrap().unwrap();
    }

    /// A view that counts, over two records.
    fn counting() -> Bench {
        Bench::counting_watched(1_000)
    }

    fn counting_watched(interval_micros: i64) -> Bench {
        let mut bench = Bench::new();
        bench.watch_interval_micros = interval_micros;
        bench.start();
        bench.topic.write(0, [1, 2]);
        let sql = "SELECT count(*) AS n, max(a) AS m FROM s";
        bench.create(VIEW, sql).unwrap();
        assert_eq!(bench.row(VIEW).unwrap(), [2, 2]);
        bench
    }
}

#[test]
fn a_replay_may_be_cut_otherwise_and_must_read_the_same() {
    let mut bench = Bench::counting();
    bench.topic.write(0, 3..=50);
    bench.until_row(VIEW, &[50, 50]);
    bench.topic.lock().chunk = 7;
    bench.restart();
    assert_eq!(bench.row(VIEW).unwrap(), [50, 50]);

    // As many records, one of which is another.
    bench.topic.lock().partitions[0][20] = Some(7);
    bench.restart();
    let error = bench.row(VIEW).unwrap_err();
    assert_eq!(error.state(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    for part in [
        "source \"s\" does not read back as it did: partition 0",
        "another content",
    ] {
        assert!(error.message().contains(part), "{error}");
    }
}

#[test]
fn a_record_that_has_become_bad_is_another_content() {
    let mut bench = Bench::counting();
    bench.topic.write(0, 3..=9);
    bench.until_row(VIEW, &[9, 9]);
    bench.topic.lock().partitions[0][5] = None;
    bench.restart();
    let error = bench.row(VIEW).unwrap_err();
    assert!(error.message().contains("another content"), "{error}");
}

#[test]
fn a_topic_made_anew_is_not_read() {
    let mut bench = Bench::counting();
    // All that was read has been seen to be of this topic: the second look from here on began
    // after it was taken, and the third after the second was told of.
    let looks = bench.topic.lock().looks;
    bench.until("three more looks", |bench| {
        bench.topic.lock().looks >= looks + 3
    });
    bench.topic.lock().identity = "second";
    let is_told = |bench: &Bench| bench.status().error.is_some();
    bench.until("the source says why it is not read", is_told);
    let error = bench.status().error.unwrap();
    for part in ["\"s\" was deleted and made again", "second", "first"] {
        assert!(error.message().contains(part), "{error}");
    }
    // What was read stays to be read, also by the next process; nothing is added.
    bench.topic.write(0, [3]);
    assert_eq!(bench.row(VIEW).unwrap(), [2, 2]);
    bench.checkpoint();
    bench.restart();
    bench.until("and again after a restart", is_told);
    assert_eq!(bench.row(VIEW).unwrap(), [2, 2]);
    let sql = "SELECT count(*) AS n FROM s";
    let error = bench.create(ObjectId(1_001), sql).unwrap_err();
    assert!(error.message().contains("made again"), "{error}");
}

#[test]
fn views_that_may_hold_rows_of_two_topics_fail() {
    // Looked at once, before it is read.
    let bench = Bench::counting_watched(0);
    bench.topic.write(0, [3]);
    bench.until_row(VIEW, &[3, 3]);
    let error = Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "it is another");
    let command = Command::Seen {
        source: bench.source,
        sight: Sight::Another(error),
    };
    bench.runtime().send(command).unwrap();
    bench.until("the view has failed", |bench| bench.row(VIEW).is_err());
    let error = bench.row(VIEW).unwrap_err();
    assert!(error.message().contains("it is another"), "{error}");
    assert!(bench.status().error.is_some());
}

#[test]
fn a_topic_made_anew_is_not_replayed() {
    let mut bench = Bench::counting();
    bench.topic.write(0, [3]);
    bench.until_row(VIEW, &[3, 3]);
    bench.topic.lock().identity = "second";
    bench.restart();
    let error = bench.row(VIEW).unwrap_err();
    assert!(error.message().contains("made again"), "{error}");
}

#[test]
fn new_partitions_are_read_from_their_start_and_replayed() {
    let mut bench = Bench::counting();
    let before = bench.status().watermark;
    bench.topic.lock().partitions.push(vec![Some(1), Some(1)]);
    bench.until_row(VIEW, &[4, 2]);
    assert!(bench.status().watermark >= before, "time never goes back");
    bench.topic.write(1, [9]);
    bench.until_row(VIEW, &[5, 9]);
    bench.topic.write(0, [20]);
    bench.until_row(VIEW, &[6, 20]);
    let watermark = bench.status().watermark;
    bench.restart();
    assert_eq!(bench.row(VIEW).unwrap(), [6, 20]);
    assert_eq!(bench.status().watermark, watermark);
    // From a checkpoint, too; and a view that is made later reads them all.
    bench.checkpoint();
    bench.restart();
    bench.topic.write(1, [30]);
    bench.until_row(VIEW, &[7, 30]);
    let later = ObjectId(1_001);
    bench.create(later, "SELECT count(*) AS n FROM s").unwrap();
    assert_eq!(bench.row(later).unwrap(), [7]);
}

#[test]
fn a_start_waits_for_the_broker_that_a_replay_needs() {
    let mut bench = Bench::counting();
    bench.topic.write(0, [3]);
    bench.until_row(VIEW, &[3, 3]);
    bench.runtime = None;
    bench.topic.lock().is_away = true;
    let startup = Arc::new(Startup::default());
    let (topic, watched) = (bench.topic.clone(), startup.clone());
    let broker = std::thread::spawn(move || {
        let begun = Instant::now();
        while !matches!(watched.phase(), Phase::Waiting(_)) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", watched.phase());
            std::thread::yield_now();
        }
        let refusal = watched.refusal();
        topic.lock().is_away = false;
        refusal
    });
    bench.try_start(&startup).unwrap();
    let refusal = broker.join().unwrap();
    assert_eq!(refusal.state(), SqlState::CANNOT_CONNECT_NOW);
    let detail = "it waits for source \"s\": no broker answers";
    assert_eq!(refusal.get_detail(), Some(detail));
    assert_eq!(bench.row(VIEW).unwrap(), [3, 3]);

    // It can be told to stop meanwhile.
    bench.runtime = None;
    bench.topic.lock().is_away = true;
    let startup = Startup::default();
    startup.cancel();
    let error = bench.try_start(&startup).unwrap_err();
    assert_eq!(error.state(), SqlState::ADMIN_SHUTDOWN);
}

#[test]
fn a_start_without_a_replay_does_not_wait() {
    let mut bench = Bench::counting();
    bench.checkpoint();
    bench.runtime = None;
    bench.topic.lock().is_away = true;
    bench.start();
    assert_eq!(bench.row(VIEW).unwrap(), [2, 2]);
    let is_told = |bench: &Bench| bench.status().error == Some(away());
    bench.until("the source says what it waits for", is_told);
    bench.topic.write(0, [3]);
    bench.topic.lock().is_away = false;
    bench.until_row(VIEW, &[3, 3]);
}

#[test]
fn a_view_that_a_start_has_to_build_waits_for_the_broker() {
    let mut bench = Bench::new();
    bench.topic.write(0, [1, 2]);
    bench.topic.lock().is_away = true;
    let plan = bench.plan("SELECT count(*) AS n FROM s");
    bench.views.push((VIEW, plan));
    bench.start();
    let is_asked = |bench: &Bench| bench.topic.lock().refused > 0;
    bench.until("the view asks for the topic", is_asked);
    bench.topic.lock().is_away = false;
    bench.until_row(VIEW, &[2]);
}

#[test]
fn what_was_counted_and_kept_is_there_after_a_restart() {
    let counted = |bench: &Bench| {
        let errors = bench.runtime().published().errors(bench.source);
        let offsets: Vec<_> = errors.iter().map(|error| error.offset.unwrap()).collect();
        (bench.status().partitions[&PartitionId(0)].bad, offsets)
    };
    let mut bench = Bench::new();
    bench.start();
    bench.topic.lock().partitions[0] = vec![Some(1), None, Some(3)];
    bench.create(VIEW, "SELECT count(*) AS n FROM s").unwrap();
    assert_eq!(bench.row(VIEW).unwrap(), [3]);
    assert_eq!(counted(&bench), (0, vec![]), "nobody uses the bad value");
    // A view that does finds it, once for all.
    for id in [1_001, 1_002].map(ObjectId) {
        bench.create(id, "SELECT count(a) AS n FROM s").unwrap();
        assert_eq!(bench.row(id).unwrap(), [2]);
        assert_eq!(counted(&bench), (1, vec![1]));
    }
    bench.restart();
    assert_eq!(counted(&bench), (1, vec![1]));
    bench.topic.lock().partitions[0].push(None);
    bench.until_row(VIEW, &[4]);
    bench.until("it is read", |bench| counted(bench) == (2, vec![1, 3]));
    // From the journal, and from a checkpoint.
    bench.restart();
    assert_eq!(counted(&bench), (2, vec![1, 3]));
    bench.checkpoint();
    bench.restart();
    assert_eq!(counted(&bench), (2, vec![1, 3]));
}

#[test]
fn rows_that_came_while_nobody_was_there_to_read_them_are_not_late() {
    let mut bench = Bench::windowed();
    for (times, has_checkpoint) in [(1, false), (2, true)] {
        if has_checkpoint {
            bench.checkpoint();
        }
        bench.runtime = None;
        bench.go_on(1_000 * times);
        bench.start();
        bench.until_read(4 + 3 * times.unsigned_abs());
        bench.until("both are idle again", |bench| bench.idle() == 2);
    }
}

#[test]
fn rows_of_an_outage_are_not_late() {
    let bench = Bench::windowed();
    bench.topic.lock().is_away = true;
    bench.until("both are active", |bench| bench.idle() == 0);
    let is_told = |bench: &Bench| bench.status().error == Some(away());
    bench.until("the source says what it waits for", is_told);
    assert_eq!(bench.idle(), 0, "nobody knows the ends");
    bench.go_on(1_000);
    bench.topic.lock().is_away = false;
    bench.until_read(7);
    bench.until("both are idle again", |bench| bench.idle() == 2);
}

#[test]
fn a_partition_that_was_empty_is_read_in_its_place_after_a_restart() {
    let mut bench = Bench::new();
    bench.idle_timeout_micros = 1_000;
    bench.topic.lock().partitions = vec![Vec::new(); 2];
    bench.topic.write(0, [1, 2]);
    bench.start();
    let sql = "SELECT window_start, count(*) AS n \
        FROM TUMBLE(s, ts, INTERVAL '10 seconds') GROUP BY window_start, window_end";
    bench.create(VIEW, sql).unwrap();
    bench.until("both are idle", |bench| bench.idle() == 2);
    bench.runtime = None;
    bench.go_on(1_000);
    bench.start();
    bench.until_read(5);
}

#[test]
fn a_reader_that_panics_has_ended_and_says_so() {
    let bench = Bench::counting();
    bench.topic.lock().has_panic = true;
    let is_told = |bench: &Bench| bench.status().error.is_some();
    bench.until("the source says why it is not read", is_told);
    let error = bench.status().error.unwrap();
    assert!(error.message().contains("the reader's panic"), "{error}");
    assert_eq!(bench.row(VIEW).unwrap(), [2, 2]);
}

#[test]
fn a_panic_over_a_sources_rows_fails_its_views_and_nothing_else() {
    let mut bench = Bench::new();
    let has_panic = Arc::new(AtomicBool::new(false));
    let flag = has_panic.clone();
    let work = move |_: &[ColumnarValue]| -> datafusion::common::Result<ColumnarValue> {
        assert!(!flag.load(Ordering::Acquire), "the column's panic");
        Ok(ColumnarValue::Scalar(ScalarValue::Int64(Some(1))))
    };
    let (volatility, work) = (Volatility::Immutable, Arc::new(work));
    let function = create_udf("boom", Vec::new(), DataType::Int64, volatility, work);
    let options = Arc::new(ConfigOptions::default());
    let function = Arc::new(function);
    let made = ScalarFunctionExpr::try_new(function, Vec::new(), &bench.topic.schema, options);
    bench.computed = Some(Arc::new(made.unwrap()));
    bench.start();
    bench.topic.write(0, [1, 2]);
    bench.create(VIEW, "SELECT count(a) AS n FROM s").unwrap();
    assert_eq!(bench.row(VIEW).unwrap(), [2]);
    let above = bench.create_over_view();

    has_panic.store(true, Ordering::Release);
    bench.topic.write(0, [3]);
    bench.until("the view has failed", |bench| bench.row(VIEW).is_err());
    let error = bench.row(VIEW).unwrap_err();
    assert!(error.message().contains("the column's panic"), "{error}");
    assert!(bench.row(above).is_err(), "so has the one above it");
    // A replay fails as well, and not the server; what failed is built anew.
    let error = bench
        .create(ObjectId(1_002), "SELECT count(a) AS n FROM s")
        .unwrap_err();
    assert!(error.message().contains("panic"), "{error}");
    bench.views.pop();
    bench.restart();
    has_panic.store(false, Ordering::Release);
    bench.restart();
    bench.until_row(VIEW, &[3]);
}

#[test]
fn views_above_a_failed_one_fail_with_it() {
    let mut bench = Bench::counting_watched(0);
    let above = bench.create_over_view();
    bench.topic.write(0, [3]);
    bench.until_row(above, &[4]);
    let error = Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "it is another");
    let command = Command::Seen {
        source: bench.source,
        sight: Sight::Another(error),
    };
    bench.runtime().send(command).unwrap();
    // No step comes after it.
    bench.until("the view has failed", |bench| bench.row(above).is_err());
    let error = bench.row(above).unwrap_err();
    assert!(
        error.message().contains("its input \"v\" has failed"),
        "{error}"
    );
}

#[test]
fn a_topic_that_is_unknown_for_a_moment_is_read_again() {
    // Looked at once, before it is read.
    let bench = Bench::counting_watched(0);
    bench.topic.lock().is_unknown = true;
    let is_told = |bench: &Bench| bench.status().error == Some(unknown());
    bench.until("the source says why it is not read", is_told);
    bench.topic.write(0, [3]);
    bench.topic.lock().is_unknown = false;
    bench.until_row(VIEW, &[3, 3]);
    assert_eq!(bench.status().error, None);
}

#[test]
fn a_reader_that_is_slow_to_close_holds_nobody_up() {
    let mut bench = Bench::counting();
    bench.topic.lock().holds_readers = true;
    // More columns: the reader is replaced.
    let later = ObjectId(1_001);
    let plan = bench.plan("SELECT count(b) AS n FROM s");
    let (done, _answer) = oneshot::channel();
    let view = NewView {
        id: later,
        name: "w".to_string(),
        plan,
        progress: Arc::new(Progress::default()),
        checkpoints: None,
        done,
    };
    bench
        .runtime()
        .send(Command::AddView(Box::new(view)))
        .unwrap();
    bench.topic.write(0, [3]);
    bench.until_row(VIEW, &[3, 3]);
    let (done, answer) = oneshot::channel();
    bench.runtime().send(Command::Flush { done }).unwrap();
    answer.blocking_recv().unwrap().unwrap();
    bench.topic.write(0, [4]);
    bench.until_row(VIEW, &[4, 4]);
    bench.topic.lock().holds_readers = false;
    bench.runtime = None;
}

#[test]
fn positions_are_shown_in_the_group_after_each_checkpoint() {
    let bench = Bench::counting();
    let committed = |offset| {
        move |bench: &Bench| bench.topic.lock().committed == [(PartitionId(0), Offset(offset))]
    };
    bench.until("those of the view's checkpoint", committed(2));
    bench.topic.write(0, 3..=9);
    bench.until_row(VIEW, &[9, 9]);
    bench.checkpoint();
    bench.until("those of the next one", committed(9));
}

#[test]
fn a_view_that_reads_for_long_holds_no_history_of_what_it_follows() {
    let mut bench = Bench::new();
    bench.start();
    bench.topic.write(0, [1, 2]);
    bench.topic.lock().is_stalled = true;
    let plan = bench.plan("SELECT count(*) AS n, max(u.i) AS m FROM s JOIN u ON s.a = u.k");
    let progress = Arc::new(Progress::default());
    let (done, answer) = oneshot::channel();
    let view = NewView {
        id: VIEW,
        name: "v".to_string(),
        plan,
        progress: progress.clone(),
        checkpoints: None,
        done,
    };
    bench
        .runtime()
        .send(Command::AddView(Box::new(view)))
        .unwrap();
    let is_reading = |_: &Bench| progress.records_total.get() > 0;
    bench.until("the view reads its source", is_reading);
    let begun = bench.runtime().published().epoch();

    // Twice what a history keeps.
    let table = bench.table();
    let text = "x".repeat(1 << 20);
    let mut written = 0;
    for number in 0.. {
        let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
            match field.name().as_str() {
                "k" => Arc::new(Int64Array::from(vec![1])),
                "i" => Arc::new(Int32Array::from(vec![number])),
                "b" => Arc::new(StringArray::from(vec![text.as_str()])),
                _ => new_null_array(field.data_type(), 1),
            }
        };
        let columns = table.schema.fields().iter().map(column).collect();
        let rows = RecordBatch::try_new(table.schema.clone(), columns).unwrap();
        let delta = DeltaBatch::new(rows, Weights::Ones);
        written += delta.bytes();
        let (done, answer) = oneshot::channel();
        let writes = vec![Write {
            object: table.id,
            delta,
        }];
        bench
            .runtime()
            .send(Command::Write { writes, done })
            .unwrap();
        answer.blocking_recv().unwrap().unwrap();
        if written > 2 * HISTORY_BYTES_MAX {
            break;
        }
    }
    let has_let_go = |bench: &Bench| {
        let (_, relations) = bench.runtime().published().status();
        let table = relations.iter().find(|relation| relation.id == table.id);
        table.unwrap().history_floor > begun
    };
    bench.until("the table's history is trimmed", has_let_go);
    bench.topic.lock().is_stalled = false;
    answer.blocking_recv().unwrap().unwrap();
    let (_, snapshots) = bench.runtime().published().snapshots(&[VIEW]).unwrap();
    let delta = snapshots[0].deltas().next().unwrap().unwrap();
    let count = delta.rows().column(0).as_primitive::<Int64Type>().value(0);
    assert!(
        count > 16,
        "every row of the table joins one of the source: {count}"
    );
}
