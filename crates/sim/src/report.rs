//! What the commands print: progress on standard error, one JSON object as the last line of standard output.

use std::process::ExitCode;

use serde_json::{Value, json};
use whimbrel_core::base::{Mutant, Mutants};

use crate::checker::mutant_name;
use crate::plan::Profile;
use crate::run::{Batch, Look, SeedResult, run_batch, run_seed};
use crate::scenario;

/// Between two lines of progress.
const PROGRESS_EVERY: u64 = 250;

fn exit(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Prints the object that a command ends with.
fn conclude(as_json: bool, seed: u64, verdict: &str, rest: Value) {
    if !as_json {
        eprintln!("{verdict}");
        return;
    }
    let mut object = json!({
        "schema": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "seed": seed,
        "verdict": verdict,
    });
    if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
        object.extend(rest);
    }
    println!("{object}");
}

fn tell(result: &SeedResult, done: u64) {
    for violation in &result.violations {
        eprintln!("seed {}: {}: {}", result.seed, violation.checker, violation.what);
    }
    if done.is_multiple_of(PROGRESS_EVERY) {
        eprintln!("{done} seeds");
    }
}

/// `run`.
pub(crate) fn run(batch: Batch, mutants: Mutants, as_json: bool) -> ExitCode {
    let summary = run_batch(batch, mutants, &tell);
    let verdict = match &summary.first_bad {
        None => "ok".to_owned(),
        Some((seed, violation)) => format!("seed {seed}: {}: {}", violation.checker, violation.what),
    };
    eprintln!(
        "{} seeds, {} bad, {} events in {:.1} s, {:.2} us each and thread",
        summary.seeds,
        summary.violations,
        summary.events,
        summary.seconds,
        summary.seconds * 1e6 * batch.jobs as f64 / summary.events.max(1) as f64,
    );
    let rest = json!({
        "profile": batch.profile.as_str(),
        "seeds": summary.seeds,
        "violations": summary.violations,
        "first_bad_seed": summary.first_bad.as_ref().map(|(seed, _)| *seed),
        "events": summary.events,
        "events_min_per_seed": summary.events_min,
        "ops_min_per_seed": summary.ops_min,
        "trace_hash": format!("{:016x}", summary.trace_hash),
        "faults": summary.faults,
        "marks": summary.marks,
        "handoff_steps_hit": summary.hits,
        "fullest": summary.fullest,
        "seconds": summary.seconds,
    });
    conclude(as_json, batch.first_seed, &verdict, rest);
    exit(summary.violations == 0)
}

/// `replay`.
pub(crate) fn replay(
    profile: Profile,
    seed: u64,
    mutants: Mutants,
    look: Look<'_>,
    as_json: bool,
) -> ExitCode {
    let plan = crate::plan::Plan::draw(profile, seed, mutants);
    eprintln!("{plan:?}");
    let result = run_seed(profile, seed, mutants, look);
    tell(&result, 1);
    let verdict = match result.violations.first() {
        None => "ok".to_owned(),
        Some(violation) => format!("{}: {}", violation.checker, violation.what),
    };
    let rest = json!({
        "profile": profile.as_str(),
        "violations": result.violations.len(),
        "events": result.events,
        "ops": result.ops,
        "trace_hash": format!("{:016x}", result.trace_hash),
        "faults": result.faults,
        "marks": result.marks,
        "fullest": result.fullest,
    });
    conclude(as_json, seed, &verdict, rest);
    exit(result.violations.is_empty())
}

/// `scenarios`.
pub(crate) fn scenarios(filter: Option<&str>, trace: bool, as_json: bool) -> ExitCode {
    let mut rows = Vec::new();
    let mut verdict = None;
    for (name, text) in scenario::FILES {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let failed = scenario::run(text, Mutants::default(), trace);
        eprintln!("{name}: {}", failed.as_deref().unwrap_or("ok"));
        if let Some(failed) = &failed {
            verdict.get_or_insert_with(|| format!("{name}: {failed}"));
        }
        rows.push(json!({ "name": name, "ok": failed.is_none(), "failed": failed }));
    }
    if rows.is_empty() {
        eprintln!("no scenario has such a name");
        return ExitCode::from(2);
    }
    let rest = json!({ "scenarios": rows.len(), "rows": rows });
    conclude(as_json, 0, verdict.as_deref().unwrap_or("ok"), rest);
    exit(verdict.is_none())
}

/// `regressions`.
pub(crate) fn regressions(as_json: bool) -> ExitCode {
    let mut rows = Vec::new();
    let mut verdict = None;
    for (profile, seed, what) in failed_seeds() {
        let result = run_seed(profile, seed, Mutants::default(), Look::default());
        let violation = result.violations.first();
        if let Some(violation) = violation {
            let failed = format!("{} {seed}: {}: {}", profile.as_str(), violation.checker, violation.what);
            eprintln!("{failed}");
            verdict.get_or_insert(failed);
        }
        rows.push(
            json!({ "profile": profile.as_str(), "seed": seed, "once": what, "ok": violation.is_none() }),
        );
    }
    eprintln!("{} seeds that failed once", rows.len());
    let rest = json!({ "seeds": rows.len(), "rows": rows });
    conclude(as_json, 0, verdict.as_deref().unwrap_or("ok"), rest);
    exit(verdict.is_none())
}

/// The file of failed seeds, line by line.
fn failed_seeds() -> impl Iterator<Item = (Profile, u64, &'static str)> {
    let lines = include_str!("../failed_seeds.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut words = line.splitn(3, ' ');
        let (profile, seed) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((profile, seed, words.next().unwrap_or_default()))
    })
}

/// `mutants`.
pub(crate) fn mutants(filter: Option<&str>, seeds: u64, as_json: bool) -> ExitCode {
    let mut rows = Vec::new();
    for mutant in Mutant::ALL {
        if filter.is_some_and(|filter| !mutant_name(mutant).contains(filter)) {
            continue;
        }
        let row = crate::mutants::hunt(mutant, seeds);
        eprintln!(
            "{}: {} after {} seeds: {}",
            row.bug,
            row.checker.unwrap_or("NOT FOUND"),
            row.seeds_tried,
            row.detail.as_deref().unwrap_or("")
        );
        rows.push(row);
    }
    if rows.is_empty() {
        eprintln!("no planted bug has such a name");
        return ExitCode::from(2);
    }
    let found = rows.iter().filter(|row| row.found).count();
    let missed = rows.iter().find(|row| !row.found).map(|row| format!("not found: {}", row.bug));
    let rest = json!({ "planted": rows.len(), "found": found, "rows": rows });
    conclude(as_json, 1, missed.as_deref().unwrap_or("ok"), rest);
    exit(missed.is_none())
}
