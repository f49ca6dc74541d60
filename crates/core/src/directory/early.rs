//! Messages of views that this node has not installed yet: kept until it has, within limits.
//!
//! Their senders may be members of that view, or may only say so: nobody can tell before the view is there. So one
//! sender gets a part of the room only, and all of them together no more than is lost when it runs over: everything
//! here is said again by whoever needs an answer.

use std::collections::{BTreeMap, VecDeque};

use super::message::Message;
use crate::base::Incarnation;
use crate::base::bytes::encoded_bytes;
use crate::base::limits::EARLY_MAX;
use crate::view::ViewId;

/// Their bytes, as they were on the wire.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of both, one sender gets at most one part in this many.
const SHARES: usize = 4;

/// A message that came before its view.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) from: Incarnation,
    pub(super) view: ViewId,
    pub(super) message: Message,
}

/// All of them, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct EarlyMessages {
    messages: VecDeque<Early>,
    bytes: usize,
    /// What is there of each sender.
    shares: BTreeMap<Incarnation, Share>,
}

#[derive(Debug, Default)]
struct Share {
    messages: usize,
    bytes: usize,
}

impl EarlyMessages {
    /// Keeps one, unless there is no room for it.
    pub(super) fn push(&mut self, from: Incarnation, view: ViewId, message: Message) {
        let bytes = encoded_bytes(&message);
        if self.messages.len() >= EARLY_MAX || self.bytes + bytes > BYTES_MAX {
            return;
        }
        let own = self.shares.entry(from).or_default();
        if own.messages < EARLY_MAX / SHARES && own.bytes + bytes <= BYTES_MAX / SHARES {
            own.messages += 1;
            own.bytes += bytes;
            self.bytes += bytes;
            self.messages.push_back(Early { from, view, message });
        }
    }

    /// Takes all out.
    pub(super) fn take(&mut self) -> VecDeque<Early> {
        self.bytes = 0;
        self.shares.clear();
        std::mem::take(&mut self.messages)
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn clear(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SlotId;

    fn life(nonce: u64) -> Incarnation {
        Incarnation { started_ms: 1, nonce }
    }

    /// A message of about this many bytes.
    fn message(bytes: usize) -> Message {
        Message::Opened(vec![SlotId(0); bytes])
    }

    #[test]
    fn one_sender_fills_its_part_and_leaves_room_for_others() {
        let view = ViewId { counter: 9, author: 9 };
        let mut early = EarlyMessages::default();
        for _ in 0..2 * EARLY_MAX {
            early.push(life(1), view, message(1));
        }
        assert_eq!(early.messages.len(), EARLY_MAX / SHARES);
        for _ in 0..64 {
            early.push(life(2), view, message(1_000_000));
        }
        assert!(early.bytes <= BYTES_MAX / SHARES + EARLY_MAX * 16, "{}", early.bytes);
        early.push(life(3), view, message(1_000));
        let last = early.take().pop_back();
        assert_eq!(last.map(|early| early.from), Some(life(3)));
        assert_eq!(early.bytes, 0);
        early.push(life(1), view, message(1));
        assert_eq!(early.messages.len(), 1, "its part is free again");
    }
}
