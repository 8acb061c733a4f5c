//! Which sessions there are: the live ones of each key, in the order of time.
//!
//! ```text
//!   key 0 ─► [5, 12] ─► [40, 41]          first and last row; at gap 10 the ends are 22 and 51
//!   key 1 ─► [7, 7]
//! ```
//!
//! The sessions of a key are a chain. Rows mostly come in order, so the last one is looked at
//! before the chain is walked from the oldest. Ends move with nearly every row: a session is
//! noted once under an end that it had, and noted again only when that time has come and the end
//! has moved on. Slots of sessions that are gone are used again from the next step on, so that a
//! number means one session within a step.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::growth;
use crate::delta::NO_SLOT;

/// Starts and ends that may be past before the heaps are made anew.
const NOTES_KEPT: usize = 1024;

/// Live sessions by key.
pub(in crate::operator) struct Sessions {
    gap: i64,
    /// By key, its first and its last session.
    heads: Vec<u32>,
    tails: Vec<u32>,
    sessions: Vec<Entry>,
    free: Vec<u32>,
    live: usize,
    /// Sessions by an end that they had.
    ends: BinaryHeap<Reverse<(i64, u32)>>,
    /// Sessions by the starts that they have had.
    starts: BinaryHeap<Reverse<(i64, u32)>>,

    /// Sessions that the step has changed, in the order of their first change.
    dirty: Vec<u32>,
    /// Sessions that have become final.
    retired: Vec<u32>,
    /// Slots that are free when the step ends.
    leaving: Vec<u32>,
    /// Keys that may have no session any more.
    emptied: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Times of the first and the last row.
    start: i64,
    last: i64,
    /// The next one of the key; of a merged session the one that it is part of.
    next: u32,
    key: u32,
    /// The end under which it is noted.
    noted: i64,
    state: State,
    is_dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    Merged,
    Gone,
}

const FREE: Entry = Entry {
    start: 0,
    last: 0,
    next: NO_SLOT,
    key: 0,
    noted: i64::MIN,
    state: State::Gone,
    is_dirty: false,
};

/// Sessions that became one while a row was placed: the first took the rows of the second.
pub(in crate::operator) type Merges = Vec<(u32, u32)>;

/// What a removed row leaves of its session.
pub(in crate::operator) enum Rest {
    Nothing,
    /// Rows from the first to the last time.
    One(i64, i64),
    /// Those up to the first time, and those from the second one on.
    Two(i64, i64),
}

impl Sessions {
    pub fn new(gap: i64) -> Sessions {
        Sessions {
            gap,
            heads: Vec::new(),
            tails: Vec::new(),
            sessions: Vec::new(),
            free: Vec::new(),
            live: 0,
            ends: BinaryHeap::new(),
            starts: BinaryHeap::new(),
            dirty: Vec::new(),
            retired: Vec::new(),
            leaving: Vec::new(),
            emptied: Vec::new(),
        }
    }

    /// Room for keys below `keys`; `fresh` ones may stay without a session.
    pub fn grow(&mut self, keys: usize, fresh: &[u32]) {
        growth::grow(&mut self.heads, keys, NO_SLOT);
        growth::grow(&mut self.tails, keys, NO_SLOT);
        self.emptied.extend_from_slice(fresh);
    }

    /// One past the highest number of a session.
    pub fn slots(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_live(&self, session: u32) -> bool {
        self.sessions[session as usize].state == State::Live
    }

    /// The session that one has become part of, or itself. What was passed on the way names it
    /// from then on: sessions that merge one into the other, over and over, are walked once.
    pub fn resolve(&mut self, session: u32) -> u32 {
        let mut last = session;
        while self.is_merged(last) {
            last = self.sessions[last as usize].next;
        }
        let mut at = session;
        while at != last {
            at = std::mem::replace(&mut self.sessions[at as usize].next, last);
        }
        last
    }

    pub fn key(&self, session: u32) -> u32 {
        self.sessions[session as usize].key
    }

    /// Times of the first and the last row.
    pub fn span(&self, session: u32) -> (i64, i64) {
        let entry = &self.sessions[session as usize];
        (entry.start, entry.last)
    }

    /// The window of a session.
    pub fn bounds(&self, session: u32) -> (i64, i64) {
        let (start, last) = self.span(session);
        (start, last + self.gap)
    }

    /// Puts a row of a key into its session; `None` for one that is late. Sessions that end by
    /// `horizon` are final. The row's time plus the gap fits the type.
    #[inline]
    pub fn place(&mut self, key: u32, time: i64, horizon: i64, merges: &mut Merges) -> Option<u32> {
        self.retire_key(key, horizon);
        let (before, at) = self.near(key, time);
        let is_over = time + self.gap <= horizon;
        let entry = (at != NO_SLOT).then(|| self.sessions[at as usize]);
        let near = entry.filter(|entry| entry.start.saturating_sub(self.gap) <= time);
        let Some(entry) = near else {
            if is_over {
                return None;
            }
            let session = self.take(Entry {
                start: time,
                last: time,
                next: at,
                key,
                noted: i64::MIN,
                state: State::Live,
                is_dirty: false,
            });
            self.link(key, before, session);
            return Some(session);
        };
        if is_over && time < entry.start {
            return None;
        }
        let session = &mut self.sessions[at as usize];
        if time < session.start {
            session.start = time;
            push(&mut self.starts, (time, at));
        }
        if time > entry.last {
            self.sessions[at as usize].last = time;
            self.join_next(at, merges);
        }
        self.touch(at);
        Some(at)
    }

    /// The first session of a key that ends at or after a time, and the one before it, as far as
    /// that is needed: not for a time that is in the last session.
    fn near(&self, key: u32, time: i64) -> (u32, u32) {
        let tail = self.tails[key as usize];
        if tail != NO_SLOT {
            let entry = &self.sessions[tail as usize];
            if entry.last + self.gap < time {
                return (tail, NO_SLOT);
            }
            // Those before it end before it begins.
            if entry.start <= time {
                return (NO_SLOT, tail);
            }
        }
        let (mut before, mut at) = (NO_SLOT, self.heads[key as usize]);
        while at != NO_SLOT && self.sessions[at as usize].last + self.gap < time {
            (before, at) = (at, self.sessions[at as usize].next);
        }
        (before, at)
    }

    /// Makes one of the session and those behind it that it has come near to.
    fn join_next(&mut self, session: u32, merges: &mut Merges) {
        loop {
            let Entry { last, next, .. } = self.sessions[session as usize];
            if next == NO_SLOT || self.sessions[next as usize].start > last + self.gap {
                return;
            }
            let other = &mut self.sessions[next as usize];
            let (behind, last) = (other.next, other.last);
            other.state = State::Merged;
            other.next = session;
            self.leaving.push(next);
            self.live -= 1;
            let entry = &mut self.sessions[session as usize];
            entry.next = behind;
            entry.last = entry.last.max(last);
            if behind == NO_SLOT {
                self.tails[entry.key as usize] = session;
            }
            merges.push((session, next));
        }
    }

    fn take(&mut self, entry: Entry) -> u32 {
        let session = match self.free.pop() {
            Some(session) => session,
            None => {
                growth::push(&mut self.sessions, entry);
                number(self.sessions.len() - 1)
            }
        };
        self.sessions[session as usize] = entry;
        self.live += 1;
        push(&mut self.starts, (entry.start, session));
        self.note(session);
        self.touch(session);
        session
    }

    fn link(&mut self, key: u32, before: u32, session: u32) {
        match before {
            NO_SLOT => self.heads[key as usize] = session,
            before => self.sessions[before as usize].next = session,
        }
        if session == NO_SLOT {
            self.tails[key as usize] = before;
        } else if self.sessions[session as usize].next == NO_SLOT {
            self.tails[key as usize] = session;
        }
    }

    fn note(&mut self, session: u32) {
        let end = self.bounds(session).1;
        self.sessions[session as usize].noted = end;
        push(&mut self.ends, (end, session));
    }

    fn touch(&mut self, session: u32) {
        let entry = &mut self.sessions[session as usize];
        if !entry.is_dirty {
            entry.is_dirty = true;
            self.dirty.push(session);
        }
    }

    /// The live session of a key that spans a time from its first to its last row.
    pub fn find(&self, key: u32, time: i64) -> Option<u32> {
        let mut at = self.heads[key as usize];
        while at != NO_SLOT {
            let entry = &self.sessions[at as usize];
            if entry.start <= time && time <= entry.last {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// A session has lost a row; this is left.
    pub fn shrink(&mut self, session: u32, rest: Rest) {
        self.touch(session);
        match rest {
            Rest::Nothing => self.unlink(session),
            Rest::One(first, last) => {
                let entry = &mut self.sessions[session as usize];
                let (start, end) = (entry.start, entry.last);
                (entry.start, entry.last) = (first, last);
                if first != start {
                    push(&mut self.starts, (first, session));
                }
                if last != end {
                    self.note(session);
                }
            }
            Rest::Two(left_last, right_first) => {
                let entry = &mut self.sessions[session as usize];
                let right = Entry {
                    start: right_first,
                    noted: i64::MIN,
                    is_dirty: false,
                    ..*entry
                };
                entry.last = left_last;
                self.note(session);
                let key = right.key;
                let right = self.take(right);
                self.link(key, session, right);
            }
        }
    }

    fn unlink(&mut self, session: u32) {
        let Entry { key, next, .. } = self.sessions[session as usize];
        let mut before = NO_SLOT;
        let mut at = self.heads[key as usize];
        while at != session {
            (before, at) = (at, self.sessions[at as usize].next);
        }
        self.link(key, before, next);
        self.sessions[session as usize].state = State::Gone;
        self.leaving.push(session);
        self.live -= 1;
        if self.heads[key as usize] == NO_SLOT {
            self.emptied.push(key);
        }
    }

    /// Retires the sessions of a key that end by `horizon`.
    pub fn retire_key(&mut self, key: u32, horizon: i64) {
        // They end in the order of their chain.
        while let at = self.heads[key as usize]
            && at != NO_SLOT
            && self.bounds(at).1 <= horizon
        {
            self.unlink(at);
            self.retired.push(at);
        }
    }

    /// When the first session is over: a row at its very end continues it. A session that has a
    /// later end by now may make it earlier.
    pub fn due_time(&self) -> Option<i64> {
        let Reverse((end, _)) = self.ends.peek()?;
        Some(end.saturating_add(1))
    }

    /// Retires all sessions that end by `horizon`.
    pub fn retire_all(&mut self, horizon: i64) {
        while let Some(&Reverse((end, session))) = self.ends.peek()
            && end <= horizon
        {
            self.ends.pop();
            let entry = &mut self.sessions[session as usize];
            // Another session may have the slot by now, or this one another end.
            if entry.state != State::Live || entry.noted != end {
                continue;
            }
            if self.bounds(session).1 <= horizon {
                self.sessions[session as usize].noted = i64::MIN;
                self.unlink(session);
                self.retired.push(session);
            } else {
                self.note(session);
            }
        }
    }

    /// Puts a session of a checkpoint into its slot, to be linked by [`Sessions::relink`].
    pub fn put(&mut self, session: u32, key: u32, start: i64, last: i64) {
        self.clear(session);
        self.sessions[session as usize] = Entry {
            start,
            last,
            key,
            state: State::Live,
            ..FREE
        };
    }

    /// Says that a slot of a checkpoint is free.
    pub fn clear(&mut self, session: u32) {
        let slots = session as usize + 1;
        if self.sessions.len() < slots {
            self.sessions.resize(slots, FREE);
        }
        self.sessions[session as usize] = FREE;
    }

    /// Derives everything from the sessions that have been put back, all of which are unchanged.
    pub fn relink(&mut self) {
        self.heads.fill(NO_SLOT);
        (self.free, self.ends, self.starts) = Default::default();
        let mut live = self.live_slots();
        self.live = live.len();
        let is_free = |slot: &u32| self.sessions[*slot as usize].state != State::Live;
        self.free = (0..number(self.sessions.len()))
            .rev()
            .filter(is_free)
            .collect();
        live.sort_unstable_by_key(|&session| {
            let entry = &self.sessions[session as usize];
            std::cmp::Reverse((entry.key, entry.start))
        });
        for session in live {
            let entry = &mut self.sessions[session as usize];
            let (key, start) = (entry.key as usize, entry.start);
            entry.next = std::mem::replace(&mut self.heads[key], session);
            push(&mut self.starts, (start, session));
            self.note(session);
        }
    }

    /// The live sessions, by number.
    pub fn live_slots(&self) -> Vec<u32> {
        let slots = 0..number(self.sessions.len());
        slots.filter(|&session| self.is_live(session)).collect()
    }

    /// Whether another session has taken its rows.
    pub fn is_merged(&self, session: u32) -> bool {
        self.sessions[session as usize].state == State::Merged
    }

    pub fn take_retired(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.retired)
    }

    /// The sessions that the step has changed.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        for &session in &dirty {
            self.sessions[session as usize].is_dirty = false;
        }
        dirty
    }

    /// The step is over: gives slots back. Returns the keys that have no session.
    pub fn settle(&mut self) -> Vec<u32> {
        for session in self.leaving.drain(..) {
            self.sessions[session as usize].state = State::Gone;
            self.free.push(session);
        }
        self.trim();
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.retain(|&key| self.heads[key as usize] == NO_SLOT);
        emptied.sort_unstable();
        emptied.dedup();
        emptied
    }

    /// Makes the heaps anew when a third of what is in them is past: starts and ends that sessions
    /// had, which nothing takes out as long as one session stays before them or no time comes.
    fn trim(&mut self) {
        let most = self.live + self.live / 2 + NOTES_KEPT;
        let is_live = |entry: &Entry| entry.state == State::Live;
        if self.starts.len() > most {
            let live = (0..)
                .zip(&self.sessions)
                .filter(|(_, entry)| is_live(entry));
            let mut starts = Vec::with_capacity(growth::room(self.live));
            starts.extend(live.map(|(at, entry)| Reverse((entry.start, at))));
            self.starts = starts.into();
        }
        if self.ends.len() > most {
            let gap = self.gap;
            let live = (0..).zip(&mut self.sessions);
            let live = live.filter(|(_, entry)| is_live(entry));
            let note = |(at, entry): (u32, &mut Entry)| {
                entry.noted = entry.last + gap;
                Reverse((entry.noted, at))
            };
            let mut ends = Vec::with_capacity(growth::room(self.live));
            ends.extend(live.map(note));
            self.ends = ends.into();
        }
    }

    /// The start of the oldest live session.
    pub fn oldest(&mut self) -> Option<i64> {
        while let Some(&Reverse((start, session))) = self.starts.peek() {
            let entry = &self.sessions[session as usize];
            if entry.state == State::Live && entry.start == start {
                return Some(start);
            }
            self.starts.pop();
        }
        None
    }

    pub fn live(&self) -> usize {
        self.live
    }

    pub fn bytes(&self) -> usize {
        let noted = self.ends.capacity() + self.starts.capacity();
        (self.heads.capacity() + self.tails.capacity()) * size_of::<u32>()
            + self.sessions.capacity() * size_of::<Entry>()
            + noted * size_of::<Reverse<(i64, u32)>>()
            + (self.free.capacity() + self.dirty.capacity()) * size_of::<u32>()
    }
}

/// Notes a time of a session.
fn push(heap: &mut BinaryHeap<Reverse<(i64, u32)>>, note: (i64, u32)) {
    if heap.len() == heap.capacity() {
        heap.reserve_exact(growth::room(heap.len() + 1) - heap.len());
    }
    heap.push(Reverse(note));
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).expect("there are fewer than 2^32 sessions")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gaps are filled from the last to the first: each session is merged into the one before it.
    #[test]
    fn a_chain_of_merges_is_walked_once() {
        let mut sessions = Sessions::new(10);
        sessions.grow(1, &[]);
        let mut merges = Merges::new();
        let many = 1_000;
        let mut place = |time| {
            let placed = sessions.place(0, time, i64::MIN, &mut merges);
            placed.expect("nothing is late")
        };
        let apart: Vec<u32> = (0..many).map(|at| place(at * 20)).collect();
        let filled: Vec<u32> = (0..many - 1).rev().map(|at| place(at * 20 + 10)).collect();
        assert_eq!(merges.len(), apart.len() - 1);
        assert_eq!(sessions.live(), 1);
        let first = apart[0];
        assert_eq!(sessions.resolve(apart[apart.len() - 1]), first);
        // The one walk was the last: all that were on the way name the first one now.
        assert!(
            apart[1..]
                .iter()
                .all(|&at| sessions.sessions[at as usize].next == first)
        );
        assert!(filled.iter().all(|&at| sessions.resolve(at) == first));
        assert_eq!(sessions.bounds(first), (0, (many - 1) * 20 + 10));
    }
}
