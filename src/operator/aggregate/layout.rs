//! Which stores an aggregate's calls need: those that need the same share one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::function::aggregate::{Total, TotalRule};
use crate::operator::aggregate::change::{Change, Selection};
use crate::operator::aggregate::extreme::ExtremeStore;
use crate::operator::aggregate::multiset::Multiset;
use crate::operator::aggregate::order::End;
use crate::operator::aggregate::spec::{
    AggregateCall, AggregateFunction, AggregateSpec, StockAggregate,
};
use crate::operator::aggregate::stock::StockStore;
use crate::operator::aggregate::store::{Reading, Store};
use crate::operator::aggregate::totals::TotalStore;
use crate::operator::aggregate::truths::TruthStore;

/// A store and the rows that it wants; `None`: all.
pub(super) struct SelectedStore {
    pub selection: Option<usize>,
    pub store: Box<dyn Store>,
}

/// Where a call's value comes from.
pub(super) enum Call {
    /// The number of rows that the selection counts; `None`: all.
    Count { selection: Option<usize> },
    Stored {
        store: usize,
        selection: Option<usize>,
        reading: Reading,
    },
}

/// The parts of an aggregate, while they are found out.
#[derive(Default)]
pub(super) struct Layout {
    pub selections: Vec<Selection>,
    plans: Vec<StorePlan>,
    pub calls: Vec<Call>,
}

/// A store that is to be made.
struct StorePlan {
    kind: StoreKind,
    argument: usize,
    selection: Option<usize>,
    /// Of a multiset: what else is kept.
    keeps_total: bool,
    keeps_order: bool,
}

#[derive(Clone, Debug)]
enum StoreKind {
    Total,
    Truths,
    Extreme(End),
    Multiset,
    Stock(Arc<StockAggregate>),
}

impl Layout {
    /// Says where a call's value is to come from.
    pub fn add(&mut self, call: &AggregateCall, spec: &AggregateSpec) -> Result<()> {
        let selection = self.selection(call.argument, call.filter);
        let argument = match (&call.function, call.argument) {
            (AggregateFunction::CountAll | AggregateFunction::Stock(_), _) => 0,
            (_, Some(argument)) => argument,
            (function, None) => {
                return Err(Error::internal(format!("{function} has no argument")));
            }
        };
        let rule = |total| TotalRule::new(total, spec.input.field(argument).data_type());
        let extreme = |end| match spec.is_append_only {
            true => StoreKind::Extreme(end),
            false => StoreKind::Multiset,
        };
        let (kind, reading) = match &call.function {
            AggregateFunction::CountAll | AggregateFunction::Count => {
                self.calls.push(Call::Count { selection });
                return Ok(());
            }
            AggregateFunction::Sum => (StoreKind::Total, Reading::Total(rule(Total::Sum)?)),
            AggregateFunction::Avg => (StoreKind::Total, Reading::Total(rule(Total::Average)?)),
            AggregateFunction::Min => (extreme(End::Least), Reading::Least),
            AggregateFunction::Max => (extreme(End::Greatest), Reading::Greatest),
            AggregateFunction::BoolAnd => (StoreKind::Truths, Reading::All),
            AggregateFunction::BoolOr => (StoreKind::Truths, Reading::Any),
            AggregateFunction::CountDistinct => (StoreKind::Multiset, Reading::Distinct),
            AggregateFunction::SumDistinct => {
                (StoreKind::Multiset, Reading::Total(rule(Total::Sum)?))
            }
            AggregateFunction::AvgDistinct => {
                (StoreKind::Multiset, Reading::Total(rule(Total::Average)?))
            }
            AggregateFunction::Stock(stock) => (StoreKind::Stock(stock.clone()), Reading::Stock),
        };
        let store = self.store(kind, argument, selection);
        let plan = &mut self.plans[store];
        if matches!(plan.kind, StoreKind::Multiset) {
            plan.keeps_total |= matches!(reading, Reading::Total(_));
            plan.keeps_order |= matches!(reading, Reading::Least | Reading::Greatest);
        }
        self.calls.push(Call::Stored {
            store,
            selection,
            reading,
        });
        Ok(())
    }

    /// Makes the stores.
    pub fn stores(&mut self, input: &SchemaRef) -> Result<Vec<SelectedStore>> {
        let plans = std::mem::take(&mut self.plans);
        let build = |plan: StorePlan| {
            let selection = plan.selection;
            let store = plan.build(input)?;
            Ok(SelectedStore { selection, store })
        };
        plans.into_iter().map(build).collect()
    }

    fn selection(&mut self, argument: Option<usize>, filter: Option<usize>) -> Option<usize> {
        if argument.is_none() && filter.is_none() {
            return None;
        }
        let known = self
            .selections
            .iter()
            .position(|known| known.is_of(argument, filter));
        Some(known.unwrap_or_else(|| {
            self.selections.push(Selection::new(argument, filter));
            self.selections.len() - 1
        }))
    }

    fn store(&mut self, kind: StoreKind, argument: usize, selection: Option<usize>) -> usize {
        let is_same = |plan: &StorePlan| {
            let is_same_kind = match (&plan.kind, &kind) {
                (StoreKind::Total, StoreKind::Total)
                | (StoreKind::Truths, StoreKind::Truths)
                | (StoreKind::Multiset, StoreKind::Multiset) => true,
                (StoreKind::Extreme(a), StoreKind::Extreme(b)) => a == b,
                _ => false,
            };
            is_same_kind && plan.argument == argument && plan.selection == selection
        };
        self.plans.iter().position(is_same).unwrap_or_else(|| {
            self.plans.push(StorePlan {
                kind,
                argument,
                selection,
                keeps_total: false,
                keeps_order: false,
            });
            self.plans.len() - 1
        })
    }
}

/// Adds the rows of a batch to the selections and stores of groups below `groups`.
pub(super) fn add_rows(
    selections: &mut [Selection],
    stores: &mut [SelectedStore],
    groups: usize,
    rows: &RecordBatch,
    all: &Change<'_>,
) -> Result<()> {
    let mut valid = Vec::with_capacity(selections.len());
    for selection in selections {
        let counted = selection.valid(rows);
        let change = Change {
            valid: counted.as_ref(),
            ..*all
        };
        selection.update(groups, &change);
        valid.push(counted);
    }
    for selected in stores {
        let valid = selected.selection.and_then(|at| valid[at].as_ref());
        selected.store.update(rows, &Change { valid, ..*all })?;
    }
    Ok(())
}

impl StorePlan {
    fn build(self, input: &SchemaRef) -> Result<Box<dyn Store>> {
        let data_type = || input.field(self.argument).data_type();
        Ok(match self.kind {
            StoreKind::Total => Box::new(TotalStore::new(self.argument, data_type())?),
            StoreKind::Truths => Box::new(TruthStore::new(self.argument)),
            StoreKind::Extreme(end) => {
                Box::new(ExtremeStore::new(self.argument, end, data_type())?)
            }
            StoreKind::Multiset => {
                let types = [data_type().clone()];
                let mut multiset = Multiset::new(vec![self.argument], &types)?;
                if self.keeps_total {
                    multiset.keep_total()?;
                }
                if self.keeps_order {
                    multiset.keep_order()?;
                }
                Box::new(multiset)
            }
            StoreKind::Stock(stock) => Box::new(StockStore::new(stock, input)?),
        })
    }
}
