//! Load: how many processes each member has, as far as an owner knows, and what follows for names that go by it.
//!
//! Decides: which member has the least for its weight, and which names move since theirs has far too much. Promises: many
//! starts at a time are spread, since an owner counts what it has placed until it hears the next word; a name moves for
//! load at most once in a view, so moves end. Assumes: members tell their load (`notice`); a word may be a second old, or
//! lost, or a lie, and the worst that comes of it is a name on a busier node.
//!
//! *Far too much* is more than five quarters of the member's share, and 8 (`Limits::level_slack`). Each owner moves its part of what is above the
//! share: as much of it as it owns of the member's processes. So all owners together move what is too much, without a word
//! among them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Directory;
use super::moves::{Rebalance, may_move};
use super::placing::Placement;
use super::record::Record;
use crate::base::{Hindrance, Incarnation, Kind, Name, SlotId, Time};
use crate::placement::hosts_by_hash;
use crate::view::MemberInfo;

/// What was placed counts so long: if it has come to anything, its node has said so by then.
const PLACED_FOR: Duration = Duration::from_secs(2);
/// Between two looks at who has far too much.
const LEVEL_EVERY: Duration = Duration::from_secs(2);
/// Names that are looking for a node with room, at most.
const SEARCHES_MAX: usize = 4_096;

/// The load of all members.
#[derive(Debug, Default)]
pub(super) struct Loads {
    /// As they said it.
    heard: BTreeMap<Incarnation, u64>,
    /// What this owner has placed there since, and taken from there.
    placed: BTreeMap<Incarnation, i64>,
    placed_at: Option<Time>,
    /// Nodes that had no room for these names, of those that are not asked in a fixed order.
    tried: BTreeMap<Name, BTreeSet<Incarnation>>,
    /// Names that have moved for load in this view.
    levelled: BTreeSet<Name>,
    /// When it is looked at next; none while this owner has no name that goes by load.
    level_at: Option<Time>,
}

impl Loads {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.level_at
    }

    pub(super) fn hear(&mut self, member: Incarnation, load: u32) {
        self.heard.insert(member, u64::from(load));
        self.placed.remove(&member);
    }

    /// A view was installed.
    pub(super) fn follow_view(&mut self, is_member: impl Fn(Incarnation) -> bool) {
        self.heard.retain(|member, _| is_member(*member));
        self.placed.retain(|member, _| is_member(*member));
        self.tried.clear();
        self.levelled.clear();
        self.level_at = None;
    }

    /// This owner has a name that goes by load.
    pub(super) fn watch(&mut self, now: Time) {
        self.level_at.get_or_insert(now + LEVEL_EVERY);
    }

    fn place(&mut self, member: Incarnation, change: i64, now: Time) {
        *self.placed.entry(member).or_default() += change;
        self.placed_at.get_or_insert(now);
    }

    fn forget_placed(&mut self, now: Time) {
        if self.placed_at.is_some_and(|at| now.since(at) > PLACED_FOR) {
            self.placed.clear();
            self.placed_at = None;
        }
    }

    /// How many processes a member has, to the best of this owner's knowledge.
    pub(super) fn of(&self, member: Incarnation) -> u64 {
        let heard = self.heard.get(&member).copied().unwrap_or(0);
        heard.saturating_add_signed(self.placed.get(&member).copied().unwrap_or(0))
    }

    /// One more process would make this share of its weight: what is compared.
    fn share(&self, member: &MemberInfo) -> (u64, u64) {
        (self.of(member.incarnation) + 1, u64::from(member.weight))
    }

    /// Puts those first that have the least for their weight; of equals the order stays.
    pub(super) fn sort(&self, members: &mut [&MemberInfo]) {
        members.sort_by(|a, b| {
            let ((load_a, weight_a), (load_b, weight_b)) = (self.share(a), self.share(b));
            (u128::from(load_a) * u128::from(weight_b)).cmp(&(u128::from(load_b) * u128::from(weight_a)))
        });
    }

    /// A node had no room for this name.
    pub(super) fn note_tried(&mut self, name: &Name, host: Incarnation) {
        if self.tried.len() < SEARCHES_MAX || self.tried.contains_key(name) {
            self.tried.entry(name.clone()).or_default().insert(host);
        }
    }

    /// Whether this node is not to be asked for this name again: of names that are not remembered nobody is asked.
    pub(super) fn was_tried(&self, name: &Name, host: Incarnation) -> bool {
        self.tried.get(name).is_none_or(|tried| tried.contains(&host))
    }

    /// The search is over.
    pub(super) fn forget_tried(&mut self, name: &Name) {
        if !self.tried.is_empty() {
            self.tried.remove(name);
        }
    }
}

/// The load of the members that take a kind, beside their weights.
struct Levels {
    load: u64,
    weight: u64,
}

impl Levels {
    fn of(loads: &Loads, members: &[&MemberInfo]) -> Self {
        let load = members.iter().map(|member| loads.of(member.incarnation)).sum();
        Self { load, weight: members.iter().map(|member| u64::from(member.weight)).sum() }
    }

    /// What a member would have if all had as much as they weigh.
    fn share(&self, member: &MemberInfo) -> u64 {
        (u128::from(self.load) * u128::from(member.weight) / u128::from(self.weight.max(1))) as u64
    }
}

impl Directory {
    /// A move came to nothing. One that was only too many at a time may be tried again.
    pub(super) fn note_called_off(&mut self, name: &Name, why: Hindrance) {
        if why == Hindrance::Busy {
            self.loads.levelled.remove(name);
        }
    }

    /// A name is placed on a member, or is to move there.
    pub(super) fn count_placed(&mut self, placement: &Placement, host: Incarnation, now: Time) {
        self.loads.forget_placed(now);
        if placement.is_chosen() {
            self.loads.place(host, 1, now);
        }
        if *placement == Placement::LeastLoaded {
            self.loads.watch(now);
        }
    }

    /// A slot serves: perhaps it holds names that go by load.
    pub(super) fn watch_loads(&mut self, slot: SlotId, now: Time) {
        let Some(copy) = self.copies.get(&slot) else { return };
        if copy.entries.values().any(|entry| entry.record.placement == Placement::LeastLoaded) {
            self.loads.watch(now);
        }
    }

    /// Moves names away from members that have far too much.
    pub(super) fn level(&mut self, now: Time) {
        if self.loads.level_at.is_none_or(|at| at > now) {
            return;
        }
        self.loads.level_at = Some(now + LEVEL_EVERY);
        let balances = self.settings.rebalance == Rebalance::OnJoinAndLeave && !self.notices.is_paused();
        if !balances || !self.unsettled.is_empty() {
            return;
        }
        self.loads.forget_placed(now);
        let Some(view) = self.view().cloned() else { return };
        let kinds: BTreeSet<&Kind> = view.members.iter().flat_map(|member| &member.kinds).collect();
        for kind in kinds {
            let members: Vec<&MemberInfo> = view.members.iter().filter(|member| member.takes(kind)).collect();
            let levels = Levels::of(&self.loads, &members);
            for member in &members {
                let (load, share) = (self.loads.of(member.incarnation), levels.share(member));
                if load > share + share / 4 + self.settings.limits.level_slack {
                    self.relieve(member, kind, &levels, now);
                }
            }
        }
    }

    /// Moves this owner's part of what a member has too much of.
    fn relieve(&mut self, member: &MemberInfo, kind: &Kind, levels: &Levels, now: Time) {
        let names = self.movable_by_load(member.incarnation, kind);
        let load = self.loads.of(member.incarnation).max(1);
        let excess = load - levels.share(member).min(load);
        let part = u128::from(excess) * names.len() as u128 + u128::from(self.rng.below(load));
        let part = usize::try_from(part / u128::from(load)).unwrap_or(usize::MAX);
        for name in names.into_iter().take(part) {
            let slot = self.slot_of(&name);
            let Some(target) = self.least_loaded(slot, kind).filter(|target| {
                self.loads.of(target.incarnation) < levels.share(target)
                    && self.moves.has_room(member.incarnation, target.incarnation)
            }) else {
                return;
            };
            let to = target.incarnation;
            let Some(record) = self.record_now(&name, now).filter(|_| !self.is_unwritten(slot, &name)) else {
                continue;
            };
            self.loads.place(member.incarnation, -1, now);
            self.loads.levelled.insert(name);
            self.begin_move(slot, record, to, now);
        }
    }

    /// Names of this owner that go by load, run on this member, and have not moved for it in this view.
    fn movable_by_load(&self, host: Incarnation, kind: &Kind) -> Vec<Name> {
        let is_meant = |record: &&Record| {
            record.placement == Placement::LeastLoaded
                && record.host == host
                && record.kind == *kind
                && may_move(record)
                && !self.loads.levelled.contains(&record.name)
        };
        self.owned_records().filter(is_meant).map(|record| record.name.clone()).collect()
    }

    fn least_loaded(&self, slot: SlotId, kind: &Kind) -> Option<MemberInfo> {
        let mut members: Vec<&MemberInfo> = hosts_by_hash(slot, kind, self.view()?).collect();
        self.loads.sort(&mut members);
        members.first().map(|member| MemberInfo::clone(member))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn life(nonce: u64) -> Incarnation {
        Incarnation { started_ms: 1, nonce }
    }

    fn member(nonce: u64, weight: u32) -> MemberInfo {
        MemberInfo {
            name: Name::new(&format!("node-{nonce}")).unwrap(),
            incarnation: life(nonce),
            address: "a:1".into(),
            weight,
            kinds: Vec::new(),
            draining: false,
            labels: Default::default(),
        }
    }

    #[test]
    fn names_that_are_placed_by_load_fill_members_by_their_weight() {
        let members = [member(1, 100), member(2, 300), member(3, 100)];
        let mut loads = Loads::default();
        loads.hear(life(3), 40);
        for _ in 0..100 {
            let mut sorted: Vec<&MemberInfo> = members.iter().collect();
            loads.sort(&mut sorted);
            loads.place(sorted[0].incarnation, 1, Time::ZERO);
        }
        let counts: Vec<u64> = members.iter().map(|member| loads.of(member.incarnation)).collect();
        // 140 in all, of which one has 40: the other two share what comes.
        assert_eq!(counts, [25, 75, 40]);
    }

    #[test]
    fn what_was_placed_counts_until_the_next_word_or_for_a_while() {
        let mut loads = Loads::default();
        loads.hear(life(1), 5);
        loads.place(life(1), 1, Time::ZERO);
        loads.place(life(2), 1, Time::ZERO);
        assert_eq!((loads.of(life(1)), loads.of(life(2))), (6, 1));
        loads.hear(life(1), 6);
        assert_eq!((loads.of(life(1)), loads.of(life(2))), (6, 1));
        loads.forget_placed(Time::ZERO + PLACED_FOR * 2);
        assert_eq!((loads.of(life(1)), loads.of(life(2))), (6, 0));
        loads.place(life(2), -3, Time::ZERO);
        assert_eq!(loads.of(life(2)), 0, "never below nothing");
    }

    #[test]
    fn a_share_follows_from_the_weight() {
        let mut loads = Loads::default();
        loads.hear(life(1), 90);
        let (light, heavy) = (member(1, 100), member(2, 200));
        let levels = Levels::of(&loads, &[&light, &heavy]);
        assert_eq!((levels.share(&light), levels.share(&heavy)), (30, 60));
        assert_eq!(Levels::of(&loads, &[]).share(&light), 0);
    }
}
