//! The simulated world: machines, a network and clients around real nodes, in one thread and in virtual time.
//!
//! Everything that decides anything is the code of `whimbrel-core`: [`Node`], `Port`, `Link`, `Calls`. The world
//! does what the real shell does around them, and owns all that a shell can not rely on: time, delays, cuts,
//! crashes. One heap of events, one seed, only ordered maps: the same seed gives the same run to the byte, and the
//! hash over all events proves it.
//!
//! ```text
//!   plan ─> faults ──┐                          ┌─> network: connections, delays, cuts ─┐
//!           clients ─┴─> shell: Node, ports, links ─> sessions                          │
//!                          ^  └─> instances: init, handlers, panics                     │
//!                          └────────────────────────────────────────────────────────────┘
//!   everything ─> history ─> checkers
//! ```
//!
//! [`Node`]: whimbrel_core::node::Node

mod client;
mod drain;
mod exchange;
mod fault;
mod finding;
mod gauge;
mod groups;
mod handshake;
mod healing;
mod instance;
mod monitors;
mod moves;
mod network;
mod queue;
mod readings;
mod session;
mod shell;
mod storm;
mod streams;
mod trap;

use client::KIND;
pub(crate) use client::Want;
pub(crate) use drain::WITHIN;
pub(crate) use groups::{group_of, index_of, maker_of};
pub(crate) use healing::CONVERGENCE;
pub(crate) use monitors::Watched;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use whimbrel_core::base::hash::mix;
use whimbrel_core::base::{Address, Kind, Name, NodeName, Rng};
use whimbrel_core::delivery::PortOutput;
use whimbrel_core::node::Config;
use whimbrel_core::view::View;

use crate::history::{History, Micros, NEVER};
use crate::plan::{Fault, Finds, Plan};
use exchange::Message;
use fault::Cut;
use network::Network;
use queue::{Event, Home, Queue};
use shell::Machine;

/// Events without progress of time: a loop between nodes.
const EVENTS_MAX: u64 = 30_000_000;

/// How often each fault befell a node at each step of a handoff.
pub(crate) type Hits = BTreeMap<&'static str, BTreeMap<&'static str, u64>>;

/// What a run counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    /// Inputs after which a node changed or sent something.
    pub(crate) events: u64,
    pub(crate) trace_hash: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) marks: BTreeMap<&'static str, u64>,
    /// Faults that befell a node at a step of a handoff.
    pub(crate) hits: Hits,
}

impl Stats {
    fn mark(&mut self, what: &'static str) {
        self.mark_n(what, 1);
    }

    fn mark_n(&mut self, what: &'static str, count: u64) {
        *self.marks.entry(what).or_insert(0) += count;
    }

    fn hit(&mut self, step: &'static str, fault: &'static str) {
        *self.hits.entry(step).or_default().entry(fault).or_insert(0) += 1;
    }

    fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_insert(0) += 1;
    }
}

/// The world of one run.
pub(crate) struct World {
    pub(crate) now: Micros,
    pub(crate) plan: Plan,
    pub(crate) history: History,
    pub(crate) stats: Stats,
    queue: Queue,
    machines: Vec<Machine>,
    network: Network,
    cuts: Vec<Cut>,
    kind: Kind,
    name_ids: BTreeMap<Name, u32>,
    /// Calls and casts by client and name.
    numbers: BTreeMap<(u32, u32), u32>,
    /// Names whose next `init`s fail: scenarios set it.
    pub(crate) init_failures: BTreeMap<u32, u32>,
    /// Names whose `init` ends the whole node: scenarios set it.
    pub(crate) deadly: BTreeSet<u32>,
    /// Rows that a scenario has taken from copies.
    rows_lost: u32,
    /// Names that do not return from user code any more: scenarios set it.
    pub(crate) hanging: BTreeSet<u32>,
    /// Groups that the `init` of a name joins: scenarios set it.
    pub(crate) joins_of_init: BTreeMap<u32, u32>,
    /// Joins that an `init` waits for: its node and its life.
    joins_in_init: BTreeMap<u32, (Home, u32)>,
    /// Versions of metadata that somebody was told last, by name.
    meta_versions: BTreeMap<u32, u64>,
    spare_outputs: Vec<PortOutput<Message>>,
    rng: Rng,
    work_rng: Rng,
    fault_rng: Rng,
    process_rng: Rng,
    storm_rng: Rng,
    trap_rng: Rng,
    drain_rng: Rng,
    bonds_rng: Rng,
    /// What the end of all faults lets go on.
    hung: Vec<Event>,
    /// When a line was founded last.
    founded_at: Option<Micros>,
    /// Lines that will not meet before the first machine's node is back, as disturbances.
    apart: Vec<usize>,
    /// Inputs of all nodes.
    inputs: u64,
    round_trip: u64,
    trace: bool,
    stable_since: Micros,
    over: bool,
    /// Lines of a scenario that are due, for its runner.
    script_due: Option<u32>,
}

impl World {
    /// Machines, switched off.
    pub(crate) fn new(plan: Plan, trace: bool) -> Self {
        let mut rng = Rng::new(plan.seed);
        let kind = Name::new(KIND).expect("the kind's name is valid: it is a plain word");
        let total = plan.nodes + plan.joiners;
        let machines: Vec<Machine> = (0..total).map(|host| machine(host, &plan, &kind, &mut rng)).collect();
        let network = Network::new(total, &plan, rng.fork());
        let history = History {
            healed: NEVER,
            clocks_differ: plan.wall_skew_ms > 0 || plan.faults.contains(&Fault::WallJump),
            capacity: plan.capacity,
            odd_names: plan.odd_names,
            paced: plan.frame_time > 0,
            labels: machines.iter().map(|machine| machine.config.labels.clone()).collect(),
            ..History::default()
        };
        Self {
            now: 0,
            history,
            stats: Stats::default(),
            queue: Queue::default(),
            machines,
            network,
            cuts: Vec::new(),
            kind,
            name_ids: BTreeMap::new(),
            numbers: BTreeMap::new(),
            init_failures: BTreeMap::new(),
            deadly: BTreeSet::new(),
            rows_lost: 0,
            hanging: BTreeSet::new(),
            joins_of_init: BTreeMap::new(),
            joins_in_init: BTreeMap::new(),
            meta_versions: BTreeMap::new(),
            spare_outputs: Vec::new(),
            work_rng: rng.fork(),
            fault_rng: rng.fork(),
            process_rng: rng.fork(),
            rng,
            storm_rng: storm::storm_rng(plan.seed),
            trap_rng: trap::trap_rng(plan.seed),
            drain_rng: drain::drain_rng(plan.seed),
            bonds_rng: groups::bonds_rng(plan.seed),
            hung: Vec::new(),
            founded_at: None,
            apart: Vec::new(),
            inputs: 0,
            round_trip: 0,
            trace,
            stable_since: 0,
            over: false,
            script_due: None,
            plan,
        }
    }

    /// Runs a whole plan: boot, work under faults, healing, probes.
    pub(crate) fn run(&mut self) {
        for index in 0..self.plan.names {
            if let Ok(name) = Name::new(&format!("p{index}")) {
                self.name_id(&name);
            }
        }
        for host in 0..self.plan.nodes as u16 {
            let at = self.rng.below(self.plan.boot_spread + 1);
            self.machines[usize::from(host)].boot_due = true;
            self.queue.at(at, Event::Boot { host });
            if self.rng.below(1000) < self.plan.boot_restart_permille {
                let again = at + 1 + self.rng.below(crate::history::SECOND);
                self.queue.at(again, Event::Boot { host: host | RESTART });
            }
        }
        self.queue.at(self.plan.work_from, Event::Work);
        self.queue.at(self.plan.work_from, Event::Fault);
        self.queue.at(self.plan.work_until, Event::Heal);
        self.schedule_storm();
        while !self.over && self.step() {}
        self.note_finals();
    }

    /// Runs a scenario until the next of its lines is due; `None` when nothing is left to happen.
    pub(crate) fn run_to_script(&mut self) -> Option<u32> {
        self.script_due = None;
        while self.script_due.is_none() && self.step() {}
        self.script_due
    }

    /// Gives a machine's node the name of another's.
    pub(crate) fn name_as(&mut self, host: u16, other: u16) {
        let name = self.machines[usize::from(other)].config.name.clone();
        self.machines[usize::from(host)].config.name = name;
    }

    /// Sets a machine's wall clock back.
    pub(crate) fn set_back(&mut self, host: u16, by_ms: u64) {
        self.machines[usize::from(host)].wall_back_ms += by_ms;
        self.history.clocks_differ = true;
    }

    /// Ends a scenario.
    pub(crate) fn finish(&mut self) {
        self.note_finals();
    }

    /// Makes a line of a scenario due at a time.
    pub(crate) fn schedule_script(&mut self, at: Micros, line: u32) {
        self.queue.at(at, Event::Script(line));
    }

    /// Boots a machine at a time.
    pub(crate) fn schedule_boot(&mut self, at: Micros, host: u16) {
        self.machines[usize::from(host)].boot_due = true;
        self.queue.at(at, Event::Boot { host });
    }

    /// The view that a node has installed.
    pub(crate) fn view_of(&self, host: u16) -> Option<Arc<View>> {
        self.machines[usize::from(host)].shell.as_deref().and_then(|shell| shell.view.clone())
    }

    fn step(&mut self) -> bool {
        let Some((time, event)) = self.queue.pop() else { return false };
        self.now = self.now.max(time);
        self.dispatch(event);
        if self.stats.events > EVENTS_MAX {
            self.history.oddities.push("too many events: nodes keep each other busy without end".into());
            return false;
        }
        true
    }

    /// The machine that an event is for, and the generation it must still have.
    fn target(&mut self, event: Event) -> Option<(u16, Option<u32>)> {
        match event {
            Event::Node(home)
            | Event::Port(home, _)
            | Event::Found(home, _)
            | Event::Calls(home)
            | Event::Ack(home, _)
            | Event::Redial(home, _)
            | Event::Write(home, _)
            | Event::InitDone(home, _)
            | Event::HandlerDone(home, _)
            | Event::Terminated(home, _)
            | Event::Made(home, ..)
            | Event::Ambush(home)
            | Event::Trap { home, .. }
            | Event::LeaveDrained(home)
            | Event::Gone(home) => Some((home.host, Some(home.generation))),
            Event::GiveUp { conn, end } => {
                self.network.conn(conn).map(|open| (open.ends[usize::from(end)].home.host, None))
            }
            Event::DialTimeout { conn } => self.network.conn(conn).map(|open| (open.ends[0].home.host, None)),
            _ => None,
        }
    }

    fn dispatch(&mut self, event: Event) {
        let target = self.target(event);
        if let Some((host, generation)) = target {
            let machine = &mut self.machines[usize::from(host)];
            if generation.is_some_and(|generation| generation != machine.generation) {
                return;
            }
            if machine.frozen_until.is_some() {
                return machine.parked.push(event);
            }
        }
        let acts = match event {
            Event::Arrive { conn, direction } => {
                self.network.conn(conn).map(|open| open.ends[1 - usize::from(direction)].home.host)
            }
            Event::Boot { host } => Some(host & !RESTART),
            _ => target.map(|(host, _)| host),
        };
        self.happen(event);
        if let Some(host) = acts {
            self.flush(host);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Node(home) => self.on_node_wake(home.host),
            Event::Port(home, name) => self.on_port_wake(home.host, name),
            Event::Found(home, answered) => self.found(home.host, answered),
            Event::Calls(home) => self.on_calls_wake(home.host),
            Event::Ack(home, peer) => self.on_ack_timer(home.host, peer),
            Event::Redial(home, peer) => self.on_redial(home.host, peer),
            Event::Write(home, peer) => self.on_write_again(home.host, peer),
            Event::InitDone(home, life) => self.on_init_done(home.host, life),
            Event::HandlerDone(home, life) => self.on_handler_done(home.host, life),
            Event::Terminated(home, life) => self.on_terminated(home.host, life),
            Event::Made(home, name, attempt) => self.on_made(home.host, name, attempt),
            Event::Arrive { conn, direction } => self.on_arrive(conn, usize::from(direction)),
            Event::GiveUp { conn, end } => self.on_give_up(conn, usize::from(end)),
            Event::DialTimeout { conn } => self.on_dial_timeout(conn),
            Event::Boot { host } => self.on_boot(host),
            Event::Thaw { host } => self.on_thaw(host),
            Event::Gone(home) => self.on_gone(home.host),
            Event::LeaveDrained(home) => self.on_leave_drained(home.host),
            Event::Drain { host } => self.on_drain(host),
            Event::Mend { cut } => self.mend(cut),
            Event::Work => self.on_work(),
            Event::Fault => self.on_fault(),
            Event::Ambush(home) => self.on_ambush(home.host),
            Event::Trap { home, peer, name } => self.on_trap(home.host, peer, name),
            Event::Storm(step) => self.on_storm(step),
            Event::Heal => self.on_heal(),
            Event::Watch => self.on_watch(),
            Event::Probe { name, host } => self.on_probe(name, host),
            Event::LastReading { host, group } => self.on_last_reading(host, group),
            Event::Inspect { name, host } => self.inspect(host, name),
            Event::Script(line) => self.script_due = Some(line),
        }
    }

    fn on_boot(&mut self, host: u16) {
        if host & RESTART != 0 {
            let host = host & !RESTART;
            self.kill(host, false);
            self.stats.fault("boot_restart");
            return self.boot(host);
        }
        self.boot(host);
    }

    /// One line of the trace, and its part of the hash.
    fn tell(&mut self, host: u16, tag: u64, detail: u64, text: impl FnOnce() -> String) {
        let what = self.now ^ (u64::from(host) << 48) ^ (tag << 40);
        self.stats.trace_hash = mix(self.stats.trace_hash ^ mix(what) ^ detail);
        if self.trace {
            println!("{:>10.3} ms  n{}  {}", self.now as f64 / 1000.0, host + 1, text());
        }
    }

    fn machine_at(&self, address: &Address) -> Option<u16> {
        self.machines.iter().position(|machine| machine.address == *address).map(|at| at as u16)
    }
}

/// Marks a boot that first ends the node that runs.
const RESTART: u16 = 1 << 15;

/// How much faster or slower the clock of a machine runs, in millionths.
fn clock_ppm(host: usize, plan: &Plan) -> i64 {
    let most = plan.clock_ppm_max;
    (mix(plan.seed ^ mix(host as u64 + 1)) % (2 * most + 1)) as i64 - most as i64
}

fn label(text: &str) -> Name {
    Name::new(text).expect("it has letters and digits alone")
}

fn machine(host: usize, plan: &Plan, kind: &Kind, rng: &mut Rng) -> Machine {
    let text = format!("n{}", host + 1);
    let name = NodeName::new(&text).expect("a letter and a number are a valid name");
    let address: Address = text.as_str().into();
    let mut config = Config::new(name, address.clone(), 0);
    config.slots = plan.slots;
    config.replicas = plan.replicas;
    config.limits = plan.limits;
    config.rebalance = plan.rebalance;
    config.mutants = plan.mutants;
    config.discovery = host != 0 || !matches!(plan.finds, Finds::First { .. });
    if let Some(zone) = plan.zone_of_host(host) {
        config.labels.insert(label("zone"), label(&zone));
    }
    if host >= plan.pure_clients {
        config.kinds = vec![kind.clone()];
        config.capacity = plan.capacity.iter().map(|most| (kind.clone(), *most)).collect();
    }
    Machine {
        address,
        config,
        generation: 0,
        powered: true,
        shell: None,
        offset: 0,
        wall_back_ms: 0,
        wall_skew_ms: rng.below(plan.wall_skew_ms + 1) as i64,
        started_max_ms: 0,
        clock_ppm: clock_ppm(host, plan),
        frozen_until: None,
        deaf: None,
        parked: Vec::new(),
        boot_due: false,
        leaving: false,
        drains: false,
        leaves_drained: false,
        expelled: Vec::new(),
    }
}
