//! The story that the demo tells, step by step. Each step is written down as evidence when it ends.

use std::time::{Duration, Instant};

use super::changes::{
    add_node, await_members, begin, dismiss_node, drain_node, end, new_name, restart_node, start_node,
};
use super::command::{CleanerAt, Command, Touched};
use super::evidence::{CLEANER, Purpose, RunLine};
use super::stage::Stage;
use crate::os;
use crate::output::Failure;

/// The steps of the demo, in order.
pub(crate) const STORY: [&str; 7] =
    ["start", "cleaner_panic", "node_kill", "node_join", "double_start", "drain", "rolling_restart"];
/// Races of `double_start`.
pub(crate) const RACES: u32 = 100;

/// How long a name may take to answer before the demo gives up on it.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How far ahead a race is set, so that every node has heard of it.
const RACE_AHEAD_US: u64 = 2_000;
/// The load of the first step lasts at least this many times the boot before it, so that the step as a whole
/// carries its share of the load.
const LOAD_PER_BOOT: u32 = 9;

/// Tells the whole story.
pub(crate) fn tell(stage: &mut Stage) -> Result<(), Failure> {
    start(stage)?;
    cleaner_panic(stage)?;
    node_kill(stage)?;
    node_join(stage)?;
    double_start(stage)?;
    drain(stage)?;
    rolling_restart(stage)?;
    settle(stage, RACES)
}

/// The first step: nodes, the singleton, the counters, and the load.
pub(super) fn start(stage: &mut Stage) -> Result<(), Failure> {
    stage.clock_us = os::monotonic_us();
    let args = stage.args.clone();
    let began = Instant::now();
    let slice_over = begin(stage, "start", Some(run_line(stage)));
    for _ in 0..args.nodes {
        let name = new_name(stage);
        // The first one founds the cluster; the others find it.
        start_node(stage, &name)?;
    }
    await_members(stage)?;
    let nodes = stage.children.names();
    stage.view.say(&format!("start: {} nodes are up and see each other", nodes.len()));

    let (database, period_ms) = (stage.database.clone(), args.cleaner_period_ms);
    let starts = stage.everyone(|_| Command::StartCleaner { database: database.clone(), period_ms })?;
    stage.wait(&starts, ANSWER_WITHIN)?;
    let within = ANSWER_WITHIN + Duration::from_millis(u64::from(args.names));
    let starts =
        stage.everyone(|at| Command::StartCounters { counters: share(at, nodes.len(), args.names) })?;
    stage.wait(&starts, within)?;
    touch(stage, &all_counters(args.names), &[], within)?;
    await_cleaner(stage, 0)?;
    if stage.play.purpose == Purpose::Demo {
        gather(stage, within)?;
    }
    stage
        .view
        .say(&format!("start: every node asked for {CLEANER}, one runs; {} counters answer", args.names));

    stage.start_arrivals();
    stage.spread_load(None)?;
    let boot = began.elapsed();
    // A soak is long, and its first step is like the others.
    let boots = if stage.play.purpose == Purpose::Demo { LOAD_PER_BOOT } else { 0 };
    end(stage, slice_over.max(Instant::now() + boot * boots))
}

/// The counters come together in groups, and every node watches them.
fn gather(stage: &mut Stage, within: Duration) -> Result<(), Failure> {
    let (nodes, counters) = (stage.children.names().len(), stage.args.names);
    let joins = stage.everyone(|at| Command::JoinGroups { counters: share(at, nodes, counters) })?;
    stage.wait(&joins, within)?;
    let watches = stage.everyone(|_| Command::Watch { counters })?;
    stage.wait(&watches, within)?;
    read_groups(stage, "start")
}

/// Every node reads every group.
fn read_groups(stage: &mut Stage, step: &str) -> Result<(), Failure> {
    let counters = stage.args.names;
    let reads = stage.everyone(|_| Command::ReadGroups { step: step.to_owned(), counters })?;
    stage.wait(&reads, ANSWER_WITHIN + Duration::from_millis(u64::from(counters))).map(drop)
}

fn run_line(stage: &Stage) -> RunLine {
    let args = &stage.args;
    RunLine {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: stage.seed,
        nodes: args.nodes,
        names: args.names,
        rate: args.rate,
        seconds: args.seconds,
        cleaner_period_ms: args.cleaner_period_ms,
        races: RACES,
        purpose: stage.play.purpose,
        planned: stage.play.planned.clone(),
    }
}

fn cleaner_panic(stage: &mut Stage) -> Result<(), Failure> {
    let until = begin(stage, "cleaner_panic", None);
    let before = await_cleaner(stage, 0)?;
    let nodes = stage.children.names();
    let asks = stage
        .everyone(|_| Command::AwaitCleaner { after_token: before, within_ms: millis(ANSWER_WITHIN) })?;
    let first = nodes.first().map_or("", String::as_str);
    let _: () = stage.ask(first, Command::PanicCleaner, ANSWER_WITHIN)?;
    stage.wait(&asks, ANSWER_WITHIN * 2)?;
    let host = stage.collector.host(CLEANER).map_or_else(String::new, |host| host.node);
    stage.view.say(&format!("cleaner_panic: {CLEANER} panicked and is back under its name on {host}"));
    end(stage, until)
}

fn node_kill(stage: &mut Stage) -> Result<(), Failure> {
    let until = begin(stage, "node_kill", None);
    let before = await_cleaner(stage, 0)?;
    let host = stage.collector.host(CLEANER).filter(|host| host.token >= before);
    let victim = host.ok_or_else(|| Failure::check("nobody knows which node hosts the cleaner"))?.node;
    let lost: Vec<String> = stage.collector.names_on(&victim);
    let counters: Vec<u32> =
        lost.iter().filter_map(|name| name.strip_prefix("counter-")?.parse().ok()).collect();
    let cleaner = ask_survivors_for_cleaner(stage, &victim, before)?;
    stage.children.kill(&victim)?;
    let touched = send_touch(stage, &counters, &[], ANSWER_WITHIN)?;
    stage.view.node_killed(&victim);
    let pid = stage.reap(&victim)?;
    stage.spread_load(None)?;
    stage.view.say(&format!(
        "node_kill: {victim} (pid {pid}), with {} names on it, was killed with -9",
        lost.len()
    ));
    await_touched(stage, &touched, ANSWER_WITHIN)?;
    stage.wait(&cleaner, ANSWER_WITHIN * 2)?;
    read_groups(stage, "node_kill")?;
    let host = stage.collector.host(CLEANER).map_or_else(String::new, |host| host.node);
    stage.view.say(&format!("node_kill: all {} names answer again; {CLEANER} runs on {host}", lost.len()));
    end(stage, until)
}

fn node_join(stage: &mut Stage) -> Result<(), Failure> {
    let until = begin(stage, "node_join", None);
    let name = new_name(stage);
    let pid = add_node(stage, &name)?;
    stage.view.say(&format!("node_join: {name} (pid {pid}) joined; its clients send too"));
    stage.pause(until)?;
    let here = stage.collector.names_on(&name).len();
    stage
        .view
        .say(&format!("node_join: {here} processes moved to {name} with their state, in use all the while"));
    stage.end_step()
}

fn double_start(stage: &mut Stage) -> Result<(), Failure> {
    let until = begin(stage, "double_start", None);
    for race in 0..RACES {
        let at_us = os::monotonic_us() + RACE_AHEAD_US;
        let asked = stage.everyone(|_| Command::Race { name: race_name(race), at_us })?;
        stage.wait(&asked, ANSWER_WITHIN)?;
    }
    let nodes = stage.children.names().len();
    stage.view.say(&format!("double_start: {RACES} names were started by {nodes} nodes at the same moment"));
    end(stage, until)
}

/// A node is drained and leaves; another one takes its place.
fn drain(stage: &mut Stage) -> Result<(), Failure> {
    let until = begin(stage, "drain", None);
    let name = stage.children.names().into_iter().next().unwrap_or_default();
    let hosted = stage.collector.names_on(&name).len();
    drain_node(stage, &name)?;
    stage.view.say(&format!("drain: {name} has handed over {hosted} processes with their state"));
    let pid = dismiss_node(stage, &name)?;
    let next = new_name(stage);
    add_node(stage, &next)?;
    stage.view.say(&format!("drain: {name} (pid {pid}) has left by itself; {next} takes its place"));
    end(stage, until)
}

/// Every node is drained, leaves, and comes back as another process, one after the other.
fn rolling_restart(stage: &mut Stage) -> Result<(), Failure> {
    let until = begin(stage, "rolling_restart", None);
    let names = stage.children.names();
    for name in &names {
        restart_node(stage, name)?;
    }
    read_groups(stage, "rolling_restart")?;
    stage.view.say(&format!(
        "rolling_restart: {} were drained and restarted, one after the other",
        names.join(", ")
    ));
    end(stage, until)
}

/// After the last step: the load ends, everything must still answer, and the cleaner gets one full run.
pub(super) fn settle(stage: &mut Stage, races: u32) -> Result<(), Failure> {
    stage.stop_arrivals()?;
    let after_ms = super::database::monotonic_ms();
    let stops =
        stage.everyone(|_| Command::Load { per_second: 0.0, counters: 0, seed: 0, work_us_max: 0 })?;
    stage.wait(&stops, ANSWER_WITHIN)?;
    stage.view.say("settle: the load has ended; every name is called once more");
    let within = ANSWER_WITHIN + Duration::from_millis(u64::from(stage.args.names));
    let races: Vec<String> = (0..races).map(race_name).collect();
    let (counters, within_ms) = (all_counters(stage.args.names), millis(within));
    // By every node: a client's call is handled after all that the client has cast before.
    let asked =
        stage.everyone(|_| Command::Touch { counters: counters.clone(), names: races.clone(), within_ms })?;
    await_touched(stage, &asked, within)?;
    await_cleaner(stage, 0)?;
    stage.await_full_run(after_ms)?;
    stage.view.say("settle: the cleaner has run once more; the evidence is judged");
    Ok(())
}

fn all_counters(names: u32) -> Vec<u32> {
    (0..names).collect()
}

fn race_name(race: u32) -> String {
    format!("race-{race:03}")
}

/// The counters that the node `at` of `nodes` looks after.
fn share(at: usize, nodes: usize, counters: u32) -> Vec<u32> {
    (0..counters).filter(|counter| *counter as usize % nodes == at).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Has every node but one call the cleaner, from now until a life after this token answers.
fn ask_survivors_for_cleaner(stage: &mut Stage, victim: &str, after_token: u64) -> Result<Vec<u64>, Failure> {
    let survivors = stage.children.names().into_iter().filter(|name| name != victim);
    let command = Command::AwaitCleaner { after_token, within_ms: millis(ANSWER_WITHIN) };
    survivors.map(|name| stage.children.send(&name, command.clone())).collect()
}

/// Has the nodes call these counters, each its share, until all have answered.
fn touch(stage: &mut Stage, counters: &[u32], names: &[String], within: Duration) -> Result<(), Failure> {
    let asked = send_touch(stage, counters, names, within)?;
    await_touched(stage, &asked, within)
}

fn send_touch(
    stage: &mut Stage,
    counters: &[u32],
    names: &[String],
    within: Duration,
) -> Result<Vec<u64>, Failure> {
    let nodes = stage.children.names().len();
    stage.everyone(|at| Command::Touch {
        counters: counters.iter().copied().skip(at).step_by(nodes).collect(),
        names: names.iter().skip(at).step_by(nodes).cloned().collect(),
        within_ms: millis(within),
    })
}

fn await_touched(stage: &mut Stage, asked: &[u64], within: Duration) -> Result<(), Failure> {
    for answer in stage.wait(asked, within * 2)? {
        let touched: Touched = super::stage::read(answer)?;
        if !touched.silent.is_empty() {
            stage.view.say(&format!("no answer in time from {}", touched.silent.join(", ")));
        }
    }
    Ok(())
}

/// Waits until a life of the cleaner after this token answers.
fn await_cleaner(stage: &mut Stage, after_token: u64) -> Result<u64, Failure> {
    let node = stage.children.names().into_iter().next().unwrap_or_default();
    let command = Command::AwaitCleaner { after_token, within_ms: millis(ANSWER_WITHIN) };
    let at: CleanerAt = stage.ask(&node, command, ANSWER_WITHIN * 2)?;
    Ok(at.token)
}
