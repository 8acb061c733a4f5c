//! The orders of fields that records were seen to have, as a tree that the next record walks down.
//!
//! ```text
//!   {"auction": ─► , "bidder": ─► , "price": ─┬─► , "ts": ──── end
//!                                             └─► , "coupon": ─► , "ts": ── end
//! ```
//!
//! A node is the text between two values (white space, comma, name and colon, as it stood in a
//! record that the full parser took) and what to do with the value behind it. A record that
//! matches a path from the root to an end, text by text, has the fields of the record that made
//! the path, in its order: so which value is which column's is known without looking at names.
//! Only records without surprises make paths: each column's field is there at most once.

use crate::format::json::scan::Span;

/// The text before a value, compared sixteen bytes at once.
#[derive(Clone, Debug)]
struct Literal {
    text: Box<[u8]>,
    /// The first sixteen bytes, zeros beyond the text, and ones where the text is.
    head: u128,
    mask: u128,
}

const HEAD: usize = 16;

impl Literal {
    fn new(text: &[u8]) -> Self {
        let mut head = [0; HEAD];
        let mut mask = [0; HEAD];
        for (place, &byte) in text.iter().take(HEAD).enumerate() {
            head[place] = byte;
            mask[place] = 0xff;
        }
        Literal {
            text: Box::from(text),
            head: u128::from_le_bytes(head),
            mask: u128::from_le_bytes(mask),
        }
    }

    /// The position behind the literal, if it stands at `at`.
    #[inline]
    fn end(&self, record: &[u8], at: usize) -> Option<usize> {
        let rest = record.get(at..)?;
        let is_there = match rest.first_chunk::<HEAD>() {
            Some(head) if self.text.len() <= HEAD => {
                u128::from_le_bytes(*head) & self.mask == self.head
            }
            Some(head) if u128::from_le_bytes(*head) != self.head => false,
            _ => rest.starts_with(&self.text),
        };
        is_there.then_some(at + self.text.len())
    }
}

/// What to do with a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Check it and pass on.
    Skip,
    /// It is one column's value.
    Column(usize),
    /// It fulfils a wish with parts, or with more than one column.
    Wish(usize),
}

/// A field of the record that makes a path: where the text before its value is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visited {
    pub literal: Span,
    pub take: Take,
}

#[derive(Debug)]
struct Node {
    literal: Literal,
    take: Take,
    /// The nodes that came next in some record, the last one met first.
    next: Vec<usize>,
    /// Set where a record ended: the columns that it had no field for.
    absent: Option<Box<[usize]>>,
}

/// The tree; node 0 is the root and has no value.
#[derive(Debug)]
pub(super) struct Layouts {
    nodes: Vec<Node>,
    nodes_max: usize,
}

/// A node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Layouts {
    /// An empty tree that grows to `nodes_max` nodes and then begins anew.
    pub fn new(nodes_max: usize) -> Self {
        Layouts {
            nodes: vec![root()],
            nodes_max,
        }
    }

    pub fn start(&self) -> Place {
        Place(0)
    }

    /// The field that comes next in `record` at `at`: its node, what to take, where its value is.
    #[inline]
    pub fn advance(
        &mut self,
        place: Place,
        record: &[u8],
        at: usize,
    ) -> Option<(Place, Take, usize)> {
        let first = *self.nodes.get(place.0)?.next.first()?;
        let node = self.nodes.get(first)?;
        match node.literal.end(record, at) {
            Some(end) => Some((Place(first), node.take, end)),
            None => self.advance_sideways(place, record, at),
        }
    }

    /// Tries the other branches and moves the one that fits to the front.
    fn advance_sideways(
        &mut self,
        place: Place,
        record: &[u8],
        at: usize,
    ) -> Option<(Place, Take, usize)> {
        let branches = &self.nodes[place.0].next;
        let (turn, end) = branches
            .iter()
            .enumerate()
            .skip(1)
            .find_map(|(turn, &branch)| {
                self.nodes[branch]
                    .literal
                    .end(record, at)
                    .map(|end| (turn, end))
            })?;
        let branches = &mut self.nodes[place.0].next;
        branches.swap(0, turn);
        let found = branches[0];
        Some((Place(found), self.nodes[found].take, end))
    }

    /// If a record may end here: the columns that have no field in it.
    #[inline]
    pub fn absent(&self, place: Place) -> Option<&[usize]> {
        self.nodes[place.0].absent.as_deref()
    }

    /// Adds the path of a record. Returns whether the tree was full and begins anew with it.
    pub fn learn(&mut self, record: &[u8], fields: &[Visited], absent: &[usize]) -> bool {
        let is_full = self.nodes.len() + fields.len() > self.nodes_max;
        if is_full {
            self.nodes.truncate(1);
            self.nodes[0] = root();
        }
        if fields.len() >= self.nodes_max {
            return is_full;
        }
        let mut place = 0;
        for field in fields {
            let text = &record[field.literal.start..field.literal.end];
            let known = (self.nodes[place].next.iter().copied())
                .find(|&branch| *self.nodes[branch].literal.text == *text);
            place = known.unwrap_or_else(|| self.grow(place, text, field.take));
        }
        self.nodes[place].absent = Some(Box::from(absent));
        is_full
    }

    fn grow(&mut self, from: usize, text: &[u8], take: Take) -> usize {
        let place = self.nodes.len();
        let literal = Literal::new(text);
        self.nodes.push(Node {
            literal,
            take,
            next: Vec::new(),
            absent: None,
        });
        self.nodes[from].next.insert(0, place);
        place
    }

    #[cfg(test)]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

fn root() -> Node {
    Node {
        literal: Literal::new(b""),
        take: Take::Skip,
        next: Vec::new(),
        absent: None,
    }
}
