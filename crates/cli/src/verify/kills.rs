//! What a kill -9 of a node excuses: who was on it, and when each of them was back.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::Evidence;
use crate::demo::evidence::{Executed, HandledLine, HistoryLine};

/// One node that was killed.
#[derive(Debug)]
pub(crate) struct Kill {
    /// The node.
    pub(crate) node: String,
    /// kill(2) had returned.
    pub(crate) at_us: u64,
    /// The names on it, each with what became of it.
    pub(crate) names: BTreeMap<String, Return>,
}

/// How a name came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Return {
    /// First reply to a client on a survivor.
    pub(crate) replied_us: Option<u64>,
    /// First message handled by the next instance.
    pub(crate) handled_us: Option<u64>,
}

impl Kill {
    /// Every kill of the run, in order.
    pub(crate) fn all(evidence: &Evidence, by_name: &BTreeMap<&str, Vec<&HandledLine>>) -> Vec<Kill> {
        let replies = replies_by_name(&evidence.history);
        let exits = evidence.steps.iter().flat_map(|step| &step.exits);
        exits
            .filter_map(|exit| Some((exit, exit.killed_us?)))
            .map(|(exit, at_us)| {
                let names = by_name.iter().filter_map(|(name, lines)| {
                    let old = last_before(lines, at_us, &exit.node)?;
                    let back = find_return(old, lines, replies.get(name).map_or(&[], Vec::as_slice));
                    (old.node == exit.node).then(|| ((*name).to_owned(), back))
                });
                Kill { node: exit.node.clone(), at_us, names: names.collect() }
            })
            .collect()
    }

    /// Whether a message sent at `t0_us` by a client on `client_node` may be lost with this node.
    pub(crate) fn excuses(&self, client_node: &str, name: &str, t0_us: u64) -> bool {
        if client_node == self.node {
            return true;
        }
        self.names.get(name).is_some_and(|back| back.replied_us.is_none_or(|us| t0_us <= us))
    }

    /// Milliseconds until each name replied, sorted; `None` if one never did.
    pub(crate) fn back_ms(&self) -> Option<Vec<f64>> {
        let mut all: Vec<f64> =
            self.names.values().map(|back| Some(ms(back.replied_us?, self.at_us))).collect::<Option<_>>()?;
        all.sort_by(f64::total_cmp);
        Some(all)
    }

    /// Milliseconds until each name's next instance handled something, sorted; `None` if one never did.
    pub(crate) fn pause_ms(&self) -> Option<Vec<f64>> {
        let mut all: Vec<f64> =
            self.names.values().map(|back| Some(ms(back.handled_us?, self.at_us))).collect::<Option<_>>()?;
        all.sort_by(f64::total_cmp);
        Some(all)
    }
}

/// Milliseconds from `from_us` to `to_us`, to a hundredth.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn ms(to_us: u64, from_us: u64) -> f64 {
    (to_us.saturating_sub(from_us) as f64 / 10.0).round() / 100.0
}

/// The last thing the name's instance did before the kill. A process may run for some microseconds after kill(2)
/// has returned, so all that the killed node did counts.
fn last_before<'a>(lines: &[&'a HandledLine], at_us: u64, node: &str) -> Option<&'a HandledLine> {
    lines.iter().rev().find(|line| line.t_us <= at_us || line.node == node).copied()
}

fn find_return(old: &HandledLine, lines: &[&HandledLine], replies: &[&HistoryLine]) -> Return {
    let newer = |token: Option<u64>| token.is_some_and(|token| token > old.token);
    Return {
        replied_us: replies
            .iter()
            .filter(|reply| newer(reply.token) && reply.node != old.node)
            .map(|reply| reply.t1_us)
            .min(),
        handled_us: lines.iter().filter(|line| newer(Some(line.token))).map(|line| line.t_us).min(),
    }
}

fn replies_by_name(history: &[HistoryLine]) -> BTreeMap<&str, Vec<&HistoryLine>> {
    let mut by_name: BTreeMap<&str, Vec<&HistoryLine>> = BTreeMap::new();
    for line in history.iter().filter(|line| line.op.is_call() && line.executed == Executed::Yes) {
        by_name.entry(&line.name).or_default().push(line);
    }
    by_name
}

/// The nodes that were killed.
pub(crate) fn killed_nodes(kills: &[Kill]) -> BTreeSet<&str> {
    kills.iter().map(|kill| kill.node.as_str()).collect()
}
