//! Judges every message of the run: was it handled, once, in order, by one instance at a time?

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::evidence::Evidence;
use super::interval::inversions;
use super::kills::{Kill, killed_nodes};
use crate::demo::evidence::{Executed, HandledLine, HistoryLine, Op};

/// A message that broke a promise, and the moment that says to which step it belongs.
type Moments = Vec<u64>;

/// What became of the messages.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// Acknowledged, neither handled nor reported dead, and no kill explains it: when each was sent.
    pub(crate) lost: Moments,
    /// The same, explained by a kill.
    pub(crate) lost_by_kill: Moments,
    /// Handled again: when.
    pub(crate) doubled: Moments,
    /// Pairs of one sender and one name handled in the wrong order: when the later of each pair was handled.
    pub(crate) reordered: Moments,
    /// Said not to have run, but did: when each was sent.
    pub(crate) no_but_handled: Moments,
    /// Handled without anybody who sent it: when.
    pub(crate) unexplained: Moments,
    /// Handled by an instance after a later one of the same name had begun: when.
    pub(crate) old_tokens: Moments,
    /// Dead letters that no kill explains: when.
    pub(crate) dead_unexplained: Moments,
}

/// The lines of each name, by time.
pub(crate) fn by_name(handled: &[HandledLine]) -> BTreeMap<&str, Vec<&HandledLine>> {
    let mut names: BTreeMap<&str, Vec<&HandledLine>> = BTreeMap::new();
    for line in handled {
        names.entry(&line.name).or_default().push(line);
    }
    names
}

impl Messages {
    /// Judges them all.
    pub(crate) fn judge(
        evidence: &Evidence,
        names: &BTreeMap<&str, Vec<&HandledLine>>,
        kills: &[Kill],
    ) -> Self {
        let mut messages = Messages::default();
        messages.judge_sent(evidence, kills);
        messages.judge_handled(evidence, kills);
        for lines in names.values() {
            messages.judge_order(lines);
        }
        for line in &evidence.dead {
            // Without the id the sender is not known; then the name alone must explain it.
            let client_node = line.id.as_deref().and_then(|id| id.split('.').next()).unwrap_or("");
            // A letter may be reported late, so it is judged as if sent at the kill.
            if !kills.iter().any(|kill| kill.excuses(client_node, &line.name, kill.at_us)) {
                messages.dead_unexplained.push(line.t_us);
            }
        }
        messages
    }

    fn judge_sent(&mut self, evidence: &Evidence, kills: &[Kill]) {
        let handled: HashSet<&str> = evidence.handled.iter().map(|line| line.id.as_str()).collect();
        let dead: HashSet<&str> = evidence.dead.iter().filter_map(|line| line.id.as_deref()).collect();
        for line in evidence.history.iter().filter(|line| line.op != Op::Start) {
            let was_handled = handled.contains(line.id.as_str());
            if line.executed == Executed::No && was_handled {
                self.no_but_handled.push(line.t0_us);
            }
            if line.outcome != "ok" || was_handled || dead.contains(line.id.as_str()) {
                continue;
            }
            // A reply is proof that it ran, whatever was killed: only casts can be excused.
            let excused = line.op.is_cast()
                && kills.iter().any(|kill| kill.excuses(&line.node, &line.name, line.t0_us));
            if excused { self.lost_by_kill.push(line.t0_us) } else { self.lost.push(line.t0_us) }
        }
    }

    fn judge_handled(&mut self, evidence: &Evidence, kills: &[Kill]) {
        let sent: HashSet<&str> = evidence.history.iter().map(|line| line.id.as_str()).collect();
        let killed: BTreeSet<&str> = killed_nodes(kills);
        let mut seen: HashSet<&str> = HashSet::new();
        for line in &evidence.handled {
            if !seen.insert(&line.id) {
                self.doubled.push(line.t_us);
            }
            // The last operations of a killed node's clients have no line of their own.
            let from_killed = line.id.split('.').next().is_some_and(|node| killed.contains(node));
            if !sent.contains(line.id.as_str()) && !from_killed {
                self.unexplained.push(line.t_us);
            }
        }
    }

    fn judge_order(&mut self, lines: &[&HandledLine]) {
        let mut newest = 0;
        let mut senders: HashMap<&str, (Vec<u64>, u64)> = HashMap::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for line in lines {
            if line.token < newest {
                self.old_tokens.push(line.t_us);
            }
            newest = newest.max(line.token);
            let Some((client, n)) = sender_and_number(&line.id) else { continue };
            if seen.insert(&line.id) {
                let (numbers, last_us) = senders.entry(client).or_default();
                if numbers.last().is_some_and(|last| n < *last) {
                    *last_us = line.t_us;
                }
                numbers.push(n);
            }
        }
        for (numbers, last_us) in senders.into_values() {
            let found = usize::try_from(inversions(&numbers)).unwrap_or(usize::MAX);
            self.reordered.extend(std::iter::repeat_n(last_us, found));
        }
    }
}

/// Splits `client/name/n`.
fn sender_and_number(id: &str) -> Option<(&str, u64)> {
    let (client, rest) = id.split_once('/')?;
    let (_, n) = rest.rsplit_once('/')?;
    Some((client, n.parse().ok()?))
}

/// Failed calls by code, each with what the error said about execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct CallsFailed(BTreeMap<String, FailedCount>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
struct FailedCount {
    no: u64,
    unknown: u64,
}

impl CallsFailed {
    /// Counts the failed ones among these operations.
    pub(crate) fn count<'a>(lines: impl Iterator<Item = &'a HistoryLine>) -> Self {
        let mut codes: BTreeMap<String, FailedCount> = BTreeMap::new();
        for line in lines.filter(|line| line.op.is_call() && line.outcome != "ok") {
            let count = codes.entry(line.outcome.clone()).or_default();
            match line.executed {
                Executed::No => count.no += 1,
                Executed::Yes | Executed::Unknown => count.unknown += 1,
            }
        }
        Self(codes)
    }

    /// Whether none failed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many failed in all.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().map(|count| count.no + count.unknown).sum()
    }

    /// In words, for tables.
    pub(crate) fn to_words(&self) -> String {
        let each = self.0.iter().map(|(code, count)| format!("{} {code}", count.no + count.unknown));
        each.collect::<Vec<_>>().join(", ")
    }
}
