//! One node of the demo: a process of its own that does what the parent tells it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use whimbrel::{Cluster, DeadLetter, KindOptions, MoveStage, MoveStep, StaticList};

use super::clients::{Clients, Load, client_of};
use super::command::{CleanerAt, Command, Joined, StartedAt, Touched};
use super::company;
use super::evidence::{Channel, DeadLetterLine, MoveAt, MoveLine, counter_name, write_line};
use super::kinds::{Cleaner, CleanerArgs, Counter, node_name};
use crate::control::{self, Trouble};
use crate::os;

/// Name of the demo's cluster.
const CLUSTER: &str = "whimbrel-demo";
/// How long the first node waits for others before it founds the cluster; the parent starts it first.
const FOUND_ALONE_AFTER: Duration = Duration::from_millis(100);
/// How long a view may take to reach its size.
const MEMBERS_WITHIN: Duration = Duration::from_secs(20);

/// Runs the node until it is told to leave by SIGTERM, or the parent has no more commands.
pub(crate) async fn run(parent: u32) {
    let node: Node = Arc::default();
    let (joined, left) = (Arc::clone(&node), Arc::new(Notify::new()));
    let leaving = Arc::clone(&left);
    tokio::select! {
        biased;
        () = left.notified() => {}
        () = control::serve(parent, move |command| answer(Arc::clone(&joined), Arc::clone(&leaving), command)) => {}
    }
}

/// Leaves when the parent says so by SIGTERM.
fn leave_when_told(cluster: Cluster, left: Arc<Notify>) {
    tokio::spawn(async move {
        cluster.run_until_signal().await;
        left.notify_one();
    });
}

/// The node once it has joined.
type Node = Arc<OnceLock<(Cluster, Clients)>>;

async fn answer(node: Node, left: Arc<Notify>, command: Command) -> Result<Value, Trouble> {
    if let Command::Join { seeds } = command {
        return join(&node, left, seeds).await;
    }
    let Some((cluster, clients)) = node.get() else {
        return Err(Trouble::new("the node has not joined", "join comes first"));
    };
    obey(cluster, clients, command).await
}

async fn obey(cluster: &Cluster, clients: &Clients, command: Command) -> Result<Value, Trouble> {
    match command {
        Command::Join { .. } => {}
        Command::WaitMembers { count } => {
            let waited = cluster.wait_for_members(count, MEMBERS_WITHIN).await;
            waited.map_err(|error| Trouble::new(format!("there are not {count} members"), error))?;
        }
        Command::StartCleaner { database, period_ms } => {
            clients.start_cleaner(CleanerArgs { database, period_ms }).await?;
        }
        Command::StartCounters { counters } => clients.start_counters(counters).await?,
        Command::JoinGroups { counters } => company::join_groups(cluster, counters).await?,
        Command::Watch { counters } => company::watch(cluster, counters).await?,
        Command::ReadGroups { step, counters } => company::read_groups(cluster, step, counters).await?,
        Command::Load { per_second, counters, seed, work_us_max } => {
            clients.set_load(Load { per_second, counters, seed, work_us_max }).await;
        }
        Command::Drain { within_ms } => drain(cluster, Duration::from_millis(within_ms)).await?,
        Command::Touch { counters, names, within_ms } => {
            let counters = counters.into_iter().map(|counter| (client_of(counter), counter_name(counter)));
            let names = names.into_iter().map(|name| (0, name));
            let silent =
                clients.touch(counters.chain(names).collect(), Duration::from_millis(within_ms)).await;
            return to_value(Touched { silent });
        }
        Command::PanicCleaner => clients.panic_cleaner()?,
        Command::AwaitCleaner { after_token, within_ms } => {
            let token = clients.await_cleaner(after_token, Duration::from_millis(within_ms)).await?;
            return to_value(CleanerAt { token });
        }
        Command::StartOne { name } => return start_one(cluster, clients, &name).await,
        Command::Race { name, at_us } => {
            let wait_us = at_us.saturating_sub(os::monotonic_us());
            tokio::time::sleep(Duration::from_micros(wait_us)).await;
            clients.start_counter(0, &name).await;
        }
    }
    Ok(Value::Null)
}

/// Hands over everything; what stays is a fault, since every kind of the demo can move.
async fn drain(cluster: &Cluster, within: Duration) -> Result<(), Trouble> {
    let report = cluster.drain(within).await;
    match report.stayed.first() {
        None => Ok(()),
        Some(first) => {
            let detail = format!("{} of them, {}: {:?}", report.stayed_count, first.name, first.why);
            Err(Trouble::new("processes did not move away from a node that drains", detail))
        }
    }
}

/// Starts a name and finds out at once where it runs.
async fn start_one(cluster: &Cluster, clients: &Clients, name: &str) -> Result<Value, Trouble> {
    let outcome = clients.start_counter(0, name).await;
    let started_us = os::monotonic_us();
    if outcome != "started" {
        return Err(Trouble::new(format!("{name} could not be started"), outcome));
    }
    let located = cluster.locate(name).await;
    let located = located.map_err(|error| Trouble::new(format!("{name} is nowhere"), error))?;
    let view = cluster.view();
    let host = view.as_ref().and_then(|view| view.member(located.host)).map(|member| member.name.to_string());
    let host = host.ok_or_else(|| Trouble::new(format!("{name} runs on no member"), located.token))?;
    to_value(StartedAt { started_us, host })
}

async fn join(node: &Node, left: Arc<Notify>, seeds: Vec<String>) -> Result<Value, Trouble> {
    let cluster = Cluster::builder(CLUSTER)
        .listen("127.0.0.1:0")
        .node_name(&node_name())
        .discovery(StaticList::new(seeds))
        .found_alone_after(FOUND_ALONE_AFTER)
        .kind::<Counter>(KindOptions::default())
        .kind::<Cleaner>(KindOptions::default())
        .on_move_step(Arc::new(write_move))
        .on_dead_letter(Arc::new(write_dead_letter))
        .join()
        .await
        .map_err(|error| Trouble::environment("a node can not join its cluster on loopback", error))?;
    let address = cluster.address().to_string();
    leave_when_told(cluster.clone(), left);
    let clients = Clients::new(cluster.clone());
    if node.set((cluster, clients)).is_err() {
        return Err(Trouble::new("the node has joined before", "join comes once"));
    }
    to_value(Joined { address })
}

fn write_dead_letter(letter: &DeadLetter) {
    /// The one field of every message of the demo.
    #[derive(serde::Deserialize)]
    struct Operation {
        id: String,
    }
    let operation = letter.payload().and_then(|bytes| rmp_serde::from_slice::<Operation>(bytes).ok());
    write_line(
        Channel::DeadLetters,
        &DeadLetterLine {
            id: operation.map(|operation| operation.id),
            name: letter.name().to_string(),
            reason: letter.reason().to_string(),
            node: node_name(),
            t_us: os::monotonic_us(),
        },
    );
}

fn write_move(step: &MoveStep) {
    write_line(
        Channel::Moves,
        &MoveLine {
            name: step.name().to_string(),
            token: step.attempt().as_u64(),
            stage: match step.stage() {
                MoveStage::Rests => MoveAt::Rests,
                MoveStage::Runs => MoveAt::Runs,
                MoveStage::GoesOn => MoveAt::GoesOn,
            },
            node: node_name(),
            pid: std::process::id(),
            t_us: os::monotonic_us(),
        },
    );
}

fn to_value(answer: impl serde::Serialize) -> Result<Value, Trouble> {
    serde_json::to_value(answer).map_err(|error| Trouble::new("an answer can not be written", error))
}
