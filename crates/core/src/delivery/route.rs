//! What one node has to deliver to one name that is not here.
//!
//! ```text
//!   state       event                        next        does
//!   Resolving   located                      Bound       same gate: sends all unconfirmed again, then what waits
//!                                                        other gate: new epoch; see below; sends what waits
//!   Resolving   located at a lower token     Resolving   asks again after the back-off: the answer is old
//!   Resolving   negative answer              Resolving   what waits ends with it, No; unconfirmed see below
//!   Bound       located, same gate and host  Bound       -
//!   Bound       located, same gate           Bound       sends all unconfirmed to the new host
//!   Bound       located, other gate          Bound       new epoch
//!   Bound       not here / never left / lost Resolving   asks the owner
//!   Bound       nothing decided for 5 s      Resolving   asks the owner
//!   any         inbox installed              AtHome      same gate: unconfirmed go through it; other gate: see below
//!   AtHome      inbox uninstalled            Resolving   asks the owner
//!   any         confirm, refused, room       same        forgets what was decided
//! ```
//!
//! *Leaving an epoch.* From the first number on of which no copy is out, nothing can have been admitted, since a gate
//! admits in order: it is put before what waits. What stands before it ends with `NodeLost`, Unknown.
//!
//! *Invariant:* a bound route holds nothing that waits; whatever is sent goes out at once, so the order of numbers is
//! the order of sends.

use std::collections::VecDeque;
use std::time::Duration;

use super::inbox::{Homecoming, Inbox};
use super::packet::{Here, Packet, Parcel, PortOutput, Sent, Whereabouts};
use crate::base::limits::ROUTE_MESSAGES_MAX;
use crate::base::{ErrorCode, Executed, Incarnation, Mutant, Mutants, Time, Token};

/// The first repeated question where a name is comes after this time; doubled each time.
pub const LOCATE_DELAY: Duration = Duration::from_millis(5);
/// Greatest time between two such questions.
pub const LOCATE_DELAY_MAX: Duration = Duration::from_millis(200);
/// A question without any answer is asked again after this time.
pub const LOCATE_PATIENCE: Duration = Duration::from_secs(10);
/// A host that decides nothing for so long is looked for again, and everything is sent again.
pub const CONFIRM_PATIENCE: Duration = Duration::from_secs(5);
/// A full mailbox is believed to be full for at most this time without a further refusal.
pub const FULL_PATIENCE: Duration = Duration::from_secs(1);
/// Answers in a row that seem to be old before one is believed.
const TRIES_MAX: u32 = 24;
/// Questions for a number that this route does not keep, in a row, before it gives up the epoch.
const CONTRADICTIONS_MAX: u8 = 3;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// The owner is asked, or will be at `ask_at` if anything is held.
    Resolving {
        /// When to ask next.
        ask_at: Time,
    },
    /// To this host.
    Bound {
        /// The life of the host.
        host: Incarnation,
    },
    /// The process is on this node: what waits enters its mailbox as soon as there is room.
    AtHome,
}

/// The gate that the numbers of the unconfirmed messages belong to.
#[derive(Clone, Copy, Debug)]
struct Binding {
    gate: Token,
    epoch: u64,
    next: u64,
}

/// A message that was sent and not decided.
#[derive(Debug)]
struct Unconfirmed<M> {
    seq: u64,
    message: M,
    /// Copies handed to links and not known to have failed.
    copies: u32,
}

/// What one node has to deliver to one name elsewhere.
#[derive(Debug)]
pub struct Route<M> {
    state: RouteState,
    binding: Option<Binding>,
    /// The highest life heard of: an answer about a lower one is old.
    token: Token,
    /// Sent in the binding's epoch, by number.
    unconfirmed: VecDeque<Unconfirmed<M>>,
    /// Not sent.
    waiting: VecDeque<M>,
    /// No deadline in `waiting` is earlier.
    earliest: Option<Time>,
    /// Since when nothing was decided of what is unconfirmed.
    progress_at: Time,
    /// The mailbox was full; believed until then.
    full_until: Option<Time>,
    /// Questions since the last progress.
    tries: u32,
    contradictions: u8,
    mutants: Mutants,
}

impl<M: Parcel> Route<M> {
    /// A route to a name of which nothing is known.
    pub fn new(now: Time, mutants: Mutants) -> Self {
        Self {
            state: RouteState::Resolving { ask_at: now },
            binding: None,
            token: Token::NONE,
            unconfirmed: VecDeque::new(),
            waiting: VecDeque::new(),
            earliest: None,
            progress_at: now,
            full_until: None,
            tries: 0,
            contradictions: 0,
            mutants,
        }
    }

    /// A route to a name whose process is on this node.
    pub(super) fn at_home(now: Time, mutants: Mutants) -> Self {
        Self { state: RouteState::AtHome, ..Self::new(now, mutants) }
    }

    /// Where it leads.
    pub fn state(&self) -> RouteState {
        self.state
    }

    /// Where the process is, if that is known.
    pub fn whereabouts(&self) -> Option<Whereabouts> {
        match (self.state, self.binding) {
            (RouteState::Bound { host }, Some(binding)) => {
                Some(Whereabouts { host, token: self.token, gate: binding.gate })
            }
            _ => None,
        }
    }

    /// Messages that are kept: not sent, or not decided.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.unconfirmed.len()
    }

    /// Nothing is kept: it may be forgotten, and a later one gets a higher epoch.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unconfirmed.is_empty()
    }

    /// When [`Route::poll`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let ask_at = match self.state {
            RouteState::Resolving { ask_at } => Some(ask_at).filter(|_| !self.is_empty()),
            RouteState::Bound { .. } => {
                Some(self.progress_at + CONFIRM_PATIENCE).filter(|_| !self.unconfirmed.is_empty())
            }
            RouteState::AtHome => None,
        };
        [ask_at, self.earliest].into_iter().flatten().min()
    }

    /// Takes a message.
    pub(super) fn send(&mut self, mut message: M, now: Time) -> Sent<M> {
        if self.len() >= ROUTE_MESSAGES_MAX || self.full_until.is_some_and(|until| now < until) {
            return Sent::Refused { message, code: ErrorCode::Overloaded };
        }
        self.full_until = None;
        let RouteState::Bound { host } = self.state else {
            self.wait(message);
            return Sent::Held { locate: self.ask_due(now) };
        };
        match message.copy() {
            Err(code) => Sent::Refused { message, code },
            Ok(copy) => match self.keep(message, copy, now) {
                Ok(packet) => Sent::Transmit { to: host, packet },
                Err(message) => Sent::Refused { message, code: ErrorCode::NodeLost },
            },
        }
    }

    /// Takes back the message sent last, whose packet no link took. Its number is used for the next one.
    pub(super) fn take_back(&mut self, epoch: u64, seq: u64) -> Option<M> {
        let binding = self.binding.as_mut().filter(|b| b.epoch == epoch && b.next == seq + 1)?;
        let last = self.unconfirmed.back().filter(|last| last.seq == seq && last.copies == 1)?;
        binding.next = last.seq;
        self.unconfirmed.pop_back().map(|last| last.message)
    }

    /// The owner's answer: the process is there.
    pub(super) fn on_located(&mut self, here: &Here<'_>, at: Whereabouts, out: &mut PortOutput<M>) {
        let older = at.token < self.token && self.tries < TRIES_MAX;
        if older || at.host == here.me {
            // An old answer, or about a life that has ended here by now.
            if let RouteState::Resolving { .. } = self.state {
                self.resolve_later(here.now, out);
            }
            return;
        }
        self.token = at.token;
        self.contradictions = 0;
        self.progress_at = here.now;
        let same_gate = self.binding.is_some_and(|binding| binding.gate == at.gate);
        if same_gate && self.state == (RouteState::Bound { host: at.host }) {
            return;
        }
        if !same_gate {
            self.leave_epoch(out);
            self.binding = Some(Binding { gate: at.gate, epoch: here.epochs.next(), next: 1 });
        }
        self.full_until = None;
        self.state = RouteState::Bound { host: at.host };
        self.send_again(at.host, 0, out);
        self.send_waiting(at.host, here.now, out);
    }

    /// The owner's answer: there is no such process, or it can not be reached.
    pub(super) fn on_negative(&mut self, now: Time, code: ErrorCode, out: &mut PortOutput<M>) {
        if let RouteState::Resolving { .. } = self.state {
            self.leave_epoch(out);
            self.earliest = None;
            self.waiting.drain(..).for_each(|message| out.end(message, code, Executed::No));
            self.tries = 0;
            self.state = RouteState::Resolving { ask_at: now };
        }
    }

    /// The question ended without an answer.
    pub(super) fn on_locate_failed(&mut self, now: Time, out: &mut PortOutput<M>) {
        if let RouteState::Resolving { .. } = self.state {
            self.resolve_later(now, out);
        }
    }

    /// Everything up to `seq` is decided, and what was refused was said to be before.
    pub(super) fn on_confirm(&mut self, now: Time, epoch: u64, seq: u64) {
        if self.is_epoch(epoch) {
            let decided = self.unconfirmed.partition_point(|u| u.seq <= seq);
            self.unconfirmed.drain(..decided);
            self.progress(now);
        }
    }

    /// The gate refused this number.
    pub(super) fn on_refused(&mut self, now: Time, epoch: u64, seq: u64, code: ErrorCode, out: &mut PortOutput<M>) {
        if !self.is_epoch(epoch) {
            return;
        }
        if let Ok(index) = self.unconfirmed.binary_search_by_key(&seq, |u| u.seq)
            && let Some(refused) = self.unconfirmed.remove(index)
        {
            out.end(refused.message, code, Executed::No);
            if code == ErrorCode::Overloaded {
                self.full_until = Some(now + FULL_PATIENCE);
            }
            self.progress(now);
        }
    }

    /// The gate waits for this number.
    pub(super) fn on_missing(&mut self, here: &Here<'_>, from: Incarnation, epoch: u64, seq: u64, out: &mut PortOutput<M>) {
        if !self.is_epoch(epoch) || self.state != (RouteState::Bound { host: from }) {
            return; // what is not bound is sent again when it is
        }
        match self.unconfirmed.front() {
            None => {}
            Some(first) if first.seq <= seq => self.send_again(from, seq, out),
            // A late question of an earlier stay there, unless it is repeated: then the gate has lost its table, and
            // would wait for ever.
            Some(_) if self.contradictions < CONTRADICTIONS_MAX => self.contradictions += 1,
            Some(_) => {
                self.contradictions = 0;
                let gate = self.binding.map_or(Token::NONE, |binding| binding.gate);
                self.leave_epoch(out);
                self.binding = Some(Binding { gate, epoch: here.epochs.next(), next: 1 });
                self.send_waiting(from, here.now, out);
            }
        }
    }

    /// A copy of this number was not admitted: the host has no such gate, or no link took the copy.
    pub(super) fn on_returned(&mut self, now: Time, host: Incarnation, epoch: u64, seq: u64, out: &mut PortOutput<M>) {
        if !self.is_epoch(epoch) {
            return;
        }
        if let Ok(index) = self.unconfirmed.binary_search_by_key(&seq, |u| u.seq) {
            let copies = &mut self.unconfirmed[index].copies;
            *copies = copies.saturating_sub(1);
        }
        if self.state == (RouteState::Bound { host }) {
            self.resolve_later(now, out);
        }
    }

    /// The full mailbox has room.
    pub(super) fn on_room(&mut self, epoch: u64) {
        if self.is_epoch(epoch) {
            self.full_until = None;
        }
    }

    /// The session with this host is over, or a view excludes it.
    pub(super) fn on_host_lost(&mut self, now: Time, host: Incarnation, out: &mut PortOutput<M>) {
        if self.state == (RouteState::Bound { host }) {
            self.resolve_later(now, out);
            if self.mutants.has(Mutant::NoAfterDispatch) {
                self.leave_epoch(out);
            }
        }
    }

    /// This node goes on under a new incarnation: no gate could tell that a copy is one.
    pub(super) fn on_reincarnated(&mut self, now: Time, out: &mut PortOutput<M>) {
        self.leave_epoch(out);
        self.token = Token::NONE;
        self.tries = 0;
        if self.state != RouteState::AtHome {
            self.resolve_later(now, out);
        }
    }

    /// The process is here now. What was sent elsewhere goes through its gate, if that moved here with it.
    pub(super) fn come_home(&mut self, me: Incarnation, inbox: &mut Inbox<M>, out: &mut PortOutput<M>) {
        self.state = RouteState::AtHome;
        self.full_until = None;
        if let Some(binding) = self.binding.filter(|binding| binding.gate == inbox.gate()) {
            for Unconfirmed { seq, message, .. } in self.unconfirmed.drain(..) {
                match inbox.on_own_packet(me, binding.epoch, seq, message) {
                    Homecoming::Admitted => {}
                    Homecoming::Refused(message, code) => out.end(message, code, Executed::No),
                    Homecoming::Undecided(message) => out.end(message, ErrorCode::NodeLost, Executed::Unknown),
                }
            }
        }
        self.leave_epoch(out);
    }

    /// The process left this node.
    pub(super) fn leave_home(&mut self, now: Time, out: &mut PortOutput<M>) {
        if self.state == RouteState::AtHome {
            self.tries = 0;
            self.resolve_later(now, out);
        }
    }

    /// The message that waits longest, for the mailbox here.
    pub(super) fn take_waiting(&mut self) -> Option<M> {
        let message = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.earliest = None;
        }
        message
    }

    /// Ends what waits beyond its deadline; asks the owner if that is due.
    pub(super) fn poll(&mut self, now: Time, out: &mut PortOutput<M>) {
        self.take_expired(now, out);
        if let RouteState::Bound { .. } = self.state
            && !self.unconfirmed.is_empty()
            && self.progress_at + CONFIRM_PATIENCE <= now
        {
            self.resolve_later(now, out);
        }
        out.locate |= self.ask_due(now);
    }

    /// Whether the owner is to be asked now. If so, it counts as asked.
    fn ask_due(&mut self, now: Time) -> bool {
        match &mut self.state {
            RouteState::Resolving { ask_at }
                if *ask_at <= now && !(self.waiting.is_empty() && self.unconfirmed.is_empty()) =>
            {
                *ask_at = now + LOCATE_PATIENCE;
                true
            }
            RouteState::Resolving { .. } | RouteState::Bound { .. } | RouteState::AtHome => false,
        }
    }

    fn is_epoch(&self, epoch: u64) -> bool {
        self.binding.is_some_and(|binding| binding.epoch == epoch)
    }

    fn progress(&mut self, now: Time) {
        self.progress_at = now;
        self.tries = 0;
        self.contradictions = 0;
    }

    fn wait(&mut self, message: M) {
        self.earliest = earlier(self.earliest, message.deadline());
        self.waiting.push_back(message);
    }

    /// Asks where the name is: at once the first time, then after a growing delay until something was decided.
    fn resolve_later(&mut self, now: Time, out: &mut PortOutput<M>) {
        let delay = match self.tries {
            0 => Duration::ZERO,
            tries => (LOCATE_DELAY * (1 << (tries - 1).min(8))).min(LOCATE_DELAY_MAX),
        };
        self.tries = self.tries.saturating_add(1);
        self.state = RouteState::Resolving { ask_at: now + delay };
        out.locate |= self.ask_due(now);
    }

    /// Numbers a message. It comes back if there is no gate, which a bound route always has.
    fn keep(&mut self, message: M, copy: M, now: Time) -> Result<Packet<M>, M> {
        let Some(binding) = &mut self.binding else { return Err(message) };
        if self.unconfirmed.is_empty() {
            self.progress_at = now;
        }
        let seq = binding.next;
        binding.next += 1;
        self.unconfirmed.push_back(Unconfirmed { seq, message, copies: 1 });
        Ok(Packet { gate: binding.gate, epoch: binding.epoch, seq, message: copy })
    }

    /// Sends what is not decided, from a number on.
    fn send_again(&mut self, host: Incarnation, from_seq: u64, out: &mut PortOutput<M>) {
        let Some(Binding { gate, epoch, .. }) = self.binding else { return };
        for unconfirmed in self.unconfirmed.iter_mut().filter(|u| u.seq >= from_seq) {
            // A message that was copied once can be copied again; if not, the gate asks for it.
            if let Ok(message) = unconfirmed.message.copy() {
                unconfirmed.copies += 1;
                out.transmit.push((host, Packet { gate, epoch, seq: unconfirmed.seq, message }));
            }
        }
    }

    /// Numbers and sends what waits.
    fn send_waiting(&mut self, host: Incarnation, now: Time, out: &mut PortOutput<M>) {
        self.take_expired(now, out);
        self.earliest = None;
        while let Some(mut message) = self.waiting.pop_front() {
            match message.copy() {
                Err(code) => out.end(message, code, Executed::No),
                Ok(copy) => match self.keep(message, copy, now) {
                    Ok(packet) => out.transmit.push((host, packet)),
                    Err(message) => out.end(message, ErrorCode::NodeLost, Executed::No),
                },
            }
        }
    }

    /// The numbers given so far are void: the gate they were for is lost, or would not recognise them.
    fn leave_epoch(&mut self, out: &mut PortOutput<M>) {
        self.binding = None;
        let never_admitted = self.unconfirmed.iter().position(|u| u.copies == 0);
        let tail = self.unconfirmed.split_off(never_admitted.unwrap_or(self.unconfirmed.len()));
        let executed = match self.mutants.has(Mutant::NoAfterDispatch) {
            true => Executed::No,
            false => Executed::Unknown,
        };
        for unconfirmed in self.unconfirmed.drain(..) {
            out.end(unconfirmed.message, ErrorCode::NodeLost, executed);
        }
        for unconfirmed in tail.into_iter().rev() {
            self.earliest = earlier(self.earliest, unconfirmed.message.deadline());
            self.waiting.push_front(unconfirmed.message);
        }
    }

    fn take_expired(&mut self, now: Time, out: &mut PortOutput<M>) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
        self.earliest = None;
        for message in std::mem::take(&mut self.waiting) {
            match message.deadline() {
                Some(deadline) if deadline <= now => out.end(message, ErrorCode::Deadline, Executed::No),
                _ => self.wait(message),
            }
        }
    }
}

fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    [a, b].into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
