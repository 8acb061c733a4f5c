//! What stands in FROM: tables, named queries, queries, and joins of these.

use super::expression::SMALL;
use super::value::{TYPES, Type};
use super::{Expr, Grammar};

/// A relation, and what its columns are called in an expression.
pub(super) struct From {
    pub text: String,
    pub columns: Vec<Expr>,
}

impl Grammar<'_> {
    pub(super) fn from(&mut self, depth: usize) -> From {
        let mut from = self.relation(depth);
        let mut joins = 0;
        while joins < 2 && self.choices.one_in(2 + joins) {
            joins += 1;
            let other = match self.choices.one_in(8) && joins == 1 {
                true => {
                    let inner = self.relation(0);
                    let last = self.relation(0);
                    let joined = self.join(inner, last);
                    From {
                        text: format!("({})", joined.text),
                        columns: joined.columns,
                    }
                }
                false => self.relation(depth),
            };
            from = self.join(from, other);
        }
        from
    }

    fn join(&mut self, left: From, right: From) -> From {
        let kinds = [
            "JOIN",
            "LEFT JOIN",
            "RIGHT JOIN",
            "FULL JOIN",
            "CROSS JOIN",
            ",",
        ];
        let kind = kinds[[0, 0, 0, 1, 1, 2, 3, 4][self.choices.below(8)]];
        let text = match kind {
            "CROSS JOIN" => format!("{} CROSS JOIN {}", left.text, right.text),
            _ => {
                let on = self.join_by(kind, &left.columns, &right.columns);
                format!("{} {kind} {} {on}", left.text, right.text)
            }
        };
        let columns = left.columns.into_iter().chain(right.columns).collect();
        From { text, columns }
    }

    /// USING, where both sides have one column of the name, or ON.
    fn join_by(&mut self, kind: &str, left: &[Expr], right: &[Expr]) -> String {
        let named = |columns: &[Expr], name: &str| -> Vec<Expr> {
            let same = |column: &&Expr| name_of(&column.text) == name;
            columns.iter().filter(same).cloned().collect()
        };
        let is_common = |column: &&Expr| {
            let name = name_of(&column.text);
            matches!(&named(right, name)[..], [other] if other.of == column.of)
                && named(left, name).len() == 1
        };
        let common: Vec<&str> = left
            .iter()
            .filter(is_common)
            .map(|column| name_of(&column.text))
            .collect();
        match kind {
            "JOIN" | "LEFT JOIN" if !common.is_empty() && self.choices.one_in(5) => {
                format!("USING ({})", self.choices.pick(&common))
            }
            // Postgres joins so by equality only.
            "FULL JOIN" if self.is_shared => match self.equality(left, right) {
                Some(equality) if !equality.contains("DISTINCT") => format!("ON {equality}"),
                _ => "ON true".to_string(),
            },
            _ => format!("ON {}", self.join_condition(left, right)),
        }
    }

    /// A table, a named query, or a query in parentheses.
    pub(super) fn relation(&mut self, depth: usize) -> From {
        if depth > 0 && self.choices.one_in(4) && self.can_select() {
            let query = self.query_of(None, depth - 1);
            let alias = format!("q{}", self.number());
            let columns = named_columns(&alias, &query.columns);
            let text = format!("({}) AS {alias}", query.text);
            return From { text, columns };
        }
        self.relation_alone()
    }

    /// A table, a named query, or values.
    fn relation_alone(&mut self) -> From {
        match self.choices.one_in(12) {
            true => {
                let alias = format!("q{}", self.number());
                self.values(&alias)
            }
            false => self.stored(),
        }
    }

    /// A table or a named query: what stands in subqueries over the outer row. The library loses
    /// names that are given to columns there, and refuses the query (42703).
    pub(super) fn stored(&mut self) -> From {
        let alias = format!("q{}", self.number());
        if !self.named.is_empty() && self.choices.one_in(2) {
            let (name, columns) = self.choices.pick(&self.named).clone();
            let columns = named_columns(&alias, &columns);
            let text = format!("{name} AS {alias}");
            return From { text, columns };
        }
        let table = self.choices.pick(self.tables);
        let columns = table.columns.iter().map(|column| {
            let bound = super::select::bound_of(column);
            Expr::new(format!("{alias}.{}", column.name), column.of, bound)
        });
        From {
            text: format!("{} AS {alias}", table.name),
            columns: columns.collect(),
        }
    }
}

impl Grammar<'_> {
    /// Rows that never change.
    fn values(&mut self, alias: &str) -> From {
        let types: Vec<Type> = (0..1 + self.choices.below(2))
            .map(|_| *self.choices.pick(&TYPES))
            .collect();
        let mut rows = Vec::new();
        for _ in 0..1 + self.choices.below(3) {
            let row: Vec<String> = types
                .iter()
                .map(|of| format!("{}::{}", self.constant(*of).text, of.sql()))
                .collect();
            rows.push(format!("({})", row.join(", ")));
        }
        let mut names = Vec::new();
        let mut columns = Vec::new();
        for of in types {
            let name = format!("c{}", self.number());
            columns.push(Expr::new(format!("{alias}.{name}"), of, SMALL));
            names.push(name);
        }
        let names: Vec<String> = (1..)
            .zip(names)
            .map(|(place, name)| format!("column{place} AS {name}"))
            .collect();
        From {
            text: format!(
                "(SELECT {} FROM (VALUES {}) AS v) AS {alias}",
                names.join(", "),
                rows.join(", ")
            ),
            columns,
        }
    }
}

/// What a column is called behind its relation.
fn name_of(text: &str) -> &str {
    text.rsplit('.').next().unwrap_or(text)
}

/// The columns of a query under its alias.
fn named_columns(alias: &str, columns: &[Expr]) -> Vec<Expr> {
    let named =
        |column: &Expr| Expr::new(format!("{alias}.{}", column.text), column.of, column.bound);
    columns.iter().map(named).collect()
}
