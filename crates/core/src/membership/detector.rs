//! Who of the view is alive: foca's verdicts, corrected by what the links saw.
//!
//! foca (SWIM) runs over our authenticated links. Its identity is (key, generation): the key is the nonce of an
//! incarnation, the generation is raised by foca when a member was wrongly declared down. So a false alarm that
//! live traffic vetoes costs a generation, never an incarnation.
//!
//! Evidence beside foca: a refused connection or a new incarnation is death at once ([`Detector::declare_dead`]);
//! traffic heard within D/2 vetoes a verdict ([`Detector::heard`]); a vetoed member that then falls silent is dead
//! D/2 after it was last heard. A verdict on a member that was not heard for D/2 may be hearsay: the member is asked, and
//! dead only if it has not been heard D/8 later.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    Foca, Identity, Member, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec, Runtime, Timer,
};
use serde::{Deserialize, Serialize};

use super::packet::{self, PACKET_BYTES_MAX};
use crate::base::{Incarnation, Rng, Time};

/// foca's name for an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) nonce: u64,
    pub(super) generation: u32,
}

impl Identity for Key {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        Some(Key { nonce: self.nonce, generation: self.generation.checked_add(1)? })
    }

    fn addr(&self) -> u64 {
        self.nonce
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// Collects what foca wants while it runs.
#[derive(Default)]
struct Collected {
    packets: Vec<(u64, Vec<u8>)>,
    timers: Vec<(Duration, Timer<Key>)>,
    up: Vec<u64>,
    down: Vec<u64>,
    /// This node was declared down, and goes on under another generation.
    rejoined: bool,
}

impl Runtime<Key> for &mut Collected {
    fn notify(&mut self, notification: Notification<'_, Key>) {
        match notification {
            Notification::MemberUp(key) => self.up.push(key.nonce),
            Notification::MemberDown(key) => self.down.push(key.nonce),
            Notification::Rename(_, key) => self.up.push(key.nonce),
            Notification::Rejoin(_) => self.rejoined = true,
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: Key, data: &[u8]) {
        self.packets.push((to.nonce, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Key>, after: Duration) {
        self.timers.push((after, event));
    }
}

/// The failure detector of one node in one line.
pub(super) struct Detector {
    foca: Foca<Key, PostcardCodec, Rng, NoCustomBroadcast>,
    timers: BTreeMap<(Time, u64), Timer<Key>>,
    timers_made: u64,
    members: BTreeMap<u64, Watched>,
    dead: BTreeSet<Incarnation>,
    packets: Vec<(Incarnation, Vec<u8>)>,
    /// Members to be asked whether they live.
    doubts: Vec<Incarnation>,
    detection: Duration,
}

struct Watched {
    incarnation: Incarnation,
    heard: Time,
    /// foca says down, the links say alive.
    vetoed: bool,
    /// foca says down and this node has not heard it for a moment: it was asked, and is dead if it has not been heard
    /// by then. The word may be another member's, about a link that is none of ours.
    doubted_until: Option<Time>,
    /// Its process is gone for certain: nothing that foca hears can bring it back.
    proven: bool,
}

impl Detector {
    pub(super) fn new(me: Incarnation, detection: Duration, rng: Rng) -> Self {
        let key = Key { nonce: me.nonce, generation: 0 };
        Self {
            foca: Foca::new(key, config(detection), rng, PostcardCodec),
            timers: BTreeMap::new(),
            timers_made: 0,
            members: BTreeMap::new(),
            dead: BTreeSet::new(),
            packets: Vec::new(),
            doubts: Vec::new(),
            detection,
        }
    }

    /// Watches exactly these members from now on.
    pub(super) fn watch(&mut self, members: &BTreeSet<Incarnation>, now: Time) {
        let gone: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, watched)| !members.contains(&watched.incarnation))
            .map(|(nonce, _)| *nonce)
            .collect();
        let mut updates = Vec::new();
        for nonce in gone {
            self.members.remove(&nonce);
            updates.push(Member::down(Key { nonce, generation: u32::MAX }));
        }
        self.dead.retain(|dead| members.contains(dead));
        for &incarnation in members {
            if let Entry::Vacant(unknown) = self.members.entry(incarnation.nonce) {
                unknown.insert(Watched {
                    incarnation,
                    heard: now,
                    vetoed: false,
                    doubted_until: None,
                    proven: false,
                });
                updates.push(Member::alive(Key { nonce: incarnation.nonce, generation: 0 }));
            }
        }
        if !updates.is_empty() {
            self.run(now, |foca, collected| {
                let _ = foca.apply_many(updates.into_iter(), false, collected);
            });
        }
    }

    /// A packet of a member's detector. Of others nothing is heard.
    pub(super) fn on_packet(&mut self, from: Incarnation, packet: &[u8], now: Time) {
        if self.watched(from).is_none() {
            return;
        }
        let me = *self.foca.identity();
        // What is proven dead is kept under a generation of this node's own: nothing that is said of it counts.
        let generation = |nonce| {
            if nonce == me.nonce {
                return Some(me.generation);
            }
            let known = self.foca.iter_membership_state().find(|member| member.id().nonce == nonce);
            known.map(|member| member.id().generation)
        };
        let Some(packet) = packet::admitted(packet, from.nonce, me, generation) else { return };
        // A packet that foca refuses changes nothing; the next probe round repairs whatever it was about.
        self.run(now, |foca, collected| {
            let _ = foca.handle_data(&packet, collected);
        });
    }

    /// Something arrived from this node.
    pub(super) fn heard(&mut self, from: Incarnation, now: Time) {
        if let Some(watched) = self.watched(from) {
            watched.heard = now;
        }
    }

    /// What is known of exactly this life: another one with its nonce is a forgery.
    fn watched(&mut self, incarnation: Incarnation) -> Option<&mut Watched> {
        self.members.get_mut(&incarnation.nonce).filter(|watched| watched.incarnation == incarnation)
    }

    /// Proof, not suspicion: the process behind this incarnation is gone.
    pub(super) fn declare_dead(&mut self, incarnation: Incarnation, now: Time) {
        let Some(watched) = self.watched(incarnation) else { return };
        watched.vetoed = false;
        watched.doubted_until = None;
        watched.proven = true;
        if self.dead.insert(incarnation) {
            let down = Member::down(Key { nonce: incarnation.nonce, generation: u32::MAX });
            self.run(now, |foca, collected| {
                let _ = foca.apply_many([down].into_iter(), false, collected);
            });
        }
    }

    pub(super) fn is_dead(&self, incarnation: Incarnation) -> bool {
        self.dead.contains(&incarnation)
    }

    /// Members of which nothing was heard for at least this long, and for how long; not those that are dead.
    pub(super) fn silent(
        &self,
        at_least: Duration,
        now: Time,
    ) -> impl Iterator<Item = (Incarnation, Duration)> + '_ {
        let members = self.members.values().filter(|watched| !self.dead.contains(&watched.incarnation));
        let silences = members.map(move |watched| (watched.incarnation, now.since(watched.heard)));
        silences.filter(move |(_, silence)| *silence >= at_least)
    }

    /// Runs what is due.
    pub(super) fn tick(&mut self, now: Time) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            self.run(now, |foca, collected| {
                let _ = foca.handle_timer(timer, collected);
            });
        }
        let silent_after = self.detection / 2;
        for watched in self.members.values_mut() {
            if watched.doubted_until.is_some_and(|until| until <= now) {
                watched.doubted_until = None;
                watched.vetoed = true;
            }
            if watched.vetoed && now.since(watched.heard) >= silent_after {
                watched.vetoed = false;
                self.dead.insert(watched.incarnation);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let silent_after = self.detection / 2;
        let veto = self.members.values().filter(|w| w.vetoed).map(|w| w.heard + silent_after).min();
        let doubt = self.members.values().filter_map(|w| w.doubted_until).min();
        let timer = self.timers.first_key_value().map(|((due, _), _)| *due);
        [timer, veto, doubt].into_iter().flatten().min()
    }

    /// Packets to send, each to a watched member.
    pub(super) fn take_packets(&mut self) -> Vec<(Incarnation, Vec<u8>)> {
        std::mem::take(&mut self.packets)
    }

    /// Members that foca takes for dead and that were not heard for a moment: whatever they answer is heard.
    pub(super) fn take_doubts(&mut self) -> Vec<Incarnation> {
        std::mem::take(&mut self.doubts)
    }

    fn run(
        &mut self,
        now: Time,
        step: impl FnOnce(&mut Foca<Key, PostcardCodec, Rng, NoCustomBroadcast>, &mut Collected),
    ) {
        let mut collected = Collected::default();
        step(&mut self.foca, &mut collected);
        if collected.rejoined {
            // It probes nobody until something more is heard. The last other member may have said that and died.
            let _ = self.foca.apply_many(std::iter::empty(), false, &mut collected);
        }
        for (after, timer) in collected.timers {
            self.timers_made += 1;
            self.timers.insert((now + after, self.timers_made), timer);
        }
        for (nonce, packet) in collected.packets {
            if let Some(watched) = self.members.get(&nonce) {
                self.packets.push((watched.incarnation, packet));
            }
        }
        for nonce in collected.up {
            if let Some(watched) = self.members.get_mut(&nonce).filter(|watched| !watched.proven) {
                watched.vetoed = false;
                watched.doubted_until = None;
                self.dead.remove(&watched.incarnation);
            }
        }
        for nonce in collected.down {
            let Some(watched) = self.members.get_mut(&nonce) else { continue };
            if self.dead.contains(&watched.incarnation) {
                continue;
            }
            if now.since(watched.heard) < self.detection / 2 {
                watched.vetoed = true;
            } else if watched.doubted_until.is_none() {
                watched.doubted_until = Some(now + self.detection / 8);
                self.doubts.push(watched.incarnation);
            }
        }
    }
}

/// foca's settings, in parts of D so that a silent member of a small cluster is down within it: two probe
/// periods until its turn, one until the probe fails, then the suspicion, then D/8 for the member's own word.
fn config(detection: Duration) -> foca::Config {
    let count = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    foca::Config {
        probe_period: detection / 5,
        probe_rtt: detection / 10,
        num_indirect_probes: count(3),
        max_transmissions: NonZeroU8::new(10).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: detection * 7 / 40,
        remove_down_after: Some(Duration::from_secs(600)),
        max_packet_size: count(PACKET_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: None,
        periodic_announce_to_down_members: Some(PeriodicParams {
            frequency: detection,
            num_members: count(2),
        }),
        periodic_gossip: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(nonce: u64) -> Incarnation {
        Incarnation { started_ms: 1, nonce }
    }

    fn watching() -> Detector {
        let mut detector = Detector::new(life(1), Duration::from_secs(2), Rng::new(1));
        detector.watch(&BTreeSet::from([life(2), life(3)]), Time::ZERO);
        detector
    }

    /// Runs without any answer until this time.
    fn run_alone(detector: &mut Detector, until: Time, heard: Option<Incarnation>) {
        while let Some(due) = detector.next_deadline().filter(|due| *due <= until) {
            if let Some(heard) = heard {
                detector.heard(heard, due);
            }
            detector.tick(due);
        }
    }

    #[test]
    fn proof_of_death_is_not_undone_by_what_was_just_heard() {
        let mut detector = watching();
        let now = Time::from_micros(10);
        detector.heard(life(2), now);
        detector.declare_dead(life(2), now);
        assert!(detector.is_dead(life(2)) && !detector.is_dead(life(3)));
    }

    /// A packet that life 3 sends to life 1, with this news.
    fn packet_of_three(news: &[Member<Key>]) -> Vec<u8> {
        let (src, dst) = (Key { nonce: 3, generation: 0 }, Key { nonce: 1, generation: 0 });
        let header = foca::Header { src, src_incarnation: 0, dst, message: foca::Message::Gossip };
        let mut packet = Vec::new();
        let encoded = foca::Codec::encode_header(&mut PostcardCodec, &header, &mut packet);
        assert!(encoded.is_ok());
        packet.extend_from_slice(&(news.len() as u16).to_be_bytes());
        for member in news {
            assert!(foca::Codec::encode_member(&mut PostcardCodec, member, &mut packet).is_ok());
        }
        packet
    }

    #[test]
    fn a_forged_death_of_a_member_that_speaks_is_vetoed_and_one_of_this_node_is_harmless() {
        let mut detector = watching();
        let now = Time::from_micros(10);
        detector.heard(life(2), now);
        let forged = [0, 1, u32::MAX].map(|generation| Member::down(Key { nonce: 2, generation }));
        let me = [0, 1, u32::MAX].map(|generation| Member::down(Key { nonce: 1, generation }));
        for news in [&forged[..], &me[..], &[Member::down(Key { nonce: 3, generation: u32::MAX })]] {
            detector.on_packet(life(3), &packet_of_three(news), now);
        }
        assert!(!detector.is_dead(life(2)) && !detector.is_dead(life(3)));
        let known = |nonce| detector.foca.iter_membership_state().find(|m| m.id().nonce == nonce);
        assert!(known(2).is_some_and(|two| two.id().generation <= 1), "it can still outrank the forgery");
        assert!(detector.foca.identity().generation < 10);
    }

    #[test]
    fn the_last_other_member_is_still_watched_when_it_has_declared_this_one_dead_and_died() {
        let detection = Duration::from_secs(2);
        let mut detector = Detector::new(life(1), detection, Rng::new(1));
        detector.watch(&BTreeSet::from([life(3)]), Time::ZERO);
        let now = Time::from_micros(10);
        detector.heard(life(3), now);
        detector.on_packet(life(3), &packet_of_three(&[Member::down(Key { nonce: 1, generation: 0 })]), now);
        assert_eq!(detector.foca.identity().generation, 1);
        run_alone(&mut detector, now + detection * 2, None);
        assert!(detector.is_dead(life(3)));
    }

    #[test]
    fn invented_members_are_neither_kept_nor_probed() {
        let mut detector = watching();
        for round in 0..1_000u64 {
            let news: Vec<Member<Key>> = (0..50)
                .map(|n| Member::alive(Key { nonce: 1_000 + round * 50 + n, generation: 0 }))
                .collect();
            detector.on_packet(life(3), &packet_of_three(&news), Time::from_micros(10));
        }
        assert_eq!(detector.foca.iter_membership_state().count(), 2);
    }

    #[test]
    fn a_life_with_the_nonce_of_a_member_neither_keeps_it_alive_nor_ends_it() {
        let mut detector = watching();
        let forged = Incarnation { started_ms: u64::MAX, nonce: 2 };
        detector.declare_dead(forged, Time::from_micros(10));
        assert!(!detector.is_dead(life(2)) && !detector.is_dead(forged));
        run_alone(&mut detector, Time::from_micros(2_000_000), Some(forged));
        assert!(detector.is_dead(life(2)), "what another one says is no sign of life");
    }

    #[test]
    fn the_word_of_another_that_a_member_is_dead_counts_only_if_it_does_not_answer() {
        let mut detector = watching();
        let at = Time::from_micros(1_200_000);
        for nonce in [2, 3] {
            let down = Member::down(Key { nonce, generation: 0 });
            detector.run(at, |foca, collected| {
                let _ = foca.apply_many([down].into_iter(), false, collected);
            });
        }
        assert_eq!(detector.take_doubts(), [life(2), life(3)]);
        assert!(!detector.is_dead(life(2)) && !detector.is_dead(life(3)));
        detector.heard(life(2), at + Duration::from_millis(100));
        detector.tick(at + Duration::from_millis(250));
        assert!(!detector.is_dead(life(2)) && detector.is_dead(life(3)));
    }

    #[test]
    fn a_silent_member_is_dead_within_d_and_one_that_is_heard_is_not() {
        let mut detector = watching();
        run_alone(&mut detector, Time::from_micros(2_000_000), Some(life(3)));
        assert!(detector.is_dead(life(2)));
        assert!(!detector.is_dead(life(3)), "traffic vetoes the verdict");
        run_alone(&mut detector, Time::from_micros(3_500_000), None);
        assert!(detector.is_dead(life(3)), "a veto lapses with the traffic");
    }
}
