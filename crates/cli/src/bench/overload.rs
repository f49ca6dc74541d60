//! `whimbrel bench overload`: senders on two nodes flood one slow process on a third, which takes one message in
//! thousands. What is judged: no process grows beyond the sum of the limits that apply to it, no node is taken for dead,
//! every call ends, and every cast that was accepted was handled or is a dead letter.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whimbrel::limits::{
    FRAME_BYTES_MAX, LINK_BYTES_MAX, LINK_CONTROL_BYTES_MAX, MAILBOX_BYTES_MAX, ROUTE_BYTES_MAX,
};

use super::NoEvidence;
use super::command::Command;
use super::flood::{Flood, Tally};
use super::meter::resident_bytes_of;
use crate::children::Children;
use crate::cli::OverloadArgs;
use crate::demo::check_loopback;
use crate::output::{self, Failure};
use crate::temp::WorkDir;

/// The node with the slow process, then those that send.
const NODES: [&str; 3] = ["slow", "sends-1", "sends-2"];
/// The slow process.
const NAME: &str = "slow";
/// How long one command may take, beside what it is told to take.
const WITHIN: Duration = Duration::from_secs(150);
/// What a process may take beyond the sum of its limits: what the allocator keeps, code, stacks.
const MARGIN_BYTES: u64 = 64 * 1024 * 1024;
/// Quiet time before the memory of the processes is taken for what it is without load.
const SETTLE: Duration = Duration::from_secs(1);

/// The memory of one process.
#[derive(Debug)]
struct Watched {
    node: &'static str,
    pid: u32,
    baseline: Option<u64>,
    peak: Option<u64>,
    budget: u64,
}

impl Watched {
    fn sample(&mut self) {
        self.peak = self.peak.max(resident_bytes_of(self.pid));
    }

    fn grown(&self) -> Option<u64> {
        Some(self.peak?.saturating_sub(self.baseline?))
    }

    fn holds(&self) -> bool {
        self.grown().is_some_and(|grown| grown <= self.budget + MARGIN_BYTES)
    }

    fn row(&self) -> Value {
        json!({
            "node": self.node,
            "baseline_mib": self.baseline.map(mib),
            "peak_mib": self.peak.map(mib),
            "grown_mib": self.grown().map(mib),
            "budget_mib": mib(self.budget),
        })
    }
}

/// All that was found.
struct Found {
    memory: Vec<Watched>,
    deaths: Option<u64>,
    casts: Tally,
    calls: Tally,
    dead_letters: Value,
    handled: u64,
    lost: Option<u64>,
}

/// Runs it.
pub(crate) fn run(args: &OverloadArgs) -> Result<ExitCode, Failure> {
    check_loopback()?;
    let found = measure(args)?;
    let verdict = found.verdict();
    if args.json {
        output::print_line(&Value::Object(found.to_object(&verdict)).to_string());
    } else {
        found.print(&verdict);
    }
    Ok(output::exit_for(verdict == "ok"))
}

/// The sum of the limits that apply to a node of this run: two links, and the one name.
///
/// What a node holds for the name is a mailbox on the one side and a route on the other; both are counted everywhere,
/// and so are the messages that the senders themselves hold, once as they are and once encoded.
fn budget(args: &OverloadArgs) -> u64 {
    let link = LINK_BYTES_MAX + LINK_CONTROL_BYTES_MAX + 2 * FRAME_BYTES_MAX;
    let name = MAILBOX_BYTES_MAX + ROUTE_BYTES_MAX + 2 * FRAME_BYTES_MAX;
    let senders = 2 * args.senders as usize * args.payload as usize;
    (2 * link + name + senders) as u64
}

fn measure(args: &OverloadArgs) -> Result<Found, Failure> {
    let dir = WorkDir::temporary("overload")?;
    let mut children = Children::new("bench", dir.path(), Arc::new(NoEvidence))?;
    let mut seeds: Vec<String> = Vec::new();
    let mut memory = Vec::new();
    for (at, node) in NODES.into_iter().enumerate() {
        let pid = children.spawn(node)?;
        memory.push(Watched { node, pid, baseline: None, peak: None, budget: budget(args) });
        let join = Command::Join { seeds: seeds.clone(), members: at + 1 };
        let address = children.ask(node, join, WITHIN, &mut || {})?;
        seeds.push(address.as_str().unwrap_or_default().to_owned());
    }
    for node in NODES {
        children.ask(node, Command::WaitMembers { count: NODES.len() }, WITHIN, &mut || {})?;
        children.ask(node, Command::WatchDeaths, WITHIN, &mut || {})?;
    }
    children.ask(NODES[0], Command::StartSlow { name: NAME.into() }, WITHIN, &mut || {})?;
    children.pause(Instant::now() + SETTLE, &mut || {})?;
    for watched in &mut memory {
        watched.baseline = resident_bytes_of(watched.pid);
    }
    eprintln!("bench: {} senders of {} bytes for {} s", args.senders, args.payload, args.seconds);
    let mut tick = || memory.iter_mut().for_each(Watched::sample);
    let mut open = Vec::new();
    for (at, node) in (0_u32..).zip(&NODES[1..]) {
        let senders = (args.senders + at) / 2;
        let millis = u64::from(args.seconds) * 1_000;
        let flood = Command::Flood { name: NAME.into(), senders, payload: args.payload, millis };
        open.push(children.send(node, flood)?);
    }
    let within = Duration::from_secs(u64::from(args.seconds)) + WITHIN;
    let floods = children.wait(&open, within, &mut tick)?;
    eprintln!("bench: the flood is over, what was accepted is handled");
    let handled = children.ask(NODES[1], Command::Drained { name: NAME.into() }, WITHIN, &mut tick)?;
    let mut found = Found::of(&floods, handled.as_u64())?;
    let mut dead = 0;
    for node in NODES {
        let letters = children.ask(node, Command::DeadLetters, WITHIN, &mut tick)?;
        let counts = letters.as_object().into_iter().flatten();
        dead += counts.filter_map(|(_, count)| count.as_u64()).sum::<u64>();
        found.dead_letters[node] = letters;
        let deaths = children.ask(node, Command::Deaths, WITHIN, &mut tick)?.as_u64();
        found.deaths = found.deaths.zip(deaths).map(|(sum, deaths)| sum + deaths);
    }
    found.lost = found.casts.ok.checked_sub(found.handled + dead);
    found.memory = memory;
    Ok(found)
}

impl Found {
    fn of(floods: &[Value], handled: Option<u64>) -> Result<Self, Failure> {
        let (mut casts, mut calls) = (Tally::default(), Tally::default());
        for flood in floods {
            let flood: Flood = serde_json::from_value(flood.clone())
                .map_err(|error| Failure::check("a sender's tally can not be read").detail(error))?;
            casts.add(&flood.casts);
            calls.add(&flood.calls);
        }
        let handled =
            handled.ok_or_else(|| Failure::check("the slow process does not say what it handled"))?;
        let (memory, dead_letters) = (Vec::new(), json!({}));
        Ok(Self { memory, deaths: Some(0), casts, calls, dead_letters, handled, lost: None })
    }

    /// "ok", or the first check that failed.
    fn verdict(&self) -> String {
        if let Some(watched) = self.memory.iter().find(|watched| !watched.holds()) {
            return format!("memory:{}", watched.node);
        }
        let was_overloaded = self.casts.errors.contains_key("overloaded");
        let checks = [
            ("deaths", self.deaths == Some(0)),
            ("unanswered", self.casts.is_complete() && self.calls.is_complete()),
            ("lost", self.lost == Some(0)),
            ("handled", self.handled > 0),
            ("overloaded", was_overloaded),
        ];
        let failed = checks.into_iter().find(|(_, holds)| !holds);
        failed.map_or("ok", |(name, _)| name).to_owned()
    }

    fn to_object(&self, verdict: &str) -> serde_json::Map<String, Value> {
        let mut object = output::result_object(None, verdict);
        let rows: Vec<Value> = self.memory.iter().map(Watched::row).collect();
        object.insert("processes".into(), rows.into());
        object.insert("margin_mib".into(), mib(MARGIN_BYTES).into());
        object.insert("deaths".into(), self.deaths.into());
        object.insert("casts".into(), json!(self.casts));
        object.insert("calls".into(), json!(self.calls));
        object.insert("unanswered".into(), (self.casts.unanswered + self.calls.unanswered).into());
        object.insert("handled".into(), self.handled.into());
        object.insert("dead_letters".into(), self.dead_letters.clone());
        object.insert("lost".into(), self.lost.into());
        object
    }

    fn print(&self, verdict: &str) {
        let number =
            |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| mib(value).to_string());
        for watched in &self.memory {
            output::print_line(&format!(
                "{:<8} grew by {:>8} MiB, budget {:>8} MiB",
                watched.node,
                number(watched.grown()),
                mib(watched.budget)
            ));
        }
        output::print_line(&format!("casts {:?}\ncalls {:?}", self.casts, self.calls));
        output::print_line(&format!("casts handled {}, {verdict}", self.handled));
    }
}

#[allow(clippy::cast_precision_loss)]
fn mib(bytes: u64) -> f64 {
    (bytes as f64 / (1024.0 * 1024.0) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        let flood = json!({
            "casts": { "sent": 3, "ok": 2, "errors": { "overloaded": { "no": 1, "unknown": 0 } }, "unanswered": 0 },
            "calls": { "sent": 1, "ok": 1, "errors": {}, "unanswered": 0 },
        });
        let mut found = Found::of(&[flood], Some(2)).expect("the tally is whole");
        let (baseline, peak) = (Some(10), Some(20));
        found.memory.push(Watched { node: "slow", pid: 0, baseline, peak, budget: 5 });
        found.lost = Some(0);
        found
    }

    #[test]
    fn a_run_is_ok_only_if_everything_is_known_and_holds() {
        assert_eq!(found().verdict(), "ok");
        type Spoil = fn(&mut Found);
        let spoilt: [(&str, Spoil); 7] = [
            ("memory:slow", |found| found.memory[0].peak = Some(1 << 40)),
            ("memory:slow", |found| found.memory[0].baseline = None),
            ("deaths", |found| found.deaths = Some(1)),
            ("deaths", |found| found.deaths = None),
            ("unanswered", |found| found.calls.sent += 1),
            ("lost", |found| found.lost = None),
            ("overloaded", |found| {
                found.casts.errors.clear();
                found.casts.sent -= 1;
            }),
        ];
        for (check, spoil) in spoilt {
            let mut found = found();
            spoil(&mut found);
            assert_eq!(found.verdict(), check);
        }
    }
}
