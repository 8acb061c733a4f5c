//! The order of a group's rows: a tree that knows how many rows are before each.
//!
//! ```text
//!   Inner   keys  [a       m       t     ]     the least entry below each
//!           sums  [40 rows 38 rows 12 rows]
//!   Leaf    [a b c …]  [m n …]  [t u …]        entries: prefix, slot, weight, "first of its class"
//! ```
//!
//! Entries are in the order of their rows' bytes, which stand in the store under the entry's slot.
//! Eight of these bytes are in the entry, so that a search reads few rows. A class is the rows that
//! are equal in the order columns; its first entry is marked. A group of one row has no node.
//!
//! Bounds: a node has at most [`NODE_MAX`] entries, and but for the ends of the order at least a
//! quarter of it; the height is logarithmic.

use std::cmp::Ordering;
use std::ops::{AddAssign, Range, SubAssign};

use crate::operator::rows::RowStore;

/// Entries of a node: a search within one stays within a few lines of the cache, and taking one in
/// moves at most a kilobyte.
const NODE_MAX: usize = 64;

/// A node with fewer is put together with its neighbour, if they fit.
const NODE_MIN: usize = NODE_MAX / 4;

/// The mark of a class's first entry.
const FIRST: u32 = 1 << 31;

/// The weight is more than fits: the store knows it.
const MANY: u32 = FIRST - 1;

/// A row's bytes, with the number by which they are compared first.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub prefix: u64,
    pub bytes: &'a [u8],
}

/// A row in the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    prefix: u64,
    slot: u32,
    /// The weight, and whether it is the first of its class.
    tag: u32,
}

impl Entry {
    pub fn new(prefix: u64, slot: u32, weight: i64, is_first: bool) -> Entry {
        let weight = u32::try_from(weight).unwrap_or(MANY).min(MANY);
        Entry {
            prefix,
            slot,
            tag: if is_first { weight | FIRST } else { weight },
        }
    }

    pub fn slot(&self) -> u32 {
        self.slot
    }

    pub fn prefix(&self) -> u64 {
        self.prefix
    }

    /// The entry with the mark of a class's first one, or without.
    pub fn marked(self, is_first: bool) -> Entry {
        let weight = self.tag & !FIRST;
        Entry {
            tag: if is_first { weight | FIRST } else { weight },
            ..self
        }
    }

    pub fn is_first(&self) -> bool {
        self.tag & FIRST != 0
    }

    #[inline]
    pub fn weight(&self, rows: &RowStore) -> i64 {
        match self.tag & !FIRST {
            MANY => rows.weight(self.slot),
            weight => i64::from(weight),
        }
    }

    #[inline]
    pub fn sum(&self, rows: &RowStore) -> Sum {
        Sum {
            rows: self.weight(rows),
            classes: i64::from(self.is_first()),
        }
    }
}

/// Rows, by weight, and the first ones of classes among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub rows: i64,
    pub classes: i64,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.rows += other.rows;
        self.classes += other.classes;
    }
}

impl SubAssign for Sum {
    fn sub_assign(&mut self, other: Sum) {
        self.rows -= other.rows;
        self.classes -= other.classes;
    }
}

/// An entry with what is before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub entry: Entry,
    pub before: Sum,
}

/// The rows of a group in their order.
#[derive(Default)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Default)]
enum Node {
    #[default]
    Empty,
    One(Entry),
    Leaf(Vec<Entry>),
    Inner(Box<Inner>),
}

/// Nodes side by side, in columns: a search looks at keys or sums only.
#[derive(Default)]
struct Inner {
    /// The least entry of each node; its tag means nothing.
    keys: Vec<Entry>,
    sums: Vec<Sum>,
    nodes: Vec<Node>,
}

#[inline]
fn compare(entry: &Entry, key: &Key<'_>, rows: &RowStore) -> Ordering {
    let prefix = entry.prefix.cmp(&key.prefix);
    prefix.then_with(|| rows.bytes_of(0, entry.slot).cmp(key.bytes))
}

fn search(entries: &[Entry], key: &Key<'_>, rows: &RowStore) -> Result<usize, usize> {
    entries.binary_search_by(|entry| compare(entry, key, rows))
}

impl Tree {
    pub fn is_empty(&self) -> bool {
        matches!(self.root, Node::Empty)
    }

    pub fn total(&self, rows: &RowStore) -> Sum {
        self.root.total(rows)
    }

    /// What is before a row, whether it is there or not, and its entry if it is.
    pub fn locate(&self, key: &Key<'_>, rows: &RowStore) -> (Sum, Option<Entry>) {
        let mut before = Sum::default();
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.route(key, rows);
                    inner.sums[..at].iter().for_each(|&sum| before += sum);
                    node = &inner.nodes[at];
                }
                leaf => {
                    let entries = leaf.entries();
                    let found = search(entries, key, rows);
                    let (Ok(at) | Err(at)) = found;
                    entries[..at]
                        .iter()
                        .for_each(|entry| before += entry.sum(rows));
                    return (before, found.ok().map(|at| entries[at]));
                }
            }
        }
    }

    pub fn last(&self) -> Option<Entry> {
        let mut node = &self.root;
        while let Node::Inner(inner) = node {
            node = inner.nodes.last()?;
        }
        node.entries().last().copied()
    }

    /// The entry that the copy with this number, from 0 on, is of.
    pub fn at(&self, number: i64, rows: &RowStore) -> Option<Placed> {
        self.descend(number, |sum| sum.rows, rows)
    }

    /// The first entry of the class with this number, from 0 on.
    pub fn at_class(&self, number: i64, rows: &RowStore) -> Option<Placed> {
        self.descend(number, |sum| sum.classes, rows)
    }

    fn descend(&self, number: i64, of: fn(Sum) -> i64, rows: &RowStore) -> Option<Placed> {
        if number < 0 {
            return None;
        }
        let mut before = Sum::default();
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let mut next = None;
                    for (sum, child) in inner.sums.iter().zip(&inner.nodes) {
                        if of(before) + of(*sum) > number {
                            next = Some(child);
                            break;
                        }
                        before += *sum;
                    }
                    node = next?;
                }
                leaf => {
                    for &entry in leaf.entries() {
                        let sum = entry.sum(rows);
                        if of(before) + of(sum) > number {
                            return Some(Placed { entry, before });
                        }
                        before += sum;
                    }
                    return None;
                }
            }
        }
    }

    /// Gives every entry that has copies in the range of numbers, in order.
    pub fn walk(&self, range: Range<i64>, rows: &RowStore, each: &mut impl FnMut(Placed)) {
        self.root.walk(Sum::default(), &range, rows, each);
    }

    /// Takes a row in, or gives it another weight or mark; `delta` is what that changes.
    pub fn put(&mut self, key: &Key<'_>, entry: Entry, delta: Sum, rows: &RowStore) {
        if let Some((least, sum, right)) = self.root.put(key, entry, delta, rows, true) {
            let left = std::mem::take(&mut self.root);
            self.root = Node::Inner(Box::new(Inner {
                keys: vec![left.least(), least],
                sums: vec![left.total(rows), sum],
                nodes: vec![left, right],
            }));
        }
    }

    /// Takes a row out that is there; `sum` is what its entry counts.
    pub fn take(&mut self, key: &Key<'_>, sum: Sum, rows: &RowStore) {
        self.root.take(key, sum, rows);
        while let Node::Inner(inner) = &mut self.root
            && inner.nodes.len() == 1
        {
            self.root = inner.nodes.pop().expect("there is one");
        }
        if let Node::Leaf(entries) = &self.root {
            match entries.as_slice() {
                [] => self.root = Node::Empty,
                [one] => self.root = Node::One(*one),
                _ => {}
            }
        }
    }

    /// Nodes from the root to an entry.
    #[cfg(test)]
    pub fn height(&self) -> usize {
        let mut height = 1;
        let mut node = &self.root;
        while let Node::Inner(inner) = node {
            height += 1;
            node = &inner.nodes[0];
        }
        height
    }

    /// Bytes that the entries take on the heap, about: nodes are two thirds full on average.
    pub fn bytes_of(entries: usize) -> usize {
        entries * size_of::<Entry>() * 3 / 2
    }
}

/// The right half of a node that was full: its least entry, its sum, itself.
type Split = (Entry, Sum, Node);

impl Node {
    fn entries(&self) -> &[Entry] {
        match self {
            Node::Empty | Node::Inner(_) => &[],
            Node::One(entry) => std::slice::from_ref(entry),
            Node::Leaf(entries) => entries,
        }
    }

    fn total(&self, rows: &RowStore) -> Sum {
        let mut total = Sum::default();
        match self {
            Node::Inner(inner) => inner.sums.iter().for_each(|&sum| total += sum),
            leaf => {
                let entries = leaf.entries().iter();
                entries.for_each(|entry| total += entry.sum(rows));
            }
        }
        total
    }

    fn least(&self) -> Entry {
        match self {
            Node::Inner(inner) => inner.keys[0],
            leaf => leaf.entries()[0],
        }
    }

    fn len(&self) -> usize {
        match self {
            Node::Inner(inner) => inner.nodes.len(),
            leaf => leaf.entries().len(),
        }
    }

    fn walk(
        &self,
        mut before: Sum,
        range: &Range<i64>,
        rows: &RowStore,
        each: &mut impl FnMut(Placed),
    ) {
        match self {
            Node::Inner(inner) => {
                for (&sum, node) in inner.sums.iter().zip(&inner.nodes) {
                    if before.rows >= range.end {
                        return;
                    }
                    if before.rows + sum.rows > range.start {
                        node.walk(before, range, rows, each);
                    }
                    before += sum;
                }
            }
            leaf => {
                for &entry in leaf.entries() {
                    if before.rows >= range.end {
                        return;
                    }
                    let sum = entry.sum(rows);
                    if before.rows + sum.rows > range.start {
                        each(Placed { entry, before });
                    }
                    before += sum;
                }
            }
        }
    }

    /// `is_end`: no node stands to the right of this one.
    fn put(
        &mut self,
        key: &Key<'_>,
        entry: Entry,
        delta: Sum,
        rows: &RowStore,
        is_end: bool,
    ) -> Option<Split> {
        match self {
            Node::Empty => *self = Node::One(entry),
            Node::One(one) => match compare(one, key, rows) {
                Ordering::Equal => *one = entry,
                Ordering::Less => *self = Node::Leaf(vec![*one, entry]),
                Ordering::Greater => *self = Node::Leaf(vec![entry, *one]),
            },
            Node::Leaf(entries) => {
                let at = match search(entries, key, rows) {
                    Ok(at) => {
                        entries[at] = entry;
                        return None;
                    }
                    Err(at) => at,
                };
                if entries.len() < NODE_MAX {
                    entries.insert(at, entry);
                    return None;
                }
                // Where rows come in their order, nodes stay full.
                let middle = if is_end && at == NODE_MAX {
                    at
                } else {
                    NODE_MAX / 2
                };
                let mut right = entries.split_off(middle);
                match at.checked_sub(middle) {
                    Some(at) if at > 0 || right.is_empty() => right.insert(at, entry),
                    _ => entries.insert(at, entry),
                }
                let right = Node::Leaf(right);
                return Some((right.least(), right.total(rows), right));
            }
            Node::Inner(inner) => {
                let at = inner.route(key, rows);
                inner.sums[at] += delta;
                if compare(&inner.keys[at], key, rows) == Ordering::Greater {
                    inner.keys[at] = entry;
                }
                let is_end = is_end && at + 1 == inner.nodes.len();
                let split = inner.nodes[at].put(key, entry, delta, rows, is_end)?;
                inner.sums[at] -= split.1;
                return inner.insert(at + 1, split, is_end);
            }
        }
        None
    }

    fn take(&mut self, key: &Key<'_>, sum: Sum, rows: &RowStore) {
        match self {
            Node::Empty => panic!("a row that is taken out is there"),
            Node::One(_) => *self = Node::Empty,
            Node::Leaf(entries) => {
                let at = search(entries, key, rows).expect("a row that is taken out is there");
                entries.remove(at);
            }
            Node::Inner(inner) => {
                let at = inner.route(key, rows);
                inner.sums[at] -= sum;
                inner.nodes[at].take(key, sum, rows);
                if inner.nodes[at].len() == 0 {
                    inner.remove(at);
                    return;
                }
                inner.keys[at] = inner.nodes[at].least();
                if inner.nodes[at].len() < NODE_MIN {
                    inner.put_together(at);
                }
            }
        }
    }
}

impl Inner {
    /// The node in which a row is, or would be.
    fn route(&self, key: &Key<'_>, rows: &RowStore) -> usize {
        let after = self
            .keys
            .partition_point(|least| compare(least, key, rows) != Ordering::Greater);
        after.saturating_sub(1)
    }

    fn insert(&mut self, at: usize, (least, sum, node): Split, is_end: bool) -> Option<Split> {
        if self.nodes.len() < NODE_MAX {
            self.keys.insert(at, least);
            self.sums.insert(at, sum);
            self.nodes.insert(at, node);
            return None;
        }
        let middle = if is_end && at == NODE_MAX {
            at
        } else {
            NODE_MAX / 2
        };
        let mut right = Inner {
            keys: self.keys.split_off(middle),
            sums: self.sums.split_off(middle),
            nodes: self.nodes.split_off(middle),
        };
        let half = match at.checked_sub(middle) {
            Some(at) => (&mut right, at),
            None => (self, at),
        };
        half.0.keys.insert(half.1, least);
        half.0.sums.insert(half.1, sum);
        half.0.nodes.insert(half.1, node);
        let mut total = Sum::default();
        right.sums.iter().for_each(|&sum| total += sum);
        Some((right.keys[0], total, Node::Inner(Box::new(right))))
    }

    fn remove(&mut self, at: usize) {
        self.keys.remove(at);
        self.sums.remove(at);
        self.nodes.remove(at);
    }

    /// A small node and a neighbour as one, if they are not too many together.
    fn put_together(&mut self, at: usize) {
        if self.nodes.len() == 1 {
            return;
        }
        let left = at.saturating_sub(1);
        if self.nodes[left].len() + self.nodes[left + 1].len() > NODE_MAX * 3 / 4 {
            return;
        }
        let sum = self.sums[left + 1];
        self.sums[left] += sum;
        self.keys.remove(left + 1);
        self.sums.remove(left + 1);
        match &mut self.nodes[left..=left + 1] {
            [Node::Leaf(left), Node::Leaf(right)] => left.append(right),
            [Node::Inner(left), Node::Inner(right)] => {
                left.keys.append(&mut right.keys);
                left.sums.append(&mut right.sums);
                left.nodes.append(&mut right.nodes);
            }
            _ => unreachable!("neighbours are of one height"),
        }
        self.nodes.remove(left + 1);
    }
}
