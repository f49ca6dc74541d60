//! One node that comes or goes moves little, and each name once.
//!
//! Judged, between each view and its parent as the nodes themselves have the owners of their slots: a slot changes
//! its owner only to a node that came or from one that went; and when exactly one node came or went, among at most
//! 30, no more than 1.25 times the ideal share of one node changes. A cluster of the simulator has few slots, and a
//! share of few slots scatters: three standard deviations are added here, and none with the 4,096 slots of a real
//! cluster, where the tests of `placement` judge the bound itself. In runs without a cut, a pause or a change of
//! lines: a node that died costs each of its names one new life, and no other name any.
//! Loosened: a restarted node is the same node here, since its name has the same slots; processes are not moved to a
//! node that joins, so there is nothing to judge about names then but that none of them ends.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_core::base::{Incarnation, NodeName};
use whimbrel_core::view::View;

use super::{Facts, Violation, ms, violated};
use crate::history::{End, Installed, Kill, Micros, SECOND};

const NAME: &str = "moves";
/// The promise is for clusters of at most so many nodes.
const NODES_MAX: usize = 30;
/// Slots of a real cluster: none of the slack of small ones.
const SLOTS_REAL: usize = 4096;
/// A death is judged by what follows within this.
const FOLLOWS: Micros = 4 * SECOND;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut views: BTreeMap<_, &Installed> = BTreeMap::new();
    for installed in &facts.history.installed {
        views.entry(installed.view.id).or_insert(installed);
    }
    for installed in views.values() {
        let parent = installed.view.parent.and_then(|parent| views.get(&parent));
        if let Some(parent) = parent {
            check_slots(facts, &parent.view, installed, found);
        }
    }
    if facts.crash_only && !facts.copies_lost {
        for kill in &facts.history.kills {
            check_names(facts, kill, found);
        }
    }
}

fn names(view: &View) -> BTreeSet<&NodeName> {
    view.members.iter().map(|member| &member.name).collect()
}

fn check_slots(facts: &Facts<'_>, before: &View, installed: &Installed, found: &mut Vec<Violation>) {
    let after = &installed.view;
    let owners = &facts.history.owners;
    let (Some(old), Some(new)) = (owners.get(&before.id), owners.get(&after.id)) else { return };
    let name_in = |view: &View, owner: Option<Incarnation>| {
        owner.and_then(|owner| view.member(owner)).map(|member| member.name.clone())
    };
    let (had, has) = (names(before), names(after));
    // A member that begins to drain gives its slots away as if it had gone.
    let drains = |view: &View, name: &NodeName| {
        view.members.iter().any(|member| member.name == *name && member.draining)
    };
    let begins = |name: &NodeName| drains(after, name) != drains(before, name);
    let mut moved = 0;
    for (slot, (old, new)) in old.iter().zip(new).enumerate() {
        let (from, to) = (name_in(before, *old), name_in(after, *new));
        if from == to {
            continue;
        }
        moved += 1;
        let needed = from.as_ref().is_none_or(|from| !has.contains(from))
            || from.as_ref().is_some_and(begins)
            || to.as_ref().is_some_and(|to| !had.contains(to) || begins(to));
        if !needed {
            let text = format!(
                "slot {slot} moves from {from:?} to {to:?} in the view {:?} at {} without need",
                after.id,
                ms(installed.at)
            );
            return violated(found, NAME, text);
        }
    }
    let changed =
        had.symmetric_difference(&has).count() + had.intersection(&has).filter(|name| begins(name)).count();
    let serve = |view: &View| view.members.iter().filter(|member| !member.draining).count().max(1);
    let count = serve(before).max(serve(after));
    if changed == 1 && count <= NODES_MAX && moved > moved_max(old.len(), count) {
        let text = format!(
            "{moved} of {} slots move with one of {count} nodes in the view {:?} at {}",
            old.len(),
            after.id,
            ms(installed.at)
        );
        violated(found, NAME, text);
    }
}

/// 1.25 times the share of one node, and for a small cluster what chance adds.
fn moved_max(slots: usize, nodes: usize) -> usize {
    let share = slots as f64 / nodes as f64;
    let slack = if slots >= SLOTS_REAL { 0.0 } else { 3.0 * share.sqrt() + 1.0 };
    (1.25 * share + slack) as usize
}

/// What one death costs, when nothing else happens near it.
fn check_names(facts: &Facts<'_>, kill: &Kill, found: &mut Vec<Violation>) {
    let history = facts.history;
    let until = kill.at + FOLLOWS;
    if facts.nodes_change_between(kill.at.saturating_sub(FOLLOWS), kill.at.saturating_sub(1))
        || facts.nodes_change_between(kill.at + 1, until)
        || history.kills.iter().filter(|other| other.at == kill.at).count() > 1
    {
        return;
    }
    for (name, lives) in facts.lives.iter().enumerate() {
        let lives: Vec<_> = lives.iter().map(|life| &history.lives[*life as usize]).collect();
        let ran_there = lives.iter().any(|life| life.ended == Some((kill.at, End::NodeKilled)));
        let within = |at: Micros| at >= kill.at && at <= until;
        let fresh = lives
            .iter()
            .filter(|life| within(life.launched) && !life.in_place && life.moved_from.is_none())
            .count();
        // Whoever was started, stopped, failed or crashed meanwhile had its own reasons.
        let asked = facts.ops[name].iter().any(|op| {
            let op = &history.ops[*op as usize];
            op.invoked <= until && op.deadline >= kill.at && op.request.is_some()
        });
        let ended =
            lives.iter().any(|life| life.ended.is_some_and(|(at, end)| within(at) && end != End::NodeKilled));
        // One that had ended just before was to begin again there.
        let restarts = lives.iter().any(|life| {
            life.host == kill.host
                && life.ended.is_some_and(|(at, _)| at <= kill.at && at + FOLLOWS > kill.at)
        });
        let most = usize::from(ran_there || restarts);
        if fresh > most && !asked && !ended {
            let text = format!(
                "{} starts {fresh} times after n{} died at {}, where it {}",
                history.name(name as u32),
                kill.host + 1,
                ms(kill.at),
                if ran_there { "ran" } else { "did not run" }
            );
            violated(found, NAME, text);
        }
    }
}
