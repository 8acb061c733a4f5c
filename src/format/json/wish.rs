//! What the decoder wants out of a record: a tree of names and positions, with columns at its ends.
//!
//! ```text
//!   price BIGINT, city TEXT PATH '$.seller.address.city', first TEXT PATH '$.tags[0]'
//!
//!   $ ─┬─ price → column 0
//!      ├─ seller ── address ── city → column 1
//!      └─ tags ── [0] → column 2
//! ```
//!
//! A column without a PATH is found by its name: a field of exactly that name, else one that
//! differs only in case and is not exactly another column's. The names in a PATH are exact. Of
//! several fields that match equally well the last one wins, as in JavaScript and Postgres' jsonb.

use crate::format::json::scan::{Fault, Fields, Items, Span, unescape};

/// One step of a column's PATH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// `.name`
    Field(String),
    /// `[n]`, counted from 0.
    Item(usize),
}

/// How well a field's name matches; a greater one wins over a lesser one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    None,
    Folded,
    Exact,
}

/// Compares a wanted name with a field's.
pub(super) fn match_name(wanted: &str, name: &[u8]) -> Match {
    if wanted.as_bytes() == name {
        Match::Exact
    } else if wanted.as_bytes().eq_ignore_ascii_case(name) || folds_beyond_ascii(wanted, name) {
        Match::Folded
    } else {
        Match::None
    }
}

fn folds_beyond_ascii(wanted: &str, name: &[u8]) -> bool {
    if wanted.is_ascii() && name.is_ascii() {
        return false;
    }
    std::str::from_utf8(name).is_ok_and(|name| wanted.to_lowercase() == name.to_lowercase())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    /// A column's own name.
    Column(String),
    /// A name in a PATH.
    Field(String),
    Item(usize),
}

/// A node of the tree: the columns that want this value, and what is wanted inside it.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    key: Key,
    pub columns: Vec<usize>,
    pub inside: Vec<Wish>,
}

impl Wish {
    /// Calls `visit` for every column of this node and of those below it.
    pub fn for_each_column(&self, visit: &mut impl FnMut(usize)) {
        for &column in &self.columns {
            visit(column);
        }
        for wish in &self.inside {
            wish.for_each_column(visit);
        }
    }
}

/// Adds a column to the tree: under its name, or where its path leads.
pub(super) fn add_wish(
    wishes: &mut Vec<Wish>,
    column: usize,
    name: &str,
    path: Option<&[PathStep]>,
) {
    match path {
        None => node(wishes, Key::Column(name.to_string()))
            .columns
            .push(column),
        Some(path) => add_path(wishes, column, path),
    }
}

fn add_path(wishes: &mut Vec<Wish>, column: usize, path: &[PathStep]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let key = match first {
        PathStep::Field(name) => Key::Field(name.clone()),
        PathStep::Item(place) => Key::Item(*place),
    };
    let wish = node(wishes, key);
    if rest.is_empty() {
        wish.columns.push(column);
    } else {
        add_path(&mut wish.inside, column, rest);
    }
}

fn node(wishes: &mut Vec<Wish>, key: Key) -> &mut Wish {
    let place = wishes
        .iter()
        .position(|wish| wish.key == key)
        .unwrap_or_else(|| {
            wishes.push(Wish {
                key,
                columns: Vec::new(),
                inside: Vec::new(),
            });
            wishes.len() - 1
        });
    &mut wishes[place]
}

/// Appends to `found` the wishes that a field of this name fulfils, and how well.
pub(super) fn match_field(wishes: &[Wish], name: &[u8], found: &mut Vec<(usize, Match)>) {
    let mut is_taken = false;
    for (place, wish) in wishes.iter().enumerate() {
        let matched = match &wish.key {
            Key::Column(wanted) => match_name(wanted, name),
            Key::Field(wanted) if wanted.as_bytes() == name => Match::Exact,
            Key::Field(_) | Key::Item(_) => Match::None,
        };
        is_taken |= matched == Match::Exact && matches!(wish.key, Key::Column(_));
        if matched != Match::None {
            found.push((place, matched));
        }
    }
    if is_taken {
        found.retain(|&(_, matched)| matched == Match::Exact);
    }
}

/// Finds the value of every column below `wish`, whose own value stands at `span`; what an earlier
/// value had given them is forgotten.
///
/// # Errors
/// None for a text that was scanned before.
pub(super) fn fulfil(
    wish: &Wish,
    record: &[u8],
    span: Span,
    spans: &mut [Option<Span>],
) -> Result<(), Fault> {
    for &column in &wish.columns {
        spans[column] = Some(span);
    }
    if wish.inside.is_empty() {
        return Ok(());
    }
    for wish in &wish.inside {
        wish.for_each_column(&mut |column| spans[column] = None);
    }
    match record.get(span.start) {
        Some(b'{') => fulfil_fields(&wish.inside, record, span, spans),
        Some(b'[') => {
            let mut items = Items::new(record, span.start, 1);
            let mut place = 0;
            while let Some(item) = items.next()? {
                for wish in wish
                    .inside
                    .iter()
                    .filter(|wish| wish.key == Key::Item(place))
                {
                    fulfil(wish, record, item, spans)?;
                }
                place += 1;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Below the top all names are exact, so a later field simply replaces an earlier one.
fn fulfil_fields(
    wishes: &[Wish],
    record: &[u8],
    span: Span,
    spans: &mut [Option<Span>],
) -> Result<(), Fault> {
    let mut fields = Fields::new(record, span.start, 1);
    let mut plain = Vec::new();
    while let Some(field) = fields.next()? {
        let inside = &record[field.name.start + 1..field.name.end - 1];
        let name = if field.escaped {
            plain.clear();
            if unescape(inside, &mut plain).is_err() {
                continue;
            }
            &plain[..]
        } else {
            inside
        };
        let is_meant = |wish: &&Wish| match &wish.key {
            Key::Field(wanted) => wanted.as_bytes() == name,
            Key::Column(_) | Key::Item(_) => false,
        };
        for wish in wishes.iter().filter(is_meant) {
            fulfil(wish, record, field.value, spans)?;
        }
    }
    Ok(())
}
