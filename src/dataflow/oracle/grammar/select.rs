//! Whole queries: SELECT in all its forms, set operations, and the first rows of them.

use super::choice::Choices;
use super::schema::{Column, Table};
use super::value::Type;
use super::{Expr, Grammar, either};

/// A query; its columns by their names.
pub(super) struct Query {
    pub text: String,
    pub columns: Vec<Expr>,
}

/// How far rows can be multiplied by joins, as a factor of sums.
const ROWS: i128 = 10_000;

/// A random query over the tables. [`text`](super::text) makes of it what a reader takes.
pub fn query(choices: &mut Choices, tables: &[Table], is_shared: bool) -> String {
    let mut grammar = Grammar {
        choices,
        tables,
        named: Vec::new(),
        selects: 4,
        last: 0,
        is_in_subquery: false,
        is_shared,
    };
    let mut with = String::new();
    if grammar.choices.one_in(8) {
        let named = grammar.query_of(None, 0);
        with = format!("WITH x AS ({}) ", named.text);
        grammar.named.push(("x".to_string(), named.columns));
    }
    let query = grammar.query_of(None, 2);
    format!("{with}{}", query.text)
}

/// A condition on the columns of a table.
pub fn condition(choices: &mut Choices, table: &Table) -> String {
    let mut grammar = Grammar {
        choices,
        tables: &[],
        named: Vec::new(),
        selects: 0,
        last: 0,
        is_in_subquery: false,
        is_shared: true,
    };
    let columns = table.columns.iter();
    let scope: Vec<Expr> = columns
        .map(|column| Expr::new(column.name.clone(), column.of, bound_of(column)))
        .collect();
    grammar.predicate(&scope, 1)
}

/// How large the numbers of a column are.
pub(super) fn bound_of(column: &Column) -> i128 {
    match (column.is_wild, column.of) {
        (true, Type::Double) => i128::MAX,
        (true, Type::Numeric) => 10i128.pow(16),
        (true, of) => of.limit() + 1,
        (false, _) => 20,
    }
}

impl Grammar<'_> {
    /// A query whose columns have these types, if any are wanted.
    pub(super) fn query_of(&mut self, wanted: Option<&[Type]>, depth: usize) -> Query {
        if depth > 0 && self.choices.one_in(6) && self.can_select() {
            return self.set_operation(wanted, depth - 1);
        }
        let query = self.select(wanted, depth);
        match self.choices.one_in(8) && !query.text.contains("ORDER BY") {
            true => self.first_rows(query),
            false => query,
        }
    }

    fn set_operation(&mut self, wanted: Option<&[Type]>, depth: usize) -> Query {
        let left = self.query_of(wanted, depth);
        let types: Vec<Type> = left.columns.iter().map(|column| column.of).collect();
        let right = self.query_of(Some(&types), depth);
        let operations = [
            "UNION ALL",
            "UNION",
            "INTERSECT",
            "EXCEPT",
            "INTERSECT ALL",
            "EXCEPT ALL",
        ];
        let operation = *self.choices.pick(&operations);
        let text = format!("({}) {operation} ({})", left.text, right.text);
        let both = left.columns.into_iter().zip(right.columns);
        let columns = both.map(|(a, b)| Expr::new(a.text, a.of, a.bound.max(b.bound)));
        let columns = columns.collect();
        match self.choices.one_in(6) {
            true => self.first_rows(Query { text, columns }),
            false => Query { text, columns },
        }
    }

    /// The first rows in a total order; or those and their ties, in any.
    fn first_rows(&mut self, query: Query) -> Query {
        let mut places: Vec<usize> = (1..=query.columns.len()).collect();
        let first = self.choices.below(places.len());
        places.swap(0, first);
        let order = |grammar: &mut Self, place: &usize| {
            let options = ["", " DESC", " NULLS FIRST", " DESC NULLS LAST"];
            format!("{place}{}", grammar.choices.pick(&options))
        };
        let has_ties = self.choices.one_in(4);
        let many = if has_ties { 1 } else { places.len() };
        let keys: Vec<String> = places[..many]
            .iter()
            .map(|place| order(self, place))
            .collect();
        let limit = 1 + self.choices.below(4);
        // Which of equal rows are left out by an offset is open.
        let rows = match (has_ties, self.choices.one_in(3)) {
            (true, _) => format!(" FETCH FIRST {limit} ROWS WITH TIES"),
            (false, true) => format!(" LIMIT {limit} OFFSET {}", 1 + self.choices.below(2)),
            (false, false) => format!(" LIMIT {limit}"),
        };
        let text = format!("{} ORDER BY {}{rows}", query.text, keys.join(", "));
        Query { text, ..query }
    }

    fn select(&mut self, wanted: Option<&[Type]>, depth: usize) -> Query {
        let from = self.from(depth);
        let scope = from.columns;
        let filter = match self.choices.one_in(2) {
            true => format!(" WHERE {}", self.condition(&scope)),
            false => String::new(),
        };
        let source = format!(" FROM {}{filter}", from.text);
        let types: Vec<Type> = match wanted {
            Some(types) => types.to_vec(),
            None => (0..1 + self.choices.below(4))
                .map(|_| self.any_type(&scope))
                .collect(),
        };
        match self.choices.below(12) {
            0..4 => self.plain(&source, &scope, &types, "SELECT"),
            4 => self.plain(&source, &scope, &types, "SELECT DISTINCT"),
            5 => self.distinct_on(&source, &scope, &types),
            6 => self.ranked(&source, &scope, &types),
            7 => self.global(&source, &scope, &types),
            8 => self.grouping_sets(&source, &scope, &types),
            _ => self.grouped(&source, &scope, &types),
        }
    }

    /// Gives names to expressions: the SELECT list, and the columns it makes.
    fn list(&mut self, items: Vec<Expr>) -> (String, Vec<Expr>) {
        let mut texts = Vec::new();
        let mut columns = Vec::new();
        for item in items {
            let name = format!("c{}", self.number());
            texts.push(format!("{} AS {name}", item.text));
            columns.push(Expr::new(name, item.of, item.bound));
        }
        (texts.join(", "), columns)
    }

    fn items(&mut self, scope: &[Expr], types: &[Type]) -> Vec<Expr> {
        types
            .iter()
            .map(|of| self.expression(*of, scope, 2))
            .collect()
    }

    fn plain(&mut self, source: &str, scope: &[Expr], types: &[Type], select: &str) -> Query {
        let mut items = self.items(scope, types);
        if select == "SELECT"
            && self.choices.one_in(8)
            && let Some(place) = types.iter().position(|of| *of == Type::BigInt)
            && self.can_select()
        {
            items[place] = self.scalar_subquery(scope);
        }
        let (list, columns) = self.list(items);
        let text = format!("{select} {list}{source}");
        Query { text, columns }
    }

    /// How many rows belong to the outer one.
    fn scalar_subquery(&mut self, scope: &[Expr]) -> Expr {
        let inner = self.stored();
        let condition = match self.choices.one_in(2) {
            true => {
                self.is_in_subquery = true;
                let condition = self.join_condition(&inner.columns, scope);
                self.is_in_subquery = false;
                condition
            }
            false => self.predicate(&inner.columns, 1),
        };
        let text = format!("(SELECT count(*) FROM {} WHERE {condition})", inner.text);
        Expr::new(text, Type::BigInt, ROWS)
    }

    fn distinct_on(&mut self, source: &str, scope: &[Expr], types: &[Type]) -> Query {
        let items = self.items(scope, types);
        let (list, columns) = self.list(items);
        let many = 1 + self.choices.below(columns.len());
        let names: Vec<&str> = columns.iter().map(|column| column.text.as_str()).collect();
        let mut order = Vec::new();
        for name in &names {
            let direction = *self.choices.pick(&["", " DESC"]);
            order.push(format!("{name}{direction}"));
        }
        let text = format!(
            "SELECT DISTINCT ON ({}) {list}{source} ORDER BY {}",
            names[..many].join(", "),
            order.join(", ")
        );
        Query { text, columns }
    }

    /// The first rows of each group.
    fn ranked(&mut self, source: &str, scope: &[Expr], types: &[Type]) -> Query {
        let items = self.items(scope, types);
        let (list, columns) = self.list(items.clone());
        let by = self.any_type(scope);
        let by = self.leaf(by, scope).text;
        let partition = match self.choices.one_in(3) {
            true => String::new(),
            false => format!("PARTITION BY {by} "),
        };
        let function = *self
            .choices
            .pick(&["row_number()", "rank()", "dense_rank()"]);
        let many = match function {
            // Which of them is the first must not matter.
            "row_number()" => items.len(),
            _ => 1,
        };
        let mut order = Vec::new();
        for item in &items[..many] {
            let direction = *self.choices.pick(&["", " DESC", " NULLS FIRST"]);
            order.push(format!("{}{direction}", item.text));
        }
        let window = format!("{function} OVER ({partition}ORDER BY {})", order.join(", "));
        let place = format!("r{}", self.number());
        let limit = 1 + self.choices.below(3);
        let operator = *self.choices.pick(&["<=", "=", "<"]);
        if !self.is_shared && self.choices.one_in(3) {
            let ranked = format!("SELECT {list}{source} QUALIFY {window} {operator} {limit}");
            return Query {
                text: ranked,
                columns,
            };
        }
        let alias = format!("q{}", self.number());
        let names: Vec<String> = columns
            .iter()
            .map(|column| format!("{alias}.{} AS {}", column.text, column.text))
            .collect();
        let text = format!(
            "SELECT {} FROM (SELECT {list}, {window} AS {place}{source}) AS {alias} \
             WHERE {alias}.{place} {operator} {limit}",
            names.join(", ")
        );
        Query { text, columns }
    }

    /// An aggregate over columns, with or without a filter.
    pub(super) fn aggregate(&mut self, scope: &[Expr]) -> Expr {
        let of = self.any_type(scope);
        self.aggregate_of(of, scope)
    }

    fn aggregate_of(&mut self, of: Type, scope: &[Expr]) -> Expr {
        let condition = match self.choices.one_in(5) {
            true => Some(self.predicate(scope, 1)),
            false => None,
        };
        let filter = |call: &str| match &condition {
            Some(condition) => format!("{call} FILTER (WHERE {condition})"),
            None => call.to_string(),
        };
        match (of, self.choices.below(4)) {
            (Type::BigInt, 0) => Expr::new(filter("count(*)"), of, ROWS),
            (Type::BigInt, 1) => {
                let of_argument = self.any_type(scope);
                let argument = self.expression(of_argument, scope, 1).text;
                let distinct = *self.choices.pick(&["DISTINCT ", ""]);
                let call = format!("count({distinct}{argument})");
                Expr::new(filter(&call), of, ROWS)
            }
            (Type::Numeric, 0..3) => self.sum(scope, filter),
            (Type::Double, 0) => {
                let argument = self.expression(of, scope, 1);
                match argument.bound <= 1000 {
                    true => {
                        let function = *self.choices.pick(&["sum", "avg"]);
                        let call = format!("{function}({})", argument.text);
                        Expr::new(filter(&call), of, argument.bound * ROWS)
                    }
                    false => Expr::new(filter("count(*)"), Type::BigInt, ROWS),
                }
            }
            (Type::BigInt | Type::Integer, 2) => {
                let argument = self.expression(of, scope, 1);
                let function = *self.choices.pick(&["bit_and", "bit_or"]);
                let call = format!("{function}({})", argument.text);
                // A bit more than the greatest number has.
                Expr::new(filter(&call), of, argument.bound.saturating_mul(2))
            }
            (Type::Text, 1) => {
                let of_argument = *self.choices.pick(&[Type::Text, Type::Integer, Type::Date]);
                let argument = self.leaf(of_argument, scope).text;
                let array = format!("array_agg({argument} ORDER BY {argument} DESC)");
                let array = filter(&array);
                Expr::new(format!("array_to_string({array}, ',', '-')"), of, 0)
            }
            (Type::Text, 0) => {
                let argument = self.leaf(of, scope).text;
                let distinct = *self.choices.pick(&["", "DISTINCT "]);
                let call = format!("string_agg({distinct}{argument}, ',' ORDER BY {argument})");
                Expr::new(filter(&call), of, 0)
            }
            (Type::Boolean, _) => {
                let function = *self.choices.pick(&["bool_and", "bool_or"]);
                let call = format!("{function}({})", self.predicate(scope, 1));
                Expr::new(filter(&call), of, 0)
            }
            _ => {
                let argument = self.expression(of, scope, 1);
                let function = *self.choices.pick(&["min", "max"]);
                let call = format!("{function}({})", argument.text);
                let text = match of {
                    Type::Double => {
                        let x = &argument.text;
                        let direction = if function == "min" { "" } else { ", 'DESC'" };
                        let also = match &condition {
                            Some(condition) => format!(" AND ({condition})"),
                            None => String::new(),
                        };
                        let all = format!("array_agg({x}) FILTER (WHERE {x} IS NOT NULL{also})");
                        let batch = format!("(array_sort({all}{direction}))[1]");
                        either(&filter(&call), &batch)
                    }
                    _ => filter(&call),
                };
                Expr::new(text, of, argument.bound)
            }
        }
    }

    fn sum(&mut self, scope: &[Expr], filter: impl Fn(&str) -> String) -> Expr {
        let of = *self
            .choices
            .pick(&[Type::BigInt, Type::Integer, Type::Numeric]);
        let argument = self.expression(of, scope, 1);
        let x = &argument.text;
        let distinct = match self.choices.one_in(4) {
            true => "DISTINCT ",
            false => "",
        };
        let bound = argument.bound.saturating_mul(ROWS);
        match self.choices.one_in(3) {
            _ if bound > 10i128.pow(30) => Expr::new(filter("count(*)"), Type::BigInt, ROWS),
            // A quotient's scale is ours.
            true if argument.bound < 10i128.pow(17) => {
                let call = filter(&format!("avg({distinct}{x})"));
                Expr::new(format!("round({call}, 6)"), Type::Numeric, argument.bound)
            }
            _ => {
                let call = format!("sum({distinct}{x})");
                let cast = match of {
                    // Of a bigint it is one in Postgres.
                    Type::Integer => "::numeric(20, 0)",
                    _ => "",
                };
                let text = format!("{}{cast}", filter(&call));
                Expr::new(text, Type::Numeric, bound)
            }
        }
    }

    /// Aggregates of these types, and what is computed of them.
    fn aggregates(&mut self, types: &[Type], scope: &[Expr]) -> Vec<Expr> {
        let mut items = Vec::new();
        for of in types {
            let aggregate = self.aggregate_of(*of, scope);
            items.push(self.as_type(aggregate, *of));
        }
        items
    }

    fn as_type(&mut self, expr: Expr, of: Type) -> Expr {
        if expr.of != of {
            // A sum that cannot be made; its count takes its place.
            let text = format!("({})::{}", expr.text, of.sql());
            return Expr::new(text, of, expr.bound);
        }
        match self.choices.below(8) {
            7 if of.is_number() && expr.bound < 1_000_000 => {
                let text = format!("({} + {})", expr.text, self.constant(of).text);
                let text = match of {
                    Type::Double => either(&text, &format!("({text} + 0e0)")),
                    _ => text,
                };
                Expr::new(text, of, expr.bound + 10)
            }
            6 => {
                let text = format!("coalesce({}, {})", expr.text, self.constant(of).text);
                Expr::new(text, of, expr.bound.max(10))
            }
            _ => expr,
        }
    }

    fn global(&mut self, source: &str, scope: &[Expr], types: &[Type]) -> Query {
        let items = self.aggregates(types, scope);
        let (list, columns) = self.list(items);
        let having = self.having(scope);
        let text = format!("SELECT {list}{source}{having}");
        Query { text, columns }
    }

    fn having(&mut self, scope: &[Expr]) -> String {
        if !self.choices.one_in(4) {
            return String::new();
        }
        let aggregate = self.aggregate(scope);
        let constant = self.constant(aggregate.of).text;
        let operator = *self.choices.pick(&[">", "<=", "=", "<>"]);
        format!(" HAVING {} {operator} {constant}", aggregate.text)
    }

    fn grouped(&mut self, source: &str, scope: &[Expr], types: &[Type]) -> Query {
        let keys_many = self.choices.below(types.len() + 1).min(2);
        let mut items: Vec<Expr> = types[..keys_many]
            .iter()
            .map(|of| self.expression(*of, scope, 1))
            .collect();
        let mut keys: Vec<String> = (1..=keys_many).map(|place| place.to_string()).collect();
        if keys.is_empty() || self.choices.one_in(4) {
            // One that is not selected.
            let of = self.any_type(scope);
            keys.extend(self.column(of, scope).map(|column| column.text));
        }
        if keys.is_empty() {
            return self.global(source, scope, types);
        }
        items.extend(self.aggregates(&types[keys_many..], scope));
        let (list, columns) = self.list(items);
        let having = self.having(scope);
        let text = format!("SELECT {list}{source} GROUP BY {}{having}", keys.join(", "));
        Query { text, columns }
    }

    fn grouping_sets(&mut self, source: &str, scope: &[Expr], types: &[Type]) -> Query {
        let mut keys: Vec<Expr> = Vec::new();
        for _ in 0..2 {
            let column = self.choices.pick(scope).clone();
            if keys.iter().all(|key| key.text != column.text) {
                keys.push(column);
            }
        }
        let mut items = Vec::new();
        for of in types {
            // A key where one fits, an aggregate elsewhere.
            let fitting = keys.iter().find(|key| key.of == *of).cloned();
            items.push(match fitting {
                Some(key) if !self.choices.one_in(3) => key,
                _ if *of == Type::Integer && self.choices.one_in(2) => {
                    Expr::new(format!("grouping({})", keys[0].text), *of, 1)
                }
                _ => {
                    let aggregate = self.aggregate_of(*of, scope);
                    self.as_type(aggregate, *of)
                }
            });
        }
        let (list, columns) = self.list(items);
        let names: Vec<&str> = keys.iter().map(|key| key.text.as_str()).collect();
        let all = names.join(", ");
        let sets = match self.choices.below(4) {
            0 => format!("ROLLUP ({all})"),
            1 => format!("CUBE ({all})"),
            2 => format!("GROUPING SETS (({all}), ())"),
            _ => format!("GROUPING SETS (({all}), ({}))", names[0]),
        };
        let having = self.having(scope);
        let text = format!("SELECT {list}{source} GROUP BY {sets}{having}");
        Query { text, columns }
    }
}
