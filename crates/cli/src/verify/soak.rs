//! The figures of a soak: the whole of it in one row, since every change of it is like every other.

use serde::Serialize;

use super::evidence::Evidence;
use super::interval::percentile;
use super::messages::{CallsFailed, Messages};
use super::moves::Moves;
use super::report::{Check, Spread};
use crate::demo::evidence::{CLEANER, HistoryLine, Op};

/// What five minutes of soak must come to; a shorter one to its share.
const SECONDS: u64 = 300;
const MOVES_MIN: u64 = 5_000;
const HANDLED_MIN: u64 = 1_400_000;
/// The names and the rate that they are of; a soak with others must come to its share.
const NAMES: u64 = 1_000;
const RATE: u64 = 5_000;
/// Of a hundred calls ninety-nine take at most so much longer than their handlers do.
const ADDED_CALL_P99_MS_MAX: f64 = 250.0;
const MIB: f64 = 1_048_576.0;

/// What is judged about a soak.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SoakFigures {
    pub(crate) minutes: f64,
    pub(crate) moves: u64,
    pub(crate) changes: u64,
    pub(crate) accepted: u64,
    pub(crate) handled: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) calls_failed: CallsFailed,
    /// What calls took beyond the time that their handlers were told to take.
    pub(crate) added_call_p99_ms: Option<f64>,
    pub(crate) pause_ms: Option<Spread>,
    pub(crate) rss_max_mib: Option<f64>,
}

/// The figures of a soak.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn figures(evidence: &Evidence, messages: &Messages, moves: &Moves) -> SoakFigures {
    let sent = |line: &&HistoryLine| matches!(line.op, Op::Call | Op::Cast);
    let ok = evidence.history.iter().filter(sent).filter(|line| line.outcome == "ok");
    // Those of the load: the questions at the begin and the end come all at once.
    let answered = ok.clone().filter(|line| line.op == Op::Call && line.work_us > 0);
    let mut added: Vec<u64> =
        answered.map(|line| line.t1_us.saturating_sub(line.t0_us).saturating_sub(line.work_us)).collect();
    added.sort_unstable();
    let rss = evidence.steps.iter().filter_map(|step| step.rss_max_bytes).max();
    SoakFigures {
        minutes: (f64::from(evidence.run.seconds) / 0.6).round() / 100.0,
        moves: moves.arrived.len() as u64,
        changes: (evidence.steps.len() as u64).saturating_sub(1),
        accepted: (ok.count() as u64).saturating_sub(evidence.dead.len() as u64),
        handled: evidence.handled.iter().filter(|line| line.name != CLEANER).count() as u64,
        lost: messages.lost.len() as u64,
        doubled: messages.doubled.len() as u64,
        reordered: messages.reordered.len() as u64,
        calls_failed: CallsFailed::count(evidence.history.iter()),
        added_call_p99_ms: percentile(&added, 99).map(|us| us as f64 / 1_000.0),
        pause_ms: Spread::of_sorted(&moves.pauses_ms(|_| true)),
        rss_max_mib: rss.map(|bytes| (bytes as f64 / MIB * 10.0).round() / 10.0),
    }
}

/// What must hold for a soak, beside what must hold for every run.
pub(crate) fn checks(evidence: &Evidence, figures: &SoakFigures) -> Vec<Check> {
    let run = &evidence.run;
    let (seconds, names, rate) = (u64::from(run.seconds), u64::from(run.names), u64::from(run.rate));
    let least = |name: &str, found: u64, least: u64| {
        Check::that(name, found >= least, format!("{found} of at least {least}"))
    };
    let added = figures.added_call_p99_ms;
    vec![
        least("moves", figures.moves, MOVES_MIN * seconds * names / (SECONDS * NAMES)),
        least("handled", figures.handled, HANDLED_MIN * seconds * rate / (SECONDS * RATE)),
        Check::that("calls_failed", figures.calls_failed.is_empty(), figures.calls_failed.to_words()),
        Check::that(
            "added_call_p99_ms",
            added.is_some_and(|added| added <= ADDED_CALL_P99_MS_MAX),
            added.map_or_else(|| "not measured".to_owned(), |added| format!("{added} ms")),
        ),
        Check::that("pause_ms", figures.pause_ms.is_some(), "measured, or not"),
        Check::that("rss_max_mib", figures.rss_max_mib.is_some(), "measured, or not"),
    ]
}
