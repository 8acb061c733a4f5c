//! Constants in a text that the library reads otherwise than Postgres: numbers with an exponent,
//! those with more digits than a numeric has here, and intervals.
//!
//! ```text
//!   1e3                   CAST('1000' AS NUMERIC(4, 0))
//!   1.5e-3                CAST('0.0015' AS NUMERIC(5, 4))
//!   1e308                 CAST('1e308' AS DOUBLE PRECISION)     Postgres: a numeric of 309 digits
//!   INTERVAL '1 day 02:03'  CAST('1 day 02:03' AS INTERVAL)
//!   - INTERVAL '1 day 1 h'  the opposite of the whole, not of its first part
//!   RANGE INTERVAL '02:03' PRECEDING    INTERVAL '0 months 0 days 7380.000000 seconds'
//! ```
//!
//! Frames of windows are the exception: there the library takes nothing but a number or an interval
//! as written, and reads that itself.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, Interval, NamedWindowExpr, Select, Value, VisitMut,
    VisitorMut, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::sql::interval::from_expr;

/// Most digits of a numeric.
const DIGITS_MAX: i64 = 38;

/// Rewrites the constants of a statement or expression.
pub fn exact_constants(tree: &mut impl VisitMut) {
    // Nothing breaks off.
    let _: ControlFlow<()> = tree.visit(&mut Constants);
}

struct Constants;

impl VisitorMut for Constants {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for window in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(spec) = &mut window.1 {
                plain_frame(spec);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expr {
            if let Some(WindowType::WindowSpec(spec)) = &mut call.over {
                plain_frame(spec);
            }
            return ControlFlow::Continue(());
        }
        if let Expr::Interval(interval) = expr
            && let Some(cast) = interval_cast(interval)
        {
            *expr = cast;
            return ControlFlow::Continue(());
        }
        let Expr::Value(value) = expr else {
            return ControlFlow::Continue(());
        };
        let Value::Number(text, _) = &value.value else {
            return ControlFlow::Continue(());
        };
        if let Some((text, data_type)) = rewritten(text) {
            *expr = cast(text, data_type, value.span);
        }
        ControlFlow::Continue(())
    }
}

/// `INTERVAL 'text' unit` as a cast; fields and precisions that bound it are left to the library,
/// which refuses them.
fn interval_cast(interval: &Interval) -> Option<Expr> {
    let is_plain = interval.last_field.is_none()
        && interval.leading_precision.is_none()
        && interval.fractional_seconds_precision.is_none();
    let Expr::Value(value) = interval.value.as_ref() else {
        return None;
    };
    let (Value::SingleQuotedString(text), true) = (&value.value, is_plain) else {
        return None;
    };
    let text = match &interval.leading_field {
        None => text.clone(),
        Some(unit) => format!("{text} {unit}"),
    };
    let data_type = DataType::Interval {
        fields: None,
        precision: None,
    };
    Some(cast(text, data_type, value.span))
}

/// Distances in values as the library reads them.
fn plain_frame(spec: &mut WindowSpec) {
    let Some(frame) = &mut spec.window_frame else {
        return;
    };
    if frame.units != WindowFrameUnits::Range {
        return;
    }
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if let WindowFrameBound::Preceding(Some(distance))
        | WindowFrameBound::Following(Some(distance)) = bound
            && let Some(plain) = plain_distance(distance)
        {
            **distance = plain;
        }
    }
}

fn plain_distance(distance: &Expr) -> Option<Expr> {
    let Expr::Cast {
        expr, data_type, ..
    } = distance
    else {
        return None;
    };
    let Expr::Value(value) = expr.as_ref() else {
        return None;
    };
    let Value::SingleQuotedString(text) = &value.value else {
        return None;
    };
    if matches!(data_type, DataType::Numeric(_) | DataType::DoublePrecision) {
        let number = Value::Number(text.clone(), false);
        return Some(Expr::Value(number.with_span(value.span)));
    }
    let length = from_expr(distance).ok()?;
    let sign = if length.micros < 0 { "-" } else { "" };
    let micros = length.micros.unsigned_abs();
    let text = format!(
        "{} months {} days {sign}{}.{:06} seconds",
        length.months,
        length.days,
        micros / 1_000_000,
        micros % 1_000_000
    );
    let text = Value::SingleQuotedString(text).with_span(value.span);
    Some(Expr::Interval(Interval {
        value: Box::new(Expr::Value(text)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }))
}

fn cast(text: String, data_type: DataType, span: Span) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(Value::SingleQuotedString(text).with_span(span))),
        data_type,
        array: false,
        format: None,
    }
}

/// The digits of a number and its type, where the library would read another.
fn rewritten(text: &str) -> Option<(String, DataType)> {
    let plain = text.replace('_', "");
    let (mantissa, exponent) = match plain.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (plain.as_str(), None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_decimal = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_decimal(before) || !is_decimal(after) {
        // Hexadecimal: the library's.
        return None;
    }
    let before = before.trim_start_matches('0');
    let float = || {
        let data_type = DataType::DoublePrecision;
        Some((plain.clone(), data_type))
    };
    let length = |digits: &str| i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let Some(exponent) = exponent else {
        let has_too_many = length(before) + length(after) > DIGITS_MAX;
        return has_too_many.then(float).flatten();
    };
    let Ok(exponent) = exponent.parse::<i64>() else {
        return float();
    };
    let digits = format!("{before}{after}");
    let point = length(before).saturating_add(exponent);
    let scale = length(&digits).saturating_sub(point).max(0);
    let whole = point.max(0);
    if whole.saturating_add(scale) > DIGITS_MAX {
        return float();
    }
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    let all = format!(
        "{}{digits}{}",
        zeros(-point),
        zeros(point - length(&digits))
    );
    let split = usize::try_from(whole).unwrap_or(0);
    let (whole, fraction) = all.split_at(split.min(all.len()));
    let scale = u64::try_from(scale).unwrap_or(0);
    let precision = u64::try_from(all.len()).unwrap_or(1).max(scale).max(1);
    let text = match fraction.is_empty() {
        true => format!("0{whole}"),
        false => format!("0{whole}.{fraction}"),
    };
    let info = ExactNumberInfo::PrecisionAndScale(precision, scale.try_into().unwrap_or(0));
    Some((text, DataType::Numeric(info)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_postgres_reads() {
        let of =
            |text: &str| rewritten(text).map(|(digits, data_type)| format!("{digits} {data_type}"));
        let cases = [
            ("12", None),
            ("1.50", None),
            ("1_000", None),
            ("1e3", Some("01000 NUMERIC(4,0)")),
            ("1.5e-3", Some("0.0015 NUMERIC(4,4)")),
            ("1.5e1", Some("015 NUMERIC(2,0)")),
            ("1.25E1", Some("012.5 NUMERIC(3,1)")),
            ("0e0", Some("0 NUMERIC(1,0)")),
            ("1e308", Some("1e308 DOUBLE PRECISION")),
            ("1e-39", Some("1e-39 DOUBLE PRECISION")),
            (
                "123456789012345678901234567890123456789",
                Some("123456789012345678901234567890123456789 DOUBLE PRECISION"),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text).as_deref(), expected, "{text}");
        }
    }
}
