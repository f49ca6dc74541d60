//! One process of the bench: a node with echoes on it, and the floors beside it.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use whimbrel::{
    Cluster, Context, ExitReason, KindOptions, Placement, Process, ProcessRef, StaticList, handlers,
};

use super::command::{Command, What};
use super::flood::{self, Deaths, Slow};
use super::floor::{self, Floor, PAYLOAD_BYTES};
use super::local::{self, each_bytes, each_ns, per_second, resident_bytes};
use crate::control::{self, Trouble};
use crate::os;

/// Casts of one burst.
const BURST: u64 = 1_024;
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
    deaths: Arc<Deaths>,
}

/// Runs the process until the parent has no more commands.
pub(crate) async fn run(parent: u32) {
    let bench = Arc::new(Bench::default());
    control::serve(parent, move |command| answer(Arc::clone(&bench), command)).await;
}

fn payload() -> String {
    "x".repeat(PAYLOAD_BYTES)
}

async fn answer(bench: Arc<Bench>, command: Command) -> Result<Value, Trouble> {
    let value = match command {
        Command::Join { seeds, members } => return bench.join(seeds, members).await,
        Command::WaitMembers { count } => return bench.wait_members(count).await,
        Command::FloorListen => json!(floor::listen().await.map_err(no_floor)?),
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
        Command::CallHere { name, what, calls } => json!(bench.call_here(&name, what, calls).await?),
        Command::CastHere { name, what, casts } => json!(bench.cast_here(&name, what, casts).await?),
        Command::CallThere { name, what, calls } => json!(bench.call_there(&name, what, calls).await?),
        Command::CallThereMany { name, what, tasks, millis } => {
            json!(bench.call_there_many(&name, what, tasks, Duration::from_millis(millis)).await?)
        }
        Command::CastThere { name, what, bursts } => json!(bench.cast_there(&name, what, bursts).await?),
        Command::ReachAll { prefix, names } => json!(bench.reach_all(&prefix, names).await?),
        Command::WatchDeaths => {
            bench.deaths.watch(bench.cluster()?);
            Value::Null
        }
        Command::Deaths => json!(bench.deaths.count()),
        Command::StartSlow { name } => json!(flood::start_slow(bench.cluster()?, &name).await?),
        Command::Flood { name, senders, payload, millis } => {
            let during = Duration::from_millis(millis);
            json!(flood::flood(bench.cluster()?, &name, senders, payload as usize, during).await?)
        }
        Command::Drained { name } => json!(flood::drained(bench.cluster()?, &name).await?),
        Command::DeadLetters => json!(flood::dead_letters(bench.cluster()?)),
        Command::Idle { what: What::Floor, count } => json!(local::idle_bytes(count).await),
        Command::Idle { what: What::Ours, count } => json!(idle_bytes(count).await?),
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
        let cluster = Cluster::builder("whimbrel-bench")
            .listen("127.0.0.1:0")
            .node_name(&crate::demo::node_name())
            .discovery(StaticList::new(seeds))
            .found_alone_after(Duration::from_millis(100))
            .kind::<Echo>(KindOptions::default())
            .kind::<Slow>(KindOptions::default())
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
        let _ = self.floor.set(Floor::connect(port).await.map_err(no_floor)?);
        Ok(Value::Null)
    }

    async fn start_here(&self, name: &str) -> Result<Value, Trouble> {
        let started = self.cluster()?.start::<Echo>(name, ()).placement(Placement::Local).await;
        started.map_err(|error| Trouble::new(format!("{name} could not be started"), error))?;
        Ok(Value::Null)
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

    async fn call_here(&self, name: &str, what: What, calls: u64) -> Result<f64, Trouble> {
        if what == What::Floor {
            return spawned(async move { Ok(local::call_ns(calls, &payload()).await) }).await;
        }
        let echo = self.echo(name)?;
        spawned(async move {
            let payload = payload();
            let began = Instant::now();
            for _ in 0..calls {
                echo.echo(payload.clone()).await.map_err(no_reply)?;
            }
            Ok(each_ns(began.elapsed(), calls))
        })
        .await
    }

    async fn cast_here(&self, name: &str, what: What, casts: u64) -> Result<f64, Trouble> {
        if what == What::Floor {
            return spawned(async move { Ok(local::cast_per_s(casts, &payload()).await) }).await;
        }
        let echo = self.echo(name)?;
        spawned(async move {
            let payload = payload();
            let began = Instant::now();
            cast_all(&echo, casts, &payload).await;
            echo.echo(payload).await.map_err(no_reply)?;
            Ok(per_second(casts, began.elapsed()))
        })
        .await
    }

    /// Who answers on the other node.
    fn there(&self, name: &str, what: What) -> Result<There, Trouble> {
        match what {
            What::Ours => self.echo(name).map(There::Ours),
            What::Floor => self.floor().cloned().map(There::Floor),
        }
    }

    async fn call_there(&self, name: &str, what: What, calls: u64) -> Result<f64, Trouble> {
        let there = self.there(name, what)?;
        spawned(async move {
            let payload = payload();
            let mut each = Vec::with_capacity(usize::try_from(calls).unwrap_or(0));
            for _ in 0..calls {
                let began = Instant::now();
                there.call(&payload).await?;
                each.push(each_ns(began.elapsed(), 1_000));
            }
            each.sort_by(f64::total_cmp);
            Ok(crate::verify::percentile(&each, 50).unwrap_or(f64::NAN))
        })
        .await
    }

    async fn call_there_many(
        &self,
        name: &str,
        what: What,
        tasks: u32,
        during: Duration,
    ) -> Result<f64, Trouble> {
        let began = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..tasks {
            let there = self.there(name, what)?;
            running.spawn(async move {
                let payload = payload();
                let mut calls = 0;
                while began.elapsed() < during {
                    there.call(&payload).await?;
                    calls += 1;
                }
                Ok::<u64, Trouble>(calls)
            });
        }
        let mut calls = 0;
        while let Some(done) = running.join_next().await {
            calls += done.map_err(|error| Trouble::new("a task failed", error))??;
        }
        Ok(per_second(calls, began.elapsed()))
    }

    async fn cast_there(&self, name: &str, what: What, bursts: u64) -> Result<f64, Trouble> {
        let there = self.there(name, what)?;
        spawned(async move {
            let payload = payload();
            let began = Instant::now();
            for _ in 0..bursts {
                there.burst(&payload).await?;
                there.call(&payload).await?;
            }
            Ok(per_second(bursts * BURST, began.elapsed()))
        })
        .await
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

/// Who is measured on the other node.
#[derive(Clone, Debug)]
enum There {
    Ours(ProcessRef<Echo>),
    Floor(Floor),
}

impl There {
    async fn call(&self, payload: &str) -> Result<(), Trouble> {
        match self {
            There::Ours(echo) => echo.echo(payload.to_owned()).await.map(drop).map_err(no_reply),
            There::Floor(floor) => floor.call().await.map_err(no_floor),
        }
    }

    async fn burst(&self, payload: &str) -> Result<(), Trouble> {
        match self {
            There::Ours(echo) => cast_all(echo, BURST, payload).await,
            There::Floor(floor) => {
                for _ in 0..BURST {
                    floor.cast().await.map_err(no_floor)?;
                }
            }
        }
        Ok(())
    }
}

/// Casts; a full mailbox or route is waited for.
async fn cast_all(echo: &ProcessRef<Echo>, casts: u64, payload: &str) {
    for _ in 0..casts {
        while echo.count(payload.to_owned()).is_err() {
            tokio::task::yield_now().await;
        }
    }
}

/// Runs on a worker, where user code runs, not in the task that reads commands.
async fn spawned<F>(work: F) -> Result<f64, Trouble>
where
    F: Future<Output = Result<f64, Trouble>> + Send + 'static,
{
    tokio::spawn(work).await.map_err(|error| Trouble::new("a task failed", error))?
}

/// Bytes of an idle process without a name, on a node of its own.
async fn idle_bytes(count: u64) -> Result<Option<f64>, Trouble> {
    let local = Cluster::local().kind::<Echo>(KindOptions::default()).join().await;
    let cluster = local.map_err(|error| Trouble::new("a local node does not start", error))?;
    let Some(before) = resident_bytes() else { return Ok(None) };
    let mut echoes = Vec::new();
    for _ in 0..count {
        let echo = cluster.spawn::<Echo>(()).await;
        echoes.push(echo.map_err(|error| Trouble::new("a process does not start", error))?);
    }
    let bytes = each_bytes(before, count);
    drop(echoes);
    Ok(bytes)
}

fn name_of(prefix: &str, at: u64) -> String {
    format!("{prefix}-{at:06}")
}

fn no_floor(error: io::Error) -> Trouble {
    Trouble::environment("the floor can not be measured over loopback", error)
}

fn no_reply(error: whimbrel::CallError) -> Trouble {
    Trouble::new("a call failed", error)
}
