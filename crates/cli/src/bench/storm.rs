//! `whimbrel bench storm`: many nodes in one process, all started at the same moment, again and again.
//!
//! Nothing is there before: each node knows the addresses of all, and all dial all at once. A round is over when every
//! node has a view of all nodes, that view is the same everywhere, and a start from each node was answered and the
//! process called.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use whimbrel::{Cluster, KindOptions, StaticList};

use super::child::{Echo, EchoRef as _};
use crate::cli::StormArgs;
use crate::demo::check_loopback;
use crate::output::{self, Failure};

/// A round may take this long.
const ROUND_MAX: Duration = Duration::from_secs(10);
/// How long is waited for a round that takes too long, to see whether it ends at all.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Between two looks at the views of all nodes.
const LOOK: Duration = Duration::from_millis(5);
/// Ports to listen on: below those that a system gives to connections, so that none of these takes one.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Runs the rounds.
pub(crate) fn run(args: &StormArgs) -> Result<ExitCode, Failure> {
    check_loopback()?;
    let rounds = crate::run_async(None, rounds(args))??;
    let worst = rounds.iter().copied().max().unwrap_or_default();
    let verdict = if worst <= ROUND_MAX { "ok" } else { "storm_s" };
    if args.json {
        let mut object = output::result_object(None, verdict);
        let times: Vec<f64> = rounds.iter().map(|round| seconds(*round)).collect();
        object.insert("nodes".into(), args.nodes.into());
        object.insert("times_s".into(), times.into());
        object.insert("worst_s".into(), seconds(worst).into());
        object.insert("limit_s".into(), seconds(ROUND_MAX).into());
        output::print_line(&serde_json::Value::Object(object).to_string());
    } else {
        output::print_line(&format!("{} nodes, {} rounds: worst {:?}", args.nodes, args.rounds, worst));
    }
    Ok(output::exit_for(verdict == "ok"))
}

async fn rounds(args: &StormArgs) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    for round in 1..=args.rounds {
        let addresses = free_addresses(args.nodes)?;
        let began = Instant::now();
        let mut nodes = Vec::new();
        let one_round = tokio::time::timeout(GIVE_UP, storm(&addresses, &mut nodes)).await;
        let stages = one_round
            .map_err(|_| Failure::check(format!("round {round} did not end within {} s", GIVE_UP.as_secs())))
            .and_then(|done| done)
            .map_err(|failure| failure.or_detail(&views(&nodes)))?;
        let time = began.elapsed();
        eprintln!("bench: storm round {round}: {:.2} s ({stages})", seconds(time));
        times.push(time);
    }
    Ok(times)
}

/// All nodes from nothing to one view and a process started by each. Returns how long each part took.
async fn storm(addresses: &[String], nodes: &mut Vec<Cluster>) -> Result<String, Failure> {
    let began = Instant::now();
    let mut joining = JoinSet::new();
    for address in addresses {
        joining.spawn(join(address.clone(), addresses.to_vec()));
    }
    while let Some(joined) = joining.join_next().await {
        nodes.push(joined.map_err(|error| Failure::check("a task failed").detail(error))??);
    }
    let joined = began.elapsed();
    for node in nodes.iter() {
        let seen = node.wait_for_members(addresses.len(), GIVE_UP).await;
        seen.map_err(|error| Failure::check("a node does not see all others").detail(error))?;
    }
    while !one_view(nodes, addresses.len()) {
        tokio::time::sleep(LOOK).await;
    }
    let agreed = began.elapsed();
    let mut starting = JoinSet::new();
    for node in nodes.iter().cloned() {
        starting.spawn(start_from(node));
    }
    while let Some(started) = starting.join_next().await {
        started.map_err(|error| Failure::check("a task failed").detail(error))??;
    }
    let started = began.elapsed();
    Ok(format!(
        "joined {:.2}, one view {:.2}, started {:.2}",
        seconds(joined),
        seconds(agreed),
        seconds(started)
    ))
}

async fn join(address: String, all: Vec<String>) -> Result<Cluster, Failure> {
    let joined = Cluster::builder("whimbrel-storm")
        .listen(&address)
        .discovery(StaticList::new(all))
        .kind::<Echo>(KindOptions::default())
        .join()
        .await;
    joined.map_err(|error| Failure::environment("a node can not join its cluster on loopback").detail(error))
}

fn one_view(nodes: &[Cluster], members: usize) -> bool {
    let mut views = nodes.iter().map(|node| node.view().filter(|view| view.members.len() == members));
    let first = views.next().flatten().map(|view| view.id);
    first.is_some() && views.all(|view| view.map(|view| view.id) == first)
}

/// Which views the nodes have, and how many have each.
fn views(nodes: &[Cluster]) -> String {
    let mut views = BTreeMap::new();
    for view in nodes.iter().map(Cluster::view) {
        *views.entry(view.map(|view| (view.id, view.members.len()))).or_insert(0) += 1;
    }
    let views = views.into_iter().map(|(view, nodes)| match view {
        Some((id, members)) => format!("{nodes} nodes: {members} members in {id}"),
        None => format!("{nodes} nodes: in no view"),
    });
    format!("{} nodes have joined\n{}", nodes.len(), views.collect::<Vec<_>>().join("\n"))
}

async fn start_from(node: Cluster) -> Result<(), Failure> {
    let name = format!("storm:{}", node.node_name());
    let started = node.start::<Echo>(&name, ()).await;
    let echo = started.map_err(|error| Failure::check(format!("{name} was not started")).detail(error))?;
    let reply = echo.process.echo(name.clone()).await;
    match reply {
        Ok(text) if text == name => Ok(()),
        Ok(text) => Err(Failure::check(format!("{name} answered something else")).detail(text)),
        Err(error) => Err(Failure::check(format!("{name} did not answer")).detail(error)),
    }
}

/// Addresses on loopback on which nobody listens at present.
fn free_addresses(count: u32) -> Result<Vec<String>, Failure> {
    let first =
        PORTS.start + u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start)).unwrap_or(0);
    let candidates = (first..PORTS.end).chain(PORTS.start..first);
    let free = candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let addresses: Vec<String> = free.take(count as usize).map(|port| format!("127.0.0.1:{port}")).collect();
    if addresses.len() < count as usize {
        return Err(Failure::environment(format!("there are no {count} free ports on loopback"))
            .hint("look at what listens on ports 15000 to 32000"));
    }
    Ok(addresses)
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}
