//! No table passes its limit, and load alone kills nobody.
//!
//! Judged: every table of a `Node` that [`Node::usage`](whimbrel_core::node::Node::usage) lists, looked at after
//! every 32nd input of any node; mailboxes, routes and lanes of links after every input that may fill them. And in
//! runs without a cut, a pause or a change of lines: every member that a view leaves out has died or was leaving.
//! Loosened: what a gate holds back for the order of its senders (64 each) is judged by the tests of `delivery` alone,
//! and so are bytes; here everything is counted in entries. A process that falls behind in a real machine takes
//! processor time from others; here it only takes its own.

use std::collections::BTreeMap;

use whimbrel_core::view::{View, ViewId};

use super::{Facts, Violation, ms, violated};
use crate::history::Installed;

const NAME: &str = "bounds";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for fullest in facts.history.fullest.values() {
        let usage = fullest.usage;
        if usage.used > usage.limit {
            let text = format!(
                "{} of n{} hold {} of at most {} at {}",
                usage.table,
                fullest.host + 1,
                usage.used,
                usage.limit,
                ms(fullest.at)
            );
            violated(found, NAME, text);
        }
    }
    if facts.crash_only {
        check_false_deaths(facts, found);
    }
}

/// Whoever is left out of a view died before, or said good-bye.
fn check_false_deaths(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut first: BTreeMap<ViewId, &Installed> = BTreeMap::new();
    for installed in &facts.history.installed {
        first.entry(installed.view.id).or_insert(installed);
    }
    for installed in first.values() {
        let parent = installed.view.parent.and_then(|parent| first.get(&parent));
        let Some(parent) = parent else { continue };
        for excluded in left_out(&parent.view, &installed.view) {
            let life = facts.history.incarnations.iter().find(|(_, life, _)| *life == excluded);
            let Some((host, _, began)) = life else { continue };
            let leaves = facts.history.leaves.iter().any(|(h, at)| h == host && at >= began);
            if !leaves && !facts.history.killed_between(*host, *began, installed.at) {
                let text = format!(
                    "n{} lives and is left out of the view {:?} at {}",
                    host + 1,
                    installed.view.id,
                    ms(installed.at)
                );
                violated(found, NAME, text);
            }
        }
    }
}

fn left_out<'v>(
    before: &'v View,
    after: &'v View,
) -> impl Iterator<Item = whimbrel_core::base::Incarnation> + 'v {
    before.incarnations().filter(|member| !after.contains(*member))
}
