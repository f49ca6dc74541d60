//! What one node has to deliver to one name that is not here.
//!
//! ```text
//!   state       event                        next        does
//!   Resolving   located                      Bound       same gate: sends all unconfirmed again, then what waits
//!                                                        other gate: new epoch; see below; sends what waits
//!   Resolving   located at a lower token     Resolving   asks again after the back-off: the answer is old
//!   Resolving   negative answer              Resolving   what waits ends with it, No; unconfirmed see below
//!   Resolving   located where no link leads  Resolving   the same; for a while, what is sent is refused
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
//! admits in order: it is put before what waits. What stands before it ends with `NodeLost`, Unknown; so a living host of
//! copies that are out is given time to say what became of them (*settling*). Meanwhile nothing newer is sent.
//!
//! *Invariant:* a bound route holds nothing that waits; whatever is sent goes out at once, so the order of numbers is
//! the order of sends.

use std::time::Duration;

use super::inbox::{Homecoming, Inbox};
use super::packet::{Errand, Here, Packet, Parcel, PortOutput, Sent, Whereabouts};
use super::unconfirmed::{Abandoned, Unconfirmed};
use super::waiting::Waiting;
use crate::base::limits::{ROUTE_BYTES_MAX, ROUTE_MESSAGES_MAX};
use crate::base::{ErrorCode, Executed, Few, Incarnation, Mutant, Mutants, Time, Token};

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
/// The name has another gate, and the host of the one before lives: so long it may take to say what became of its copies.
pub const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
/// A host without a link is believed to have none for this time; then the next message asks again.
pub const CUT_PATIENCE: Duration = Duration::from_millis(500);
/// A process that is on its way is believed to be for this time: what fails fast is refused at once meanwhile.
pub const MOVING_PATIENCE: Duration = Duration::from_millis(50);
/// Answers in a row that seem to be old before one is believed.
const TRIES_MAX: u32 = 24;
/// Hosts of one epoch, beside the last, whose word on copies is heard.
const FORMER_MAX: usize = 8;
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

/// What one node has to deliver to one name elsewhere.
#[derive(Debug)]
pub struct Route<M> {
    state: RouteState,
    binding: Option<Binding>,
    /// Where what is unconfirmed was sent last: only from there it can be decided. A gate that moves takes its table
    /// along, and what is undecided is sent again to where it went, so no other word is needed.
    decider: Option<Incarnation>,
    /// Other nodes that copies of this epoch went to: they can still say of a copy that it was not admitted.
    former: Few<Incarnation>,
    /// The decider will not decide any more: its session is over, or a view excludes it.
    decider_lost: bool,
    /// The epoch is to be left when the decider has spoken, or then.
    settle_until: Option<Time>,
    /// The highest life heard of: an answer about a lower one is old.
    token: Token,
    /// Sent in the binding's epoch, by number.
    unconfirmed: Unconfirmed<M>,
    /// Not sent.
    waiting: Waiting<M>,
    /// Of these, how many came after the present question was asked, at most.
    unasked: usize,
    /// Since when nothing was decided of what is unconfirmed.
    progress_at: Time,
    /// The mailbox was full; believed until then.
    full_until: Option<Time>,
    /// There was no link with the host; believed until then.
    cut_until: Option<Time>,
    /// The process was on its way to another node; believed until then.
    moving_until: Option<Time>,
    /// Questions since the last progress.
    tries: u32,
    contradictions: u8,
    /// Something of this epoch was refused.
    refused: bool,
    mutants: Mutants,
}

impl Binding {
    fn new(gate: Token, here: &Here<'_>) -> Self {
        Self { gate, epoch: here.epochs.next(), next: 1 }
    }
}

impl<M: Parcel> Route<M> {
    /// A route to a name of which nothing is known.
    pub fn new(now: Time, mutants: Mutants) -> Self {
        Self {
            state: RouteState::Resolving { ask_at: now },
            binding: None,
            decider: None,
            former: Few::default(),
            decider_lost: false,
            settle_until: None,
            token: Token::NONE,
            unconfirmed: Unconfirmed::new(),
            waiting: Waiting::new(),
            unasked: 0,
            progress_at: now,
            full_until: None,
            cut_until: None,
            moving_until: None,
            tries: 0,
            contradictions: 0,
            refused: false,
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

    /// Bytes of these.
    pub fn bytes(&self) -> usize {
        self.waiting.bytes() + self.unconfirmed.bytes()
    }

    /// Nothing is kept: it may be forgotten, and a later one gets a higher epoch.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unconfirmed.is_empty()
    }

    /// When [`Port::poll`](super::Port::poll) has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let ask_at = match self.state {
            RouteState::Resolving { ask_at } => Some(ask_at).filter(|_| !self.is_empty()),
            RouteState::Bound { .. } => {
                Some(self.progress_at + CONFIRM_PATIENCE).filter(|_| !self.unconfirmed.is_empty())
            }
            RouteState::AtHome => self.settle_until,
        };
        [ask_at, self.waiting.next_deadline()].into_iter().flatten().min()
    }

    /// Takes a message.
    pub(super) fn send(&mut self, mut message: M, now: Time) -> Sent<M> {
        let is_full = self.len() >= ROUTE_MESSAGES_MAX || self.bytes() >= ROUTE_BYTES_MAX;
        if is_full || self.full_until.is_some_and(|until| now < until) {
            return Sent::Refused { message, code: ErrorCode::Overloaded };
        }
        if self.cut_until.is_some_and(|until| now < until) {
            return Sent::Refused { message, code: ErrorCode::NodeLost };
        }
        if message.errand() == Errand::FailFast && self.moving_until.is_some_and(|until| now < until) {
            return Sent::Refused { message, code: ErrorCode::Moving };
        }
        self.full_until = None;
        let RouteState::Bound { host } = self.state else {
            self.waiting.push(message);
            self.unasked += 1;
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
        let message = self.unconfirmed.pop(seq)?;
        binding.next = seq;
        Some(message)
    }

    /// The owner's answer: the process is there.
    pub(super) fn on_located(&mut self, here: &Here<'_>, at: Whereabouts, out: &mut PortOutput<M>) {
        if self.state == RouteState::AtHome {
            return; // what is here is not looked for elsewhere
        }
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
            if let Some(until) = self.settles_until(here.now) {
                self.state = RouteState::Resolving { ask_at: until };
                return;
            }
            self.leave_epoch(out);
            self.binding = Some(Binding::new(at.gate, here));
        }
        (self.full_until, self.cut_until, self.moving_until) = (None, None, None);
        self.decided_from(at.host);
        self.state = RouteState::Bound { host: at.host };
        self.send_again(at.host, 0, out);
        self.send_waiting(at.host, here.now, out);
    }

    /// The owner's answer: there is no such process, or it can not be reached.
    pub(super) fn on_negative(&mut self, now: Time, code: ErrorCode, out: &mut PortOutput<M>) {
        if let RouteState::Resolving { .. } = self.state {
            if let Some(until) = self.settles_until(now) {
                self.state = RouteState::Resolving { ask_at: until };
                return;
            }
            self.cut_until = (code == ErrorCode::NodeLost).then_some(now + CUT_PATIENCE);
            self.leave_epoch(out);
            // What was sent after the question may be meant for a process that was started after the answer.
            for _ in self.unasked..self.waiting.len() {
                if let Some(message) = self.waiting.pop() {
                    out.end(message, code, Executed::No);
                }
            }
            self.tries = 0;
            self.state = RouteState::Resolving { ask_at: now };
            out.locate |= self.ask_due(now);
        }
    }

    /// The question ended without an answer.
    pub(super) fn on_locate_failed(&mut self, now: Time, out: &mut PortOutput<M>) {
        if let RouteState::Resolving { .. } = self.state {
            self.resolve_later(now, out);
        }
    }

    /// The node that may say what became of messages of this route.
    pub(super) fn decider(&self) -> Option<Incarnation> {
        self.decider
    }

    /// The gate admitted everything up to `seq`.
    pub(super) fn on_confirm(&mut self, here: &Here<'_>, epoch: u64, seq: u64) {
        if self.is_epoch(epoch) {
            let admitted = self.unconfirmed.confirm(seq);
            self.progress(here, admitted > 0);
        }
    }

    /// The gate admitted this number.
    pub(super) fn on_admitted(&mut self, here: &Here<'_>, epoch: u64, seq: u64) {
        self.take_unconfirmed(here, epoch, seq);
    }

    /// The gate refused this number.
    pub(super) fn on_refused(
        &mut self,
        here: &Here<'_>,
        epoch: u64,
        seq: u64,
        code: ErrorCode,
        out: &mut PortOutput<M>,
    ) {
        self.refused |= self.is_epoch(epoch);
        if let Some(message) = self.take_unconfirmed(here, epoch, seq) {
            out.end(message, code, Executed::No);
            if code == ErrorCode::Overloaded {
                self.full_until = Some(here.now + FULL_PATIENCE);
            }
        }
    }

    /// The gate waits for this number.
    pub(super) fn on_missing(
        &mut self,
        here: &Here<'_>,
        from: Incarnation,
        epoch: u64,
        seq: u64,
        out: &mut PortOutput<M>,
    ) {
        if !self.is_epoch(epoch) || self.state != (RouteState::Bound { host: from }) {
            return; // what is not bound is sent again when it is
        }
        match self.unconfirmed.first() {
            None => {}
            Some(first) if first <= seq => self.send_again(from, seq, out),
            // A late question of an earlier stay there, unless it is repeated: then the gate has lost its table, and
            // would wait for ever.
            Some(_) if self.contradictions < CONTRADICTIONS_MAX => self.contradictions += 1,
            Some(_) => {
                self.contradictions = 0;
                let gate = self.binding.map_or(Token::NONE, |binding| binding.gate);
                // Without what came before, which is not sent any more, the copies there are never admitted.
                self.unconfirmed.returned_from_all();
                self.leave_epoch(out);
                self.binding = Some(Binding::new(gate, here));
                self.send_waiting(from, here.now, out);
            }
        }
    }

    /// A copy of this number was not admitted: the host has no such gate, or no link took the copy.
    pub(super) fn on_returned(
        &mut self,
        now: Time,
        host: Incarnation,
        epoch: u64,
        seq: u64,
        out: &mut PortOutput<M>,
    ) {
        if !self.is_epoch(epoch) {
            return;
        }
        self.unconfirmed.returned(seq);
        if self.state == (RouteState::Bound { host }) {
            self.resolve_later(now, out);
        }
    }

    /// A copy of this number was not admitted, since the process is on its way. If no other copy is out, what fails fast
    /// ends; its number is sent again in its place, as those behind it would wait for it.
    pub(super) fn on_moving(&mut self, now: Time, epoch: u64, seq: u64, out: &mut PortOutput<M>) {
        if !self.is_epoch(epoch) {
            return;
        }
        self.moving_until = Some(now + MOVING_PATIENCE);
        self.unconfirmed.returned(seq);
        if let Some(mut message) = self.unconfirmed.withdraw(seq) {
            if self.mutants.has(Mutant::FailedAndSent)
                && let Ok(copy) = message.copy()
            {
                self.unconfirmed.put_back(seq, copy);
            }
            out.end(message, ErrorCode::Moving, Executed::No);
        }
    }

    /// The full mailbox has room. In doubt that is believed: if it is old news, the next message is refused.
    pub(super) fn on_room(&mut self) {
        self.full_until = None;
    }

    /// What is unconfirmed is sent to another host.
    fn decided_from(&mut self, host: Incarnation) {
        let former = self.decider.replace(host).filter(|former| *former != host);
        if let Some(former) = former.filter(|_| self.unconfirmed.is_in_doubt())
            && self.former.len() < FORMER_MAX
            && !self.former.contains(&former)
        {
            self.former.push(former);
        }
        (self.decider_lost, self.settle_until) = (false, None);
    }

    /// Whether this node may say of a copy that it was not admitted.
    pub(super) fn may_return(&self, from: Incarnation) -> bool {
        self.decider == Some(from) || self.former.contains(&from)
    }

    /// Until when an epoch that is over is kept: the host that copies went to lives, and may still say what became of
    /// them.
    fn settles_until(&mut self, now: Time) -> Option<Time> {
        if self.decider_lost || !self.unconfirmed.is_in_doubt() {
            return None;
        }
        Some(*self.settle_until.get_or_insert(now + SETTLE_PATIENCE)).filter(|until| now < *until)
    }

    /// Whether what waits must wait for what became of the epoch before.
    pub(super) fn is_settling(&self) -> bool {
        self.settle_until.is_some()
    }

    /// Leaves the epoch that is over if nothing more can be learned of it.
    pub(super) fn settle(&mut self, now: Time, out: &mut PortOutput<M>) {
        let Some(until) = self.settle_until.filter(|_| self.settles_until(now).is_none()) else { return };
        match &mut self.state {
            RouteState::AtHome => self.leave_epoch(out),
            // The owner is asked once more, and then the epoch is left.
            RouteState::Resolving { ask_at } if *ask_at == until => {
                *ask_at = now;
                out.locate |= self.ask_due(now);
            }
            RouteState::Resolving { .. } | RouteState::Bound { .. } => {}
        }
    }

    /// The session with this host is over, or a view excludes it.
    pub(super) fn on_host_lost(&mut self, now: Time, host: Incarnation, out: &mut PortOutput<M>) {
        if self.decider == Some(host) {
            self.decider_lost = true;
            self.settle(now, out);
        }
        if self.state == (RouteState::Bound { host }) {
            self.resolve_later(now, out);
            if self.mutants.has(Mutant::NoAfterDispatch) {
                self.leave_epoch(out);
            }
        }
    }

    /// See [`Port::not_lost`](super::Port::not_lost).
    pub(super) fn not_lost(&self, in_order: bool) -> impl Iterator<Item = &M> {
        self.unconfirmed.not_lost(in_order)
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
    pub(super) fn come_home(&mut self, here: &Here<'_>, inbox: &mut Inbox<M>, out: &mut PortOutput<M>) {
        self.state = RouteState::AtHome;
        (self.full_until, self.cut_until) = (None, None);
        if let Some(binding) = self.binding.filter(|binding| binding.gate == inbox.gate()) {
            for (seq, message) in self.unconfirmed.drain() {
                match inbox.on_own_packet(here.me, binding.epoch, seq, message) {
                    Homecoming::Admitted => {}
                    Homecoming::Refused(message, code) => out.end(message, code, Executed::No),
                    Homecoming::Undecided(message) => {
                        out.end(message, ErrorCode::NodeLost, Executed::Unknown);
                    }
                }
            }
        }
        if self.settles_until(here.now).is_none() {
            self.leave_epoch(out);
        }
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
        self.waiting.pop()
    }

    /// Ends what waits beyond its deadline; asks the owner if that is due.
    pub(super) fn poll(&mut self, now: Time, out: &mut PortOutput<M>) {
        self.settle(now, out);
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
                self.unasked = 0;
                true
            }
            RouteState::Resolving { .. } | RouteState::Bound { .. } | RouteState::AtHome => false,
        }
    }

    fn is_epoch(&self, epoch: u64) -> bool {
        self.binding.is_some_and(|binding| binding.epoch == epoch)
    }

    fn take_unconfirmed(&mut self, here: &Here<'_>, epoch: u64, seq: u64) -> Option<M> {
        if !self.is_epoch(epoch) {
            return None;
        }
        let first = self.unconfirmed.first() == Some(seq);
        let message = self.unconfirmed.take(seq)?;
        self.progress(here, first);
        Some(message)
    }

    /// Something was decided; `first`: also the lowest number that was not.
    fn progress(&mut self, here: &Here<'_>, first: bool) {
        self.moving_until = None;
        self.tries = 0;
        self.contradictions = 0;
        if first {
            self.progress_at = here.now;
        }
        // After a refusal the gate can confirm only number by number. All is decided: a new epoch is free.
        if self.refused && self.unconfirmed.is_empty() {
            self.refused = false;
            self.binding = self.binding.map(|Binding { gate, .. }| Binding::new(gate, here));
        }
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
        self.unconfirmed.push(seq, message);
        Ok(Packet { gate: binding.gate, epoch: binding.epoch, seq, message: copy })
    }

    /// Sends what is not decided, from a number on.
    fn send_again(&mut self, host: Incarnation, from_seq: u64, out: &mut PortOutput<M>) {
        let Some(Binding { gate, epoch, .. }) = self.binding else { return };
        let copies = self.unconfirmed.copies_from(from_seq);
        out.transmit.extend(copies.map(|(seq, message)| (host, Packet { gate, epoch, seq, message })));
    }

    /// Numbers and sends what waits.
    fn send_waiting(&mut self, host: Incarnation, now: Time, out: &mut PortOutput<M>) {
        self.take_expired(now, out);
        while let Some(mut message) = self.waiting.pop() {
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
        self.settle_until = None;
        self.former = Few::default();
        self.refused = false;
        let Abandoned { unknown, never } = self.unconfirmed.abandon();
        let executed = match self.mutants.has(Mutant::NoAfterDispatch) {
            true => Executed::No,
            false => Executed::Unknown,
        };
        unknown.into_iter().for_each(|message| out.end(message, ErrorCode::NodeLost, executed));
        self.waiting.push_before(never);
    }

    fn take_expired(&mut self, now: Time, out: &mut PortOutput<M>) {
        let expired = self.waiting.take_expired(now);
        expired.into_iter().for_each(|message| out.end(message, ErrorCode::Deadline, Executed::No));
    }
}

#[cfg(test)]
mod tests;
