//! A source's time against a model: the same rows are late, and the same ones left out as too far
//! ahead, however the sequence is cut into chunks and steps, and over restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use fastrand::Rng;

use crate::base::{EventTime, Offset, PartitionId};
use crate::connector::Chunk;
use crate::connector::factory::TimeOptions;
use crate::dataflow::checkpoint::SourceMeta;
use crate::dataflow::oracle::relation::{SECOND, World};
use crate::dataflow::source::{SourceSpec, SourceState};
use crate::operator::rows::micros;

const PARTITIONS: u32 = 3;

/// How far a row of the source may be behind the latest.
const DELAY: i64 = 4 * SECOND;

const AHEAD: i64 = 60 * SECOND;

/// What happens between two moments of the clock.
struct Moment {
    clock: i64,
    /// Partitions that become idle, or active, in this order.
    idle: Vec<(u32, bool)>,
    /// Partition and event time.
    rows: Vec<(u32, Option<i64>)>,
}

/// A row and the watermark before it, or that it was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Before(i64),
    Ahead,
}

fn spec() -> SourceSpec {
    let world = World::new();
    let mut spec = world.relations[world.relation("s")].source.clone().unwrap();
    let startup = (0..PARTITIONS).map(|id| (PartitionId(id), Offset(0)));
    spec.startup = startup.collect();
    spec.time = TimeOptions {
        advances_when_idle: true,
        ahead_max_micros: Some(AHEAD),
        drift_max_micros: None,
    };
    spec
}

/// Rows come in real time, some of them late and some far ahead; the clock jumps now and then.
fn script(random: &mut Rng) -> Vec<Moment> {
    let mut clock = 1_700_000_000 * SECOND;
    let mut moments = Vec::new();
    for _ in 0..60 {
        clock += match random.u8(..20) {
            0 => 86_400 * SECOND,
            1..4 => 0,
            _ => random.i64(0..5 * SECOND),
        };
        let partition = |random: &mut Rng| random.u32(..PARTITIONS);
        let idle = match random.u8(..4) {
            0 => (0..PARTITIONS).map(|id| (id, true)).collect(),
            1 => vec![(partition(random), random.bool())],
            _ => Vec::new(),
        };
        let time = |random: &mut Rng| match random.u8(..20) {
            0 => None,
            1 => Some(clock + AHEAD + random.i64(0..2)),
            2 => Some(i64::MAX),
            3 => Some(clock + random.i64(0..AHEAD)),
            _ => Some(clock - random.i64(0..30 * SECOND)),
        };
        let count = random.usize(..8) * usize::from(random.bool());
        let rows = (0..count).map(|_| (partition(random), time(random)));
        moments.push(Moment {
            clock,
            idle,
            rows: rows.collect(),
        });
    }
    moments
}

/// The plainest way: one row after the other. Returns what was seen, and the last watermark.
fn model(moments: &[Moment]) -> (Vec<Seen>, i64) {
    #[derive(Clone, Copy)]
    struct Partition {
        watermark: i64,
        is_idle: bool,
        last_row: Option<i64>,
    }
    let unread = Partition {
        watermark: i64::MIN,
        is_idle: false,
        last_row: None,
    };
    let mut partitions = vec![unread; PARTITIONS as usize];
    let mut watermark = i64::MIN;
    // How much of the clock's time since the last row is in the watermark.
    let mut counted = 0;
    let mut seen = Vec::new();
    for moment in moments {
        let rise = |partitions: &[Partition], watermark: &mut i64| {
            let active = partitions.iter().filter(|partition| !partition.is_idle);
            if let Some(least) = active.map(|partition| partition.watermark).min() {
                *watermark = (*watermark).max(least);
            }
        };
        for &(id, is_idle) in &moment.idle {
            partitions[id as usize].is_idle = is_idle;
            rise(&partitions, &mut watermark);
        }
        let last = partitions.iter().filter_map(|p| p.last_row).max();
        if watermark > i64::MIN
            && let Some(last) = last
            && partitions.iter().all(|partition| partition.is_idle)
        {
            watermark += moment.clock - last - counted;
            counted = moment.clock - last;
        }
        for &(id, time) in &moment.rows {
            if time.is_some_and(|time| time > moment.clock + AHEAD) {
                seen.push(Seen::Ahead);
                let own = &mut partitions[id as usize];
                if own.last_row.is_some() {
                    counted = 0;
                    own.last_row = Some(moment.clock);
                }
                continue;
            }
            seen.push(Seen::Before(watermark));
            let own = &mut partitions[id as usize];
            own.is_idle = false;
            counted = 0;
            own.last_row = Some(moment.clock);
            if let Some(time) = time {
                own.watermark = own.watermark.max(time - DELAY);
            }
            rise(&partitions, &mut watermark);
        }
    }
    (seen, watermark)
}

fn chunk(source: &SourceState, position: &mut [u64], (id, times): (u32, &[Option<i64>])) -> Chunk {
    let field = source.spec().schema.field(5);
    let column = TimestampMicrosecondArray::from(times.to_vec());
    let column: ArrayRef = Arc::new(column.with_data_type(field.data_type().clone()));
    let schema = Arc::new(source.spec().schema.project(&[5]).unwrap());
    let from = position[id as usize];
    position[id as usize] += times.len() as u64;
    Chunk {
        partition: PartitionId(id),
        from: Offset(from),
        to: Offset(position[id as usize]),
        rows: RecordBatch::try_new(schema, vec![column]).unwrap(),
        jumps: Vec::new(),
        weights: None,
        bad: Vec::new(),
        bad_rows: Vec::new(),
        skipped: 0,
        checksum: 0,
        bytes: 0,
        arrived_micros: 0,
    }
}

/// Ours, cut at random. Rows in one chunk are of one partition; steps without rows come between.
fn run(spec: &SourceSpec, moments: &[Moment], cuts: &mut Rng) -> (Vec<Seen>, i64) {
    let mut source = SourceState::new(spec.clone(), vec![5]).unwrap();
    let mut position = vec![0; PARTITIONS as usize];
    let mut seen = Vec::new();
    let mut before = moments[0].clock;
    for moment in moments {
        let is_roused = moment.idle.iter().any(|(_, is_idle)| !is_idle);
        if !is_roused && cuts.u8(..3) == 0 {
            // A step that only the clock asks for, at any time in between. Where a partition
            // becomes active the time until then is not counted: nobody has looked.
            source.follow_clock(cuts.i64(before..=moment.clock));
        }
        if cuts.u8(..4) == 0 {
            source = restarted(&source);
        }
        for &(id, is_idle) in &moment.idle {
            source.set_idle(PartitionId(id), is_idle);
        }
        source.follow_clock(moment.clock);
        let mut rest = moment.rows.as_slice();
        while let Some(&(id, _)) = rest.first() {
            let run = rest.iter().take_while(|row| row.0 == id).count();
            let (now, later) = rest.split_at(cuts.usize(1..=run));
            rest = later;
            let times: Vec<_> = now.iter().map(|row| row.1).collect();
            let chunk = chunk(&source, &mut position, (id, &times));
            seen.extend(take(&mut source, &chunk, &times, moment.clock));
            if cuts.u8(..4) == 0 {
                // Another step of the same moment.
                source.follow_clock(moment.clock);
            }
        }
        before = moment.clock;
    }
    let ahead = seen.iter().filter(|seen| **seen == Seen::Ahead).count();
    let counted = source.partitions.values().map(|state| state.rows_ahead);
    assert_eq!(counted.sum::<u64>(), ahead as u64);
    (seen, source.watermark().0)
}

/// What a step sees of a chunk's rows, in their order.
fn take(source: &mut SourceState, chunk: &Chunk, times: &[Option<i64>], clock: i64) -> Vec<Seen> {
    let without = source.without_ahead(chunk, clock).unwrap();
    let taken = source
        .take(without.as_ref().unwrap_or(chunk), clock)
        .unwrap();
    let column = micros(taken.delta.rows().column(0));
    let mut watermarks = taken
        .delta
        .watermarks()
        .cloned()
        .into_iter()
        .flat_map(|w| w.to_vec());
    let mut kept = column.iter();
    let mut bad = taken.bad.iter().peekable();
    let seen = times.iter().zip(chunk.from.0..).map(|(time, offset)| {
        if bad.next_if(|bad| bad.offset.0 == offset).is_some() {
            return Seen::Ahead;
        }
        assert_eq!(kept.next(), Some(*time), "rows stay in order");
        Seen::Before(watermarks.next().expect("one for each row"))
    });
    let seen = seen.collect();
    assert!(kept.next().is_none() && bad.next().is_none());
    seen
}

/// As a checkpoint keeps it.
fn restarted(source: &SourceState) -> SourceState {
    let meta = SourceMeta {
        partitions: source.partitions.clone(),
        watermark: source.watermark(),
        followed_micros: source.followed_micros(),
        startup: BTreeMap::new(),
        counted: source.counted().clone(),
    };
    let text = serde_json::to_string(&meta).unwrap();
    let meta: SourceMeta = serde_json::from_str(&text).unwrap();
    let mut new = SourceState::new(source.spec().clone(), vec![5]).unwrap();
    new.restore(meta.partitions, (meta.watermark, meta.followed_micros));
    new
}

#[test]
fn a_sequence_makes_the_same_rows_late_however_it_is_cut() {
    let (spec, mut ahead) = (spec(), 0);
    for seed in 0..100 {
        let moments = script(&mut Rng::with_seed(seed));
        let (expected, last) = model(&moments);
        for cut in 0..4 {
            let mut cuts = Rng::with_seed(seed * 31 + cut);
            let (seen, watermark) = run(&spec, &moments, &mut cuts);
            assert_eq!(seen, expected, "seed {seed}, cut {cut}");
            assert_eq!(watermark, last, "seed {seed}, cut {cut}");
        }
        ahead += expected.iter().filter(|seen| **seen == Seen::Ahead).count();
    }
    assert!(ahead > 100, "{ahead} rows only were far ahead");
}

#[test]
fn a_row_of_the_future_moves_nothing_and_is_told() {
    let mut source = SourceState::new(spec(), vec![5]).unwrap();
    let clock = 1_000 * SECOND;
    let mut position = vec![0; PARTITIONS as usize];
    let times = [Some(clock), Some(clock + AHEAD + 1), Some(clock + AHEAD)];
    let chunk = chunk(&source, &mut position, (0, &times));
    let without = source.without_ahead(&chunk, clock).unwrap().unwrap();
    let taken = source.take(&without, clock).unwrap();
    assert_eq!(taken.delta.len(), 2);
    let [bad] = taken.bad.as_slice() else {
        panic!("{:?}", taken.bad)
    };
    let reason = "event time 1970-01-01T00:17:40.000001Z is too far ahead of the clock";
    assert_eq!((bad.offset, bad.reason.as_str()), (Offset(1), reason));
    let state = source.partitions[&PartitionId(0)];
    assert_eq!((state.rows, state.bad, state.rows_ahead), (2, 1, 1));
    assert_eq!(state.watermark, EventTime(clock + AHEAD - DELAY));
}

#[test]
fn without_the_options_time_stands_still_and_takes_everything() {
    let spec = SourceSpec {
        time: TimeOptions::default(),
        ..spec()
    };
    let mut source = SourceState::new(spec, vec![5]).unwrap();
    let mut position = vec![0; PARTITIONS as usize];
    for id in 0..PARTITIONS {
        let chunk = chunk(&source, &mut position, (id, &[Some(i64::MAX / 2)]));
        assert!(source.without_ahead(&chunk, 0).unwrap().is_none());
        source.take(&chunk, 0).unwrap();
        source.set_idle(PartitionId(id), true);
    }
    let before = source.watermark();
    source.follow_clock(i64::MAX);
    assert_eq!(source.watermark(), before);
    assert!(!source.follows_clock());
}
