//! What must hold for the verdict "ok", in the order of weight.

use super::company::Company;
use super::evidence::Evidence;
use super::kills::Kill;
use super::messages::Messages;
use super::moves::Moves;
use super::report::{Check, Figures, StepFigures};
use super::steps::dead_letters;
use crate::demo::evidence::{Purpose, StepLine};

/// Signal 9.
const SIGKILL: i32 = 9;
/// Percent of the asked rate that a step must accept; less while a node is gone and calls wait for its names.
const ACCEPTED_PERCENT: u64 = 80;
const ACCEPTED_PERCENT_NODE_KILL: u64 = 60;

/// Steps in which processes move, as planned.
const MOVING: [&str; 5] = ["node_join", "join", "leave", "drain", "rolling_restart"];

/// Every check of a run.
pub(crate) fn all(
    evidence: &Evidence,
    figures: &Figures,
    messages: &Messages,
    moves: &Moves,
    kills: &[Kill],
) -> Vec<Check> {
    let mut checks = promises(evidence, figures, messages);
    checks.extend([
        Check::zero("state_wrong", moves.state_wrong.len() as u64),
        Check::zero("state_gone", moves.state_gone.len() as u64),
        Check::zero("pauses_not_measured", moves.unmeasured()),
    ]);
    checks.extend(measured(evidence, figures));
    let steps = evidence.steps.iter().zip(&figures.steps);
    checks.extend(steps.flat_map(|(line, row)| step(evidence, line, row)));
    checks.push(story(evidence));
    checks.push(exits_seen(evidence, kills));
    checks.push(Check::zero("dead_letters", messages.dead_unexplained.len() as u64));
    checks
}

fn promises(evidence: &Evidence, figures: &Figures, messages: &Messages) -> Vec<Check> {
    let cleaner = &figures.cleaner;
    vec![
        Check::zero("overlapping_runs", cleaner.overlapping_runs),
        Check::zero("overlapping_lives", cleaner.overlapping_lives),
        Check::zero("fresh_rows_deleted", cleaner.fresh_rows_deleted),
        Check::zero("outdated_rows_left", cleaner.outdated_rows_left.unwrap_or(0)),
        Check::zero("names_lost", figures.names_lost),
        Check::zero("double_starts", figures.double_starts),
        Check::zero("lost", figures.counters.lost),
        Check::zero("doubled", figures.counters.doubled),
        Check::zero("reordered", figures.counters.reordered),
        Check::zero("old_tokens", messages.old_tokens.len() as u64),
        Check::zero("no_but_handled", messages.no_but_handled.len() as u64),
        Check::zero("handled_but_never_sent", messages.unexplained.len() as u64),
        Check::zero("races_without_winner", super::double_starts(evidence).1),
    ]
}

/// Groups have exactly their members, and every end was told once to whoever watched.
pub(crate) fn of_company(company: &Company) -> Vec<Check> {
    let unread = company.steps_unread.join(" ");
    let some = |found: &[String]| found.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let unexplained = &company.downs_unexplained;
    vec![
        Check::zero("members_wrong", company.groups.members_wrong.unwrap_or(0)),
        Check::that("groups_read", unread.is_empty(), format!("not read after: {unread}")),
        Check::zero("downs_missing", company.monitors.missing),
        Check::zero("downs_twice", company.monitors.twice),
        Check::that("downs_unexplained", unexplained.is_empty(), some(unexplained)),
        Check::that("monitors_set", company.monitors.set > 0, format!("{}", company.monitors.set)),
    ]
}

/// A figure that could not be measured is never ok.
fn measured(evidence: &Evidence, figures: &Figures) -> Vec<Check> {
    let present = |name: &str, is: bool| Check::that(name, is, if is { "measured" } else { "not measured" });
    let planned = |step: &str| evidence.run.planned.iter().any(|planned| planned == step);
    let cleaner = &figures.cleaner;
    let mut checks = vec![
        present("outdated_rows_left", cleaner.outdated_rows_left.is_some()),
        present("cleaner_runs", cleaner.runs > 0),
    ];
    if planned("cleaner_panic") {
        checks.push(present("back_after_panic_ms", cleaner.back_after_panic_ms.is_some()));
    }
    if planned("node_kill") {
        checks.push(present("back_after_kill_ms", cleaner.back_after_kill_ms.is_some()));
        checks.push(present("names_back_after_kill_ms", figures.names_back_after_kill_ms.is_some()));
    }
    checks
}

fn step(evidence: &Evidence, line: &StepLine, row: &StepFigures) -> Vec<Check> {
    let kill = row.step == "node_kill";
    let percent = if kill { ACCEPTED_PERCENT_NODE_KILL } else { ACCEPTED_PERCENT };
    let asked = u64::from(evidence.run.rate) * (line.t1_us - line.t0_us).max(1) / 1_000_000;
    let least = (asked * percent).div_ceil(100);
    let mut checks = vec![Check::that(
        format!("call_latency:{}", row.step),
        row.call_max_us.is_some(),
        if row.call_max_us.is_some() { "measured" } else { "no call was answered" },
    )];
    // A soak counts its messages in all.
    if evidence.run.purpose == Purpose::Demo {
        let found = format!("{} of at least {least}", row.accepted);
        checks.insert(0, Check::that(format!("accepted:{}", row.step), row.accepted >= least, found));
    }
    if !kill {
        let dead = dead_letters(line, evidence);
        checks.push(Check::zero(&format!("dead_letters:{}", row.step), dead));
        checks.push(Check::that(
            format!("calls_failed:{}", row.step),
            row.calls_failed.is_empty(),
            row.calls_failed.to_words(),
        ));
    }
    // How long they paused is for people to judge: a machine that is busy with something else holds any process up.
    if MOVING.contains(&row.step.as_str()) {
        let found = format!("{} processes", row.moved);
        checks.push(Check::that(
            format!("moved:{}", row.step),
            row.moved > 0 && row.pause_ms.is_some(),
            found,
        ));
    }
    checks
}

/// The steps that were planned, in that order.
fn story(evidence: &Evidence) -> Check {
    let told: Vec<&str> = evidence.steps.iter().map(|step| step.step.as_str()).collect();
    Check::that("steps", told == evidence.run.planned, format!("told: {}", told.join(" ")))
}

/// A node that the parent killed ended by signal 9, as wait(2) reports it; one that was told to leave ended by itself and
/// without an error; and nothing else ended.
fn exits_seen(evidence: &Evidence, kills: &[Kill]) -> Check {
    let mut wrong = Vec::new();
    for step in &evidence.steps {
        let left = step.exits.iter().filter(|exit| exit.killed_us.is_none());
        let may_leave = leavers(step);
        if left.clone().count() != may_leave {
            wrong.push(format!("{} of {may_leave} nodes left in {}", left.clone().count(), step.step));
        }
        for exit in &step.exits {
            let ended = match exit.killed_us {
                Some(_) => exit.signal == Some(SIGKILL),
                None => exit.code == Some(0),
            };
            if !ended {
                wrong.push(match (exit.signal, exit.code) {
                    (Some(signal), _) => format!("{} (pid {}) ended by signal {signal}", exit.node, exit.pid),
                    (None, code) => format!("{} (pid {}) ended with code {code:?}", exit.node, exit.pid),
                });
            }
        }
    }
    let planned = evidence.run.planned.iter().filter(|step| *step == "node_kill").count();
    if kills.len() != planned {
        wrong.push(format!("{} of {planned} nodes were killed", kills.len()));
    }
    Check::that("exits", wrong.is_empty(), wrong.join("; "))
}

/// Nodes that leave in a step.
fn leavers(step: &StepLine) -> usize {
    match step.step.as_str() {
        "drain" | "leave" => 1,
        "rolling_restart" => step.pids_before.len(),
        _ => 0,
    }
}
