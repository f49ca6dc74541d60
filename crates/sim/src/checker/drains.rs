//! A node that drains gives up all that can move, takes nothing, and is done by its deadline.
//!
//! Judged: a drain of a node that lives and is not frozen ends by its deadline; when it ends before, what is named as left
//! can not move, and nothing else is left, nor anybody who could take it where that is why; no life begins on a node by
//! whose own view it drains, but one that was on its way to it, or follows one in its place.
//! Loosened: nothing is said of nodes that change lines while they drain.

use whimbrel_core::base::Hindrance;
use whimbrel_core::view::View;

use super::{Facts, Violation, ms, violated};
use crate::history::{Drain, Life, Micros, SECOND};

const NAME: &str = "drains";
/// A drain is looked at now and then; clocks differ.
const LATE_MAX: Micros = SECOND;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for drain in &facts.history.drains {
        check_end(facts, drain, found);
        if facts.crash_only {
            check_left(facts, drain, found);
        }
    }
    for life in &facts.history.lives {
        check_place(facts, life, found);
    }
}

fn check_end(facts: &Facts<'_>, drain: &Drain, found: &mut Vec<Violation>) {
    let history = facts.history;
    let due = drain.at + drain.within + LATE_MAX;
    let frozen = |d: &crate::history::Disturbance| {
        d.frozen == Some(drain.host) && d.from <= due && d.until >= drain.at
    };
    let excused =
        history.killed_between(drain.host, drain.at, due) || history.disturbances.iter().any(frozen);
    if drain.over.is_none_or(|over| over > due) && history.ended > due && !excused {
        violated(found, NAME, format!("n{} drains since {} for ever", drain.host + 1, ms(drain.at)));
    }
}

fn check_left(facts: &Facts<'_>, drain: &Drain, found: &mut Vec<Violation>) {
    let history = facts.history;
    let Some(over) = drain.over.filter(|over| *over < drain.at + drain.within) else { return };
    // Told to leave in the middle of it, a node leaves.
    let cut_short = |(host, at): &(u16, Micros)| *host == drain.host && (drain.at..=over).contains(at);
    if history.leaves.iter().any(cut_short) {
        return;
    }
    for (name, why) in &drain.stayed {
        let others = || view_at(facts, drain.host, over).is_some_and(|view| has_others(view, drain.host));
        let pinned = history.placed.contains(name);
        if !why.is_for_good() || (*why == Hindrance::NoHost && !pinned && others()) {
            let name = history.name(*name);
            let text = format!("n{} is drained at {} with {name} left: {why:?}", drain.host + 1, ms(over));
            return violated(found, NAME, text);
        }
    }
    let runs = |life: &&Life| {
        life.host == drain.host
            && life.running.is_some_and(|at| at < over)
            && life.launched < over
            && life.ended.is_none_or(|(at, _)| at > over)
    };
    for life in history.lives.iter().filter(runs) {
        if !drain.stayed.iter().any(|(name, _)| *name == life.name) {
            let name = history.name(life.name);
            let text = format!("n{} is drained at {}, and {name} runs on it", drain.host + 1, ms(over));
            return violated(found, NAME, text);
        }
    }
}

/// The view that a node has at a time.
fn view_at<'a>(facts: &'a Facts<'_>, host: u16, at: Micros) -> Option<&'a View> {
    let installed = facts.history.installed.iter().filter(|i| i.host == host && i.at <= at);
    installed.max_by_key(|i| i.at).map(|installed| &*installed.view)
}

/// Whether a node that does not drain hosts processes, besides this one.
fn has_others(view: &View, host: u16) -> bool {
    let name = format!("n{}", host + 1);
    view.members.iter().any(|m| !m.draining && !m.kinds.is_empty() && m.name.as_str() != name)
}

fn check_place(facts: &Facts<'_>, life: &Life, found: &mut Vec<Violation>) {
    if life.in_place || life.moved_from.is_some() || facts.history.drains.is_empty() {
        return;
    }
    let mut incarnations = facts.history.incarnations.iter().filter(|(host, ..)| *host == life.host);
    let Some((_, incarnation, since)) = incarnations.rfind(|(.., at)| *at <= life.launched) else {
        return;
    };
    // What a node does in the turn in which it hears of the view was begun before.
    let Some(view) = view_at(facts, life.host, life.launched.saturating_sub(1)) else { return };
    let drains = view.member(*incarnation).is_some_and(|member| member.draining);
    if drains && *since <= life.launched {
        let (name, at) = (facts.history.name(life.name), ms(life.launched));
        violated(found, NAME, format!("{name} begins at {at} on n{}, which drains", life.host + 1));
    }
}
