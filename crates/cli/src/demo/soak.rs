//! `whimbrel soak`: the demo's nodes and counters under load, and every few seconds nodes come, go, drain or restart.
//!
//! Nothing fails on purpose, so nobody may notice anything but time. It leaves the same evidence as the demo, and the
//! same judge reads it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::changes::{add_node, begin, dismiss_node, drain_node, end, new_name, restart_node};
use super::evidence::Purpose;
use super::stage::{Play, Stage};
use super::story;
use crate::cli::{DemoArgs, SoakArgs};
use crate::output::Failure;

/// Time between two changes.
const CHANGE_EVERY: Duration = Duration::from_secs(5);
/// The longest time that a handler takes.
const WORK_US_MAX: u64 = 20_000;
/// Pause between two runs of the cleaner.
const CLEANER_PERIOD_MS: u64 = 500;

/// What happens to the nodes, again and again.
const CHANGES: [&str; 4] = ["join", "leave", "drain", "rolling_restart"];

/// Runs the soak.
pub(crate) fn run(args: &SoakArgs) -> Result<ExitCode, Failure> {
    let seconds = args.seconds.unwrap_or(args.minutes * 60);
    let play = Play { purpose: Purpose::Soak, planned: planned(seconds), work_us_max: WORK_US_MAX };
    let args = DemoArgs {
        nodes: args.nodes,
        names: args.names,
        rate: args.rate,
        seconds,
        cleaner_period_ms: CLEANER_PERIOD_MS,
        seed: args.seed,
        json: args.json,
        keep: args.keep.clone(),
    };
    super::perform(args, play, tell)
}

/// The steps of a soak that lasts so long.
fn planned(seconds: u32) -> Vec<String> {
    let changes = (u64::from(seconds) / CHANGE_EVERY.as_secs()).saturating_sub(1);
    let changes = CHANGES.iter().cycle().zip(0..changes).map(|(change, _)| (*change).to_owned());
    std::iter::once("start".to_owned()).chain(changes).collect()
}

fn tell(stage: &mut Stage) -> Result<(), Failure> {
    let mut until = Instant::now() + CHANGE_EVERY;
    story::start(stage)?;
    for change in stage.play.planned.clone().iter().skip(1) {
        until += CHANGE_EVERY;
        begin(stage, change, None);
        change_nodes(stage, change)?;
        end(stage, until)?;
    }
    story::settle(stage, 0)
}

/// One change. The node that has run longest is the one that goes: it is also the one that the others follow.
fn change_nodes(stage: &mut Stage, change: &str) -> Result<(), Failure> {
    let names = stage.children.names();
    let oldest = names.first().cloned().unwrap_or_default();
    match change {
        "join" => {
            let name = new_name(stage);
            add_node(stage, &name)?;
            stage.view.say(&format!("join: {name} takes its share"));
        }
        "leave" => {
            dismiss_node(stage, &oldest)?;
            stage.view.say(&format!("leave: {oldest} has left"));
        }
        "drain" => {
            drain_node(stage, &oldest)?;
            dismiss_node(stage, &oldest)?;
            let name = new_name(stage);
            add_node(stage, &name)?;
            stage.view.say(&format!("drain: {oldest} was drained and has left; {name} has taken its place"));
        }
        _ => {
            for name in &names {
                restart_node(stage, name)?;
            }
            stage.view.say(&format!("rolling_restart: all {} nodes were restarted", names.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_happens_every_five_seconds_after_the_first_five() {
        assert_eq!(planned(20), ["start", "join", "leave", "drain"]);
        assert_eq!(planned(300).len(), 60);
    }
}
