//! Which process does what for which row.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::command::{Command, What};
use super::meter::PAYLOAD_BYTES;
use super::peers::{self, Beside, Peers};
use super::row::{Rounds, Row};
use crate::children::{Children, Sink};
use crate::cli::BenchArgs;
use crate::output::Failure;

/// How long one command may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
/// Rounds of rows that need a new cluster each.
const FAILOVER_ROUNDS: u32 = 5;
/// Quiet time between the forming of a cluster and the kill.
const SETTLE: Duration = Duration::from_secs(1);
/// Names that are looked up.
const LOOKUP_NAMES: u64 = 10_000;
/// Idle processes that are made.
const IDLE: u64 = 100_000;
/// Calls of one round on one node.
const CALLS_HERE: u64 = 50_000;
/// Casts of one round on one node.
const CASTS_HERE: u64 = 200_000;
/// Processes started in one round on one node.
const STARTS_HERE: u64 = 10_000;
/// Calls of one round to another node.
const CALLS_THERE: u64 = 8_000;
/// Bursts of one round to another node.
const BURSTS_THERE: u64 = 100;
/// How long many callers call in one round.
const MANY_MILLIS: u64 = 400;
/// Callers at the same time, where there are many.
pub(super) const MANY: u32 = 64;

/// The bench under way.
pub(crate) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) rounds: u32,
    only: Option<String>,
    /// Other libraries, if they are asked for.
    peers: Option<Peers>,
}

/// Children, and how to talk to them.
pub(super) struct Crew(pub(super) Children);

impl Crew {
    pub(super) fn ask(&mut self, child: &str, command: Command) -> Result<Value, Failure> {
        self.0.ask(child, command, WITHIN, &mut || {})
    }

    pub(super) fn number(&mut self, child: &str, command: Command) -> Result<Option<f64>, Failure> {
        self.ask(child, command).map(|value| value.as_f64())
    }

    /// Starts these nodes; in the end each sees all.
    pub(super) fn gather(&mut self, names: &[&str]) -> Result<(), Failure> {
        self.gather_at(&mut Vec::new(), names)
    }

    /// Starts these nodes beside those at the addresses, to which theirs are added.
    pub(super) fn gather_at(&mut self, seeds: &mut Vec<String>, names: &[&str]) -> Result<(), Failure> {
        for name in names {
            self.0.spawn(name)?;
            let members = seeds.len() + 1;
            let address = self.ask(name, Command::Join { seeds: seeds.clone(), members })?;
            seeds.push(address.as_str().unwrap_or_default().to_owned());
        }
        for name in self.0.names() {
            self.ask(&name, Command::WaitMembers { count: seeds.len() })?;
        }
        Ok(())
    }

    /// Connects the floor of `a` to that of another.
    pub(super) fn connect_floor(&mut self, to: &str) -> Result<(), Failure> {
        let port = self.ask(to, Command::FloorListen)?;
        let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| Failure::check("the floor has no port"))?;
        self.ask("a", Command::FloorConnect { port }).map(|_| ())
    }
}

impl Plan {
    /// A plan that keeps its logs in `dir`.
    pub(crate) fn new(dir: &Path, sink: Arc<dyn Sink>, args: &BenchArgs) -> Result<Self, Failure> {
        let peers = args.peers.then(|| Peers::new(dir, Arc::clone(&sink))).transpose()?;
        Ok(Self { dir: dir.to_owned(), sink, rounds: args.rounds, only: args.only.clone(), peers })
    }

    /// Measures the rows that are wanted.
    pub(crate) fn rows(&mut self) -> Result<Vec<Row>, Failure> {
        let mut rows = self.cluster_rows()?;
        rows.extend(self.lone_rows()?);
        rows.extend(self.move_rows()?);
        rows.extend(self.group_rows()?);
        rows.extend(self.down_rows()?);
        for (name, names) in [("failover_ms_1000", 1_000), ("failover_ms_10000", 10_000)] {
            if self.wanted(name) {
                rows.push(self.failover(name, names)?);
            }
        }
        if self.wanted("bytes_per_idle_process") {
            rows.push(self.idle()?);
        }
        Ok(rows)
    }

    pub(super) fn wanted(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Three nodes `a`, `b`, `c` that see each other, with a floor from `a` to `b`.
    pub(super) fn crew(&self) -> Result<Crew, Failure> {
        let mut crew = Crew(Children::new("bench", &self.dir, Arc::clone(&self.sink))?);
        crew.gather(&["a", "b", "c"])?;
        Ok(crew)
    }

    fn cluster_rows(&self) -> Result<Vec<Row>, Failure> {
        let wanted = self.wanted_of(cluster_specs());
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut crew = self.crew()?;
        crew.connect_floor("b")?;
        crew.ask("a", Command::StartHere { name: HERE.into() })?;
        crew.ask("b", Command::StartHere { name: THERE.into() })?;
        crew.ask(
            "a",
            Command::Starts { prefix: "lookup".into(), tasks: 64, millis: 60_000, most: LOOKUP_NAMES },
        )?;
        wanted.into_iter().map(|spec| self.alternate(&mut crew, spec)).collect()
    }

    /// Rows of a node without others.
    fn lone_rows(&self) -> Result<Vec<Row>, Failure> {
        let measured = self.wanted_of(lone_specs()).into_iter().map(|spec| {
            let mut crew = Crew(Children::new("bench", &self.dir, Arc::clone(&self.sink))?);
            crew.0.spawn("a")?;
            self.alternate(&mut crew, spec)
        });
        measured.collect()
    }

    fn wanted_of(&self, specs: Vec<Spec>) -> Vec<Spec> {
        specs.into_iter().filter(|spec| self.wanted(spec.row.name)).collect()
    }

    /// A B A B: ours and the floor in turn, in the same processes; then each peer, in its own.
    fn alternate(&self, crew: &mut Crew, spec: Spec) -> Result<Row, Failure> {
        eprintln!("bench: {}", spec.row.name);
        let mut rounds = Rounds::default();
        let peers = self.peers.as_ref().zip(spec.peers);
        let mut beside = peers.map(|(peers, _)| peers.beside(spec.row.processes)).transpose()?;
        for round in 0..self.rounds {
            rounds.ours.extend(crew.number("a", (spec.command)(What::Ours, round))?);
            rounds.floor.extend(crew.number("a", (spec.command)(What::Floor, round))?);
            if let (Some(beside), Some((_, command))) = (&mut beside, peers) {
                beside.round(&command(round))?;
            }
        }
        let mut row = rounds.fill(spec.row);
        row.peers = beside.map(Beside::figures).unwrap_or_default();
        Ok(row)
    }

    /// kill -9 of one of three nodes, until every name has answered a survivor.
    fn failover(&self, name: &'static str, names: u64) -> Result<Row, Failure> {
        let mut rounds = Rounds::default();
        for round in 1..=self.rounds.min(FAILOVER_ROUNDS) {
            eprintln!("bench: {name}, round {round}");
            let mut crew = self.crew()?;
            crew.connect_floor("c")?;
            let prefix = "failover".to_owned();
            crew.ask(
                "a",
                Command::Starts { prefix: prefix.clone(), tasks: 64, millis: 60_000, most: names },
            )?;
            // Once before, so that the survivor knows where they are.
            crew.ask("a", Command::ReachAll { prefix: prefix.clone(), names })?;
            let closed = crew.0.send("a", Command::FloorClosed)?;
            // The cluster has just formed, and two views of one author are at least 200 ms apart.
            crew.0.pause(Instant::now() + SETTLE, &mut || {})?;
            let killed_us = crew.0.kill("c")?;
            let reached = crew.0.send("a", Command::ReachAll { prefix, names })?;
            let moments = crew.0.wait(&[reached, closed], WITHIN, &mut || {})?;
            let mut since = moments.iter().map(|moment| moment.as_u64().map(|us| millis(us, killed_us)));
            rounds.ours.extend(since.next().flatten());
            rounds.floor.extend(since.next().flatten());
        }
        let note =
            "kill(2) returned until every name answered; floor: until a plain TCP connection saw the end";
        let callers = u32::try_from(names).unwrap_or(u32::MAX);
        Ok(rounds.fill(Row::new(name, "ms", (3, callers), 0, note)))
    }

    fn idle(&self) -> Result<Row, Failure> {
        let mut rounds = Rounds::default();
        let mut beside = self.peers.as_ref().map(|peers| peers.beside(1)).transpose()?;
        for round in 0..self.rounds.min(FAILOVER_ROUNDS) {
            eprintln!("bench: bytes_per_idle_process, round {}", round + 1);
            for what in [What::Ours, What::Floor] {
                // A fresh process each, since freed memory stays resident.
                let mut crew = Crew(Children::new("bench", &self.dir, Arc::clone(&self.sink))?);
                crew.0.spawn("memory")?;
                let bytes = crew.number("memory", Command::Idle { what, count: IDLE })?;
                match what {
                    What::Ours => rounds.ours.extend(bytes),
                    What::Floor => rounds.floor.extend(bytes),
                }
            }
            if let (Some(beside), Some(peers)) = (&mut beside, &self.peers) {
                if round > 0 {
                    beside.afresh(peers)?;
                }
                beside.round(&peers::Command::Idle { count: IDLE })?;
            }
        }
        let note = format!(
            "{IDLE} named ones, each called once, on one node; floor: a tokio task, its channel, a map of names"
        );
        let mut row = rounds.fill(Row::new("bytes_per_idle_process", "bytes", (1, 0), 0, note));
        row.peers = beside.map(Beside::figures).unwrap_or_default();
        Ok(row)
    }
}

#[allow(clippy::cast_precision_loss)]
fn millis(us: u64, since_us: u64) -> f64 {
    us.saturating_sub(since_us) as f64 / 1_000.0
}

/// The echo on the node that measures.
const HERE: &str = "echo-here";
/// The echo on the other node.
pub(super) const THERE: &str = "echo-there";

/// A row, and the commands that measure one round of it.
struct Spec {
    row: Row,
    command: fn(What, u32) -> Command,
    /// For other libraries, where they have such a thing.
    peers: Option<fn(u32) -> peers::Command>,
}

/// What is measured on three nodes.
fn cluster_specs() -> Vec<Spec> {
    let mut specs = vec![
        Spec {
            row: Row::new(
                "start_register_per_s_64",
                "1/s",
                (3, MANY),
                0,
                "R = 2; floor: one round trip of multiplexed TCP",
            ),
            command: |what, round| match what {
                What::Ours => Command::Starts {
                    prefix: format!("start{round}"),
                    tasks: MANY,
                    millis: 700,
                    most: u64::MAX,
                },
                What::Floor => Command::CallThereMany { name: THERE.into(), what, tasks: MANY, millis: 300 },
            },
            peers: None,
        },
        Spec {
            row: Row::new("whereis_per_s", "1/s", (1, 1), 0, "10,000 names; floor: a map behind one RwLock"),
            command: |what, _| Command::Whereis {
                prefix: "lookup".into(),
                names: LOOKUP_NAMES,
                what,
                millis: 200,
            },
            peers: None,
        },
    ];
    specs.extend(specs_here());
    specs.extend(specs_there());
    specs
}

/// Messages that stay on their node.
fn specs_here() -> [Spec; 3] {
    [
        Spec {
            row: Row::new(
                "call_local_ns",
                "ns",
                (1, 1),
                PAYLOAD_BYTES,
                "floor: a tokio task with mpsc and oneshot",
            ),
            command: |what, _| Command::CallHere { name: HERE.into(), what, calls: CALLS_HERE },
            peers: Some(|_| peers::Command::CallHere { calls: CALLS_HERE }),
        },
        Spec {
            row: Row::new(
                "call_local_per_s_64",
                "1/s",
                (1, MANY),
                PAYLOAD_BYTES,
                "floor: a tokio task with mpsc and oneshot",
            ),
            command: |what, _| Command::CallHereMany {
                name: HERE.into(),
                what,
                tasks: MANY,
                millis: MANY_MILLIS,
            },
            peers: Some(|_| peers::Command::CallHereMany { tasks: MANY, millis: MANY_MILLIS }),
        },
        Spec {
            row: Row::new(
                "cast_local_per_s",
                "1/s",
                (1, 1),
                PAYLOAD_BYTES,
                "until handled; floor: tokio mpsc",
            ),
            command: |what, _| Command::CastHere { name: HERE.into(), what, casts: CASTS_HERE },
            peers: Some(|_| peers::Command::CastHere { casts: CASTS_HERE }),
        },
    ]
}

/// Messages to another node.
fn specs_there() -> [Spec; 3] {
    let floor = "floor: multiplexed TCP, same processes";
    [
        Spec {
            row: Row::new("call_remote_p50_us", "us", (2, 1), PAYLOAD_BYTES, floor),
            command: |what, _| Command::CallThere { name: THERE.into(), what, calls: CALLS_THERE },
            peers: Some(|_| peers::Command::CallThere { calls: CALLS_THERE }),
        },
        Spec {
            row: Row::new("call_remote_per_s_64", "1/s", (2, MANY), PAYLOAD_BYTES, floor),
            command: |what, _| Command::CallThereMany {
                name: THERE.into(),
                what,
                tasks: MANY,
                millis: MANY_MILLIS,
            },
            peers: Some(|_| peers::Command::CallThereMany { tasks: MANY, millis: MANY_MILLIS }),
        },
        Spec {
            row: Row::new(
                "cast_remote_per_s",
                "1/s",
                (2, 1),
                PAYLOAD_BYTES,
                "bursts of 1,024, each until handled; floor: the same",
            ),
            command: |what, _| Command::CastThere { name: THERE.into(), what, bursts: BURSTS_THERE },
            peers: Some(|_| peers::Command::CastThere { bursts: BURSTS_THERE }),
        },
    ]
}

/// What is measured on a node without others.
fn lone_specs() -> Vec<Spec> {
    let note = "one node; floor: a tokio task with its channel, entered into a locked map";
    vec![Spec {
        row: Row::new("start_local_per_s_64", "1/s", (1, MANY), 0, note),
        command: |what, round| Command::StartsHere {
            prefix: format!("start{round}"),
            what,
            tasks: MANY,
            count: STARTS_HERE,
        },
        peers: Some(|round| peers::Command::StartsHere {
            prefix: format!("start{round}"),
            tasks: MANY,
            count: STARTS_HERE,
        }),
    }]
}
