//! What a sequence means: watermarks, late rows and windows, row by row, in the plainest way.
//!
//! Semantics §1–§3. A source's watermark is the least of its active partitions' (a partition that
//! has not said anything yet holds it back), each the greatest of its rows' times less the delay.
//! It never falls. A row is late when every window that holds it had ended, lateness and all, at
//! the
//! watermark before it; of a row late for some of its windows only the others count.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::timezone::Tz;
use arrow::datatypes::DataType;
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};

use crate::dataflow::oracle::answer::text;
use crate::dataflow::oracle::relation::{Row, World, micros, timestamp};
use crate::dataflow::oracle::script::{Change, Item};
use crate::operator::Counts;

/// No row has come.
pub const NEVER: i64 = i64::MIN;

/// A window over a source in a query.
#[derive(Clone)]
pub struct WindowUse {
    /// As the view's text has it.
    pub sql: String,
    pub relation: &'static str,
    pub cut: Cut,
    pub lateness: i64,
    /// Rows that the query keeps from the window for other reasons, and which are not judged.
    pub filter: Option<fn(&Row) -> bool>,
    /// Its time is the clock: no row is late.
    pub by_clock: bool,
}

/// Where windows begin and end; lengths in microseconds.
#[derive(Clone, Copy)]
pub enum Cut {
    /// Every `[start, start + size)` with start = offset + n × slide.
    Hop { slide: i64, size: i64, offset: i64 },
    /// Every `[start, start + n × step)` up to `size`, with start = m × size.
    Cumulate { step: i64, size: i64 },
    /// From one o'clock to one o'clock in Berlin.
    BerlinDay,
    /// Months in UTC.
    Month,
    /// Each row's own moment and nothing else: what a join by time goes by.
    Moment,
    /// Rows at most a gap apart that have the same values in some columns.
    Session { gap: i64, keys: &'static [usize] },
    /// No windows: rows that leave by the clock, each so long after it came, or those of a key all
    /// together, so long after the last one came.
    Life {
        ttl: i64,
        keys: Option<&'static [usize]>,
    },
}

/// The rows of one session.
struct SessionRows {
    key: Vec<String>,
    /// With their times.
    rows: Vec<(i64, Row)>,
    /// It takes no rows any more and loses none.
    is_final: bool,
}

impl SessionRows {
    fn start(&self) -> i64 {
        self.rows.iter().map(|(time, _)| *time).min().unwrap()
    }

    fn last(&self) -> i64 {
        self.rows.iter().map(|(time, _)| *time).max().unwrap()
    }
}

/// A row with the watermark before it.
pub struct Judged {
    pub row: Row,
    pub weight: i64,
    pub watermark: i64,
}

/// A late row as far as it is compared: its event time, the watermark before it, its weight.
pub type Late = (i64, i64, i64);

/// What windows make of a sequence.
#[derive(Default)]
pub struct Windowed {
    /// Rows with `window_start` and `window_end`.
    pub rows: Vec<Row>,
    pub late: Vec<Late>,
    pub counts: Counts,
}

/// The columns of each relation that a view reads, as the world numbers them: a row that is bad in
/// one of them is none to it.
pub type Used = BTreeMap<usize, BTreeSet<usize>>;

/// Whether a view sees the row: nobody does if its time is bad.
pub fn is_seen(change: &Change, world: &World, used: &Used) -> bool {
    let time = world.relations[change.relation].time;
    let is_used = |column: &usize| {
        let used = used.get(&change.relation);
        used.is_some_and(|used| used.contains(column)) || time.is_some_and(|t| t.column == *column)
    };
    !change.bad.iter().any(is_used)
}

/// The rows of a relation that are there in the end.
pub fn rows(items: &[Item], relation: usize, world: &World, used: &Used) -> Vec<Row> {
    let mut kept = Kept::default();
    for item in items {
        if let Item::Row(change) = item
            && change.relation == relation
            && is_seen(change, world, used)
        {
            kept.add(change.row.clone(), change.weight);
        }
    }
    kept.rows
}

/// The rows of a source in sequence, each with the watermark before it, and the last watermark.
pub fn judged(items: &[Item], number: usize, world: &World, used: &Used) -> (Vec<Judged>, i64) {
    let time = world.relations[number].time.expect("a source has a time");
    let mut partitions: BTreeMap<u32, i64> = (0..time.partitions)
        .map(|partition| (partition, NEVER))
        .collect();
    let mut idle = BTreeSet::new();
    let mut watermark = NEVER;
    let mut rows = Vec::new();
    for item in items {
        match item {
            Item::Idle {
                relation,
                partition,
            } if *relation == number => {
                idle.insert(*partition);
            }
            Item::Row(change) if change.relation == number => {
                // Without a time it is a row to nobody; otherwise it moves time, seen or not.
                if change.bad.contains(&time.column) {
                    continue;
                }
                if is_seen(change, world, used) {
                    rows.push(Judged {
                        row: change.row.clone(),
                        weight: change.weight,
                        watermark,
                    });
                }
                idle.remove(&change.partition);
                if let Some(micros) = micros(&change.row[time.column]) {
                    let own = partitions.get_mut(&change.partition).unwrap();
                    *own = (*own).max(micros - time.delay_micros);
                }
            }
            _ => continue,
        }
        let active = partitions
            .iter()
            .filter(|(partition, _)| !idle.contains(*partition));
        if let Some(least) = active.map(|(_, watermark)| *watermark).min() {
            watermark = watermark.max(least);
        }
    }
    (rows, watermark)
}

impl WindowUse {
    /// The windows that hold a time.
    fn windows(&self, time: i64) -> Vec<(i64, i64)> {
        match self.cut {
            Cut::Hop {
                slide,
                size,
                offset,
            } => {
                let mut windows = Vec::new();
                let mut start = (time - offset).div_euclid(slide) * slide + offset;
                while start + size > time {
                    windows.push((start, start + size));
                    start -= slide;
                }
                windows
            }
            Cut::Cumulate { step, size } => {
                let start = time.div_euclid(size) * size;
                let ends = (1..=size / step).map(|n| start + n * step);
                ends.filter(|end| *end > time)
                    .map(|end| (start, end))
                    .collect()
            }
            Cut::Session { .. } => panic!("the windows of a session follow from its rows"),
            Cut::Life { .. } => panic!("rows that leave have no windows"),
            Cut::Moment => vec![(time, time + 1)],
            Cut::BerlinDay => vec![berlin_day(time)],
            Cut::Month => {
                let date = clock(time).date();
                let first = date.with_day(1).unwrap();
                let next = first.checked_add_months(Months::new(1)).unwrap();
                let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
                vec![(
                    midnight(first).timestamp_micros(),
                    midnight(next).timestamp_micros(),
                )]
            }
        }
    }

    /// At most so many windows hold a row.
    pub fn windows_max(&self) -> i64 {
        match self.cut {
            Cut::Hop { slide, size, .. } => size / slide + 1,
            Cut::Cumulate { step, size } => size / step,
            Cut::Moment | Cut::BerlinDay | Cut::Month | Cut::Session { .. } => 1,
            Cut::Life { .. } => 0,
        }
    }

    pub fn assign(&self, items: &[Item], world: &World, used: &Used) -> Windowed {
        let number = world.relation(self.relation);
        let relation = &world.relations[number];
        if let Cut::Life { ttl, keys } = self.cut {
            return self.alive((items, number, ttl, keys), world, used);
        }
        let column = match self.by_clock {
            true => relation.clocked.expect("a source has a clock"),
            false => relation.time.expect("a source has a time").column,
        };
        let data_type = relation.schema.field(column).data_type();
        let mut judged = judged(items, number, world, used).0;
        if self.by_clock {
            judged.iter_mut().for_each(|row| row.watermark = NEVER);
        }
        if let Cut::Session { gap, keys } = self.cut {
            return self.assign_sessions(judged, (column, data_type), gap, keys);
        }
        let mut out = Windowed::default();
        let mut kept = Kept::default();
        for Judged {
            row,
            weight,
            watermark,
        } in judged
        {
            if self.filter.is_some_and(|filter| !filter(&row)) {
                continue;
            }
            let Some(time) = micros(&row[column]) else {
                out.counts.rows_failed += weight.unsigned_abs();
                continue;
            };
            let windows = self.windows(time);
            let is_open = |end: i64| watermark == NEVER || end + self.lateness > watermark;
            let open: Vec<_> = windows.iter().filter(|(_, end)| is_open(*end)).collect();
            if open.is_empty() && !windows.is_empty() {
                out.late.push((time, watermark, weight));
                match weight > 0 {
                    true => out.counts.rows_late += weight.unsigned_abs(),
                    false => out.counts.retractions_late += weight.unsigned_abs(),
                }
            } else if open.len() < windows.len() {
                out.counts.rows_late_partly += weight.unsigned_abs();
            }
            for &&(start, end) in &open {
                let mut values = row.to_vec();
                values.extend([start, end].map(|each| timestamp(data_type, Some(each))));
                kept.add(values.into(), weight);
            }
        }
        out.rows = kept.rows;
        out
    }
}

impl WindowUse {
    /// The rows that are there when the clock shows what it shows last. A row, or the rows of a
    /// key, leave when the clock is there, before any row that comes at that clock.
    fn alive(
        &self,
        (items, number, ttl, keys): (&[Item], usize, i64, Option<&[usize]>),
        world: &World,
        used: &Used,
    ) -> Windowed {
        let mut out = Windowed::default();
        let mut clock = NEVER;
        // What is there for as long as its last row, by its key.
        let mut lives: Vec<(Vec<String>, i64, Vec<Row>)> = Vec::new();
        for item in items {
            match item {
                Item::Clock(shown) => {
                    clock = *shown;
                    let before = lives.len();
                    lives.retain(|(_, last, _)| last.saturating_add(ttl) > clock);
                    out.counts.rows_evicted += (before - lives.len()) as u64;
                }
                Item::Row(change) if change.relation == number => {
                    let is_kept = |row: &Row| self.filter.is_none_or(|filter| filter(row));
                    if !is_seen(change, world, used) || !is_kept(&change.row) {
                        continue;
                    }
                    assert_eq!(change.weight, 1, "only what only comes leaves by itself");
                    let key = keys.map(|keys| keys.iter().map(|&key| text(&change.row[key])));
                    let key: Option<Vec<String>> = key.map(Iterator::collect);
                    let known = lives
                        .iter_mut()
                        .find(|(known, ..)| Some(known) == key.as_ref());
                    match known {
                        Some((_, last, rows)) => {
                            *last = clock;
                            rows.push(change.row.clone());
                        }
                        None => {
                            let rows = vec![change.row.clone()];
                            lives.push((key.unwrap_or_default(), clock, rows));
                        }
                    }
                }
                Item::Row(_) | Item::Idle { .. } => {}
            }
        }
        let time = relation_time(world, number);
        for row in lives.into_iter().flat_map(|(.., rows)| rows) {
            let mut values = row.to_vec();
            values.extend([0, 0].map(|each| timestamp(&time, Some(each))));
            out.rows.push(values.into());
        }
        out
    }

    fn assign_sessions(
        &self,
        judged: Vec<Judged>,
        (column, data_type): (usize, &DataType),
        gap: i64,
        keys: &[usize],
    ) -> Windowed {
        let mut out = Windowed::default();
        let mut sessions: Vec<SessionRows> = Vec::new();
        for Judged {
            row,
            weight,
            watermark,
        } in judged
        {
            if self.filter.is_some_and(|filter| !filter(&row)) {
                continue;
            }
            let Some(time) = micros(&row[column]) else {
                out.counts.rows_failed += weight.unsigned_abs();
                continue;
            };
            let is_over = |end: i64| watermark != NEVER && end + self.lateness <= watermark;
            for session in &mut sessions {
                session.is_final |= is_over(session.last() + gap);
            }
            let key: Vec<String> = keys.iter().map(|&key| text(&row[key])).collect();
            let is_late = match weight > 0 {
                true => {
                    let near = |session: &SessionRows| {
                        !session.is_final
                            && session.key == key
                            && session.start() - gap <= time
                            && time <= session.last() + gap
                    };
                    let spans = |session: &SessionRows| {
                        near(session) && session.start() <= time && time < session.last() + gap
                    };
                    let is_late = is_over(time + gap) && !sessions.iter().any(spans);
                    if !is_late {
                        let (joined, others) = sessions.drain(..).partition::<Vec<_>, _>(near);
                        sessions = others;
                        let mut rows: Vec<_> = joined.into_iter().flat_map(|s| s.rows).collect();
                        (0..weight).for_each(|_| rows.push((time, row.clone())));
                        sessions.push(SessionRows {
                            key,
                            rows,
                            is_final: false,
                        });
                    }
                    is_late
                }
                false => !(weight..0).all(|_| take_back(&mut sessions, &key, time, &row, gap)),
            };
            if is_late {
                out.late.push((time, watermark, weight));
                match weight > 0 {
                    true => out.counts.rows_late += weight.unsigned_abs(),
                    false => out.counts.retractions_late += weight.unsigned_abs(),
                }
            }
        }
        for session in &sessions {
            let bounds = [session.start(), session.last() + gap];
            let bounds = bounds.map(|each| timestamp(data_type, Some(each)));
            for (_, row) in &session.rows {
                let mut values = row.to_vec();
                values.extend(bounds.clone());
                out.rows.push(values.into());
            }
        }
        out
    }
}

/// The type of a relation's times.
fn relation_time(world: &World, number: usize) -> DataType {
    let schema = &world.relations[number].schema;
    let time = schema
        .field_with_name("ts")
        .expect("every relation has a time");
    time.data_type().clone()
}

/// Takes a row out of its session, which may fall apart; false if it is in none that can change.
fn take_back(
    sessions: &mut Vec<SessionRows>,
    key: &[String],
    time: i64,
    row: &Row,
    gap: i64,
) -> bool {
    let same = |other: &Row| row.iter().map(text).eq(other.iter().map(text));
    let found = sessions.iter().enumerate().find_map(|(number, session)| {
        let is_open = !session.is_final && session.key == key;
        let mut rows = session.rows.iter();
        let place = rows.position(|(other, row)| *other == time && same(row));
        Some((number, place.filter(|_| is_open)?))
    });
    let Some((number, place)) = found else {
        return false;
    };
    let mut left = sessions.swap_remove(number).rows;
    left.swap_remove(place);
    left.sort_by_key(|(time, _)| *time);
    while let Some((first, _)) = left.first() {
        let mut last = *first;
        let near = left.iter().take_while(|(time, _)| {
            let is_near = time - last <= gap;
            last = *time;
            is_near
        });
        let count = near.count();
        let rest = left.split_off(count);
        sessions.push(SessionRows {
            key: key.to_vec(),
            rows: std::mem::replace(&mut left, rest),
            is_final: false,
        });
    }
    true
}

/// What the clocks of UTC show.
fn clock(micros: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros).unwrap().naive_utc()
}

/// The day, from one o'clock on, that a time is in.
fn berlin_day(time: i64) -> (i64, i64) {
    let berlin: Tz = "Europe/Berlin".parse().unwrap();
    let begin = |date: NaiveDate| {
        let local = date.and_hms_opt(1, 0, 0).unwrap();
        let begin = berlin.from_local_datetime(&local).earliest().unwrap();
        begin.timestamp_micros()
    };
    let mut date = clock(time).date();
    while begin(date) > time {
        date = date.pred_opt().unwrap();
    }
    while begin(date.succ_opt().unwrap()) <= time {
        date = date.succ_opt().unwrap();
    }
    (begin(date), begin(date.succ_opt().unwrap()))
}

/// A multiset of rows.
#[derive(Default)]
struct Kept {
    rows: Vec<Row>,
}

impl Kept {
    fn add(&mut self, row: Row, weight: i64) {
        for _ in 0..weight {
            self.rows.push(row.clone());
        }
        for _ in weight..0 {
            let same = |other: &Row| row.iter().map(text).eq(other.iter().map(text));
            let place = self
                .rows
                .iter()
                .position(same)
                .expect("only what is there is taken back");
            self.rows.swap_remove(place);
        }
    }
}
