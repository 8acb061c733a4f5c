//! What happens: rows that come and go, in one sequence, and ways to cut it into steps.

use std::ops::Range;
use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use fastrand::Rng;

use crate::dataflow::oracle::relation::{Relation, Row, SECOND, World, micros, timestamp, value};

/// One thing of the sequence.
#[derive(Clone, Debug)]
pub enum Item {
    Row(Change),
    /// The partition is at its end and says nothing; always at the beginning of a step.
    Idle {
        relation: usize,
        partition: u32,
    },
    /// What the clock shows from now on; always at the beginning of a step.
    Clock(i64),
}

#[derive(Clone, Debug)]
pub struct Change {
    pub relation: usize,
    pub partition: u32,
    pub row: Row,
    pub weight: i64,
    /// In one step with the item before it.
    pub is_joined: bool,
    /// The columns whose values could not be converted, rising.
    pub bad: Vec<usize>,
}

impl Change {
    /// The row as a reader makes it: NULL stands for what is bad.
    pub fn decoded(&self) -> Row {
        let value = |(column, value): (usize, &ScalarValue)| match self.bad.contains(&column) {
            true => ScalarValue::try_from(&value.data_type()).expect("every type has a NULL"),
            false => value.clone(),
        };
        self.row.iter().enumerate().map(value).collect()
    }
}

/// Year-long jumps: however far time goes, every window comes out.
const YEAR: i64 = 365 * 86_400 * SECOND;

/// A random sequence over some relations.
pub struct Script<'a> {
    world: &'a World,
    random: Rng,
    now: i64,
    /// Present where a query asks for the clock.
    clock: Option<i64>,
    /// The rows that are there, by relation.
    live: Vec<Vec<Row>>,
    pub items: Vec<Item>,
}

impl<'a> Script<'a> {
    pub fn new(world: &'a World, relations: &[usize], seed: u64, length: usize) -> Script<'a> {
        let mut random = Rng::with_seed(seed);
        let starts = [0, -100 * SECOND, 1_700_000_000 * SECOND, -YEAR];
        let now = starts[random.usize(..starts.len())];
        let live = vec![Vec::new(); world.relations.len()];
        let mut script = Script {
            world,
            random,
            now,
            clock: None,
            live,
            items: Vec::new(),
        };
        while script.items.len() < length && !relations.is_empty() {
            let relation = relations[script.random.usize(..relations.len())];
            match world.relations[relation].time.is_some() {
                true => script.arrive(relation),
                false => script.write(relation),
            }
        }
        script
    }

    /// The same with a clock that goes on beside the rows' times, before and behind them.
    pub fn with_clock(self) -> Script<'a> {
        let is_clocked = |item: &Item| match item {
            Item::Row(change) => self.world.relations[change.relation].clocked.is_some(),
            Item::Idle { .. } | Item::Clock(_) => false,
        };
        // Every row has a processing time, the first one, too.
        match self.items.iter().any(is_clocked) {
            true => self.with_clock_from_the_first(),
            false => self.with_clock_after(i64::MIN),
        }
    }

    /// The same with a clock before the first row.
    pub fn with_clock_from_the_first(mut self) -> Script<'a> {
        let first = self.items.iter().find_map(|item| self.time(item));
        let shown = first.unwrap_or(0) - 40 * SECOND;
        self.items.insert(0, Item::Clock(shown));
        self.with_clock_after(shown)
    }

    /// The clock goes on from what it shows.
    fn with_clock_after(mut self, mut shown: i64) -> Script<'a> {
        let mut random = Rng::with_seed(self.random.u64(..));
        let items = std::mem::take(&mut self.items);
        for mut item in items {
            let is_joined = matches!(&item, Item::Row(change) if change.is_joined);
            if (shown == i64::MIN || random.u8(..6) == 0)
                && !is_joined
                && let Some(time) = self.time(&item)
            {
                let shift = match random.u8(..4) {
                    // Exactly at the time of a row, or at one that conditions make of it.
                    0 => random.i64(-4..5) * 5 * SECOND,
                    _ => random.i64(-30_000_000..30_000_000),
                };
                // A row that is decades ahead does not take the clock along for good.
                let most = self.now.saturating_add(YEAR);
                shown = shown.max((time + shift).min(most));
                self.items.push(Item::Clock(shown));
            }
            if let Item::Row(change) = &mut item {
                change.row = self.clocked(change.relation, &change.row, shown);
            }
            self.items.push(item);
        }
        self.clock = Some(shown);
        self
    }

    /// The row as a step with this clock takes it.
    fn clocked(&self, relation: usize, row: &Row, clock: i64) -> Row {
        let relation = &self.world.relations[relation];
        match relation.clocked {
            None => row.clone(),
            Some(column) => {
                let data_type = relation.schema.field(column).data_type();
                with(row, column, timestamp(data_type, Some(clock)))
            }
        }
    }

    /// The time that a row tells.
    fn time(&self, item: &Item) -> Option<i64> {
        let Item::Row(change) = item else { return None };
        let schema = &self.world.relations[change.relation].schema;
        let column = schema.index_of("ts").expect("every relation has a time");
        micros(&change.row[column])
    }

    fn push(&mut self, relation: usize, row: Row, weight: i64, is_joined: bool) {
        let partition = 0;
        self.items.push(Item::Row(Change {
            relation,
            partition,
            row,
            weight,
            is_joined,
            bad: Vec::new(),
        }));
    }

    fn row(&mut self, relation: &Relation) -> Row {
        let now = self.now;
        let types = relation
            .schema
            .fields()
            .iter()
            .map(|field| field.data_type());
        types
            .map(|data_type| value(&mut self.random, data_type, now))
            .collect()
    }

    /// INSERT, UPDATE or DELETE on a table.
    fn write(&mut self, number: usize) {
        let world = self.world;
        let relation = &world.relations[number];
        let has_rows = !self.live[number].is_empty();
        match self.random.u8(..20) {
            0..5 if has_rows => {
                let old = self.take(number);
                self.push(number, old, -1, false);
            }
            5..9 if has_rows => {
                let old = self.take(number);
                let mut new = self.changed(relation, &old);
                if let Some(key) = relation.key {
                    // Every fourth update gives the row another key, if that is free.
                    let other = ScalarValue::from(self.random.i64(0..40));
                    let is_taken = self.live[number].iter().any(|row| row[key] == other);
                    let is_moved = self.random.u8(..4) == 0 && !is_taken;
                    new = with(&new, key, if is_moved { other } else { old[key].clone() });
                }
                self.live[number].push(new.clone());
                self.push(number, old, -1, false);
                self.push(number, new, 1, true);
            }
            9 => {
                // There and gone in one step.
                let Some(row) = self.fresh(number) else {
                    return;
                };
                self.live[number].pop();
                self.push(number, row.clone(), 1, false);
                self.push(number, row, -1, true);
            }
            _ => {
                let Some(row) = self.fresh(number) else {
                    return;
                };
                let mut weight = 1;
                if relation.key.is_none() && self.random.u8(..6) == 0 {
                    weight = 2;
                    self.live[number].push(row.clone());
                }
                self.push(number, row, weight, false);
            }
        }
    }

    fn take(&mut self, number: usize) -> Row {
        let live = &mut self.live[number];
        let place = self.random.usize(..live.len());
        live.swap_remove(place)
    }

    /// A new row, in place already; `None` when every key is taken.
    fn fresh(&mut self, number: usize) -> Option<Row> {
        let world = self.world;
        let relation = &world.relations[number];
        let mut row = match self.live[number].is_empty() || self.random.u8(..5) > 0 {
            true => self.row(relation),
            // Often the same row again.
            false => self.live[number][self.random.usize(..self.live[number].len())].clone(),
        };
        if let Some(key) = relation.key {
            let id = ScalarValue::from(self.random.i64(0..40));
            if self.live[number].iter().any(|row| row[key] == id) {
                return None;
            }
            row = with(&row, key, id);
        }
        self.live[number].push(row.clone());
        Some(row)
    }

    /// The row with some of its columns changed; at times with none.
    fn changed(&mut self, relation: &Relation, old: &Row) -> Row {
        let new = self.row(relation);
        let random = &mut self.random;
        old.iter()
            .zip(new.iter())
            .map(|(a, b)| if random.bool() { a } else { b }.clone())
            .collect()
    }

    /// A record of a source.
    fn arrive(&mut self, number: usize) {
        let world = self.world;
        let relation = &world.relations[number];
        let time = relation.time.expect("a source has a time");
        if time.partitions > 1 && self.random.u8(..25) == 0 {
            let partition = self.random.u32(..time.partitions);
            self.items.push(Item::Idle {
                relation: number,
                partition,
            });
        }
        if relation.is_retracting && !self.live[number].is_empty() && self.random.u8(..3) == 0 {
            let old = self.take(number);
            self.push(number, old.clone(), -1, false);
            if self.random.bool() {
                let new = self.changed(relation, &old);
                let new = with(&new, time.column, old[time.column].clone());
                self.live[number].push(new.clone());
                self.push(number, new, 1, true);
            }
            return;
        }
        self.now += match self.random.u32(..400) {
            0 => YEAR,
            1..6 => self.random.i64(20..90) * SECOND,
            _ => self.random.i64(0..2_500) * 1_000,
        };
        let behind = match self.random.u8(..100) {
            0..65 => self.random.i64(0..3_000),
            65..85 => self.random.i64(0..12_000),
            85..96 => self.random.i64(0..60_000),
            96..98 => -self.random.i64(0..20_000),
            _ => 0,
        };
        let partition = self.random.u32(..time.partitions);
        let micros = match self.random.u8(..40) {
            0 => None,
            _ => Some(self.now - behind * 1_000 - i64::from(partition) * 3 * SECOND),
        };
        let event_time = timestamp(relation.schema.field(time.column).data_type(), micros);
        let row = with(&self.row(relation), time.column, event_time);
        if relation.is_retracting {
            self.live[number].push(row.clone());
        }
        let change = Change {
            relation: number,
            partition,
            row,
            weight: 1,
            is_joined: false,
            bad: Vec::new(),
        };
        self.items.push(Item::Row(change));
    }

    /// Makes some values of sources' rows bad, those of the event time among them. What can be
    /// taken back stays whole: its two records would not be bad alike.
    pub fn spoil(&mut self) {
        for item in &mut self.items {
            let Item::Row(change) = item else { continue };
            let relation = &self.world.relations[change.relation];
            if relation.time.is_none() || relation.is_retracting || self.random.u8(..3) > 0 {
                continue;
            }
            let columns = (0..change.row.len()).filter(|column| relation.clocked != Some(*column));
            change.bad = columns.filter(|_| self.random.u8(..4) == 0).collect();
        }
    }

    /// Empties every table and carries every source's time far beyond what has come.
    pub fn drain(&mut self, relations: &[usize]) {
        self.now += 10 * YEAR;
        let world = self.world;
        for &number in relations {
            let relation = &world.relations[number];
            let Some(time) = relation.time else {
                let mut rows = std::mem::take(&mut self.live[number]);
                self.random.shuffle(&mut rows);
                rows.into_iter()
                    .for_each(|row| self.push(number, row, -1, false));
                continue;
            };
            let clock = self.clock.unwrap_or(0);
            for partition in 0..time.partitions {
                let data_type = relation.schema.field(time.column).data_type();
                let event_time = timestamp(data_type, Some(self.now));
                let row = with(&self.row(relation), time.column, event_time);
                let row = self.clocked(number, &row, clock);
                let change = Change {
                    relation: number,
                    partition,
                    row,
                    weight: 1,
                    is_joined: false,
                    bad: Vec::new(),
                };
                self.items.push(Item::Row(change));
            }
        }
        if let Some(clock) = &mut self.clock {
            *clock = self.now.max(*clock) + 10 * YEAR;
            self.items.push(Item::Clock(*clock));
        }
    }
}

fn with(row: &Row, column: usize, value: ScalarValue) -> Row {
    let mut values = row.to_vec();
    values[column] = value;
    Arc::from(values)
}

/// Random steps of about `length` items; some are empty. What belongs together stays so, and idle
/// partitions and the clock begin a step.
pub fn cut(items: &[Item], random: &mut Rng, length: usize) -> Vec<Range<usize>> {
    // A view may have rows before anything has happened.
    let mut steps = vec![0..0; usize::from(items.is_empty() || random.bool())];
    let mut start = 0;
    while start < items.len() {
        if random.u8(..8) == 0 {
            steps.push(start..start);
        }
        let wanted = start + random.usize(1..=length.max(1) * 2);
        let mut end = start + 1;
        let goes_on = |end: usize| match &items[end] {
            Item::Row(change) => change.is_joined || end < wanted,
            Item::Idle { .. } | Item::Clock(_) => false,
        };
        while end < items.len() && goes_on(end) {
            end += 1;
        }
        steps.push(start..end);
        start = end;
    }
    steps
}
