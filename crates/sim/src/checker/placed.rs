//! A process runs where its placement says, moves come to an end, and an order to pause reaches all.
//!
//! Judged at every moment, whatever the faults: a process that wants labels is on a node that has them. After the last view
//! of the run: a name moves once for its place or for load, and once more if it was on its way by then; by hand as often as
//! somebody asks. When the nodes have agreed on a view: they agree on whether rebalancing is paused. Also told here: whether
//! a name that does not run may still wait for a node that fits.

use std::collections::BTreeSet;

use super::{Facts, Violation, ms, violated};
use crate::history::OpKind;

const NAME: &str = "placed";
/// Moves of one name after the last view.
const MOVES_MAX: usize = 2;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    check_labels(facts, found);
    check_end_of_moves(facts, found);
    check_orders(facts, found);
}

fn fits(facts: &Facts<'_>, name: u32, host: u16) -> bool {
    let Some(wanted) = facts.history.wants.get(&name) else { return true };
    let labels = facts.history.labels.get(usize::from(host));
    wanted.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
}

fn check_labels(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut lives = facts.history.lives.iter();
    if let Some(life) = lives.find(|life| !fits(facts, life.name, life.host)) {
        let name = facts.history.name(life.name);
        let how = if life.moved_from.is_some() { "moves to" } else { "starts on" };
        let text = format!(
            "{name} {how} n{} at {}, which has not the labels that it wants",
            life.host + 1,
            ms(life.launched)
        );
        violated(found, NAME, text);
    }
}

fn check_end_of_moves(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    let last_view = history.installed.iter().map(|installed| installed.at).max().unwrap_or(0);
    for (name, lives) in facts.lives.iter().enumerate() {
        let lives = lives.iter().map(|life| &history.lives[*life as usize]);
        let moves = lives.filter(|life| life.moved_from.is_some() && life.launched > last_view).count();
        let ops = facts.ops[name].iter().map(|op| &history.ops[*op as usize]);
        let by_hand =
            ops.filter(|op| matches!(op.kind, OpKind::Move { .. }) && op.deadline > last_view).count();
        if moves > MOVES_MAX + 2 * by_hand {
            let name = history.name(name as u32);
            let text = format!("{name} moves {moves} times after the last view, at {}", ms(last_view));
            return violated(found, NAME, text);
        }
    }
}

fn check_orders(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    let nodes = history.finals.iter().filter(|node| node.view.is_some());
    let orders: BTreeSet<bool> = nodes.map(|node| node.paused).collect();
    if history.converged.is_some() && orders.len() > 1 {
        let paused =
            history.finals.iter().filter(|node| node.paused).map(|node| format!("n{}", node.host + 1));
        let text = format!("only {} have rebalancing as paused", paused.collect::<Vec<_>>().join(", "));
        violated(found, NAME, text);
    }
}

/// Whether a name may wait at the end, since no node is there that has the labels which it wants.
pub(super) fn may_wait(facts: &Facts<'_>, name: usize) -> bool {
    let hosting = facts.history.finals.iter().filter(|node| {
        let me = node.incarnation.zip(node.view.as_ref()).and_then(|(me, view)| view.member(me));
        me.is_some_and(|me| !me.kinds.is_empty())
    });
    !hosting.into_iter().any(|node| fits(facts, name as u32, node.host))
}
