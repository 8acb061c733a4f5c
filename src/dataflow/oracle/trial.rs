//! One query, one sequence: the views are compared with the answers, step after step.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::logical_expr::TableSource;
use fastrand::Rng;

use crate::base::ObjectId;
use crate::base::limits::PARALLEL_ROWS_MIN;
use crate::catalog::{Object, ObjectKind, Relation};
use crate::dataflow::oracle::answer::windowed_schema;
use crate::dataflow::oracle::answer::{Answers, Multiset, difference, multiset, parsed};
use crate::dataflow::oracle::engine::{EVERY_MICROS, Engine, Tally};
use crate::dataflow::oracle::model::{self, Late, NEVER, Used};
use crate::dataflow::oracle::query::{Case, Emits, Kept};
use crate::dataflow::oracle::relation::{SECOND, World, batch, definition, planned_table};
use crate::dataflow::oracle::script::{Item, Script, cut};
use crate::error::Result;
use crate::operator::Counts;
use crate::plan::{
    LateOption, Operation, Planner, RetentionMode, RetentionOption, StreamPlan, ViewOptions,
    named_query, plan_view,
};
use crate::sql::statement::Emit;
use crate::sql::{Interval, Position};

/// Items of a sequence: enough for windows to come and go and for rows to meet.
const ITEMS: usize = 110;

/// One check in so many steps, besides those at the end: answers cost more than steps.
const STEPS_PER_CHECK: u8 = 6;

/// A case, planned.
pub struct Trial<'a> {
    world: &'a World,
    case: &'a Case,
    plans: Vec<(ObjectId, StreamPlan)>,
    answers: Answers,
    /// The relations it reads, as the world numbers them.
    reads: Vec<usize>,
    /// For each of them the columns.
    used: Used,
}

impl<'a> Trial<'a> {
    pub fn new(world: &'a World, case: &'a Case) -> Trial<'a> {
        let plans = plans(world, case);
        let schemas: Vec<SchemaRef> = plans
            .iter()
            .map(|(_, plan)| nullable(&plan.schema))
            .collect();
        let answers = Answers::new(world, case, &schemas);
        for (view, schema) in schemas.iter().enumerate() {
            let types: Vec<_> = schema
                .fields()
                .iter()
                .map(|field| field.data_type().clone())
                .collect();
            assert_eq!(
                types,
                answers.types(view),
                "types of v{view}: {}",
                case.name()
            );
        }
        let scanned: BTreeSet<ObjectId> = plans
            .iter()
            .flat_map(|(_, plan)| plan.scans())
            .map(|scan| scan.object)
            .collect();
        let numbers = 0..world.relations.len();
        let reads = numbers
            .filter(|&each| scanned.contains(&world.relations[each].id))
            .collect();
        let used = used(world, &plans);
        Trial {
            world,
            case,
            plans,
            answers,
            reads,
            used,
        }
    }

    /// A random sequence in random steps on random workers, compared all along.
    pub fn run(&self, seed: u64) {
        let _naming = Naming(format!("seed {seed}, {}", self.case.name()));
        let mut random = Rng::with_seed(seed);
        let mut script = self.script(seed, ITEMS);
        let workers = random.usize(1..=4);
        let mut engine = Engine::new(self.world, &self.plans, workers);
        let mut begun = 0;
        for is_drained in [false, true] {
            if is_drained {
                script.drain(&self.reads);
            }
            let items = script.items.as_slice();
            let length = random.usize(1..12);
            for step in cut(&items[begun..], &mut random, length) {
                let (start, end) = (begun + step.start, begun + step.end);
                let _naming = Naming(format!("step of items {start}..{end}, {workers} workers"));
                engine.step(items, start..end, &mut random);
                match random.u8(..12) {
                    0..3 => engine.checkpoint(&mut random),
                    3 => {
                        engine.checkpoint(&mut random);
                        engine.crash();
                    }
                    4 if engine.has_checkpoint() => engine.crash(),
                    _ => {}
                }
                if random.u8(..STEPS_PER_CHECK) == 0 {
                    self.check(&engine, &items[..end]);
                }
            }
            begun = items.len();
            self.check(&engine, items);
        }
        if self.case.is_by_clock() {
            engine.fire(&script.items, &mut random);
            self.check(&engine, &script.items);
        }
        self.check_state(&mut engine);
    }

    /// A random sequence, with a clock where the query asks for one.
    fn script(&self, seed: u64, length: usize) -> Script<'a> {
        let script = Script::new(self.world, &self.reads, seed, length);
        match (self.case.ttl, self.case.has_clock()) {
            // Every row comes at some clock, the first one, too.
            (Some(_), _) => script.with_clock_from_the_first(),
            (None, true) => script.with_clock(),
            (None, false) => script,
        }
    }

    fn check(&self, engine: &Engine<'_>, items: &[Item]) {
        let shown = items.iter().rev().find_map(|item| match item {
            Item::Clock(clock) => Some(*clock),
            Item::Row(_) | Item::Idle { .. } => None,
        });
        self.answers.set_clock(shown);
        let (closed, mut counts, late) = self.fill(items);
        for &number in &self.reads {
            let relation = &self.world.relations[number];
            if relation.time.is_some() {
                let (_, watermark) = model::judged(items, number, self.world, &self.used);
                assert_eq!(
                    engine.watermark(relation.id).0,
                    watermark,
                    "of {}",
                    relation.name
                );
            }
        }
        for (number, view) in self.case.views.iter().enumerate() {
            if view.emits == Emits::Every {
                self.fill(&items[..engine.fired()]);
            }
            let mut batches = self.answers.run(number);
            if view.emits == Emits::Every {
                self.fill(items);
            }
            let all = multiset(&batches);
            let after = match view.emits {
                Emits::OnUpdate | Emits::Every => None,
                Emits::OnClose { column, behind } | Emits::OnCloseOrEarlier { column, behind } => {
                    Some((column, behind))
                }
                Emits::OnCloseOrLater { column } => Some((column, 0)),
            };
            if let Some((column, behind)) = after {
                let closed = closed.saturating_sub(behind);
                batches = batches
                    .iter()
                    .map(|batch| closed_rows(batch, column, closed))
                    .collect();
            }
            let whole = batches.clone();
            if let Some(kept) = view.retention {
                let count = |batches: &[RecordBatch]| -> usize {
                    batches.iter().map(RecordBatch::num_rows).sum()
                };
                batches.iter_mut().for_each(|batch| {
                    let times = crate::operator::rows::micros(batch.column(kept.column));
                    let stays = times.iter().map(|time| Some(kept.keeps(time, closed)));
                    let stays = stays.collect();
                    *batch = arrow::compute::filter_record_batch(batch, &stays).unwrap();
                });
                counts.rows_expired += (count(&whole) - count(&batches)) as u64;
            }
            let expected = multiset(&batches);
            let found = engine.rows(number);
            let difference = match view.emits {
                Emits::OnCloseOrEarlier { .. } => beyond(&found, &expected, &all),
                Emits::OnCloseOrLater { .. } => beyond(&found, &Multiset::new(), &expected),
                Emits::OnUpdate | Emits::Every | Emits::OnClose { .. } => {
                    difference(&found, &expected)
                }
            };
            assert!(
                difference.is_empty(),
                "v{number} is not what it should be:\n{difference}"
            );
            if self.case.views.len() > number + 1 {
                let schema = &self.plans[number].1.schema;
                // Nobody above a view that forgets is told.
                let forgets = |kept: Kept| kept.mode == RetentionMode::Forget;
                let shown = match view.retention.is_some_and(forgets) {
                    true => whole,
                    false => batches,
                };
                let batches: Vec<_> = shown
                    .into_iter()
                    .map(|batch| batch.with_schema(nullable(schema)).unwrap())
                    .collect();
                let rows = arrow::compute::concat_batches(&nullable(schema), &batches).unwrap();
                self.answers.fill(&format!("v{number}"), rows);
            }
        }
        compare_tallies(engine, self.case.views.len(), counts, late);
    }

    /// Fills the batch's tables with what the items come to. Returns up to when windows are closed,
    /// and what must have been counted.
    fn fill(&self, items: &[Item]) -> (i64, Counts, Vec<Late>) {
        let mut closed = i64::MAX;
        let mut counts = Counts::default();
        let mut late = Vec::new();
        for &number in &self.reads {
            let relation = &self.world.relations[number];
            let rows = model::rows(items, number, self.world, &self.used);
            self.answers
                .fill(relation.name, batch(&relation.schema, &rows));
            if self.case.closes_by_clock() {
                let shown = items.iter().rev().find_map(|item| match item {
                    Item::Clock(clock) => Some(*clock),
                    Item::Row(_) | Item::Idle { .. } => None,
                });
                closed = shown.unwrap_or(NEVER);
            } else if relation.time.is_some() {
                closed = closed.min(model::judged(items, number, self.world, &self.used).1);
            }
            if let Some((name, fails)) = self.case.failing
                && name == relation.name
            {
                let changes = items.iter().filter_map(|item| match item {
                    Item::Row(change) if change.relation == number => Some(change),
                    _ => None,
                });
                let seen = changes.filter(|change| model::is_seen(change, self.world, &self.used));
                let failed = seen.filter(|change| fails(&change.row));
                counts.rows_failed += failed
                    .map(|change| change.weight.unsigned_abs())
                    .sum::<u64>();
            }
        }
        for (number, window) in self.case.windows.iter().enumerate() {
            let relation = &self.world.relations[self.world.relation(window.relation)];
            let windowed = window.assign(items, self.world, &self.used);
            let schema = windowed_schema(&relation.schema);
            self.answers
                .fill(&format!("w{number}"), batch(&schema, &windowed.rows));
            counts.add(&windowed.counts);
            late.extend(windowed.late);
        }
        late.sort_unstable();
        (closed, counts, late)
    }

    /// When everything has left and all time is over, nothing is kept.
    fn check_state(&self, engine: &mut Engine<'_>) {
        if self.case.keeps {
            return;
        }
        let nodes = self.plans.iter().flat_map(|(_, plan)| &plan.nodes);
        let globals = nodes
            .filter(|node| matches!(&node.operation, Operation::Aggregate(spec) if spec.is_global));
        // Each global aggregate keeps its one group; the last rows' windows never close.
        let last: usize = self
            .case
            .windows
            .iter()
            .map(|window| {
                let relation = &self.world.relations[self.world.relation(window.relation)];
                let rows = relation.time.expect("a source has a time").partitions as usize;
                let windows = usize::try_from(window.windows_max()).unwrap();
                // Kept by a few operators, each with a row of its group and one of a multiset.
                rows * windows * 12
            })
            .sum();
        let most = globals.count() * 4 + last;
        let rows = engine.state_rows();
        assert!(
            rows <= most,
            "{rows} rows of state are kept, {most} at most are needed"
        );
    }
}

/// Two ways of cutting a sequence give the same rows and the same late rows.
pub fn agree_under_all_cuts(trial: &Trial<'_>, seed: u64) {
    let _naming = Naming(format!("seed {seed}, {}", trial.case.name()));
    let script = trial.script(seed, ITEMS);
    let run = |cut_seed: u64, length: usize, workers: usize| -> Vec<(Multiset, Tally)> {
        let mut random = Rng::with_seed(cut_seed);
        let mut engine = Engine::new(trial.world, &trial.plans, workers);
        for step in cut(&script.items, &mut random, length) {
            engine.step(&script.items, step, &mut random);
            if random.u8(..8) == 0 {
                engine.checkpoint(&mut random);
                engine.crash();
            }
        }
        if trial.case.is_by_clock() {
            engine.fire(&script.items, &mut random);
        }
        let view = |number| {
            let mut tally = engine.tally(number).clone();
            tally.late.sort_unstable();
            (engine.rows(number), tally)
        };
        (0..trial.plans.len()).map(view).collect()
    };
    let whole = run(seed, ITEMS, 1);
    for (length, workers) in [(1, 1), (4, 3), (20, 4)] {
        let other = run(seed ^ 0x5eed, length, workers);
        for (number, ((a, b), (c, d))) in whole.iter().zip(&other).enumerate() {
            let difference = difference(a, c);
            assert!(
                difference.is_empty(),
                "v{number}, steps of {length}:\n{difference}"
            );
            assert_eq!(b.late, d.late, "late rows of v{number}");
            assert_eq!(b.counts, d.counts, "counts of v{number}");
            assert_eq!(b.errors, d.errors, "errors of v{number}");
        }
    }
}

/// Bad values: a view is what its query says of the rows without bad ones among the columns it
/// reads, and it is the same whether the sources make these columns only or, for others, all of
/// them.
pub fn agrees_on_bad_values(trial: &Trial<'_>, seed: u64) {
    let scans = trial.plans.iter().flat_map(|(_, plan)| plan.scans());
    let mut scans: Vec<(ObjectId, &[usize])> = scans
        .map(|scan| (scan.object, scan.columns.as_slice()))
        .collect();
    scans.sort_unstable();
    scans.dedup();
    // Two scans of a relation with different columns see different rows; the model knows one table.
    if scans.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return;
    }
    let _naming = Naming(format!("bad values: seed {seed}, {}", trial.case.name()));
    let mut script = trial.script(seed, ITEMS);
    script.spoil();
    let run = |cut_seed: u64, length: usize, workers: usize, is_shared: bool| {
        let mut random = Rng::with_seed(cut_seed);
        let mut engine = Engine::new(trial.world, &trial.plans, workers);
        for step in cut(&script.items, &mut random, length) {
            // Others come and go: they change which columns are decoded, and nothing else.
            if is_shared && random.bool() {
                engine.want_all();
            }
            engine.step(&script.items, step, &mut random);
            if random.u8(..8) == 0 {
                engine.checkpoint(&mut random);
                engine.crash();
            }
        }
        trial.check(&engine, &script.items);
    };
    run(seed, 8, 1, false);
    run(seed ^ 0x5eed, 5, 3, true);
}

/// The columns that the views of a case read of each relation.
fn used(world: &World, plans: &[(ObjectId, StreamPlan)]) -> Used {
    let mut used = Used::new();
    for scan in plans.iter().flat_map(|(_, plan)| plan.scans()) {
        let number = world
            .relations
            .iter()
            .position(|each| each.id == scan.object);
        if let Some(number) = number {
            used.entry(number).or_default().extend(&scan.columns);
        }
    }
    used
}

/// Many rows in one step on several workers against few rows in many steps on one.
pub fn agree_on_many_rows(trial: &Trial<'_>, seed: u64) {
    let _naming = Naming(format!("seed {seed}, {}", trial.case.name()));
    let mut script = trial.script(seed, PARALLEL_ROWS_MIN * 2);
    // A partition becomes idle between steps only.
    script.items.retain(|item| matches!(item, Item::Row(_)));
    let run = |length: usize, workers: usize| {
        let mut random = Rng::with_seed(seed);
        let mut engine = Engine::new(trial.world, &trial.plans, workers);
        for start in (0..script.items.len()).step_by(length) {
            let end = script.items.len().min(start + length);
            engine.step(&script.items, start..end, &mut random);
        }
        let mut late = engine.tally(0).late.clone();
        late.sort_unstable();
        (engine.rows(0), late, engine.tally(0).counts)
    };
    let (rows, late, counts) = run(script.items.len(), 4);
    let (expected, expected_late, expected_counts) = run(500, 1);
    let difference = difference(&rows, &expected);
    assert!(difference.is_empty(), "{difference}");
    assert_eq!((late, counts), (expected_late, expected_counts));
}

/// The last view, made when others have run for long: it begins with their rows as they are.
pub fn agrees_when_made_late(trial: &Trial<'_>, seed: u64) {
    let scans = trial
        .plans
        .last()
        .map(|(_, plan)| plan.scans())
        .expect("a case has a view");
    let sources = |id: ObjectId| {
        trial
            .world
            .relations
            .iter()
            .any(|r| r.id == id && r.time.is_some())
    };
    if scans.map(|scan| scan.object).any(sources) {
        // It would read the source from its beginning: what the other tests do.
        return;
    }
    // When rows come to a view, it is younger than what it reads.
    if trial.case.ttl.is_some() {
        return;
    }
    // What a view below has forgotten is not there any more: so it says.
    let below = &trial.case.views[..trial.case.views.len() - 1];
    let forgets = |kept: Kept| kept.mode == RetentionMode::Forget;
    if below.iter().any(|view| view.retention.is_some_and(forgets)) {
        return;
    }
    let _naming = Naming(format!("made late: seed {seed}, {}", trial.case.name()));
    let mut random = Rng::with_seed(seed);
    let mut script = trial.script(seed, ITEMS);
    script.drain(&trial.reads);
    let mut engine = Engine::new(trial.world, &trial.plans, 2);
    let steps = cut(&script.items, &mut random, 8);
    // The rows of a step that knows several times have one of them.
    let at_once = match trial.case.closes_by_clock() {
        true => steps.clone(),
        false => std::iter::once(0..script.items.len()).collect(),
    };
    let made = random.usize(..steps.len());
    for (number, step) in steps.into_iter().enumerate() {
        if number == made {
            engine.make_anew(&script.items[..step.start], &mut random);
        }
        engine.step(&script.items, step, &mut random);
    }
    let mut whole = Engine::new(trial.world, &trial.plans, 1);
    for step in at_once {
        whole.step(&script.items, step, &mut random);
    }
    if trial.case.is_by_clock() {
        engine.fire(&script.items, &mut random);
        whole.fire(&script.items, &mut random);
    }
    let last = trial.plans.len() - 1;
    let difference = difference(&engine.rows(last), &whole.rows(last));
    assert!(difference.is_empty(), "{difference}");
}

/// Plans the views of a case, each over those before it.
fn plans(world: &World, case: &Case) -> Vec<(ObjectId, StreamPlan)> {
    let mut catalog = world.catalog.clone();
    let mut plans = Vec::new();
    for (number, view) in case.views.iter().enumerate() {
        let sql = case.stream_sql(number);
        let resolve = |reference: &TableReference| -> Result<Option<Arc<dyn TableSource>>> {
            planned_table(&catalog, reference)
        };
        let planner = Planner::new(&world.state, &resolve);
        let options = ViewOptions {
            emit: match view.emits {
                Emits::OnUpdate => None,
                Emits::Every => Some(Emit::Every {
                    interval: Interval {
                        micros: EVERY_MICROS,
                        ..Interval::default()
                    },
                    position: Position::UNKNOWN,
                }),
                Emits::OnClose { .. }
                | Emits::OnCloseOrLater { .. }
                | Emits::OnCloseOrEarlier { .. } => Some(Emit::OnWindowClose),
            },
            allowed_lateness_micros: if number == 0 { case.lateness } else { 0 },
            late_rows: LateOption::SideOutput,
            retention: view.retention.map(|kept| RetentionOption {
                micros: kept.seconds * SECOND,
                mode: kept.mode,
            }),
            state_ttl_micros: case.ttl.filter(|_| number == 0),
            ..ViewOptions::default()
        };
        let parsed = parsed(&sql);
        // As a user would be told to: every column has a name of its own.
        let names = named_query(&planner, &parsed, &[]).map(|(_, names)| unique(names));
        let plan = names.and_then(|names| plan_view(&planner, &parsed, &names, &options));
        let plan = plan.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let id = ObjectId(100 + number as u64);
        let relation = Relation {
            schema: plan.schema.clone(),
            key: plan.key.clone(),
            changelog: plan.changelog,
            bounded: plan.bounded.clone(),
            clocked: plan.clocked_columns(),
            event_time: None,
            defaults: Vec::new(),
        };
        let definition = definition(id, &format!("v{number}"), ObjectKind::MaterializedView);
        catalog.put(Object {
            definition,
            relation,
            depends_on: plan.depends_on.clone(),
        });
        plans.push((id, plan));
    }
    plans
}

fn unique(mut names: Vec<String>) -> Vec<String> {
    for at in 1..names.len() {
        if names[..at].contains(&names[at]) {
            names[at] = format!("{}{at}", names[at]);
        }
    }
    names
}

fn compare_tallies(engine: &Engine<'_>, views: usize, expected: Counts, mut late: Vec<Late>) {
    let mut counts = Counts::default();
    let mut found: Vec<Late> = Vec::new();
    let mut errors = 0;
    for number in 0..views {
        let tally = engine.tally(number);
        let mut own = tally.late.clone();
        own.sort_unstable();
        let kept = engine.kept_late(number).unwrap_or_default();
        assert_eq!(kept, own, "the relation of v{number}'s late rows");
        counts.add(&tally.counts);
        found.extend(&tally.late);
        errors += tally.errors;
    }
    found.sort_unstable();
    late.sort_unstable();
    assert_eq!(
        found, late,
        "late rows: event time, watermark before, weight"
    );
    assert_eq!(counts, expected, "counters");
    assert_eq!(
        errors, expected.rows_failed,
        "every failed row is in the errors"
    );
}

fn closed_rows(batch: &RecordBatch, column: usize, closed: i64) -> RecordBatch {
    let times = crate::operator::rows::micros(batch.column(column));
    let is_closed = times
        .iter()
        .map(|time| Some(closed != NEVER && time? <= closed))
        .collect();
    arrow::compute::filter_record_batch(batch, &is_closed).unwrap()
}

/// Rows that are missing of the least, or there beyond the most.
fn beyond(found: &Multiset, least: &Multiset, most: &Multiset) -> String {
    let mut bounded = found.clone();
    for (row, count) in &mut bounded {
        let of = |rows: &Multiset| rows.get(row).copied().unwrap_or(0);
        // What is between the two counts as right.
        if of(least) <= *count && *count <= of(most) {
            *count = of(least);
        }
    }
    bounded.retain(|_, count| *count != 0);
    difference(&bounded, least)
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

/// Says what was being tried when a test fails.
struct Naming(String);

impl Drop for Naming {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while trying {}", self.0);
        }
    }
}
