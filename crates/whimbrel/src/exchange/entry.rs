//! The entry of a name: all that this node knows about delivering to it, under one short lock.
//!
//! The lock is contended by senders on this node, the task of the process, and the readers of links. Nothing waits
//! while it is held, and user code runs outside of it, with one exception: a message that was held for an unknown
//! host without having been encoded, because the process might have been here, is encoded when it leaves.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use whimbrel_core::base::{Bytes, ErrorCode, Executed, ExitReason, Incarnation, Name, Time, Token};
use whimbrel_core::delivery::{
    CallId, Ended, Errand, Expires, Here, Inbox, Lane, Packet, Port, PortOutput, Room, Sent, Signal,
};
use whimbrel_core::wire::message::MessageHead;

use super::Exchange;
use super::calls::NOBODY;
use super::envelope::{Envelope, Failure, Head};
use super::locked::{Lock, Locked};
use crate::clock;
use crate::error::{CallError, CastError};
use crate::message::Work;
use crate::message::call::Waiter;
use crate::message::reply::{Caller, ReplyTo};
use crate::process::current::{Current, InstanceId, current};
use crate::process::{Instance, tiding};
use crate::transport::{OutFrame, OutMessage, SendError, Writing};

/// How long a cast may wait for its receiver to be found before it is a dead letter.
pub(super) const CAST_HELD_MAX: Duration = Duration::from_secs(30);
/// A call ends this long after its message has expired wherever it waits, which can then say "not executed".
const GRACE: Duration = Duration::from_millis(15);

/// After every time that a clock tells.
pub(super) const UNWATCHED: Time = Time::from_micros(u64::MAX);

/// The entry of one name.
pub(crate) struct Entry {
    name: Name,
    naming: Naming,
    exchange: Arc<Exchange>,
    /// The task of the process waits for it.
    state: Locked<EntryState>,
}

/// Whether others can find the process by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    Named,
    Unnamed,
}

pub(crate) struct EntryState {
    pub(crate) port: Port<Envelope>,
    /// The instance that this name leads to on this node.
    pub(crate) instance: Option<Arc<Instance>>,
    /// The arguments of that life, if its kind keeps them on this node.
    pub(crate) args: Option<Box<Bytes>>,
    /// The kind that the owner has told.
    pub(crate) kind: Option<Name>,
    /// The epoch under which signals find this entry.
    epoch: Option<NonZeroU64>,
    /// When the sweeper will look at it: not after the port's deadline, perhaps before it. [`UNWATCHED`] if it will
    /// not: a time that never comes takes less than an option, and there may be very many entries.
    pub(super) watched: Time,
}

/// What is left to do when the lock is released.
#[derive(Default)]
pub(crate) struct Leftovers {
    waker: Option<Waker>,
    ended: Vec<Ended<Envelope>>,
}

impl EntryState {
    /// The life that the instance has under this name.
    pub(crate) fn token(&self) -> Token {
        self.port.inbox().map_or(Token::NONE, Inbox::token)
    }
}

impl Entry {
    pub(crate) fn new(name: Name, naming: Naming, exchange: Arc<Exchange>) -> Arc<Self> {
        let port = Port::new(exchange.mutants());
        let state =
            EntryState { port, instance: None, args: None, kind: None, epoch: None, watched: UNWATCHED };
        Arc::new(Self { name, naming, exchange, state: Locked::new(state) })
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn is_named(&self) -> bool {
        self.naming == Naming::Named
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    pub(crate) fn lock(&self) -> Lock<'_, EntryState> {
        self.state.lock()
    }

    /// Sends a message that nobody waits for.
    pub(crate) fn cast(self: &Arc<Self>, work: Box<dyn Work>) -> Result<(), CastError> {
        self.send(Envelope::Work(work), InstanceId::NOBODY, None)
            .map_err(|failure| CastError::from_call(failure.into()))
    }

    /// Sends a message whose outcome `waiter` is told, once.
    pub(crate) fn call(
        self: &Arc<Self>,
        mut work: Box<dyn Work>,
        waiter: Arc<dyn Waiter>,
        deadline: Duration,
        errand: Errand,
    ) -> Result<CallId, CallError> {
        let Current { id: caller, token: sender, deadline: inherited, .. } = current();
        let now = clock::time();
        let due = inherited.map_or(now + deadline, |inherited| inherited.min(now + deadline));
        if due <= now {
            return Err(CallError::Deadline { executed: Executed::No });
        }
        let id = self.exchange.open_call(self.shard(), waiter, due + GRACE)?;
        let reply = Some(ReplyTo { at: Caller::Here, call: id });
        *work.head_mut() = Head { reply, deadline: Some(due), sender, errand };
        match self.send(Envelope::Work(work), caller, Some(now)) {
            Ok(()) => Ok(id),
            Err(failure) => {
                self.exchange.close_call(id);
                Err(failure.into())
            }
        }
    }

    /// The caller does not wait any more.
    pub(crate) fn forget_call(&self, id: CallId) {
        self.exchange.close_call(id);
    }

    fn shard(&self) -> usize {
        // Addresses of entries differ in the bits above their size; it only spreads contention.
        (std::ptr::from_ref(self).addr() >> 7) & (super::CALL_SHARDS - 1)
    }

    /// `now` is the time, if it was looked up.
    fn send(
        self: &Arc<Self>,
        mut envelope: Envelope,
        caller: InstanceId,
        now: Option<Time>,
    ) -> Result<(), Failure> {
        if self.exchange.is_closed() {
            return Err(Failure::new(ErrorCode::NodeLost, Executed::No));
        }
        let mut state = self.lock();
        // A message that goes straight into the mailbox waits for nothing that needs the time.
        let straight = state.port.is_local() && state.port.route().is_none();
        let now = now.unwrap_or_else(|| if straight { Time::ZERO } else { clock::time() });
        if !straight {
            envelope.wait_until(now + CAST_HELD_MAX);
        }
        // What a process sends and does not go straight into a mailbox is counted until it is decided, in case the
        // process moves.
        let here = state.port.is_local();
        let sender =
            if here && state.port.takes_at_once() { InstanceId::NOBODY } else { current().id.sender() };
        if (!here || sender != InstanceId::NOBODY)
            && let Envelope::Work(work) = &envelope
        {
            let travels = work.travels();
            let bound = state.port.whereabouts().is_some();
            drop(state);
            if travels {
                match envelope.encode() {
                    // It may not have to leave.
                    Err(_) if here => {}
                    encoded => encoded.map_err(|detail| codec_failure(&detail))?,
                }
            } else if bound {
                return Err(codec_failure(
                    "the process is on another node, and the message can not leave this one",
                ));
            }
            match self.exchange.leaving.take(envelope.bytes()) {
                Some(share) => envelope.takes(share),
                None => return Err(Failure::new(ErrorCode::Overloaded, Executed::No)),
            }
            if sender != InstanceId::NOBODY {
                envelope.sent_by(self.exchange.sendings.begin(sender));
            }
            state = self.lock();
        }
        if caller != InstanceId::NOBODY
            && envelope.head().reply.is_some()
            && state.instance.as_ref().map(|instance| instance.id) == Some(caller)
        {
            return Err(Failure::new(ErrorCode::WouldDeadlock, Executed::No));
        }
        match state.port.send(envelope, now) {
            Sent::Queued => {
                state.wake();
                Ok(())
            }
            Sent::Transmit { to, packet } => self.transmit_first(state, to, packet, now, Writing::Now),
            Sent::Held { locate } => {
                self.watch(&mut state);
                drop(state);
                if locate {
                    self.exchange.ask_where(self);
                }
                Ok(())
            }
            Sent::Refused { code, .. } => Err(Failure::new(code, Executed::No)),
        }
    }

    pub(super) fn transmit_first(
        self: &Arc<Self>,
        mut state: Lock<'_, EntryState>,
        to: Incarnation,
        packet: Packet<Envelope>,
        now: Time,
        writing: Writing,
    ) -> Result<(), Failure> {
        let (epoch, seq) = (packet.epoch, packet.seq);
        match self.transmit(&mut state, to, packet, now, writing) {
            Ok(()) => {
                self.watch(&mut state);
                Ok(())
            }
            Err(SendError::Full) if state.port.take_back(epoch, seq).is_some() => {
                Err(Failure::new(ErrorCode::Overloaded, Executed::No))
            }
            Err(_) => {
                let mut out = PortOutput::default();
                state.port.on_unsent(&self.exchange.here(now), to, epoch, seq, &mut out);
                let left = self.settle(&mut state, &mut out);
                drop(state);
                self.finish(left);
                Ok(())
            }
        }
    }

    /// Hands one packet to its link; the lock is held, so the numbers reach the link in order.
    fn transmit(
        self: &Arc<Self>,
        state: &mut EntryState,
        to: Incarnation,
        packet: Packet<Envelope>,
        now: Time,
        writing: Writing,
    ) -> Result<(), SendError> {
        let Packet { gate, epoch, seq, message } = packet;
        let call = message.caller_here().map(|reply| reply.call);
        let remaining_ms = message
            .call_deadline()
            .map(|deadline| u64::try_from(deadline.since(now).as_millis()).unwrap_or(u64::MAX));
        let Envelope::Encoded(content) = message else {
            // `Parcel::copy` encodes.
            return Err(SendError::NoSession);
        };
        if state.epoch.map(NonZeroU64::get) != Some(epoch) {
            let before = std::mem::replace(&mut state.epoch, NonZeroU64::new(epoch));
            self.exchange.route_of(before.map(NonZeroU64::get), epoch, self);
        }
        let head = MessageHead {
            gate,
            epoch,
            seq,
            call: call.map(CallId::as_u64),
            remaining_ms,
            sender: content.head.sender,
            view: self.exchange.view_counter(),
            codec: content.codec,
            errand: content.head.errand,
        };
        // The limit of a payload leaves room for everything around it.
        let message = OutMessage { name: self.name.clone(), head, content };
        let frame = OutFrame::message(message).map_err(|_| SendError::Full)?;
        // Before it is sent: a reply is heard only from there, and may come at once.
        let before = call.and_then(|call| self.exchange.call_is_at(call, to));
        let sent = self.exchange.queue_frame(to, Lane::Messages, frame, writing);
        if let (Err(_), Some(call)) = (sent, call) {
            self.exchange.call_is_at(call, before.unwrap_or(NOBODY));
        }
        sent
    }

    /// Does what a port wants done under its lock; returns what is to be done after it.
    pub(crate) fn settle(
        self: &Arc<Self>,
        state: &mut Lock<'_, EntryState>,
        out: &mut PortOutput<Envelope>,
    ) -> Leftovers {
        let mut left = Leftovers::default();
        let mut unsent = PortOutput::default();
        loop {
            if !out.signals.is_empty() {
                self.exchange.signal_all(&mut out.signals);
            }
            if out.locate {
                self.exchange.ask_where(self);
            }
            if out.wake {
                left.waker = left.waker.or_else(|| state.take_waker());
            }
            left.ended.append(&mut out.ended);
            for (to, packet) in std::mem::take(&mut out.transmit) {
                let (epoch, seq) = (packet.epoch, packet.seq);
                let now = clock::time();
                if self.transmit(state, to, packet, now, Writing::Now).is_err() {
                    let here = self.exchange.here(now);
                    state.port.on_unsent(&here, to, epoch, seq, &mut unsent);
                }
            }
            out.clear();
            if unsent.is_empty() {
                break;
            }
            std::mem::swap(out, &mut unsent);
        }
        self.watch(state);
        left
    }

    /// What `settle` left to be done without the lock.
    pub(crate) fn finish(&self, left: Leftovers) {
        if let Some(waker) = left.waker {
            waker.wake();
        }
        for Ended { message, code, executed } in left.ended {
            self.undelivered(message, Failure::new(code, executed));
        }
    }

    /// As `finish`, for a process that has ended for this reason.
    pub(crate) fn finish_stopped(&self, left: Leftovers, reason: &ExitReason) {
        for Ended { message, code, executed } in left.ended {
            self.undelivered(message, Failure::new(code, executed).because(reason.clone()));
        }
    }

    /// Runs one input of the port and does what comes of it.
    pub(crate) fn with_port(
        self: &Arc<Self>,
        input: impl FnOnce(&mut Port<Envelope>, &whimbrel_core::delivery::Here<'_>, &mut PortOutput<Envelope>),
    ) {
        let mut out = PortOutput::default();
        let here = self.exchange.here(clock::time());
        let mut state = self.lock();
        input(&mut state.port, &here, &mut out);
        let left = self.settle(&mut state, &mut out);
        drop(state);
        self.finish(left);
    }

    /// Packets of another node arrive, in this order. Takes all of them.
    pub(super) fn arrive(
        self: &Arc<Self>,
        here: &Here<'_>,
        from: Incarnation,
        packets: &mut Vec<(Room, Packet<Envelope>)>,
        out: &mut PortOutput<Envelope>,
    ) {
        let mut state = self.lock();
        for (room, packet) in packets.drain(..) {
            state.port.on_packet(&Here { room, ..*here }, from, packet, out);
        }
        let left = self.settle(&mut state, out);
        drop(state);
        self.finish(left);
    }

    /// The next message for the process; none leaves its waker here.
    pub(crate) fn pop(self: &Arc<Self>, waker: &Waker) -> Option<Envelope> {
        let mut state = self.lock();
        let envelope = state.find_or_wait(waker, |state| {
            let envelope = state.port.pop(clock::time);
            if envelope.is_none() {
                state.port.rest();
            }
            envelope
        });
        if state.port.wants_refill() {
            self.refill(state);
        }
        envelope
    }

    fn refill(self: &Arc<Self>, mut state: Lock<'_, EntryState>) {
        let mut out = PortOutput::default();
        state.port.refill(&mut out);
        let left = self.settle(&mut state, &mut out);
        drop(state);
        self.finish(left);
    }

    /// The process stops for good: nothing comes in any more. Returns what waits, for the caller to end.
    pub(crate) fn close_for_good(self: &Arc<Self>) -> Vec<Envelope> {
        let mut out = PortOutput::default();
        let mut state = self.lock();
        // What is sealed may be handled elsewhere: who sealed it decides.
        if state.port.inbox().is_none_or(Inbox::is_sealed) {
            return Vec::new();
        }
        state.port.close(ErrorCode::Stopped, &mut out);
        let mut left = self.settle(&mut state, &mut out);
        drop(state);
        let unread = std::mem::take(&mut left.ended);
        self.finish(left);
        unread.into_iter().map(|ended| ended.message).collect()
    }

    /// Lets the process look for orders.
    pub(crate) fn wake(&self) {
        self.state.wake();
    }

    /// Has the sweeper look at this entry when its port is due, or earlier. The lock is held.
    pub(super) fn watch(self: &Arc<Self>, state: &mut EntryState) {
        let Some(due) = state.port.next_deadline() else { return };
        // A look that comes too early puts this right; one that comes too late would not.
        if due < state.watched {
            let before = std::mem::replace(&mut state.watched, due);
            self.exchange.watch(self.clone(), (before != UNWATCHED).then_some(before), due);
        }
    }

    /// The time `at`, for which the sweeper watched this entry, has come.
    pub(crate) fn sweep(self: &Arc<Self>, at: Time, now: Time) {
        let mut state = self.lock();
        // Another time is an earlier one, for which it was put on the list after the sweeper took it from there.
        if state.watched == at {
            state.watched = UNWATCHED;
        }
        if state.port.next_deadline().is_none_or(|due| due > now) {
            return self.watch(&mut state);
        }
        let mut out = PortOutput::default();
        state.port.poll(&self.exchange.here(now), &mut out);
        let left = self.settle(&mut state, &mut out);
        drop(state);
        self.finish(left);
    }

    /// The epoch to forget when the entry goes.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.lock().epoch.map(NonZeroU64::get)
    }

    /// A message will not be handled: its caller is told, or it is a dead letter.
    pub(crate) fn undelivered(&self, envelope: Envelope, failure: Failure) {
        // Whoever it was meant for does not wait for it any more.
        if tiding::is_tiding(&envelope) {
            return;
        }
        match envelope.head().reply {
            Some(to) => {
                self.exchange.fail_call(to, failure);
                // The destructor of a message is user code.
                let _panicked = crate::process::guard::run(|| drop(envelope));
            }
            None => self.exchange.dead_letters().add(&self.name, envelope, failure.code),
        }
    }

    /// A message to itself for which there was no room.
    pub(crate) fn overloaded(&self, work: Box<dyn Work>) {
        self.exchange.dead_letters().add(&self.name, Envelope::Work(work), ErrorCode::Overloaded);
    }

    /// A cast that its process can not take.
    pub(crate) fn misdirected(&self, message: &str, reason: ErrorCode) {
        self.exchange.dead_letters().add_named(&self.name, message, reason);
    }

    /// A signal of a host about this node's messages.
    pub(crate) fn on_signal(self: &Arc<Self>, from: Incarnation, signal: Signal) {
        self.with_port(|port, here, out| port.on_signal(here, from, signal, out));
    }
}

pub(super) fn codec_failure(detail: &str) -> Failure {
    Failure::new(ErrorCode::Codec, Executed::No).detailed(detail)
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.name).finish()
    }
}
