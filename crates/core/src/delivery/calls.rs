//! The pending calls of one shard: who waits for which reply, until when.
//!
//! A reply token is (caller incarnation, call id). The first outcome wins: a reply, a refusal, the loss of the host,
//! the deadline. Whoever takes the waiter out of the table tells it; everybody later finds nothing.
//!
//! A timeout is always Unknown: the table does not hold the message, so it can not know. The one that does, the
//! port, ends a message that still waits unsent at its deadline with No; give the entry here a few milliseconds more
//! than its message, and that better answer comes first.
//!
//! A process moves with the calls in its mailbox, so a reply may come from another node than the call was sent to. What
//! makes it believable is the id: the generation of a place is a permuted counter under a secret seed, so whoever knows
//! the id of a call was given it, and none comes again before 2^32 calls of that place.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::base::hash::mix;
use crate::base::{Incarnation, Mutant, Mutants, Time};

const INDEX_BITS: u32 = 24;
const GENERATION_BITS: u32 = 32;

/// Names a pending call of this node life: shard, slab index and generation of that index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

impl CallId {
    /// As it travels.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// From what came back; any number is safe.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The table it belongs to.
    pub const fn shard(self) -> u8 {
        (self.0 >> (INDEX_BITS + GENERATION_BITS)) as u8
    }

    const fn new(shard: u8, generation: u32, index: u32) -> Self {
        Self(
            (shard as u64) << (INDEX_BITS + GENERATION_BITS)
                | (generation as u64) << INDEX_BITS
                | index as u64,
        )
    }

    const fn index(self) -> usize {
        (self.0 & ((1 << INDEX_BITS) - 1)) as usize
    }

    const fn generation(self) -> u32 {
        (self.0 >> INDEX_BITS) as u32
    }
}

/// Deadlines of calls that are over which a table keeps, however few wait.
const SLACK: usize = 128;

/// Too many calls are pending; the waiter comes back. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallsFull<W>(pub W);

#[derive(Debug)]
struct Place<W> {
    /// Calls that were here before.
    uses: u32,
    /// Changes with `uses`, so that an id is not used twice.
    generation: u32,
    pending: Option<Pending<W>>,
}

#[derive(Debug)]
struct Pending<W> {
    waiter: W,
    host: Option<Incarnation>,
}

/// The pending calls of one shard.
#[derive(Debug)]
pub struct Calls<W> {
    shard: u8,
    seed: u64,
    limit: usize,
    places: Vec<Place<W>>,
    free: Vec<u32>,
    /// In the order of their deadlines, as most calls are made. Those that were taken go when they are first.
    in_order: VecDeque<(Time, CallId)>,
    /// Calls with a deadline before that of an earlier call. Contains also ids that were taken; they are skipped, and
    /// swept when they are most of it.
    out_of_order: BinaryHeap<Reverse<(Time, CallId)>>,
    mutants: Mutants,
}

impl<W> Calls<W> {
    /// An empty table for at most `limit` calls (and never more than 16 million). Nobody else knows the seed.
    pub fn new(shard: u8, limit: usize, seed: u64, mutants: Mutants) -> Self {
        Self {
            shard,
            seed,
            limit: limit.min(1 << INDEX_BITS),
            places: Vec::new(),
            free: Vec::new(),
            in_order: VecDeque::new(),
            out_of_order: BinaryHeap::new(),
            mutants,
        }
    }

    /// Calls that wait.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time at which [`Calls::expire`] has something to do.
    pub fn next_deadline(&mut self) -> Option<Time> {
        self.skip_taken();
        while let Some(Reverse((_, id))) = self.out_of_order.peek().copied()
            && !self.waits(id)
        {
            self.out_of_order.pop();
        }
        let in_order = self.in_order.front().map(|(time, _)| *time);
        let out_of_order = self.out_of_order.peek().map(|Reverse((time, _))| *time);
        in_order.into_iter().chain(out_of_order).min()
    }

    /// Somebody waits for a reply until `deadline`.
    ///
    /// # Errors
    /// The table is full; the call is not to be made.
    pub fn insert(&mut self, waiter: W, deadline: Time) -> Result<CallId, CallsFull<W>> {
        if self.len() >= self.limit {
            return Err(CallsFull(waiter));
        }
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.places.len() as u32;
            self.places.push(Place { uses: 0, generation: generation(self.seed, index, 0), pending: None });
            index
        });
        let place = &mut self.places[index as usize];
        place.pending = Some(Pending { waiter, host: None });
        let id = CallId::new(self.shard, place.generation, index);
        self.skip_taken();
        match self.in_order.back() {
            Some((last, _)) if deadline < *last => self.out_of_order.push(Reverse((deadline, id))),
            _ => self.in_order.push_back((deadline, id)),
        }
        Ok(id)
    }

    /// The call's frame is handed to the link with this host: it shares the host's fate. Returns where it was before.
    pub fn set_host(&mut self, id: CallId, host: Incarnation) -> Option<Incarnation> {
        self.place(id)?.pending.as_mut()?.host.replace(host)
    }

    /// The call's message is the sender's again: the loss of this host does not end it.
    pub fn leave_host(&mut self, id: CallId, host: Incarnation) {
        if let Some(pending) = self.place(id).and_then(|place| place.pending.as_mut()) {
            pending.host.take_if(|at| *at == host);
        }
    }

    /// The call's message is in a mailbox of this node now: no host's loss ends it.
    pub fn come_home(&mut self, id: CallId) {
        if let Some(pending) = self.place(id).and_then(|place| place.pending.as_mut()) {
            pending.host = None;
        }
    }

    /// An outcome: whoever gets the waiter tells it. None when another outcome was first.
    pub fn take(&mut self, id: CallId) -> Option<W> {
        let (seed, index) = (self.seed, id.index() as u32);
        let place = self.place(id)?;
        let pending = place.pending.take()?;
        place.uses = place.uses.wrapping_add(1);
        place.generation = generation(seed, index, place.uses);
        self.free.push(index);
        self.sweep();
        Some(pending.waiter)
    }

    /// Whether the call is at this host, as far as is known.
    pub fn is_at(&mut self, id: CallId, host: Incarnation) -> bool {
        let pending = self.place(id).and_then(|place| place.pending.as_ref());
        pending.is_some_and(|pending| pending.host == Some(host))
    }

    /// Calls whose deadline has come: each ends with `Deadline`, Unknown.
    pub fn expire(&mut self, now: Time) -> Vec<(CallId, W)> {
        let mut expired = Vec::new();
        while let Some((time, id)) = self.first()
            && time <= now
        {
            match self.in_order.front() == Some(&(time, id)) {
                true => drop(self.in_order.pop_front()),
                false => drop(self.out_of_order.pop()),
            }
            if self.mutants.has(Mutant::DeadlineLost) {
                continue;
            }
            expired.extend(self.take(id).map(|waiter| (id, waiter)));
        }
        expired
    }

    /// A host is lost: the calls handed to its link end with `NodeLost`, Unknown. In the order of the table.
    pub fn lost(&mut self, host: Incarnation) -> Vec<(CallId, W)> {
        let of_host = |place: &Place<W>| place.pending.as_ref().is_some_and(|p| p.host == Some(host));
        let ids: Vec<CallId> = (0u32..)
            .zip(&self.places)
            .filter(|(_, place)| of_host(place))
            .map(|(index, place)| CallId::new(self.shard, place.generation, index))
            .collect();
        ids.into_iter().filter_map(|id| self.take(id).map(|waiter| (id, waiter))).collect()
    }

    /// The earliest deadline, perhaps of a call that was taken.
    fn first(&self) -> Option<(Time, CallId)> {
        let out_of_order = self.out_of_order.peek().map(|Reverse(first)| *first);
        self.in_order.front().copied().into_iter().chain(out_of_order).min()
    }

    fn waits(&self, id: CallId) -> bool {
        let place = self.places.get(id.index());
        place.is_some_and(|place| place.pending.is_some() && place.generation == id.generation())
    }

    /// Forgets the first deadlines if nobody waits for them any more.
    fn skip_taken(&mut self) {
        while let Some((_, id)) = self.in_order.front()
            && !self.waits(*id)
        {
            self.in_order.pop_front();
        }
    }

    fn place(&mut self, id: CallId) -> Option<&mut Place<W>> {
        let shard = self.shard;
        self.places
            .get_mut(id.index())
            .filter(|place| id.shard() == shard && place.generation == id.generation())
    }

    /// Calls usually end long before their deadline. Keeps what is remembered of them within a small multiple of what
    /// waits.
    fn sweep(&mut self) {
        if self.in_order.len() + self.out_of_order.len() > 4 * self.len() + SLACK {
            let mut in_order = std::mem::take(&mut self.in_order);
            in_order.retain(|(_, id)| self.waits(*id));
            self.in_order = in_order;
            let mut out_of_order = std::mem::take(&mut self.out_of_order);
            out_of_order.retain(|Reverse((_, id))| self.waits(*id));
            self.out_of_order = out_of_order;
        }
    }
}

/// A permutation of `uses` under the seed and the place: four rounds of a Feistel network.
fn generation(seed: u64, index: u32, uses: u32) -> u32 {
    let key = mix(seed ^ (u64::from(index) << 32 | 0x9e37_79b9));
    let (mut left, mut right) = (uses >> 16, uses & 0xffff);
    for round in 1..=4u64 {
        let mixed = mix(key ^ (round << 16 | u64::from(right))) as u32 & 0xffff;
        (left, right) = (right, left ^ mixed);
    }
    left << 16 | right
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::Rng;

    const A: Incarnation = Incarnation { started_ms: 1, nonce: 1 };
    const B: Incarnation = Incarnation { started_ms: 1, nonce: 2 };

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn the_first_outcome_wins() {
        let mut calls = Calls::new(3, 10, 7, Mutants::default());
        let id = calls.insert("x", at(5)).unwrap();
        assert_eq!((id.shard(), calls.len()), (3, 1));
        assert_eq!(calls.take(id), Some("x"));
        assert_eq!((calls.take(id), calls.expire(at(9)), calls.len()), (None, vec![], 0));
        let again = calls.insert("y", at(5)).unwrap();
        assert_ne!(id, again, "an id is not used twice");
        assert_eq!(calls.take(id), None, "a late reply does not reach the next call");
        assert_eq!(calls.take(CallId::from_u64(u64::MAX)), None);
    }

    #[test]
    fn calls_expire_in_order_and_a_lost_host_ends_its_own() {
        let mut calls = Calls::new(0, 10, 7, Mutants::default());
        let ids: Vec<_> = [30, 10, 20, 40].map(|t| calls.insert(t, at(t)).unwrap()).into();
        calls.set_host(ids[0], A);
        calls.set_host(ids[3], B);
        assert_eq!(calls.next_deadline(), Some(at(10)));
        assert_eq!(calls.expire(at(20)), [(ids[1], 10), (ids[2], 20)]);
        assert_eq!(calls.lost(A), [(ids[0], 30)]);
        assert_eq!(calls.lost(A), []);
        assert_eq!(calls.take(ids[3]), Some(40));
    }

    #[test]
    fn where_a_call_is_follows_its_message() {
        let mut calls = Calls::new(0, 10, 7, Mutants::default());
        let id = calls.insert("x", at(5)).unwrap();
        assert!(!calls.is_at(id, A), "it was sent nowhere yet");
        assert_eq!((calls.set_host(id, B), calls.set_host(id, A)), (None, Some(B)));
        assert!(calls.is_at(id, A) && !calls.is_at(id, B));
        assert!(!calls.is_at(CallId::from_u64(u64::MAX), A));
        assert_eq!(
            (calls.lost(B), calls.lost(A)),
            (vec![], vec![(id, "x")]),
            "it shares the fate of that host"
        );
        assert!(!calls.is_at(id, A));
    }

    #[test]
    fn ids_do_not_tell_the_next_ones_and_none_comes_twice() {
        let ids = |seed| {
            let mut calls = Calls::new(0, 1, seed, Mutants::default());
            let next = |_| {
                let id = calls.insert((), at(1)).unwrap();
                calls.take(id);
                id.as_u64()
            };
            (0..20_000).map(next).collect::<Vec<u64>>()
        };
        let (one, other) = (ids(1), ids(2));
        assert!(one.iter().zip(&other).all(|(a, b)| a != b), "another seed, another order");
        let distinct: std::collections::BTreeSet<u64> = one.iter().copied().collect();
        assert_eq!(distinct.len(), one.len());
        let steps: std::collections::BTreeSet<u64> =
            one.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
        assert!(steps.len() > 19_000, "{} different steps", steps.len());
    }

    #[test]
    fn a_full_table_refuses() {
        let mut calls = Calls::new(0, 1, 7, Mutants::default());
        let id = calls.insert(1, at(1)).unwrap();
        assert_eq!(calls.insert(2, at(1)), Err(CallsFull(2)));
        assert_eq!(calls.take(id), Some(1));
        assert!(calls.insert(2, at(1)).is_ok());
    }

    #[test]
    fn every_call_has_exactly_one_outcome_and_the_heap_stays_small() {
        let mut rng = Rng::new(7);
        let mut calls = Calls::new(1, 500, 7, Mutants::default());
        let mut outcomes = vec![0u8; 20_000];
        let mut ids = Vec::new();
        for n in 0..outcomes.len() {
            match calls.insert(n, at(n as u64 + rng.below(900))) {
                Ok(id) => ids.push(id),
                Err(CallsFull(n)) => outcomes[n] += 1,
            }
            let id = ids[rng.below(ids.len() as u64) as usize];
            match rng.below(8) {
                0 => drop(calls.set_host(id, A)),
                1 => calls.lost(A).into_iter().for_each(|(_, n)| outcomes[n] += 1),
                2 | 3 => calls.expire(at(n as u64)).into_iter().for_each(|(_, n)| outcomes[n] += 1),
                _ => calls.take(*ids.last().unwrap()).into_iter().for_each(|n| outcomes[n] += 1),
            }
            assert!(
                calls.len() <= 500
                    && calls.in_order.len() + calls.out_of_order.len() <= 4 * 500 + SLACK + 500
            );
        }
        calls.expire(at(u64::MAX)).into_iter().for_each(|(_, n)| outcomes[n] += 1);
        assert!(calls.is_empty() && calls.next_deadline().is_none());
        assert!(outcomes.iter().all(|count| *count == 1), "one outcome each");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_lost_deadline_is_a_planted_bug() {
        let mut calls = Calls::new(0, 1, 7, Mutants::planted(Mutant::DeadlineLost));
        calls.insert(1, at(1)).unwrap();
        assert_eq!(calls.expire(at(5)), []);
        assert_eq!(calls.len(), 1);
    }

    #[test]
    fn a_call_whose_message_is_here_does_not_end_with_the_host_it_was_sent_to() {
        let mut calls = Calls::new(0, 8, 1, Mutants::default());
        let host = Incarnation { started_ms: 1, nonce: 1 };
        let [away, home] = ["away", "home"].map(|waiter| calls.insert(waiter, at(5)).unwrap());
        calls.set_host(away, host);
        calls.set_host(home, host);
        calls.come_home(home);
        assert_eq!(calls.lost(host), [(away, "away")]);
        assert_eq!(calls.take(home), Some("home"));
    }
}
