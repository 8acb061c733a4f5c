//! ASOF joins: the one shape that every written form is rewritten to.
//!
//! The library reads `ASOF JOIN t MATCH_CONDITION (c) ON …` and no other form. The tokens of all
//! others are made that one, with what else there is to say as the first value in the parentheses:
//!
//! ```text
//!   a ASOF JOIN b ON c                           MATCH_CONDITION ('inner') ON c
//!   a ASOF LEFT JOIN b ON c                      MATCH_CONDITION ('left') ON c
//!   a ASOF LEFT JOIN b MATCH_CONDITION (m) ON c  MATCH_CONDITION (('left', m)) ON c
//! ```
//!
//! As in DuckDB and RisingWave, an ASOF JOIN without LEFT is an inner one.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, JoinConstraint, JoinOperator, Value,
};

/// Whether an expression is `PROCTIME()`: the moment in which a row is taken.
pub fn is_proctime(expr: &Expr) -> bool {
    let Expr::Function(call) = expr else {
        return false;
    };
    let has_arguments = match &call.args {
        FunctionArguments::None => false,
        FunctionArguments::List(list) => !list.args.is_empty(),
        FunctionArguments::Subquery(_) => true,
    };
    !has_arguments && call.name.to_string().eq_ignore_ascii_case("proctime")
}

const INNER: &str = "inner";
const LEFT: &str = "left";
const LEFT_VERSIONS: &str = "left versions";
const INNER_VERSIONS: &str = "inner versions";

/// What an ASOF join says beside its ON.
#[derive(Clone, Debug, PartialEq)]
pub struct AsOfJoin {
    pub is_outer: bool,
    /// It was written FOR SYSTEM_TIME AS OF.
    pub is_versioned: bool,
    pub condition: Option<Expr>,
}

impl AsOfJoin {
    /// Reads an operator of the one shape; `None` for other joins.
    pub fn of(operator: JoinOperator) -> Option<(AsOfJoin, JoinConstraint)> {
        let JoinOperator::AsOf {
            match_condition,
            constraint,
        } = operator
        else {
            return None;
        };
        let (kind, condition) = match match_condition {
            Expr::Tuple(values) => {
                let [kind, condition] = <[Expr; 2]>::try_from(values).ok()?;
                (kind, Some(condition))
            }
            Expr::Nested(kind) => (*kind, None),
            kind => (kind, None),
        };
        let Expr::Value(value) = kind else {
            return None;
        };
        let Value::SingleQuotedString(kind) = value.value else {
            return None;
        };
        let (is_outer, is_versioned) = match kind.as_str() {
            INNER => (false, false),
            LEFT => (true, false),
            INNER_VERSIONS => (false, true),
            LEFT_VERSIONS => (true, true),
            _ => return None,
        };
        let join = AsOfJoin {
            is_outer,
            is_versioned,
            condition,
        };
        Some((join, constraint))
    }

    pub fn into_operator(self, constraint: JoinConstraint) -> JoinOperator {
        let kind = match (self.is_outer, self.is_versioned) {
            (false, false) => INNER,
            (true, false) => LEFT,
            (false, true) => INNER_VERSIONS,
            (true, true) => LEFT_VERSIONS,
        };
        let kind = Expr::Value(Value::SingleQuotedString(kind.to_string()).into());
        JoinOperator::AsOf {
            match_condition: match self.condition {
                None => kind,
                Some(condition) => Expr::Tuple(vec![kind, condition]),
            },
            constraint,
        }
    }

    /// The word by which the tokens say of which kind a join is.
    pub(super) fn kind(is_outer: bool) -> &'static str {
        if is_outer { LEFT } else { INNER }
    }

    /// Whether a text in the tokens is such a word.
    pub(super) fn is_kind(text: &str) -> bool {
        [INNER, LEFT, INNER_VERSIONS, LEFT_VERSIONS].contains(&text)
    }
}
