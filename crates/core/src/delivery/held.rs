//! Packets that came before one that is missing.
//!
//! At most 64 per sending node life; what comes beyond is dropped, since the sender keeps it and sends it again
//! from the missing number on. Empty almost always: links deliver in order.

use std::time::Duration;

use crate::base::{Few, Incarnation, Time};

/// Packets held per sending node life.
pub const HELD_MAX: usize = 64;
/// How long a gap may last before the sender is asked for the missing packet, and between two such questions.
pub const GAP_PATIENCE: Duration = Duration::from_millis(200);

/// Whether a packet was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was.
    Held,
    /// There was no room, a copy of it is held, or its epoch is over.
    Dropped,
}

#[derive(Debug)]
struct Waiting<M> {
    from: Incarnation,
    epoch: u64,
    ask_at: Time,
    /// By number.
    packets: Vec<(u64, M)>,
}

/// All packets held before one gate.
#[derive(Debug)]
pub struct Held<M> {
    senders: Few<Waiting<M>>,
}

impl<M> Default for Held<M> {
    fn default() -> Self {
        Self { senders: Few::default() }
    }
}

impl<M> Held<M> {
    /// Holds nothing.
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// When the next sender is to be asked.
    pub fn next_deadline(&self) -> Option<Time> {
        self.senders.iter().map(|waiting| waiting.ask_at).min()
    }

    /// Keeps a packet until those before it have come. A higher epoch drops what is held of a lower one: the sender
    /// has abandoned that.
    pub fn hold(&mut self, from: Incarnation, epoch: u64, seq: u64, message: M, now: Time) -> Kept {
        let index = self.senders.iter().position(|w| w.from == from).unwrap_or_else(|| {
            let ask_at = now + GAP_PATIENCE;
            self.senders.push(Waiting { from, epoch, ask_at, packets: Vec::new() });
            self.senders.len() - 1
        });
        let waiting = &mut self.senders[index];
        if epoch < waiting.epoch {
            return Kept::Dropped;
        }
        if epoch > waiting.epoch {
            *waiting = Waiting { from, epoch, ask_at: now + GAP_PATIENCE, packets: Vec::new() };
        }
        match waiting.packets.binary_search_by_key(&seq, |(seq, _)| *seq) {
            Ok(_) => Kept::Dropped,
            Err(_) if waiting.packets.len() >= HELD_MAX => Kept::Dropped,
            Err(at) => {
                waiting.packets.insert(at, (seq, message));
                Kept::Held
            }
        }
    }

    /// `seq` is the next number that the gate expects: takes that packet, and drops what stands before it.
    pub fn take(&mut self, from: Incarnation, epoch: u64, seq: u64, now: Time) -> Option<M> {
        let index = self.senders.iter().position(|w| w.from == from && w.epoch <= epoch)?;
        let waiting = &mut self.senders[index];
        // The gate has just moved on: what is missing now, is missing since now.
        waiting.ask_at = now + GAP_PATIENCE;
        let lower_epoch = waiting.epoch < epoch;
        waiting.packets.retain(|(held, _)| *held >= seq && !lower_epoch);
        let found = waiting.packets.first().is_some_and(|(held, _)| *held == seq);
        let message = found.then(|| waiting.packets.remove(0).1);
        if waiting.packets.is_empty() {
            self.senders.swap_remove(index);
        }
        message
    }

    /// Senders that are to be asked now, with their epoch. Each is due again after the same time.
    pub fn due(&mut self, now: Time) -> impl Iterator<Item = (Incarnation, u64)> + '_ {
        self.senders.iter_mut().filter(move |waiting| waiting.ask_at <= now).map(move |waiting| {
            waiting.ask_at = now + GAP_PATIENCE;
            (waiting.from, waiting.epoch)
        })
    }

    /// Drops the packets of senders that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(Incarnation) -> bool) {
        self.senders.retain(|waiting| keep(waiting.from));
    }

    /// Drops everything; the numbers of what was held, each a copy that was not admitted.
    pub fn drain(&mut self) -> impl Iterator<Item = (Incarnation, u64, u64)> + '_ {
        self.senders.take().into_iter().flat_map(|waiting| {
            waiting.packets.into_iter().map(move |(seq, _)| (waiting.from, waiting.epoch, seq))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::incarnation;

    #[test]
    fn packets_come_out_when_it_is_their_turn() {
        let (mut held, from, now) = (Held::default(), incarnation(1), Time::ZERO);
        for seq in [4, 2, 3, 6] {
            assert_eq!(held.hold(from, 1, seq, seq, now), Kept::Held);
        }
        assert_eq!(held.hold(from, 1, 3, 3, now), Kept::Dropped, "one copy is enough");
        assert_eq!(held.take(from, 1, 1, now), None);
        assert_eq!(held.take(from, 1, 2, now), Some(2));
        assert_eq!(held.take(from, 1, 4, now), Some(4), "what was decided meanwhile is dropped");
        assert_eq!(held.take(from, 1, 5, now), None);
        assert_eq!(held.take(from, 2, 1, now), None, "a new epoch drops the old one");
        assert!(held.is_empty());
    }

    #[test]
    fn the_limit_and_a_lower_epoch_drop() {
        let (mut held, from, now) = (Held::default(), incarnation(1), Time::ZERO);
        for seq in 0..HELD_MAX as u64 {
            assert_eq!(held.hold(from, 2, seq + 2, (), now), Kept::Held);
        }
        assert_eq!(held.hold(from, 2, 900, (), now), Kept::Dropped);
        assert_eq!(held.hold(from, 1, 2, (), now), Kept::Dropped);
        assert_eq!(held.hold(incarnation(2), 1, 2, (), now), Kept::Held, "another sender has its own room");
        assert_eq!(held.drain().count(), HELD_MAX + 1);
    }

    #[test]
    fn a_gap_is_asked_about_again_and_again() {
        let (mut held, from) = (Held::default(), incarnation(1));
        assert_eq!(held.next_deadline(), None);
        held.hold(from, 1, 2, (), Time::ZERO);
        for _ in 0..3 {
            let Some(at) = held.next_deadline() else { panic!("a gap has no deadline") };
            assert_eq!(held.due(Time::from_micros(at.as_micros() - 1)).count(), 0);
            assert_eq!(held.due(at).collect::<Vec<_>>(), [(from, 1)]);
        }
    }
}
