//! `whimbrel node --config FILE`: a node that hosts copies of records and runs until it is told to end.
//!
//! It knows no kinds of its own, so no process is placed on it: it carries its share of the directory. Programs
//! that host processes embed the library instead.

use std::path::Path;
use std::process::ExitCode;

use whimbrel::{
    Builder, Cluster, Dns, DrainReport, Event, Events, JoinError, Multicast, NodeRule, SeedsFile, Srv,
    StaticList,
};

use crate::cli::NodeArgs;
use crate::node_config::{MulticastConfig, NodeConfig};
use crate::output::Failure;

/// Processes that did not move and are named at the end.
const STAYED_TOLD: usize = 10;

/// Runs the node.
pub(crate) async fn run(args: &NodeArgs) -> Result<ExitCode, Failure> {
    let config = NodeConfig::read(&args.config)?;
    let mut builder = builder(&config, None).listen(&config.listen).weight(config.weight);
    if let Some(address) = &config.advertise {
        builder = builder.advertise(address);
    }
    if let Some(name) = &config.name {
        builder = builder.node_name(name);
    }
    let cluster = builder.join().await.map_err(|error| refused(&args.config, &config, &error))?;
    let ended = cluster.run_until_signal();
    let name = cluster.node_name().to_owned();
    eprintln!("node {name} is in cluster {:?}, reached at {}", config.cluster, cluster.address());
    let report = tokio::select! {
        biased;
        report = ended => report,
        () = tell_progress(cluster.events()) => unreachable!("it tells for ever"),
    };
    tell(&name, &report);
    Ok(ExitCode::SUCCESS)
}

/// A node of the cluster of this configuration, which finds others in every way that it names, and here.
pub(crate) fn builder(config: &NodeConfig, seed: Option<String>) -> Builder {
    let mut builder = Cluster::builder(&config.cluster);
    for (key, value) in &config.labels {
        builder = builder.label(key, value);
    }
    for rule in &config.allow {
        builder = builder.allow(NodeRule::parse(rule));
    }
    for rule in &config.deny {
        builder = builder.deny(NodeRule::parse(rule));
    }
    if let Some(file) = &config.secret_file {
        builder = builder.secret_file(file);
    }
    with_discovery(builder, config, seed)
}

/// Says what a drain waits for, while it waits.
async fn tell_progress(mut events: Events) {
    loop {
        match events.next().await {
            Some(Event::Draining { moved, left, waits_for: Some((name, why)) }) => {
                eprintln!("draining: {moved} processes moved, {left} are left; waits for {name} ({why:?})");
            }
            Some(Event::Draining { moved, left, waits_for: None }) => {
                eprintln!(
                    "draining: {moved} processes moved, {left} are left; others take over the directory"
                );
            }
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

fn tell(node: &str, report: &DrainReport) {
    let DrainReport { moved, stayed_count, .. } = report;
    eprintln!("node {node} has left: {moved} processes moved, {stayed_count} ended with it");
    for stayed in report.stayed.iter().take(STAYED_TOLD) {
        eprintln!("  {} ({}): {:?}", stayed.name, stayed.kind, stayed.why);
    }
}

fn with_discovery(builder: Builder, config: &NodeConfig, seed: Option<String>) -> Builder {
    let mut builder = builder.discovery(StaticList::new(config.seeds.iter().cloned().chain(seed)));
    if let Some(file) = &config.seeds_file {
        builder = builder.discovery(SeedsFile::new(file));
    }
    for name in &config.dns {
        builder = builder.discovery(Dns::new(name));
    }
    for name in &config.srv {
        builder = builder.discovery(Srv::new(name));
    }
    match &config.multicast {
        Some(settings) => builder.discovery(multicast(settings)),
        None => builder,
    }
}

fn multicast(settings: &MulticastConfig) -> Multicast {
    let mut multicast = Multicast::default();
    if let Some(group) = settings.group {
        multicast = multicast.group(group);
    }
    if let Some(port) = settings.port {
        multicast = multicast.port(port);
    }
    if let Some(interface) = settings.interface {
        multicast = multicast.interface(interface);
    }
    if let Some(ttl) = settings.ttl {
        multicast = multicast.ttl(ttl);
    }
    multicast
}

/// A setting that can never work is the user's to mend, anything else is the machine's or the network's.
fn refused(file: &Path, config: &NodeConfig, error: &JoinError) -> Failure {
    let what = format!("the node can not join cluster {:?}", config.cluster);
    match error {
        JoinError::BadSetting { key, .. } => Failure::usage(format!("`{key}` is not usable"))
            .detail(error)
            .hint("put it right in the configuration, or leave it out if it has a default")
            .in_file(file),
        JoinError::Deadline => Failure::environment(what).detail(error).hint(
            "a node founds no cluster before each way to find others has answered once: do the lines above name one that fails?",
        ),
        error => Failure::environment(what)
            .detail(error)
            .hint(format!("is {} free and yours to listen on?", config.listen)),
    }
}
