//! User code delays its own name alone.
//!
//! Judged: while some names hang in `init` or a handler, or are slower than their senders, whoever asks something
//! about another name is told in time: a start, stop, locate, release or call that may take two seconds ends within
//! them, and so not with `Deadline`. Only in runs without a cut, a pause or a change of lines, and only while no node
//! began or ended lately: then slots are being opened; and of no name that is suspected of killing its nodes, until it
//! has passed its trial: it waits for one, and no time is promised to it. Loosened: where frames take time on their
//! connection (`paced`) calls are not judged, since they wait there behind the messages of others; what nodes decide is
//! written first, and is judged.

use whimbrel_core::base::ErrorCode;

use super::{Facts, Violation, ms, violated};
use crate::history::{Life, Micros, Op, OpKind, SECOND};

const NAME: &str = "isolation";
/// Within this an answer comes; who gave less time is not promised one.
const TIME_MAX: Micros = 2 * SECOND;
/// For so long after a node began or ended nothing is promised.
const SETTLE: Micros = 8 * SECOND;
/// A suspect is cleared when its node lives for 2 s after `init`; the clocks of nodes differ.
const TRIAL: Micros = 3 * SECOND;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    if !facts.crash_only || facts.history.odd_names == 0 {
        return;
    }
    for (at, op) in facts.history.ops.iter().enumerate() {
        let judged = match op.kind {
            OpKind::Start(_) | OpKind::Stop | OpKind::Locate | OpKind::Release => true,
            OpKind::Join { .. } | OpKind::Leave { .. } | OpKind::Inspect | OpKind::SetMeta { .. } => true,
            // It ends when the process has come to rest.
            OpKind::Move { .. } => false,
            OpKind::Call => !facts.history.paced,
            OpKind::Cast | OpKind::List => false,
        };
        let healthy = op.name >= facts.history.odd_names;
        let has_time = op.deadline >= op.invoked + TIME_MAX;
        if judged && healthy && has_time && waited_in_vain(op) && !excused(facts, op) {
            let text = format!(
                "operation {at} ({:?} of {}, n{}) waited from {} to {}",
                op.kind,
                facts.history.name(op.name),
                op.host + 1,
                ms(op.invoked),
                ms(op.completed.as_ref().map_or(op.deadline, |(end, _)| *end))
            );
            violated(found, NAME, text);
        }
    }
}

fn waited_in_vain(op: &Op) -> bool {
    let late = op.completed.as_ref().is_some_and(|(at, _)| *at > op.invoked + TIME_MAX);
    late || matches!(op.failed(), Some((ErrorCode::Deadline, _)))
}

fn excused(facts: &Facts<'_>, op: &Op) -> bool {
    facts.nodes_change_between(op.invoked.saturating_sub(SETTLE), op.deadline) || is_suspect(facts, op)
}

/// Whether the name was a suspect while the operation waited: no life that began since then ran when it was asked for,
/// or had outlived its trial.
fn is_suspect(facts: &Facts<'_>, op: &Op) -> bool {
    let end = op.completed.as_ref().map_or(op.deadline, |(at, _)| *at);
    let lives = || facts.lives[op.name as usize].iter().map(|life| &facts.history.lives[*life as usize]);
    facts.history.suspected.iter().any(|(name, since)| {
        let cleared = |life: &Life| {
            let ran = life.running.filter(|at| life.launched >= *since && *at <= op.invoked);
            ran.is_some_and(|at| life.end() > op.invoked || life.end() > at + TRIAL)
        };
        *name == op.name && *since <= end && !lives().any(cleared)
    })
}
