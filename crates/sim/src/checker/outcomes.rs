//! Every operation has one outcome by its deadline, and the outcome is true.

use std::collections::BTreeSet;

use whimbrel_core::base::{ErrorCode, Executed, Token};

use super::{Facts, Violation, ms, placed, room, violated};
use crate::history::{End, Life, MILLI, Micros, Op, OpKind, Outcome};

const NAME: &str = "outcomes";
/// An outcome may come so long after the deadline.
const LATE_MAX: Micros = 50 * MILLI;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut handled = vec![None; facts.history.ops.len()];
    // Of a process that a split has left twice, one may say No of a message that the other has handled.
    let mut by_one_of_two = BTreeSet::new();
    let lives = &facts.history.lives;
    let forked = (0..lives.len()).filter(|life| facts.is_forked(*life as u32));
    let forked: BTreeSet<Token> = forked.map(|life| lives[life].gate).collect();
    for entry in &facts.history.handled {
        handled[entry.op as usize].get_or_insert(entry.at);
        if forked.contains(&lives[entry.life as usize].gate) {
            by_one_of_two.insert(entry.op);
        }
    }
    for (at, op) in facts.history.ops.iter().enumerate() {
        check_outcome(facts, at, op, found);
        if !by_one_of_two.contains(&(at as u32)) {
            check_truth(facts, at, op, handled[at], found);
        }
        if op.kind == OpKind::Cast && handled[at].is_none() {
            check_cast(facts, at, op, found);
        }
    }
}

/// By when the outcome must be there: a frozen node is excused until it goes on, perhaps to be frozen again at once.
pub(super) fn due(facts: &Facts<'_>, host: u16, invoked: Micros, deadline: Micros) -> Micros {
    let frozen = facts.history.disturbances.iter().filter(|d| d.frozen == Some(host));
    frozen.filter(|d| d.until >= invoked).fold(deadline + LATE_MAX, |due, d| match d.from <= due {
        true => due.max(d.until + LATE_MAX),
        false => due,
    })
}

fn check_outcome(facts: &Facts<'_>, at: usize, op: &Op, found: &mut Vec<Violation>) {
    let history = facts.history;
    if op.second_outcome {
        violated(found, NAME, format!("operation {at} ({:?}) ended twice", op.kind));
    }
    let due = due(facts, op.host, op.invoked, op.deadline);
    match &op.completed {
        Some((completed, outcome)) if *completed > due => {
            let text = format!(
                "operation {at} ({:?}) ended at {}, due {}: {outcome:?}",
                op.kind,
                ms(*completed),
                ms(due)
            );
            violated(found, NAME, text);
        }
        Some(_) => {}
        None if history.ended > due && !history.killed_between(op.host, op.invoked, due) => {
            let name = history.name(op.name);
            let text = format!(
                "operation {at} ({:?} {name}, n{}) has no outcome; due {}",
                op.kind,
                op.host + 1,
                ms(due)
            );
            violated(found, NAME, text);
        }
        None => {}
    }
}

/// "Not executed" was not; "done" was.
fn check_truth(facts: &Facts<'_>, at: usize, op: &Op, handled: Option<Micros>, found: &mut Vec<Violation>) {
    let history = facts.history;
    let name = history.name(op.name);
    let letter = op.dead_letter.map(|(_, code, executed)| (code, executed));
    for (code, executed) in op.failed().into_iter().chain(letter) {
        if executed == Executed::No && handled.is_some() {
            violated(
                found,
                NAME,
                format!("message {at} to {name} ended {code}, not executed, and is handled"),
            );
        }
        let by_request = |life: &&u32| Some(history.lives[**life as usize].request) == op.request;
        let starts = matches!(op.kind, OpKind::Start(_)) && code != ErrorCode::InitFailed;
        if starts
            && executed == Executed::No
            && facts.lives[op.name as usize].iter().any(|life| by_request(&life))
        {
            violated(
                found,
                NAME,
                format!("start {at} of {name} ended {code}, not executed, and was launched"),
            );
        }
    }
    if op.kind == OpKind::Call
        && let Some((completed, Outcome::Ok)) = &op.completed
        && handled.is_none_or(|time| time > *completed)
    {
        violated(found, NAME, format!("call {at} to {name} was answered and not handled"));
    }
}

/// An accepted cast is handled, told to the dead letters, or died with a node.
fn check_cast(facts: &Facts<'_>, at: usize, op: &Op, found: &mut Vec<Violation>) {
    let history = facts.history;
    let accepted = matches!(op.completed, Some((_, Outcome::Ok)));
    if !accepted || op.dead_letter.is_some() || history.killed_between(op.host, op.invoked, history.ended) {
        return;
    }
    let died_with_host = facts.lives[op.name as usize].iter().any(|at| {
        let life = &history.lives[*at as usize];
        history.killed_between(life.host, op.invoked.max(life.launched), history.ended)
            || went_to_the_dead(facts, *at)
    });
    // A suspect of node deaths is promised no time: what is meant for it may still wait.
    let waits = history.suspected.iter().any(|(name, _)| *name == op.name);
    let name = op.name as usize;
    let waits = waits || room::may_wait(facts, name) || placed::may_wait(facts, name);
    if !died_with_host && !waits {
        let name = history.name(op.name);
        let text = format!("cast {at} to {name}, sent at {} on n{}, vanished", ms(op.invoked), op.host + 1);
        violated(found, NAME, text);
    }
}

/// Whether a life moved, and the node that took it died before it ran there.
fn went_to_the_dead(facts: &Facts<'_>, life: u32) -> bool {
    let Life { ended, sealed, .. } = &facts.history.lives[life as usize];
    let (Some((at, End::Moved)), Some(sealed)) = (ended, sealed) else { return false };
    let soon = *sealed..=at + 2 * facts.delay_max + LATE_MAX;
    facts.went_to[life as usize].is_empty() && facts.history.kills.iter().any(|kill| soon.contains(&kill.at))
}
