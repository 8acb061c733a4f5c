//! GROUPING SETS, ROLLUP and CUBE: an aggregate for each set, and the union of them.
//!
//! ```text
//!   GROUP BY ROLLUP (a, b)        input ─┬─► by (a, b) ─► a,    b,    n, id 0 ─┐
//!                                        ├─► by (a)    ─► a,    NULL, n, id 1 ─┼─► union
//!                                        └─► by ()     ─► NULL, NULL, n, id 3 ─┘
//! ```
//!
//! Each set keeps groups of its own columns only: one that keeps a window's end frees its groups as
//! windows close, whatever the others do, and the empty set has its row even when there is no
//! input. What is below is computed once for all of them.
//!
//! The grouping id is as DataFusion's `grouping()` reads it: a bit per column, the last column's
//! lowest, set where the set lacks the column; above them the number of the set among equal ones.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;

use crate::base::limits::GROUPING_SETS_MAX;
use crate::delta::arrow_error;
use crate::error::{Error, Result, SqlState};
use crate::operator::aggregate::AggregateCall;
use crate::plan::build::{Build, arrow_schema, column_expr};
use crate::plan::failure::from_datafusion;

impl Build<'_> {
    /// The rows of all sets, each with its grouping id behind the columns of the groups.
    pub(super) fn grouping_sets(
        &mut self,
        input: usize,
        aggregate: &Aggregate,
        grouping: &GroupingSet,
    ) -> Result<usize> {
        let columns: Vec<Expr> = grouping.distinct_expr().into_iter().cloned().collect();
        let output = arrow_schema(&aggregate.schema);
        // A row is bad, or an expression fails, for all sets or for none.
        let schema = aggregate.input.schema();
        let (mapped, calls) = self.group_input(input, schema, &columns, &aggregate.aggr_expr)?;
        let mut known: Vec<u64> = Vec::new();
        let mut parts = Vec::new();
        for set in sets(grouping)? {
            let is_kept: Vec<bool> = columns.iter().map(|column| set.contains(column)).collect();
            let lacks = is_kept.iter().map(|is_kept| u64::from(!is_kept));
            let mask = lacks.fold(0u64, |mask, lacks| mask << 1 | lacks);
            let ordinal = known.iter().filter(|other| **other == mask).count() as u64;
            known.push(mask);
            // Columns in their one order, however the set names them.
            let places: Vec<usize> = (0..columns.len()).filter(|&place| is_kept[place]).collect();
            let first_call = columns.len() + 1;
            let part = places
                .iter()
                .copied()
                .chain(first_call..output.fields().len());
            let part = output.project(&part.collect::<Vec<_>>());
            let part = Arc::new(part.map_err(arrow_error)?);
            let node = self.grouping_set(mapped, &places, &calls, part);
            let id = mask | ordinal.checked_shl(columns.len() as u32).unwrap_or(0);
            let project = output.fields().iter().enumerate().map(|(place, field)| {
                let schema = &self.nodes[node].schema;
                if let Some(at) = places.iter().position(|kept| *kept == place) {
                    return Ok(column_expr(schema, at));
                }
                if let Some(call) = place.checked_sub(first_call) {
                    return Ok(column_expr(schema, places.len() + call));
                }
                let value = match place == columns.len() {
                    true => ScalarValue::UInt64(Some(id)).cast_to(field.data_type()),
                    false => ScalarValue::try_from(field.data_type()),
                };
                let value = Literal::new(value.map_err(from_datafusion)?);
                Ok(Arc::new(value) as Arc<dyn PhysicalExpr>)
            });
            let project = project.collect::<Result<Vec<_>>>()?;
            parts.push(self.map_compiled(node, None, project, output.clone()));
        }
        Ok(self.union(parts, output))
    }

    /// The aggregate by some of the columns, over only what it reads.
    fn grouping_set(
        &mut self,
        mapped: usize,
        group: &[usize],
        calls: &[AggregateCall],
        output: SchemaRef,
    ) -> usize {
        let mut read = group.to_vec();
        for column in calls.iter().flat_map(AggregateCall::columns) {
            if !read.contains(&column) {
                read.push(column);
            }
        }
        let place = |column: usize| {
            let place = read.iter().position(|other| *other == column);
            place.expect("every column that is read has a place")
        };
        let calls = calls.iter().map(|call| call.moved(place)).collect();
        let schema = self.nodes[mapped].schema.clone();
        let fields: Vec<_> = read
            .iter()
            .map(|&column| schema.field(column).clone())
            .collect();
        let project = read.iter().map(|&column| column_expr(&schema, column));
        let project = project.collect();
        let narrow = self.map_compiled(mapped, None, project, Arc::new(Schema::new(fields)));
        self.grouped(narrow, (0..group.len()).collect(), calls, output)
    }
}

/// The columns of each set.
///
/// # Errors
/// 54000, when they are too many: each is an aggregate of its own.
fn sets(grouping: &GroupingSet) -> Result<Vec<Vec<Expr>>> {
    let count = match grouping {
        GroupingSet::Rollup(exprs) => exprs.len() + 1,
        GroupingSet::Cube(exprs) => 1usize.checked_shl(exprs.len() as u32).unwrap_or(usize::MAX),
        GroupingSet::GroupingSets(sets) => sets.len(),
    };
    if count > GROUPING_SETS_MAX {
        let message = format!("a view has at most {GROUPING_SETS_MAX} grouping sets");
        return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
            .hint("name the sets that are wanted: GROUP BY GROUPING SETS ((…), …)"));
    }
    Ok(match grouping {
        GroupingSet::Rollup(exprs) => (0..=exprs.len())
            .rev()
            .map(|length| exprs[..length].to_vec())
            .collect(),
        GroupingSet::Cube(exprs) => (0..count)
            .map(|lacking| {
                let is_kept = |place: &usize| lacking >> (exprs.len() - 1 - place) & 1 == 0;
                let kept = (0..exprs.len()).filter(is_kept);
                kept.map(|place| exprs[place].clone()).collect()
            })
            .collect(),
        GroupingSet::GroupingSets(sets) => sets.clone(),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::col;

    use super::*;

    #[test]
    fn rollup_shortens_cube_leaves_out_and_too_many_are_refused() {
        let (a, b) = (col("a"), col("b"));
        let rollup = GroupingSet::Rollup(vec![a.clone(), b.clone()]);
        let expected = [vec![a.clone(), b.clone()], vec![a.clone()], vec![]];
        assert_eq!(sets(&rollup).unwrap(), expected);
        let cube = GroupingSet::Cube(vec![a.clone(), b.clone()]);
        let expected = [vec![a.clone(), b.clone()], vec![a.clone()], vec![b], vec![]];
        assert_eq!(sets(&cube).unwrap(), expected);
        for many in [7, 64, 200] {
            let error = sets(&GroupingSet::Cube(vec![a.clone(); many])).unwrap_err();
            assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
        }
    }
}
