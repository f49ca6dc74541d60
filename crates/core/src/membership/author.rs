//! Who authors the next view, and what stands in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Membership, Message, Output, REPEAT, Stage};
use crate::base::limits::MEMBERS_MAX;
use crate::base::{Incarnation, Now, Time};
use crate::view::{COUNTER_MAX, MemberInfo, TICK_MS, View, ViewId, counter_at};

/// At most one view of one author in this time.
const AUTHOR_EVERY: Duration = Duration::from_millis(TICK_MS);

/// What a member knows for the next view.
#[derive(Debug, Default)]
pub(super) struct Authoring {
    joiners: BTreeMap<Incarnation, MemberInfo>,
    counter_floor: u64,
    /// Members that said goodbye or answered that they are on another branch.
    pub(super) out: BTreeSet<Incarnation>,
    /// Members that said that they drain, and of which no view says so yet.
    pub(super) draining: BTreeSet<Incarnation>,
    /// Members that have not acknowledged the current view, which this node authored, since when.
    unacknowledged: BTreeMap<Incarnation, Time>,
    install_again_at: Option<Time>,
    last_authored: Option<Time>,
    asking: Option<Asking>,
    asked: bool,
    proposed: bool,
    due: Option<Time>,
    overdue: Option<Time>,
}

/// A member whose older ones died asks the others what they have, before it authors its first view.
#[derive(Debug)]
struct Asking {
    until: Time,
    waiting: BTreeSet<Incarnation>,
}

impl Authoring {
    pub(super) fn joiners(&self) -> usize {
        self.joiners.len()
    }

    pub(super) fn view_changed(&mut self, view: &View, me: Incarnation, now: Time) {
        self.joiners.retain(|joiner, _| !view.contains(*joiner));
        self.out.retain(|member| view.contains(*member));
        self.draining.retain(|member| view.member(*member).is_some_and(|member| !member.draining));
        self.unacknowledged.clear();
        self.install_again_at = None;
        self.asking = None;
        self.asked = view.id.author == me.nonce;
        self.proposed = false;
        if view.id.author == me.nonce {
            self.last_authored = Some(now);
            let others = view.incarnations().filter(|member| *member != me);
            self.unacknowledged = others.map(|member| (member, now)).collect();
            self.install_again_at = Some(now + REPEAT);
        }
    }

    /// The authority has answered.
    pub(super) fn decided(&mut self) {
        self.proposed = false;
    }

    /// This node was away: what it knows of others is old, so it asks before it authors.
    pub(super) fn was_away(&mut self) {
        self.asked = false;
        self.asking = None;
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let asking = self.asking.as_ref().map(|asking| asking.until);
        [self.install_again_at, asking, self.due, self.overdue].into_iter().flatten().min()
    }

    pub(super) fn heard_of_view(&mut self, from: Incarnation) {
        if let Some(asking) = &mut self.asking {
            asking.waiting.remove(&from);
        }
    }
}

impl Membership {
    pub(super) fn on_join(&mut self, from: Incarnation, member: MemberInfo, floor: u64, now: Now) {
        if floor >= COUNTER_MAX {
            return self.refuse(from, "it joins from a line whose counter can not be exceeded");
        }
        // A node speaks for itself, and says what it said in its handshake; a member passes on what a visitor said.
        let Stage::Member(line) = &mut self.stage else { return };
        let view = line.chain.current();
        if member.incarnation != from && !view.contains(from) {
            // A visitor, or a member of a view that this node does not have: the joiner asks again itself.
            return;
        }
        let joiner = member.incarnation;
        let known = self.peers.get(&joiner);
        if known.is_some_and(|peer| (&peer.info.name, &peer.info.address) != (&member.name, &member.address))
        {
            return self.refuse(from, "it joins under another name or address than it has");
        }
        if view.incarnations().any(|other| other != joiner && other.nonce == joiner.nonce) {
            return self.refuse(from, "it joins under the nonce of a member");
        }
        if view.contains(joiner) {
            self.send_install_to(joiner);
            return;
        }
        if line.chain.newest_first().any(|earlier| earlier.contains(joiner)) {
            return self.send(joiner, Message::LeftOut);
        }
        if view.members.len() + line.authoring.joiners.len() >= MEMBERS_MAX {
            // Those who were only announced to this node make room for those who are here.
            let peers = &self.peers;
            let absent = line.authoring.joiners.keys().find(|other| !peers.contains_key(other)).copied();
            let Some(absent) = absent.filter(|_| peers.contains_key(&joiner)) else { return };
            line.authoring.joiners.remove(&absent);
        }
        if !self.peers.contains_key(&joiner) {
            self.dial.want(&member.address, now.time);
        }
        self.declare_earlier_lives_dead(&member, now);
        match self.bearer(&member) {
            Some(bearer) if self.is_alive(bearer, now) => {
                return self.send(joiner, Message::NameTaken(bearer));
            }
            Some(earlier) if earlier.started_ms >= joiner.started_ms => {
                return self.send(joiner, Message::Outlived(earlier));
            }
            Some(_) | None => {}
        }
        let Stage::Member(line) = &mut self.stage else { return };
        line.authoring.counter_floor = line.authoring.counter_floor.max(floor);
        // Lives that ended before any view had them: a node that flaps must not fill the table.
        line.authoring.joiners.retain(|_, other| other.name != member.name);
        line.authoring.joiners.insert(joiner, member.clone());
        if member.incarnation == from
            && let Some(author) = self.present_author()
            && author != self.me.incarnation
        {
            self.send(author, Message::Join { member, counter_floor: floor });
        }
    }

    /// The oldest member of the installed view that lives, by this node's list.
    pub(super) fn present_author(&self) -> Option<Incarnation> {
        let Stage::Member(line) = &self.stage else { return None };
        line.chain.current().incarnations().find(|member| {
            *member == self.me.incarnation
                || !(self.detector.is_dead(*member) || line.authoring.out.contains(member))
        })
    }

    pub(super) fn on_installed(&mut self, from: Incarnation, view: ViewId) {
        let Stage::Member(line) = &mut self.stage else { return };
        if line.chain.current().id == view {
            line.authoring.unacknowledged.remove(&from);
        }
    }

    pub(super) fn on_diverged(&mut self, from: Incarnation, view: ViewId) {
        let Stage::Member(line) = &mut self.stage else { return };
        let current = line.chain.current();
        if current.id == view && current.contains(from) {
            line.authoring.out.insert(from);
        }
    }

    pub(super) fn on_bye(&mut self, from: Incarnation, now: Now) {
        // Also to one that is only about to be a member: it may be the owner of the leaver's names in a moment.
        self.out.push_back(Output::SaidBye(from));
        let Stage::Member(line) = &mut self.stage else { return };
        if line.chain.current().contains(from) {
            line.authoring.out.insert(from);
            self.detector.declare_dead(from, now.time);
        }
    }

    /// Sends the current view to a member that has not acknowledged it.
    pub(super) fn send_install_to(&mut self, peer: Incarnation) {
        let Stage::Member(line) = &self.stage else { return };
        let view = line.chain.current();
        if view.contains(peer) {
            let message = Message::Install((**view).clone());
            self.send(peer, message);
        }
    }

    /// Authors the next view if it is this node's turn and there is reason for one.
    pub(super) fn author(&mut self, now: Now) {
        self.install_again(now);
        let is_author = self.present_author() == Some(self.me.incarnation);
        let parted = if is_author { self.parted(now) } else { BTreeSet::new() };
        if parted.contains(&self.me.incarnation) {
            // The broken links are this node's: the others go on without it as soon as they see its next life.
            return self.expelled(now);
        }
        let members = if is_author { self.next_members(&parted, now) } else { None };
        let Some(members) = members else { return self.forget_deadlines(is_author) };
        if self.ask_before_authoring(now) {
            return;
        }
        let Stage::Member(line) = &mut self.stage else { return };
        let authoring = &mut line.authoring;
        if let Some(last) = authoring.last_authored
            && now.time.since(last) < AUTHOR_EVERY
        {
            authoring.due = Some(last + AUTHOR_EVERY);
            return;
        }
        if authoring.proposed {
            return;
        }
        let parent = line.chain.current().id;
        let floor = parent.counter.max(authoring.counter_floor).max(self.counter_floor);
        let counter = counter_at(now.wall_ms).max(floor.saturating_add(1));
        if counter > COUNTER_MAX {
            // The counters of this line are used up: only new founders with right clocks can help.
            return;
        }
        authoring.proposed = true;
        let id = ViewId { counter, author: self.me.incarnation.nonce };
        self.out.push_back(Output::Propose(Arc::new(View { id, parent: Some(parent), members })));
    }

    /// No view is wanted of this node: nothing of a half-made one may keep waking it.
    fn forget_deadlines(&mut self, is_author: bool) {
        let Stage::Member(line) = &mut self.stage else { return };
        line.authoring.asking = None;
        line.authoring.due = None;
        if !is_author {
            line.authoring.overdue = None;
        }
    }

    /// The members of the next view, when they differ from the present ones.
    fn next_members(&mut self, parted: &BTreeSet<Incarnation>, now: Now) -> Option<Vec<MemberInfo>> {
        let detection = self.settings.detection;
        let Stage::Member(line) = &mut self.stage else { return None };
        let authoring = &mut line.authoring;
        authoring.due = None;
        authoring.overdue = authoring
            .unacknowledged
            .values()
            .map(|since| *since + detection)
            .filter(|due| *due > now.time)
            .min();
        let stays = |member: &MemberInfo| {
            let silent = authoring.unacknowledged.get(&member.incarnation);
            member.incarnation == self.me.incarnation
                || !(self.detector.is_dead(member.incarnation)
                    || parted.contains(&member.incarnation)
                    || authoring.out.contains(&member.incarnation)
                    || silent.is_some_and(|since| now.time.since(*since) >= detection))
        };
        let view = line.chain.current();
        let mut members: Vec<MemberInfo> = view.members.iter().filter(|m| stays(m)).cloned().collect();
        let staying = members.len();
        let mut drains = false;
        for member in members.iter_mut().filter(|member| !member.draining) {
            let says_so = authoring.draining.contains(&member.incarnation);
            member.draining = says_so || (self.me.draining && member.incarnation == self.me.incarnation);
            drains |= member.draining;
        }
        // Whatever was said of a joiner, its own handshake with this node is what counts.
        for joiner in authoring.joiners.keys().filter_map(|joiner| self.peers.get(joiner)) {
            let joiner = &joiner.info;
            let replaced = members.iter().any(|m| m.name == joiner.name);
            if !replaced && View::has_room_for(&members, joiner) {
                members.push(joiner.clone());
            }
        }
        (drains || staying != view.members.len() || members.len() != staying).then_some(members)
    }

    /// Whether to wait: a new author first learns what the last one may have told others only.
    fn ask_before_authoring(&mut self, now: Now) -> bool {
        let me = self.me.incarnation;
        let Stage::Member(line) = &mut self.stage else { return true };
        if line.authoring.asked {
            return false;
        }
        if let Some(asking) = &line.authoring.asking {
            let done = asking.waiting.iter().all(|member| self.detector.is_dead(*member));
            if done || now.time >= asking.until {
                line.authoring.asking = None;
                line.authoring.asked = true;
                return false;
            }
            return true;
        }
        let living: BTreeSet<Incarnation> = line
            .chain
            .current()
            .incarnations()
            .filter(|m| *m != me && self.peers.contains_key(m) && !self.detector.is_dead(*m))
            .collect();
        if living.is_empty() {
            line.authoring.asked = true;
            return false;
        }
        let until = now.time + self.settings.detection / 8;
        line.authoring.asking = Some(Asking { until, waiting: living.clone() });
        for member in living {
            self.send(member, Message::ViewAsk);
        }
        true
    }

    /// Tells those again that have not acknowledged; a link may have come up only now.
    fn install_again(&mut self, now: Now) {
        let Stage::Member(line) = &mut self.stage else { return };
        let authoring = &mut line.authoring;
        if authoring.install_again_at.is_none_or(|at| now.time < at) {
            return;
        }
        let waiting: Vec<Incarnation> = authoring.unacknowledged.keys().copied().collect();
        authoring.install_again_at = (!waiting.is_empty()).then_some(now.time + REPEAT);
        for member in waiting {
            self.send_install_to(member);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::{Mutants, Name, Rng};
    use crate::membership::Settings;

    fn info(number: u64) -> MemberInfo {
        MemberInfo {
            name: Name::new(&format!("node {number}")).unwrap(),
            incarnation: Incarnation { started_ms: 1, nonce: number },
            address: Arc::from(format!("host-{number}:1")),
            weight: 100,
            kinds: Vec::new(),
            draining: false,
            labels: Default::default(),
        }
    }

    #[test]
    fn a_view_takes_no_more_members_than_it_may_have() {
        let settings = Settings {
            discovery: false,
            found_alone_after: Duration::ZERO,
            detection: Duration::from_secs(2),
            mutants: Mutants::default(),
        };
        let mut now = Now { time: Time::ZERO, wall_ms: 1_790_000_000_000 };
        let mut founder = Membership::new(info(0), settings, Rng::new(1), now);
        founder.handle_wake(now);
        for number in 1..=MEMBERS_MAX as u64 + 20 {
            let member = info(1_000 + number);
            founder.handle_session_up(member.clone(), now);
            let join = Message::Join { member: member.clone(), counter_floor: 0 };
            founder.handle_message(member.incarnation, join, now);
        }
        now.time = now.time + AUTHOR_EVERY;
        founder.handle_wake(now);
        let proposed = std::iter::from_fn(|| founder.poll_output()).filter_map(|output| match output {
            Output::Propose(view) => Some(view.members.len()),
            _ => None,
        });
        assert_eq!(proposed.max(), Some(MEMBERS_MAX));
    }
}
