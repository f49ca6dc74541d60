//! Start, stop and locate of one name are linearizable while nothing is cut: a small search after Wing and Gong,
//! with the memory of visited states that Lowe added.
//!
//! The object is one bit: the name exists, or it does not. An operation without a certain outcome may take effect
//! at any time after its invocation, or never.

use std::collections::BTreeSet;

use whimbrel_core::base::{ErrorCode, Executed};

use super::{Facts, Violation, violated};
use crate::history::{Micros, NEVER, Op, OpKind, Outcome};

const NAME: &str = "linear";
/// States visited before a history counts as too hard.
const STATES_MAX: usize = 100_000;
/// Operations that may be open beyond the oldest.
const WINDOW: usize = 64;

/// What an outcome says about the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It was absent and is there now.
    Made,
    /// It was there.
    Seen,
    /// It was absent.
    Absent,
    /// It is absent now.
    Removed,
    /// It may be made, at any time or never.
    MayMake,
    /// It may be removed, at any time or never.
    MayRemove,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    invoked: Micros,
    completed: Micros,
    effect: Effect,
    op: u32,
}

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    if !facts.crash_only || facts.copies_lost {
        return;
    }
    for name in 0..facts.ops.len() {
        if !facts.is_permanent(name) {
            continue;
        }
        let ops = facts.ops[name].iter().filter_map(|op| step(facts, *op, &facts.history.ops[*op as usize]));
        let steps: Vec<Step> = ops.collect();
        if let Some(stuck) = first_contradiction(&steps) {
            let op = &facts.history.ops[stuck.op as usize];
            let text = facts.history.name(name as u32);
            let what = format!(
                "{text}: operation {} ({:?}) ended {:?}, against every order",
                stuck.op, op.kind, op.completed
            );
            violated(found, NAME, what);
        }
    }
}

fn step(facts: &Facts<'_>, at: u32, op: &Op) -> Option<Step> {
    use Effect::{Absent, Made, MayMake, MayRemove, Removed, Seen};
    let outcome = op.completed.as_ref().map(|(_, outcome)| outcome);
    let effect = match (op.kind, outcome) {
        (OpKind::Start(_), Some(Outcome::Started { .. })) => Made,
        (OpKind::Start(_), Some(Outcome::Already { .. })) => Seen,
        (OpKind::Locate, Some(Outcome::Located { .. })) => Seen,
        (OpKind::Locate | OpKind::Stop, Some(Outcome::Failed { code: ErrorCode::NotFound, .. })) => Absent,
        (OpKind::Stop, Some(Outcome::Ok)) => Removed,
        (OpKind::Start(_), Some(Outcome::Failed { executed: Executed::Unknown, .. }) | None) => MayMake,
        // A stop in the middle of a start takes the name away, and the start ends with that.
        (OpKind::Start(_), Some(Outcome::Failed { code: ErrorCode::InitFailed, .. }))
            if facts.stop_between(
                op.name as usize,
                op.invoked,
                op.completed.as_ref().map_or(NEVER, |c| c.0),
            ) =>
        {
            MayMake
        }
        (OpKind::Stop, Some(Outcome::Failed { executed: Executed::Unknown, .. }) | None) => MayRemove,
        _ => return None,
    };
    let certain = !matches!(effect, MayMake | MayRemove);
    let completed = if certain { op.completed.as_ref().map_or(NEVER, |(at, _)| *at) } else { NEVER };
    Some(Step { invoked: op.invoked, completed, effect, op: at })
}

/// The bit after a step, if the step is possible.
fn apply(effect: Effect, exists: bool) -> Option<bool> {
    match effect {
        Effect::Made => (!exists).then_some(true),
        Effect::Seen => exists.then_some(true),
        Effect::Absent => (!exists).then_some(false),
        Effect::Removed | Effect::MayRemove => Some(false),
        Effect::MayMake => Some(true),
    }
}

/// Which steps are done: all before `first`, and those after it whose bit is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Done {
    first: usize,
    after: u64,
    exists: bool,
}

/// The certain step at which every order fails, or none when one order explains everything.
fn first_contradiction(steps: &[Step]) -> Option<Step> {
    let mut visited = BTreeSet::new();
    let mut open = vec![Done { first: 0, after: 0, exists: false }];
    let mut furthest = 0;
    while let Some(done) = open.pop() {
        if done.first >= steps.len() || steps[done.first..].iter().all(|step| step.completed == NEVER) {
            return None;
        }
        if !visited.insert(done) {
            continue;
        }
        if visited.len() > STATES_MAX {
            return None;
        }
        furthest = furthest.max(done.first);
        open.extend(successors(steps, done));
    }
    steps[furthest..].iter().find(|step| step.completed != NEVER).copied()
}

fn successors(steps: &[Step], done: Done) -> Vec<Done> {
    let window = &steps[done.first..steps.len().min(done.first + WINDOW)];
    let is_open = |at: usize| done.after & (1 << at) == 0;
    let soonest =
        window.iter().enumerate().filter(|(at, _)| is_open(*at)).map(|(_, step)| step.completed).min();
    let soonest = soonest.unwrap_or(NEVER);
    let mut next = Vec::new();
    for (at, step) in window.iter().enumerate().filter(|(at, _)| is_open(*at)) {
        if step.invoked > soonest {
            break;
        }
        if let Some(exists) = apply(step.effect, done.exists) {
            next.push(advance(Done { after: done.after | (1 << at), exists, ..done }));
        }
        // An uncertain step that is the oldest may also never have happened.
        if at == 0 && step.completed == NEVER {
            next.push(advance(Done { after: done.after | 1, ..done }));
        }
    }
    next
}

fn advance(mut done: Done) -> Done {
    while done.after & 1 == 1 {
        done.after >>= 1;
        done.first += 1;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(list: &[(Micros, Micros, Effect)]) -> Vec<Step> {
        let step = |(at, (invoked, completed, effect)): (usize, &(Micros, Micros, Effect))| Step {
            invoked: *invoked,
            completed: *completed,
            effect: *effect,
            op: at as u32,
        };
        list.iter().enumerate().map(step).collect()
    }

    #[test]
    fn planted_histories_are_judged() {
        use Effect::{Absent, Made, MayMake, MayRemove, Removed, Seen};
        let fine = [
            vec![(0, 10, Made), (5, 8, Absent), (11, 12, Seen)],
            vec![(0, 10, Made), (1, 30, Removed), (12, 40, Made)],
            vec![(0, NEVER, MayMake), (50, 60, Absent), (70, 80, Seen)],
            vec![(0, 5, Made), (6, NEVER, MayRemove), (50, 60, Seen), (70, 80, Absent)],
        ];
        for list in fine {
            assert!(first_contradiction(&steps(&list)).is_none(), "{list:?}");
        }
        let bad = [
            // Two grants.
            vec![(0, 10, Made), (5, 20, Made)],
            // A stale lookup.
            vec![(0, 10, Made), (11, 12, Absent)],
            vec![(0, 10, Made), (11, 20, Removed), (21, 22, Seen)],
        ];
        for list in bad {
            assert!(first_contradiction(&steps(&list)).is_some(), "{list:?}");
        }
    }
}
