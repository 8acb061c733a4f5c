//! Conditions: of columns alone, and those with subqueries.

use super::value::Type;
use super::{Expr, Grammar};

impl Grammar<'_> {
    /// A condition on columns.
    pub(super) fn predicate(&mut self, scope: &[Expr], depth: usize) -> String {
        if depth > 0 && self.choices.one_in(3) {
            let a = self.predicate(scope, depth - 1);
            let b = self.predicate(scope, depth - 1);
            return match self.choices.below(5) {
                0 => format!("({a} AND {b})"),
                1 => format!("({a} OR {b})"),
                2 => format!("NOT ({a})"),
                3 => format!("({a}) IS NOT TRUE"),
                _ => format!("({a}) IS UNKNOWN"),
            };
        }
        let of = self.any_type(scope);
        let a = self.expression(of, scope, depth.min(1));
        let x = &a.text;
        match self.choices.below(8) {
            0..3 => {
                let operator = *self.choices.pick(&["=", "<", ">=", "<>", ">", "<="]);
                let b = self.compared(&a, scope);
                format!("{x} {operator} {b}")
            }
            3 => {
                let not = *self.choices.pick(&["", "NOT "]);
                format!("{x} IS {not}NULL")
            }
            4 => {
                let not = *self.choices.pick(&["", "NOT "]);
                let b = self.compared(&a, scope);
                format!("{x} IS {not}DISTINCT FROM {b}")
            }
            5 => {
                let not = *self.choices.pick(&["", "NOT "]);
                let (b, c) = (self.compared(&a, scope), self.compared(&a, scope));
                format!("{x} {not}BETWEEN {b} AND {c}")
            }
            6 => {
                let not = *self.choices.pick(&["", "NOT "]);
                let many = 1 + self.choices.below(3);
                let list: Vec<String> = (0..many).map(|_| self.constant(of).text).collect();
                format!("{x} {not}IN ({})", list.join(", "))
            }
            _ => match of {
                Type::Text => {
                    let not = *self.choices.pick(&["", "NOT "]);
                    let pattern = *self.choices.pick(&["a%", "%b", "_", "%", "%a_%", ""]);
                    format!("{x} {not}LIKE '{pattern}'")
                }
                Type::Boolean => {
                    let is = *self.choices.pick(&["", " IS TRUE", " IS NOT FALSE"]);
                    format!("{x}{is}")
                }
                _ => {
                    let b = self.compared(&a, scope);
                    format!("{x} = {b}")
                }
            },
        }
    }

    /// Something to compare with: of the same type, or another one of numbers.
    fn compared(&mut self, with: &Expr, scope: &[Expr]) -> String {
        let of = match with.of {
            Type::Integer if self.choices.one_in(3) => Type::BigInt,
            Type::BigInt if self.choices.one_in(3) => {
                *self.choices.pick(&[Type::Integer, Type::Numeric])
            }
            same => same,
        };
        match self.choices.one_in(2) {
            true => self.leaf(of, scope).text,
            false => self.constant(of).text,
        }
    }

    /// What two sides of a join are joined by.
    pub(super) fn join_condition(&mut self, left: &[Expr], right: &[Expr]) -> String {
        let both: Vec<Expr> = left.iter().chain(right).cloned().collect();
        let mut parts = Vec::new();
        let is_equi = !self.choices.one_in(4);
        if is_equi {
            for _ in 0..1 + usize::from(self.choices.one_in(4)) {
                parts.extend(self.equality(left, right));
            }
        }
        if parts.is_empty() || self.choices.one_in(3) {
            match self.pair(left, right) {
                Some((a, b)) if !self.choices.one_in(3) => {
                    let operator = *self.choices.pick(&["<", ">=", "<>"]);
                    parts.push(format!("{} {operator} {}", a.text, b.text));
                }
                _ => parts.push(self.predicate(&both, 1)),
            }
        }
        match parts.len() > 1 && self.choices.one_in(6) {
            true => parts.join(" OR "),
            false => parts.join(" AND "),
        }
    }

    pub(super) fn equality(&mut self, left: &[Expr], right: &[Expr]) -> Option<String> {
        let (a, b) = self.pair(left, right)?;
        let operator = match self.choices.one_in(5) {
            true => "IS NOT DISTINCT FROM",
            false => "=",
        };
        let a = match self.choices.one_in(5) && a.of.is_integer() && a.bound < 1000 {
            true => format!("{} + 1", a.text),
            false => a.text,
        };
        Some(format!("{a} {operator} {}", b.text))
    }

    /// A column of each side, of the same type.
    fn pair(&mut self, left: &[Expr], right: &[Expr]) -> Option<(Expr, Expr)> {
        let mut pairs = Vec::new();
        // A cast in a condition that leaves its subquery has the name of what it casts (42701).
        let is_mixed = !self.is_in_subquery;
        for a in left {
            let integers = |b: &Expr| is_mixed && b.of.is_integer() && a.of.is_integer();
            let alike = |b: &&Expr| b.of == a.of || integers(b);
            pairs.extend(right.iter().filter(alike).map(|b| (a, b)));
        }
        if pairs.is_empty() {
            return None;
        }
        let (a, b) = *self.choices.pick(&pairs);
        Some((a.clone(), b.clone()))
    }

    /// What stands in WHERE: conditions on columns, and subqueries.
    pub(super) fn condition(&mut self, scope: &[Expr]) -> String {
        let mut parts = vec![match self.choices.below(4) {
            0..2 => self.predicate(scope, 2),
            _ => self.subquery_condition(scope),
        }];
        if self.choices.one_in(4) {
            parts.push(match self.choices.one_in(2) {
                true => self.predicate(scope, 1),
                false => self.subquery_condition(scope),
            });
        }
        let is_or = self.choices.one_in(3);
        parts.join(if is_or { " OR " } else { " AND " })
    }

    fn subquery_condition(&mut self, scope: &[Expr]) -> String {
        if !self.can_select() {
            return self.predicate(scope, 1);
        }
        self.is_in_subquery = true;
        let text = self.subquery(scope);
        self.is_in_subquery = false;
        text
    }

    fn subquery(&mut self, scope: &[Expr]) -> String {
        let inner = self.stored();
        let mut conditions = Vec::new();
        let is_correlated = self.choices.one_in(2);
        if is_correlated && let Some(equality) = self.equality(&inner.columns, scope) {
            conditions.push(equality);
        }
        if self.choices.one_in(3) {
            conditions.push(self.predicate(&inner.columns, 1));
        }
        let kind = self.choices.below(4);
        if kind == 0 && is_correlated && self.choices.one_in(3) {
            // More than equality with the outer row.
            if let Some((a, b)) = self.pair(&inner.columns, scope) {
                conditions.push(format!("{} <> {}", a.text, b.text));
            }
        }
        let from = match conditions.is_empty() {
            true => inner.text,
            false => format!("{} WHERE {}", inner.text, conditions.join(" AND ")),
        };
        match kind {
            0 => {
                let not = *self.choices.pick(&["", "NOT "]);
                format!("{not}EXISTS (SELECT 1 FROM {from})")
            }
            1 | 2 => {
                let of = self.choices.pick(&inner.columns).of;
                let not = if kind == 2 { "NOT " } else { "" };
                let wanted = self.leaf(of, &inner.columns).text;
                let value = self.leaf(of, scope).text;
                let membership = match (not, self.choices.one_in(6)) {
                    ("", true) => format!("{value} = ANY (SELECT {wanted} FROM {from})"),
                    _ => format!("{value} {not}IN (SELECT {wanted} FROM {from})"),
                };
                match self.choices.below(8) {
                    7 => format!("({membership}) IS NULL"),
                    6 => format!("NOT ({membership})"),
                    5 => format!("({membership}) IS NOT TRUE"),
                    _ => membership,
                }
            }
            _ => {
                let aggregate = self.aggregate(&inner.columns);
                let operator = *self.choices.pick(&["=", "<", ">=", "<>"]);
                let value = self.leaf(aggregate.of, scope).text;
                format!("{value} {operator} (SELECT {} FROM {from})", aggregate.text)
            }
        }
    }
}
