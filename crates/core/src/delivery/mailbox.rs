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

/// Messages that wait for one process. There are very many of them, most of which hold nothing, and one at times: that
/// one has its place here, and only those behind it take memory of their own. Its numbers have 32 bits, and so have its
/// limits: a higher one is taken for the highest of these.
#[derive(Debug)]
pub(super) struct Mailbox<M> {
    first: Option<M>,
    /// Those behind the first; none without it. Not behind a pointer of its own: what sender and receiver both look at
    /// would be in one more place.
    others: VecDeque<M>,
    bytes: u32,
    messages_max: u32,
    bytes_max: u32,
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl<M: Expires> Mailbox<M> {
    pub(super) fn new(limits: MailboxLimits) -> Self {
        let (messages_max, bytes_max) = (narrow(limits.messages.max(1)), narrow(limits.bytes.max(1)));
        Self { first: None, others: VecDeque::new(), bytes: 0, messages_max, bytes_max }
    }

    pub(super) fn limits(&self) -> MailboxLimits {
        MailboxLimits { messages: self.messages_max as usize, bytes: self.bytes_max as usize }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &M> {
        self.first.iter().chain(&self.others)
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < self.messages_max as usize && self.bytes < self.bytes_max
    }

    pub(super) fn is_half_empty(&self) -> bool {
        self.len() <= self.messages_max as usize / 2 && self.bytes <= self.bytes_max / 2
    }

    /// Whether there is room is the caller's to know.
    pub(super) fn push(&mut self, message: M) {
        self.bytes = self.bytes.saturating_add(narrow(message.bytes()));
        match self.first {
            None => self.first = Some(message),
            Some(_) => self.others.push_back(message),
        }
    }

    /// Gives memory back if nothing waits.
    pub(super) fn rest(&mut self) {
        if self.first.is_none() && self.others.capacity() > RESTING_MESSAGES_MAX {
            self.others = VecDeque::new();
        }
    }

    pub(super) fn pop(&mut self) -> Option<M> {
        let message = self.first.take()?;
        self.first = self.others.pop_front();
        self.bytes = match self.first {
            // Also where the sum went beyond what can be counted.
            None => 0,
            Some(_) => self.bytes.saturating_sub(narrow(message.bytes())),
        };
        Some(message)
    }

    /// Puts these before all others.
    pub(super) fn put_before(&mut self, mut messages: VecDeque<M>) {
        messages.append(&mut self.take());
        self.first = messages.pop_front();
        self.others = messages;
        self.count_bytes();
    }

    /// Copies of all, in order.
    ///
    /// # Errors
    /// One can not leave this node.
    pub(super) fn copies(&mut self) -> Result<Vec<M>, ErrorCode>
    where
        M: Parcel,
    {
        let copies = self.first.iter_mut().chain(&mut self.others).map(Parcel::copy).collect();
        // To copy one may encode it, and then it takes another number of bytes.
        self.count_bytes();
        copies
    }

    fn count_bytes(&mut self) {
        self.bytes = narrow(self.iter().map(Expires::bytes).sum());
    }

    /// All, in order.
    pub(super) fn take(&mut self) -> VecDeque<M> {
        self.bytes = 0;
        let mut all = std::mem::take(&mut self.others);
        if let Some(first) = self.first.take() {
            all.push_front(first);
        }
        all
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
    fn messages_leave_in_their_order_however_many_wait() {
        let mut mailbox = Mailbox::new(MailboxLimits::default());
        let mut left = Vec::new();
        for id in 1..=9 {
            mailbox.push(note(id));
            if id % 3 == 0 {
                left.extend(mailbox.pop());
                mailbox.rest();
            }
        }
        assert_eq!((left.len(), mailbox.len()), (3, 6));
        left.extend(mailbox.pop());
        left.extend(mailbox.take());
        assert_eq!(left, (1..=9).map(note).collect::<Vec<_>>());
        assert!(mailbox.pop().is_none() && mailbox.len() == 0);
    }

    #[test]
    fn an_empty_one_takes_little_and_one_message_no_more() {
        // The message, and six words.
        let bytes = (size_of::<Mailbox<Box<Note>>>(), size_of::<Mailbox<Note>>());
        assert!(bytes.0 <= 8 + 48 && bytes.1 <= size_of::<Note>() + 48, "{bytes:?}");
        let mut mailbox = Mailbox::new(MailboxLimits { messages: usize::MAX, bytes: usize::MAX });
        mailbox.push(note(1));
        assert!((mailbox.others.capacity() == 0) && mailbox.has_room());
        (2..=100).for_each(|id| mailbox.push(note(id)));
        while mailbox.pop().is_some() {}
        assert!(mailbox.others.capacity() > 0);
        mailbox.rest();
        assert!((mailbox.others.capacity() == 0));
    }

    #[test]
    fn an_emptied_mailbox_has_all_its_room() {
        let mut mailbox = Mailbox::new(MailboxLimits { messages: 9, bytes: 100 });
        (1..=2).for_each(|id| mailbox.push(large(id)));
        assert_eq!(mailbox.take().len(), 2);
        assert!(mailbox.has_room() && mailbox.is_half_empty() && mailbox.len() == 0);
    }
}
