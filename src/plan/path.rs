//! `PATH '$.a.b[0]'` of a column: the steps from a record's root to the column's value.

use crate::base::limits::PATH_STEPS_MAX;
use crate::error::{Error, Result, SqlState};
use crate::format::json::PathStep;

/// Reads a path: `$`, then at least one of `.name`, `."odd name"`, `['odd name']`, `[0]`.
///
/// # Errors
/// 22023 for what is no such path.
pub fn parse_path(text: &str) -> Result<Vec<PathStep>> {
    let wrong = || {
        let message = format!("\"{text}\" is not the path of a field");
        Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
            .hint("write '$.a.b', '$.items[0]' or '$[''odd name'']'")
    };
    let mut rest = text.trim().strip_prefix('$').ok_or_else(wrong)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == PATH_STEPS_MAX {
            let message = format!("a path has more than {PATH_STEPS_MAX} steps");
            return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, message));
        }
        let (step, after) = next_step(rest).ok_or_else(wrong)?;
        steps.push(step);
        rest = after;
    }
    // The whole record is no field of it.
    if steps.is_empty() {
        return Err(wrong());
    }
    Ok(steps)
}

fn next_step(text: &str) -> Option<(PathStep, &str)> {
    if let Some(rest) = text.strip_prefix('.') {
        if rest.starts_with('"') {
            let (name, rest) = quoted(rest)?;
            return Some((PathStep::Field(name), rest));
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let is_name = !name.is_empty() && !name.contains(['*', '"', '\'', ' ', ']']);
        return is_name.then(|| (PathStep::Field(name.to_string()), rest));
    }
    let inside = text.strip_prefix('[')?;
    if inside.starts_with(['"', '\'']) {
        let (name, rest) = quoted(inside)?;
        return Some((PathStep::Field(name), rest.strip_prefix(']')?));
    }
    let (digits, rest) = inside.split_once(']')?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let place = digits.parse().ok().filter(|_| is_number)?;
    Some((PathStep::Item(place), rest))
}

/// A name between two quotes of the same kind; it cannot contain that kind.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next()?;
    let (name, rest) = text[quote.len_utf8()..].split_once(quote)?;
    Some((name.to_string(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_in_every_form() {
        let field = |name: &str| PathStep::Field(name.to_string());
        for (text, expected) in [
            ("$.a", vec![field("a")]),
            (
                "$.a.b_1.Größe",
                vec![field("a"), field("b_1"), field("Größe")],
            ),
            ("$.a[0].b", vec![field("a"), PathStep::Item(0), field("b")]),
            ("$[12]", vec![PathStep::Item(12)]),
            ("$['odd name']", vec![field("odd name")]),
            ("$[\"a.b\"][1]", vec![field("a.b"), PathStep::Item(1)]),
            ("$.\"a b\".c", vec![field("a b"), field("c")]),
        ] {
            assert_eq!(parse_path(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "$",
            "a.b",
            "$a",
            "$.",
            "$..a",
            "$.*",
            "$[*]",
            "$[-1]",
            "$[+1]",
            "$[]",
            "$['a",
            "$['a'",
            "$.a]",
            "$.\"a",
            "$[99999999999999999999999]",
        ] {
            let error = parse_path(text).unwrap_err();
            assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE, "{text}");
            assert!(error.get_hint().is_some());
        }
        let deep = format!("${}", ".a".repeat(PATH_STEPS_MAX + 1));
        assert_eq!(
            parse_path(&deep).unwrap_err().state(),
            SqlState::STATEMENT_TOO_COMPLEX
        );
        assert_eq!(
            parse_path(&deep[..deep.len() - 2]).unwrap().len(),
            PATH_STEPS_MAX
        );
    }
}
