//! The plan of a view's late rows: which operators judge, and what the relation of them is like.
//!
//! ```text
//!   event_time  watermark  diff  reason   auction  price  ts       the columns of the judged rows
//! ```
//!
//! Where several operators judge, rows of different shapes come together: a column is there once
//! for each name and type, and NULL in the rows that have none.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::base::ObjectId;
use crate::plan::stream::{Node, Operation};
use crate::types::SqlType;

/// What the name of a view's late rows ends in.
pub const LATE_SUFFIX: &str = "__late";

/// What is done with rows that come too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateOption {
    /// They are counted.
    #[default]
    Discard,
    /// They are counted and kept in a relation of their own.
    SideOutput,
}

/// The relation of a view's late rows.
#[derive(Clone, Debug)]
pub struct LatePlan {
    /// Its object; 0 in the plan of a view that does not exist yet.
    pub object: ObjectId,
    pub schema: SchemaRef,
    /// The operators that judge.
    pub inputs: Vec<LateInput>,
}

/// An operator that judges.
#[derive(Clone, Debug)]
pub struct LateInput {
    /// Its place in the plan.
    pub node: usize,
    /// For each column of its input that the query has where that stands in the relation.
    pub columns: Vec<usize>,
    pub reasons: Reasons,
}

/// What is said of the rows that an operator judges late.
#[derive(Clone, Copy, Debug)]
pub struct Reasons {
    /// Of a row that came.
    pub came: &'static str,
    /// Of a row that would be taken back.
    pub left: &'static str,
}

impl Reasons {
    pub const WINDOW_CLOSED: Reasons = Reasons {
        came: "every window of the row was closed",
        left: "the window of the row that is taken back was closed",
    };
    pub const BEHIND_WATERMARK: Reasons = Reasons {
        came: "the row came behind the watermark",
        left: "the row that is taken back is behind the watermark",
    };
}

impl LatePlan {
    /// `None` where no operator judges. `known` says how many of the columns that come into one the
    /// query has: what was computed for the operator's own sake is behind them, and not shown.
    pub(super) fn of(nodes: &[Node], known: impl Fn(usize) -> usize) -> Option<LatePlan> {
        let mut fields: Vec<Field> = vec![
            SqlType::Timestamptz.to_field("event_time", false),
            SqlType::Timestamptz.to_field("watermark", false),
            SqlType::BigInt.to_field("diff", false),
            SqlType::Text.to_field("reason", false),
        ];
        let own = fields.len();
        let mut inputs = Vec::new();
        for (node, planned) in nodes.iter().enumerate() {
            let (judged, reasons) = match &planned.operation {
                Operation::Window(window, _) if window.judges => {
                    (&window.input, Reasons::WINDOW_CLOSED)
                }
                Operation::Judge(judge) => (&judge.input, Reasons::BEHIND_WATERMARK),
                Operation::Session(session) if session.judges => {
                    (&session.input, Reasons::WINDOW_CLOSED)
                }
                Operation::SessionAggregate(aggregate) if aggregate.session.judges => {
                    (&aggregate.session.input, Reasons::WINDOW_CLOSED)
                }
                _ => continue,
            };
            let place = |field: &Arc<Field>| {
                let field = field.as_ref().clone().with_nullable(true);
                let known = fields[own..].iter().position(|known| *known == field);
                known.map_or_else(
                    || {
                        let name = free_name(&fields, field.name());
                        fields.push(field.with_name(name));
                        fields.len() - 1
                    },
                    |known| own + known,
                )
            };
            let judged = judged.fields().iter().take(known(node));
            let columns = judged.map(place).collect();
            inputs.push(LateInput {
                node,
                columns,
                reasons,
            });
        }
        let plan = LatePlan {
            object: ObjectId(0),
            schema: Arc::new(Schema::new(fields)),
            inputs,
        };
        (!plan.inputs.is_empty()).then_some(plan)
    }
}

/// The name, or the first of `name_2`, `name_3` … that is not taken.
fn free_name(fields: &[Field], name: &str) -> String {
    let is_free = |name: &String| fields.iter().all(|field| field.name() != name);
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut names = std::iter::once(name.to_string()).chain(numbered);
    names.find(is_free).expect("names do not end")
}
