//! What the parts of the message path hand to each other.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{ErrorCode, Executed, Incarnation, Time, Token};

/// A message that waits: until when, and how much memory it takes meanwhile.
pub trait Expires {
    /// After this time nobody waits for it; it is not delivered any more while it waits unsent.
    fn deadline(&self) -> Option<Time>;

    /// About how many bytes it takes, as far as that is known; the same for as long as it lies in one place.
    fn bytes(&self) -> usize;

    /// What it is sent for.
    fn errand(&self) -> Errand {
        Errand::Deliver
    }

    /// What uses up its number when it is taken back: a message of [`Errand::Void`].
    fn void(&self) -> Self
    where
        Self: Sized;
}

/// What a message is sent for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Errand {
    /// To be handled, however long its process is on its way to another node.
    #[default]
    Deliver,
    /// To be handled, or to end with `Moving` when the process is on its way.
    FailFast,
    /// To use up its number: its message has ended. Gates admit it, and mailboxes never see it.
    Void,
}

/// A message that can leave the node: a copy of it can be made for a link while the original is kept.
///
/// Everything that is `Clone` is a parcel. A message that is not encoded yet encodes itself in place and returns a
/// copy.
pub trait Parcel: Expires + Sized {
    /// A copy to be sent.
    ///
    /// # Errors
    /// The message can not leave the node; it ends with this code, not executed. Having succeeded once it must
    /// always succeed.
    fn copy(&mut self) -> Result<Self, ErrorCode>;
}

impl<M: Clone + Expires> Parcel for M {
    fn copy(&mut self) -> Result<Self, ErrorCode> {
        Ok(self.clone())
    }
}

/// Counts the epochs of one node life; all its ports share it.
#[derive(Debug, Default)]
pub struct Epochs(AtomicU64);

impl Epochs {
    /// The first epoch is 1.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// An epoch that no route of this node life had before.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Whether the node may keep more messages of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Some,
    /// All mailboxes together hold as much as they may: what comes is refused as if its own one were full.
    None,
}

/// What the node lends to a port for one input.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// This node's present life.
    pub me: Incarnation,
    /// The time of the input.
    pub now: Time,
    /// Epochs for routes that get a new gate.
    pub epochs: &'a Epochs,
    /// Whether a packet that arrives may be kept.
    pub room: Room,
}

/// Where a name can be reached: the part of the owner's answer that delivery needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The life of its host.
    pub host: Incarnation,
    /// Its present life.
    pub token: Token,
    /// The gate that admits its messages.
    pub gate: Token,
}

/// A message on its way to a gate. The name it is for is carried by the frame around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<M> {
    /// The gate it is meant for.
    pub gate: Token,
    /// The epoch of the sending node's route.
    pub epoch: u64,
    /// Its number in that epoch, from 1.
    pub seq: u64,
    /// The message.
    pub message: M,
}

/// What the hosting node tells the sending node about packets for one name.
///
/// Each is a fact that stays true, so their order does not matter, and of two `Confirm` of an epoch the lower can be
/// left out. None may be dropped while the session lasts: if a link has no room for one, its session must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Every number of this epoch up to this one was admitted.
    Confirm {
        /// The packet's epoch.
        epoch: u64,
        /// The highest number admitted.
        seq: u64,
    },
    /// This number was admitted; of those before it some were refused.
    Admitted {
        /// The packet's epoch.
        epoch: u64,
        /// Its number.
        seq: u64,
    },
    /// This number was not admitted and never will be.
    Refused {
        /// The packet's epoch.
        epoch: u64,
        /// The number, which is used up.
        seq: u64,
        /// Why.
        code: ErrorCode,
    },
    /// Later numbers came, and this one did not: send again from it on.
    Missing {
        /// The epoch.
        epoch: u64,
        /// The first number that is missing.
        seq: u64,
    },
    /// This copy of the packet was not admitted: its gate is not on this node.
    NotHere {
        /// The packet's epoch.
        epoch: u64,
        /// Its number.
        seq: u64,
    },
    /// This copy of the packet was not admitted, since its process is on its way. Said of [`Errand::FailFast`] alone.
    Moving {
        /// The packet's epoch.
        epoch: u64,
        /// Its number.
        seq: u64,
    },
    /// The mailbox that refused a packet of this epoch has room again.
    Room {
        /// The epoch.
        epoch: u64,
    },
}

/// A message that will not be delivered by this node any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended<M> {
    /// The message.
    pub message: M,
    /// Why.
    pub code: ErrorCode,
    /// Whether it may have been executed.
    pub executed: Executed,
}

/// What became of a message given to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent<M> {
    /// It is in the mailbox on this node: wake the process.
    Queued,
    /// Hand this packet to the link with `to`, before the port's lock is released.
    Transmit {
        /// The host.
        to: Incarnation,
        /// The packet.
        packet: Packet<M>,
    },
    /// It waits.
    Held {
        /// The owner is to be asked where the name is; the answer goes to the port.
        locate: bool,
    },
    /// It was not accepted and never will be executed.
    Refused {
        /// The message.
        message: M,
        /// Why.
        code: ErrorCode,
    },
}

/// What a port wants done after one input, in order within each list. Reused from input to input.
#[derive(Debug)]
pub struct PortOutput<M> {
    /// Packets to be handed to links before the port's lock is released.
    pub transmit: Vec<(Incarnation, Packet<M>)>,
    /// Messages that ended.
    pub ended: Vec<Ended<M>>,
    /// The owner is to be asked where the name is.
    pub locate: bool,
    /// The process has something to do.
    pub wake: bool,
    /// Signals to sending nodes.
    pub signals: Vec<(Incarnation, Signal)>,
}

impl<M> Default for PortOutput<M> {
    fn default() -> Self {
        Self { transmit: Vec::new(), ended: Vec::new(), locate: false, wake: false, signals: Vec::new() }
    }
}

impl<M> PortOutput<M> {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.transmit.is_empty()
            && self.ended.is_empty()
            && self.signals.is_empty()
            && !self.locate
            && !self.wake
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.transmit.clear();
        self.ended.clear();
        self.signals.clear();
        self.locate = false;
        self.wake = false;
    }

    pub(super) fn end(&mut self, message: M, code: ErrorCode, executed: Executed)
    where
        M: Expires,
    {
        // Of what was taken back the end was told before.
        if message.errand() != Errand::Void {
            self.ended.push(Ended { message, code, executed });
        }
    }
}
