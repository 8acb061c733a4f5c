//! The options of a `WITH (…)` list, taken one by one; what nobody took is refused.
//!
//! ```text
//!   WITH (connector = 'topic', partitons = 4)
//!   take connector, partitions, scan.startup.mode …    every name asked for is a valid one
//!   finish ──► 22023 connector "topic" has no option "partitons"
//!              hint: did you mean "partitions"? the options are: connector, partitions, …
//! ```
//!
//! Invariant: a name is valid because somebody asks for it, so the list of valid options in a
//! refusal cannot differ from what is understood. Every option is therefore asked for before
//! [`Options::finish`], given or not.

use std::ops::RangeInclusive;

use crate::error::{Error, Result, SqlState};
use crate::sql::interval;

/// Options as they were written, and which of them were understood.
#[derive(Clone, Debug)]
pub struct Options {
    given: Vec<Given>,
    /// Names that were asked for, in that order; `properties.*` for a family of names.
    valid: Vec<String>,
}

#[derive(Clone, Debug)]
struct Given {
    name: String,
    value: String,
    position: Option<usize>,
    is_taken: bool,
}

impl Options {
    /// Options as (name, value, position in the statement), names in lower case.
    pub fn new(given: impl IntoIterator<Item = (String, String, Option<usize>)>) -> Self {
        let given = given.into_iter().map(|(name, value, position)| Given {
            name,
            value,
            position,
            is_taken: false,
        });
        Options {
            given: given.collect(),
            valid: Vec::new(),
        }
    }

    /// The value of an option as it was written.
    pub fn take(&mut self, name: &str) -> Option<String> {
        if !self.valid.iter().any(|valid| valid == name) {
            self.valid.push(name.to_string());
        }
        let given = self.given.iter_mut().find(|given| given.name == name)?;
        given.is_taken = true;
        Some(given.value.clone())
    }

    /// All options whose name begins with `prefix`, with their whole names.
    pub fn take_family(&mut self, prefix: &str) -> Vec<(String, String)> {
        self.valid.push(format!("{prefix}*"));
        let members = self
            .given
            .iter_mut()
            .filter(|given| given.name.starts_with(prefix));
        members
            .map(|given| {
                given.is_taken = true;
                (given.name.clone(), given.value.clone())
            })
            .collect()
    }

    /// A truth value in any of Postgres' spellings.
    ///
    /// # Errors
    /// 22023, as those of the other typed takes: they name the option and say what would be good.
    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>> {
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "t" | "y" | "1" => Some(true),
            "false" | "off" | "no" | "f" | "n" | "0" => Some(false),
            _ => None,
        };
        self.take_as(name, read, || "the values are: true, false".to_string())
    }

    /// A whole number within the range.
    pub fn take_integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let read = |text: &str| text.trim().parse().ok().filter(|n| range.contains(n));
        self.take_as(name, read, || match range.clone().into_inner() {
            (0, u64::MAX) => "it is a whole number, 0 or greater".to_string(),
            (least, u64::MAX) => format!("it is a whole number, {least} or greater"),
            (least, most) => format!("it is a whole number from {least} to {most}"),
        })
    }

    /// A span of time in microseconds, not negative, in any spelling of an interval (`'10s'`,
    /// `'1 minute 30 seconds'`); a bare number counts seconds. Days have 24 hours.
    pub fn take_duration(&mut self, name: &str) -> Result<Option<i64>> {
        let read = |text: &str| {
            let micros = interval::parse(text).ok()?.fixed_micros()?;
            (micros >= 0).then_some(micros)
        };
        self.take_as(name, read, || {
            "it is a span of time without months, such as '10s' or '1 minute 30 seconds'"
                .to_string()
        })
    }

    /// One of the listed words, whatever its case.
    pub fn take_word<T: Clone>(&mut self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let read = |text: &str| {
            let found = words
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
            found.map(|(_, value)| value.clone())
        };
        self.take_as(name, read, || {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            format!("the values are: {}", words.join(", "))
        })
    }

    fn take_as<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
        what_is_good: impl FnOnce() -> String,
    ) -> Result<Option<T>> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let value = read(&text).ok_or_else(|| {
            let message = format!("option \"{name}\" cannot be '{text}'");
            let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
            self.at(name, error.hint(what_is_good()))
        })?;
        Ok(Some(value))
    }

    /// Takes every option that is left, for a connector that judges names itself.
    pub fn take_rest(&mut self) -> Vec<(String, String)> {
        let left = self.given.iter_mut().filter(|given| !given.is_taken);
        left.map(|given| {
            given.is_taken = true;
            (given.name.clone(), given.value.clone())
        })
        .collect()
    }

    /// The value of an option, without taking it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let given = self.given.iter().find(|given| given.name == name)?;
        Some(&given.value)
    }

    /// Points an error at an option, if that was written and the error points nowhere yet.
    pub fn at(&self, name: &str, error: Error) -> Error {
        let given = self.given.iter().find(|given| given.name == name);
        match given.and_then(|given| given.position) {
            Some(position) if error.get_position().is_none() => error.position(position),
            _ => error,
        }
    }

    /// Points an error at the option that its message names first, as `option "name"`.
    pub fn locate(&self, error: Error) -> Error {
        let named = error
            .message()
            .split_once("option \"")
            .and_then(|(_, rest)| {
                let (name, _) = rest.split_once('"')?;
                Some(name.to_string())
            });
        match named {
            Some(name) => self.at(&name, error),
            None => error,
        }
    }

    /// Refuses what was not taken. `owner` is whose options these are: `connector "kafka"`.
    ///
    /// # Errors
    /// 22023 for the first such option: names it, its place, and the valid ones.
    pub fn finish(&self, owner: &str) -> Result<()> {
        let Some(stranger) = self.given.iter().find(|given| !given.is_taken) else {
            return Ok(());
        };
        let message = format!("{owner} has no option \"{}\"", stranger.name);
        let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
        let mut hint = match self.valid.is_empty() {
            true => "it has no options".to_string(),
            false => format!("the options are: {}", self.valid.join(", ")),
        };
        let names = self.valid.iter().map(String::as_str);
        if let Some(near) = nearest(&stranger.name, names) {
            hint = format!("did you mean \"{near}\"? {hint}");
        }
        Err(self.at(&stranger.name, error.hint(hint)))
    }
}

/// The name that a misspelt one was most likely meant to be: at most a third of its characters
/// are different.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (name.chars().count() / 3).max(1);
    let near = names.map(|valid| (distance(name, valid), valid));
    near.filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, valid)| valid)
}

/// How many characters must be inserted, deleted, replaced or swapped with their neighbour to
/// turn one text into the other (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut previous = None;
    for (row, character) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let replaced = last[column] + usize::from(character != *other);
            let mut least = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            let is_swapped =
                column > 0 && previous == Some(*other) && right[column - 1] == character;
            if is_swapped {
                least = least.min(before_last[column - 1] + 1);
            }
            current.push(least);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(character);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> Options {
        let place = |(index, (name, value)): (usize, &(&str, &str))| {
            (name.to_string(), value.to_string(), Some(10 * (index + 1)))
        };
        Options::new(given.iter().enumerate().map(place))
    }

    #[test]
    fn what_was_taken_passes_and_what_was_not_is_refused_with_the_valid_names() {
        let mut options = options(&[("topic", "bids"), ("partitons", "4")]);
        assert_eq!(options.take("connector"), None);
        assert_eq!(options.take("topic").as_deref(), Some("bids"));
        assert_eq!(options.take_integer("partitions", 1..=64).unwrap(), None);
        let error = options.finish("connector \"topic\"").unwrap_err();
        assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE);
        assert_eq!(
            error.message(),
            "connector \"topic\" has no option \"partitons\""
        );
        assert_eq!(
            error.get_hint(),
            Some("did you mean \"partitions\"? the options are: connector, topic, partitions")
        );
        assert_eq!(error.get_position(), Some(20));
        assert_eq!(options.take("partitons").as_deref(), Some("4"));
        options.finish("connector \"topic\"").unwrap();
    }

    #[test]
    fn a_family_takes_every_name_with_its_prefix() {
        let mut options = options(&[("properties.a", "1"), ("b", "2"), ("properties.c.d", "3")]);
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(
            options.take_family("properties."),
            [pair("properties.a", "1"), pair("properties.c.d", "3")]
        );
        let error = options.finish("the source").unwrap_err();
        assert_eq!(error.get_hint(), Some("the options are: properties.*"));
        assert_eq!(error.get_position(), Some(20));
    }

    #[test]
    fn without_any_option_the_refusal_says_so() {
        let error = options(&[("a", "1")]).finish("the encoding").unwrap_err();
        assert_eq!(error.get_hint(), Some("it has no options"));
    }

    #[test]
    fn typed_values_are_read() {
        let mut options = options(&[
            ("on", "YES"),
            ("off", "0"),
            ("count", " 7 "),
            ("span", "1 minute 30s"),
            ("none", "0"),
            ("seconds", "10"),
            ("mode", "Latest"),
        ]);
        assert_eq!(options.take_bool("on").unwrap(), Some(true));
        assert_eq!(options.take_bool("off").unwrap(), Some(false));
        assert_eq!(options.take_integer("count", 1..=7).unwrap(), Some(7));
        assert_eq!(options.take_duration("span").unwrap(), Some(90_000_000));
        assert_eq!(options.take_duration("none").unwrap(), Some(0));
        assert_eq!(options.take_duration("seconds").unwrap(), Some(10_000_000));
        let modes = [("earliest", 1), ("latest", 2)];
        assert_eq!(options.take_word("mode", &modes).unwrap(), Some(2));
        assert_eq!(options.take_word("other", &modes).unwrap(), None);
        options.finish("the source").unwrap();
    }

    #[test]
    fn bad_values_are_refused_with_the_good_ones() {
        let mut options = options(&[("a", "maybe"), ("b", "-1"), ("c", "1 month"), ("d", "soon")]);
        let modes = [("earliest", ()), ("latest", ())];
        let refusals = [
            options.take_bool("a").unwrap_err(),
            options.take_integer("b", 0..=u64::MAX).unwrap_err(),
            options.take_integer("b", 1..=u64::MAX).unwrap_err(),
            options.take_integer("b", 1..=9).unwrap_err(),
            options.take_duration("b").unwrap_err(),
            options.take_duration("c").unwrap_err(),
            options.take_word("d", &modes).unwrap_err(),
        ];
        let span = "it is a span of time without months, such as '10s' or '1 minute 30 seconds'";
        let expected = [
            (
                "option \"a\" cannot be 'maybe'",
                "the values are: true, false",
            ),
            (
                "option \"b\" cannot be '-1'",
                "it is a whole number, 0 or greater",
            ),
            (
                "option \"b\" cannot be '-1'",
                "it is a whole number, 1 or greater",
            ),
            (
                "option \"b\" cannot be '-1'",
                "it is a whole number from 1 to 9",
            ),
            ("option \"b\" cannot be '-1'", span),
            ("option \"c\" cannot be '1 month'", span),
            (
                "option \"d\" cannot be 'soon'",
                "the values are: 'earliest', 'latest'",
            ),
        ];
        for (error, (message, hint)) in refusals.iter().zip(expected) {
            assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE);
            assert_eq!((error.message(), error.get_hint()), (message, Some(hint)));
            assert!(error.get_position().is_some());
        }
    }

    #[test]
    fn an_error_that_names_an_option_is_pointed_at_it() {
        let options = options(&[("a", "1"), ("b.c", "2")]);
        let error = |message: &str| Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
        let located = |message: &str| options.locate(error(message)).get_position();
        assert_eq!(located("option \"b.c\" is bad"), Some(20));
        assert_eq!(located("option \"d\" is missing"), None);
        assert_eq!(located("broken"), None);
        let elsewhere = options.locate(error("option \"a\" is bad").position(3));
        assert_eq!(elsewhere.get_position(), Some(3));
    }

    #[test]
    fn the_nearest_name_is_found_within_reason() {
        let names = [
            "topic",
            "partitions",
            "properties.bootstrap.server",
            "on_error",
        ];
        let nearest = |name| nearest(name, names.into_iter());
        assert_eq!(nearest("topik"), Some("topic"));
        assert_eq!(nearest("tpoic"), Some("topic"));
        assert_eq!(nearest("properties.bootstrap.servers"), Some(names[2]));
        assert_eq!(nearest("onerror"), Some("on_error"));
        assert_eq!(nearest("retention"), None);
        assert_eq!(nearest(""), None);
        assert_eq!(
            (
                distance("ab", ""),
                distance("", "abc"),
                distance("abc", "acb")
            ),
            (2, 3, 1)
        );
    }
}
