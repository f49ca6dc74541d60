//! Judges each step of the story by what was sent and handled in it.

use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::interval::percentile;
use super::kills::{Kill, ms};
use super::messages::{CallsFailed, Messages};
use super::report::{Spread, StepFigures};
use crate::demo::evidence::{HistoryLine, Op, StepLine};

/// A row per step. What happens after the last step is its own settling and in no row.
pub(crate) fn figures(evidence: &Evidence, messages: &Messages, kills: &[Kill]) -> Vec<StepFigures> {
    let moved = moved_at(evidence);
    evidence.steps.iter().map(|step| row(step, evidence, messages, kills, &moved)).collect()
}

fn row(
    step: &StepLine,
    evidence: &Evidence,
    messages: &Messages,
    kills: &[Kill],
    moved: &[u64],
) -> StepFigures {
    let within = |us: u64| (step.t0_us..step.t1_us).contains(&us);
    let count = |moments: &[u64]| moments.iter().filter(|us| within(**us)).count() as u64;
    let sent: Vec<&HistoryLine> = evidence.history.iter().filter(|line| within(line.t0_us)).collect();
    let pauses: Vec<f64> =
        kills.iter().filter(|kill| within(kill.at_us)).filter_map(Kill::pause_ms).flatten().collect();
    let mut latencies: Vec<u64> = sent
        .iter()
        .filter(|line| line.op == Op::Call && line.outcome == "ok")
        .map(|line| line.t1_us.saturating_sub(line.t0_us))
        .collect();
    latencies.sort_unstable();
    StepFigures {
        step: step.step.clone(),
        ms: ms(step.t1_us, step.t0_us),
        pids_before: step.pids_before.clone(),
        pids_after: step.pids_after.clone(),
        accepted: accepted(&sent).saturating_sub(dead_letters(step, evidence)),
        lost: count(&messages.lost),
        doubled: count(&messages.doubled),
        reordered: count(&messages.reordered),
        calls_failed: CallsFailed::count(sent.iter().copied()),
        call_p50_us: percentile(&latencies, 50),
        call_p99_us: percentile(&latencies, 99),
        call_max_us: latencies.last().copied(),
        moved: count(moved),
        pause_ms: Spread::of_sorted(&sorted(pauses)),
    }
}

/// Calls and casts of counters that were accepted.
fn accepted(sent: &[&HistoryLine]) -> u64 {
    sent.iter().filter(|line| matches!(line.op, Op::Call | Op::Cast) && line.outcome == "ok").count() as u64
}

/// Dead letters of a step.
pub(crate) fn dead_letters(step: &StepLine, evidence: &Evidence) -> u64 {
    evidence.dead.iter().filter(|line| (step.t0_us..step.t1_us).contains(&line.t_us)).count() as u64
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// When a name first handled something on another node than before, for each time that happened.
fn moved_at(evidence: &Evidence) -> Vec<u64> {
    let mut hosts: BTreeMap<&str, &str> = BTreeMap::new();
    let mut moments = Vec::new();
    for line in &evidence.handled {
        if hosts.insert(&line.name, &line.node).is_some_and(|before| before != line.node) {
            moments.push(line.t_us);
        }
    }
    moments
}
