//! A start that was acknowledged is found by every later lookup and runs again.

use whimbrel_core::base::ErrorCode;
use whimbrel_core::directory::RestartPolicy;

use super::{Facts, Violation, ms, placed, room, violated};
use crate::history::{Micros, Op, OpKind, Outcome};

const NAME: &str = "durability";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    if facts.copies_lost {
        return;
    }
    for name in 0..facts.ops.len() {
        let Some(first) = acknowledged(facts, name) else { continue };
        if facts.crash_only && facts.is_permanent(name) {
            check_lookups(facts, name, first, found);
        }
    }
    if facts.history.converged.is_some() {
        check_probes(facts, found);
    }
}

/// When the name was first acknowledged.
fn acknowledged(facts: &Facts<'_>, name: usize) -> Option<Micros> {
    let ops = facts.ops[name].iter().map(|op| &facts.history.ops[*op as usize]);
    let started = ops.filter_map(|op| match &op.completed {
        Some((at, Outcome::Started { .. } | Outcome::Already { .. })) => Some(*at),
        _ => None,
    });
    started.min()
}

fn not_found(op: &Op) -> Option<Micros> {
    let outcome = op.completed.as_ref().and_then(|(at, outcome)| match outcome {
        Outcome::Failed { code: ErrorCode::NotFound, .. } => Some(*at),
        _ => None,
    });
    let letter = op.dead_letter.and_then(|(at, code, _)| (code == ErrorCode::NotFound).then_some(at));
    outcome.or(letter)
}

/// No lookup after the acknowledgement misses it, as long as nobody asked for a stop.
fn check_lookups(facts: &Facts<'_>, name: usize, first: Micros, found: &mut Vec<Violation>) {
    for at in &facts.ops[name] {
        let op = &facts.history.ops[*at as usize];
        let Some(missed) = not_found(op) else { continue };
        if op.invoked > first && !facts.stop_between(name, 0, missed) {
            let text = facts.history.name(name as u32);
            let what = format!(
                "{text} was acknowledged at {}; operation {at} did not find it at {}",
                ms(first),
                ms(missed)
            );
            violated(found, NAME, what);
            return;
        }
    }
}

/// After healing every name that should run answers on every node.
fn check_probes(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    for probe in &history.probes {
        let name = probe.name as usize;
        if !must_answer(facts, name) {
            continue;
        }
        let op = &history.ops[probe.op as usize];
        let answered = match &op.completed {
            Some((_, Outcome::Ok)) => true,
            Some((_, Outcome::Failed { code, .. })) => *code == ErrorCode::Overloaded,
            _ => false,
        };
        if !answered && !room::may_wait(facts, name) && !placed::may_wait(facts, name) {
            let text = history.name(probe.name);
            let how = op.completed.as_ref().map(|(_, outcome)| outcome);
            let what = format!("{text} does not answer on n{} after healing: {how:?}", probe.host + 1);
            violated(found, NAME, what);
        }
    }
}

/// Whether the name was acknowledged and nothing that happened may have ended it.
fn must_answer(facts: &Facts<'_>, name: usize) -> bool {
    let history = facts.history;
    let Some(first) = acknowledged(facts, name) else { return false };
    let mut policies = facts.policies(name);
    let ends_by_itself = |policy: RestartPolicy| match policy {
        RestartPolicy::Permanent => false,
        RestartPolicy::Transient => facts.ended_between(name, first, history.ended),
        RestartPolicy::Temporary => true,
    };
    // A suspect of node deaths is promised no time.
    let mut set_aside = history.quarantined.iter().chain(&history.suspected);
    let quarantined = set_aside.any(|(quarantined, _)| *quarantined as usize == name);
    let told = facts.ops[name].iter().any(|op| {
        let op = &history.ops[*op as usize];
        matches!(op.failed(), Some((ErrorCode::Quarantined, _))) || op.kind == OpKind::Stop
    });
    !quarantined && !told && !policies.any(ends_by_itself)
}
