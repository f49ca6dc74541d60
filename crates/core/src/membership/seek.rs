//! Birth: a node without a line joins one, or founds one when nobody has any.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Membership, MembershipEvent, Message, Output, REPEAT, Stage};
use crate::base::{Incarnation, Mutant, NodeName, Now, Time};
use crate::view::{COUNTER_MAX, Chain, MemberInfo, View, ViewId, counter_at};

/// Answers to one `Join` come from several members: they are told once.
const TAKEN_PAUSE: Duration = REPEAT;
/// Doublings of the pause after the word that the name is taken: up to 32 s.
const TAKEN_DOUBLINGS_MAX: u32 = 5;
/// No life begins after the year 2300: a word of a peer must not use up all later times.
const STARTED_MAX: u64 = 10_413_792_000_000;
/// So often, one for each [`REPEAT`], only the line that stays is asked for a place.
const ASKS_OF_THE_BEST: u32 = 10;
/// How often a seeker looks again.
const LOOK: Duration = Duration::from_millis(50);

/// A chain that comes in parts.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) from: Incarnation,
    pub(super) chain: Chain,
    /// When the last part came.
    pub(super) at: Time,
}

/// A node without a line.
#[derive(Debug)]
pub(super) struct Seeking {
    since: Time,
    /// How long it looks for a line before it founds one.
    founds_after: Duration,
    /// It was expelled too often: it neither joins nor founds before this.
    not_before: Time,
    look_at: Time,
    join_at: Time,
    /// Times that it asked to join.
    asked: u32,
    /// The chain that leads to the view that it is in, as far as it has come.
    pub(super) fetching: Option<Fetching>,
    /// Its name is borne by somebody else, since when, and how often that was told.
    taken: Option<(Time, u32)>,
}

impl Seeking {
    pub(super) fn new(now: Time, founds_after: Duration, penalty: Duration) -> Self {
        Self {
            since: now,
            founds_after,
            not_before: now + penalty,
            look_at: now,
            join_at: now,
            asked: 0,
            fetching: None,
            taken: None,
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.look_at
    }
}

impl Membership {
    pub(super) fn seek(&mut self, now: Now) {
        let Stage::Seeking(seeking) = &mut self.stage else { return };
        if seeking.look_at <= now.time {
            seeking.look_at = now.time + LOOK;
        }
        if now.time < seeking.not_before || self.stays_out() {
            return;
        }
        if self.peers.values().any(|peer| matches!(peer.line, Some(Some(_)))) {
            self.ask_to_join(now);
        } else if self.may_found(now) {
            self.found(now);
        }
    }

    /// Asks every peer of the line that stays; each passes it on to the author. What a line says may be long out of date,
    /// since whoever said it has died: after a while the others are asked too, in turn.
    fn ask_to_join(&mut self, now: Now) {
        let Stage::Seeking(seeking) = &mut self.stage else { return };
        if now.time < seeking.join_at {
            return;
        }
        seeking.join_at = now.time + REPEAT;
        seeking.asked = seeking.asked.saturating_add(1);
        let turn = seeking.asked.saturating_sub(ASKS_OF_THE_BEST) as usize;
        let lines = self.peers.iter().filter_map(|(peer, p)| Some((*peer, p.line??)));
        let best = lines.clone().map(|(_, line)| line).reduce(|a, b| if b.stays_before(&a) { b } else { a });
        let Some(best) = best else { return };
        let others: BTreeSet<ViewId> =
            lines.clone().map(|(_, line)| line.view).filter(|view| *view != best.view).collect();
        let turn = turn % (others.len() + 1);
        let view = std::iter::once(best.view).chain(others).nth(turn).unwrap_or(best.view);
        let ask: Vec<Incarnation> = lines.filter(|(_, line)| line.view == view).map(|(p, _)| p).collect();
        for peer in ask {
            self.send(peer, Message::Join { member: self.me.clone(), counter_floor: self.counter_floor });
        }
    }

    /// A member bears this node's name. That may be an earlier life of which the others have yet to hear that it is over;
    /// if it stays so for D, two nodes have one name: this is told, and asked again ever more rarely, after 2^k s.
    pub(super) fn on_name_taken(&mut self, bearer: Incarnation, now: Now) {
        let detection = self.settings.detection;
        let Stage::Seeking(seeking) = &mut self.stage else { return };
        let (since, told) = seeking.taken.get_or_insert((now.time, 0));
        if now.time.since(*since) < detection || now.time + TAKEN_PAUSE < seeking.join_at {
            return;
        }
        let pause = Duration::from_secs(1 << (*told).min(TAKEN_DOUBLINGS_MAX));
        *told = told.saturating_add(1);
        seeking.join_at = now.time + pause;
        self.out.push_back(Output::Event(MembershipEvent::NameTaken(bearer)));
    }

    /// This node's clock was set back: it goes on as a life after the one that looks younger.
    pub(super) fn on_outlived(&mut self, earlier: Incarnation, now: Now) {
        let is_later =
            earlier.started_ms >= self.me.incarnation.started_ms && earlier.started_ms < STARTED_MAX;
        if matches!(self.stage, Stage::Seeking(_)) && earlier != self.me.incarnation && is_later {
            self.me.incarnation.started_ms = earlier.started_ms;
            self.change_lines(Duration::ZERO, now);
        }
    }

    fn may_found(&self, now: Now) -> bool {
        let Stage::Seeking(seeking) = &self.stage else { return false };
        // One that was in a line before knows addresses without discovery, and looks for that line first: as long as
        // one with discovery looks.
        if !self.settings.discovery && self.dial.is_empty(&self.me.address) && self.peers.is_empty() {
            return true;
        }
        let Some(answered) = self.dial.all_tried(&self.me.address, now.time) else { return false };
        let passed = |since: Time| now.time.since(since) >= seeking.founds_after;
        if self.peers.is_empty() {
            return passed(seeking.since);
        }
        // Who was found late gets its time too: to greet, and to found.
        let waited = passed(seeking.since.max(answered));
        // A peer that has not greeted yet may have a line; a silent one delays, never blocks.
        if !waited && self.peers.values().any(|peer| peer.line.is_none()) {
            return false;
        }
        if self.settings.mutants.has(Mutant::JoinsWaitForEachOther) {
            return false;
        }
        waited || self.is_smallest_founder()
    }

    fn is_smallest_founder(&self) -> bool {
        let key = |info: &MemberInfo| -> (NodeName, Incarnation) { (info.name.clone(), info.incarnation) };
        let mine = key(&self.me);
        self.founders().all(|peer| mine < key(peer))
    }

    /// Linked nodes that said they have no line either. One that drains asks to join if it still has to.
    fn founders(&self) -> impl Iterator<Item = &MemberInfo> {
        let without_line = self.peers.values().filter(|peer| peer.line == Some(None));
        without_line.map(|peer| &peer.info).filter(|info| !info.draining)
    }

    /// The first view of a line: this node and the seekers it is linked to.
    fn found(&mut self, now: Now) {
        let counter = counter_at(now.wall_ms).max(self.counter_floor.saturating_add(1)).min(COUNTER_MAX);
        let mut members = vec![self.me.clone()];
        for founder in self.founders() {
            // Of two nodes with one name one is taken; the other is told when it asks.
            let is_new = members.iter().all(|member| {
                member.name != founder.name && member.incarnation.nonce != founder.incarnation.nonce
            });
            if is_new && View::has_room_for(&members, founder) {
                members.push(founder.clone());
            }
        }
        let id = ViewId { counter, author: self.me.incarnation.nonce };
        self.out.push_back(Output::Event(MembershipEvent::Founded));
        self.install(&Arc::new(View { id, parent: None, members }), now);
    }
}
