//! The relations that queries are asked of, and random values for their columns.
//!
//! They are planned from the same text that a user would write. `l` stands for a changelog: a
//! source whose rows can be taken back, judged for lateness like all others.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::logical_expr::TableSource;
use datafusion::scalar::ScalarValue;
use fastrand::Rng;

use crate::base::{ObjectId, Offset, PartitionId};
use crate::catalog::{Catalog, Changelog, Definition, Object, ObjectKind};
use crate::connector::factory::TimeOptions;
use crate::connector::{Bounds, ReadRange, Reader, SourceConnector};
use crate::dataflow::SourceSpec;
use crate::error::{Error, Result};
use crate::plan::{PlannedTable, Planner, plan_source, plan_table, session_state};
use crate::sql::parse_single;
use crate::sql::statement::Statement;
use crate::storage::Retention;

pub const SECOND: i64 = 1_000_000;

pub type Row = Arc<[ScalarValue]>;

/// What the model knows of a source's time.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    pub column: usize,
    pub delay_micros: i64,
    pub partitions: u32,
}

/// A relation that rows are written to.
pub struct Relation {
    pub name: &'static str,
    pub id: ObjectId,
    pub schema: SchemaRef,
    /// The key column of a table that has one.
    pub key: Option<usize>,
    /// Rows can be taken back.
    pub is_retracting: bool,
    /// Of a source.
    pub time: Option<Time>,
    /// The column that is the clock of the step which takes a row.
    pub clocked: Option<usize>,
    pub source: Option<SourceSpec>,
}

/// Everything that exists before a view is made.
pub struct World {
    pub state: SessionState,
    pub relations: Vec<Relation>,
    pub catalog: Catalog,
}

const TABLES: [(&str, &str, Option<usize>); 2] = [
    (
        "t",
        "CREATE TABLE t (id BIGINT PRIMARY KEY, a BIGINT, b TEXT, c DOUBLE PRECISION, \
         d NUMERIC(12, 2), e BOOLEAN, ts TIMESTAMPTZ)",
        Some(0),
    ),
    (
        "u",
        "CREATE TABLE u (k BIGINT, i INTEGER, b TEXT, c DOUBLE PRECISION, d NUMERIC(20, 4), \
         ts TIMESTAMP)",
        None,
    ),
];

const SOURCES: [(&str, &str, Time); 4] = [
    (
        "s",
        "CREATE SOURCE s (a BIGINT, b TEXT, c DOUBLE PRECISION, d NUMERIC(12, 2), e BOOLEAN, \
         ts TIMESTAMPTZ, WATERMARK FOR ts AS ts - INTERVAL '4 seconds') \
         WITH (connector = 'topic')",
        Time {
            column: 5,
            delay_micros: 4 * SECOND,
            partitions: 1,
        },
    ),
    (
        "r",
        "CREATE SOURCE r (a INTEGER, b TEXT, v BIGINT, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts) \
         WITH (connector = 'topic')",
        Time {
            column: 3,
            delay_micros: 0,
            partitions: 2,
        },
    ),
    (
        "l",
        "CREATE SOURCE l (a BIGINT, b TEXT, v BIGINT, ts TIMESTAMPTZ, \
         WATERMARK FOR ts AS ts - INTERVAL '2 seconds') WITH (connector = 'topic')",
        Time {
            column: 3,
            delay_micros: 2 * SECOND,
            partitions: 1,
        },
    ),
    (
        "p",
        "CREATE SOURCE p (a BIGINT, b TEXT, v BIGINT, ts TIMESTAMPTZ, pt AS PROCTIME(), \
         WATERMARK FOR ts AS ts - INTERVAL '4 seconds') WITH (connector = 'topic')",
        Time {
            column: 3,
            delay_micros: 4 * SECOND,
            partitions: 1,
        },
    ),
];

impl World {
    pub fn new() -> World {
        let mut world = World {
            state: session_state(),
            relations: Vec::new(),
            catalog: Catalog::default(),
        };
        for (name, text, key) in TABLES {
            world.add(name, text, key, None);
        }
        for (name, text, time) in SOURCES {
            world.add(name, text, None, Some(time));
        }
        world
    }

    /// Tables alone: their names, texts and keys.
    pub fn of_tables(
        state: SessionState,
        tables: &[(&'static str, String, Option<usize>)],
    ) -> World {
        let mut world = World {
            state,
            relations: Vec::new(),
            catalog: Catalog::default(),
        };
        for (name, text, key) in tables {
            world.add(name, text, *key, None);
        }
        world
    }

    pub fn relation(&self, name: &str) -> usize {
        let found = self
            .relations
            .iter()
            .position(|relation| relation.name == name);
        found.unwrap_or_else(|| panic!("no relation is called {name}"))
    }

    fn add(&mut self, name: &'static str, text: &str, key: Option<usize>, time: Option<Time>) {
        let id = ObjectId(self.relations.len() as u64 + 1);
        let resolve = |_: &TableReference| -> Result<Option<Arc<dyn TableSource>>> { Ok(None) };
        let planner = Planner::new(&self.state, &resolve);
        let planned = match parse_single(text).unwrap().unwrap().statement {
            Statement::CreateTable(create) => plan_table(&planner, &create).unwrap(),
            Statement::CreateSource(create) => plan_source(&planner, &create).unwrap(),
            other => panic!("{other:?}"),
        };
        let mut relation = planned.relation();
        let is_retracting = name == "l" || time.is_none();
        if is_retracting {
            relation.changelog = Changelog::Retracting;
        }
        let partitions = time.map_or(0, |time| time.partitions);
        let source = time.map(|_| SourceSpec {
            id,
            name: name.to_string(),
            connector: Arc::new(NoConnector),
            connector_name: "none",
            identity: None,
            watch_interval_micros: 0,
            retention: Retention::default(),
            schema: planned.schema.clone(),
            computed: planned.computed.clone(),
            clocked: planned.clocked.clone(),
            watermark: planned.watermark.clone(),
            startup: (0..partitions)
                .map(|each| (PartitionId(each), Offset(0)))
                .collect(),
            idle_timeout_micros: 0,
            time: TimeOptions::default(),
            is_embedded: true,
        });
        let kind = match time {
            None => ObjectKind::Table,
            Some(_) => ObjectKind::Source,
        };
        let definition = definition(id, name, kind);
        self.catalog.put(Object {
            definition,
            relation,
            depends_on: Vec::new(),
        });
        let schema = planned.schema.clone();
        self.relations.push(Relation {
            name,
            id,
            schema,
            key,
            is_retracting,
            time,
            clocked: planned.clocked.first().copied(),
            source,
        });
    }
}

pub fn definition(id: ObjectId, name: &str, kind: ObjectKind) -> Definition {
    Definition {
        id,
        oid: 0,
        kind,
        name: name.to_string(),
        text: String::new(),
        startup: BTreeMap::new(),
        identity: None,
        comment: None,
        late: None,
    }
}

/// Finds relations and views for a stream plan.
pub fn planned_table(
    catalog: &Catalog,
    reference: &TableReference,
) -> Result<Option<Arc<dyn TableSource>>> {
    let object = catalog.resolve(reference.table())?.clone();
    Ok(Some(Arc::new(PlannedTable { object })))
}

/// Rows come from the script.
struct NoConnector;

impl SourceConnector for NoConnector {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        Err(Error::internal("nothing is read"))
    }

    fn bounds(&self, _partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        Err(Error::internal("nothing is read"))
    }

    fn startup(&self, _partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        Err(Error::internal("nothing is read"))
    }

    fn reader(&self, _ranges: Vec<ReadRange>, _columns: &[usize]) -> Result<Box<dyn Reader>> {
        Err(Error::internal("nothing is read"))
    }
}

/// Rows as columns.
pub fn batch(schema: &SchemaRef, rows: &[Row]) -> RecordBatch {
    let column = |(place, field): (usize, &arrow::datatypes::FieldRef)| -> ArrayRef {
        match rows.is_empty() {
            true => arrow::array::new_empty_array(field.data_type()),
            false => ScalarValue::iter_to_array(rows.iter().map(|row| row[place].clone())).unwrap(),
        }
    };
    let columns = schema.fields().iter().enumerate().map(column).collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

pub fn timestamp(data_type: &DataType, micros: Option<i64>) -> ScalarValue {
    match data_type {
        DataType::Timestamp(_, zone) => ScalarValue::TimestampMicrosecond(micros, zone.clone()),
        other => panic!("{other} is not a time"),
    }
}

pub fn micros(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMicrosecond(micros, _) => *micros,
        other => panic!("{other} is not a time"),
    }
}

/// A value that is often like others, at times NULL and now and then at the end of its type.
pub fn value(random: &mut Rng, data_type: &DataType, now: i64) -> ScalarValue {
    if random.u8(..8) == 0 {
        return ScalarValue::try_from(data_type).unwrap();
    }
    let is_extreme = random.u8(..30) == 0;
    let is_odd = random.bool();
    match data_type {
        DataType::Int64 => ScalarValue::from(match (is_extreme, is_odd) {
            (true, true) => i64::MAX,
            (true, false) => i64::MIN,
            (false, _) => random.i64(-1..5),
        }),
        DataType::Int32 => ScalarValue::from(match (is_extreme, is_odd) {
            (true, true) => i32::MAX,
            (true, false) => i32::MIN,
            (false, _) => random.i32(-1..5),
        }),
        DataType::Utf8 => {
            let texts = [
                "a",
                "b",
                "A",
                "",
                "ä longer text, past what is kept inline",
                "12",
                " 7",
            ];
            ScalarValue::from(texts[random.usize(..texts.len())])
        }
        DataType::Float64 => {
            let floats = [0.0, -0.0, 1.5, -2.25, 0.1, 1e16, 1.0, 3.0, -7.5];
            let extremes = [
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                1e300,
                -1e300,
                5e-324,
            ];
            ScalarValue::from(match is_extreme || random.u8(..8) == 0 {
                true => extremes[random.usize(..extremes.len())],
                false => floats[random.usize(..floats.len())],
            })
        }
        DataType::Decimal128(precision, scale) => {
            let end = 10i128.pow(u32::from(*precision)) - 1;
            let value = match (is_extreme, is_odd) {
                (true, true) => end,
                (true, false) => -end,
                (false, _) => i128::from(random.i64(-300..300)) * 25,
            };
            ScalarValue::Decimal128(Some(value), *precision, *scale)
        }
        DataType::Boolean => ScalarValue::from(is_odd),
        DataType::Timestamp(..) => timestamp(data_type, Some(now - random.i64(0..20) * SECOND)),
        other => panic!("no values of {other}"),
    }
}
