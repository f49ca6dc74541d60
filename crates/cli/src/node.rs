//! `whimbrel node --config FILE`: a node that hosts copies of records and runs until it is told to end.
//!
//! It knows no kinds of its own, so no process is placed on it: it carries its share of the directory. Programs
//! that host processes embed the library instead.

use std::process::ExitCode;

use whimbrel::{Cluster, NodeRule, StaticList};

use crate::cli::NodeArgs;
use crate::node_config::NodeConfig;
use crate::output::Failure;

/// Runs the node.
pub(crate) async fn run(args: &NodeArgs) -> Result<ExitCode, Failure> {
    let config = NodeConfig::read(&args.config)?;
    let mut builder = Cluster::builder(&config.cluster)
        .listen(&config.listen)
        .weight(config.weight)
        .discovery(StaticList::new(config.seeds.clone()));
    for (key, value) in &config.labels {
        builder = builder.label(key, value);
    }
    for rule in &config.allow {
        builder = builder.allow(NodeRule::parse(rule));
    }
    for rule in &config.deny {
        builder = builder.deny(NodeRule::parse(rule));
    }
    if let Some(address) = &config.advertise {
        builder = builder.advertise(address);
    }
    if let Some(name) = &config.name {
        builder = builder.node_name(name);
    }
    if let Some(file) = &config.secret_file {
        builder = builder.secret_file(file);
    }
    let cluster = builder.join().await.map_err(|error| {
        Failure::environment(format!("the node can not join cluster {:?}", config.cluster))
            .detail(error)
            .hint(format!("is {} free and yours to listen on, and does `secret_file` exist?", config.listen))
    })?;
    let ended = cluster.run_until_signal();
    let name = cluster.node_name().to_owned();
    eprintln!("node {name} is in cluster {:?}, reached at {}", config.cluster, cluster.address());
    ended.await;
    eprintln!("node {name} has left");
    Ok(ExitCode::SUCCESS)
}
