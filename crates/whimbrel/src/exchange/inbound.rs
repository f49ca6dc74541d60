//! What arrives from other nodes on the message lane, and what is answered.
//!
//! Confirmations are merged to the highest of each epoch, and sent when [`CONFIRM_EVERY`] messages of a peer wait for
//! theirs, or [`CONFIRM_WITHIN`] has passed: they free memory of the sender and nobody waits for them, so a lone call does
//! not pay for a frame and a wake-up of its own. Other signals go out at once: each signal is a fact that stays true,
//! so order does not matter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::base::{Incarnation, Time};
use whimbrel_core::delivery::{CallId, Here, Lane, Packet, Room, Signal};
use whimbrel_core::node::Input;
use whimbrel_core::wire::frame::{Message, MessageFrame};

use super::envelope::{Encoded, Envelope, Head, Label};
use super::sweep::earlier;
use super::{Exchange, lock};
use crate::clock;
use crate::driver::Command;
use crate::message::reply::{Caller, ReplyTo};
use crate::transport::{Inbound, OutFrame, SendError};

/// How often the node is told at most that a peer was heard.
const HEARD_EVERY: Duration = Duration::from_millis(100);

/// Messages of one peer after which they are confirmed at the end of the read: far below the room of a route.
const CONFIRM_EVERY: u32 = 256;

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
    heard: Option<Time>,
}

impl Pending {
    /// Adds one; says when to send, if nothing waited before it.
    fn add(&mut self, epoch: u64, seq: u64) -> Option<Time> {
        let highest = self.confirmed.entry(epoch).or_default();
        *highest = seq.max(*highest);
        self.messages = self.messages.saturating_add(1);
        if self.due.is_none() {
            self.due = Some(clock::time() + CONFIRM_WITHIN);
            return self.due;
        }
        None
    }

    fn take(&mut self) -> BTreeMap<u64, u64> {
        self.messages = 0;
        self.due = None;
        std::mem::take(&mut self.confirmed)
    }
}

impl Inbound for Exchange {
    fn on_frame(&self, from: Incarnation, frame: MessageFrame) {
        match frame {
            MessageFrame::Message(message) => self.on_message(from, message),
            MessageFrame::Signal(signal) => {
                if let Some(entry) = self.entry_of_epoch(epoch_of(signal)) {
                    entry.on_signal(from, signal);
                }
            }
            MessageFrame::Reply(reply) => self.on_reply(from, reply),
        }
    }

    fn on_batch_end(&self, from: Incarnation) {
        let now = clock::time();
        let mut all = lock(&self.confirmations);
        let pending = all.entry(from).or_default();
        let confirmed = match pending.messages >= CONFIRM_EVERY {
            true => pending.take(),
            false => BTreeMap::new(),
        };
        let tell = pending.heard.is_none_or(|heard| now.since(heard) >= HEARD_EVERY);
        if tell {
            pending.heard = Some(now);
        }
        drop(all);
        for (epoch, seq) in confirmed {
            self.send_signal(from, Signal::Confirm { epoch, seq });
        }
        if tell {
            // A driver with a full queue has other evidence in it; this one is repeated.
            let _full = self.control.try_send(Command::Input(Input::Heard(from)));
        }
    }

    fn on_session_end(&self, peer: Incarnation, unsent: Vec<MessageFrame>) {
        lock(&self.confirmations).remove(&peer);
        for frame in unsent {
            let MessageFrame::Message(message) = frame else { continue };
            if let Some(call) = message.call {
                self.call_is_nowhere(CallId::from_u64(call));
            }
            if let Some(entry) = self.known(message.name.as_str()) {
                let Message { epoch, seq, .. } = message;
                entry.with_port(|port, here, out| port.on_unsent(here, peer, epoch, seq, out));
            }
        }
        self.calls_lost(peer);
        for entry in self.all_entries() {
            entry.with_port(|port, here, out| port.on_host_lost(here, peer, out));
        }
    }
}

impl Exchange {
    fn on_message(&self, from: Incarnation, message: Message) {
        let Message {
            name, kind, message, gate, epoch, seq, call, remaining_ms, sender, codec, payload, ..
        } = message;
        // A sender that this node's view does not contain was excluded, or is ahead; it asks the owner again.
        let member = self.view.load().as_ref().is_some_and(|view| view.contains(from));
        let Some(entry) = self.known(name.as_str()).filter(|_| member) else {
            return self.signal(from, Signal::NotHere { epoch, seq });
        };
        let now = clock::time();
        let reply = call.map(|call| ReplyTo { at: Caller::At(from), call: CallId::from_u64(call) });
        let deadline = remaining_ms.map(|ms| now + Duration::from_millis(ms));
        let head = Head { reply, deadline, sender };
        let (kind, message) = (Label::There(kind), Label::There(message));
        let mut encoded = Encoded { head, kind, message, codec, payload, share: None, sending: None };
        encoded.share = self.arrived.take(encoded.bytes());
        let room = if encoded.share.is_some() { Room::Some } else { Room::None };
        let packet = Packet { gate, epoch, seq, message: Envelope::Encoded(Arc::new(encoded)) };
        entry.with_port(|port, here, out| port.on_packet(&Here { room, ..*here }, from, packet, out));
    }

    /// Tells a sending node about its packets.
    pub(super) fn signal(&self, to: Incarnation, signal: Signal) {
        let Signal::Confirm { epoch, seq } = signal else {
            return self.send_signal(to, signal);
        };
        let mut all = lock(&self.confirmations);
        let due = all.entry(to).or_default().add(epoch, seq);
        drop(all);
        if let Some(due) = due {
            self.look_by(due);
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
        | Signal::Room { epoch } => epoch,
    }
}
