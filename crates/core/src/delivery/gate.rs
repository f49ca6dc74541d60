//! The gate of a process: admits every number of a route once and in order.
//!
//! It knows, for each node life that sends here, the epoch and the last number decided in it (admitted or
//! refused), and what it refused of late, so that a copy of a refused packet is refused again and never confirmed.
//! The table stays over restarts in place and goes with the process when it moves.
//!
//! ```text
//!   another gate           -> WrongGate     the sender asks the owner again
//!   sealed                 -> Sealed        decided by whoever gets the process
//!   epoch lower than known -> StaleEpoch    a late duplicate
//!   number decided before  -> Duplicate     confirmed, or refused, again
//!   the next number        -> Next
//!   a higher number        -> Gap           also the first of a new epoch, when it is not 1
//! ```

use minicbor::{Decode, Encode};

use crate::base::limits::{CHAIN_VIEWS_MAX, MEMBERS_MAX};
use crate::base::{ErrorCode, Few, Incarnation, Mutant, Mutants, Time, Token};
use crate::view::View;

/// Excluded node lives that are remembered: one may come back if this node changes to its line.
const EXCLUDED_MAX: usize = 16;
/// Runs of refused numbers that are remembered per sending node life.
const REFUSALS_MAX: usize = 256;

/// After every time that a clock tells.
const NEVER: Time = Time::from_micros(u64::MAX);

/// What the gate lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    /// Admits, and messages are dispatched.
    Open,
    /// Admits; nothing is dispatched: between two lives of a process, or its node may have lost its membership.
    Suspended,
    /// Admits nothing and answers nothing: the process is being moved.
    Sealed,
    /// The process has ended: refuses everything with this code.
    Closed(ErrorCode),
}

/// What the gate thinks of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateVerdict {
    /// The next one: admit or refuse it, then [`Gate::advance`] or [`Gate::refuse`].
    Next,
    /// Decided before.
    Duplicate,
    /// The sender has abandoned that epoch.
    StaleEpoch,
    /// It is meant for another gate.
    WrongGate,
    /// One before it is missing.
    Gap,
    /// The gate decides nothing.
    Sealed,
}

/// Since when a sender counts as a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
enum Standing {
    /// No installed view contained it yet: it joined in a view that this node has not installed.
    #[n(0)]
    NotYet {
        #[n(0)]
        views: u32,
    },
    /// A view contained it.
    #[n(1)]
    Member,
    /// A view excluded it; this many others were excluded since.
    #[n(2)]
    Excluded {
        #[n(0)]
        since: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Sender {
    #[n(0)]
    incarnation: Incarnation,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    last: u64,
    #[n(3)]
    standing: Standing,
    /// Something of this epoch was refused.
    #[n(4)]
    refused: bool,
    #[n(5)]
    refusals: Vec<Refusals>,
}

/// A run of refused numbers of the present epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Refusals {
    #[n(0)]
    first: u64,
    #[n(1)]
    last: u64,
    #[n(2)]
    code: ErrorCode,
}

/// What a gate knows of its senders: it goes with the process when that moves, so that the gate goes on at the target
/// where it stopped at the source.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GateTable {
    #[n(0)]
    senders: Vec<Sender>,
}

/// The gate of one process.
#[derive(Clone, Debug)]
pub struct Gate {
    token: Token,
    state: GateState,
    /// [`NEVER`] without such a time.
    suspend_at: Time,
    /// By incarnation; at most one entry per member, and few others.
    senders: Few<Sender>,
    mutants: Mutants,
}

impl Gate {
    /// An open gate that has admitted nothing.
    pub fn new(token: Token, mutants: Mutants) -> Self {
        Self { token, state: GateState::Open, suspend_at: NEVER, senders: Few::default(), mutants }
    }

    /// What it knows of its senders.
    pub fn table(&self) -> GateTable {
        GateTable { senders: self.senders.to_vec() }
    }

    /// Goes on where another node's gate of this process stopped.
    ///
    /// # Errors
    /// No gate has such a table; nothing changed.
    pub fn adopt(&mut self, table: GateTable) -> Result<(), &'static str> {
        let senders = table.senders;
        if senders.windows(2).any(|two| two[0].incarnation >= two[1].incarnation) {
            return Err("the senders of a gate are in order");
        }
        if senders.iter().any(|sender| sender.last == u64::MAX) {
            return Err("a gate expects a next number of every sender");
        }
        let is_long = |sender: &Sender| sender.refusals.len() > REFUSALS_MAX;
        if senders.len() > 4 * MEMBERS_MAX || senders.iter().any(is_long) {
            return Err("a gate knows a limited number of senders and refusals");
        }
        if !self.mutants.has(Mutant::GateTableLeftBehind) {
            self.senders = senders.into();
        }
        Ok(())
    }

    /// The token of the life it was made for: its identity.
    pub fn token(&self) -> Token {
        self.token
    }

    /// What it lets through.
    pub fn state(&self) -> GateState {
        self.state
    }

    /// Node lives that it knows.
    pub fn senders(&self) -> usize {
        self.senders.len()
    }

    /// Whether a message may be handed to the process now. The clock is read only where that matters.
    pub fn may_dispatch(&self, clock: impl FnOnce() -> Time) -> bool {
        self.state == GateState::Open && (self.suspend_at == NEVER || clock() < self.suspend_at)
    }

    /// Changes what it lets through.
    pub fn set_state(&mut self, state: GateState) {
        self.state = state;
    }

    /// The absolute time from which nothing is dispatched, whatever else happens; none without such a time.
    pub fn suspend_at(&mut self, at: Option<Time>) {
        self.suspend_at = at.unwrap_or(NEVER);
    }

    /// Judges a packet. Changes nothing.
    pub fn check(&self, from: Incarnation, gate: Token, epoch: u64, seq: u64) -> GateVerdict {
        if gate != self.token {
            return GateVerdict::WrongGate;
        }
        if self.state == GateState::Sealed {
            return GateVerdict::Sealed;
        }
        let (known, last) = self.last(from);
        if epoch < known {
            return GateVerdict::StaleEpoch;
        }
        let last = if epoch == known { last } else { 0 };
        if seq == last + 1 {
            GateVerdict::Next
        } else if seq <= last {
            match self.mutants.has(Mutant::ResendNotDeduplicated) {
                true => GateVerdict::Next,
                false => GateVerdict::Duplicate,
            }
        } else if self.mutants.has(Mutant::GapIgnored) {
            GateVerdict::Next
        } else {
            GateVerdict::Gap
        }
    }

    /// The lowest number of this epoch that is not decided.
    pub fn expected(&self, from: Incarnation, epoch: u64) -> u64 {
        let (known, last) = self.last(from);
        if known == epoch { last + 1 } else { 1 }
    }

    /// The packet judged as next was admitted.
    pub fn advance(&mut self, from: Incarnation, epoch: u64, seq: u64) {
        let sender = self.sender(from);
        if sender.epoch != epoch {
            sender.epoch = epoch;
            sender.last = 0;
            sender.refused = false;
            sender.refusals.clear();
        }
        sender.last = sender.last.max(seq);
    }

    /// The packet judged as next was refused: its number is used up, and the refusal remembered.
    pub fn refuse(&mut self, from: Incarnation, epoch: u64, seq: u64, code: ErrorCode) {
        self.advance(from, epoch, seq);
        let Sender { refused, refusals, .. } = self.sender(from);
        *refused = true;
        match refusals.last_mut() {
            Some(run) if run.code == code && run.last + 1 == seq => run.last = seq,
            _ => {
                if refusals.len() >= REFUSALS_MAX {
                    refusals.remove(0);
                }
                refusals.push(Refusals { first: seq, last: seq, code });
            }
        }
    }

    /// How a packet judged as duplicate was refused, if it was.
    pub fn refusal(&self, from: Incarnation, seq: u64) -> Option<ErrorCode> {
        let index = self.find(from).ok()?;
        let runs = &self.senders[index].refusals;
        runs.iter().find(|run| (run.first..=run.last).contains(&seq)).map(|run| run.code)
    }

    /// Whether nothing was refused in the present epoch, so that one confirmation can cover all before it.
    pub fn admitted_all(&self, from: Incarnation) -> bool {
        self.find(from).is_ok_and(|index| !self.senders[index].refused)
    }

    /// Keeps an entry for this node life, though nothing of it is decided.
    pub fn note(&mut self, from: Incarnation) {
        self.sender(from);
    }

    /// Whether packets of this node life may still come: it is a member, or may become one.
    pub fn expects(&self, from: Incarnation) -> bool {
        self.find(from).is_ok_and(|index| !matches!(self.senders[index].standing, Standing::Excluded { .. }))
    }

    /// Whether there is an entry for this node life.
    pub fn knows(&self, from: Incarnation) -> bool {
        self.find(from).is_ok()
    }

    /// A view was installed: the longest excluded incarnations are forgotten.
    ///
    /// Not at once: in their own line they live on, and this node may change to that line, where copies of what was
    /// admitted here could still come. One that no view contained yet is kept for a while too: its first packets
    /// may be faster than the view in which it joined, and forgetting it would admit their copies again.
    pub fn forget_except(&mut self, view: &View) {
        let newly =
            |sender: &Sender| sender.standing == Standing::Member && !view.contains(sender.incarnation);
        let excluded = self.senders.iter().filter(|sender| newly(sender)).count() as u32;
        self.senders.retain_mut(|sender: &mut Sender| {
            match (view.contains(sender.incarnation), &mut sender.standing) {
                (true, standing) => {
                    *standing = Standing::Member;
                    true
                }
                (false, standing @ Standing::Member) => {
                    *standing = Standing::Excluded { since: 0 };
                    true
                }
                (false, Standing::Excluded { since }) => {
                    *since = since.saturating_add(excluded);
                    (*since as usize) < EXCLUDED_MAX
                }
                (false, Standing::NotYet { views }) => {
                    *views = views.saturating_add(1);
                    (*views as usize) <= CHAIN_VIEWS_MAX
                }
            }
        });
    }

    fn find(&self, from: Incarnation) -> Result<usize, usize> {
        self.senders.binary_search_by_key(&from, |sender| sender.incarnation)
    }

    fn last(&self, from: Incarnation) -> (u64, u64) {
        self.find(from).map_or((0, 0), |index| (self.senders[index].epoch, self.senders[index].last))
    }

    fn sender(&mut self, from: Incarnation) -> &mut Sender {
        let index = self.find(from).unwrap_or_else(|index| {
            let standing = Standing::NotYet { views: 0 };
            let (epoch, last, refused, refusals) = (0, 0, false, Vec::new());
            self.senders
                .insert(index, Sender { incarnation: from, epoch, last, standing, refused, refusals });
            index
        });
        &mut self.senders[index]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fmt::Write as _;

    use super::*;
    use crate::delivery::tests::{incarnation, token, view};

    fn gate() -> Gate {
        Gate::new(token(5), Mutants::default())
    }

    #[test]
    fn every_number_is_admitted_once_and_in_order() {
        let mut gate = gate();
        let from = incarnation(1);
        let mut table = String::new();
        // (gate, epoch, seq): the verdict; what is next is admitted.
        for (at, epoch, seq) in [
            (5, 1, 2),
            (5, 1, 1),
            (5, 1, 1),
            (5, 1, 3),
            (5, 1, 2),
            (4, 1, 3),
            (6, 1, 3),
            (5, 3, 2),
            (5, 1, 3),
            (5, 3, 1),
            (5, 1, 4),
            (5, 3, 1),
            (5, 3, 2),
        ] {
            let verdict = gate.check(from, token(at), epoch, seq);
            writeln!(table, "{at} {epoch}.{seq} {verdict:?}").unwrap();
            if verdict == GateVerdict::Next {
                gate.advance(from, epoch, seq);
            }
        }
        let expected = "5 1.2 Gap\n5 1.1 Next\n5 1.1 Duplicate\n5 1.3 Gap\n5 1.2 Next\n4 1.3 WrongGate\n\
                        6 1.3 WrongGate\n5 3.2 Gap\n5 1.3 Next\n5 3.1 Next\n5 1.4 StaleEpoch\n\
                        5 3.1 Duplicate\n5 3.2 Next\n";
        assert_eq!(table, expected);
        assert_eq!(gate.check(incarnation(2), token(5), 1, 1), GateVerdict::Next, "senders are independent");
    }

    #[test]
    fn a_table_that_no_gate_has_is_not_adopted() {
        let with = |last| {
            let mut of = gate();
            (1..=2).for_each(|nonce| of.advance(incarnation(nonce), 1, last));
            of.table()
        };
        let mut gate = gate();
        assert!(gate.adopt(with(u64::MAX)).is_err(), "there is no number after the last one");
        let mut twice = with(7);
        twice.senders.reverse();
        assert!(gate.adopt(twice).is_err() && gate.senders() == 0);
        gate.adopt(with(7)).unwrap();
        assert_eq!(gate.check(incarnation(2), token(5), 1, 8), GateVerdict::Next);
    }

    #[test]
    fn a_refusal_is_remembered_and_a_new_epoch_forgets_it() {
        let mut gate = gate();
        let from = incarnation(1);
        gate.advance(from, 1, 1);
        gate.refuse(from, 1, 2, ErrorCode::Overloaded);
        gate.refuse(from, 1, 3, ErrorCode::Overloaded);
        gate.refuse(from, 1, 4, ErrorCode::Stopped);
        let codes: Vec<_> = (1..=5).map(|seq| gate.refusal(from, seq)).collect();
        let (full, stopped) = (Some(ErrorCode::Overloaded), Some(ErrorCode::Stopped));
        assert_eq!(codes, [None, full, full, stopped, None]);
        assert_eq!(gate.senders[0].refusals.len(), 2);
        assert!(!gate.admitted_all(from));
        for seq in 0..1000 {
            gate.refuse(from, 1, 10 + 2 * seq, ErrorCode::Overloaded);
        }
        assert_eq!(gate.senders[0].refusals.len(), REFUSALS_MAX);
        gate.advance(from, 2, 1);
        assert_eq!((gate.refusal(from, 2008), gate.admitted_all(from)), (None, true));
    }

    #[test]
    fn what_was_excluded_long_ago_or_never_became_a_member_is_forgotten() {
        let mut gate = gate();
        for nonce in 1..=3 {
            gate.advance(incarnation(nonce), 1, 1);
        }
        gate.forget_except(&view(1, &[1, 2]));
        gate.forget_except(&view(2, &[1, 3]));
        assert!(gate.knows(incarnation(2)), "this node may change to its line");
        assert!(gate.knows(incarnation(3)), "it was in no view before, so nothing excluded it");
        for round in 0..EXCLUDED_MAX as u64 {
            assert!(gate.knows(incarnation(2)));
            let passing = 100 + round;
            gate.advance(incarnation(passing), 1, 1);
            gate.forget_except(&view(3 + 2 * round, &[1, 3, passing]));
            gate.forget_except(&view(4 + 2 * round, &[1, 3]));
        }
        assert!(!gate.knows(incarnation(2)) && gate.knows(incarnation(1)));
        assert!(gate.senders() <= EXCLUDED_MAX + 2);
        gate.advance(incarnation(99), 1, 1);
        for counter in 0..=CHAIN_VIEWS_MAX as u64 {
            assert!(gate.knows(incarnation(99)));
            gate.forget_except(&view(50 + counter, &[1, 3]));
        }
        assert!(!gate.knows(incarnation(99)), "what never becomes a member is not kept for ever");
    }

    #[test]
    fn dispatch_ends_at_the_absolute_deadline_and_while_suspended() {
        let mut gate = gate();
        let (early, late) = (Time::from_micros(9), Time::from_micros(10));
        gate.suspend_at(Some(late));
        assert!(gate.may_dispatch(|| early) && !gate.may_dispatch(|| late));
        gate.suspend_at(None);
        assert!(gate.may_dispatch(|| late));
        for state in [GateState::Suspended, GateState::Sealed, GateState::Closed(ErrorCode::Stopped)] {
            gate.set_state(state);
            assert!(!gate.may_dispatch(|| early), "{state:?}");
        }
        gate.set_state(GateState::Sealed);
        assert_eq!(gate.check(incarnation(1), token(5), 1, 1), GateVerdict::Sealed);
        assert_eq!(gate.check(incarnation(1), token(4), 1, 1), GateVerdict::WrongGate);
    }
}
