//! What arrives from other nodes on the message lane, and what is answered.
//!
//! Confirmations are merged to the highest of each epoch, and sent when [`CONFIRM_EVERY`] messages of a peer wait for
//! theirs, more if they are for many names, as of a publish, or [`CONFIRM_WITHIN`] has passed: they free memory of the sender and nobody waits for them, so a lone call does
//! not pay for a frame and a wake-up of its own. Other signals go out at once: each signal is a fact that stays true,
//! so order does not matter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::base::{Incarnation, Time};
use whimbrel_core::delivery::{CallId, Here, Lane, Packet, PortOutput, Room, Signal};
use whimbrel_core::node::Input;
use whimbrel_core::wire::frame::MessageFrame;
use whimbrel_core::wire::message::{Message, MessageHead};
use whimbrel_core::wire::publish::{Publish, Target};

use super::envelope::{Encoded, Envelope, Head, Label};
use super::sweep::earlier;
use super::{Entry, Exchange, lock};
use crate::clock;
use crate::driver::Command;
use crate::message::reply::{Caller, ReplyTo};
use crate::transport::{Inbound, OutFrame, SendError};

/// Messages for one name in a row that enter its port under one lock.
const ENTERING_MAX: usize = 32;

/// Messages of one peer after which they are confirmed at the end of the read: far below the room of a route.
const CONFIRM_EVERY: u32 = 256;

/// Messages for many names wait until there are so many for each of them, on average: one signal for each message would
/// cost as much as the messages.
const CONFIRM_OF_EACH: u32 = 8;

/// For however many names: a quarter of the room of a route.
const CONFIRM_EVERY_MAX: u32 = 4_096;

/// A message is confirmed at latest this long after it was admitted.
const CONFIRM_WITHIN: Duration = Duration::from_millis(100);

/// What is pending for one peer.
#[derive(Default)]
pub(super) struct Pending {
    /// The highest number confirmed, per epoch.
    confirmed: BTreeMap<u64, u64>,
    /// Messages that these stand for.
    messages: u32,
    /// When they are sent at latest.
    due: Option<Time>,
}

impl Pending {
    /// Adds one that stands for so many messages; says when to send, if nothing waited before it.
    fn add(&mut self, epoch: u64, seq: u64, messages: u32) -> Option<Time> {
        let highest = self.confirmed.entry(epoch).or_default();
        *highest = seq.max(*highest);
        self.messages = self.messages.saturating_add(messages);
        if self.due.is_none() {
            self.due = Some(clock::time() + CONFIRM_WITHIN);
            return self.due;
        }
        None
    }

    /// Whether they are worth the signals, one for each epoch.
    fn is_due(&self) -> bool {
        let epochs = u32::try_from(self.confirmed.len()).unwrap_or(u32::MAX);
        let of_each = epochs.saturating_mul(CONFIRM_OF_EACH);
        self.messages >= of_each.clamp(CONFIRM_EVERY, CONFIRM_EVERY_MAX)
    }

    fn take(&mut self) -> BTreeMap<u64, u64> {
        self.messages = 0;
        self.due = None;
        std::mem::take(&mut self.confirmed)
    }
}

impl Inbound for Exchange {
    fn on_frames(&self, from: Incarnation, frames: &mut Vec<MessageFrame>) {
        let mut arrivals = Arrivals::new(self, from);
        for frame in frames.drain(..) {
            match frame {
                MessageFrame::Message(message) => arrivals.add(message),
                MessageFrame::Publish(publish) => arrivals.add_all(publish),
                MessageFrame::Signal(signal) => {
                    arrivals.enter();
                    if let Some(entry) = self.entry_of_epoch(epoch_of(signal)) {
                        entry.on_signal(from, signal);
                    }
                }
                MessageFrame::Reply(reply) => {
                    // Whoever hears it finds what was sent before it in the mailboxes here.
                    arrivals.enter();
                    self.on_reply(from, reply);
                }
            }
        }
        if arrivals.end() {
            self.confirm_many(from);
        }
    }

    fn on_heard(&self, from: Incarnation) {
        // A driver with a full queue has other evidence in it; this one is repeated.
        let _full = self.control.try_send(Command::Input(Input::Heard(from)));
    }

    fn on_session_end(&self, peer: Incarnation, unsent: Vec<OutFrame>) {
        lock(&self.confirmations).remove(&peer);
        for frame in unsent {
            for (name, epoch, seq, call) in frame.messages() {
                if let Some(call) = call {
                    self.call_is_nowhere(CallId::from_u64(call));
                }
                if let Some(entry) = self.known(name.as_str()) {
                    entry.with_port(|port, here, out| port.on_unsent(here, peer, epoch, seq, out));
                }
            }
        }
        self.calls_lost(peer);
        for entry in self.all_entries() {
            entry.with_port(|port, here, out| port.on_host_lost(here, peer, out));
        }
    }
}

/// Messages of one read on their way to their ports: those in a row for one name enter together.
struct Arrivals<'a> {
    exchange: &'a Exchange,
    from: Incarnation,
    here: Here<'a>,
    /// The sender is in the view that is installed here. One that is not was excluded, or is ahead; it asks the owner
    /// again.
    member: bool,
    any: bool,
    to: Option<Arc<Entry>>,
    entering: Vec<(Room, Packet<Envelope>)>,
    out: PortOutput<Envelope>,
}

impl<'a> Arrivals<'a> {
    fn new(exchange: &'a Exchange, from: Incarnation) -> Self {
        Self {
            exchange,
            from,
            here: exchange.here(clock::time()),
            member: exchange.view.load().as_ref().is_some_and(|view| view.contains(from)),
            any: false,
            to: None,
            entering: Vec::new(),
            out: PortOutput::default(),
        }
    }

    fn add(&mut self, message: Message) {
        let MessageHead { gate, epoch, seq, .. } = message.head;
        let target = Target { name: message.name.clone(), gate, epoch, seq };
        if self.finds(&target) {
            let (room, message) = self.open(message);
            self.admit(&target, room, message);
        }
    }

    /// One message for several names, kept once: to the gate of each it is a message as any other.
    fn add_all(&mut self, publish: Publish) {
        let Publish { first, others } = publish;
        let MessageHead { gate, epoch, seq, .. } = first.head;
        let target = Target { name: first.name.clone(), gate, epoch, seq };
        let (room, message) = self.open(first);
        for target in std::iter::once(target).chain(others) {
            if self.finds(&target) {
                self.admit(&target, room, message.clone());
            }
        }
    }

    /// Whether something is here under this name; if not, the sender is told.
    fn finds(&mut self, target: &Target) -> bool {
        self.any = true;
        if self.to.as_ref().is_none_or(|entry| *entry.name() != target.name) {
            self.enter();
            self.to = self.exchange.known(target.name.as_str()).filter(|_| self.member);
        }
        if self.to.is_none() {
            let (epoch, seq) = (target.epoch, target.seq);
            self.exchange.signal(self.from, Signal::NotHere { epoch, seq });
        }
        self.to.is_some()
    }

    /// The message as mailboxes keep it, and whether this node may keep it.
    fn open(&self, message: Message) -> (Room, Arc<Encoded>) {
        let Message { kind, message, head, payload, .. } = message;
        let MessageHead { call, remaining_ms, sender, codec, errand, .. } = head;
        let reply = call.map(|call| ReplyTo { at: Caller::At(self.from), call: CallId::from_u64(call) });
        let deadline = remaining_ms.map(|ms| self.here.now + Duration::from_millis(ms));
        let head = Head { reply, deadline, sender, errand };
        let (kind, message) = (Label::There(kind), Label::There(message));
        let mut encoded = Encoded { head, kind, message, codec, payload, share: None, sending: None };
        encoded.share = self.exchange.arrived.take(encoded.bytes());
        let room = if encoded.share.is_some() { Room::Some } else { Room::None };
        (room, Arc::new(encoded))
    }

    fn admit(&mut self, target: &Target, room: Room, message: Arc<Encoded>) {
        let Target { gate, epoch, seq, .. } = *target;
        let message = Envelope::Encoded(message);
        self.entering.push((room, Packet { gate, epoch, seq, message }));
        if self.entering.len() >= ENTERING_MAX {
            self.enter();
        }
    }

    /// Hands what was gathered to its port.
    fn enter(&mut self) {
        if let Some(entry) = &self.to
            && !self.entering.is_empty()
        {
            entry.arrive(&self.here, self.from, &mut self.entering, &mut self.out);
        }
    }

    /// All have come; whether there were any.
    fn end(mut self) -> bool {
        self.enter();
        self.any
    }
}

impl Exchange {
    /// Tells sending nodes about their packets; takes all of them.
    pub(super) fn signal_all(&self, signals: &mut Vec<(Incarnation, Signal)>) {
        let mut signals = signals.drain(..).peekable();
        while let Some((to, signal)) = signals.next() {
            let Signal::Confirm { epoch, mut seq } = signal else {
                self.send_signal(to, signal);
                continue;
            };
            let mut messages = 1;
            let same = |next: &(Incarnation, Signal)| {
                next.0 == to && matches!(next.1, Signal::Confirm { epoch: its, .. } if its == epoch)
            };
            while let Some((_, Signal::Confirm { seq: next, .. })) = signals.next_if(same) {
                seq = seq.max(next);
                messages += 1;
            }
            self.confirm(to, epoch, seq, messages);
        }
    }

    /// Tells a sending node about its packet.
    fn signal(&self, to: Incarnation, signal: Signal) {
        match signal {
            Signal::Confirm { epoch, seq } => self.confirm(to, epoch, seq, 1),
            other => self.send_signal(to, other),
        }
    }

    fn confirm(&self, to: Incarnation, epoch: u64, seq: u64, messages: u32) {
        let mut all = lock(&self.confirmations);
        let due = all.entry(to).or_default().add(epoch, seq, messages);
        drop(all);
        if let Some(due) = due {
            self.look_by(due);
        }
    }

    /// Sends the confirmations of a peer of which many wait.
    fn confirm_many(&self, to: Incarnation) {
        let mut all = lock(&self.confirmations);
        let many = all.get_mut(&to).filter(|pending| pending.is_due());
        let confirmed = many.map(Pending::take).unwrap_or_default();
        drop(all);
        for (epoch, seq) in confirmed {
            self.send_signal(to, Signal::Confirm { epoch, seq });
        }
    }

    /// Sends confirmations that no end of a batch has sent in time; says when others are to be.
    pub(super) fn flush_confirmations(&self, now: Time) -> Option<Time> {
        let (mut late, mut next) = (Vec::new(), None);
        for (peer, pending) in lock(&self.confirmations).iter_mut() {
            if pending.due.is_some_and(|due| due > now) {
                next = earlier(next, pending.due);
                continue;
            }
            late.extend(pending.take().into_iter().map(|(epoch, seq)| (*peer, epoch, seq)));
        }
        for (peer, epoch, seq) in late {
            self.send_signal(peer, Signal::Confirm { epoch, seq });
        }
        next
    }

    fn send_signal(&self, to: Incarnation, signal: Signal) {
        let Ok(frame) = OutFrame::lane(&MessageFrame::Signal(signal)) else {
            return;
        };
        // Not behind the messages: a link that is full of them must still say what became of those that came.
        match self.send_frame(to, Lane::Control, frame) {
            Ok(()) => {}
            // Its session has ended: the sender asks again and sends again.
            Err(SendError::NoSession) => tracing::debug!(%to, "a signal had no session to go by"),
            // The sender would wait for it for ever; the end of the session makes it ask again.
            Err(SendError::Full) => {
                tracing::warn!(%to, "a node does not read its signals: its session is ended");
                self.end_session(to);
            }
        }
    }
}

fn epoch_of(signal: Signal) -> u64 {
    match signal {
        Signal::Confirm { epoch, .. }
        | Signal::Admitted { epoch, .. }
        | Signal::Refused { epoch, .. }
        | Signal::Missing { epoch, .. }
        | Signal::NotHere { epoch, .. }
        | Signal::Moving { epoch, .. }
        | Signal::Room { epoch } => epoch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_wait_for_more_messages_the_more_names_they_are_for() {
        for (names, expected) in [(1, 256), (20, 256), (100, 800), (500, 4_000), (5_000, 5_000)] {
            let mut pending = Pending::default();
            let mut messages = 0;
            while !pending.is_due() {
                pending.add(u64::from(messages % names), 1, 1);
                messages += 1;
            }
            // Of 5,000 names not even each has one by then.
            assert_eq!(messages, expected.min(CONFIRM_EVERY_MAX), "{names} names");
            assert_eq!(pending.take().len() as u32, names.min(messages));
            assert!(!pending.is_due());
        }
    }
}
