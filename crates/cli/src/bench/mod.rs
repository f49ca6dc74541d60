//! `whimbrel bench`: what things cost, next to what the machine needs for the same without Whimbrel.
//!
//! With `--peers` other libraries are measured in the same run, row by row: see [`peers`].
//!
//! Ours and the floor alternate within the same two processes, since on a machine with few cores only that makes
//! their ratio mean something. Values are medians over the rounds.

mod child;
mod command;
mod crowd;
mod downs;
mod flood;
mod floor;
mod groups;
mod local;
mod meter;
mod mover;
mod moves;
mod peers;
mod overload;
mod plan;
mod row;
mod storm;
mod watcher;

use std::process::ExitCode;
use std::sync::Arc;

pub(crate) use child::run as run_child;

use crate::children::Sink;
use crate::cli::{BenchAlone, BenchArgs};
use crate::demo::check_loopback;
use crate::demo::evidence::Channel;
use crate::output::{self, Failure};
use crate::temp::WorkDir;
use peers::Figure;
use plan::Plan;
use row::Row;

/// A remote call may cost this many times its floor.
const CALL_REMOTE_FLOORS_MAX: f64 = 2.0;
/// All of 1,000 names must be callable within this time after a kill.
const FAILOVER_MS_1000_MAX: f64 = 300.0;

/// Small processes that move from one node to another in a second, at least.
const MOVES_PER_S_MIN: f64 = 10_000.0;
/// The pause of a move without load may be this long.
const MOVE_PAUSE_P99_US_MAX: f64 = 5_000.0;
/// A node with 100,000 small processes must be empty by then.
const DRAIN_100K_S_MAX: f64 = 20.0;

/// What a value must be.
enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// It must be there.
    Measured,
}

/// Children of the bench leave no evidence.
#[derive(Debug)]
struct NoEvidence;

impl Sink for NoEvidence {
    fn line(&self, _child: &str, _channel: Channel, _line: &[u8]) {}
}

/// Runs the bench.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    match &args.alone {
        Some(BenchAlone::Overload(args)) => overload::run(args),
        Some(BenchAlone::Storm(args)) => storm::run(args),
        None => rows(args),
    }
}

fn rows(args: &BenchArgs) -> Result<ExitCode, Failure> {
    check_loopback()?;
    let dir = WorkDir::temporary("bench")?;
    let mut plan = Plan::new(dir.path(), Arc::new(NoEvidence), args)?;
    let rows = plan.rows()?;
    if rows.is_empty() {
        return Err(Failure::usage("no row has such a name").hint("leave --only out to see all rows"));
    }
    let failed = first_failed(&rows);
    if let Some(check) = &failed {
        eprintln!("FAILED  {check}");
    }
    if args.json {
        let mut object = output::result_object(Some(args.seed), failed.as_deref().unwrap_or("ok"));
        let rows = serde_json::to_value(&rows).map_err(|error| Failure::check("rows").detail(error))?;
        object.insert("rows".into(), rows);
        output::print_line(&serde_json::Value::Object(object).to_string());
    } else {
        print_table(&rows);
    }
    Ok(output::exit_for(failed.is_none()))
}

/// The first row that was not measured, or that is over its bar.
fn first_failed(rows: &[Row]) -> Option<String> {
    let bar = |row: &Row| match row.name {
        "call_remote_p50_us" => row.floor.map(|floor| Bar::AtMost(floor * CALL_REMOTE_FLOORS_MAX)),
        "failover_ms_1000" => Some(Bar::AtMost(FAILOVER_MS_1000_MAX)),
        "moves_per_s" => Some(Bar::AtLeast(MOVES_PER_S_MIN)),
        "drain_100k_s" => Some(Bar::AtMost(DRAIN_100K_S_MAX)),
        "move_pause_p99_us" => Some(Bar::AtMost(MOVE_PAUSE_P99_US_MAX)),
        _ => Some(Bar::Measured),
    };
    let holds = |row: &&Row| match (row.value, bar(row)) {
        (Some(value), Some(Bar::AtMost(bar))) => value <= bar,
        (Some(value), Some(Bar::AtLeast(bar))) => value >= bar,
        (Some(_), Some(Bar::Measured)) => true,
        (None, _) | (_, None) => false,
    };
    rows.iter().find(|row| !holds(row)).map(|row| row.name.to_owned())
}

fn print_table(rows: &[Row]) {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value}"));
    output::print_line(&format!(
        "{:<24}{:>12}{:>12} {:<6} {:>7}  {}",
        "row", "value", "floor", "unit", "ratio", "note"
    ));
    for row in rows {
        let ratio = row
            .value
            .zip(row.floor)
            .map_or_else(String::new, |(value, floor)| format!("{:.2}", value / floor));
        output::print_line(&format!(
            "{:<24}{:>12}{:>12} {:<6} {:>7}  {}",
            row.name,
            number(row.value),
            number(row.floor),
            row.unit,
            ratio,
            row.note
        ));
        for (library, figure) in &row.peers {
            print_peer(row, library, figure);
        }
    }
}

/// A library below our row; the ratio is ours to it.
fn print_peer(row: &Row, library: &str, figure: &Figure) {
    let ratio =
        row.value.zip(figure.value).map_or_else(String::new, |(ours, its)| format!("{:.2}", ours / its));
    output::print_line(&format!(
        "{:<24}{:>12}{:>12} {:<6} {:>7}  {}",
        format!("  {library}"),
        figure.value.map_or_else(|| "-".to_owned(), |value| format!("{value}")),
        "",
        row.unit,
        ratio,
        figure.note
    ));
}
