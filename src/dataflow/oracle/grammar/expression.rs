//! Expressions of a type over columns.

use super::value::{Type, Value};
use super::{Expr, Grammar, either};

impl Expr {
    pub(super) fn new(text: impl Into<String>, of: Type, bound: i128) -> Expr {
        let text = text.into();
        Expr { text, of, bound }
    }

    /// A result of float arithmetic, which may be −0.0.
    fn zeroed(self) -> Expr {
        match self.of {
            Type::Double => {
                let batch = format!("({} + 0e0)", self.text);
                Expr::new(either(&self.text, &batch), self.of, self.bound)
            }
            _ => self,
        }
    }
}

/// How large the values of a type's constants are.
pub(super) const SMALL: i128 = 10;

impl Grammar<'_> {
    /// One of the columns that have the type.
    pub(super) fn column(&mut self, of: Type, scope: &[Expr]) -> Option<Expr> {
        let of_type: Vec<&Expr> = scope.iter().filter(|column| column.of == of).collect();
        match of_type.is_empty() {
            true => None,
            false => Some((*self.choices.pick(&of_type)).clone()),
        }
    }

    /// A column, or a constant where there is none.
    pub(super) fn leaf(&mut self, of: Type, scope: &[Expr]) -> Expr {
        match self.column(of, scope) {
            Some(column) => column,
            None => self.constant(of),
        }
    }

    pub(super) fn constant(&mut self, of: Type) -> Expr {
        if self.choices.one_in(12) {
            return Expr::new(Value::Null.literal(of), of, 0);
        }
        let value = Value::drawn(self.choices, of, false);
        let text = match (&value, of) {
            // As people write it; beside a bigint it is one.
            (Value::Integer(value), Type::Integer) if *value >= 0 => value.to_string(),
            (Value::Double(zero), _) if *zero == 0.0 => {
                either(&value.literal(of), &Value::Double(0.0).literal(of))
            }
            _ => value.literal(of),
        };
        Expr::new(text, of, SMALL)
    }

    /// Any type, rather one of which there are columns.
    pub(super) fn any_type(&mut self, scope: &[Expr]) -> Type {
        match scope.is_empty() || self.choices.one_in(10) {
            true => *self.choices.pick(&super::value::TYPES),
            false => self.choices.pick(scope).of,
        }
    }

    pub(super) fn expression(&mut self, of: Type, scope: &[Expr], depth: usize) -> Expr {
        if depth == 0 || !self.choices.one_in(2) {
            return match self.choices.one_in(6) {
                true => self.constant(of),
                false => self.leaf(of, scope),
            };
        }
        match self.choices.below(3) {
            0 => self.computed(of, scope, depth - 1),
            1 => self.chosen(of, scope, depth - 1),
            _ => self.converted(of, scope, depth - 1),
        }
    }

    /// CASE, coalesce and what else is of every type.
    fn chosen(&mut self, of: Type, scope: &[Expr], depth: usize) -> Expr {
        let a = self.expression(of, scope, depth);
        let b = self.expression(of, scope, depth);
        let bound = a.bound.max(b.bound);
        let (x, y) = (&a.text, &b.text);
        let text = match self.choices.below(6) {
            0 => format!("coalesce({x}, {y})"),
            1 => format!("nullif({x}, {y})"),
            2 => {
                let condition = self.predicate(scope, depth);
                format!("CASE WHEN {condition} THEN {x} ELSE {y} END")
            }
            3 => {
                let condition = self.predicate(scope, depth);
                format!("CASE WHEN {condition} THEN {x} END")
            }
            4 => {
                let other = self.any_type(scope);
                let value = self.expression(other, scope, 0).text;
                let when = self.constant(other).text;
                format!("CASE {value} WHEN {when} THEN {x} ELSE {y} END")
            }
            _ => {
                let least = *self.choices.pick(&["greatest", "least"]);
                format!("{least}({x}, {y})")
            }
        };
        Expr::new(text, of, bound)
    }

    fn computed(&mut self, of: Type, scope: &[Expr], depth: usize) -> Expr {
        match of {
            Type::BigInt | Type::Integer | Type::Numeric | Type::Double => {
                self.arithmetic(of, scope, depth)
            }
            Type::Text => self.text_function(scope, depth),
            Type::Boolean => {
                let text = format!("({})", self.predicate(scope, depth));
                Expr::new(text, of, 0)
            }
            Type::Date => {
                let date = self.expression(Type::Date, scope, depth).text;
                let days = self.expression(Type::Integer, scope, 0);
                let text = match days.bound <= 1000 {
                    true => format!("({date} + {})", days.text),
                    false => format!("({date} - 1)"),
                };
                Expr::new(text, of, 0)
            }
            Type::Timestamp | Type::Timestamptz => {
                let time = self.expression(of, scope, depth).text;
                let text = match self.choices.below(5) {
                    0 => format!("date_trunc('day', {time})"),
                    1 => format!("date_trunc('month', {time})"),
                    2 => format!("({time} + INTERVAL '1 day')"),
                    3 => format!("({time} - INTERVAL '90 minutes')"),
                    _ => format!("({time} + INTERVAL '1 month')"),
                };
                Expr::new(text, of, 0)
            }
        }
    }

    fn arithmetic(&mut self, of: Type, scope: &[Expr], depth: usize) -> Expr {
        let a = self.expression(of, scope, depth);
        let b = self.expression(of, scope, depth);
        let (x, y) = (&a.text, &b.text);
        let most = a.bound.saturating_add(b.bound);
        let product = a.bound.saturating_mul(b.bound);
        let limit = of.limit();
        match self.choices.below(6) {
            0 if most <= limit => Expr::new(format!("({x} + {y})"), of, most).zeroed(),
            1 if most <= limit => Expr::new(format!("({x} - {y})"), of, most).zeroed(),
            2 if product <= limit && (of != Type::Numeric || product <= 10_000) => {
                Expr::new(format!("({x} * {y})"), of, product).zeroed()
            }
            3 if a.bound <= limit => Expr::new(format!("(- {x})"), of, a.bound).zeroed(),
            4 if a.bound <= limit => Expr::new(format!("abs({x})"), of, a.bound),
            5 if of.is_integer() => {
                let operator = *self.choices.pick(&["%", "/"]);
                let by = 2 + self.choices.below(3);
                Expr::new(format!("({x} {operator} {by})"), of, a.bound)
            }
            5 if of == Type::Double && a.bound <= limit => {
                Expr::new(format!("({x} / 4)"), of, a.bound).zeroed()
            }
            5 if of == Type::Numeric && a.bound <= limit => {
                Expr::new(format!("round({x}, 1)"), of, a.bound + 1)
            }
            _ => a,
        }
    }

    fn text_function(&mut self, scope: &[Expr], depth: usize) -> Expr {
        let a = self.expression(Type::Text, scope, depth).text;
        let b = self.expression(Type::Text, scope, 0).text;
        let text = match self.choices.below(8) {
            0 => format!("({a} || {b})"),
            1 => format!("upper({a})"),
            2 => format!("substr({a}, 2, 3)"),
            3 => format!("replace({a}, 'a', 'xy')"),
            4 => format!("trim({a})"),
            5 => format!("left({a}, 1)"),
            6 => format!("concat({a}, {b})"),
            _ => format!("lower({a})"),
        };
        Expr::new(text, Type::Text, 0)
    }

    /// Made of a value of another type.
    fn converted(&mut self, of: Type, scope: &[Expr], depth: usize) -> Expr {
        let small = |expr: Expr, limit: i128| Some(expr).filter(|expr| expr.bound <= limit);
        let made = match (of, self.choices.below(2)) {
            (Type::BigInt, 0) => {
                let a = self.expression(Type::Integer, scope, depth);
                Some((format!("({})::bigint", a.text), a.bound))
            }
            (Type::BigInt | Type::Integer, _) => match self.choices.below(4) {
                0 => {
                    let a = self.expression(Type::Text, scope, depth).text;
                    let cast = if of == Type::BigInt { "::bigint" } else { "" };
                    Some((format!("length({a}){cast}"), 1000))
                }
                1 => {
                    let a = self.expression(Type::Boolean, scope, depth).text;
                    let cast = if of == Type::BigInt { "::bigint" } else { "" };
                    Some((format!("({a})::integer{cast}"), 1))
                }
                2 => {
                    let a = self.expression(Type::Numeric, scope, depth);
                    small(a, of.limit() / 2)
                        .map(|a| (format!("({})::{}", a.text, of.sql()), a.bound + 1))
                }
                _ => {
                    let a = self.expression(Type::Date, scope, depth).text;
                    let unit = *self.choices.pick(&["year", "dow", "day"]);
                    let name = of.sql();
                    Some((format!("extract({unit} FROM {a})::{name}"), 10_000))
                }
            },
            (Type::Numeric, _) => {
                let a = self.expression(Type::Integer, scope, depth);
                Some((format!("({})::numeric(20, 2)", a.text), a.bound))
            }
            (Type::Double, _) => {
                let a = self.expression(Type::Integer, scope, depth);
                Some((format!("({})::double precision", a.text), a.bound))
            }
            (Type::Text, _) => {
                let from = *self.choices.pick(&[
                    Type::Integer,
                    Type::BigInt,
                    Type::Boolean,
                    Type::Date,
                    Type::Numeric,
                ]);
                // What computes with numerics has its scale by our own rules.
                let depth = if from == Type::Numeric { 0 } else { depth };
                let a = self.expression(from, scope, depth);
                Some((format!("({})::text", a.text), 0))
            }
            (Type::Date, 0) => {
                let a = self.expression(Type::Timestamp, scope, depth).text;
                Some((format!("({a})::date"), 0))
            }
            (Type::Timestamp, 0) => {
                let a = self.expression(Type::Date, scope, depth).text;
                Some((format!("({a})::timestamp"), 0))
            }
            (Type::Timestamp, _) => {
                let a = self.expression(Type::Timestamptz, scope, depth).text;
                Some((format!("({a} AT TIME ZONE 'Europe/Berlin')"), 0))
            }
            _ => None,
        };
        match made {
            Some((text, bound)) => Expr::new(text, of, bound),
            None => self.leaf(of, scope),
        }
    }
}
