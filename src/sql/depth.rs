//! Makes long chains shallow and refuses trees that stay deep.
//!
//! A chain of one associative operator is read from left to right into a tree as deep as it is
//! long; the same operands in a balanced tree mean the same, in the same order:
//!
//! ```text
//!        OR                    OR
//!      OR  d       ──►      OR    OR         16 operands or more of AND, OR, UNION [ALL] or
//!    OR  c                 a  b  c  d        INTERSECT [ALL]; shorter chains stay as they are
//!   a  b
//! ```
//!
//! It is printed without parentheses and read back into the same tree. All other chains (`+`, which
//! is not associative for floats, casts, EXCEPT) count with their full length.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Query, SetExpr, SetOperator, SetQuantifier, TableFactor, Value, Values,
    VisitorMut,
};

use crate::base::limits::STATEMENT_DEPTH_MAX;
use crate::error::{Error, SqlState};

/// Operands from which on a chain is balanced: shorter ones cost nothing, and plans of usual
/// queries keep the shape that people expect to see.
const BALANCED_OPERANDS_MIN: usize = 16;

/// A query, a set operation and a table in FROM take more stack than an expression.
const QUERY_LEVELS: usize = 3;

/// Visits a tree from the top, balances its chains, and stops where it is too deep.
pub(super) struct Flattener {
    depth: usize,
    /// Levels that each open query added.
    queries: Vec<usize>,
}

impl Flattener {
    pub fn new() -> Self {
        Flattener {
            depth: 0,
            queries: Vec::new(),
        }
    }

    fn enter(&mut self, levels: usize) -> ControlFlow<Error> {
        self.depth += levels;
        if self.depth > STATEMENT_DEPTH_MAX {
            let message = format!("statement is more than {STATEMENT_DEPTH_MAX} levels deep");
            let error = Error::new(SqlState::STATEMENT_TOO_COMPLEX, message)
                .hint("move inner parts into views, or split long chains with parentheses");
            return ControlFlow::Break(error);
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Flattener {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        balance_set_operations(&mut query.body);
        let levels = QUERY_LEVELS * (1 + set_operation_levels(&query.body));
        self.queries.push(levels);
        self.enter(levels)
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth -= self.queries.pop().unwrap_or(0);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, _: &mut TableFactor) -> ControlFlow<Error> {
        self.enter(QUERY_LEVELS)
    }

    fn post_visit_table_factor(&mut self, _: &mut TableFactor) -> ControlFlow<Error> {
        self.depth -= QUERY_LEVELS;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        balance_logic(expr);
        self.enter(1)
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Joins operands, in their order, into a tree of the least depth.
fn balanced<T>(mut operands: Vec<T>, join: &impl Fn(T, T) -> T) -> Option<T> {
    while operands.len() > 1 {
        let mut pairs = Vec::with_capacity(operands.len().div_ceil(2));
        let mut rest = operands.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        operands = pairs;
    }
    operands.pop()
}

fn logic_length(expr: &Expr, operator: &BinaryOperator) -> usize {
    let mut length = 1;
    let mut left = expr;
    while let Expr::BinaryOp { left: next, op, .. } = left
        && op == operator
    {
        length += 1;
        left = next;
    }
    length
}

fn balance_logic(expr: &mut Expr) {
    let operator = match expr {
        Expr::BinaryOp {
            op: op @ (BinaryOperator::And | BinaryOperator::Or),
            ..
        } => op.clone(),
        _ => return,
    };
    if logic_length(expr, &operator) < BALANCED_OPERANDS_MIN {
        return;
    }
    let mut operands = Vec::new();
    let mut left = std::mem::replace(expr, Expr::Value(Value::Null.into()));
    loop {
        match left {
            Expr::BinaryOp {
                left: next,
                op,
                right,
            } if op == operator => {
                operands.push(*right);
                left = *next;
            }
            first => {
                operands.push(first);
                break;
            }
        }
    }
    operands.reverse();
    let join = |left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: operator.clone(),
        right: Box::new(right),
    };
    if let Some(tree) = balanced(operands, &join) {
        *expr = tree;
    }
}

/// The operator of a chain that may be balanced.
fn associative(body: &SetExpr) -> Option<(SetOperator, SetQuantifier)> {
    match body {
        SetExpr::SetOperation {
            op, set_quantifier, ..
        } => match (op, set_quantifier) {
            (
                SetOperator::Union | SetOperator::Intersect,
                SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None,
            ) => Some((*op, *set_quantifier)),
            _ => None,
        },
        _ => None,
    }
}

fn set_length(body: &SetExpr, operator: (SetOperator, SetQuantifier)) -> usize {
    let mut length = 1;
    let mut left = body;
    while let SetExpr::SetOperation {
        left: next,
        op,
        set_quantifier,
        ..
    } = left
        && (*op, *set_quantifier) == operator
    {
        length += 1;
        left = next;
    }
    length
}

fn balance_set_operations(body: &mut SetExpr) {
    // Down the left side, past what is not associative.
    let mut place = body;
    loop {
        if let Some(operator) = associative(place)
            && set_length(place, operator) >= BALANCED_OPERANDS_MIN
        {
            balance_set_operation(place, operator);
            return;
        }
        match place {
            SetExpr::SetOperation { left, .. } => place = left.as_mut(),
            _ => return,
        }
    }
}

fn balance_set_operation(place: &mut SetExpr, operator: (SetOperator, SetQuantifier)) {
    let mut operands = Vec::new();
    let nothing = SetExpr::Values(Values {
        explicit_row: false,
        value_keyword: false,
        rows: Vec::new(),
    });
    let mut left = std::mem::replace(place, nothing);
    loop {
        match left {
            SetExpr::SetOperation {
                left: next,
                op,
                set_quantifier,
                right,
            } if (op, set_quantifier) == operator => {
                operands.push(*right);
                left = *next;
            }
            first => {
                operands.push(first);
                break;
            }
        }
    }
    operands.reverse();
    let (op, set_quantifier) = operator;
    let join = |left, right| SetExpr::SetOperation {
        left: Box::new(left),
        op,
        set_quantifier,
        right: Box::new(right),
    };
    if let Some(tree) = balanced(operands, &join) {
        *place = tree;
    }
}

/// The longest way down through set operations only.
fn set_operation_levels(body: &SetExpr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(body, 0)];
    while let Some((body, level)) = open.pop() {
        deepest = deepest.max(level);
        if let SetExpr::SetOperation { left, right, .. } = body {
            open.push((left, level + 1));
            open.push((right, level + 1));
        }
    }
    deepest
}
