//! A node never has more processes of a kind than it may.
//!
//! Judged at every moment, whatever the faults: the limit is the node's own, and nobody else's word counts. Also told
//! here: whether a name that does not run may still wait for room.

use std::collections::BTreeMap;

use super::{Facts, Violation, ms, violated};
use crate::history::{End, Life, Micros};

const NAME: &str = "room";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let Some(most) = facts.history.capacity else { return };
    // What ends at the moment at which something else begins has made room for it.
    let mut changes: BTreeMap<u16, Vec<(Micros, i64)>> = BTreeMap::new();
    for life in &facts.history.lives {
        changes.entry(life.host).or_default().extend([(life.launched, 1), (life.end(), -1)]);
    }
    for (host, mut changes) in changes {
        changes.sort_unstable();
        let mut alive = 0;
        for (at, change) in changes {
            alive += change;
            if alive > most as i64 {
                let text = format!("n{} has {alive} processes at {}, and may have {most}", host + 1, ms(at));
                violated(found, NAME, text);
                break;
            }
        }
    }
}

/// Whether a name may wait for room at the end: it runs nowhere, and no node has any, or perhaps not the one that it is
/// to run on.
pub(super) fn may_wait(facts: &Facts<'_>, name: usize) -> bool {
    let Some(most) = facts.history.capacity else { return false };
    let mut taken = places(facts).into_iter();
    let full = match facts.history.placed.contains(&(name as u32)) {
        true => taken.any(|taken| taken >= most),
        false => taken.all(|taken| taken >= most),
    };
    full && lives(facts, name).all(|life| life.ended.is_some())
}

fn lives<'a>(facts: &'a Facts<'_>, name: usize) -> impl Iterator<Item = &'a Life> {
    facts.lives[name].iter().map(|life| &facts.history.lives[*life as usize])
}

/// The places that are taken at the end, of each node that hosts processes.
fn places(facts: &Facts<'_>) -> Vec<usize> {
    let history = facts.history;
    let mut taken: BTreeMap<u16, usize> = BTreeMap::new();
    for name in 0..facts.lives.len() {
        let quarantined = history.quarantined.iter().any(|(quarantined, _)| *quarantined as usize == name);
        let waits = lives(facts, name).last().filter(|last| keeps_place(last) && !quarantined);
        let places = lives(facts, name).filter(|life| life.ended.is_none()).chain(waits);
        places.for_each(|life| *taken.entry(life.host).or_default() += 1);
    }
    let hosting = history.finals.iter().filter(|node| {
        let me = node.incarnation.zip(node.view.as_ref()).and_then(|(me, view)| view.member(me));
        me.is_some_and(|me| !me.kinds.is_empty())
    });
    hosting.map(|node| taken.get(&node.host).copied().unwrap_or(0)).collect()
}

/// What waits for a restart in place keeps its place.
fn keeps_place(life: &Life) -> bool {
    matches!(life.ended, Some((_, End::Crashed | End::InitFailed | End::Normal)))
}
