//! A deployment: three nodes as OS processes on loopback, a load on them, and each of them restarted in turn, as an
//! orchestrator does it - SIGTERM, wait for its end, start the new one, wait until it is ready, go on.

use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use clap::Args;
use tokio::process::{Child, Command};

use crate::Failure;
use crate::balancer::Balancer;
use crate::figures::Figures;
use crate::load::{Load, LoadArgs};
use crate::serve::Readiness;

const NAMES: [&str; 3] = ["one", "two", "three"];
/// How long a node may take to be ready, or to go.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Between two questions whether a new node is ready.
const LOOK: Duration = Duration::from_millis(50);
/// Ports to listen on: below those that a system gives to connections, so that none of these takes one while its node
/// is away.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
const PORTS_APART: u32 = 16;

#[derive(Clone, Debug, Args)]
pub(crate) struct RollingArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// How often each node is restarted
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// Milliseconds of load before each restart
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) pause_ms: u64,
    /// Milliseconds after which a silent node counts as dead: more where this machine is short of processor time
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(200..=60_000))]
    pub(crate) detection_ms: u64,
    /// Kill nodes without telling them, to see what the figures are then
    #[arg(long)]
    pub(crate) kill: bool,
}

/// What a deployment has brought.
pub(crate) struct Deployed {
    pub(crate) figures: Figures,
    pub(crate) seconds: f64,
    /// Restarts that were done.
    pub(crate) restarts: u32,
    /// The longest time from the signal to the end of a node.
    pub(crate) leave_max: Duration,
}

/// Three nodes, a load, restarts. All nodes have ended when it returns or is dropped.
pub(crate) async fn run(args: &RollingArgs) -> Result<Deployed, Failure> {
    let mut fleet = Fleet::start(args.detection_ms)?;
    for node in 0..NAMES.len() {
        fleet.await_ready(node).await?;
    }
    let load = Load::start(fleet.http.clone(), &args.load).await;
    eprintln!("rolling: {} sessions on 3 nodes, {} requests/s", args.load.sessions, args.load.rate);
    let mut leave_max = Duration::ZERO;
    for round in 1..=args.rounds {
        for (node, name) in NAMES.iter().enumerate() {
            // The load goes on: the pause is for it, not for the nodes.
            tokio::time::sleep(Duration::from_millis(args.pause_ms)).await;
            let left = fleet.end(node, args.kill).await?;
            leave_max = leave_max.max(left);
            let began = Instant::now();
            fleet.spawn(node)?;
            fleet.await_ready(node).await?;
            let (back, seen) = (began.elapsed(), load.figures());
            eprintln!("rolling: round {round}: {name} left in {left:.1?}, was back in {back:.1?}; {seen}");
        }
    }
    tokio::time::sleep(Duration::from_millis(args.pause_ms)).await;
    let (figures, seconds) = load.stop().await;
    Ok(Deployed { figures, seconds, restarts: args.rounds * NAMES.len() as u32, leave_max })
}

/// The OS processes.
struct Fleet {
    /// Where each serves HTTP; the same after a restart.
    http: Vec<String>,
    /// Where the others reach each.
    listen: Vec<String>,
    detection_ms: u64,
    running: Vec<Option<Child>>,
    /// To look at a node alone.
    balancer: Balancer,
}

impl Fleet {
    fn start(detection_ms: u64) -> Result<Self, Failure> {
        let mut http = free_addresses(2 * NAMES.len())?;
        let listen = http.split_off(NAMES.len());
        let balancer = Balancer::new(http.clone());
        let mut fleet = Self { http, listen, detection_ms, running: NAMES.map(|_| None).into(), balancer };
        for node in 0..NAMES.len() {
            fleet.spawn(node)?;
        }
        Ok(fleet)
    }

    fn spawn(&mut self, node: usize) -> Result<(), Failure> {
        let binary = std::env::current_exe().map_err(|error| not_started(node, &error))?;
        let mut command = Command::new(binary);
        command.args(["serve", "--ends-with-input", "--name", NAMES[node]]);
        command.args(["--http", &self.http[node], "--listen", &self.listen[node]]);
        command.args(["--detection-ms", &self.detection_ms.to_string()]);
        for peer in self.listen.iter().filter(|listen| **listen != self.listen[node]) {
            command.args(["--peer", peer]);
        }
        // The input stays open until this OS process ends, whatever ends it.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| not_started(node, &error))?;
        self.running[node] = Some(child);
        Ok(())
    }

    /// Waits until a node says that it is ready, and sees all the others.
    async fn await_ready(&mut self, node: usize) -> Result<(), Failure> {
        let until = Instant::now() + STEP_MAX;
        while !self.is_ready(node).await {
            if let Some(Ok(Some(status))) = self.running[node].as_mut().map(Child::try_wait) {
                return Err(Failure::check(format!(
                    "node {} ended before it was ready: {status}",
                    NAMES[node]
                )));
            }
            if Instant::now() > until {
                return Err(Failure::check(format!("node {} is not ready after {STEP_MAX:?}", NAMES[node])));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn is_ready(&self, node: usize) -> bool {
        let asked = tokio::time::timeout(STEP_MAX, self.balancer.ask(node, Method::GET, "/ready")).await;
        let Ok(Ok(answer)) = asked else { return false };
        let readiness = serde_json::from_slice::<Readiness>(&answer.body);
        answer.status == StatusCode::OK && readiness.is_ok_and(|readiness| readiness.members == NAMES.len())
    }

    /// Tells a node to end, or kills it, and waits until it has. Returns how long that took.
    async fn end(&mut self, node: usize, kill: bool) -> Result<Duration, Failure> {
        let name = NAMES[node];
        let Some(mut child) = self.running[node].take() else {
            return Err(Failure::check(format!("node {name} does not run")));
        };
        // Waiting would close it, and the node would take that for our end.
        let _open_until_then = child.stdin.take();
        let began = Instant::now();
        if kill {
            child.start_kill().map_err(|error| Failure::environment(format!("kill: {error}")))?;
        } else {
            terminate(child.id()).await?;
        }
        let status = tokio::time::timeout(STEP_MAX, child.wait()).await;
        match status {
            Ok(Ok(status)) if kill || status.success() => Ok(began.elapsed()),
            Ok(Ok(status)) => Err(Failure::check(format!("node {name} ended badly: {status}"))),
            Ok(Err(error)) => {
                Err(Failure::environment(format!("node {name} can not be waited for: {error}")))
            }
            Err(_) => Err(Failure::check(format!("node {name} has not ended after {STEP_MAX:?}"))),
        }
    }
}

/// SIGTERM, by the program that sends it: the standard library has no way of its own.
async fn terminate(pid: Option<u32>) -> Result<(), Failure> {
    let pid = pid.ok_or_else(|| Failure::check("a node ended without being told"))?;
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
    if status.as_ref().is_ok_and(ExitStatus::success) {
        return Ok(());
    }
    Err(Failure::environment(format!("`kill -TERM {pid}` does not work: {status:?}")))
}

fn not_started(node: usize, error: &std::io::Error) -> Failure {
    Failure::environment(format!("node {} can not be started: {error}", NAMES[node]))
}

/// Addresses on loopback on which nobody listens at present.
fn free_addresses(count: usize) -> Result<Vec<String>, Failure> {
    // Two of us at a time have neighbouring ids, and must not find the same ports.
    let apart = std::process::id().wrapping_mul(PORTS_APART) % u32::from(PORTS.end - PORTS.start);
    let first = PORTS.start + u16::try_from(apart).unwrap_or(0);
    let candidates = (first..PORTS.end).chain(PORTS.start..first);
    let free = candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let addresses: Vec<String> = free.take(count).map(|port| format!("127.0.0.1:{port}")).collect();
    if addresses.len() < count {
        return Err(Failure::environment(format!("there are no {count} free ports on loopback")));
    }
    Ok(addresses)
}
