//! The messages of a route that were never sent, in order, and when the first of them may expire.

use std::collections::VecDeque;

use super::packet::Expires;
use crate::base::Time;

/// Messages never sent.
#[derive(Debug)]
pub(super) struct Waiting<M> {
    messages: VecDeque<M>,
    bytes: usize,
    /// No deadline of a message here is earlier. One that was taken may have been the earliest: then the next look
    /// finds nothing and corrects it.
    earliest: Option<Time>,
}

impl<M: Expires> Waiting<M> {
    pub(super) fn new() -> Self {
        Self { messages: VecDeque::new(), bytes: 0, earliest: None }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// When [`Waiting::take_expired`] may find something.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.earliest
    }

    pub(super) fn push(&mut self, message: M) {
        self.note(&message);
        self.messages.push_back(message);
    }

    /// Puts these, in their order, before all others.
    pub(super) fn push_before(&mut self, messages: Vec<M>) {
        for message in messages.into_iter().rev() {
            self.note(&message);
            self.messages.push_front(message);
        }
    }

    /// The one that waits longest.
    pub(super) fn pop(&mut self) -> Option<M> {
        let message = self.messages.pop_front();
        self.bytes -= message.as_ref().map_or(0, M::bytes);
        if self.messages.is_empty() {
            self.earliest = None;
        }
        message
    }

    /// Those whose deadline has come.
    pub(super) fn take_expired(&mut self, now: Time) -> Vec<M> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        self.earliest = None;
        self.bytes = 0;
        let mut expired = Vec::new();
        for message in std::mem::take(&mut self.messages) {
            match message.deadline() {
                Some(deadline) if deadline <= now => expired.push(message),
                Some(_) | None => self.push(message),
            }
        }
        expired
    }

    fn note(&mut self, message: &M) {
        self.bytes += message.bytes();
        self.earliest = [self.earliest, message.deadline()].into_iter().flatten().min();
    }
}
