//! The messages of one epoch that were sent and are not decided, with how many copies of each may still arrive.
//!
//! A copy is *out* from when it was handed to a link until it is known that it will not be admitted: the link never
//! wrote it, or the node it reached answered `NotHere`. A number of which no copy is out can not be admitted in its
//! epoch any more, once nobody sends it again; and since a gate admits in order, no number behind it can.

use std::collections::VecDeque;

use super::packet::{Errand, Parcel};

#[derive(Debug)]
struct Sent<M> {
    seq: u64,
    message: M,
    copies: u32,
}

/// Messages sent and not decided, by number.
#[derive(Debug)]
pub(super) struct Unconfirmed<M> {
    sent: VecDeque<Sent<M>>,
    bytes: usize,
}

/// What becomes of the messages of an epoch that is over.
#[derive(Debug)]
pub(super) struct Abandoned<M> {
    /// May have been admitted.
    pub(super) unknown: Vec<M>,
    /// Never admitted, in order.
    pub(super) never: Vec<M>,
}

impl<M: Parcel> Unconfirmed<M> {
    pub(super) fn new() -> Self {
        Self { sent: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// The lowest number that is not decided.
    pub(super) fn first(&self) -> Option<u64> {
        self.sent.front().map(|sent| sent.seq)
    }

    /// A message whose first copy is being sent; its number is higher than all here.
    pub(super) fn push(&mut self, seq: u64, message: M) {
        debug_assert!(self.sent.back().is_none_or(|last| last.seq < seq), "numbers rise");
        self.bytes += message.bytes();
        self.sent.push_back(Sent { seq, message, copies: 1 });
    }

    /// Takes back the message pushed last, if it has this number and was sent once.
    pub(super) fn pop(&mut self, seq: u64) -> Option<M> {
        self.sent.back().filter(|last| last.seq == seq && last.copies == 1)?;
        let last = self.sent.pop_back()?;
        self.bytes -= last.message.bytes();
        Some(last.message)
    }

    /// Everything up to `seq` is decided. Returns how many that were.
    pub(super) fn confirm(&mut self, seq: u64) -> usize {
        let decided = self.sent.partition_point(|sent| sent.seq <= seq);
        self.bytes -= self.sent.drain(..decided).map(|sent| sent.message.bytes()).sum::<usize>();
        decided
    }

    /// This number is decided.
    pub(super) fn take(&mut self, seq: u64) -> Option<M> {
        let index = self.find(seq)?;
        let taken = self.sent.remove(index)?;
        self.bytes -= taken.message.bytes();
        Some(taken.message)
    }

    /// One copy of this number is not out any more.
    pub(super) fn returned(&mut self, seq: u64) {
        if let Some(index) = self.find(seq) {
            let copies = &mut self.sent[index].copies;
            *copies = copies.saturating_sub(1);
        }
    }

    /// One copy of each is not out any more.
    pub(super) fn returned_from_all(&mut self) {
        self.sent.iter_mut().for_each(|sent| sent.copies = sent.copies.saturating_sub(1));
    }

    /// Takes back a message that fails fast, if no copy of it is out; its number is still to be used up.
    pub(super) fn withdraw(&mut self, seq: u64) -> Option<M> {
        let index = self.find(seq)?;
        let Sent { message, copies: 0, .. } = &mut self.sent[index] else { return None };
        if message.errand() != Errand::FailFast {
            return None;
        }
        let void = message.void();
        self.bytes = self.bytes + void.bytes() - message.bytes();
        Some(std::mem::replace(message, void))
    }

    /// Only for a planted bug: what was taken back is sent all the same.
    pub(super) fn put_back(&mut self, seq: u64, message: M) {
        if let Some(index) = self.find(seq) {
            self.bytes = self.bytes + message.bytes() - self.sent[index].message.bytes();
            self.sent[index].message = message;
        }
    }

    /// Another copy of each from this number on, to be sent now.
    pub(super) fn copies_from(&mut self, seq: u64) -> impl Iterator<Item = (u64, M)> + '_ {
        self.sent.iter_mut().filter(move |sent| sent.seq >= seq).filter_map(|sent| {
            // What was copied once can be copied again; if not, the gate will ask for it.
            let copy = sent.message.copy().ok()?;
            sent.copies += 1;
            Some((sent.seq, copy))
        })
    }

    /// Those that were not admitted, for all that is known, or may find their gate elsewhere: of which no copy is out, or
    /// all that went to a host which left in order.
    pub(super) fn not_lost(&self, in_order: bool) -> impl Iterator<Item = &M> {
        self.sent.iter().filter(move |sent| in_order || sent.copies == 0).map(|sent| &sent.message)
    }

    /// All, by number.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, M)> + '_ {
        self.bytes = 0;
        self.sent.drain(..).map(|sent| (sent.seq, sent.message))
    }

    /// Whether something of it may have been admitted, for all that is known here.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.sent.front().is_some_and(|first| first.copies > 0)
    }

    /// The epoch is over: nothing of it is sent again.
    pub(super) fn abandon(&mut self) -> Abandoned<M> {
        self.bytes = 0;
        let never = self.sent.iter().position(|sent| sent.copies == 0).unwrap_or(self.sent.len());
        let never = self.sent.split_off(never).into_iter().map(|sent| sent.message);
        let never = never.filter(|message| message.errand() != Errand::Void).collect();
        Abandoned { unknown: self.sent.drain(..).map(|sent| sent.message).collect(), never }
    }

    fn find(&self, seq: u64) -> Option<usize> {
        self.sent.binary_search_by_key(&seq, |sent| sent.seq).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{Note, note};

    fn three() -> Unconfirmed<Note> {
        let mut unconfirmed = Unconfirmed::new();
        (1..=3).for_each(|seq| unconfirmed.push(seq, note(seq)));
        unconfirmed
    }

    #[test]
    fn what_may_have_been_admitted_is_told_from_what_was_not() {
        // (copies sent of all, numbers returned): how many are unknown
        let cases: [(usize, &[u64], usize); 6] = [
            (1, &[], 3),
            (1, &[3], 2),
            (1, &[1], 0),
            (1, &[2, 3], 1),
            (2, &[1, 2, 3], 3),
            (2, &[2, 2, 2], 1),
        ];
        for (copies, returned, expected) in cases {
            let mut unconfirmed = three();
            (1..copies).for_each(|_| assert_eq!(unconfirmed.copies_from(0).count(), 3));
            returned.iter().for_each(|seq| unconfirmed.returned(*seq));
            let Abandoned { unknown, never } = unconfirmed.abandon();
            assert_eq!((unknown.len(), never.len()), (expected, 3 - expected), "{copies} {returned:?}");
        }
    }

    #[test]
    fn decided_numbers_go_and_only_the_last_sent_once_comes_back() {
        let mut unconfirmed = three();
        assert_eq!((unconfirmed.pop(2), unconfirmed.take(2)), (None, Some(note(2))));
        assert_eq!((unconfirmed.confirm(2), unconfirmed.first()), (1, Some(3)));
        assert_eq!(unconfirmed.copies_from(3).count(), 1);
        assert_eq!(unconfirmed.pop(3), None);
        assert_eq!((unconfirmed.confirm(9), unconfirmed.confirm(9)), (1, 0));
    }
}
