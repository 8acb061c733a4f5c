//! The order of a partition's rows: a tree that knows what is before each row, and added up.
//!
//! ```text
//!   Inner   keys   [a       m       t     ]     the least entry below each
//!           sums   [40 rows 38 rows 12 rows]
//!           parts  [Σ 90    Σ −4    Σ 7    ]     of each measure
//!   Leaf    [a b c …]  [m n …]  [t u …]       entries: prefix, weight, slot, "first of its class"
//! ```
//!
//! Nodes are shared with copies of the tree: a copy costs nothing, and keeps what was before a
//! step while the step changes the nodes on its ways. Entries are in the order of their rows'
//! bytes, which stand in the store. A class is the rows that are equal in the order columns; its
//! first entry is marked.
//!
//! Bounds: a node has at most [`NODE_MAX`] entries, and but for the ends of the order at least a
//! quarter of it; the height is logarithmic.

use std::cmp::Ordering;
use std::ops::{AddAssign, Range, SubAssign};
use std::sync::Arc;

use crate::operator::over::parts::{Measured, NONE, Part};
use crate::operator::rows::RowStore;

/// Entries of a node: a search within one stays within a few lines of the cache, and a node that
/// is shared is copied within a microsecond.
const NODE_MAX: usize = 64;

/// A node with fewer is put together with its neighbour, if they fit.
const NODE_MIN: usize = NODE_MAX / 4;

/// A row's bytes, with the number by which they are compared first.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub prefix: u64,
    pub bytes: &'a [u8],
}

/// A row in the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub prefix: u64,
    pub weight: i64,
    pub slot: u32,
    pub is_first: bool,
}

/// Copies of rows, and the first ones of classes among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub rows: i64,
    pub classes: i64,
}

impl Entry {
    fn sum(&self) -> Sum {
        Sum {
            rows: self.weight,
            classes: i64::from(self.is_first),
        }
    }
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

/// The rows of a partition in their order.
#[derive(Clone, Default)]
pub(super) struct Tree {
    root: Option<Arc<Node>>,
    total: Sum,
}

#[derive(Clone)]
enum Node {
    Leaf(Vec<Entry>),
    Inner(Inner),
}

/// Nodes side by side, in columns: a search looks at keys or sums only.
#[derive(Clone, Default)]
struct Inner {
    /// The least entry of each node; all but its row means nothing.
    keys: Vec<Entry>,
    sums: Vec<Sum>,
    /// As many for each node as there are measures.
    parts: Vec<Part>,
    nodes: Vec<Arc<Node>>,
}

/// The right half of a node that was full.
struct Split {
    least: Entry,
    sum: Sum,
    parts: Vec<Part>,
    node: Arc<Node>,
}

/// What changes at a row's place.
#[derive(Clone, Copy)]
pub(super) struct Alteration {
    /// The entry afterwards.
    pub entry: Entry,
    /// What there is more of.
    pub delta: Sum,
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
        self.root.is_none()
    }

    pub fn total(&self) -> Sum {
        self.total
    }

    /// What is before a row, whether it is there or not, and its entry if it is.
    pub fn locate(&self, key: &Key<'_>, rows: &RowStore) -> (Sum, Option<Entry>) {
        let mut before = Sum::default();
        let Some(mut node) = self.root.as_deref() else {
            return (before, None);
        };
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.route(key, rows);
                    inner.sums[..at].iter().for_each(|&sum| before += sum);
                    node = &inner.nodes[at];
                }
                Node::Leaf(entries) => {
                    let found = search(entries, key, rows);
                    let (Ok(at) | Err(at)) = found;
                    entries[..at].iter().for_each(|entry| before += entry.sum());
                    return (before, found.ok().map(|at| entries[at]));
                }
            }
        }
    }

    /// How many copies stand before the first row whose bytes are not `is_before`, which is true
    /// up to some row.
    pub fn partition_point(&self, is_before: impl Fn(&[u8]) -> bool, rows: &RowStore) -> i64 {
        let mut before = 0;
        let Some(mut node) = self.root.as_deref() else {
            return before;
        };
        let is_in = |entry: &Entry| is_before(rows.bytes_of(0, entry.slot));
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.keys.partition_point(is_in).saturating_sub(1);
                    before += inner.sums[..at].iter().map(|sum| sum.rows).sum::<i64>();
                    node = &inner.nodes[at];
                }
                Node::Leaf(entries) => {
                    let at = entries.partition_point(is_in);
                    return before + entries[..at].iter().map(|entry| entry.weight).sum::<i64>();
                }
            }
        }
    }

    /// The entry that the copy with this number, from 0 on, is of.
    pub fn at(&self, number: i64) -> Option<Placed> {
        self.descend(number, |sum| sum.rows)
    }

    /// The first entry of the class with this number, from 0 on.
    pub fn at_class(&self, number: i64) -> Option<Placed> {
        self.descend(number, |sum| sum.classes)
    }

    fn descend(&self, number: i64, of: fn(Sum) -> i64) -> Option<Placed> {
        if number < 0 || number >= of(self.total) {
            return None;
        }
        let mut before = Sum::default();
        let mut node = self.root.as_deref()?;
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
                Node::Leaf(entries) => {
                    for &entry in entries {
                        let sum = entry.sum();
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

    /// The entry that the copy of the number, among those that a counting measure counts, is of,
    /// and how many copies are before that one.
    pub fn select(&self, number: i64, at: usize, measured: &Measured) -> Option<(Entry, i64)> {
        if number < 0 {
            return None;
        }
        let (mut counted, mut before) = (0, 0);
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Inner(inner) => {
                    let mut next = None;
                    for (child, sum) in inner.sums.iter().enumerate() {
                        let Part::Count(count) = inner.parts[child * measured.len() + at] else {
                            unreachable!("what is counted has a count")
                        };
                        if counted + count > number {
                            next = Some(&inner.nodes[child]);
                            break;
                        }
                        counted += count;
                        before += sum.rows;
                    }
                    node = next?;
                }
                Node::Leaf(entries) => {
                    for &entry in entries {
                        if measured.is_counted(at, entry.slot) {
                            if counted + entry.weight > number {
                                return Some((entry, before + number - counted));
                            }
                            counted += entry.weight;
                        }
                        before += entry.weight;
                    }
                    return None;
                }
            }
        }
    }

    /// What a measure has of the first copies.
    pub fn first(&self, copies: i64, at: usize, measured: &Measured) -> Part {
        let mut part = measured.zero(at);
        let mut left = copies;
        let Some(mut node) = self.root.as_deref() else {
            return part;
        };
        loop {
            match node {
                Node::Inner(inner) => {
                    let mut next = None;
                    for (child, sum) in inner.sums.iter().enumerate() {
                        if sum.rows > left {
                            next = Some(&inner.nodes[child]);
                            break;
                        }
                        let whole = &inner.parts[child * measured.len() + at];
                        measured.combine(&mut part, at, whole, 1);
                        left -= sum.rows;
                    }
                    match next {
                        Some(next) if left > 0 => node = next,
                        _ => return part,
                    }
                }
                Node::Leaf(entries) => {
                    for entry in entries {
                        let copies = entry.weight.min(left);
                        measured.add_row(&mut part, at, entry.slot, copies);
                        left -= copies;
                        if left <= 0 {
                            break;
                        }
                    }
                    return part;
                }
            }
        }
    }

    /// What a measure has of the copies in a range.
    pub fn part(&self, range: Range<i64>, at: usize, measured: &Measured) -> Part {
        if range.is_empty() {
            return measured.zero(at);
        }
        if measured.is_extreme(at) {
            let mut best = NONE;
            if let Some(root) = &self.root {
                root.extreme(0, &range, at, measured, &mut best);
            }
            return Part::Extreme(best);
        }
        let mut part = self.first(range.end, at, measured);
        if range.start > 0 {
            let before = self.first(range.start, at, measured);
            measured.combine(&mut part, at, &before, -1);
        }
        part
    }

    /// Gives every entry that has copies in the range of numbers, in order.
    pub fn walk(&self, range: Range<i64>, each: &mut impl FnMut(Placed)) {
        self.walk_some(range, usize::MAX, each);
    }

    /// As [`Tree::walk`], at most so many entries.
    pub fn walk_some(&self, range: Range<i64>, entries: usize, each: &mut impl FnMut(Placed)) {
        if let Some(root) = &self.root {
            root.walk(Sum::default(), &range, &mut { entries }, each);
        }
    }

    /// Takes a row in, or gives it another weight or mark.
    pub fn put(&mut self, key: &Key<'_>, alteration: &Alteration, measured: &Measured) {
        self.total += alteration.delta;
        let Some(root) = &mut self.root else {
            self.root = Some(Arc::new(Node::Leaf(vec![alteration.entry])));
            return;
        };
        let root_node = Arc::make_mut(root);
        if let Some(split) = root_node.put(key, alteration, measured, true) {
            let left = root.clone();
            let mut parts = left.parts(measured);
            parts.extend(split.parts);
            let mut sum = self.total;
            sum -= split.sum;
            self.root = Some(Arc::new(Node::Inner(Inner {
                keys: vec![left.least(), split.least],
                sums: vec![sum, split.sum],
                parts,
                nodes: vec![left, split.node],
            })));
        }
    }

    /// Takes a row out that is there; `alteration` says what there is more, less than nothing.
    pub fn take(&mut self, key: &Key<'_>, alteration: &Alteration, measured: &Measured) {
        self.total += alteration.delta;
        let root = self
            .root
            .as_mut()
            .expect("a row that is taken out is there");
        Arc::make_mut(root).take(key, alteration, measured);
        while let Some(Node::Inner(inner)) = self.root.as_deref()
            && inner.nodes.len() == 1
        {
            self.root = Some(inner.nodes[0].clone());
        }
        if self.root.as_ref().is_some_and(|root| root.len() == 0) {
            self.root = None;
        }
    }

    /// Nodes from the root to an entry.
    #[cfg(test)]
    pub fn height(&self) -> usize {
        let mut height = 0;
        let mut node = self.root.as_deref();
        while let Some(some) = node {
            height += 1;
            node = match some {
                Node::Inner(inner) => Some(&inner.nodes[0]),
                Node::Leaf(_) => None,
            };
        }
        height
    }

    /// Bytes that the entries take on the heap, about: nodes are two thirds full on average.
    pub fn bytes_of(entries: usize, measures: usize) -> usize {
        let of_node = size_of::<Entry>() + size_of::<Sum>() + size_of::<Arc<Node>>();
        let nodes = entries.div_ceil(NODE_MAX * 2 / 3);
        entries * size_of::<Entry>() * 3 / 2
            + nodes * (of_node + measures * size_of::<Part>() + size_of::<Node>())
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(inner) => inner.nodes.len(),
        }
    }

    fn least(&self) -> Entry {
        match self {
            Node::Leaf(entries) => entries[0],
            Node::Inner(inner) => inner.keys[0],
        }
    }

    fn sum(&self) -> Sum {
        let mut total = Sum::default();
        match self {
            Node::Leaf(entries) => entries.iter().for_each(|entry| total += entry.sum()),
            Node::Inner(inner) => inner.sums.iter().for_each(|&sum| total += sum),
        }
        total
    }

    fn parts(&self, measured: &Measured) -> Vec<Part> {
        let mut parts = measured.zeros();
        for (at, part) in parts.iter_mut().enumerate() {
            match self {
                Node::Leaf(entries) => {
                    for entry in entries {
                        measured.add_row(part, at, entry.slot, entry.weight);
                    }
                }
                Node::Inner(inner) => {
                    for each in inner.parts.iter().skip(at).step_by(measured.len()) {
                        measured.combine(part, at, each, 1);
                    }
                }
            }
        }
        parts
    }

    fn extreme(
        &self,
        mut before: i64,
        range: &Range<i64>,
        at: usize,
        measured: &Measured,
        best: &mut u32,
    ) {
        match self {
            Node::Leaf(entries) => {
                for entry in entries {
                    let is_in = before < range.end && before + entry.weight > range.start;
                    if is_in && measured.is_counted(at, entry.slot) {
                        *best = measured.better(at, *best, entry.slot);
                    }
                    before += entry.weight;
                }
            }
            Node::Inner(inner) => {
                for (child, sum) in inner.sums.iter().enumerate() {
                    let end = before + sum.rows;
                    if before >= range.end {
                        return;
                    }
                    if before >= range.start && end <= range.end {
                        let part = &inner.parts[child * measured.len() + at];
                        let &Part::Extreme(slot) = part else {
                            unreachable!("an extreme is one everywhere")
                        };
                        *best = measured.better(at, *best, slot);
                    } else if end > range.start {
                        inner.nodes[child].extreme(before, range, at, measured, best);
                    }
                    before = end;
                }
            }
        }
    }

    fn walk(
        &self,
        mut before: Sum,
        range: &Range<i64>,
        left: &mut usize,
        each: &mut impl FnMut(Placed),
    ) {
        match self {
            Node::Inner(inner) => {
                for (&sum, node) in inner.sums.iter().zip(&inner.nodes) {
                    if before.rows >= range.end || *left == 0 {
                        return;
                    }
                    if before.rows + sum.rows > range.start {
                        node.walk(before, range, left, each);
                    }
                    before += sum;
                }
            }
            Node::Leaf(entries) => {
                for &entry in entries {
                    if before.rows >= range.end || *left == 0 {
                        return;
                    }
                    let sum = entry.sum();
                    if before.rows + sum.rows > range.start {
                        each(Placed { entry, before });
                        *left -= 1;
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
        alteration: &Alteration,
        measured: &Measured,
        is_end: bool,
    ) -> Option<Split> {
        match self {
            Node::Leaf(entries) => {
                let at = match search(entries, key, &measured.rows) {
                    Ok(at) => {
                        entries[at] = alteration.entry;
                        return None;
                    }
                    Err(at) => at,
                };
                if entries.len() < NODE_MAX {
                    entries.insert(at, alteration.entry);
                    return None;
                }
                // Where rows come in their order, nodes stay full.
                let middle = match is_end && at == NODE_MAX {
                    true => at,
                    false => NODE_MAX / 2,
                };
                let mut right = entries.split_off(middle);
                match at.checked_sub(middle) {
                    Some(at) if at > 0 || right.is_empty() => right.insert(at, alteration.entry),
                    _ => entries.insert(at, alteration.entry),
                }
                Some(Split::of(Node::Leaf(right), measured))
            }
            Node::Inner(inner) => {
                let at = inner.route(key, &measured.rows);
                inner.alter(at, alteration, measured);
                if compare(&inner.keys[at], key, &measured.rows) == Ordering::Greater {
                    inner.keys[at] = alteration.entry;
                }
                let is_end = is_end && at + 1 == inner.nodes.len();
                let child = Arc::make_mut(&mut inner.nodes[at]);
                let split = child.put(key, alteration, measured, is_end)?;
                inner.sums[at] -= split.sum;
                inner.refresh(at, measured);
                inner.insert(at + 1, split, is_end, measured)
            }
        }
    }

    fn take(&mut self, key: &Key<'_>, alteration: &Alteration, measured: &Measured) {
        match self {
            Node::Leaf(entries) => {
                let at = search(entries, key, &measured.rows);
                entries.remove(at.expect("a row that is taken out is there"));
            }
            Node::Inner(inner) => {
                let at = inner.route(key, &measured.rows);
                inner.alter(at, alteration, measured);
                Arc::make_mut(&mut inner.nodes[at]).take(key, alteration, measured);
                if inner.nodes[at].len() == 0 {
                    inner.remove(at, measured);
                    return;
                }
                inner.keys[at] = inner.nodes[at].least();
                inner.find_extremes(at, alteration.entry.slot, measured);
                if inner.nodes[at].len() < NODE_MIN {
                    inner.put_together(at, measured);
                }
            }
        }
    }
}

impl Split {
    fn of(node: Node, measured: &Measured) -> Split {
        Split {
            least: node.least(),
            sum: node.sum(),
            parts: node.parts(measured),
            node: Arc::new(node),
        }
    }
}

impl Inner {
    /// The node in which a row is, or would be.
    fn route(&self, key: &Key<'_>, rows: &RowStore) -> usize {
        let is_up_to = |least: &Entry| compare(least, key, rows) != Ordering::Greater;
        self.keys.partition_point(is_up_to).saturating_sub(1)
    }

    /// Adds to what is known of a node what changes in it.
    fn alter(&mut self, at: usize, alteration: &Alteration, measured: &Measured) {
        self.sums[at] += alteration.delta;
        let parts = &mut self.parts[at * measured.len()..(at + 1) * measured.len()];
        for (measure, part) in parts.iter_mut().enumerate() {
            let (slot, copies) = (alteration.entry.slot, alteration.delta.rows);
            measured.add_row(part, measure, slot, copies);
        }
    }

    /// Adds a node's parts up anew.
    fn refresh(&mut self, at: usize, measured: &Measured) {
        let parts = self.nodes[at].parts(measured);
        let places = at * measured.len()..(at + 1) * measured.len();
        self.parts.splice(places, parts);
    }

    /// Looks for the extremes of a node that a row which has left was.
    fn find_extremes(&mut self, at: usize, left: u32, measured: &Measured) {
        for measure in 0..measured.len() {
            let part = &mut self.parts[at * measured.len() + measure];
            if matches!(part, Part::Extreme(slot) if *slot == left) {
                let mut best = NONE;
                let all = 0..i64::MAX;
                self.nodes[at].extreme(0, &all, measure, measured, &mut best);
                *part = Part::Extreme(best);
            }
        }
    }

    fn insert(
        &mut self,
        at: usize,
        split: Split,
        is_end: bool,
        measured: &Measured,
    ) -> Option<Split> {
        let width = measured.len();
        if self.nodes.len() < NODE_MAX {
            self.put_in(at, split, width);
            return None;
        }
        let middle = match is_end && at == NODE_MAX {
            true => at,
            false => NODE_MAX / 2,
        };
        let mut right = Inner {
            keys: self.keys.split_off(middle),
            sums: self.sums.split_off(middle),
            parts: self.parts.split_off(middle * width),
            nodes: self.nodes.split_off(middle),
        };
        match at.checked_sub(middle) {
            Some(at) => right.put_in(at, split, width),
            None => self.put_in(at, split, width),
        }
        Some(Split::of(Node::Inner(right), measured))
    }

    fn put_in(&mut self, at: usize, split: Split, width: usize) {
        self.keys.insert(at, split.least);
        self.sums.insert(at, split.sum);
        self.parts.splice(at * width..at * width, split.parts);
        self.nodes.insert(at, split.node);
    }

    fn remove(&mut self, at: usize, measured: &Measured) {
        self.keys.remove(at);
        self.sums.remove(at);
        let width = measured.len();
        self.parts.drain(at * width..(at + 1) * width);
        self.nodes.remove(at);
    }

    /// A small node and a neighbour as one, if they are not too many together.
    fn put_together(&mut self, at: usize, measured: &Measured) {
        if self.nodes.len() == 1 {
            return;
        }
        let left = at.saturating_sub(1);
        if self.nodes[left].len() + self.nodes[left + 1].len() > NODE_MAX * 3 / 4 {
            return;
        }
        let right = self.nodes[left + 1].clone();
        let sum = self.sums[left + 1];
        self.remove(left + 1, measured);
        self.sums[left] += sum;
        match (Arc::make_mut(&mut self.nodes[left]), right.as_ref()) {
            (Node::Leaf(left), Node::Leaf(right)) => left.extend_from_slice(right),
            (Node::Inner(left), Node::Inner(right)) => {
                left.keys.extend_from_slice(&right.keys);
                left.sums.extend_from_slice(&right.sums);
                left.parts.extend_from_slice(&right.parts);
                left.nodes.extend_from_slice(&right.nodes);
            }
            _ => unreachable!("neighbours are of one height"),
        }
        self.refresh(left, measured);
    }
}
