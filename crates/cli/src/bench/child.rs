//! One process of the bench: a node with echoes on it, and the floors beside it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use whimbrel::{
    Cluster, Context, ExitReason, KindOptions, Placement, Process, ProcessRef, Rebalance, StaticList,
    handlers,
};

use super::command::{Command, What};
use super::crowd;
use super::flood::{self, Deaths, Slow};
use super::floor::{self, Floor};
use super::local::{self, Names, Task};
use super::meter::{self, Target, name_of, per_second};
use super::mover::{self, Watch};
use super::watcher::Watchers;
use crate::control::{self, Trouble};
use crate::os;

/// How long a cluster may take to form.
const MEMBERS_WITHIN: Duration = Duration::from_secs(20);
/// Pause after a failed try to reach a name.
const RETRY: Duration = Duration::from_millis(1);

/// Answers with what it is sent.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Echo {
    seen: u64,
}

impl Process for Echo {
    const KIND: &'static str = "bench-echo";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Echo::default())
    }
}

#[handlers]
impl Echo {
    /// Sends the text back.
    #[call]
    async fn echo(&mut self, text: String) -> String {
        text
    }

    /// Only counts.
    #[cast]
    async fn count(&mut self, text: String) {
        self.seen += u64::from(!text.is_empty());
    }
}

/// What the process has set up so far.
#[derive(Default)]
struct Bench {
    cluster: OnceLock<Cluster>,
    floor: OnceLock<Floor>,
    /// A node without others, on first use.
    alone: OnceCell<Cluster>,
    names: Names,
    deaths: Arc<Deaths>,
    moves: Arc<Watch>,
    watchers: Watchers,
}

/// Runs the process until the parent has no more commands.
pub(crate) async fn run(parent: u32) {
    let bench = Arc::new(Bench::default());
    control::serve(parent, move |command| answer(Arc::clone(&bench), command)).await;
}

async fn answer(bench: Arc<Bench>, command: Command) -> Result<Value, Trouble> {
    let value = match command {
        Command::Join { seeds, members } => return bench.join(seeds, members).await,
        Command::WaitMembers { count } => return bench.wait_members(count).await,
        Command::FloorListen => json!(floor::listen().await?),
        Command::FloorConnect { port } => return bench.connect(port).await,
        Command::FloorClosed => {
            bench.floor()?.closed().await;
            json!(os::monotonic_us())
        }
        Command::StartHere { name } => return bench.start_here(&name).await,
        Command::Starts { prefix, tasks, millis, most } => {
            json!(bench.starts(&prefix, tasks, Duration::from_millis(millis), most).await?)
        }
        Command::Whereis { prefix, names, what, millis } => {
            json!(bench.whereis(&prefix, names, what, Duration::from_millis(millis)).await?)
        }
        Command::CallHere { name, what, calls } => {
            json!(bench.measure_here(&name, what, Meter::CallNs, calls).await?)
        }
        Command::CallHereMany { name, what, tasks, millis } => {
            json!(bench.call_here_many(&name, what, tasks, Duration::from_millis(millis)).await?)
        }
        Command::StartsHere { prefix, what, tasks, count } => {
            json!(bench.starts_here(&prefix, what, tasks, count).await?)
        }
        Command::CastHere { name, what, casts } => {
            json!(bench.measure_here(&name, what, Meter::CastsPerS, casts).await?)
        }
        Command::CallThere { name, what, calls } => {
            json!(bench.measure_there(&name, what, Meter::CallP50Us, calls).await?)
        }
        Command::CallThereMany { name, what, tasks, millis } => {
            json!(bench.call_there_many(&name, what, tasks, Duration::from_millis(millis)).await?)
        }
        Command::CastThere { name, what, bursts } => {
            json!(bench.measure_there(&name, what, Meter::BurstsPerS, bursts).await?)
        }
        Command::ReachAll { prefix, names } => json!(bench.reach_all(&prefix, names).await?),
        Command::Idle { what, count } => json!(bench.idle_bytes(what, count).await?),
        command @ (Command::JoinAll { .. } | Command::FillGroup { .. } | Command::Publish { .. }) => {
            json!(crowd::answer(bench.cluster()?, command).await?)
        }
        Command::MoveAll { prefix, names, to, tasks } => {
            json!(mover::move_all(bench.cluster()?, &prefix, names, &to, tasks).await?)
        }
        Command::MoveToAndFro { name, nodes, moves } => {
            json!(mover::to_and_fro(bench.cluster()?, &name, &nodes, moves).await?)
        }
        Command::Drain { names, millis } => {
            json!(mover::drain(bench.cluster()?, names, Duration::from_millis(millis)).await?)
        }
        Command::WatchMoves { on } => json!(bench.moves.take(on)),
        Command::Monitor { name, count } => json!(bench.watchers.set(bench.cluster()?, &name, count).await?),
        Command::DownsHeard => json!(bench.watchers.heard().await?),
        Command::Stop { name } => json!(bench.stop(&name).await?),
        Command::WatchDeaths => json!(bench.deaths.watch(bench.cluster()?)),
        Command::Deaths => json!(bench.deaths.count()),
        Command::StartSlow { name } => json!(flood::start_slow(bench.cluster()?, &name).await?),
        Command::Flood { name, senders, payload, millis } => {
            let during = Duration::from_millis(millis);
            json!(flood::flood(bench.cluster()?, &name, senders, payload as usize, during).await?)
        }
        Command::Drained { name } => json!(flood::drained(bench.cluster()?, &name).await?),
        Command::DeadLetters => json!(flood::dead_letters(bench.cluster()?)),
    };
    Ok(value)
}

impl Bench {
    fn cluster(&self) -> Result<&Cluster, Trouble> {
        self.cluster.get().ok_or_else(|| Trouble::new("the node has not joined", "join comes first"))
    }

    fn floor(&self) -> Result<&Floor, Trouble> {
        self.floor.get().ok_or_else(|| Trouble::new("the floor is not connected", "connect comes first"))
    }

    fn echo(&self, name: &str) -> Result<ProcessRef<Echo>, Trouble> {
        self.cluster()?.process::<Echo>(name).map_err(|error| Trouble::new("not a name", error))
    }

    async fn join(&self, seeds: Vec<String>, members: usize) -> Result<Value, Trouble> {
        let moves = self.moves.clone();
        let cluster = Cluster::builder("whimbrel-bench")
            .listen("127.0.0.1:0")
            .node_name(&crate::demo::node_name())
            .discovery(StaticList::new(seeds))
            .found_alone_after(Duration::from_millis(100))
            .kind::<Echo>(KindOptions::default())
            .kind::<Slow>(KindOptions::default())
            // What is moved here is moved on purpose, and is to stay where it was brought.
            .rebalance(Rebalance::OnLeaveOnly)
            .on_move_step(Arc::new(move |step| moves.see(step)))
            .join()
            .await
            .map_err(|error| Trouble::environment("a node can not join its cluster on loopback", error))?;
        let address = cluster.address().to_string();
        let _ = self.cluster.set(cluster);
        self.wait_members(members).await?;
        Ok(json!(address))
    }

    async fn wait_members(&self, count: usize) -> Result<Value, Trouble> {
        let waited = self.cluster()?.wait_for_members(count, MEMBERS_WITHIN).await;
        waited.map_err(|error| Trouble::new(format!("there are not {count} members"), error))?;
        Ok(Value::Null)
    }

    async fn connect(&self, port: u16) -> Result<Value, Trouble> {
        let _ = self.floor.set(Floor::connect(port).await?);
        Ok(Value::Null)
    }

    async fn start_here(&self, name: &str) -> Result<Value, Trouble> {
        let started = self.cluster()?.start::<Echo>(name, ()).placement(Placement::Local).await;
        started.map_err(|error| Trouble::new(format!("{name} could not be started"), error))?;
        Ok(Value::Null)
    }

    /// Ends a process; when that began.
    async fn stop(&self, name: &str) -> Result<u64, Trouble> {
        let began = os::monotonic_us();
        let stopped = self.cluster()?.stop(name).await;
        stopped.map_err(|error| Trouble::new(format!("{name} could not be stopped"), error))?;
        Ok(began)
    }

    async fn starts(&self, prefix: &str, tasks: u32, during: Duration, most: u64) -> Result<f64, Trouble> {
        let began = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for task in 0..u64::from(tasks) {
            let (cluster, prefix) = (self.cluster()?.clone(), prefix.to_owned());
            running.spawn(async move {
                let mut at = task;
                while at < most && began.elapsed() < during {
                    let started = cluster.start::<Echo>(&name_of(&prefix, at), ()).await;
                    started.map_err(|error| Trouble::new("a start failed", error))?;
                    at += u64::from(tasks);
                }
                Ok::<u64, Trouble>(at / u64::from(tasks))
            });
        }
        let mut started = 0;
        while let Some(done) = running.join_next().await {
            started += done.map_err(|error| Trouble::new("a task failed", error))??;
        }
        Ok(per_second(started, began.elapsed()))
    }

    async fn whereis(&self, prefix: &str, names: u64, what: What, during: Duration) -> Result<f64, Trouble> {
        let names: Vec<String> = (0..names).map(|at| name_of(prefix, at)).collect();
        let cluster = self.cluster()?.clone();
        let measured = tokio::task::spawn_blocking(move || match what {
            What::Ours => local::lookups(&names, during, |name| cluster.whereis::<Echo>(name).is_some()),
            What::Floor => local::lookup_per_s(&names, during),
        });
        measured.await.map_err(|error| Trouble::new("a task failed", error))
    }

    /// One sender and a process of this node.
    async fn measure_here(&self, name: &str, what: What, meter: Meter, count: u64) -> Result<f64, Trouble> {
        match what {
            What::Floor => spawned(meter.run(Task::start(), count)).await,
            What::Ours => spawned(meter.run(self.echo(name)?, count)).await,
        }
    }

    /// One sender and a process of another node.
    async fn measure_there(&self, name: &str, what: What, meter: Meter, count: u64) -> Result<f64, Trouble> {
        match what {
            What::Floor => spawned(meter.run(self.floor()?.clone(), count)).await,
            What::Ours => spawned(meter.run(self.echo(name)?, count)).await,
        }
    }

    async fn call_here_many(
        &self,
        name: &str,
        what: What,
        tasks: u32,
        during: Duration,
    ) -> Result<f64, Trouble> {
        match what {
            What::Floor => Ok(meter::calls_per_s(&Task::start(), tasks, during).await?),
            What::Ours => meter::calls_per_s(&self.echo(name)?, tasks, during).await,
        }
    }

    async fn call_there_many(
        &self,
        name: &str,
        what: What,
        tasks: u32,
        during: Duration,
    ) -> Result<f64, Trouble> {
        match what {
            What::Floor => Ok(meter::calls_per_s(self.floor()?, tasks, during).await?),
            What::Ours => meter::calls_per_s(&self.echo(name)?, tasks, during).await,
        }
    }

    /// A node that is alone: what is measured on it waits for no other.
    async fn alone(&self) -> Result<Cluster, Trouble> {
        let local = || Cluster::local().kind::<Echo>(KindOptions::default()).join();
        let cluster = self.alone.get_or_try_init(local).await;
        cluster.cloned().map_err(|error| Trouble::new("a local node does not start", error))
    }

    async fn starts_here(&self, prefix: &str, what: What, tasks: u32, count: u64) -> Result<f64, Trouble> {
        match what {
            What::Floor => {
                let names = self.names.clone();
                let start = move |name| {
                    drop(names.start(name));
                    std::future::ready(Ok::<(), Infallible>(()))
                };
                Ok(meter::starts_per_s(prefix, tasks, count, start).await?)
            }
            What::Ours => {
                let cluster = self.alone().await?;
                let start = move |name| {
                    let cluster = cluster.clone();
                    async move { start_on(cluster, name).await.map(drop) }
                };
                meter::starts_per_s(prefix, tasks, count, start).await
            }
        }
    }

    /// Bytes of an idle process.
    async fn idle_bytes(&self, what: What, count: u64) -> Result<Option<f64>, Trouble> {
        match what {
            What::Floor => {
                let start = |name| std::future::ready(Ok(self.names.start(name)));
                Ok(meter::idle_bytes(count, start).await?)
            }
            What::Ours => {
                let cluster = self.alone().await?;
                meter::idle_bytes(count, |name| start_on(cluster.clone(), name)).await
            }
        }
    }

    async fn reach_all(&self, prefix: &str, names: u64) -> Result<u64, Trouble> {
        let until = Instant::now() + MEMBERS_WITHIN;
        let mut running = tokio::task::JoinSet::new();
        for at in 0..names {
            let echo = self.echo(&name_of(prefix, at))?;
            running.spawn(async move {
                while echo.echo(String::new()).await.is_err() {
                    if Instant::now() >= until {
                        return None;
                    }
                    tokio::time::sleep(RETRY).await;
                }
                Some(os::monotonic_us())
            });
        }
        let reached: Option<Vec<u64>> = running.join_all().await.into_iter().collect();
        let last = reached.map(|moments| moments.into_iter().max().unwrap_or(0));
        last.ok_or_else(|| Trouble::new("a name did not come back", prefix))
    }
}

/// What one sender and one target can be measured for.
#[derive(Clone, Copy, Debug)]
enum Meter {
    CallNs,
    CallP50Us,
    CastsPerS,
    BurstsPerS,
}

impl Meter {
    async fn run<T: Target>(self, target: T, count: u64) -> Result<f64, T::Error> {
        match self {
            Meter::CallNs => meter::call_ns(&target, count).await,
            Meter::CallP50Us => meter::call_p50_us(&target, count).await,
            Meter::CastsPerS => meter::casts_per_s(&target, count).await,
            Meter::BurstsPerS => meter::bursts_per_s(&target, count).await,
        }
    }
}

impl Target for ProcessRef<Echo> {
    type Error = Trouble;

    async fn call(&self, text: String) -> Result<(), Trouble> {
        self.echo(text).await.map(drop).map_err(no_reply)
    }

    /// A full mailbox or route is waited for.
    async fn cast(&self, text: String) -> Result<(), Trouble> {
        let mut text = text;
        while self.count(text).is_err() {
            text = meter::payload();
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// Starts an echo on this node.
async fn start_on(cluster: Cluster, name: String) -> Result<ProcessRef<Echo>, Trouble> {
    let started = cluster.start::<Echo>(&name, ()).await;
    Ok(started.map_err(|error| Trouble::new("a start failed", error))?.process)
}

/// Runs on a worker, where user code runs, not in the task that reads commands.
async fn spawned<F, E>(work: F) -> Result<f64, Trouble>
where
    F: Future<Output = Result<f64, E>> + Send + 'static,
    E: Into<Trouble> + Send + 'static,
{
    let done = tokio::spawn(work).await.map_err(|error| Trouble::new("a task failed", error))?;
    done.map_err(Into::into)
}

fn no_reply(error: whimbrel::CallError) -> Trouble {
    Trouble::new("a call failed", error)
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::environment("the floor can not be measured over loopback", error)
    }
}

impl From<Infallible> for Trouble {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
