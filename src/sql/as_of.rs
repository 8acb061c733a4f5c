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

use std::ops::Range;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, JoinConstraint, JoinOperator, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

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

/// A query's text, as the library prints it, with its ASOF joins as users write them.
pub fn as_written(printed: &str) -> String {
    let tokenizer = Tokenizer::new(&PostgreSqlDialect {}, printed);
    let Ok(tokens) = tokenizer.with_unescape(false).tokenize() else {
        return printed.to_string();
    };
    let mut text: Vec<String> = Vec::with_capacity(tokens.len());
    // The joins whose conditions are to come: how deep they stand, and where in the text.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(token) = tokens.get(at) {
        let rest = &tokens[at + 1..];
        let kind = is_word(token, "MATCH_CONDITION").then(|| Kind::of(rest));
        let join = open.iter().rposition(|(of, _)| *of == depth);
        if let (Some(Some(kind)), Some(join)) = (kind, join) {
            let (_, place) = open.remove(join);
            if kind.is_outer {
                text[place].push_str(" LEFT");
            }
            match &rest[kind.condition.clone()] {
                // Behind it there is a space, too.
                [] => drop(text.pop_if(|last| last == " ")),
                condition => {
                    let condition: String = condition.iter().map(Token::to_string).collect();
                    text.push(format!("{token} ({})", condition.trim()));
                }
            }
            at += 1 + kind.tokens;
            continue;
        }
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            token if is_word(token, "ASOF") => open.push((depth, text.len())),
            _ => {}
        }
        text.push(token.to_string());
        at += 1;
    }
    text.concat()
}

/// What stands in parentheses behind MATCH_CONDITION in the one shape.
struct Kind {
    is_outer: bool,
    /// Which of the tokens are the condition, if there is one.
    condition: Range<usize>,
    /// How many tokens it is altogether.
    tokens: usize,
}

impl Kind {
    /// `('left')` or `(('left', condition))`, with spaces anywhere.
    fn of(tokens: &[Token]) -> Option<Kind> {
        let written = tokens.iter().enumerate();
        let mut written = written.filter(|(_, token)| !matches!(token, Token::Whitespace(_)));
        let (_, Token::LParen) = written.next()? else {
            return None;
        };
        let (mut depth, mut next) = (1_usize, written.next()?);
        if *next.1 == Token::LParen {
            (depth, next) = (2, written.next()?);
        }
        let (kind_at, Token::SingleQuotedString(kind)) = next else {
            return None;
        };
        let is_outer = match kind.as_str() {
            INNER => false,
            LEFT => true,
            _ => return None,
        };
        // Between the comma behind the kind and the parenthesis that closes the inner pair.
        let (mut start, mut condition) = (None, 0..0);
        for (at, token) in written.filter(|(at, _)| *at > kind_at) {
            match token {
                Token::Comma if depth == 2 => start = start.or(Some(at + 1)),
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            match (token, depth) {
                (Token::RParen, 0) => {
                    return Some(Kind {
                        is_outer,
                        condition,
                        tokens: at + 1,
                    });
                }
                (Token::RParen, 1) => condition = start.unwrap_or(at)..at,
                _ => {}
            }
        }
        None
    }
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_single;
    use crate::sql::statement::Statement;

    #[test]
    fn joins_are_shown_as_they_are_written() {
        for query in [
            "SELECT * FROM a ASOF JOIN b ON a.k = b.k AND a.ts >= b.ts",
            "SELECT * FROM a ASOF LEFT JOIN b ON a.k = b.k AND a.ts >= b.ts",
            "SELECT * FROM a ASOF LEFT JOIN b MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k",
            "SELECT * FROM a ASOF JOIN b MATCH_CONDITION (f(a.ts, 1) >= (b.ts)) ON a.k = b.k",
            "SELECT * FROM a ASOF LEFT JOIN (SELECT * FROM b ASOF JOIN c ON b.x >= c.x) AS d \
             ON a.ts >= d.ts WHERE 'ASOF MATCH_CONDITION (''left'')' <> a.t",
            "SELECT * FROM (a ASOF JOIN b ON a.x > b.x) ASOF LEFT JOIN c USING(k, ts)",
            "SELECT \"asof\" FROM a JOIN b ON a.\"MATCH_CONDITION\" = b.k",
        ] {
            let parsed = parse_single(query).unwrap().unwrap();
            let Statement::Query(parsed) = parsed.statement else {
                panic!("{query} is a query")
            };
            assert_eq!(as_written(&parsed.to_string()), query);
        }
    }
}
