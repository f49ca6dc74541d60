//! The messages that wait for one process, in order, and how many may.
//!
//! Two limits, since a few large messages take as much memory as many small ones: it has room while it is below both.
//! So the message that reaches the limit of bytes may go beyond it, by its own size: a mailbox takes every message
//! that a frame can carry, however small its limit.

use std::collections::VecDeque;

use super::packet::{Expires, Parcel};
use crate::base::ErrorCode;
use crate::base::limits::{MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX};

/// Messages for which an empty mailbox keeps room: a process that is called now and then does not pay for new room
/// each time.
const RESTING_MESSAGES_MAX: usize = 8;

/// How much may wait in a mailbox. At least one message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Messages; default 16,384.
    pub messages: usize,
    /// Bytes of messages, as far as they are known: see [`Expires::bytes`]; default 64 MiB.
    pub bytes: usize,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self { messages: MAILBOX_MESSAGES_MAX, bytes: MAILBOX_BYTES_MAX }
    }
}

impl MailboxLimits {
    /// So many messages, and the default of bytes.
    pub fn of_messages(messages: usize) -> Self {
        Self { messages, ..Self::default() }
    }
}

/// Messages that wait for one process.
#[derive(Debug)]
pub(super) struct Mailbox<M> {
    messages: VecDeque<M>,
    bytes: usize,
    limits: MailboxLimits,
}

impl<M: Expires> Mailbox<M> {
    pub(super) fn new(limits: MailboxLimits) -> Self {
        let limits = MailboxLimits { messages: limits.messages.max(1), bytes: limits.bytes.max(1) };
        Self { messages: VecDeque::new(), bytes: 0, limits }
    }

    pub(super) fn limits(&self) -> MailboxLimits {
        self.limits
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &M> {
        self.messages.iter()
    }

    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < self.limits.messages && self.bytes < self.limits.bytes
    }

    pub(super) fn is_half_empty(&self) -> bool {
        self.messages.len() <= self.limits.messages / 2 && self.bytes <= self.limits.bytes / 2
    }

    /// Whether there is room is the caller's to know.
    pub(super) fn push(&mut self, message: M) {
        self.bytes += message.bytes();
        if self.messages.capacity() == 0 {
            // Most often it is taken before a second one comes.
            self.messages.reserve_exact(1);
        }
        self.messages.push_back(message);
    }

    /// Gives memory back if nothing waits.
    pub(super) fn rest(&mut self) {
        if self.messages.is_empty() && self.messages.capacity() > RESTING_MESSAGES_MAX {
            self.messages = VecDeque::new();
        }
    }

    pub(super) fn pop(&mut self) -> Option<M> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes();
        Some(message)
    }

    /// Puts these before all others.
    pub(super) fn put_before(&mut self, mut messages: VecDeque<M>) {
        messages.append(&mut self.messages);
        self.messages = messages;
        self.bytes = self.messages.iter().map(Expires::bytes).sum();
    }

    /// Copies of all, in order.
    ///
    /// # Errors
    /// One can not leave this node.
    pub(super) fn copies(&mut self) -> Result<Vec<M>, ErrorCode>
    where
        M: Parcel,
    {
        let copies = self.messages.iter_mut().map(Parcel::copy).collect();
        // To copy one may encode it, and then it takes another number of bytes.
        self.bytes = self.messages.iter().map(Expires::bytes).sum();
        copies
    }

    /// All, in order.
    pub(super) fn take(&mut self) -> VecDeque<M> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{Note, note};

    fn large(id: u64) -> Note {
        Note { bytes: 60, ..note(id) }
    }

    #[test]
    fn bytes_are_limited_beside_messages_and_one_message_always_fits() {
        let mut mailbox = Mailbox::new(MailboxLimits { messages: 9, bytes: 100 });
        assert!(mailbox.has_room());
        mailbox.push(large(1));
        assert!(mailbox.has_room() && !mailbox.is_half_empty());
        mailbox.push(large(2));
        assert!(!mailbox.has_room(), "120 bytes");
        assert_eq!(mailbox.pop(), Some(large(1)));
        assert!(mailbox.has_room() && !mailbox.is_half_empty());
        assert_eq!(mailbox.pop(), Some(large(2)));
        assert!(mailbox.is_half_empty());
        let tiny = Mailbox::<Note>::new(MailboxLimits { messages: 0, bytes: 0 });
        assert!(tiny.has_room());
    }

    #[test]
    fn an_emptied_mailbox_has_all_its_room() {
        let mut mailbox = Mailbox::new(MailboxLimits { messages: 9, bytes: 100 });
        (1..=2).for_each(|id| mailbox.push(large(id)));
        assert_eq!(mailbox.take().len(), 2);
        assert!(mailbox.has_room() && mailbox.is_half_empty() && mailbox.len() == 0);
    }
}
