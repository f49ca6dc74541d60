//! What one process has to do, and who may add to it: gate, mailbox and held packets under one roof.
//!
//! Every push passes the gate here, under the lock of the name's entry, so nothing slips in between a check and a
//! capture. A restart in place keeps all of it.
//!
//! A full mailbox refuses. Remote senders that were refused get `Room` when it is half empty, or when it ends.

use std::collections::VecDeque;

use super::gate::{Gate, GateState, GateTable, GateVerdict};
use super::held::{Held, Kept};
use super::mailbox::{Mailbox, MailboxLimits};
use super::packet::{Errand, Expires, Packet, Parcel, PortOutput, Room, Signal};
use crate::base::{ErrorCode, Executed, Incarnation, Mutant, Mutants, Time, Token};
use crate::view::View;

/// A list of signals with the node each is for.
pub(super) type Signals = Vec<(Incarnation, Signal)>;

/// The message was not accepted and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxRefused<M> {
    /// The message.
    pub message: M,
    /// `Overloaded`, `Moving`, or what the inbox was closed with.
    pub code: ErrorCode,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is in the mailbox, perhaps with others that waited for it.
    Admitted,
    /// It was refused; its number is used up.
    Refused(ErrorCode),
    /// It waits for one before it.
    Held,
    /// It was decided before.
    Duplicate,
    /// Its epoch is over, or there was no room to hold it.
    Dropped,
    /// It is meant for another gate.
    WrongGate,
    /// The gate is sealed.
    TurnedAway,
}

/// What a sealed inbox takes along when its process moves: what the gate knows, and copies of what is unread.
#[derive(Debug)]
pub struct InboxImage<M> {
    /// What the gate knows of its senders.
    pub table: GateTable,
    /// From the process to itself.
    pub notices: Vec<M>,
    /// Unread messages, in order.
    pub messages: Vec<M>,
}

/// What happened at an inbox, counted over its life; begins anew after 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxCounts {
    /// Messages that entered the mailbox.
    pub admitted: u32,
    /// Messages refused, local ones too.
    pub refused: u32,
    /// Packets that were decided before.
    pub duplicates: u32,
    /// Packets of an epoch that is over.
    pub stale: u32,
    /// Packets that came before one that was missing.
    pub gaps: u32,
}

/// Copies of one sender that were turned away and are remembered.
const TURNED_AWAY_MAX: usize = 256;

/// What few inboxes ever have, and there are very many.
#[derive(Debug)]
struct Rare<M> {
    /// From the process to itself, ahead of the mailbox.
    notices: VecDeque<M>,
    /// Routes that were refused for lack of room.
    refused: Vec<(Incarnation, u64)>,
    /// Of the mailbox, so many from its front may have been handled elsewhere: copies of them went to another node.
    copied: usize,
    /// Copies that came and were not decided here: the sender is told when the gate leaves, ends or is unsealed.
    turned_away: Vec<(Incarnation, u64, u64)>,
    duplicates: u32,
    stale: u32,
    gaps: u32,
}

impl<M> Default for Rare<M> {
    fn default() -> Self {
        let (notices, refused, turned_away) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { notices, refused, copied: 0, turned_away, duplicates: 0, stale: 0, gaps: 0 }
    }
}

/// Gate, mailbox and held packets of one process.
#[derive(Debug)]
pub struct Inbox<M> {
    gate: Gate,
    token: Token,
    mailbox: Mailbox<M>,
    held: Held<M>,
    rare: Option<Box<Rare<M>>>,
    admitted: u32,
    refusals: u32,
    mutants: Mutants,
}

impl<M: Parcel> Inbox<M> {
    /// What goes with the process. The inbox must be sealed; it stays as it is, in case the move is called off.
    ///
    /// # Errors
    /// A message can not leave this node.
    pub fn image(&mut self) -> Result<InboxImage<M>, ErrorCode> {
        debug_assert!(self.is_sealed(), "what is not sealed still changes");
        let notices = self.rare.iter_mut().flat_map(|rare| &mut rare.notices);
        let notices = notices.map(Parcel::copy).collect::<Result<_, _>>()?;
        let messages = self.mailbox.copies()?;
        Ok(InboxImage { table: self.gate.table(), notices, messages })
    }

    /// The unread messages of a sealed inbox, so that they can be encoded outside of its lock. They come back by
    /// [`Inbox::give_back`].
    pub fn lend(&mut self) -> VecDeque<M> {
        debug_assert!(self.is_sealed(), "what is not sealed still changes");
        self.mailbox.take()
    }

    /// What was lent is here again, before all that has come since.
    ///
    /// # Errors
    /// The inbox was closed meanwhile: they end with this code, not executed.
    pub fn give_back(&mut self, messages: VecDeque<M>) -> Result<(), (VecDeque<M>, ErrorCode)> {
        match self.gate.state() {
            GateState::Closed(code) => Err((messages, code)),
            GateState::Open | GateState::Suspended | GateState::Sealed => {
                self.mailbox.put_before(messages);
                Ok(())
            }
        }
    }

    /// The inbox of a process that came from another node: its gate goes on where it stopped there. What it brings is
    /// exempt from the limits.
    ///
    /// # Errors
    /// No gate has such a table.
    pub fn of_image(
        gate: Token,
        token: Token,
        image: InboxImage<M>,
        limits: MailboxLimits,
        mutants: Mutants,
    ) -> Result<Self, &'static str> {
        let mut inbox = Self::new(gate, limits, mutants);
        inbox.token = token;
        inbox.gate.adopt(image.table)?;
        if !image.notices.is_empty() {
            inbox.rare().notices = image.notices.into();
        }
        if !mutants.has(Mutant::MailboxLeftBehind) {
            image.messages.into_iter().for_each(|message| inbox.mailbox.push(message));
        }
        inbox.share_unread();
        Ok(inbox)
    }
}

impl<M: Expires> Inbox<M> {
    /// An open inbox of a new life; its gate is identified by the life's token. At least one message fits.
    pub fn new(token: Token, limits: MailboxLimits, mutants: Mutants) -> Self {
        Self {
            gate: Gate::new(token, mutants),
            token,
            mailbox: Mailbox::new(limits),
            held: Held::default(),
            admitted: 0,
            refusals: 0,
            rare: None,
            mutants,
        }
    }

    /// The present life of the process.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The gate's identity: the token of the life it was made for.
    pub fn gate(&self) -> Token {
        self.gate.token()
    }

    /// What the gate lets through.
    pub fn state(&self) -> GateState {
        self.gate.state()
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.notices() + self.mailbox.len()
    }

    /// What waits, in order, less what the process has told itself.
    pub fn unread(&self) -> impl Iterator<Item = &M> {
        self.mailbox.iter()
    }

    /// None waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much fits into the mailbox.
    pub fn limits(&self) -> MailboxLimits {
        self.mailbox.limits()
    }

    /// What happened here so far.
    pub fn counts(&self) -> InboxCounts {
        let rare = self.rare.as_deref();
        let (duplicates, stale, gaps) =
            rare.map_or((0, 0, 0), |rare| (rare.duplicates, rare.stale, rare.gaps));
        InboxCounts { admitted: self.admitted, refused: self.refusals, duplicates, stale, gaps }
    }

    fn rare(&mut self) -> &mut Rare<M> {
        self.rare.get_or_insert_default()
    }

    fn notices(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.notices.len())
    }

    /// The process found nothing and sleeps: a mailbox that may stay empty for long holds next to no memory.
    pub(super) fn rest(&mut self) {
        self.mailbox.rest();
    }

    pub(super) fn has_room(&self) -> bool {
        self.mailbox.has_room() || self.mutants.has(Mutant::MailboxUnbounded)
    }

    /// Whether its process is being moved.
    pub fn is_sealed(&self) -> bool {
        self.gate.state() == GateState::Sealed
    }

    /// Admits on, dispatches nothing: the process has crashed, or its node may not run it at present.
    pub fn suspend(&mut self) {
        if self.gate.state() == GateState::Open {
            self.gate.set_state(GateState::Suspended);
        }
    }

    /// Dispatches again after [`Inbox::suspend`].
    pub fn resume(&mut self) {
        if self.gate.state() == GateState::Suspended {
            self.gate.set_state(GateState::Open);
        }
    }

    /// The absolute time from which nothing is dispatched; none without such a time.
    pub fn suspend_at(&mut self, at: Option<Time>) {
        self.gate.suspend_at(at);
    }

    /// A new life in the place of the one that ended here: gate, table and unread mailbox stay.
    pub fn restart(&mut self, token: Token) {
        self.token = token;
        self.gate.set_state(GateState::Open);
        if self.mutants.has(Mutant::MailboxDroppedAtRestart) {
            drop(self.mailbox.take());
        }
    }

    /// The same life goes on under a higher token.
    pub fn retoken(&mut self, token: Token) {
        self.token = token;
    }

    /// All messages that wait, in order, and what is known of each: what is left when the inbox is gone.
    pub fn into_messages(mut self) -> Vec<(M, Executed)> {
        self.take_unread()
    }

    /// A message from this node.
    ///
    /// # Errors
    /// No room, closed or sealed: the message comes back, not executed.
    pub fn push_local(&mut self, message: M) -> Result<(), InboxRefused<M>> {
        let code = match self.gate.state() {
            GateState::Open | GateState::Suspended if self.has_room() => {
                self.mailbox.push(message);
                self.admitted = self.admitted.wrapping_add(1);
                return Ok(());
            }
            GateState::Open | GateState::Suspended => ErrorCode::Overloaded,
            GateState::Sealed => ErrorCode::Moving,
            GateState::Closed(code) => code,
        };
        self.refusals = self.refusals.wrapping_add(1);
        Err(InboxRefused { message, code })
    }

    /// What the process has asked to be told, in the order of its messages and beyond the limit of the mailbox: whoever
    /// tells it limits how much can be asked for. While that waits, others find less room.
    ///
    /// # Errors
    /// It is on its way to another node, or has ended; the message comes back, not executed.
    pub fn tell(&mut self, message: M) -> Result<(), InboxRefused<M>> {
        let code = match self.gate.state() {
            GateState::Open | GateState::Suspended => {
                self.mailbox.push(message);
                return Ok(());
            }
            GateState::Sealed => ErrorCode::Moving,
            GateState::Closed(code) => code,
        };
        Err(InboxRefused { message, code })
    }

    /// A message of the process to itself, handled before the whole mailbox and after earlier ones of this sort.
    ///
    /// # Errors
    /// As many as a mailbox holds wait already, or the inbox is closed.
    pub fn push_front(&mut self, message: M) -> Result<(), InboxRefused<M>> {
        if let GateState::Closed(code) = self.gate.state() {
            return Err(InboxRefused { message, code });
        }
        if self.notices() >= self.mailbox.limits().messages {
            return Err(InboxRefused { message, code: ErrorCode::Overloaded });
        }
        self.rare().notices.push_back(message);
        Ok(())
    }

    /// A packet from another node.
    pub(super) fn on_packet(
        &mut self,
        from: Incarnation,
        packet: Packet<M>,
        now: Time,
        room: Room,
        signals: &mut Signals,
    ) -> Admission {
        let Packet { gate, epoch, seq, message } = packet;
        match self.gate.check(from, gate, epoch, seq) {
            GateVerdict::Next => {
                let admission = self.decide(from, epoch, seq, message, room, signals);
                if !self.held.is_empty() {
                    self.release_held(from, epoch, now, signals);
                }
                admission
            }
            GateVerdict::Duplicate => {
                let duplicates = &mut self.rare().duplicates;
                *duplicates = duplicates.wrapping_add(1);
                let code = self.gate.refusal(from, seq);
                let admitted = self.admitted(from, epoch, seq);
                signals.push((from, code.map_or(admitted, |code| Signal::Refused { epoch, seq, code })));
                Admission::Duplicate
            }
            GateVerdict::StaleEpoch => {
                let stale = &mut self.rare().stale;
                *stale = stale.wrapping_add(1);
                Admission::Dropped
            }
            GateVerdict::WrongGate => {
                signals.push((from, Signal::NotHere { epoch, seq }));
                Admission::WrongGate
            }
            GateVerdict::Gap => {
                let gaps = &mut self.rare().gaps;
                *gaps = gaps.wrapping_add(1);
                self.gate.note(from);
                if room == Room::Some && self.held.hold(from, epoch, seq, message, now) == Kept::Held {
                    return Admission::Held;
                }
                // Its sender keeps it and is asked for it again.
                self.turn_away(from, epoch, seq);
                Admission::Dropped
            }
            GateVerdict::Sealed => {
                match message.errand() {
                    // Said once of each copy: of others when the move is over.
                    Errand::FailFast => signals.push((from, Signal::Moving { epoch, seq })),
                    Errand::Deliver | Errand::Void => self.turn_away(from, epoch, seq),
                }
                Admission::TurnedAway
            }
        }
    }

    /// A packet of this node's own route, which came home: the process has moved here with its gate. It is exempt
    /// from the limit, and nobody is told.
    pub(super) fn on_own_packet(
        &mut self,
        me: Incarnation,
        epoch: u64,
        seq: u64,
        message: M,
    ) -> Homecoming<M> {
        match self.gate.check(me, self.gate.token(), epoch, seq) {
            GateVerdict::Next => {
                self.gate.advance(me, epoch, seq);
                if message.errand() != Errand::Void {
                    self.mailbox.push(message);
                    self.admitted = self.admitted.wrapping_add(1);
                }
                Homecoming::Admitted
            }
            GateVerdict::Duplicate => match self.gate.refusal(me, seq) {
                Some(code) => Homecoming::Refused(message, code),
                None => Homecoming::Admitted,
            },
            GateVerdict::StaleEpoch | GateVerdict::WrongGate | GateVerdict::Gap | GateVerdict::Sealed => {
                Homecoming::Undecided(message)
            }
        }
    }

    /// The next message, if the process may have it.
    pub(super) fn pop(&mut self, clock: impl FnOnce() -> Time) -> Option<M> {
        if self.is_empty() || !self.gate.may_dispatch(clock) {
            return None;
        }
        if let Some(rare) = &mut self.rare {
            if let Some(notice) = rare.notices.pop_front() {
                return Some(notice);
            }
            rare.copied = rare.copied.saturating_sub(1);
        }
        self.mailbox.pop()
    }

    /// Whether senders that were refused are to be told that there is room again.
    pub(super) fn owes_room(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.refused.is_empty()) && self.mailbox.is_half_empty()
    }

    /// The process has ended: what waits comes back, in order; what comes is refused with `code`.
    pub(super) fn close(&mut self, code: ErrorCode, signals: &mut Signals) -> Vec<(M, Executed)> {
        let messages = self.take_unread();
        self.gate.set_state(GateState::Closed(code));
        self.tell_room(signals);
        self.tell_turned_away(signals);
        messages
    }

    /// Copies of what waits went to another node, and may be handled there: of what is not handled here nobody can say
    /// that it was not executed.
    pub(super) fn share_unread(&mut self) {
        let unread = self.mailbox.len();
        if unread > 0 {
            self.rare().copied = unread;
        }
    }

    /// Takes out all that waits, in order, and what is known of each.
    fn take_unread(&mut self) -> Vec<(M, Executed)> {
        let rare = self.rare.as_mut();
        let (notices, copied) = rare
            .map(|rare| (std::mem::take(&mut rare.notices), std::mem::take(&mut rare.copied)))
            .unwrap_or_default();
        let executed = |at: usize| if at < copied { Executed::Unknown } else { Executed::No };
        let unread = self.mailbox.take().into_iter().enumerate();
        let notices = notices.into_iter().map(|notice| (notice, Executed::No));
        notices.chain(unread.map(|(at, message)| (message, executed(at)))).collect()
    }

    /// What it holds may be handled by another life: it ends with `NodeLost`, Unknown.
    pub fn disown_unread(&mut self, out: &mut PortOutput<M>) {
        for (message, _) in self.take_unread() {
            out.end(message, ErrorCode::NodeLost, Executed::Unknown);
        }
    }

    /// Admits and answers nothing until [`Inbox::unseal`]: the process is being moved.
    pub(super) fn seal(&mut self) {
        self.gate.set_state(GateState::Sealed);
    }

    /// The move was called off.
    pub(super) fn unseal(&mut self, signals: &mut Signals) {
        if self.is_sealed() {
            self.gate.set_state(GateState::Open);
            self.tell_turned_away(signals);
        }
    }

    /// The inbox leaves this node: senders of packets that were not decided are told so.
    pub(super) fn leave(&mut self, signals: &mut Signals) {
        self.tell_room(signals);
        self.tell_turned_away(signals);
        for (from, epoch, seq) in self.held.drain() {
            signals.push((from, Signal::NotHere { epoch, seq }));
        }
    }

    /// A view was installed.
    pub(super) fn forget_except(&mut self, view: &View) {
        self.gate.forget_except(view);
        let gate = &self.gate;
        self.held.retain(|from| gate.expects(from));
        if let Some(rare) = &mut self.rare {
            rare.refused.retain(|(from, _)| view.contains(*from));
            rare.turned_away.retain(|(from, ..)| view.contains(*from));
        }
    }

    /// Asks for packets that are missing for too long.
    pub(super) fn poll(&mut self, now: Time, signals: &mut Signals) {
        let gate = &self.gate;
        let due = self.held.due(now);
        signals.extend(due.map(|(from, epoch)| {
            let seq = gate.expected(from, epoch);
            (from, Signal::Missing { epoch, seq })
        }));
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.held.next_deadline()
    }

    fn decide(
        &mut self,
        from: Incarnation,
        epoch: u64,
        seq: u64,
        message: M,
        room: Room,
        signals: &mut Signals,
    ) -> Admission {
        match self.push_from_afar(message, room) {
            Ok(()) => {
                self.gate.advance(from, epoch, seq);
                signals.push((from, self.admitted(from, epoch, seq)));
                Admission::Admitted
            }
            Err(InboxRefused { code, .. }) => {
                self.gate.refuse(from, epoch, seq, code);
                signals.push((from, Signal::Refused { epoch, seq, code }));
                let refused = &mut self.rare().refused;
                if code == ErrorCode::Overloaded && !refused.contains(&(from, epoch)) {
                    refused.retain(|(known, _)| *known != from);
                    refused.push((from, epoch));
                }
                Admission::Refused(code)
            }
        }
    }

    fn release_held(&mut self, from: Incarnation, epoch: u64, now: Time, signals: &mut Signals) {
        loop {
            let seq = self.gate.expected(from, epoch);
            let Some(message) = self.held.take(from, epoch, seq, now) else { return };
            // It was kept already: to refuse it now would free what a later one takes at once.
            self.decide(from, epoch, seq, message, Room::Some, signals);
        }
    }

    fn push_from_afar(&mut self, message: M, room: Room) -> Result<(), InboxRefused<M>> {
        if message.errand() == Errand::Void {
            return Ok(());
        }
        match (self.gate.state(), room) {
            (GateState::Open | GateState::Suspended, Room::None) => {
                self.refusals = self.refusals.wrapping_add(1);
                Err(InboxRefused { message, code: ErrorCode::Overloaded })
            }
            _ => self.push_local(message),
        }
    }

    /// A confirmation of all before `seq` might cover a refusal that the sender has not heard.
    fn admitted(&self, from: Incarnation, epoch: u64, seq: u64) -> Signal {
        match self.gate.admitted_all(from) {
            true => Signal::Confirm { epoch, seq },
            false => Signal::Admitted { epoch, seq },
        }
    }

    /// A copy about which nothing is said yet. Beyond the limit its sender has to find out by itself.
    fn turn_away(&mut self, from: Incarnation, epoch: u64, seq: u64) {
        let turned_away = &mut self.rare().turned_away;
        if turned_away.iter().filter(|(known, ..)| *known == from).count() < TURNED_AWAY_MAX {
            turned_away.push((from, epoch, seq));
        }
    }

    /// Senders are told of each copy that was turned away, so that they know of none of them that it may be admitted.
    fn tell_turned_away(&mut self, signals: &mut Signals) {
        let turned_away = self.rare.as_mut().map(|rare| std::mem::take(&mut rare.turned_away));
        let turned_away = turned_away.into_iter().flatten();
        signals.extend(turned_away.map(|(from, epoch, seq)| (from, Signal::NotHere { epoch, seq })));
    }

    pub(super) fn tell_room(&mut self, signals: &mut Signals) {
        let refused = self.rare.as_mut().map(|rare| std::mem::take(&mut rare.refused)).unwrap_or_default();
        signals.extend(refused.into_iter().map(|(from, epoch)| (from, Signal::Room { epoch })));
    }
}

/// What became of a packet that came home.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Homecoming<M> {
    /// It is in the mailbox, or was handled before.
    Admitted,
    /// It had been refused.
    Refused(M, ErrorCode),
    /// The gate can not tell.
    Undecided(M),
}

#[cfg(test)]
mod tests;
