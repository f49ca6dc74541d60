//! Judges each step of the story by what was sent and handled in it.

use super::evidence::Evidence;
use super::interval::percentile;
use super::kills::{Kill, ms};
use super::messages::{CallsFailed, Messages};
use super::moves::Moves;
use super::report::{Spread, StepFigures};
use crate::demo::evidence::{HistoryLine, Op, StepLine};

/// A row per step. What happens after the last step is its own settling and in no row.
pub(crate) fn figures(
    evidence: &Evidence,
    messages: &Messages,
    moves: &Moves,
    kills: &[Kill],
) -> Vec<StepFigures> {
    evidence.steps.iter().map(|step| row(step, evidence, messages, moves, kills)).collect()
}

fn row(
    step: &StepLine,
    evidence: &Evidence,
    messages: &Messages,
    moves: &Moves,
    kills: &[Kill],
) -> StepFigures {
    let within = |us: u64| (step.t0_us..step.t1_us).contains(&us);
    let count = |moments: &[u64]| moments.iter().filter(|us| within(**us)).count() as u64;
    let sent: Vec<&HistoryLine> = evidence.history.iter().filter(|line| within(line.t0_us)).collect();
    let mut pauses = moves.pauses_ms(within);
    pauses.extend(kills.iter().filter(|kill| within(kill.at_us)).filter_map(Kill::pause_ms).flatten());
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
        moved: moves.moments().filter(|us| within(*us)).count() as u64,
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
