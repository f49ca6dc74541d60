//! What the demo and the soak do to their nodes: add one, drain one, let one leave, restart one. And how a step begins
//! and ends.

use std::time::{Duration, Instant};

use super::command::{Command, Joined};
use super::evidence::{Purpose, RunLine, StepLine};
use super::stage::Stage;
use crate::output::Failure;

/// How long a node may take to join.
pub(super) const JOIN_WITHIN: Duration = Duration::from_secs(30);
/// How long a node may take to hand over what it hosts.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// How long a node may take to leave: it drains first, then says good-bye.
const LEAVE_WITHIN: Duration = Duration::from_secs(60);

/// Begins a step where the last one ended, and says when its share of the time is over.
pub(super) fn begin(stage: &mut Stage, name: &str, run: Option<RunLine>) -> Instant {
    let began = Instant::now();
    stage.open = Some(StepLine {
        step: name.to_owned(),
        t0_us: stage.clock_us,
        t1_us: 0,
        pids_before: stage.children.pids(),
        pids_after: Vec::new(),
        exits: Vec::new(),
        rss_max_bytes: None,
        run,
    });
    began + stage.slice()
}

/// Lets the load run until the step's share of the time is over, and writes the step down.
pub(super) fn end(stage: &mut Stage, until: Instant) -> Result<(), Failure> {
    stage.pause(until)?;
    stage.end_step()
}

/// The name of a node that was not there before.
pub(super) fn new_name(stage: &mut Stage) -> String {
    stage.nodes_made += 1;
    format!("n{}", stage.nodes_made)
}

/// Starts a node: it has joined, and its clients are silent yet.
pub(super) fn start_node(stage: &mut Stage, name: &str) -> Result<u32, Failure> {
    let pid = stage.children.spawn(name)?;
    stage.view.node_up(name, pid);
    let seeds = stage.addresses();
    let joined: Joined = stage.ask(name, Command::Join { seeds }, JOIN_WITHIN)?;
    stage.addresses.retain(|(node, _)| node != name);
    stage.addresses.push((name.to_owned(), joined.address));
    Ok(pid)
}

/// Waits until every node sees all.
pub(super) fn await_members(stage: &mut Stage) -> Result<(), Failure> {
    let count = stage.children.names().len();
    let members = stage.everyone(|_| Command::WaitMembers { count })?;
    stage.wait(&members, JOIN_WITHIN).map(drop)
}

/// Starts a node that takes its share of everything.
pub(super) fn add_node(stage: &mut Stage, name: &str) -> Result<u32, Failure> {
    let pid = start_node(stage, name)?;
    await_members(stage)?;
    if stage.play.purpose == Purpose::Demo {
        let _: () = stage.ask(name, Command::Watch { counters: stage.args.names }, JOIN_WITHIN)?;
    }
    stage.spread_load(None)?;
    Ok(pid)
}

/// Has a node hand over what it hosts, while its own clients go on.
pub(super) fn drain_node(stage: &mut Stage, name: &str) -> Result<(), Failure> {
    let within_ms = u64::try_from(DRAIN_WITHIN.as_millis()).unwrap_or(u64::MAX);
    let _: () = stage.ask(name, Command::Drain { within_ms }, DRAIN_WITHIN * 2)?;
    Ok(())
}

/// Sends a node SIGTERM, once the others have taken over the work of its clients, and waits for its end. Its process.
pub(super) fn dismiss_node(stage: &mut Stage, name: &str) -> Result<u32, Failure> {
    stage.spread_load(Some(name))?;
    stage.note_memory();
    stage.dismiss(name, LEAVE_WITHIN)?;
    stage.view.node_left(name);
    stage.reap(name)
}

/// Drains a node, lets it leave, and starts it again under its name.
pub(super) fn restart_node(stage: &mut Stage, name: &str) -> Result<(), Failure> {
    drain_node(stage, name)?;
    dismiss_node(stage, name)?;
    add_node(stage, name).map(drop)
}
