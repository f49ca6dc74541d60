//! A process that moves goes on where it stopped, and nobody pays for it.
//!
//! Judged: the life at the target begins with the state in which the life at the source ended, so nothing was handled
//! there after the capture; a life moves to one place. In runs in which no node freezes or is cut, and none goes but after
//! it was drained, no message ends with an error that only a lost node gives (P3).
//! Loosened: of messages from nodes that stay; where nodes leave, of names that did not begin anew, since what is on its way
//! to the life before can not be asked of a host that is gone; nor, for longer than 1 s, of one that is too busy to answer.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_core::base::ErrorCode;

use super::{Facts, Violation, ms, violated};

const NAME: &str = "handoff";
/// So long a sender waits for the word of a host that lives.
const SETTLE: u64 = 1_000_000;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    check_state(facts, found);
    let history = facts.history;
    if facts.crash_only && history.kills.iter().all(|kill| history.was_drained(kill.host, kill.at)) {
        check_errors(facts, found);
    }
}

fn check_state(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    let mut gone: BTreeMap<u32, usize> = BTreeMap::new();
    for (at, life) in history.lives.iter().enumerate() {
        let Some(from) = life.moved_from else { continue };
        let source = &history.lives[from as usize];
        let name = history.name(life.name as usize as u32);
        if let Some(other) = gone.insert(from, at)
            && facts.crash_only
        {
            let text = format!("life {from} of {name} moved to two places: lives {other} and {at}");
            violated(found, NAME, text);
        }
        if source.state != life.state_at_start && facts.crash_only {
            let text = format!(
                "{name} begins on n{} at {} with another state than it had on n{}",
                life.host + 1,
                ms(life.launched),
                source.host + 1
            );
            violated(found, NAME, text);
        }
    }
}

/// Whether a name had another gate, or ended, before this time.
fn begins_anew(facts: &Facts<'_>, name: u32, until: u64) -> bool {
    let lives = facts.lives[name as usize].iter().map(|life| &facts.history.lives[*life as usize]);
    let lives = lives.filter(|life| life.launched <= until);
    let gates: BTreeSet<u64> = lives.map(|life| life.gate.as_u64()).collect();
    gates.len() > 1
        || facts.stop_between(name as usize, 0, until)
        || facts.ended_between(name as usize, 0, until)
        || facts.history.quarantined.iter().any(|(other, _)| *other == name)
}

fn check_errors(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (at, op) in facts.history.ops.iter().enumerate() {
        let letter = op.dead_letter.map(|(_, code, executed)| (code, executed));
        let lost = |(code, _): &(ErrorCode, _)| *code == ErrorCode::NodeLost;
        let until = op.deadline.max(op.dead_letter.map_or(0, |(at, ..)| at));
        let goes = |(host, at): &(u16, u64)| *host == op.host && *at >= op.invoked && *at <= until;
        let leaves = facts.history.leaves.iter().any(goes);
        let ended =
            op.completed.iter().map(|(at, _)| *at).chain(op.dead_letter.iter().map(|(at, ..)| *at)).max();
        let waited = ended.is_some_and(|ended| ended >= op.invoked + SETTLE);
        let may_have_left =
            (waited || !facts.history.leaves.is_empty()) && begins_anew(facts, op.name, until);
        if let Some((code, executed)) = op.failed().into_iter().chain(letter).find(lost)
            && !leaves
            && !may_have_left
        {
            let name = facts.history.name(op.name);
            let text = format!("message {at} to {name} ends {code}, {executed:?}, and no node was lost");
            return violated(found, NAME, text);
        }
    }
}
