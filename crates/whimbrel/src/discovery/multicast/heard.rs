//! Who was heard, and which genuine packets count.
//!
//! A recorded packet is genuine too, so each counts once: it must be within a minute of this node's clock, and newer
//! than the last one of its sender. A sender is remembered for longer than its packets can be played again, so no
//! other memory is needed and what there is has a limit. A full table refuses new senders instead
//! of forgetting old ones: nobody can make room for a replay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_core::base::{Address, Now, Time};

use super::PacketFate;
use super::packet::{Packet, Sender, new_sender};

/// How far the clock of a sender may be from this node's.
const WINDOW: Duration = Duration::from_secs(60);
/// How long after it was heard a packet may still pass for new: its sender's clock may have been a window ahead.
const REPLAYABLE: Duration = Duration::from_secs(2 * WINDOW.as_secs());
/// How long a silent sender is remembered.
const KEPT: Duration = Duration::from_secs(600);
/// Senders that are remembered.
const SENDERS_MAX: usize = 1_024;

/// What a genuine packet tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is this node's own.
    Own,
    /// Its sender was never heard before, or not from there.
    Newcomer,
    /// Its sender is still there.
    Known,
}

#[derive(Debug)]
struct Last {
    address: Address,
    sent_ms: u64,
    heard: Time,
}

/// The table of senders.
#[derive(Debug)]
pub(super) struct Heard {
    own: Sender,
    own_sent_ms: u64,
    senders: BTreeMap<Sender, Last>,
}

impl Heard {
    pub(super) const fn new(own: Sender) -> Self {
        Self { own, own_sent_ms: 0, senders: BTreeMap::new() }
    }

    /// Under which sender a packet goes out now. A clock that was set back begins another: under the old one others
    /// would take the packet for a replay.
    pub(super) fn own_sender(&mut self, now: Now) -> Result<Sender, getrandom::Error> {
        if now.wall_ms < self.own_sent_ms {
            self.own = new_sender()?;
        }
        self.own_sent_ms = now.wall_ms;
        Ok(self.own)
    }

    pub(super) fn take(&mut self, packet: Packet, now: Now) -> Result<News, PacketFate> {
        if packet.sender == self.own {
            return Ok(News::Own);
        }
        if u128::from(packet.sent_ms.abs_diff(now.wall_ms)) > WINDOW.as_millis() {
            return Err(PacketFate::Old);
        }
        let last = Last { address: packet.address, sent_ms: packet.sent_ms, heard: now.time };
        match self.senders.get_mut(&packet.sender) {
            Some(known) if packet.sent_ms <= known.sent_ms => Err(PacketFate::Replayed),
            Some(known) => {
                let same = known.address == last.address;
                *known = last;
                Ok(if same { News::Known } else { News::Newcomer })
            }
            None => {
                if self.senders.len() >= SENDERS_MAX {
                    self.forget(now.time);
                }
                if self.senders.len() >= SENDERS_MAX {
                    return Err(PacketFate::Full);
                }
                self.senders.insert(packet.sender, last);
                Ok(News::Newcomer)
            }
        }
    }

    /// Forgets who was silent for long. Of several at one address, such as the lives of a program that is started
    /// again and again, the others than the last go as soon as none of their packets can be played again.
    pub(super) fn forget(&mut self, now: Time) {
        let mut newest: BTreeMap<Address, Time> = BTreeMap::new();
        for last in self.senders.values() {
            let newest = newest.entry(last.address.clone()).or_default();
            *newest = last.heard.max(*newest);
        }
        self.senders.retain(|_, last| {
            let is_newest = newest.get(&last.address) == Some(&last.heard);
            now.since(last.heard) < if is_newest { KEPT } else { REPLAYABLE }
        });
    }

    /// Where nodes are, in order.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let addresses: BTreeSet<&Address> =
            self.senders.values().map(|last| &last.address).filter(|address| !address.is_empty()).collect();
        addresses.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const START_MS: u64 = 1_790_000_000_000;

    fn after(ms: u64) -> Now {
        Now { time: Time::from_micros(1 + ms * 1_000), wall_ms: START_MS + ms }
    }

    fn packet(sender: u16, sent_ms: u64, address: &str) -> Packet {
        let mut id = [9; 16];
        id[..2].copy_from_slice(&sender.to_be_bytes());
        Packet { sender: id, sent_ms, address: Address::from(address) }
    }

    #[test]
    fn each_packet_counts_once() {
        let mut heard = Heard::new([0; 16]);
        assert_eq!(heard.take(packet(1, START_MS, "a:1"), after(0)), Ok(News::Newcomer));
        assert_eq!(heard.take(packet(1, START_MS, "a:1"), after(1)), Err(PacketFate::Replayed));
        assert_eq!(heard.take(packet(1, START_MS + 4_000, "a:1"), after(4_000)), Ok(News::Known));
        assert_eq!(heard.take(packet(1, START_MS + 5_000, "b:1"), after(5_000)), Ok(News::Newcomer));
        assert_eq!(heard.take(packet(1, START_MS, "a:1"), after(5_001)), Err(PacketFate::Replayed));
        assert_eq!(heard.addresses(), [Address::from("b:1")]);
    }

    #[test]
    fn packets_from_another_minute_do_not_count() {
        let mut heard = Heard::new([0; 16]);
        for off in [60_001, 3_600_000] {
            assert_eq!(heard.take(packet(1, START_MS - off, "a:1"), after(0)), Err(PacketFate::Old));
            assert_eq!(heard.take(packet(1, START_MS + off, "a:1"), after(0)), Err(PacketFate::Old));
        }
        assert_eq!(heard.take(packet(1, u64::MAX, "a:1"), after(0)), Err(PacketFate::Old));
        assert_eq!(heard.take(packet(1, 0, "a:1"), after(0)), Err(PacketFate::Old));
        assert_eq!(heard.take(packet(1, START_MS - 60_000, "a:1"), after(0)), Ok(News::Newcomer));
    }

    #[test]
    fn a_packet_is_too_old_before_its_sender_is_forgotten() {
        let mut heard = Heard::new([0; 16]);
        let ahead = START_MS + 60_000;
        heard.take(packet(1, ahead, "a:1"), after(0)).unwrap();
        for ms in (0..700_000).step_by(1_000) {
            heard.forget(after(ms).time);
            heard.take(packet(1, ahead, "a:1"), after(ms)).unwrap_err();
        }
        assert_eq!(heard.addresses(), [], "silent for ten minutes");
    }

    #[test]
    fn of_many_lives_at_one_address_only_those_that_could_be_played_again_are_remembered() {
        let mut heard = Heard::new([0; 16]);
        heard.take(packet(0, START_MS, "b:1"), after(0)).unwrap();
        for life in 1..50 {
            let ms = u64::from(life) * 10_000;
            heard.take(packet(life, START_MS + ms, "a:1"), after(ms)).unwrap();
            heard.forget(after(ms).time);
            assert!(heard.senders.len() <= 1 + 12, "{}", heard.senders.len());
        }
        assert_eq!(heard.addresses(), [Address::from("a:1"), Address::from("b:1")]);
        let replayed = heard.take(packet(49, START_MS + 490_000, "a:1"), after(490_000));
        assert_eq!(replayed, Err(PacketFate::Replayed));
    }

    #[test]
    fn own_packets_are_known_and_a_clock_set_back_begins_another_sender() {
        let mut heard = Heard::new([0; 16]);
        let first = heard.own_sender(after(5_000)).unwrap();
        let own = Packet { sender: first, sent_ms: START_MS + 5_000, address: Address::from("a:1") };
        assert_eq!(heard.take(own, after(5_000)), Ok(News::Own));
        assert_eq!(heard.own_sender(after(10_000)).unwrap(), first);
        assert_ne!(heard.own_sender(after(9_000)).unwrap(), first);
        assert_eq!(heard.addresses(), []);
    }

    #[test]
    fn who_only_listens_has_no_address() {
        let mut heard = Heard::new([0; 16]);
        assert_eq!(heard.take(packet(1, START_MS, ""), after(0)), Ok(News::Newcomer));
        assert_eq!(heard.addresses(), []);
    }

    #[test]
    fn a_full_table_refuses_newcomers_until_somebody_was_silent_for_long() {
        let mut heard = Heard::new([0; 16]);
        for sender in 0..SENDERS_MAX as u16 {
            heard.take(packet(sender, START_MS, "a:1"), after(0)).unwrap();
        }
        let newcomer = SENDERS_MAX as u16;
        assert_eq!(heard.take(packet(newcomer, START_MS, "b:1"), after(1)), Err(PacketFate::Full));
        assert_eq!(heard.take(packet(0, START_MS + 1, "a:1"), after(1)), Ok(News::Known));
        let later = START_MS + 600_000;
        assert_eq!(heard.take(packet(newcomer, later, "b:1"), after(600_000)), Ok(News::Newcomer));
        assert_eq!(heard.addresses(), [Address::from("a:1"), Address::from("b:1")]);
    }
}
