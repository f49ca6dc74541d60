//! Judges the singleton: one life at a time, one run at a time, only outdated rows, all of them.

use std::collections::{BTreeMap, HashMap};

use super::evidence::{Evidence, Life};
use super::interval::overlaps;
use super::kills::{Kill, ms};
use super::report::CleanerFigures;
use crate::demo::evidence::{CLEANER, Op};

/// The cleaner's figures.
pub(crate) fn figures(evidence: &Evidence, kills: &[Kill]) -> CleanerFigures {
    let database = &evidence.database;
    let ends = life_ends(evidence);
    let lives = database.lives.iter().zip(&ends).map(|(life, end)| (life.started_ms, *end)).collect();
    let mut last_end: BTreeMap<u64, f64> = BTreeMap::new();
    for (life, end) in database.lives.iter().zip(&ends) {
        let last = last_end.entry(life.token).or_insert(*end);
        *last = last.max(*end);
    }
    let runs = database.runs.iter().map(|run| {
        // A run that did not come to its end ended with its life.
        let of_life = || last_end.get(&run.token).copied().unwrap_or(f64::INFINITY);
        (run.started_ms, run.ended_ms.unwrap_or_else(of_life))
    });
    CleanerFigures {
        runs: database.runs.len() as u64,
        overlapping_runs: overlaps(runs.collect()),
        overlapping_lives: overlaps(lives),
        outdated_rows_left: database.outdated_left,
        fresh_rows_deleted: database.fresh_deleted,
        back_after_panic_ms: back_after_panic_ms(evidence),
        back_after_kill_ms: back_after_kill_ms(kills),
    }
}

/// When each life ended: as it wrote itself, or when its process was killed, but not before it was last seen. A token
/// has two of them when a move was called off, for which it had let go of the database.
fn life_ends(evidence: &Evidence) -> Vec<f64> {
    let mut killed_ms: HashMap<u32, f64> = HashMap::new();
    for exit in evidence.steps.iter().flat_map(|step| &step.exits) {
        if let Some(killed_us) = exit.killed_us {
            killed_ms.insert(exit.pid, ms(killed_us, 0));
        }
    }
    let end = |life: &Life| {
        let ended = life.ended_ms.or_else(|| killed_ms.get(&life.pid).copied()).unwrap_or(f64::INFINITY);
        ended.max(life.last_seen_ms)
    };
    evidence.database.lives.iter().map(end).collect()
}

/// The panic, as its own line tells -> first reply of a later life.
fn back_after_panic_ms(evidence: &Evidence) -> Option<f64> {
    let sent = evidence.history.iter().find(|line| line.op == Op::Panic)?;
    let panic = evidence.handled.iter().find(|line| line.id == sent.id)?;
    let replies = evidence.history.iter().filter(|line| line.op == Op::Ping && line.outcome == "ok");
    let of_later_life = replies.filter(|line| line.token.is_some_and(|token| token > panic.token));
    of_later_life.map(|line| line.t1_us).min().map(|us| ms(us, panic.t_us))
}

/// kill(2) returned -> first reply to a client on a survivor.
fn back_after_kill_ms(kills: &[Kill]) -> Option<f64> {
    let hosted = kills.iter().find_map(|kill| Some((kill, kill.names.get(CLEANER)?)));
    let (kill, back) = hosted?;
    Some(ms(back.replied_us?, kill.at_us))
}
