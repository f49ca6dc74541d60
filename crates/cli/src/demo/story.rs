//! The story that the demo tells, step by step. Each step is written down as evidence when it ends.
//!
//! Drain and rolling restart have their place after `double_start`; they come with planned moves.

use std::time::{Duration, Instant};

use super::command::{CleanerAt, Command, Joined, Touched};
use super::evidence::{CLEANER, RunLine, StepLine};
use super::stage::Stage;
use crate::os;
use crate::output::Failure;

/// The steps of this version, in order.
pub(crate) const STORY: [&str; 5] = ["start", "cleaner_panic", "node_kill", "node_join", "double_start"];
/// Races of `double_start`.
pub(crate) const RACES: u32 = 100;

/// How long a name may take to answer before the demo gives up on it.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long a node may take to join.
const JOIN_WITHIN: Duration = Duration::from_secs(30);
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
    settle(stage)
}

/// Begins a step where the last one ended, and says when its share of the time is over.
fn begin(stage: &mut Stage, name: &str, run: Option<RunLine>) -> Instant {
    let began = Instant::now();
    stage.open = Some(StepLine {
        step: name.to_owned(),
        t0_us: stage.clock_us,
        t1_us: 0,
        pids_before: stage.children.pids(),
        pids_after: Vec::new(),
        exits: Vec::new(),
        run,
    });
    began + stage.slice()
}

/// Lets the load run until the step's share of the time is over, and writes the step down.
fn end(stage: &mut Stage, until: Instant) -> Result<(), Failure> {
    stage.pause(until)?;
    stage.end_step()
}

fn start(stage: &mut Stage) -> Result<(), Failure> {
    stage.clock_us = os::monotonic_us();
    let args = stage.args.clone();
    let began = Instant::now();
    let slice_over = begin(stage, "start", Some(run_line(stage)));
    for index in 1..=args.nodes {
        let name = format!("n{index}");
        let pid = stage.children.spawn(&name)?;
        stage.view.node_up(&name, pid);
        // The first one founds the cluster; the others find it.
        join(stage, &name)?;
    }
    let nodes = stage.children.names();
    let members = stage.everyone(|_| Command::WaitMembers { count: nodes.len() })?;
    stage.wait(&members, JOIN_WITHIN)?;
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
    stage
        .view
        .say(&format!("start: every node asked for {CLEANER}, one runs; {} counters answer", args.names));

    stage.start_arrivals();
    stage.spread_load()?;
    let boot = began.elapsed();
    end(stage, slice_over.max(Instant::now() + boot * LOAD_PER_BOOT))
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
        planned: STORY.map(String::from).to_vec(),
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
    stage.spread_load()?;
    stage.view.say(&format!(
        "node_kill: {victim} (pid {pid}), with {} names on it, was killed with -9",
        lost.len()
    ));
    await_touched(stage, &touched, ANSWER_WITHIN)?;
    stage.wait(&cleaner, ANSWER_WITHIN * 2)?;
    let host = stage.collector.host(CLEANER).map_or_else(String::new, |host| host.node);
    stage.view.say(&format!("node_kill: all {} names answer again; {CLEANER} runs on {host}", lost.len()));
    end(stage, until)
}

fn node_join(stage: &mut Stage) -> Result<(), Failure> {
    let until = begin(stage, "node_join", None);
    let name = format!("n{}", stage.args.nodes + 1);
    let pid = stage.children.spawn(&name)?;
    stage.view.node_up(&name, pid);
    join(stage, &name)?;
    let count = stage.children.names().len();
    let members = stage.everyone(|_| Command::WaitMembers { count })?;
    stage.wait(&members, JOIN_WITHIN)?;
    stage.spread_load()?;
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

/// After the last step: the load ends, everything must still answer, and the cleaner gets one full run.
fn settle(stage: &mut Stage) -> Result<(), Failure> {
    stage.stop_arrivals()?;
    let after_ms = super::database::monotonic_ms();
    let stops = stage.everyone(|_| Command::Load { per_second: 0.0, counters: 0, seed: 0 })?;
    stage.wait(&stops, ANSWER_WITHIN)?;
    stage.view.say("settle: the load has ended; every name is called once more");
    let within = ANSWER_WITHIN + Duration::from_millis(u64::from(stage.args.names));
    let races: Vec<String> = (0..RACES).map(race_name).collect();
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

fn join(stage: &mut Stage, name: &str) -> Result<(), Failure> {
    let seeds = stage.addresses();
    let joined: Joined = stage.ask(name, Command::Join { seeds }, JOIN_WITHIN)?;
    stage.addresses.push((name.to_owned(), joined.address));
    Ok(())
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
