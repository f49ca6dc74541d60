//! Birth, joins and healing end in bounded time; views do not thrash.
//!
//! Thrash is judged twice. In a second: no more views of one author than it may make; not judged near a disturbance,
//! since who was away is told at once what it missed. Over ten seconds: at most one view a second, however the network
//! is cut, as long as not more than one cut begins or ends in that time and no node comes, goes or freezes. So long cuts
//! between some pairs are judged while they last. Loosened: nothing is said of the ten seconds in which much changes.

use std::collections::BTreeMap;

use super::{Facts, Violation, ms, violated};
use crate::history::{Micros, SECOND};
use crate::world::CONVERGENCE;

const NAME: &str = "progress";
/// A node that boots while nothing is cut or frozen has a view after `found_alone_after` and C at the latest.
const BIRTH_MAX: Micros = 2 * SECOND + CONVERGENCE;
/// Views a node may install within one second: one per 200 ms, and one that was on its way.
const VIEWS_PER_SECOND_MAX: usize = 7;

/// A longer look, and how many views there may be within it.
const LONG: Micros = 10 * SECOND;
const VIEWS_LONG_MAX: usize = 10;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    check_convergence(facts, found);
    if facts.crash_only {
        check_births(facts, found);
    }
    check_thrash(facts, found);
    check_long_thrash(facts, found);
}

fn check_convergence(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    if history.healed > history.ended || history.converged.is_some() {
        return;
    }
    let views: Vec<String> = history
        .finals
        .iter()
        .filter(|node| node.incarnation.is_some())
        .map(|node| match &node.view {
            Some(view) => format!("n{}: {:?} of {}", node.host + 1, view.id, view.members.len()),
            None => format!("n{}: no view", node.host + 1),
        })
        .collect();
    violated(
        found,
        NAME,
        format!("no common view after healing at {}: {}", ms(history.healed), views.join(", ")),
    );
}

fn check_births(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    for (host, boot) in &history.boots {
        let due = boot + BIRTH_MAX;
        let in_view = history.installed.iter().any(|i| i.host == *host && i.at >= *boot && i.at <= due);
        let refused = history.name_taken.contains(host);
        if !in_view && !refused && due < history.ended && !history.killed_between(*host, *boot, due) {
            let text = format!("n{} booted at {} and has no view at {}", host + 1, ms(*boot), ms(due));
            violated(found, NAME, text);
        }
    }
}

/// One author installs its views at most every 200 ms; several authors in a row need several deaths.
fn check_thrash(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut installs: BTreeMap<(u16, u64), Vec<Micros>> = BTreeMap::new();
    for installed in &facts.history.installed {
        installs.entry((installed.host, installed.view.id.author)).or_default().push(installed.at);
    }
    for ((host, _), times) in installs {
        let burst = times.windows(VIEWS_PER_SECOND_MAX + 1).find(|w| w[VIEWS_PER_SECOND_MAX] - w[0] < SECOND);
        // A node that was away is told at once what it missed.
        let caught_up = |from: Micros| {
            facts.history.disturbances.iter().any(|d| d.until + SECOND > from && d.from < from + SECOND)
        };
        if let Some(burst) = burst
            && !caught_up(burst[0])
        {
            let text = format!(
                "n{} installs {} views of one author within a second at {}",
                host + 1,
                burst.len(),
                ms(burst[0])
            );
            violated(found, NAME, text);
        }
    }
}

/// While next to nothing changes, views become few.
fn check_long_thrash(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut installs: BTreeMap<u16, Vec<Micros>> = BTreeMap::new();
    for installed in &facts.history.installed {
        installs.entry(installed.host).or_default().push(installed.at);
    }
    let edges: Vec<Micros> = facts.history.disturbances.iter().flat_map(|d| [d.from, d.until]).collect();
    for (host, times) in installs {
        for burst in times.windows(VIEWS_LONG_MAX + 1) {
            let (first, last) = (burst[0], burst[VIEWS_LONG_MAX]);
            // What a change leads to is over within C.
            let since = first.saturating_sub(CONVERGENCE);
            let changes = edges.iter().filter(|edge| **edge >= since && **edge <= last).count();
            let frozen = facts.history.disturbances.iter().any(|d| d.frozen.is_some());
            if last - first < LONG && changes <= 1 && !frozen && !facts.nodes_change_between(since, last) {
                let text = format!(
                    "n{} installs {} views from {} to {}",
                    host + 1,
                    burst.len(),
                    ms(first),
                    ms(last)
                );
                violated(found, NAME, text);
                break;
            }
        }
    }
}
