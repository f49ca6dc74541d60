//! `whimbrel node --config FILE`: a node that hosts copies of records and runs until it is told to end.
//!
//! It knows no kinds of its own, so no process is placed on it: it carries its share of the directory. Programs
//! that host processes embed the library instead.

use std::process::ExitCode;

use whimbrel::{Cluster, JoinError, StaticList};

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
        if let JoinError::BadSetting { key, .. } = &error {
            return Failure::usage(format!("`{key}` is not usable"))
                .detail(error)
                .hint("put it right in the configuration, or leave it out if it has a default")
                .in_file(&args.config);
        }
        Failure::environment(format!("the node can not join cluster {:?}", config.cluster))
            .detail(error)
            .hint(format!("is {} free and yours to listen on?", config.listen))
    })?;
    let ended = cluster.run_until_signal();
    let name = cluster.node_name().to_owned();
    eprintln!("node {name} is in cluster {:?}, reached at {}", config.cluster, cluster.address());
    ended.await;
    eprintln!("node {name} has left");
    Ok(ExitCode::SUCCESS)
}
