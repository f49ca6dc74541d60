//! Recomputes every figure of a demo or a soak from the files it left, and nothing else.
//!
//! The demo itself calls this for its verdict, so it never judges by its own word: what counts is what clients,
//! instances and the cleaner's database wrote down while they ran, and what wait(2) said about killed processes.
//!
//! What is counted, beyond the definitions in `docs/guarantees.md`:
//! - a call that was answered ok is never excused by a kill: its handled line is in the pipe before its reply;
//! - a message that an error says did not run, and that was handled, fails the run (`no_but_handled`);
//! - an instance of a name that handles anything after a later one has begun fails it too (`old_tokens`);
//! - a counter must say with every reply what it has counted, also after it moved (`state_wrong`, `state_gone`);
//! - a name is lost if somebody was told that it started and it gives no reply after the last step.

mod checks;
mod cleaner;
mod company;
mod evidence;
mod interval;
mod kills;
mod messages;
mod moves;
mod report;
mod soak;
mod steps;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

pub(crate) use report::Report;
pub(crate) use table::{grouped, print_table};

use crate::cli::VerifyArgs;
use crate::demo::evidence::{CLEANER, Op, Purpose, counter_name};
use crate::output::{self, Failure};
use company::Company;
use evidence::Evidence;
use kills::Kill;
use messages::{CallsFailed, Messages};
use moves::Moves;
use report::{CounterFigures, Figures, Spread};

/// Judges the evidence in `dir`.
pub(crate) fn verify(dir: &Path) -> Result<Report, Failure> {
    Ok(judge(&Evidence::read(dir)?))
}

/// `whimbrel verify DIR`.
pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let report = verify(&args.dir)?;
    publish(&report, args.json);
    Ok(output::exit_for(report.is_ok()))
}

/// Prints a report: a table for people, an object for programs.
pub(crate) fn publish(report: &Report, json: bool) {
    if !json {
        print_table(report);
        return;
    }
    for check in report.failed() {
        eprintln!("FAILED  {}: {}", check.name, check.found);
    }
    output::print_line(&report.to_json().to_string());
}

/// Judges evidence that has been read.
fn judge(evidence: &Evidence) -> Report {
    let names = messages::by_name(&evidence.handled);
    let kills = Kill::all(evidence, &names);
    let messages = Messages::judge(evidence, &names, &kills);
    let moves = Moves::judge(evidence, &names, &kills);
    let company = Company::judge(evidence, &kills);
    let figures = Figures {
        nodes: evidence.run.nodes,
        cleaner: cleaner::figures(evidence, &kills),
        counters: counter_figures(evidence, &messages),
        groups: company.groups.clone(),
        monitors: company.monitors.clone(),
        double_starts: double_starts(evidence).0,
        names_lost: names_lost(evidence),
        names_back_after_kill_ms: kills
            .first()
            .and_then(Kill::back_ms)
            .and_then(|all| Spread::of_sorted(&all)),
        steps: steps::figures(evidence, &messages, &moves, &kills),
        soak: (evidence.run.purpose == Purpose::Soak).then(|| soak::figures(evidence, &messages, &moves)),
    };
    let mut checks = checks::all(evidence, &figures, &messages, &moves, &kills);
    if evidence.run.purpose == Purpose::Demo {
        checks.extend(checks::of_company(&company));
    }
    checks.extend(figures.soak.iter().flat_map(|figures| soak::checks(evidence, figures)));
    Report { version: evidence.run.version.clone(), seed: evidence.run.seed, figures, checks }
}

fn counter_figures(evidence: &Evidence, messages: &Messages) -> CounterFigures {
    let of = |op: Op| evidence.history.iter().filter(move |line| line.op == op);
    CounterFigures {
        names: evidence.run.names,
        calls_ok: of(Op::Call).filter(|line| line.outcome == "ok").count() as u64,
        calls_failed: CallsFailed::count(of(Op::Call)),
        casts_sent: of(Op::Cast).filter(|line| line.outcome == "ok").count() as u64,
        lost: messages.lost.len() as u64,
        lost_by_kill: messages.lost_by_kill.len() as u64,
        doubled: messages.doubled.len() as u64,
        reordered: messages.reordered.len() as u64,
    }
}

/// Names that two callers were told to have started, and names that were raced for and nobody started.
fn double_starts(evidence: &Evidence) -> (u64, u64) {
    let mut started: BTreeSet<&str> = BTreeSet::new();
    let mut twice: BTreeSet<&str> = BTreeSet::new();
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    for line in evidence.history.iter().filter(|line| line.op == Op::Start) {
        asked.insert(&line.name);
        if line.outcome == "started" && !started.insert(&line.name) {
            twice.insert(&line.name);
        }
    }
    (twice.len() as u64, asked.difference(&started).count() as u64)
}

/// Names that should answer and gave no reply to anything sent after the last step.
fn names_lost(evidence: &Evidence) -> u64 {
    let Some(end_us) = evidence.steps.last().map(|step| step.t1_us) else { return 0 };
    let mut expected: BTreeSet<String> = (0..evidence.run.names).map(counter_name).collect();
    expected.insert(CLEANER.to_owned());
    let started = evidence.history.iter().filter(|line| line.op == Op::Start && line.outcome == "started");
    expected.extend(started.map(|line| line.name.clone()));
    for line in &evidence.history {
        if line.op.is_call() && line.outcome == "ok" && line.t0_us >= end_us {
            expected.remove(&line.name);
        }
    }
    expected.len() as u64
}
